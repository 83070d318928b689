//! What goes wrong in a cloud, and what becomes of it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use backends::conformance::until;
use backends::gce::{Access, Gce};
use backends::{Backend, Class, Machine, Order, Phase, Vm};
use google_cloud_auth::credentials::service_account;
use sandbox::Fault;
use sandbox::cloud::compute::{Capacity, FailedInserts, Grants, Knobs, Rates};
use serde_json::json;
use tokio::time::timeout;

use super::ground::{A, B, Ground, ended, machine};

async fn runs(gce: &Gce, order: &Order) {
    let up =
        |machine: Option<&Machine>| machine.is_some_and(|machine| machine.phase == Phase::Booting);
    until(gce, &order.name, "up", up).await;
}

async fn delete(gce: &Gce, order: &Order) {
    gce.delete(&order.name).await.expect("delete");
    until(gce, &order.name, "gone", |machine| machine.is_none()).await;
}

/// Lists, as is done all the time, until sweeping has left nothing.
async fn swept(ground: &Ground, gce: &Gce) {
    let looks = async {
        loop {
            gce.list().await.expect("a listing");
            drop(timeout(Duration::from_millis(100), gce.changed()).await);
        }
    };
    tokio::select! {
        () = looks => {}
        () = ground.nothing_is_left() => {}
    }
}

#[tokio::test]
async fn a_stockout_is_seen_after_the_create_and_leaves_nothing() {
    let ground = Ground::idle().await;
    let gce = ground.gce("jitney");
    ground.cloud.compute(|compute, _| {
        compute.capacity = vec![Capacity {
            zone: Some(A.to_owned()),
            machine_type: Some("n2-*".to_owned()),
            ..Capacity::default()
        }];
    });
    let order = ground.order();
    gce.create(&order).await.expect("that Google takes the request is no machine");
    let end = ended(&gce, &order).await;
    assert_eq!(end.refused, Some(Class::Capacity), "{end:?}");
    assert!(
        end.cause.starts_with("us-central1-a has no room for a n2-custom-2-4096 now"),
        "{end:?}"
    );
    assert!(end.fields["room_in"].contains(B), "{end:?}");
    // Of one name there is one machine: not there before it is gone here.
    let mut there = order.clone();
    there.place = B.to_owned();
    assert_eq!(gce.create(&there).await.expect_err("not yet").class, Class::Ambiguous);
    delete(&gce, &order).await;
    gce.create(&there).await.expect("create");
    runs(&gce, &there).await;
    delete(&gce, &there).await;
    ground.nothing_is_left().await;
}

#[tokio::test]
async fn a_quota_names_its_metric_and_who_raises_it() {
    let ground = Ground::idle().await;
    let gce = ground.gce("jitney");
    let quotas = [("us-central1".to_owned(), BTreeMap::from([("N2_CPUS".to_owned(), 1.0)]))];
    ground.cloud.compute(|compute, _| compute.set_quotas(quotas.into()));
    let order = ground.order();
    gce.create(&order).await.expect("create");
    let end = ended(&gce, &order).await;
    assert_eq!(end.refused, Some(Class::Quota), "{end:?}");
    assert_eq!(end.fields["metric"], "N2_CPUS");
    assert!(
        end.cause.contains("1 is all") && end.cause.contains("quotas?project=sandbox-project"),
        "{end:?}"
    );
    delete(&gce, &order).await;
    ground.nothing_is_left().await;
}

#[tokio::test]
async fn every_kind_of_machine_is_taken_by_google() {
    let ground = Ground::idle().await;
    let gce = ground.gce("jitney");
    let vm = |disk_type: &str, attached_ssds, gvnic| {
        Some(Vm { disk_type: disk_type.to_owned(), disk_gib: 50, attached_ssds, gvnic })
    };
    for (machine_type, spot, vm) in [
        ("n2-custom-6-12288", false, vm("pd-balanced", 0, false)),
        ("n2-standard-16", true, vm("pd-ssd", 2, false)),
        ("n4-custom-4-16384", false, vm("hyperdisk-balanced", 0, true)),
        ("c3-standard-4-lssd", true, vm("pd-balanced", 0, true)),
        ("e2-standard-2", false, vm("pd-standard", 0, false)),
    ] {
        let mut order = ground.order();
        (order.machine_type, order.spot, order.vm) = (machine_type.to_owned(), spot, vm);
        gce.create(&order).await.unwrap_or_else(|error| panic!("{machine_type}: {error}"));
        runs(&gce, &order).await;
        let terminates = ground.cloud.compute(|compute, _| {
            compute.instance(A, &order.name).and_then(|instance| instance.terminates_at)
        });
        assert!(terminates.is_some(), "{machine_type} ends by itself");
        delete(&gce, &order).await;
    }
    ground.nothing_is_left().await;
}

#[tokio::test]
async fn a_zone_that_cannot_be_listed_is_unknown_and_not_empty() {
    let ground = Ground::idle().await;
    let gce = ground.gce("jitney");
    let order = ground.order();
    gce.create(&order).await.expect("create");
    runs(&gce, &order).await;
    let unreachable = |zones: &[&str]| {
        let unreachable_zones = zones.iter().map(|zone| (*zone).to_owned()).collect();
        ground.cloud.set_knobs(Knobs { unreachable_zones, ..Knobs::default() });
    };
    unreachable(&[A]);
    let listing = gce.list().await.expect("the other zone answers");
    assert!(!listing.complete);
    assert!(machine(&listing, &order).is_some(), "it is as it was last seen");
    unreachable(&[A, B]);
    gce.list().await.expect_err("no zone answers");
    ground.cloud.set_knobs(Knobs { partial_lists: 1, ..Knobs::default() });
    let partial = gce.list().await.map(|listing| listing.complete);
    assert_ne!(partial.ok(), Some(true), "a partial list is none");
    ground.cloud.set_knobs(Knobs { empty_pages: 2, ..Knobs::default() });
    let listing = gce.list().await.expect("an empty page is not the end");
    assert!(listing.complete && machine(&listing, &order).is_some());
    delete(&gce, &order).await;
}

#[tokio::test]
async fn zones_that_nobody_configures_any_more_are_swept_until_they_are_empty() {
    let ground = Ground::idle().await;
    let order = ground.order();
    ground.gce("jitney").create(&order).await.expect("create");
    let mut options = ground.options("jitney");
    options.settings.zones = vec![B.to_owned()];
    let gce = ground.of(options);
    runs(&gce, &order).await;
    delete(&gce, &order).await;
    gce.list().await.expect("a listing");
    let before = ground.lists_of(A);
    gce.list().await.expect("a listing");
    assert_eq!(ground.lists_of(A), before, "nobody looks there any more");
}

#[tokio::test]
async fn a_disk_that_is_left_behind_is_deleted() {
    let ground = Ground::idle().await;
    let gce = ground.gce("jitney");
    let order = ground.order();
    gce.create(&order).await.expect("create");
    runs(&gce, &order).await;
    ground.cloud.set_knobs(Knobs { leak_disks: 1, ..Knobs::default() });
    delete(&gce, &order).await;
    let disks = ground.cloud.compute(|compute, _| compute.disks().count());
    assert_eq!(disks, 1, "it was leaked");
    swept(&ground, &gce).await;
}

#[tokio::test]
async fn deletes_that_fail_later_are_seen_and_can_be_repeated() {
    let ground = Ground::idle().await;
    let gce = ground.gce("jitney");
    let order = ground.order();
    gce.create(&order).await.expect("create");
    // Also of one that is still being made.
    gce.delete(&order.name).await.expect("delete");
    until(&*gce, &order.name, "gone", |machine| machine.is_none()).await;
    let order = ground.order();
    gce.create(&order).await.expect("create");
    runs(&gce, &order).await;
    ground.cloud.set_knobs(Knobs { deletes_fail_ms: 3_600_000, ..Knobs::default() });
    gce.delete(&order.name).await.expect("taken");
    let listing = gce.list().await.expect("a listing");
    assert!(machine(&listing, &order).is_some(), "it is still there");
    ground.cloud.set_knobs(Knobs::default());
    delete(&gce, &order).await;
    ground.nothing_is_left().await;
}

#[tokio::test]
async fn a_job_costs_no_more_than_three_calls_beside_the_lists() {
    let ground = Ground::idle().await;
    let gce = ground.gce("jitney");
    let orders: Vec<Order> = (0..20).map(|_| ground.order()).collect();
    for order in &orders {
        gce.create(order).await.expect("create");
    }
    for order in &orders {
        runs(&gce, order).await;
    }
    for order in &orders {
        delete(&gce, order).await;
    }
    let of = |route: &str| ground.count(route);
    assert_eq!((of("compute.instances.insert"), of("compute.instances.delete")), (20, 20));
    assert_eq!((of("compute.instances.get"), of("compute.zoneOperations.get")), (0, 0));
    assert_eq!(of("compute.instances.getSerialPortOutput"), 0, "nobody had waited for long");
}

#[tokio::test]
async fn the_minute_is_kept_and_a_share_of_it_for_deletes() {
    let ground = Ground::idle().await;
    let mut options = ground.options("jitney");
    options.writes_per_minute = 4;
    let gce = ground.of(options);
    // Not across a minute's edge, where all may be asked for again.
    ground.away_from_the_edge().await;
    let orders: Vec<Order> = (0..4).map(|_| ground.order()).collect();
    for order in &orders[..3] {
        gce.create(order).await.expect("create");
    }
    let error = gce.create(&orders[3]).await.expect_err("three of four are for inserts");
    assert_eq!(error.class, Class::Rate);
    assert!(error.retry_after.is_some_and(|wait| wait <= Duration::from_secs(63)), "{error:?}");
    let listing = gce.list().await.expect("a listing");
    assert!(machine(&listing, &orders[3]).is_none(), "it was not asked for");
    gce.delete(&orders[0].name).await.expect("the share of deletes");
    let refused =
        ground.cloud.requests().iter().filter(|request| request.status == Some(403)).count();
    assert_eq!(refused, 0, "Google refused none");
}

#[tokio::test]
async fn what_google_refuses_for_its_rate_waits_for_the_next_minute() {
    let ground = Ground::idle().await;
    let gce = ground.gce("jitney");
    ground.away_from_the_edge().await;
    ground.cloud.compute(|compute, _| compute.rates = Rates { writes: 1, ..Rates::default() });
    gce.create(&ground.order()).await.expect("create");
    for _ in 0..2 {
        let error = gce.create(&ground.order()).await.expect_err("too many");
        assert_eq!(error.class, Class::Rate, "{error}");
        assert!(error.retry_after.is_some(), "{error:?}");
    }
    assert_eq!(ground.count("compute.instances.insert"), 2, "the second refusal is our own");
}

#[tokio::test]
async fn operations_that_fail_in_other_ways_are_told() {
    let ground = Ground::idle().await;
    let gce = ground.gce("jitney");
    for (code, class) in [
        ("IP_SPACE_EXHAUSTED_WITH_DETAILS", Class::Quota),
        ("INVALID_FIELD_VALUE", Class::Rejected),
        ("INTERNAL_ERROR", Class::Capacity),
    ] {
        let fail_inserts =
            FailedInserts { code: code.to_owned(), message: None, times: 1, zone: None };
        ground.cloud.set_knobs(Knobs { fail_inserts: Some(fail_inserts), ..Knobs::default() });
        let order = ground.order();
        gce.create(&order).await.expect("create");
        assert_eq!(ended(&gce, &order).await.refused, Some(class), "{code}");
        delete(&gce, &order).await;
    }
}

#[tokio::test]
async fn calls_bear_a_token_of_the_account_and_a_stale_one_is_replaced() {
    let ground = Ground::idle_with(|settings| settings.need_token = true).await;
    let anonymous = ground.gce("jitney");
    assert_eq!(anonymous.list().await.expect_err("no token").class, Class::Denied);
    let key = ground.cloud.credentials("service_account").expect("a key");
    let scopes =
        service_account::AccessSpecifier::from_scopes(["https://www.googleapis.com/auth/compute"]);
    let credentials = service_account::Builder::new(key)
        .with_access_specifier(scopes)
        .build_access_token_credentials()
        .expect("a good key");
    let mut options = ground.options("jitney");
    options.access = Access::Of(credentials);
    let gce = ground.of(options);
    let order = ground.order();
    gce.create(&order).await.expect("create");
    runs(&gce, &order).await;
    ground.cloud.add_fault(Fault {
        route: "compute.instances.delete".to_owned(),
        times: Some(1),
        status: Some(401),
        ..Fault::default()
    });
    delete(&gce, &order).await;
}

#[tokio::test]
async fn the_policy_of_an_organisation_is_named() {
    let ground = Ground::idle().await;
    let mut options = ground.options("jitney");
    options.settings.template = json!({"shieldedInstanceConfig": {"enableSecureBoot": false}});
    let gce = ground.of(options);
    let constraint = sandbox::cloud::compute::Constraint::ShieldedVm;
    ground.cloud.compute(|compute, _| compute.constraints = [constraint].into());
    let error = gce.create(&ground.order()).await.expect_err("it is not allowed");
    assert_eq!(error.class, Class::Denied);
    assert!(error.words.contains("constraints/compute.requireShieldedVm"), "{error}");
}

#[tokio::test]
async fn a_machine_that_failed_is_kept_for_a_look_and_goes_then() {
    let ground = Ground::idle().await;
    let mut options = ground.options("jitney");
    options.keep_failed = Duration::from_secs(2);
    // All that are up have had their time.
    options.settings.connect_within = Duration::ZERO;
    let gce = ground.of(options);
    let order = ground.order();
    gce.create(&order).await.expect("create");
    runs(&gce, &order).await;
    delete(&gce, &order).await;
    let there = || ground.cloud.compute(|compute, _| compute.instance(A, &order.name).is_some());
    assert!(there(), "it is there, and in no list");
    gce.delete(&order.name).await.expect_err("it is ours no more");
    assert!(there());
    swept(&ground, &gce).await;
}

/// The permissions of the role that the setup makes, and the one that is given on the machines'
/// account alone.
pub(super) fn role() -> BTreeSet<String> {
    let role = include_str!("../../../../../deploy/google-cloud/role.yaml");
    let listed = role.lines().filter_map(|line| line.trim().strip_prefix("- "));
    listed.chain(["iam.serviceAccounts.actAs"]).map(str::to_owned).collect()
}

#[tokio::test]
async fn the_documented_role_is_enough_for_all_of_it() {
    let ground = Ground::idle().await;
    let grants = Grants { everybody: Some(role()), ..Grants::default() };
    ground.cloud.compute(|compute, _| compute.grants = grants);
    let mut options = ground.options("jitney");
    options.settings.connect_within = Duration::ZERO;
    let gce = ground.of(options.clone());
    let order = ground.order();
    gce.create(&order).await.expect("create");
    runs(&gce, &order).await;
    ground.cloud.set_knobs(Knobs { leak_disks: 1, ..Knobs::default() });
    delete(&gce, &order).await;
    assert!(ground.count("compute.instances.getSerialPortOutput") > 0, "its last words were read");
    options.keep_failed = Duration::from_secs(1);
    let keeps = ground.of(options);
    let order = ground.order();
    keeps.create(&order).await.expect("create");
    runs(&keeps, &order).await;
    delete(&keeps, &order).await;
    swept(&ground, &keeps).await;
    let refused: Vec<String> = ground
        .cloud
        .requests()
        .iter()
        .filter(|request| request.status == Some(403))
        .map(|request| request.route.clone())
        .collect();
    assert_eq!(refused, Vec::<String>::new());
}
