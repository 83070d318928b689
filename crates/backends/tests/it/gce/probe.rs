//! A look before the first job: it changes nothing, and each permission that is not there is named.

use std::collections::BTreeSet;

use backends::Backend;
use backends::gce::{Probe, Subject};
use sandbox::cloud::compute::{Grants, Knobs};

use super::ground::{A, Ground};
use super::trouble::role;

/// What a probe names as lacking, and what it could not look at.
fn lacks(probe: &Probe) -> (BTreeSet<String>, Vec<String>) {
    let missing = probe.rights.iter().filter_map(|right| right.missing.as_ref().ok()).flatten();
    let mut failed: Vec<String> = probe
        .rights
        .iter()
        .filter_map(|right| Some(right.missing.as_ref().err()?.words.clone()))
        .collect();
    failed.extend(probe.zones.as_ref().err().map(|error| error.words.clone()));
    failed.extend(probe.machines.values().filter_map(|it| Some(it.as_ref().err()?.words.clone())));
    failed.extend(probe.families.values().filter_map(|it| Some(it.as_ref().err()?.words.clone())));
    failed.extend(probe.quotas.values().filter_map(|it| Some(it.as_ref().err()?.words.clone())));
    (missing.cloned().collect(), failed)
}

#[tokio::test]
async fn a_probe_leaves_alone_what_a_list_would_sweep() {
    let ground = Ground::idle().await;
    let gce = ground.gce("jitney");
    let order = ground.order();
    gce.create(&order).await.expect("create");
    ground.cloud.set_knobs(Knobs { leak_disks: 1, ..Knobs::default() });
    gce.delete(&order.name).await.expect("delete");
    let leaked = |compute: &sandbox::cloud::compute::Compute| {
        let gone = compute.instance(A, &order.name).is_none();
        (gone && compute.disks().count() == 1).then_some(())
    };
    ground.cloud.until(leaked).await;
    let before = ground.cloud.requests().len();
    // With a disk age of nothing, the first list of a backend deletes it.
    let probe = ground.gce("jitney").probe().await;
    assert_eq!(lacks(&probe), (BTreeSet::new(), Vec::new()));
    assert_eq!(ground.cloud.compute(|compute, _| compute.disks().count()), 1);
    for request in &ground.cloud.requests()[before..] {
        let asks = request.method == "GET" || request.route.ends_with(".testIamPermissions");
        assert!(asks, "{} {}", request.method, request.route);
    }
    ground.gce("jitney").list().await.expect("a listing");
    ground.nothing_is_left().await;
}

#[tokio::test]
async fn each_permission_of_the_documented_role_is_missed_when_it_is_taken_away() {
    let ground = Ground::idle().await;
    let mut options = ground.options("jitney");
    options.settings.template = serde_json::json!({ "tags": { "items": ["ci"] } });
    options.settings.images = [("own".to_owned(), "bk-agent-1".to_owned())].into();
    let gce = ground.of(options);
    let grant = |granted: BTreeSet<String>| {
        let grants = Grants { everybody: Some(granted), ..Grants::default() };
        ground.cloud.compute(|compute, _| compute.grants = grants);
    };
    grant(role());
    assert_eq!(lacks(&gce.probe().await), (BTreeSet::new(), Vec::new()), "the role is enough");
    for permission in role() {
        let mut rest = role();
        rest.remove(&permission);
        grant(rest);
        let probe = gce.probe().await;
        let (missing, failed) = lacks(&probe);
        let named = missing.contains(&permission)
            || failed.iter().any(|words| words.contains(&permission))
            // That an image or a subnetwork cannot be looked at hides its size, and no more.
            || probe.rights.iter().any(|right| hides(&right.subject) && right.size.is_none());
        assert!(named, "{permission}: {missing:?} {failed:?}");
    }
}

fn hides(subject: &Subject) -> bool {
    matches!(subject, Subject::Image { .. } | Subject::Subnetwork { .. })
}

#[tokio::test]
async fn an_image_of_another_project_and_a_subnetwork_are_asked_about_where_they_are() {
    let ground = Ground::idle().await;
    let gce = ground.gce("jitney");
    let image = "projects/debian-cloud/global/images/debian-12-bookworm-v20261110";
    let subnetwork = "projects/sandbox-project/regions/us-central1/subnetworks/ci";
    for (resource, permission) in
        [(image, "compute.images.useReadOnly"), (subnetwork, "compute.subnetworks.use")]
    {
        let denied = [(resource.to_owned(), [permission.to_owned()].into())].into();
        let grants = Grants { denied, ..Grants::default() };
        ground.cloud.compute(|compute, _| compute.grants = grants);
        let (missing, failed) = lacks(&gce.probe().await);
        assert_eq!((missing, failed), ([permission.to_owned()].into(), Vec::new()));
        // What is named there is what an insert then fails for.
        let error = gce.create(&ground.order()).await.expect_err("it is refused");
        assert!(error.words.contains(permission), "{error}");
    }
}
