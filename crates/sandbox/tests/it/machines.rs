//! The service of machines, by the backend that is its client and by its controls.

use std::sync::Arc;
use std::time::Duration;

use backends::http::{Http, Options};
use backends::{Backend, Class, Hardware, Labels, Machine, Order, Resources, conformance};
use jiff::Timestamp;
use sandbox::machines::{self, Faults, Machines, Refusal};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::agent_api::AgentApi;

#[expect(clippy::disallowed_methods, reason = "the service takes its clock as an argument")]
fn now() -> Timestamp {
    Timestamp::now()
}

/// A service, and the backend that speaks to it.
struct Rig {
    machines: Machines,
    backend: Http,
    http: reqwest::Client,
    api: AgentApi,
}

impl Rig {
    async fn with(env: &[(&str, &str)], faults: Value) -> Self {
        Self::with_token(env, faults, None).await
    }

    async fn with_token(env: &[(&str, &str)], faults: Value, token: Option<&str>) -> Self {
        buildkite::install_crypto_provider();
        let api = AgentApi::with_env(env).await;
        let machines = machines::serve(machines::Options {
            listener: tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap(),
            token: token.map(Into::into),
            faults: serde_json::from_value(faults).unwrap(),
            now,
        })
        .unwrap();
        let url = format!("http://{}", machines.address());
        let backend = Http::new(Options { url, token: None, mark: "mine".to_owned() }).unwrap();
        Self { machines, backend, http: reqwest::Client::new(), api }
    }

    fn order(&self, number: u128) -> Order {
        Order {
            name: format!("m-{number}"),
            request_id: Uuid::from_u128(number),
            labels: Labels {
                mark: "mine".into(),
                instance: "i".into(),
                job: Uuid::from_u128(number),
                attempt: 1,
                queue: "q".into(),
                dispatch_id: "d".into(),
                cpu_millis: 1000,
                memory_bytes: 1 << 30,
            },
            resources: Resources {
                cpu_millis: 1000,
                memory_bytes: 1 << 30,
                disk_bytes: None,
                local_ssds: 0,
            },
            place: "here".to_owned(),
            machine_type: "any".to_owned(),
            spot: false,
            vm: None,
            hardware: Hardware::default(),
            deadline: Duration::from_secs(3600),
            endpoint: self.api.endpoint.clone(),
            token: "bkjat_1".into(),
            agent_name: "n".to_owned(),
            agent_tags: vec!["queue=q".to_owned()],
            image: None,
            no_rights: false,
        }
    }

    async fn create(&self, number: u128) -> Result<(), backends::Error> {
        self.backend.create(&self.order(number)).await
    }

    async fn listed(&self) -> Vec<Machine> {
        self.backend.list().await.unwrap().machines
    }

    /// Waits, by long polls, until one machine has ended; returns why.
    async fn ended(&self) -> String {
        let wait = async {
            loop {
                let mut machines = self.listed().await.into_iter();
                if let Some(end) = machines.find_map(|machine| machine.ended) {
                    return end.cause;
                }
                self.backend.changed().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), wait).await.expect("no machine ended")
    }

    fn control(&self, path: &str) -> String {
        format!("http://{}/_machines/{path}", self.machines.address())
    }

    async fn faults(&self, faults: Value) -> u16 {
        let call = self.http.put(self.control("faults")).json(&faults);
        call.send().await.unwrap().status().as_u16()
    }

    async fn read(&self, path: &str) -> Value {
        self.http.get(self.control(path)).send().await.unwrap().json().await.unwrap()
    }

    /// Call, machine and outcome of each entry in the log.
    async fn log(&self) -> String {
        let log = self.read("log").await;
        let entries = log.as_array().unwrap().iter().map(|entry| {
            assert!(entry["at"].as_str() <= entry["done_at"].as_str());
            format!("{} {} {}", entry["call"], entry["name"], entry["outcome"]).replace('"', "")
        });
        entries.collect::<Vec<_>>().join(", ")
    }
}

#[tokio::test]
async fn a_machine_plays_its_job_and_ends() {
    let rig = Rig::with(&[("PLAY_EXIT", "3"), ("PLAY_LOG", "hello\n")], json!({})).await;
    rig.create(1).await.unwrap();
    assert_eq!(rig.ended().await, "the agent exited with 0");
    assert_eq!(rig.api.end().await, "3");
    assert_eq!(rig.api.log(), "hello\n");
    assert_eq!(rig.api.calls(), "register connect acquire start chunks finish disconnect");
    assert_eq!(rig.api.token_of("register"), "Token bkjat_1");
    assert_eq!(rig.api.token_of("acquire"), "Token bkaa_1");
    assert_eq!(rig.api.token_of("finish"), "Token bkaj_1");
    let machine = &rig.listed().await[0];
    assert_eq!(machine.labels, rig.order(1).labels);
    assert!(machine.connected_at.unwrap() >= machine.created_at);
    assert!(machine.deadline_at > machine.created_at);
}

#[tokio::test]
async fn a_job_that_says_nonsense_fails_and_says_so() {
    let rig = Rig::with(&[("PLAY_SECONDS", "soon")], json!({})).await;
    rig.create(1).await.unwrap();
    assert_eq!(rig.api.end().await, "1");
    assert_eq!(rig.api.log(), "PLAY_SECONDS is no number of seconds: soon\n");
}

#[tokio::test]
async fn a_cancelled_job_is_reported_as_such() {
    let rig = Rig::with(&[("PLAY_SECONDS", "3600")], json!({})).await;
    rig.api.set_state("canceling");
    rig.create(1).await.unwrap();
    assert_eq!(rig.api.end().await, "-1 SIGTERM cancel");
}

#[tokio::test]
async fn a_job_of_somebody_else_ends_the_machine() {
    let rig = Rig::with(&[], json!({})).await;
    rig.api.fail("acquire", 422, 1);
    rig.create(1).await.unwrap();
    assert_eq!(rig.ended().await, "the agent exited with 27 (acquire: 422: told to fail)");
    assert_eq!(rig.api.calls(), "register connect disconnect");
}

#[tokio::test]
async fn calls_that_may_succeed_later_are_tried_again() {
    let rig = Rig::with(&[], json!({})).await;
    rig.api.fail("register", 503, 1);
    rig.api.fail("acquire", 423, 1);
    rig.api.fail("finish", 500, 1);
    rig.create(1).await.unwrap();
    assert_eq!(rig.api.end().await, "0");
}

#[tokio::test]
async fn deleting_stops_the_agent_and_can_be_repeated() {
    let rig = Rig::with(&[("PLAY_SECONDS", "3600")], json!({})).await;
    rig.create(1).await.unwrap();
    rig.api.until(|seen| seen.calls.iter().any(|call| call == "chunks")).await;
    rig.backend.delete("m-1").await.unwrap();
    assert_eq!(rig.listed().await, []);
    assert_eq!(rig.api.end().await, "-1 SIGTERM agent_stop");
    rig.backend.delete("m-1").await.unwrap();
    assert_eq!(rig.log().await, "create m-1 made, delete m-1 deleted, delete m-1 gone");
    let counters = rig.read("counters").await;
    assert_eq!([&counters["alive"], &counters["most_alive"], &counters["made"]], [0, 1, 1]);
}

#[tokio::test]
async fn asking_twice_makes_one_machine_even_when_the_reply_got_lost() {
    let env = [("PLAY_SECONDS", "3600")];
    let rig = Rig::with(&env, json!({"lose_create_reply": 1, "lose_delete_reply": 1})).await;
    assert_eq!(rig.create(1).await.unwrap_err().class, Class::Ambiguous);
    assert_eq!(rig.listed().await.len(), 1);
    rig.create(1).await.unwrap();
    assert_eq!(rig.listed().await.len(), 1);
    assert_eq!(rig.backend.delete("m-1").await.unwrap_err().class, Class::Ambiguous);
    assert_eq!(rig.listed().await, []);
    assert_eq!(
        rig.log().await,
        "create m-1 made (reply lost), create m-1 there, delete m-1 deleted (reply lost)"
    );
}

#[tokio::test]
async fn refusals_carry_their_class_as_often_as_told() {
    let rig = Rig::with(&[], json!({})).await;
    for class in ["capacity", "quota", "rate", "rejected", "denied", "ambiguous"] {
        let refuse = json!({"class": class, "times": 1, "place": "here", "retry_after_s": 1.5});
        assert_eq!(rig.faults(json!({"refuse": refuse})).await, 204);
        let error = rig.create(1).await.unwrap_err();
        assert_eq!(json!(error.class), json!(class));
        assert_eq!(error.retry_after, Some(Duration::from_millis(1500)), "{class}");
    }
    rig.faults(json!({"refuse": {"class": "quota", "times": 1, "place": "elsewhere"}})).await;
    rig.create(1).await.unwrap();
}

#[tokio::test]
async fn orders_that_make_no_sense_are_rejected() {
    let rig = Rig::with(&[], json!({})).await;
    let order = Order { deadline: Duration::ZERO, ..rig.order(1) };
    assert_eq!(rig.backend.create(&order).await.unwrap_err().class, Class::Rejected);
    let url = format!("http://{}/machines/-bad", rig.machines.address());
    let body = json!({"not": "an order"});
    let reply = rig.http.put(&url).json(&body).send().await.unwrap();
    assert_eq!(reply.status(), 422);
    let reply: Value = reply.json().await.unwrap();
    assert_eq!(reply["class"], "rejected");
    assert!(reply["message"].as_str().unwrap().starts_with("the body is no order: "), "{reply}");
    assert_eq!(rig.faults(json!({"create_delay": 1})).await, 422);
}

#[tokio::test]
async fn the_deadline_ends_a_machine_that_never_boots() {
    let rig = Rig::with(&[], json!({"fail_boot": 1})).await;
    let order = Order { deadline: Duration::from_secs(1), ..rig.order(1) };
    rig.backend.create(&order).await.unwrap();
    assert_eq!(rig.ended().await, "its deadline passed: it never booted");
    assert_eq!(rig.api.calls(), "");
    assert_eq!(rig.listed().await[0].connected_at, None);
}

#[tokio::test]
async fn machines_die_when_told_without_a_word() {
    let rig = Rig::with(&[], json!({"die_before_acquire": 1})).await;
    rig.create(1).await.unwrap();
    assert_eq!(rig.ended().await, "the machine died");
    assert_eq!(rig.api.calls(), "register connect");

    let rig = Rig::with(&[], json!({"die_after_acquire": 1})).await;
    rig.create(1).await.unwrap();
    assert_eq!(rig.ended().await, "the machine died");
    assert_eq!(rig.api.calls(), "register connect acquire start");
}

#[tokio::test]
async fn a_machine_can_be_killed() {
    let rig = Rig::with(&[("PLAY_SECONDS", "3600")], json!({})).await;
    rig.create(1).await.unwrap();
    rig.api.until(|seen| seen.calls.iter().any(|call| call == "chunks")).await;
    let killed = rig.http.put(rig.control("kill/m-1")).send().await.unwrap();
    assert_eq!(killed.status(), 204);
    assert_eq!(rig.ended().await, "the machine died");
    assert_eq!(rig.api.calls(), "register connect acquire start chunks");
    let killed = rig.http.put(rig.control("kill/m-2")).send().await.unwrap();
    assert_eq!(killed.status(), 404);
}

#[tokio::test]
async fn an_outage_has_no_effect_and_ends() {
    let rig = Rig::with(&[], json!({"outage_ms": 3_600_000})).await;
    assert_eq!(rig.create(1).await.unwrap_err().class, Class::Ambiguous);
    assert!(rig.backend.list().await.is_err());
    rig.faults(json!({"outage_ms": 3_600_000, "outage_status": 502})).await;
    let error = rig.backend.delete("m-1").await.unwrap_err();
    assert!(error.words.contains("502"), "{error}");
    rig.faults(json!({})).await;
    assert_eq!(rig.listed().await, []);
    assert_eq!(rig.log().await, "");
}

#[tokio::test]
async fn listings_can_be_stale_or_incomplete() {
    let rig = Rig::with(&[("PLAY_SECONDS", "3600")], json!({})).await;
    rig.create(1).await.unwrap();
    rig.faults(json!({"stale_ms": 3_600_000})).await;
    rig.create(2).await.unwrap();
    assert_eq!(rig.listed().await.len(), 1);
    rig.faults(json!({"incomplete_lists": 1})).await;
    let listing = rig.backend.list().await.unwrap();
    assert_eq!((listing.machines.len(), listing.complete), (1, false));
    let listing = rig.backend.list().await.unwrap();
    assert_eq!((listing.machines.len(), listing.complete), (2, true));
}

#[tokio::test]
async fn a_delete_can_fail() {
    let rig = Rig::with(&[("PLAY_SECONDS", "3600")], json!({"fail_delete": 1})).await;
    rig.create(1).await.unwrap();
    assert!(rig.backend.delete("m-1").await.is_err());
    assert_eq!(rig.listed().await.len(), 1);
    rig.backend.delete("m-1").await.unwrap();
    assert_eq!(rig.listed().await, []);
}

#[tokio::test]
async fn the_log_says_when_a_deleted_machine_had_ended() {
    let rig = Rig::with(&[], json!({})).await;
    rig.create(1).await.unwrap();
    rig.ended().await;
    let ended = rig.listed().await[0].ended.clone().unwrap().at;
    rig.backend.delete("m-1").await.unwrap();
    rig.backend.delete("m-1").await.unwrap();
    let log = rig.read("log").await;
    assert_eq!(log[0].get("ended_at"), None, "a create: {log:#}");
    assert_eq!(log[1]["ended_at"], json!(ended), "the delete: {log:#}");
    assert_eq!(log[2].get("ended_at"), None, "what was gone already: {log:#}");
}

#[tokio::test]
async fn only_the_exact_mark_is_listed() {
    let rig = Rig::with(&[], json!({})).await;
    let mut order = rig.order(1);
    order.labels.mark = "mine-2".into();
    rig.backend.create(&order).await.unwrap();
    assert_eq!(rig.listed().await, []);
}

#[tokio::test]
async fn a_wrong_token_is_denied() {
    let rig = Rig::with_token(&[], json!({}), Some("secret")).await;
    assert_eq!(rig.create(1).await.unwrap_err().class, Class::Denied);
    let url = format!("http://{}", rig.machines.address());
    let token = Some("secret".into());
    let right = Http::new(Options { url, token, mark: "mine".to_owned() }).unwrap();
    assert_eq!(right.list().await.unwrap().machines, []);
}

#[tokio::test]
async fn stopping_the_service_lets_agents_report() {
    let rig = Rig::with(&[("PLAY_SECONDS", "3600")], json!({})).await;
    rig.create(1).await.unwrap();
    rig.api.until(|seen| seen.calls.iter().any(|call| call == "chunks")).await;
    let Rig { machines, api, .. } = rig;
    machines.stop().await.unwrap();
    assert_eq!(api.end().await, "-1 SIGTERM agent_stop");
}

#[test]
fn faults_by_default_are_none() {
    assert_eq!(serde_json::from_value::<Faults>(json!({})).unwrap(), Faults::default());
}

/// The service as the suite of all backends wants it: a place with agents that stay.
struct Place {
    machines: Machines,
    api: AgentApi,
}

impl conformance::Subject for Place {
    fn backend(&self, mark: &str) -> Arc<dyn Backend> {
        let url = format!("http://{}", self.machines.address());
        Arc::new(Http::new(Options { url, token: None, mark: mark.to_owned() }).unwrap())
    }

    fn end<'a>(&'a self, name: &'a str) -> backends::Future<'a, ()> {
        Box::pin(async move { assert!(self.machines.kill(name), "there is no {name}") })
    }

    fn adjust(&self, order: &mut Order) {
        order.endpoint.clone_from(&self.api.endpoint);
    }

    fn lose_next_reply(&self) -> bool {
        self.machines.set_faults(Faults { lose_create_reply: 1, ..Faults::default() });
        true
    }

    fn faults(&self) -> Vec<Class> {
        vec![Class::Capacity, Class::Quota, Class::Rate, Class::Rejected, Class::Denied]
    }

    fn fail_next_create(&self, class: Class) {
        let refusal = Refusal { class, times: 1, message: None, retry_after_s: None, place: None };
        self.machines.set_faults(Faults { refuse: Some(refusal), ..Faults::default() });
    }
}

#[tokio::test]
async fn the_service_passes_the_suite_of_all_backends() {
    let Rig { machines, api, .. } = Rig::with(&[("PLAY_SECONDS", "3600")], json!({})).await;
    conformance::run(&Place { machines, api }).await;
}

#[test]
fn every_fault_is_documented() {
    let page = include_str!("../../../../docs/sandbox.md");
    let faults = serde_json::to_value(Faults::default()).unwrap();
    for name in faults.as_object().unwrap().keys() {
        assert!(page.contains(&format!("`{name}`")), "docs/sandbox.md lacks the fault {name}");
    }
}
