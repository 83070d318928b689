//! Whose a job is: ours, somebody else's, or ours and wrong. Tags in, text out.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use planner::{
    Arch, BackendKind, BackendName, BackendPolicy, Bytes, Cpu, Explained, Foreign, Glob, Invalid,
    JobId, JobRow, Limits, Margins, OriginSeen, Policy, QueueKey, QueuePolicy, Rule, Shapes, Spot,
    Subject, Timestamp, UnknownTags, Verdict, assess, explain_offers,
};
use proptest::prelude::*;

pub(crate) fn row(tags: &str, pipeline: &str, branch: &str) -> Arc<JobRow> {
    Arc::new(JobRow {
        id: JobId(uuid::Uuid::from_u128(7)),
        queue: "jit".into(),
        priority: 0,
        rules: tags.split_whitespace().map(str::to_string).collect(),
        scheduled_at: Timestamp::ZERO,
        runnable_at: None,
        pipeline: pipeline.into(),
        branch: branch.into(),
        build: 1,
        step: None,
    })
}

pub(crate) fn words(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(key, value)| ((*key).to_string(), (*value).to_string())).collect()
}

fn queue() -> QueuePolicy {
    QueuePolicy {
        backends: vec!["here".into(), "theirs".into()],
        tags: words(&[("os", "linux"), ("team", "*")]),
        unknown_tags: UnknownTags::Wait,
        defaults: Shapes {
            cpu: Some(Cpu::from_millis(2000)),
            memory: Some(Bytes::gib(4)),
            ..Shapes::default()
        },
        largest: Shapes {
            cpu: Some(Cpu::from_millis(96_000)),
            memory: Some(Bytes::gib(768)),
            local_ssd: Some(8),
            disk: Some(Bytes::gib(2048)),
            time: Some(Duration::from_secs(6 * 3600)),
            words: BTreeMap::new(),
        },
        images: Vec::new(),
        spot: Spot::Allow,
        attempts: 3,
        start_timeout: Duration::from_secs(300),
        priority: 0,
        share: 1,
        limits: Limits::default(),
    }
}

fn backend(kind: BackendKind, cpu: Option<u32>, memory: Option<u64>) -> BackendPolicy {
    BackendPolicy {
        listing_lag: Duration::ZERO,
        kind,
        limits: Limits::default(),
        capacity: Limits {
            cpu: cpu.map(|cpu| Cpu::from_millis(cpu * 1000)),
            memory: memory.map(Bytes::gib),
            ..Limits::default()
        },
        arch: (kind == BackendKind::Process).then_some(Arch::Amd64),
        images: Vec::new(),
        vms: None,
    }
}

/// A host of 8 vCPU, a service of any size, a class, and a rule on deployments.
pub(crate) fn policy() -> Policy {
    Policy {
        name: "jitney".into(),
        queues: BTreeMap::from([("jit".into(), queue())]),
        classes: BTreeMap::from([
            ("large".to_string(), words(&[("cpu", "16"), ("memory", "64G")])),
            ("huge".to_string(), words(&[("cpu", "128")])),
        ]),
        rules: vec![Rule {
            pipeline: Some(Glob::new("deploy-*")),
            branch: Some(Glob::new("main")),
            images: Some(vec![Glob::new("ci-deploy")]),
            backends: Some(vec!["theirs".into()]),
            largest: Shapes { cpu: Some(Cpu::from_millis(4000)), ..Shapes::default() },
            spot: Some(Spot::Never),
            ..Rule::default()
        }],
        retry_lost: None,
        limits: Limits::default(),
        backends: BTreeMap::from([
            ("here".into(), backend(BackendKind::Process, Some(8), Some(32))),
            ("theirs".into(), backend(BackendKind::Http, None, None)),
        ]),
        margins: Margins::default(),
    }
}

pub(crate) fn edit(change: impl FnOnce(&mut QueuePolicy)) -> Policy {
    let mut policy = policy();
    change(policy.queues.get_mut(&QueueKey::new("jit")).expect("it is there"));
    policy
}

pub(crate) fn show(verdict: &Verdict) -> String {
    match verdict {
        Verdict::Ours(request) => {
            let at: Vec<&str> = request.offers.iter().map(|offer| offer.backend.as_str()).collect();
            format!("{} @ {} [{}]", request.shape, at.join(" "), request.tags.join(" "))
        }
        Verdict::Invalid(Invalid::Tag(error)) => format!("invalid {error}"),
        Verdict::Invalid(Invalid::NoOffer { shape, why }) => {
            format!("no offer for {shape}: {}", why.join(" | "))
        }
        Verdict::Invalid(Invalid::UnknownTag { tag, nearest }) => {
            format!("invalid {tag}, near {}", nearest.as_deref().unwrap_or("nothing"))
        }
        Verdict::Foreign(Foreign::UnknownTag { tag, nearest }) => {
            format!("foreign {tag}, near {}", nearest.as_deref().unwrap_or("nothing"))
        }
        Verdict::Foreign(Foreign::OtherValue { tag, ours }) => format!("foreign {tag}, not {ours}"),
        Verdict::Foreign(Foreign::OtherQueue { queue }) => format!("foreign queue {queue}"),
        Verdict::Undecided { policies } => format!("undecided by {policies:?}"),
    }
}

/// What is said about tags of a job of queue `jit`, on the main branch of `pipeline`.
pub(crate) fn explained(rules: &[String], pipeline: &str, policy: &Policy) -> Explained {
    let (queue, origin) = (QueueKey::new("jit"), OriginSeen::default());
    let subject = Subject { queue: &queue, pipeline, branch: "main", origin: &origin };
    explain_offers(rules, &subject, policy)
}

pub(crate) fn check(policy: &Policy, cases: &[(&str, &str)]) {
    for (tags, expected) in cases {
        assert_eq!(show(&assess(&row(tags, "web", "main"), policy)), *expected, "of {tags:?}");
    }
}

const PLAIN: &str = "2 vCPU, 4 GiB @ here theirs [queue=jit os=linux]";

#[test]
fn our_tags_make_a_job_ours() {
    check(
        &policy(),
        &[
            ("", PLAIN),
            ("queue=jit", PLAIN),
            ("queue=*", PLAIN),
            ("queue=jit os=linux", PLAIN),
            ("os=*", PLAIN),
            ("os=", PLAIN),
            ("cpu=* memory=", PLAIN),
            ("cpu=2 cpu=2", PLAIN),
            ("cpu=* cpu=2", PLAIN),
            ("team=red", "2 vCPU, 4 GiB @ here theirs [queue=jit os=linux team=red]"),
        ],
    );
}

#[test]
fn a_tag_that_is_not_ours_leaves_the_job_to_others_whatever_else_is_wrong() {
    check(
        &policy(),
        &[
            ("queue=other", "foreign queue other"),
            ("os=windows", "foreign os=windows, not os=linux"),
            ("docker", "foreign docker=true, near nothing"),
            ("memroy=4G", "foreign memroy=4G, near memory"),
            ("local_ssd=2", "foreign local_ssd=2, near local-ssd"),
            ("CPU=2", "foreign CPU=2, near cpu"),
            ("ram=4G", "foreign ram=4G, near memory"),
            ("tam=red", "foreign tam=red, near team"),
            ("memory=64GB! docker=true", "foreign docker=true, near nothing"),
            ("cpu=2 cpu=3 os=windows", "foreign os=windows, not os=linux"),
        ],
    );
}

#[test]
fn a_queue_that_is_ours_alone_fails_what_nobody_else_would_take() {
    check(
        &edit(|queue| queue.unknown_tags = UnknownTags::Fail),
        &[
            ("memroy=4G", "invalid memroy=4G, near memory"),
            ("docker=true", "invalid docker=true, near nothing"),
            (
                "os=windows",
                "invalid os=windows: the agents of this queue carry os=linux. \
                 Write os: linux, or name another queue",
            ),
            ("queue=other docker=true", "foreign queue other"),
        ],
    );
}

#[test]
fn a_queue_that_is_not_configured_is_not_ours() {
    let mut policy = policy();
    policy.queues.clear();
    check(&policy, &[("queue=jit", "foreign queue jit")]);
}

#[test]
fn a_policy_counts_the_jobs_that_it_matches() {
    let policy = policy();
    let matching = |pipeline, branch| match assess(&row("", pipeline, branch), &policy) {
        Verdict::Ours(request) => request.policies.clone(),
        other @ (Verdict::Invalid(_) | Verdict::Foreign(_) | Verdict::Undecided { .. }) => {
            panic!("{other:?}")
        }
    };
    assert_eq!(matching("web", "main"), Vec::<usize>::new());
    assert_eq!(matching("deploy-web", "feature"), Vec::<usize>::new());
    assert_eq!(matching("deploy-web", "main"), [0]);
}

fn tag() -> impl Strategy<Value = String> {
    let word = prop_oneof![
        Just("cpu"),
        Just("memory"),
        Just("disk"),
        Just("disk-type"),
        Just("local-ssd"),
        Just("arch"),
        Just("family"),
        Just("gpu"),
        Just("image"),
        Just("spot"),
        Just("time"),
        Just("zone"),
        Just("region"),
        Just("class"),
        Just("queue"),
        Just("os"),
        Just("team"),
    ];
    let value = prop_oneof![
        "[0-9.]{0,30}[a-zA-Z]{0,3}",
        ".{0,60}",
        Just("*".to_string()),
        Just("large".to_string()),
    ];
    prop_oneof![
        8 => (word, value).prop_map(|(word, value)| format!("{word}={value}")),
        1 => ".{0,300}",
    ]
}

proptest! {
    #[test]
    fn no_tags_make_it_panic_and_offers_fit(
        rules in proptest::collection::vec(tag(), 0..6),
        fail in any::<bool>(),
        pipeline in prop_oneof![Just("web"), Just("deploy-web")],
    ) {
        let policy = edit(|queue| {
            queue.unknown_tags = if fail { UnknownTags::Fail } else { UnknownTags::Wait };
        });
        let mut row = JobRow::clone(&row("", pipeline, "main"));
        row.rules = rules;
        let row = Arc::new(row);
        let verdict = assess(&row, &policy);
        prop_assert_eq!(&verdict, &assess(&row, &policy), "the same row has the same verdict");
        match verdict {
            Verdict::Ours(request) => {
                prop_assert!(!request.offers.is_empty());
                prop_assert!(request.shape.cpu <= Cpu::from_millis(96_000));
                for offer in &request.offers {
                    prop_assert!(offer.cpu >= request.shape.cpu && offer.memory >= request.shape.memory);
                    prop_assert!(offer.backend != BackendName::new("here") || offer.cpu <= Cpu::from_millis(8000));
                }
            }
            Verdict::Invalid(Invalid::Tag(error)) => {
                prop_assert!(!error.problem.is_empty() && !error.remedy.is_empty());
                prop_assert!(error.tag.len() <= 80);
            }
            Verdict::Invalid(Invalid::NoOffer { why, .. }) => prop_assert!(!why.is_empty()),
            Verdict::Invalid(Invalid::UnknownTag { .. }) => prop_assert!(fail),
            Verdict::Foreign(Foreign::UnknownTag { .. } | Foreign::OtherValue { .. }) => prop_assert!(!fail),
            Verdict::Foreign(Foreign::OtherQueue { queue }) => prop_assert_ne!(queue, "jit"),
            Verdict::Undecided { .. } => prop_assert!(false, "no rule asks"),
        }
    }
}
