//! The golden JSON both ways: it reads as the value that the contract means, and that value is
//! written as the very same JSON.

use std::collections::BTreeMap;
use std::fmt::Debug;

use buildkite::wire::*;
use jiff::Timestamp;
use serde::Serialize;
use serde::de::DeserializeOwned;
use uuid::Uuid;

use crate::server::golden_json;

pub(crate) fn check<T: Serialize + DeserializeOwned + PartialEq + Debug>(file: &str, value: &T) {
    let json = golden_json(file);
    let read: T = serde_json::from_value(json.clone()).unwrap_or_else(|e| panic!("{file}: {e}"));
    assert_eq!(read, *value, "{file}");
    assert_eq!(serde_json::to_value(value).unwrap(), json, "{file}");
}

pub(crate) fn id(kind: u16, n: u64) -> Uuid {
    format!("0199c0de-{kind:04x}-7000-8000-{n:012}").parse().unwrap()
}

pub(crate) fn time(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn texts(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

pub(crate) fn registration() -> RegisterStack {
    RegisterStack {
        key: "jit-linux-3f9c".to_owned(),
        kind: "custom".to_owned(),
        queue_key: "linux-small".to_owned(),
        metadata: texts(&[("version", "0.1.0"), ("zone", "eu-1a")]),
    }
}

#[test]
fn registration_and_its_replies() {
    check("register.request.json", &registration());
    let stack = Stack {
        id: id(0, 1),
        organization_uuid: "0199c0de-0000-7000-8000-0000000000aa".to_owned(),
        cluster_queue_key: "linux-small".to_owned(),
        key: "jit-linux-3f9c".to_owned(),
        kind: "custom".to_owned(),
        metadata: registration().metadata,
        last_connected_on: None,
        state: "connected".to_owned(),
    };
    check("register.201.json", &stack);
    let updated = Stack {
        metadata: BTreeMap::new(),
        last_connected_on: Some(time("2026-10-02T08:14:59.500Z")),
        state: "disconnected".to_owned(),
        ..stack
    };
    check("register.200.json", &updated);
}

#[test]
fn listings() {
    let queue = ClusterQueue { id: id(0x4444, 1), dispatch_paused: false, paused: false };
    let job = ScheduledJob {
        id: id(0x1111, 1),
        priority: 5,
        agent_query_rules: vec!["queue=linux-small".to_owned(), "arch=amd64".to_owned()],
        scheduled_at: time("2026-10-02T08:15:00.120Z"),
        runnable_at: Some(time("2026-10-02T08:15:00.480Z")),
        pipeline: PipelineRef { slug: Some("web".to_owned()), uuid: Some(id(0x2222, 1)) },
        build: BuildRef {
            uuid: Some(id(0x3333, 1)),
            number: Some(4711),
            branch: Some("main".to_owned()),
        },
        step: StepRef { key: None },
    };
    let last = PageInfo { has_next_page: false, end_cursor: None };
    let page = ScheduledJobs { jobs: vec![job], page_info: last, cluster_queue: queue.clone() };
    check("list.200.json", &page);
    let bare = ScheduledJob {
        id: id(0x1111, 2),
        priority: -1,
        agent_query_rules: Vec::new(),
        scheduled_at: time("2026-10-02T08:15:01Z"),
        runnable_at: None,
        pipeline: PipelineRef::default(),
        build: BuildRef::default(),
        step: StepRef { key: Some("unit".to_owned()) },
    };
    let more = PageInfo { has_next_page: true, end_cursor: Some("b3BhcXVl==".to_owned()) };
    let queue = ClusterQueue { dispatch_paused: true, paused: true, ..queue };
    let page = ScheduledJobs { jobs: vec![bare], page_info: more, cluster_queue: queue };
    check("list.more-pages-paused.200.json", &page);
}

#[test]
fn the_pause_flag_counts_in_either_spelling() {
    for (field, paused) in [("dispatch_paused", true), ("paused", true), ("something", false)] {
        let json = serde_json::json!({"id": id(0x4444, 1), field: true});
        let queue: ClusterQueue = serde_json::from_value(json).unwrap();
        assert_eq!(queue.is_paused(), paused, "{field}");
    }
}

#[test]
fn reservations() {
    let ids = vec![id(0x1111, 1)];
    let request = BatchReserve { job_uuids: ids.clone(), reservation_expiry_seconds: Some(300) };
    check("reserve.request.json", &request);
    let reserved = BatchReserved { reserved: ids.clone(), not_reserved: Vec::new() };
    check("reserve.200.json", &reserved);
    let taken = BatchReserved { reserved: Vec::new(), not_reserved: ids };
    check("reserve.taken.200.json", &taken);
}

#[test]
fn jobs_and_their_states() {
    let read: JobDetail = serde_json::from_value(golden_json("job.200.json")).unwrap();
    assert_eq!((read.id, read.command.as_str()), (id(0x1111, 1), "echo hello"));
    let env = [("BUILDKITE_BRANCH", "main"), ("BUILDKITE_COMMAND", "echo hello"), ("CI", "true")];
    assert_eq!(read.env, texts(&env));
    check("job.200.json", &read);
    let ids = (1..=3).map(|n| id(0x1111, n)).collect();
    check("states.request.json", &GetStates { job_uuids: ids });
    let states = [(id(0x1111, 1), JobState::Reserved), (id(0x1111, 2), JobState::TimingOut)];
    check("states.200.json", &JobStates { states: states.into() });
}

#[test]
fn every_state_has_its_lower_case_name_and_a_new_one_is_kept() {
    let names = "pending waiting waiting_failed blocked blocked_failed unblocked unblocked_failed \
                 limiting limited platform_limiting platform_limited scheduled reserved assigned \
                 accepted running canceling canceled timing_out timed_out finished expired \
                 skipped broken";
    for name in names.split(' ') {
        let state: JobState = serde_json::from_value(name.into()).unwrap();
        assert!(!matches!(state, JobState::Other(_)), "{name}");
        assert_eq!(serde_json::to_value(&state).unwrap(), name);
    }
    let new: JobState = serde_json::from_value("teleporting".into()).unwrap();
    assert_eq!(new, JobState::Other("teleporting".to_owned()));
    assert_eq!(serde_json::to_value(&new).unwrap(), "teleporting");
}

#[test]
fn finishing_always_says_the_status() {
    let detail = "VM quota exhausted in eu-1a after 3 attempts (operation op-81).".to_owned();
    check("finish.request.json", &FinishJob { exit_status: -1, detail });
    let success = FinishJob { exit_status: 0, detail: "Nothing to do.".to_owned() };
    check("finish.success.request.json", &success);
    let bare: FinishJob = serde_json::from_str(r#"{"detail":"x"}"#).unwrap();
    assert_eq!(bare.exit_status, -1, "left out means failed");
}

#[test]
fn notifications() {
    let note = |n, detail: &str, timestamp| Notification {
        job_uuid: id(0x1111, n),
        detail: detail.to_owned(),
        timestamp,
    };
    let notifications = vec![
        note(1, "Booting VM jit-81 (n2-4, eu-1a)", None),
        note(2, "Waiting: 3 jobs ahead", Some(time("2026-10-02T08:15:02Z"))),
    ];
    check("notify.request.json", &Notifications { notifications });
    check("notify.200.json", &NotificationErrors::default());
    let error = "job has too many notifications".to_owned();
    let errors = vec![NotificationError { error, indexes: vec![0, 2] }];
    check("notify.partial.200.json", &NotificationErrors { errors });
}

#[test]
fn acquisition_tokens() {
    let ids = vec![id(0x1111, 1)];
    let request = IssueTokens { job_uuids: ids.clone(), token_lifetime_seconds: Some(600) };
    check("tokens.request.json", &request);
    let token = JobAcquisitionToken {
        job_uuid: id(0x1111, 1),
        job_acquisition_token: "bkjat_eyJhbGciOiJub25lIn0".to_owned(),
        expires_at: time("2026-10-02T08:25:00Z"),
    };
    let issued = IssuedTokens { job_acquisition_tokens: vec![token], not_issued: Vec::new() };
    check("tokens.201.json", &issued);
    let refused = IssuedTokens { job_acquisition_tokens: Vec::new(), not_issued: ids };
    check("tokens.refused.201.json", &refused);
}

#[test]
fn identities_and_counts() {
    let clustered = TokenIdentity {
        uuid: id(0x7777, 1).to_string(),
        description: "jitney".to_owned(),
        token_type: "cluster".to_owned(),
        organization_slug: "demo".to_owned(),
        organization_uuid: "0199c0de-0000-7000-8000-0000000000aa".to_owned(),
        cluster_uuid: id(0x8888, 1).to_string(),
        cluster_name: "Default cluster".to_owned(),
        organization_queue_uuid: String::new(),
        organization_queue_key: String::new(),
    };
    check("token.200.json", &clustered);
    let unclustered = TokenIdentity {
        uuid: id(0x7777, 2).to_string(),
        description: "old".to_owned(),
        token_type: "unclustered".to_owned(),
        cluster_uuid: String::new(),
        cluster_name: String::new(),
        ..clustered
    };
    check("token.unclustered.200.json", &unclustered);
    let metrics = QueueMetrics {
        agents: AgentCounts { idle: 1, busy: 3, total: 4 },
        jobs: JobCounts { scheduled: 12, running: 3, waiting: 40, total: 55 },
        organization: Organization { slug: "demo".to_owned() },
    };
    check("metrics.200.json", &metrics);
}

#[test]
fn errors() {
    let plain = |message: &str| ErrorBody { message: message.to_owned(), ..ErrorBody::default() };
    for (status, message) in [
        (400, "limit must be a positive integer of at most 1000"),
        (401, "Invalid access token"),
        (403, "Your organization has reached its limit of 30 active stacks"),
        (404, "Stack not found"),
        (422, "Validation failed: key is invalid"),
        (503, "The organization is temporarily unavailable"),
    ] {
        check(&format!("error.{status}.json"), &plain(message));
    }
    let limited = ErrorBody {
        message: "Rate limit exceeded, retry in 1 second.".to_owned(),
        scope: Some("batch-reserve".to_owned()),
        limit: Some(10),
        current: Some(12),
        reset: Some(1),
    };
    check("error.429.json", &limited);
}

/// A file that nobody reads would prove nothing.
#[test]
fn every_golden_file_is_read_by_a_test() {
    let sources = [
        include_str!("golden.rs"),
        include_str!("rest.rs"),
        include_str!("rest_golden.rs"),
        include_str!("../../src/webhook/tests.rs"),
    ]
    .concat();
    let folder = format!("{}/tests/golden", env!("CARGO_MANIFEST_DIR"));
    for entry in std::fs::read_dir(folder).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let status = name.strip_prefix("error.").and_then(|rest| rest.strip_suffix(".json"));
        let named = sources.contains(&name)
            || status.is_some_and(|status| sources.contains(&format!("({status}, ")));
        assert!(named || name == "README.md", "{name} is read by no test");
    }
}
