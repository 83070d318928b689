//! Who gets a token, and who does not.

use std::time::Duration;

use backends::conformance::until;
use backends::gce::{Delivery, Door, Gce, Reply};
use backends::{Backend, Order, Phase};
use jiff::Timestamp;
use secrecy::ExposeSecret;
use serde_json::{Value, json};

use super::ground::{A, Ground, ended};
use crate::place::now;

/// A machine that has been asked for, and seen.
async fn made(ground: &Ground, gce: &Gce) -> Order {
    let order = ground.order();
    gce.create(&order).await.expect("create");
    until(gce, &order.name, "listed", |machine| machine.is_some()).await;
    order
}

fn identity(ground: &Ground, order: &Order) -> String {
    let audience = format!("{}/guests/jitney", ground.address());
    ground.cloud.identity_token(A, &order.name, &audience).expect("it has an account")
}

async fn ask(door: &Door, identity: &str) -> (u16, Value) {
    let reply = door.token(json!({ "identity": identity }).to_string().as_bytes()).await;
    let Reply::Answer(answer) = reply else { return (0, json!({})) };
    (answer.status, serde_json::from_str(&answer.body).expect("JSON"))
}

async fn refused(door: &Door, identity: &str, why: &str) {
    let (status, body) = ask(door, identity).await;
    let words = body["error"].as_str().unwrap_or_default();
    assert!(status == 403 && words.contains(why), "{status} {body}, not {why}");
    assert!(!body.to_string().contains("bkjat_"));
}

#[tokio::test]
async fn a_machine_gets_its_own_token_as_often_as_it_asks_until_its_agent_has_connected() {
    let ground = Ground::idle().await;
    let gce = ground.gce("jitney");
    let door = gce.door();
    let (mut first, mut second) = (ground.order(), ground.order());
    (first.token, second.token) = ("bkjat_first".into(), "bkjat_second".into());
    for order in [&first, &second] {
        gce.create(order).await.expect("create");
    }
    // Google's answer to the insert has the machine's number: no list is needed.
    for order in [&first, &second, &first] {
        let (status, body) = ask(&door, &identity(&ground, order)).await;
        assert_eq!((status, &body["token"]), (200, &json!(order.token.expose_secret())));
    }
    ground.rotate_keys().await;
    assert_eq!(ask(&door, &identity(&ground, &first)).await.0, 200, "by a key that is new");
    let report = json!({
        "identity": identity(&ground, &first),
        "report": {"phase": "connected", "started_at": now(), "connected_at": now()},
    });
    assert_eq!(door.report(report.to_string().as_bytes()).await.status, 200);
    assert_eq!(ask(&door, &identity(&ground, &first)).await.0, 409, "its agent has it");
    let machine = until(&*gce, &first.name, "connected", |machine| {
        machine.is_some_and(|machine| machine.phase == Phase::Connected)
    });
    assert!(machine.await.expect("a machine").connected_at.is_some());
    assert_eq!(
        ask(&door, &identity(&ground, &second)).await.0,
        200,
        "another's report is another's"
    );
}

#[tokio::test]
async fn only_googles_word_on_this_very_machine_is_taken() {
    let ground = Ground::idle().await;
    let gce = ground.gce("jitney");
    let door = gce.door();
    let order = made(&ground, &gce).await;
    let good = identity(&ground, &order);
    assert_eq!(ask(&door, &good).await.0, 200);

    let elsewhere =
        ground.cloud.identity_token(A, &order.name, "https://else.example").expect("one");
    refused(&door, &elsewhere, "is for somebody else").await;
    let parts: Vec<&str> = good.split('.').collect();
    let other = identity(&ground, &made(&ground, &gce).await);
    let others: Vec<&str> = other.split('.').collect();
    let forged = format!("{}.{}.{}", parts[0], others[1], parts[2]);
    refused(&door, &forged, "signature is not Google's").await;
    refused(&door, "a.b.c", "no identity token").await;
    refused(&door, "nonsense", "no identity token").await;
    assert!(matches!(door.token(b"{").await, Reply::Answer(answer) if answer.status == 400));

    // A token of another machine that had the same name is of that one.
    let zone_and_name = (A, order.name.as_str());
    let gone =
        ground.cloud.compute(|compute, now| compute.vanish(zone_and_name.0, zone_and_name.1, now));
    assert!(gone);
    let mut again = order.clone();
    again.request_id = uuid::Uuid::from_u128(77);
    until(&*gce, &order.name, "gone", |machine| machine.is_none()).await;
    gce.create(&again).await.expect("the same name again");
    refused(&door, &good, "another machine of this name").await;
    assert_eq!(ask(&door, &identity(&ground, &again)).await.0, 200);
}

fn in_two_hours() -> Timestamp {
    now() + Duration::from_secs(7_200)
}

fn two_hours_ago() -> Timestamp {
    now() - Duration::from_secs(7_200)
}

/// By a clock that shows another time than Google's.
async fn late_or_early(ground: &Ground, clock: fn() -> Timestamp, why: &str) {
    let mut options = ground.options("jitney");
    options.now = clock;
    let gce = ground.of(options);
    let order = ground.order();
    gce.create(&order).await.expect("create");
    refused(&gce.door(), &identity(ground, &order), why).await;
}

#[tokio::test]
async fn what_is_late_or_of_somebody_else_is_refused() {
    let ground = Ground::idle().await;
    late_or_early(&ground, in_two_hours, "has expired").await;
    late_or_early(&ground, two_hours_ago, "is of the future").await;
    let gce = ground.gce("jitney");
    let order = made(&ground, &gce).await;
    let mut options = ground.options("jitney");
    options.settings.service_account = Some("other@p.iam.gserviceaccount.com".to_owned());
    let other = ground.of(options);
    refused(&other.door(), &identity(&ground, &order), "service account").await;
    let mut options = ground.options("jitney");
    options.settings.project = "another".to_owned();
    let other = ground.of(options);
    refused(&other.door(), &identity(&ground, &order), "another project").await;
    // One that has only just begun does not know it yet.
    let fresh = ground.gce("jitney");
    assert_eq!(ask(&fresh.door(), &identity(&ground, &order)).await.0, 503);
    fresh.list().await.expect("a listing");
    let (status, body) = ask(&fresh.door(), &identity(&ground, &order)).await;
    assert_eq!(status, 0, "it is known, and its token is somebody else's to give: {body}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_in_the_metadata_needs_no_door_and_the_end_is_seen_all_the_same() {
    let ground = Ground::start().await;
    let mut options = ground.options("jitney");
    options.settings.delivery = Delivery::Metadata;
    options.settings.service_account = None;
    let gce = ground.of(options);
    let order = ground.order();
    gce.create(&order).await.expect("create");
    ground.end_agent(&order.name).await;
    let end = ended(&gce, &order).await;
    assert_eq!(end.cause, "the machine switched itself off");
    gce.delete(&order.name).await.expect("delete");
    ground.nothing_is_left().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_that_gets_no_token_goes_off_in_time_and_its_serial_port_is_heard() {
    let ground = Ground::start().await;
    let mut options = ground.options("jitney");
    options.settings.connect_within = Duration::from_secs(1);
    options.settings.delivery =
        Delivery::Pull { url: format!("{}/guests/nobody", ground.address()) };
    let gce = ground.of(options);
    let order = ground.order();
    gce.create(&order).await.expect("create");
    let machine = until(&*gce, &order.name, "ended", |machine| {
        machine.is_some_and(|machine| machine.phase == Phase::Ended)
    });
    let machine = machine.await.expect("a machine");
    let end = machine.ended.expect("an end");
    assert!(end.log_tail.contains("no token was to be had in time"), "{end:?}");
    assert_eq!(machine.connected_at, None);
    gce.delete(&order.name).await.expect("delete");
    ground.nothing_is_left().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_preempted_machine_stops_its_agent_at_once_and_says_why() {
    let ground = Ground::start().await;
    let mut options = ground.options("jitney");
    options.settings.template =
        json!({"scheduling": {"preemptionNoticeDuration": {"seconds": "120"}}});
    let gce = ground.of(options);
    let mut order = ground.order();
    order.spot = true;
    gce.create(&order).await.expect("create");
    let up = |machine: Option<&backends::Machine>| {
        machine.is_some_and(|machine| machine.phase == Phase::Connected)
    };
    until(&*gce, &order.name, "connected", up).await;
    ground
        .cloud
        .compute(|compute, now| compute.preempt(A, &order.name, now))
        .expect("it is on spot");
    let end = ended(&gce, &order).await;
    assert!(end.cause.starts_with("Google took the spot machine back"), "{end:?}");
    assert!(end.taken, "what ran on it was lost by that: {end:?}");
    gce.delete(&order.name).await.expect("delete");
    ground.nothing_is_left().await;
}
