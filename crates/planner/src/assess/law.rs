//! The administrator's word on one job: what its queue and every policy that matches allow. The
//! strictest wins, and whoever is refused learns whose word it was.

use std::sync::Arc;
use std::time::Duration;

use crate::offer::Misfit;
use crate::origin::{Origin, OriginSeen};
use crate::shape::{Word, shown_pair, spell_duration, spell_size};
use crate::words::crop;
use crate::{
    BackendName, Bytes, Cpu, Glob, Invalid, Limits, Policy, QueuePolicy, Rule, Shapes, Spot,
};

use super::Subject;
use super::tags::{Asked, invalid};

pub(super) struct Law<'a> {
    queue: &'a QueuePolicy,
    policy: &'a Policy,
    /// Indices of the policies that match, or count as if they did.
    pub(super) matching: Vec<usize>,
    pub(super) subject: Subject<'a>,
}

/// What a policy does of which nobody knows whether it matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Doubt {
    Counts,
    Passes,
}

/// Whose word it is.
#[derive(Clone, Copy)]
enum Whose {
    Queue,
    Rule(usize),
    /// A limit on all jobs together, which a single one cannot exceed either.
    Total,
    QueueTotal,
    RuleTotal(usize),
}

impl<'a> Law<'a> {
    pub(super) fn new(
        policy: &'a Policy,
        queue: &'a QueuePolicy,
        subject: &Subject<'a>,
        doubt: Doubt,
    ) -> Self {
        let matching = which(policy, subject, |matches| matches.unwrap_or(doubt == Doubt::Counts));
        Self { queue, policy, matching, subject: *subject }
    }

    pub(super) fn cpu(&self, asked: &Asked<'_>, default: Cpu) -> Result<Cpu, Invalid> {
        let bound = self.least(|largest| largest.cpu, |limits| limits.cpu);
        let show = |cpu: Cpu| (format!("{cpu} vCPU"), cpu.to_string());
        self.within(asked, Word::Cpu, asked.wish.cpu, bound, show).map(|cpu| cpu.or_within(default))
    }

    pub(super) fn memory(&self, asked: &Asked<'_>, default: Bytes) -> Result<Bytes, Invalid> {
        let bound = self.least(|largest| largest.memory, |limits| limits.memory);
        self.within(asked, Word::Memory, asked.wish.memory, bound, show_size)
            .map(|memory| memory.or_within(default))
    }

    pub(super) fn disk(
        &self,
        asked: &Asked<'_>,
        default: Option<Bytes>,
    ) -> Result<Option<Bytes>, Invalid> {
        let bound = self.least(|largest| largest.disk, |_| None);
        let disk = self.within(asked, Word::Disk, asked.wish.disk, bound, show_size)?;
        Ok(disk.asked.or(default.map(|default| disk.or_within(default))))
    }

    pub(super) fn local_ssds(&self, asked: &Asked<'_>, default: u32) -> Result<u32, Invalid> {
        let bound = self.least(|largest| largest.local_ssd, |_| None);
        let show = |count: u32| (format!("{count} local SSDs"), count.to_string());
        self.within(asked, Word::LocalSsd, asked.wish.local_ssds, bound, show)
            .map(|count| count.or_within(default))
    }

    pub(super) fn time(&self, asked: &Asked<'_>, default: Duration) -> Result<Duration, Invalid> {
        let bound = self.least(|largest| largest.time, |_| None);
        let show = |time: Duration| (spell_duration(time), spell_duration(time));
        self.within(asked, Word::Time, asked.wish.time, bound, show)
            .map(|time| time.or_within(default))
    }

    /// The job's image, or the default one, if everybody who has a say allows it.
    pub(super) fn image<'t>(
        &self,
        asked: &Asked<'t>,
        default: Option<&'t str>,
    ) -> Result<Option<&'t str>, Invalid> {
        let Some(image) = asked.wish.image.or(default) else { return Ok(None) };
        let queue = Some((Whose::Queue, self.queue.images.as_slice()))
            .filter(|(_, globs)| !globs.is_empty());
        let rules = self.rules().filter_map(|(index, rule)| {
            rule.images.as_deref().map(|globs| (Whose::Rule(index), globs))
        });
        for (whose, globs) in queue.into_iter().chain(rules) {
            if globs.iter().any(|glob| glob.matches(image)) {
                continue;
            }
            let (tag, which) = match asked.wish.image {
                Some(_) => (asked.tag(Word::Image), "this image"),
                None => (shown_pair("image", image), "this image, which is the queue's default"),
            };
            let remedy = match globs {
                [] => "leave image out".to_string(),
                [only] => format!("write image: {}", only.as_str()),
                [..] => {
                    let names: Vec<&str> = globs.iter().map(Glob::as_str).collect();
                    format!("write one of {}", crop(&names.join(", "), 300))
                }
            };
            return Err(invalid(
                tag,
                format!("{} does not allow {which}", self.name(whose)),
                remedy,
            ));
        }
        Ok(Some(image))
    }

    /// `never` and `require` of the administrator's hold against the job's word; `prefer` is a
    /// preference, and the job may have a stronger one.
    pub(super) fn spot(&self, asked: &Asked<'_>, default: Option<Spot>) -> Result<Spot, Invalid> {
        let words = self
            .rules()
            .filter_map(|(index, rule)| rule.spot.map(|spot| (Whose::Rule(index), spot)))
            .chain([(Whose::Queue, self.queue.spot)]);
        let (whose, word) = words
            .max_by_key(|(_, spot)| strictness(*spot))
            .expect("the queue has a word, even if it is `allow`");
        let job = asked.wish.spot;
        let refuse = |problem: String, remedy: &str| {
            Err(invalid(asked.tag(Word::Spot), problem, remedy.to_string()))
        };
        match (word, job) {
            (Spot::Never, Some(Spot::Require)) => refuse(
                format!("{} allows no interruptible machines", self.name(whose)),
                "write spot: allow, or leave it out",
            ),
            (Spot::Require, Some(Spot::Never)) => refuse(
                format!("{} allows interruptible machines only", self.name(whose)),
                "write spot: allow, or leave it out",
            ),
            (Spot::Never | Spot::Require, _) => Ok(word),
            (Spot::Prefer | Spot::Allow, Some(strong @ (Spot::Require | Spot::Never))) => {
                Ok(strong)
            }
            (Spot::Prefer, _) => Ok(Spot::Prefer),
            (Spot::Allow, job) => Ok(job.or(default).unwrap_or_default()),
        }
    }

    /// Whether any policy takes the machine's rights away.
    pub(super) fn no_rights(&self) -> bool {
        self.rules().any(|(_, rule)| rule.no_rights)
    }

    /// Whether a policy keeps the job away from this backend of its queue.
    pub(super) fn forbids(&self, name: &BackendName) -> Option<Misfit> {
        self.rules().find_map(|(index, rule)| {
            let allowed = rule.backends.as_ref().filter(|allowed| !allowed.contains(name))?;
            Some(Misfit::Forbidden {
                whose: self.name(Whose::Rule(index)),
                allowed: allowed.clone(),
            })
        })
    }

    fn rules(&self) -> impl Iterator<Item = (usize, &'a Rule)> {
        let rules = &self.policy.rules;
        self.matching.iter().map(move |index| (*index, &rules[*index]))
    }

    /// The smallest bound, and whose it is. A total of nothing is how somebody stops a queue for a
    /// while: then jobs wait, and do not fail.
    fn least<T: Copy + Ord + Default>(
        &self,
        largest: impl Fn(&Shapes) -> Option<T>,
        limit: impl Fn(&Limits) -> Option<T>,
    ) -> Option<(T, Whose)> {
        let total = |limits: &Limits| limit(limits).filter(|total| *total > T::default());
        let rules = self.rules().flat_map(|(index, rule)| {
            [
                largest(&rule.largest).map(|bound| (bound, Whose::Rule(index))),
                total(&rule.limits).map(|bound| (bound, Whose::RuleTotal(index))),
            ]
        });
        let bounds = [
            largest(&self.queue.largest).map(|bound| (bound, Whose::Queue)),
            total(&self.queue.limits).map(|bound| (bound, Whose::QueueTotal)),
            total(&self.policy.limits).map(|bound| (bound, Whose::Total)),
        ];
        bounds.into_iter().chain(rules).flatten().min_by_key(|(bound, _)| *bound)
    }

    /// What was asked for, if the bound allows it.
    fn within<T: Copy + Ord>(
        &self,
        asked: &Asked<'_>,
        word: Word,
        value: Option<T>,
        bound: Option<(T, Whose)>,
        show: impl Fn(T) -> (String, String),
    ) -> Result<Within<T>, Invalid> {
        match (value, bound) {
            (Some(value), Some((most, whose))) if value > most => {
                let (text, as_tag) = show(most);
                let by_class = match asked.tag(word) {
                    tag if tag.starts_with("class=") => format!(" ({} is more)", show(value).0),
                    _ => String::new(),
                };
                Err(invalid(
                    asked.tag(word),
                    format!("{} {text}{by_class}", self.at_most(whose)),
                    format!("write {}: {as_tag} or less", word.name()),
                ))
            }
            (asked, bound) => Ok(Within { asked, most: bound.map(|(most, _)| most) }),
        }
    }

    fn at_most(&self, whose: Whose) -> String {
        let name = self.name(whose);
        match whose {
            Whose::Queue | Whose::Rule(_) => format!("{name} allows at most"),
            Whose::Total | Whose::QueueTotal | Whose::RuleTotal(_) => {
                format!("all jobs of {name} together may use at most")
            }
        }
    }

    fn name(&self, whose: Whose) -> String {
        match whose {
            Whose::Queue | Whose::QueueTotal => format!("queue {}", self.subject.queue),
            Whose::Total => "this installation".to_string(),
            Whose::Rule(index) | Whose::RuleTotal(index) => {
                let rule = &self.policy.rules[index];
                let name = rule_name(rule);
                let in_doubt = matches(rule, &self.subject).is_none();
                match why_unknown(self.subject.origin).filter(|_| in_doubt) {
                    None => name,
                    Some(why) => {
                        format!("{name} (which counts because its origin is unknown: {why})")
                    }
                }
            }
        }
    }
}

/// Indices of the policies of which nobody knows whether they match.
pub(super) fn doubtful(policy: &Policy, subject: &Subject<'_>) -> Vec<usize> {
    which(policy, subject, |matches| matches.is_none())
}

fn which(
    policy: &Policy,
    subject: &Subject<'_>,
    wanted: impl Fn(Option<bool>) -> bool,
) -> Vec<usize> {
    let rules = policy.rules.iter().enumerate();
    rules.filter(|(_, rule)| wanted(matches(rule, subject))).map(|(index, _)| index).collect()
}

/// Whether the rule matches; none where that depends on what nobody has told.
fn matches(rule: &Rule, subject: &Subject<'_>) -> Option<bool> {
    let fits =
        |glob: &Option<Glob>, text: &str| glob.as_ref().is_none_or(|glob| glob.matches(text));
    if !fits(&rule.pipeline, subject.pipeline)
        || !fits(&rule.branch, subject.branch)
        || !fits(&rule.queue, subject.queue.as_str())
    {
        return Some(false);
    }
    let nothing = Origin::default();
    let origin = match subject.origin {
        OriginSeen::Known(origin) => origin,
        OriginSeen::Unknown { .. } | OriginSeen::Denied { .. } => &nothing,
    };
    let same = |wanted: Option<bool>, is: Option<bool>| match wanted {
        None => Some(true),
        Some(wanted) => is.map(|is| is == wanted),
    };
    let author = match &rule.author {
        None => Some(true),
        Some(_) if origin.authors.is_empty() => None,
        Some(glob) => Some(origin.authors.iter().any(|author| glob.matches(author))),
    };
    let asked =
        [same(rule.pull_request, origin.pull_request), same(rule.fork, origin.fork), author];
    if asked.contains(&Some(false)) {
        return Some(false);
    }
    (!asked.contains(&None)).then_some(true)
}

/// Why a job's origin is not known and will not be; none while that is not settled.
pub(super) fn why_unknown(origin: &OriginSeen) -> Option<Arc<str>> {
    match origin {
        OriginSeen::Unknown { .. } => None,
        OriginSeen::Known(_) => Some("its environment does not say".into()),
        OriginSeen::Denied { words } => Some(crop(words, 200).into()),
    }
}

/// A job's own word within its bound, or room for a default.
struct Within<T> {
    asked: Option<T>,
    most: Option<T>,
}

impl<T: Copy + Ord> Within<T> {
    /// Nobody asked for the default, so nobody fails by it: it is cut to what is allowed.
    fn or_within(&self, default: T) -> T {
        self.asked.unwrap_or_else(|| self.most.map_or(default, |most| default.min(most)))
    }
}

/// `never` outweighs `require`: what must not be interrupted is the graver wish.
const fn strictness(spot: Spot) -> u8 {
    match spot {
        Spot::Allow => 0,
        Spot::Prefer => 1,
        Spot::Require => 2,
        Spot::Never => 3,
    }
}

fn show_size(bytes: Bytes) -> (String, String) {
    (bytes.to_string(), spell_size(bytes))
}

/// `the policy on pipeline deploy-*, branch main`: by its match, for it has no name.
fn rule_name(rule: &Rule) -> String {
    let parts = [("pipeline", &rule.pipeline), ("branch", &rule.branch), ("queue", &rule.queue)];
    let globs = parts
        .into_iter()
        .filter_map(|(what, glob)| glob.as_ref().map(|glob| format!("{what} {}", glob.as_str())));
    let origins = [
        rule.pull_request.map(|yes| if yes { "pull requests" } else { "no pull requests" }),
        rule.fork.map(|yes| if yes { "forks" } else { "no forks" }),
    ];
    let author = rule.author.as_ref().map(|glob| format!("author {}", glob.as_str()));
    let origins = origins.into_iter().flatten().map(str::to_string);
    let parts: Vec<String> = globs.chain(origins).chain(author).collect();
    match parts.is_empty() {
        true => "the policy on all jobs".into(),
        false => format!("the policy on {}", parts.join(", ")),
    }
}
