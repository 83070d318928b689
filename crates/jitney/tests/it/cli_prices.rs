//! `jitney prices`, and what `jitney plan` says of virtual machines.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use crate::cli_support::{Ran, jitney};
use crate::rules::repository;

/// A configuration with virtual machines, in a folder of its own.
struct Folder(tempfile::TempDir);

impl Folder {
    fn new(zones: &str, rest: &str) -> Self {
        Self::with(&format!(
            "buildkite: {{ token: t }}\n\
             queues: {{ jit: {{ backends: [vms], defaults: {{ time: 1h }} }} }}\n\
             backends: {{ vms: {{ gce: {{ project: p, zones: [{zones}], families: [n2d, n2, e2, c3], \
             token_delivery: metadata }} }} }}\n{rest}\n"
        ))
    }

    fn with(configuration: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("jitney.yaml"), configuration).unwrap();
        Self(folder)
    }

    fn file(self, name: &str, text: &str) -> Self {
        std::fs::write(self.0.path().join(name), text).unwrap();
        self
    }

    async fn run(&self, args: &[&str]) -> Ran {
        jitney(args, self.0.path()).await
    }
}

fn page(name: &str) -> String {
    std::fs::read_to_string(repository().join("docs").join(name)).unwrap()
}

/// The first of such a page's blocks in this language, from its first line on.
fn block<'p>(page: &'p str, language: &str) -> &'p str {
    page.split(&format!("```{language}\n")).nth(1).unwrap().split("```").next().unwrap()
}

/// What a page shows of a plan: without what it says once for all of them.
fn shown(plan: &str) -> String {
    let all = ["Queue ", "The agent's tags: ", "Prices are of ", "  passed over on "];
    let lines = plan.lines().filter(|line| {
        !line.is_empty() && !all.iter().any(|beginning| line.starts_with(beginning))
    });
    lines.map(|line| format!("{line}\n")).collect()
}

/// Each command of the page is run with the page's configuration, and prints what the page shows.
#[tokio::test]
async fn the_pages_shapes_come_out_as_it_shows_them() {
    let page = page("machine-shapes.md");
    let folder = Folder::with(block(&page, "yaml"));
    let blocks: Vec<&str> = page.split("```text\n$ jitney ").skip(1).collect();
    assert!(blocks.len() >= 10, "{} shapes", blocks.len());
    for block in blocks {
        let (block, _) = block.split_once("```").unwrap();
        let (command, expected) = block.split_once('\n').unwrap();
        let args: Vec<&str> = command.split(' ').collect();
        let none = expected.starts_with("No machine");
        let ran = folder.run(&args).await.expect(if none { 4 } else { 0 });
        assert_eq!(shown(&ran.out), expected, "jitney {command} prints the first");
    }
}

#[tokio::test]
async fn a_plan_says_why_families_are_passed_over_and_how_far_prices_can_be_trusted() {
    let folder = Folder::new("europe-west4-a, asia-east1-a", "");
    let args = ["plan", "cpu=4", "memory=16G", "local-ssd=1"];
    let ran = folder.run(&args).await.expect(0);
    for part in [
        "passed over on vms: e2 has no local SSDs.",
        "Prices are of 2026-08-03, with the boot disk. Those of spot machines change",
        "* The list lacks this price for asia-east1;",
        "A JOB OF 1H",
        "n2d-standard-4 (4 vCPU, 16 GiB, 1 local ",
    ] {
        assert!(ran.out.contains(part), "{part}: {}", ran.out);
    }
    let json = folder.run(&[&args[..], &["--json"]].concat()).await.expect(0).json();
    let step = &json["steps"][0];
    assert_eq!(step["passed_over"][0]["why"], "e2 has no local SSDs.");
    let offers = step["offers"].as_array().unwrap();
    let of = |region: &str| offers.iter().find(|offer| offer["vm"]["region"] == region).unwrap();
    let here = &of("europe-west4")["vm"];
    assert_eq!((&here["priced"], &here["disk_type"]), (&true.into(), &"pd-balanced".into()));
    assert!(of("europe-west4")["expected_micros"].as_u64() > Some(0));
    assert_eq!(of("asia-east1")["vm"]["priced"], false);
}

#[tokio::test]
async fn prices_need_no_configuration() {
    let folder = tempfile::tempdir().unwrap();
    let ran = jitney(&["prices", "--region", "europe-west4"], folder.path()).await.expect(0);
    for part in [
        "Machine families, as of 2026-11-06",
        "c4d",
        "europe-west4; a GiB for a month",
        "0.034802",
        "A custom type costs 5.0 % more, extended memory 225.4 % of other memory.",
    ] {
        assert!(ran.out.contains(part), "{part}: {}", ran.out);
    }
    assert!(!ran.out.contains("us-central1"), "{}", ran.out);
    let json = jitney(&["prices", "--json"], folder.path()).await.expect(0).json();
    assert_eq!(json["prices"]["regions"]["us-central1"]["families"]["e2"]["cpu"], "0.021812");
    assert_eq!(json["families"]["preempted_per_day"], "15.0%");
    let ran = jitney(&["prices", "--region", "mars-east1"], folder.path()).await.expect(4);
    let known = "no prices for mars-east1, only for europe-west1, europe-west4";
    assert!(ran.err.contains(known), "{}", ran.err);
    jitney(&["prices", "--config", "nowhere.yaml"], folder.path()).await.expect(2);
}

#[tokio::test]
async fn prices_of_ones_own_count() {
    let own = "as_of: 2026-11-20\nregions: { europe-west4: { families: { n2: { cpu: 0.001, \
               memory: 0, spot_cpu: 0.001, spot_memory: 0 } } } }\n";
    let rest = "prices: { file: own.yaml, discount: 50% }";
    let folder = Folder::new("europe-west4-a", rest).file("own.yaml", own);
    let args = ["plan", "--json", "cpu=4", "memory=16G", "spot=never"];
    let json = folder.run(&args).await.expect(0).json();
    let first = &json["steps"][0]["offers"][0];
    assert_eq!(first["machine_type"], "n2-standard-4");
    // (4 * 0.001 + 20 * 0.11 / 730) / 2
    assert_eq!(first["price_micros_per_hour"], 3_507);
    let ran = folder.run(&["prices", "--region", "europe-west4"]).await.expect(0);
    let told = ran.out.contains("as of 2026-11-20") && ran.out.contains("50.0 % are taken off");
    assert!(told, "{}", ran.out);
}

/// What `check-config` says first of such a configuration: the key and the words.
async fn refused(folder: Folder) -> String {
    let json = folder.run(&["check-config", "--json", "jitney.yaml"]).await.expect(2).json();
    let error = &json["errors"][0];
    format!("{}: {}", error["key"].as_str().unwrap(), error["message"].as_str().unwrap())
}

async fn check_refused(rest: &str, own: &str, words: &str) {
    let said = refused(Folder::new("europe-west4-a", rest).file("own.yaml", own)).await;
    assert!(said.contains(words), "{said}");
}

#[tokio::test]
async fn tables_that_do_not_fit_are_refused_by_key() {
    let file = "prices: { file: own.yaml }";
    let much = "as_of: x\nregions: { r: { families: { n2: { cpu: much } } } }";
    let words =
        "prices.file: line 2, column 40 of own.yaml: \"much\" is not an amount: write 0.021812";
    check_refused(file, much, words).await;
    check_refused(file, "as_of: x\ncolour: red", "colour").await;
    let said = refused(Folder::new("europe-west4-a", file).file("own.yaml", "")).await;
    assert!(said.contains("own.yaml: ") && !said.contains("line 0"), "{said}");
    check_refused("prices: { file: nowhere.yaml }", "", "nowhere.yaml cannot be read").await;
    let euros = "prices.currency: EUR is asked for, and the list of prices is in USD";
    check_refused("prices: { currency: EUR }", "", euros).await;
    let none =
        "as_of: x\nfamilies: { n2: { arch: amd64, nic: virtio, quota: Q, disks: [pd-balanced] } }";
    let words =
        "prices.file: family n2 makes no machine: it has neither custom types nor predefined ones";
    check_refused(file, none, words).await;

    let slip = refused(Folder::with(
        "buildkite: { token: t }\nqueues: { jit: { backends: [vms] } }\nbackends: { vms: { gce: { \
         project: p, zones: [us-east1-b], families: [n22], token_delivery: metadata } } }\n",
    ));
    assert_eq!(slip.await, "backends.vms.gce.families: n22 is no family");
}

/// The page's file of one's own is one.
#[tokio::test]
async fn the_pages_own_prices_are_read() {
    let page = page("google-cloud.md");
    let rest = "prices: { file: own.yaml }";
    let folder = Folder::new("asia-east1-a", rest).file("own.yaml", block(&page, "yaml"));
    let args = ["plan", "--json", "cpu=4", "memory=16G", "family=n2"];
    let json = folder.run(&args).await.expect(0).json();
    assert_eq!(json["steps"][0]["offers"][0]["vm"]["priced"], true);
}
