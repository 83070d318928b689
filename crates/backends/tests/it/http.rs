//! The `http` backend against a service in memory: the suite, and every way in which a service can
//! answer badly.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::{get, put};
use backends::conformance::{self, MARK, Subject};
use backends::http::wire::{CreateRequest, Failure, ListQuery, ListReply};
use backends::http::{Http, Options};
use backends::{Backend, Class, Future, Machine, MachineEnd, Phase};
use secrecy::SecretString;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::place::now;

/// What the next call is answered with instead of the truth.
#[derive(Clone, Debug)]
enum Bad {
    /// After the create was carried out, nothing that can be read.
    LostReply,
    Reply(u16, &'static str, Option<&'static str>),
}

#[derive(Debug, Default)]
struct Service {
    machines: Mutex<BTreeMap<String, Machine>>,
    bad: Mutex<Option<Bad>>,
    version: watch::Sender<u64>,
    seen: Mutex<Vec<CreateRequest>>,
    authorization: Mutex<Option<String>>,
}

struct Theirs {
    service: Arc<Service>,
    url: String,
}

impl Theirs {
    async fn serve() -> Self {
        let service = Arc::new(Service::default());
        let router = Router::new()
            .route("/api/machines", get(list))
            .route("/api/machines/{name}", put(create).delete(delete))
            .with_state(Arc::clone(&service));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}/api/", listener.local_addr().expect("an address"));
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { service, url }
    }

    fn http(&self, mark: &str) -> Http {
        let token = Some(SecretString::from("of the service"));
        Http::new(Options { url: self.url.clone(), token, mark: mark.to_owned() })
            .expect("a backend")
    }

    fn answer_next(&self, bad: Bad) {
        *self.service.bad.lock().expect("bad") = Some(bad);
    }
}

impl Service {
    fn end(&self, name: &str, cause: &str) {
        let mut machines = self.machines.lock().expect("machines");
        let Some(machine) = machines.get_mut(name).filter(|m| m.ended.is_none()) else { return };
        machine.phase = Phase::Ended;
        machine.ended = Some(Box::new(MachineEnd {
            at: now(),
            cause: cause.to_owned(),
            log_tail: String::new(),
            cpu_seconds: None,
            peak_memory_bytes: None,
            oom_killed: false,
            ran: None,
            refused: None,
            fields: BTreeMap::new(),
            deadline_reached: false,
            taken: false,
        }));
        self.changed();
    }

    fn changed(&self) {
        self.version.send_modify(|version| *version += 1);
    }

    fn bad(&self) -> Option<Bad> {
        self.bad.lock().expect("bad").take()
    }
}

fn answer(bad: Bad) -> Response {
    match bad {
        Bad::LostReply => (StatusCode::BAD_GATEWAY, "upstream closed").into_response(),
        Bad::Reply(status, body, after) => {
            let mut headers = HeaderMap::new();
            if let Some(after) = after {
                headers.insert("retry-after", after.parse().expect("a header"));
            }
            (StatusCode::from_u16(status).expect("a status"), headers, body).into_response()
        }
    }
}

async fn list(State(service): State<Arc<Service>>, Query(query): Query<ListQuery>) -> Response {
    if let Some(bad) = service.bad() {
        return answer(bad);
    }
    let mut version = service.version.subscribe();
    if let (Some(after), Some(wait)) = (query.after, query.wait) {
        let other = version.wait_for(|version| version.to_string() != after);
        let _ = timeout(Duration::from_secs(wait), other).await;
    }
    let version = version.borrow().to_string();
    let machines = service.machines.lock().expect("machines");
    let machines =
        machines.values().filter(|machine| *machine.labels.mark == *query.mark).cloned().collect();
    Json(ListReply { version, complete: true, machines }).into_response()
}

async fn create(
    State(service): State<Arc<Service>>,
    Path(name): Path<String>,
    headers: HeaderMap,
    Json(request): Json<CreateRequest>,
) -> Response {
    let authorization = headers.get("authorization").and_then(|value| value.to_str().ok());
    *service.authorization.lock().expect("it") = authorization.map(str::to_owned);
    let bad = service.bad();
    if let Some(bad @ Bad::Reply(..)) = bad {
        return answer(bad);
    }
    service.seen.lock().expect("seen").push(request.clone());
    let status = {
        let mut machines = service.machines.lock().expect("machines");
        if machines.contains_key(&name) {
            StatusCode::OK
        } else {
            let created_at = now();
            let deadline_at = request.deadline_at(created_at);
            let machine = Machine {
                name: name.clone(),
                labels: request.labels,
                phase: Phase::Connected,
                created_at,
                connected_at: Some(created_at),
                deadline_at,
                ended: None,
                note: None,
                silent: None,
                leaving: None,
            };
            machines.insert(name.clone(), machine);
            let (service, at) = (Arc::clone(&service), Duration::from_secs(request.deadline_s));
            tokio::spawn(async move {
                sleep(at).await;
                service.end(&name, "the machine's deadline was reached");
            });
            StatusCode::CREATED
        }
    };
    service.changed();
    match bad {
        Some(bad) => answer(bad),
        None => status.into_response(),
    }
}

async fn delete(State(service): State<Arc<Service>>, Path(name): Path<String>) -> Response {
    if let Some(bad) = service.bad() {
        return answer(bad);
    }
    service.machines.lock().expect("machines").remove(&name);
    service.changed();
    StatusCode::NO_CONTENT.into_response()
}

impl Subject for Theirs {
    fn backend(&self, mark: &str) -> Arc<dyn Backend> {
        Arc::new(self.http(mark))
    }

    fn end<'a>(&'a self, name: &'a str) -> Future<'a, ()> {
        Box::pin(async move { self.service.end(name, "the agent exited with 0") })
    }

    fn lose_next_reply(&self) -> bool {
        self.answer_next(Bad::LostReply);
        true
    }

    fn faults(&self) -> Vec<Class> {
        let all = [Class::Capacity, Class::Quota, Class::Rate, Class::Ambiguous];
        all.into_iter().chain([Class::Rejected, Class::Denied]).collect()
    }

    fn fail_next_create(&self, class: Class) {
        let failure = Failure { class, message: "no".to_owned(), retry_after_s: None };
        let body = serde_json::to_string(&failure).expect("JSON");
        // Tests end soon; the text lives as long as they do.
        self.answer_next(Bad::Reply(503, body.leak(), None));
    }
}

#[tokio::test]
async fn conforms() {
    conformance::run(&Theirs::serve().await).await;
}

#[tokio::test]
async fn the_order_arrives_whole_and_its_token_is_redacted() {
    let theirs = Theirs::serve().await;
    let mut order = conformance::order(&theirs, MARK);
    order.deadline = Duration::from_millis(1500);
    order.image = Some("ci-debian-12".to_owned());
    theirs.http(MARK).create(&order).await.expect("create");
    let seen = theirs.service.seen.lock().expect("seen").pop().expect("a request");
    assert_eq!(seen.deadline_s, 2, "a part of a second counts as a whole one");
    assert_eq!(seen.request_id, order.request_id);
    assert!(!format!("{seen:?}").contains("bkjat_"), "{seen:?}");
    let json = serde_json::to_value(&seen).expect("JSON");
    assert_eq!(json["agent"]["token"], "bkjat_conformance");
    let back = seen.into_order(order.name.clone());
    assert_eq!((&back.labels, &back.image), (&order.labels, &order.image));
    assert!(!format!("{back:?}").contains("bkjat_"));
    let authorization = theirs.service.authorization.lock().expect("it").clone();
    assert_eq!(authorization.as_deref(), Some("Bearer of the service"));
    assert!(!format!("{:?}", theirs.http(MARK)).contains("of the service"));
}

async fn check(status: u16, body: &'static str, class: Class, words: &str) {
    let theirs = Theirs::serve().await;
    theirs.answer_next(Bad::Reply(status, body, None));
    let order = conformance::order(&theirs, MARK);
    let error = theirs.http(MARK).create(&order).await.expect_err("a bad answer");
    assert_eq!((error.class, error.words.as_str()), (class, words), "{status} {body}");
    assert_eq!(error.fields["operation"], "create");
    assert_eq!(error.fields["machine"], order.name);
}

#[tokio::test]
async fn answers_without_a_class_are_classified_by_their_status() {
    let said = "the service answered";
    check(401, "", Class::Denied, &format!("{said} 401 Unauthorized")).await;
    check(403, "no", Class::Denied, &format!("{said} 403 Forbidden: no")).await;
    check(404, "<h1>", Class::Rejected, &format!("{said} 404 Not Found: <h1>")).await;
    check(429, "", Class::Rate, &format!("{said} 429 Too Many Requests")).await;
    check(408, "", Class::Ambiguous, &format!("{said} 408 Request Timeout")).await;
    check(500, "a\nb", Class::Ambiguous, &format!("{said} 500 Internal Server Error: a b")).await;
    check(302, "", Class::Ambiguous, &format!("{said} 302 Found")).await;
    check(
        400,
        "{\"class\":\"odd\"}",
        Class::Rejected,
        &format!("{said} 400 Bad Request: {{\"class\":\"odd\"}}"),
    )
    .await;
    check(418, "{\"class\":\"quota\",\"message\":\"no cpu\"}", Class::Quota, "no cpu").await;
}

#[tokio::test]
async fn a_wait_is_read_from_the_body_or_the_header() {
    let theirs = Theirs::serve().await;
    let (backend, order) = (theirs.http(MARK), conformance::order(&theirs, MARK));
    let says = "{\"class\":\"rate\",\"message\":\"slow\",\"retry_after_s\":1.5}";
    let says_ever = "{\"class\":\"rate\",\"message\":\"slow\",\"retry_after_s\":1e12}";
    for (body, header, expected) in [
        (says, "7", Some(1.5)),
        ("", "7", Some(7.0)),
        // No wait at all would be a storm; one for ever would be silence.
        ("", "0", None),
        (says_ever, "7", Some(3600.0)),
    ] {
        theirs.answer_next(Bad::Reply(429, body, Some(header)));
        let error = backend.create(&order).await.expect_err("too fast");
        assert_eq!(error.retry_after, expected.map(Duration::from_secs_f64));
    }
}

#[tokio::test]
async fn a_listing_that_cannot_be_read_is_not_an_empty_one() {
    let theirs = Theirs::serve().await;
    for (status, body) in [(200, "{\"machines\":[]}"), (200, "<html>"), (200, ""), (503, "")] {
        theirs.answer_next(Bad::Reply(status, body, None));
        let error = theirs.http(MARK).list().await.expect_err("nothing was learnt");
        assert_eq!(error.class, Class::Ambiguous, "{body}: {error}");
    }
}

#[tokio::test]
async fn a_delete_answered_404_has_not_happened() {
    let theirs = Theirs::serve().await;
    theirs.answer_next(Bad::Reply(404, "nothing here", None));
    let error = theirs.http(MARK).delete("jitney-a-1").await.expect_err("a wrong address");
    assert_eq!(error.class, Class::Rejected);
}

#[tokio::test]
async fn machines_of_another_mark_are_left_out_even_if_the_service_lists_them() {
    let theirs = Theirs::serve().await;
    let order = conformance::order(&theirs, MARK);
    theirs.http(MARK).create(&order).await.expect("create");
    {
        let mut machines = theirs.service.machines.lock().expect("machines");
        let reply = ListReply {
            version: "1".to_owned(),
            complete: true,
            machines: machines.values().cloned().collect(),
        };
        machines.clear();
        let body = serde_json::to_string(&reply).expect("JSON");
        theirs.answer_next(Bad::Reply(200, body.leak(), None));
    }
    let listing = theirs.http(conformance::OTHER_MARK).list().await.expect("a listing");
    assert!(listing.machines.is_empty(), "{listing:?}");
}

#[tokio::test]
async fn a_service_that_is_away_is_ambiguous_and_its_return_is_heard_of() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    drop(listener);
    let url = format!("http://{address}/api");
    let options = Options { url, token: None, mark: MARK.to_owned() };
    let backend = Http::new(options).expect("a backend");
    let error = backend.list().await.expect_err("nobody listens");
    assert_eq!(error.class, Class::Ambiguous);
    assert!(error.words.starts_with("the service cannot be reached: "), "{error}");

    let service = Arc::new(Service::default());
    let router = Router::new().route("/api/machines", get(list)).with_state(Arc::clone(&service));
    let changed = backend.changed();
    tokio::pin!(changed);
    assert!(timeout(Duration::from_millis(50), &mut changed).await.is_err(), "nothing to hear");
    let listener = TcpListener::bind(address).await.expect("the port again");
    tokio::spawn(async move { axum::serve(listener, router).await });
    timeout(Duration::from_secs(20), changed).await.expect("it is back");
}

#[tokio::test]
async fn a_reply_that_never_comes_is_ambiguous_in_the_end() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    // It takes connections and says nothing. Time is let go once the call has been sent.
    let accepted = tokio::spawn(async move {
        let connection = listener.accept().await.expect("a connection");
        tokio::time::pause();
        sleep_until(Instant::now() + Duration::from_secs(3600)).await;
        drop(connection);
    });
    let options = Options { url, token: None, mark: MARK.to_owned() };
    let error = Http::new(options).expect("a backend").list().await.expect_err("no reply");
    assert_eq!(error.class, Class::Ambiguous);
    assert!(error.words.starts_with("the service did not answer in time"), "{error}");
    accepted.abort();
}

#[test]
fn addresses_that_are_none_are_refused_with_words() {
    let check = |url: &str, expected: &str| {
        let token = None;
        let options = Options { url: url.to_owned(), token, mark: MARK.to_owned() };
        let error = Http::new(options).expect_err("not an address").to_string();
        assert!(error.contains(expected), "{url}: {error}");
    };
    check("localhost:9090", "it is not http or https; write it as http://host:port");
    check("9090", "`9090` is not an address of a service");
    check("http://a/?x=1", "it has a query");
    check("http://me:secret@a/", "use `token` for that");
    let error = Http::new(Options {
        url: "http://a".to_owned(),
        token: Some(SecretString::from("two\nlines")),
        mark: MARK.to_owned(),
    });
    assert!(error.expect_err("not a header").to_string().contains("line break"));
}

#[test]
fn the_examples_in_the_docs_are_of_the_wire() {
    let docs = include_str!("../../../../docs/http-backend.md");
    let blocks: Vec<_> =
        docs.split("```json\n").skip(1).filter_map(|rest| rest.split_once("```")).collect();
    let [list, create, failure] = blocks[..] else { panic!("{} examples", blocks.len()) };
    let list: ListReply = serde_json::from_str(list.0).expect("the reply to list");
    let create: CreateRequest = serde_json::from_str(create.0).expect("the body of create");
    let failure: Failure = serde_json::from_str(failure.0).expect("a failure");
    assert_eq!(list.machines[0].labels, create.labels);
    assert_eq!(failure.retry_after_s, Some(30.0));
    // Nothing that we send is left out of the example.
    let shown: serde_json::Value = serde_json::from_str(blocks[1].0).expect("JSON");
    let sent = serde_json::to_value(&create).expect("JSON");
    assert_eq!(shown, sent);
}
