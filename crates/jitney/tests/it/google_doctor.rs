//! `doctor` before the first virtual machine, against the sandbox's Google: what it finds well, and
//! each thing that can be wrong, with the remedy beside it.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::{BTreeMap, BTreeSet};

use sandbox::cloud::compute::{Compute, Grants, Image, Knobs, Settings};
use sandbox::cloud::{Cloud, Options};

use crate::cli_support::jitney_with;
use crate::shell_support::World;

const IMAGE: &str = "projects/debian-cloud/global/images/debian-12-bookworm-v20261110";
const SUBNETWORK: &str = "projects/sandbox-project/regions/us-central1/subnetworks/ci";
const ACCOUNT: &str = "ci-agent@sandbox-project.iam.gserviceaccount.com";

struct Clinic {
    world: World,
    cloud: Cloud,
    /// Keys of the backend, beside those that it needs.
    keys: BTreeMap<&'static str, String>,
}

/// One finding: its level, its check, what was found, what to do.
type Finding = [String; 4];

impl Clinic {
    async fn open() -> Self {
        Self::with(|_| ()).await
    }

    async fn with(change: impl FnOnce(&mut Settings)) -> Self {
        let mut settings = Settings::default();
        change(&mut settings);
        let cloud = Cloud::start(Options { settings, ..Options::default() }).await.unwrap();
        let world = World::new().await;
        let keys = [
            ("zones", "[us-central1-a, us-central1-b]".to_owned()),
            ("families", "[n2, e2]".to_owned()),
            ("image", "projects/debian-cloud/global/images/family/debian-12".to_owned()),
            ("service_account", ACCOUNT.to_owned()),
            ("subnetworks", format!("{{ us-central1: {SUBNETWORK} }}")),
            ("credentials", "anonymous".to_owned()),
            ("endpoint", format!("\"{}\"", cloud.url())),
        ];
        Self { world, cloud, keys: keys.into() }
    }

    /// What it finds of the backend, and how the command ends.
    async fn doctor(&mut self, code: i32) -> Vec<Finding> {
        self.doctor_with(code, &[]).await
    }

    async fn doctor_with(&mut self, code: i32, environment: &[(&str, &str)]) -> Vec<Finding> {
        let keys: Vec<String> =
            self.keys.iter().map(|(key, value)| format!("{key}: {value}")).collect();
        self.world.queues = self.world.queues.replace("[there]", "[vms]");
        self.world.backends = format!(
            "vms: {{ gce: {{ project: sandbox-project, token_delivery: metadata, {} }} }}",
            keys.join(", ")
        );
        let file = self.world.folder.path().join("jitney.yaml");
        std::fs::write(&file, self.world.yaml()).unwrap();
        let args = ["doctor", "--json", "--config", &file.display().to_string()];
        let ran = jitney_with(&args, environment, self.world.folder.path()).await;
        let json = ran.expect(code).json();
        let findings = json["findings"].as_array().unwrap().iter();
        let of_vms = findings.map(|of| {
            ["level", "check", "found", "remedy"]
                .map(|key| of[key].as_str().unwrap_or_default().to_owned())
        });
        of_vms.filter(|[_, check, ..]| check.contains("vms")).collect()
    }

    fn compute(&self, change: impl FnOnce(&mut Compute)) {
        self.cloud.compute(|compute, _| change(compute));
    }

    fn quotas(&self, place: &str, metrics: &[(&str, f64)]) {
        let quotas = metrics.iter().map(|(metric, limit)| ((*metric).to_owned(), *limit));
        let quotas = BTreeMap::from([(place.to_owned(), quotas.collect())]);
        self.compute(|compute| compute.set_quotas(quotas));
    }

    /// Nobody may do this to that.
    fn deny(&self, resource: &str, permission: &str) {
        let denied = [(resource.to_owned(), BTreeSet::from([permission.to_owned()]))].into();
        self.compute(|compute| compute.grants = Grants { denied, ..Grants::default() });
    }
}

/// One of the findings is this, and nothing else is not well.
#[track_caller]
fn check(findings: &[Finding], level: &str, check: &str, found: &str, remedy: &str) {
    let unwell: Vec<&Finding> = findings.iter().filter(|[level, ..]| level != "ok").collect();
    let [[its_level, its_check, its_found, its_remedy]] = unwell.as_slice() else {
        panic!("one finding is expected: {findings:#?}")
    };
    assert_eq!((its_level.as_str(), its_check.as_str()), (level, check), "{findings:#?}");
    assert!(its_found.contains(found), "{found}: {its_found}");
    assert!(its_remedy.contains(remedy), "{remedy}: {its_remedy}");
}

#[tokio::test(flavor = "multi_thread")]
async fn doctor_finds_all_well_with_google_and_only_looks() {
    let mut clinic = Clinic::open().await;
    clinic.quotas("us-central1", &[("N2_CPUS", 100.0), ("INSTANCES", 50.0), ("IMAGES", 9.0)]);
    clinic.world.more = "limits: { machines: 50, cpu: 90 }".into();
    clinic.compute(|compute| {
        // All that the backend's machines and a look take, and nothing more.
        let role = include_str!("../../../../deploy/google-cloud/role.yaml");
        let listed = role.lines().filter_map(|line| line.trim().strip_prefix("- "));
        let granted = listed.chain(["iam.serviceAccounts.actAs"]).map(str::to_owned).collect();
        compute.grants = Grants { everybody: Some(granted), ..Grants::default() };
    });
    let findings = clinic.doctor(0).await;
    for expected in [
        "backend vms|project sandbox-project at ",
        "vms: permissions|project sandbox-project: we may do all that we have to",
        "vms: service account|ci-agent@",
        "vms: subnetwork|subnetwork ci in us-central1 of sandbox-project: we may",
        "vms: image|image family/debian-12 of debian-cloud: we may",
        "vms: zones|us-central1-a, us-central1-b are up",
        "vms: families|n2, e2 are in all zones",
        "vms: quotas|us-central1: INSTANCES 0 of 50, N2_CPUS 0 of 100 are used",
    ] {
        let (check, found) = expected.split_once('|').unwrap();
        let is = |of: &&Finding| of[0] == "ok" && of[1] == check && of[2].starts_with(found);
        assert!(findings.iter().any(|of| is(&of)), "{expected}: {findings:#?}");
    }
    assert!(findings.iter().all(|of| of[0] == "ok"), "{findings:#?}");
    for request in clinic.cloud.requests() {
        let asks = request.method == "GET" || request.route.ends_with(".testIamPermissions");
        assert!(asks, "{} {}", request.method, request.route);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn doctor_names_each_permission_that_is_missing_and_who_gives_it() {
    let mut clinic = Clinic::open().await;
    for (resource, permission, title, remedy) in [
        (
            "projects/sandbox-project",
            "compute.instances.setMetadata",
            "permissions",
            "gcloud iam roles update jitney --project=sandbox-project --add-permissions=compute.instances.setMetadata",
        ),
        (
            SUBNETWORK,
            "compute.subnetworks.use",
            "subnetwork",
            "gcloud compute networks subnets add-iam-policy-binding ci --project=sandbox-project --region=us-central1 --member=serviceAccount:ACCOUNT --role=roles/compute.networkUser",
        ),
        (
            IMAGE,
            "compute.images.useReadOnly",
            "image",
            "gcloud projects add-iam-policy-binding debian-cloud --member=serviceAccount:ACCOUNT --role=roles/compute.imageUser",
        ),
        (
            IMAGE,
            "compute.images.getFromFamily",
            "image",
            "gcloud projects add-iam-policy-binding debian-cloud ",
        ),
        (
            "projects/-/serviceAccounts/ci-agent@sandbox-project.iam.gserviceaccount.com",
            "iam.serviceAccounts.actAs",
            "service account",
            "gcloud iam service-accounts add-iam-policy-binding ci-agent@sandbox-project.iam.gserviceaccount.com --project=sandbox-project --member=serviceAccount:ACCOUNT --role=roles/iam.serviceAccountUser",
        ),
    ] {
        clinic.deny(resource, permission);
        let findings = clinic.doctor(4).await;
        let words = format!("we may not {permission}");
        check(&findings, "wrong", &format!("vms: {title}"), &words, remedy);
    }
    clinic.deny(SUBNETWORK, "compute.subnetworks.useExternalIp");
    assert!(clinic.doctor(0).await.iter().all(|of| of[0] == "ok"), "nobody needs it");
    clinic.keys.insert("external_ip", "true".to_owned());
    let findings = clinic.doctor(4).await;
    let words = "we may not compute.subnetworks.useExternalIp";
    check(&findings, "wrong", "vms: subnetwork", words, "networkUser");
}

#[tokio::test(flavor = "multi_thread")]
async fn doctor_finds_what_is_not_there() {
    let mut clinic = Clinic::open().await;
    for (key, value, title, found, remedy) in [
        (
            "zones",
            "[us-central1-a, us-central1-x]",
            "zones",
            "there is no zone us-central1-x",
            "did you mean us-central1-",
        ),
        (
            "image",
            "projects/debian-cloud/global/images/family/nosuch",
            "image",
            "family/nosuch of debian-cloud is not there",
            "backends.vms.gce",
        ),
        (
            "image",
            "projects/debian-cloud/nosuch",
            "path",
            "neither the path of an image",
            "global/images/family/F",
        ),
        (
            "service_account",
            "nosuch@sandbox-project.iam.gserviceaccount.com",
            "service account",
            "nosuch@sandbox-project.iam.gserviceaccount.com is not there",
            "backends.vms.gce",
        ),
        (
            "subnetworks",
            "{ us-central1: regions/us-central1/subnetworks/nosuch }",
            "subnetwork",
            "subnetwork nosuch in us-central1 of sandbox-project is not there",
            "backends.vms.gce",
        ),
    ] {
        let before = clinic.keys.insert(key, value.to_owned()).unwrap();
        let mut findings = clinic.doctor(4).await;
        // A zone that is not there cannot be listed either.
        findings.retain(|of| title != "zones" || of[1] == "vms: zones");
        check(&findings, "wrong", &format!("vms: {title}"), found, remedy);
        clinic.keys.insert(key, before);
    }
    clinic
        .cloud
        .set_knobs(Knobs { zones_down: ["us-central1-b".to_owned()].into(), ..Knobs::default() });
    check(&clinic.doctor(0).await, "warning", "vms: zones", "us-central1-b is DOWN", "nothing:");
    clinic.cloud.set_knobs(Knobs {
        families_missing: [("us-central1-b".to_owned(), ["n2".to_owned()].into())].into(),
        ..Knobs::default()
    });
    let findings = clinic.doctor(0).await;
    let remedy = "gcloud compute machine-types list --project=sandbox-project --zones=us-central1-b --filter=name:n2-*";
    check(&findings, "warning", "vms: families", "us-central1-b has no n2", remedy);
}

#[tokio::test(flavor = "multi_thread")]
async fn doctor_holds_quotas_against_the_limits() {
    let mut clinic = Clinic::open().await;
    clinic.keys.insert("external_ip", "true".to_owned());
    clinic.world.queues =
        "{ default: { backends: [there], defaults: { disk: 50G }, largest: { local-ssd: 2 } } }"
            .into();
    clinic.world.more = "limits: { machines: 100, cpu: 400 }".into();
    let enough = [
        ("INSTANCES", 100.0),
        ("CPUS", 300.0),
        ("N2_CPUS", 100.0),
        ("SSD_TOTAL_GB", 5_000.0),
        ("IN_USE_ADDRESSES", 100.0),
        ("LOCAL_SSD_TOTAL_GB", 750.0),
        ("PREEMPTIBLE_CPUS", 0.0),
    ];
    clinic.quotas("us-central1", &enough);
    assert!(clinic.doctor(0).await.iter().all(|of| of[0] == "ok"));
    for (metric, less, found, remedy) in [
        (
            "INSTANCES",
            24.0,
            "INSTANCES of us-central1: 24, and the limits allow 100 machines",
            ask("INSTANCES", 100),
        ),
        (
            "CPUS",
            200.0,
            "CPUS and N2_CPUS of us-central1: 300, and the limits allow 400 vCPU",
            ask("CPUS", 400),
        ),
        (
            "SSD_TOTAL_GB",
            500.0,
            "SSD_TOTAL_GB of us-central1: 500, and the limits allow 5000 GB of disks, 50 for each",
            ask("SSD-TOTAL-GB", 5_000),
        ),
        (
            "IN_USE_ADDRESSES",
            8.0,
            "8, and the limits allow 100 external addresses",
            ask("IN-USE-ADDRESSES", 100),
        ),
        (
            "LOCAL_SSD_TOTAL_GB",
            375.0,
            "375, and the limits allow 750 GB of local SSDs",
            ask("LOCAL-SSD-TOTAL-GB", 750),
        ),
    ] {
        let mut quotas = enough;
        for quota in &mut quotas {
            if quota.0 == metric {
                quota.1 = less;
            }
        }
        clinic.quotas("us-central1", &quotas);
        check(&clinic.doctor(0).await, "warning", "vms: quotas", found, &remedy);
    }
}

/// The command that asks for so much.
fn ask(id: &str, value: u32) -> String {
    format!(
        "gcloud beta quotas preferences create --project=sandbox-project --service=compute.googleapis.com --quota-id={id}-per-project-region --preferred-value={value} --dimensions=region=us-central1"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn doctor_looks_at_the_projects_quota_at_families_without_any_and_at_spots() {
    let mut clinic = Clinic::open().await;
    clinic.world.more = "limits: { machines: 100, cpu: 400 }".into();
    clinic.quotas("global", &[("CPUS_ALL_REGIONS", 32.0)]);
    let remedy = "--quota-id=CPUS-ALL-REGIONS-per-project --preferred-value=400, or";
    check(
        &clinic.doctor(0).await,
        "warning",
        "vms: quotas",
        "CPUS_ALL_REGIONS of the whole project: 32",
        remedy,
    );
    // A family of which nothing is allowed, with no limits to compare.
    clinic.world.more = String::new();
    clinic.quotas("us-central1", &[("N2_CPUS", 0.0), ("CPUS", 24.0)]);
    let found = "N2_CPUS is 0 in us-central1: no n2 is made there";
    check(&clinic.doctor(0).await, "warning", "vms: quotas", found, &ask("N2-CPUS", 100));
    // A queue that takes spot alone.
    clinic.world.queues = "{ default: { backends: [there], spot: require } }".into();
    clinic.world.more = "limits: { cpu: 40 }".into();
    clinic.quotas("us-central1", &[("N2_CPUS", 20.0), ("CPUS", 20.0), ("PREEMPTIBLE_CPUS", 16.0)]);
    let found = "PREEMPTIBLE_CPUS of us-central1: 16, and the limits allow 40 vCPU";
    check(&clinic.doctor(0).await, "warning", "vms: quotas", found, &ask("PREEMPTIBLE-CPUS", 40));
}

#[tokio::test(flavor = "multi_thread")]
async fn doctor_finds_images_that_are_too_large_and_subnetworks_that_are_too_small() {
    let large = Image {
        project: "sandbox-project".to_owned(),
        name: "large".to_owned(),
        family: None,
        disk_size_gb: 64,
        architecture: "X86_64".to_owned(),
    };
    let mut clinic = Clinic::with(|settings| settings.images.push(large)).await;
    clinic.keys.insert(
        "images",
        "{ large: global/images/large, \"ci-*\": \"global/images/$0\" }".to_owned(),
    );
    let found = "image large of sandbox-project takes a disk of 64 GiB";
    check(&clinic.doctor(0).await, "warning", "vms: image", found, "defaults: { disk: 64G }");
    clinic.world.queues = "{ default: { backends: [there], defaults: { disk: 64G } } }".into();
    clinic.world.more = "limits: { machines: 300000 }".into();
    let findings = clinic.doctor(0).await;
    let found = "has addresses for 262140 machines, and the limits allow 300000";
    let remedy = "gcloud compute networks subnets expand-ip-range ci --project=sandbox-project --region=us-central1 --prefix-length=13";
    check(&findings, "warning", "vms: subnetwork", found, remedy);
}

#[tokio::test(flavor = "multi_thread")]
async fn doctor_says_once_that_nobody_answers_and_that_there_are_no_credentials() {
    let mut clinic = Clinic::open().await;
    clinic.keys.insert("endpoint", "\"http://127.0.0.1:9\"".to_owned());
    let findings = clinic.doctor(4).await;
    check(&findings, "wrong", "backend vms", "Google cannot be reached", "gce.endpoint");
    clinic.keys.insert("endpoint", format!("\"{}\"", clinic.cloud.url()));
    clinic.keys.insert("credentials", "default".to_owned());
    let file = clinic.world.folder.path().join("broken.json");
    std::fs::write(&file, "{}").unwrap();
    let file = file.display().to_string();
    let findings = clinic.doctor_with(4, &[("GOOGLE_APPLICATION_CREDENTIALS", &file)]).await;
    let words = "no credentials for Google are found";
    check(&findings, "wrong", "backend vms", words, "GOOGLE_APPLICATION_CREDENTIALS");
}

#[tokio::test(flavor = "multi_thread")]
async fn doctor_without_a_right_to_look_says_what_it_could_not_see() {
    let mut clinic = Clinic::open().await;
    let none = Grants { everybody: Some(BTreeSet::new()), ..Grants::default() };
    clinic.compute(|compute| compute.grants = none);
    let findings = clinic.doctor(4).await;
    for (level, check, found) in [
        ("wrong", "backend vms", "compute.instances.list"),
        ("wrong", "vms: permissions", "we may not compute.instances.create, "),
        ("wrong", "vms: image", "we may not compute.images.getFromFamily"),
        ("warning", "vms: zones", "nobody says which zones there are"),
        ("warning", "vms: families", "nobody says which machine types us-central1-a has"),
        ("warning", "vms: quotas", "nobody says what the quotas of us-central1 are"),
    ] {
        let is = |of: &Finding| of[0] == level && of[1] == check && of[2].contains(found);
        let of = findings.iter().find(|of| is(of));
        let of = of.unwrap_or_else(|| panic!("{check}: {findings:#?}"));
        assert!(!of[3].is_empty(), "what to do? {of:?}");
    }
}
