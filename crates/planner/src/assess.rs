//! One look at a listed job: is it ours, what does it get, and where could that be made? The same
//! look serves the dispatcher and whoever only wants to know. What is to be done about it, and
//! when, is decided elsewhere.

mod law;
mod tags;

use std::sync::Arc;
use std::time::Duration;

use self::law::{Doubt, Law};
use self::tags::{Asked, invalid};
use crate::offer::{Excluded, Misfit, Most, Rank, Resolved, misfits, offer, vms_for};
use crate::shape::{Wish, Word, nearest, shown_pair};
use crate::words::crop;
use crate::{
    BackendName, Bytes, Cpu, Foreign, Invalid, JobRow, Limits, Offer, OriginSeen, Policy, QueueKey,
    QueuePolicy, Request, Shape, Verdict,
};

/// Stands in a list of families for all others, which then are tried after those that it names.
const ANY_FAMILY: &str = "any";
/// What a job gets where neither it nor its queue says anything. Six hours is what other systems
/// give a job, and it bounds what a forgotten one costs.
const CPU: Cpu = Cpu::from_millis(1000);
const MEMORY: Bytes = Bytes::gib(2);
const TIME: Duration = Duration::from_secs(6 * 3600);

/// Everything that is to be said about some tags: what `jitney plan` shows.
#[derive(Clone, Debug, PartialEq)]
pub struct Explained {
    /// With class, defaults and policy applied; or why there is none.
    pub shape: Result<Shape, Refusal>,
    /// In order of preference; empty: nothing makes such a machine.
    pub offers: Vec<Offer>,
    /// Backends of the queue that do not offer it, each with a sentence.
    pub exclusions: Vec<(BackendName, String)>,
    /// Of backends that offer it, what else they have and why that is no offer.
    pub passed_over: Vec<(BackendName, String)>,
    /// Indices of the policies that match.
    pub policies: Vec<usize>,
    /// Indices of those that may match, where that makes a difference: the rest is as if they did.
    pub doubtful: Vec<usize>,
    /// The agent's tags beside the shape's words.
    pub tags: Vec<String>,
}

/// Why there is no shape.
#[derive(Clone, Debug, PartialEq)]
pub enum Refusal {
    /// For us, and wrong.
    Invalid(Invalid),
    /// Not for us.
    Foreign(Foreign),
}

/// What policies match on, beside a job's tags.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    pub queue: &'a QueueKey,
    pub pipeline: &'a str,
    pub branch: &'a str,
    pub origin: &'a OriginSeen,
}

/// The verdict on one row under this policy, of which nothing but the row is known.
#[must_use]
pub fn assess(row: &Arc<JobRow>, policy: &Policy) -> Verdict {
    assess_with(row, &OriginSeen::default(), policy)
}

/// The verdict on one row under this policy; the same for the same row, origin and policy. While
/// it depends on what nobody has told yet there is none; what will never be told counts as what is
/// stricter.
#[must_use]
pub fn assess_with(row: &Arc<JobRow>, origin: &OriginSeen, policy: &Policy) -> Verdict {
    let (queue, pipeline, branch) = (&row.queue, &*row.pipeline, &*row.branch);
    let subject = Subject { queue, pipeline, branch, origin };
    let (found, doubtful) = weigh(&row.rules, &subject, policy);
    if !doubtful.is_empty() && !origin.is_settled() {
        return Verdict::Undecided { policies: doubtful };
    }
    match found {
        Err(Refusal::Foreign(foreign)) => Verdict::Foreign(foreign),
        Err(Refusal::Invalid(invalid)) => Verdict::Invalid(invalid),
        Ok(found) if found.offers.is_empty() => Verdict::Invalid(Invalid::NoOffer {
            shape: found.shape.to_string(),
            why: found.sentences().map(|(_, why)| why).collect(),
        }),
        Ok(Found { shape, offers, policies, tags, misfits: _, excluded: _ }) => {
            let assumed = law::why_unknown(origin).filter(|_| !doubtful.is_empty());
            Verdict::Ours(Arc::new(Request { shape, offers, policies, tags, assumed }))
        }
    }
}

/// The same look at tags that no job has yet, with every backend's word. `rules` are `key=value`
/// texts.
#[must_use]
pub fn explain_offers(rules: &[String], subject: &Subject<'_>, policy: &Policy) -> Explained {
    let (found, doubtful) = weigh(rules, subject, policy);
    match found {
        Ok(found) => Explained {
            exclusions: found.sentences().collect(),
            passed_over: found.passed_over(policy),
            shape: Ok(found.shape),
            offers: found.offers,
            policies: found.policies,
            doubtful,
            tags: found.tags,
        },
        Err(refusal) => Explained {
            shape: Err(refusal),
            offers: Vec::new(),
            exclusions: Vec::new(),
            passed_over: Vec::new(),
            policies: Vec::new(),
            doubtful,
            tags: Vec::new(),
        },
    }
}

/// What there is for the tags, and the policies of which nobody knows whether they match, where
/// that makes a difference: then they count. A policy only ever takes away, so what is refused
/// without them is refused with them, and what they leave as it is stays so with some of them.
fn weigh(
    rules: &[String],
    subject: &Subject<'_>,
    policy: &Policy,
) -> (Result<Found, Refusal>, Vec<usize>) {
    let look = |doubt| Sought::new(rules, subject, policy, doubt).and_then(Sought::look);
    let lenient = look(Doubt::Passes);
    let Ok(found) = &lenient else { return (lenient, Vec::new()) };
    let doubtful = law::doubtful(policy, subject);
    if doubtful.is_empty() || found.offers.is_empty() {
        return (lenient, Vec::new());
    }
    let strict = look(Doubt::Counts);
    match &strict {
        Ok(strict) if found.gives_the_same_as(strict, policy) => (lenient, Vec::new()),
        Ok(_) | Err(_) => (strict, doubtful),
    }
}

/// A job's tags, where it comes from, and all that the administrator says about it.
struct Sought<'a> {
    rules: &'a [String],
    queue: &'a QueuePolicy,
    law: Law<'a>,
    policy: &'a Policy,
}

/// What comes of it.
struct Found {
    shape: Shape,
    offers: Vec<Offer>,
    misfits: Vec<(BackendName, Vec<Misfit>)>,
    excluded: Vec<(BackendName, Vec<Excluded>)>,
    policies: Vec<usize>,
    tags: Vec<String>,
}

impl Found {
    /// Policies count only where they limit something.
    fn gives_the_same_as(&self, other: &Self, policy: &Policy) -> bool {
        let limits = |index: &&usize| policy.rules[**index].limits != Limits::default();
        self.shape == other.shape
            && self.offers == other.offers
            && self.policies.iter().filter(limits).eq(other.policies.iter().filter(limits))
    }

    fn sentences(&self) -> impl Iterator<Item = (BackendName, String)> {
        self.misfits.iter().map(|(name, misfits)| {
            let sentences: Vec<String> =
                misfits.iter().map(|misfit| misfit.sentence(name, &self.shape)).collect();
            (name.clone(), sentences.join(" "))
        })
    }

    fn passed_over(&self, policy: &Policy) -> Vec<(BackendName, String)> {
        let mut sentences = Vec::new();
        for (name, excluded) in &self.excluded {
            let vms = policy.backends.get(name).and_then(|backend| backend.vms.as_ref());
            for (vms, one) in vms.iter().flat_map(|vms| excluded.iter().map(move |one| (vms, one)))
            {
                sentences.push((name.clone(), one.sentence(&self.shape, vms)));
            }
        }
        sentences
    }
}

impl<'a> Sought<'a> {
    fn new(
        rules: &'a [String],
        subject: &Subject<'a>,
        policy: &'a Policy,
        doubt: Doubt,
    ) -> Result<Self, Refusal> {
        let Some(queue) = policy.queues.get(subject.queue) else {
            let queue = subject.queue.to_string();
            return Err(Refusal::Foreign(Foreign::OtherQueue { queue }));
        };
        let law = Law::new(policy, queue, subject, doubt);
        Ok(Self { rules, queue, law, policy })
    }

    fn look(self) -> Result<Found, Refusal> {
        let (own, tags) = tags::read(self.rules, self.law.subject.queue, self.queue)?;
        let shape = self.shape(own).map_err(Refusal::Invalid)?;
        let mut offers: Vec<(Rank, Offer)> = Vec::new();
        let (mut misfits, mut excluded) = (Vec::new(), Vec::new());
        for (index, name) in self.queue.backends.iter().enumerate() {
            match self.offers(&shape, index, name) {
                Ok(found) => {
                    offers.extend(found.offers);
                    excluded.push((name.clone(), found.excluded));
                }
                Err(why) => misfits.push((name.clone(), why)),
            }
        }
        // Stable: at equal rank the queue's order decides.
        offers.sort_by_key(|(rank, _)| *rank);
        let offers = offers.into_iter().map(|(_, offer)| offer).collect();
        Ok(Found { shape, offers, misfits, excluded, policies: self.law.matching, tags })
    }

    /// What the backend offers, and what of it is passed over.
    fn offers(
        &self,
        shape: &Shape,
        index: usize,
        name: &BackendName,
    ) -> Result<Resolved, Vec<Misfit>> {
        if let Some(misfit) = self.law.forbids(name) {
            return Err(vec![misfit]);
        }
        let Some(backend) = self.policy.backends.get(name) else {
            return Err(vec![Misfit::NotConfigured]);
        };
        if let Some(vms) = &backend.vms {
            let mut resolved = vms_for(shape, backend, vms, name)?;
            resolved.offers.iter_mut().for_each(|(rank, _)| rank.backend = index);
            return Ok(resolved);
        }
        let why = misfits(shape, backend);
        if !why.is_empty() {
            return Err(why);
        }
        let tier = usize::from(shape.or_any_family);
        let rank = Rank { tier, backend: index, ..Rank::default() };
        Ok(Resolved { offers: vec![(rank, offer(shape, name))], excluded: Vec::new() })
    }

    /// The job's own words, then its class, then the queue's defaults, then ours; all of it within
    /// what the administrator allows.
    fn shape(&self, own: Wish<'_>) -> Result<Shape, Invalid> {
        let mut default = Wish::default();
        for (word, value) in &self.queue.defaults.words {
            take(&mut default, word, value)?;
        }
        let class = match own.class {
            Some(name) => self.class(name)?,
            None => Wish::default(),
        };
        let asked = Asked { rules: self.rules, class: own.class, wish: own.or(class) };
        let (wish, law, typed) = (&asked.wish, &self.law, &self.queue.defaults);
        let texts = |value: Option<&str>| value.map(Arc::from);
        let families = wish.family.or(default.family);
        let families: Vec<&str> =
            families.iter().flat_map(|list| list.split(',')).map(str::trim).collect();
        Ok(Shape {
            cpu: law.cpu(&asked, typed.cpu.or(default.cpu).unwrap_or_else(|| self.plain_cpu()))?,
            memory: law.memory(
                &asked,
                typed.memory.or(default.memory).unwrap_or_else(|| self.plain_memory()),
            )?,
            disk: law.disk(&asked, typed.disk.or(default.disk))?,
            disk_type: texts(wish.disk_type.or(default.disk_type)),
            local_ssds: law
                .local_ssds(&asked, typed.local_ssd.or(default.local_ssds).unwrap_or(0))?,
            arch: wish.arch.or(default.arch),
            or_any_family: families.len() > 1 && families.contains(&ANY_FAMILY),
            families: families
                .into_iter()
                .filter(|family| *family != ANY_FAMILY)
                .map(Into::into)
                .collect(),
            gpu: texts(wish.gpu.or(default.gpu)),
            image: texts(law.image(&asked, default.image)?),
            spot: law.spot(&asked, default.spot)?,
            time: law.time(&asked, typed.time.or(default.time).unwrap_or(TIME))?,
            zone: texts(wish.zone.or(default.zone)),
            region: texts(wish.region.or(default.region)),
            no_rights: law.no_rights(),
        })
    }

    /// Where nobody says anything, a small host is no reason to refuse a job.
    fn plain_cpu(&self) -> Cpu {
        self.roomiest(|most| most.cpu).map_or(CPU, |most| CPU.min(most))
    }

    fn plain_memory(&self) -> Bytes {
        self.roomiest(|most| most.memory).map_or(MEMORY, |most| MEMORY.min(most))
    }

    /// The most that one machine may have on any backend of the queue; none: there is no bound.
    fn roomiest<T: Ord>(&self, of: impl Fn(&Most) -> Option<T>) -> Option<T> {
        let backends = &self.policy.backends;
        let most = self.queue.backends.iter().filter_map(|name| backends.get(name)).map(Most::of);
        let each: Option<Vec<T>> = most.map(|most| of(&most)).collect();
        each?.into_iter().max()
    }

    fn class(&self, name: &str) -> Result<Wish<'a>, Invalid> {
        let classes = &self.policy.classes;
        let Some(words) = classes.get(name) else {
            let known: Vec<&str> = classes.keys().map(String::as_str).collect();
            let remedy = match (nearest(name, known.iter().copied()), known.is_empty()) {
                (Some(near), _) => format!("did you mean class: {near}?"),
                (None, true) => "no classes are configured; write cpu and memory instead".into(),
                (None, false) => format!("write class: {}", crop(&known.join(" or "), 200)),
            };
            let problem = "there is no class of this name".to_string();
            return Err(invalid(shown_pair("class", name), problem, remedy));
        };
        let mut wish = Wish::default();
        for (word, value) in words {
            take(&mut wish, word, value)?;
        }
        Ok(wish)
    }
}

/// A word of the configuration's. It was checked there; one that does not parse all the same is
/// said as it is, and words that are none stand for nothing.
fn take<'a>(wish: &mut Wish<'a>, word: &str, value: &'a str) -> Result<(), Invalid> {
    match Word::from_name(word) {
        Some(word) => wish.set(word, value).map_err(Invalid::Tag),
        None => Ok(()),
    }
}
