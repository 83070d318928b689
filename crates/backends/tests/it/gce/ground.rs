//! A cloud whose machines are processes, with play agents in them, and the door that their guests
//! come in by.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use backends::conformance::{self, MARK, until};
use backends::gce::{Access, Answer, Delivery, Door, Gce, Options, Pauses, Reply, Settings};
use backends::{Listing, Machine, MachineEnd, Order, Phase};
use sandbox::Fault;
use sandbox::cloud::compute::{Compute, Settings as CloudSettings, Timing};
use sandbox::cloud::{Cloud, Machines, Options as CloudOptions, Processes};
use serde_json::json;
use tokio::net::TcpListener;

use crate::place::{STAYS, now, write_agent};

pub(super) const A: &str = "us-central1-a";
pub(super) const B: &str = "us-central1-b";
pub(super) const ACCOUNT: &str = "ci-agent@sandbox-project.iam.gserviceaccount.com";
/// Longer than anything here takes; reached only by a test that fails.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);

/// The doors of all backends of one mark, as if they were one process after the other.
type Doors = Arc<Mutex<BTreeMap<String, Vec<Arc<Door>>>>>;

pub(super) struct Ground {
    pub(super) cloud: Cloud,
    root: tempfile::TempDir,
    doors: Doors,
    address: String,
}

impl Ground {
    pub(super) async fn start() -> Self {
        Self::with(STAYS).await
    }

    /// Machines are states and nothing more.
    pub(super) async fn idle() -> Self {
        Self::idle_with(|_| ()).await
    }

    pub(super) async fn idle_with(change: impl FnOnce(&mut CloudSettings)) -> Self {
        let mut settings = CloudSettings::default();
        change(&mut settings);
        let root = tempfile::tempdir().expect("a temporary directory");
        fs::create_dir(root.path().join("machines")).expect("a directory");
        Self::of_cloud(root, settings, Machines::Idle).await
    }

    /// Where agents do this.
    async fn with(then: &str) -> Self {
        let root = tempfile::tempdir().expect("a temporary directory");
        for folder in ["play", "bin", "machines"] {
            fs::create_dir(root.path().join(folder)).expect("a directory");
        }
        let bin = root.path().join("bin");
        write_agent(&bin.join("buildkite-agent"), "buildkite-agent version 3.137.0+play", then);
        fs::copy(env!("CARGO_BIN_EXE_machine-guest"), bin.join("jitney-guest")).expect("copied");
        let processes = Processes {
            folder: root.path().join("machines"),
            path: vec![bin],
            env: vec![("PLAY".to_owned(), root.path().join("play").display().to_string())],
        };
        let machines = Machines::Processes(processes);
        Self::of_cloud(root, CloudSettings::default(), machines).await
    }

    async fn of_cloud(
        root: tempfile::TempDir,
        settings: CloudSettings,
        machines: Machines,
    ) -> Self {
        let options = CloudOptions { settings, machines, ..CloudOptions::default() };
        let cloud = Cloud::start(options).await.expect("a free port of loopback");
        let fast = Timing {
            insert_ms: 50,
            failure_ms: 50,
            boot_ms: 5,
            stop_ms: 10,
            delete_ms: 10,
            ..Timing::default()
        };
        cloud.compute(|compute, _| compute.timing = fast);
        let doors = Doors::default();
        let address = serve(Arc::clone(&doors)).await;
        Self { cloud, root, doors, address }
    }

    pub(super) fn options(&self, mark: &str) -> Options {
        let image = "projects/debian-cloud/global/images/family/debian-12".to_owned();
        let region = "us-central1".to_owned();
        let subnetwork = "projects/sandbox-project/regions/us-central1/subnetworks/ci".to_owned();
        Options {
            settings: Settings {
                mark: mark.to_owned(),
                project: "sandbox-project".to_owned(),
                zones: vec![A.to_owned(), B.to_owned()],
                image: Some(image),
                images: BTreeMap::new(),
                service_account: Some(ACCOUNT.to_owned()),
                delivery: Delivery::Pull { url: format!("{}/guests/{mark}", self.address) },
                self_delete: None,
                agent_config: None,
                subnetworks: [(region, subnetwork)].into(),
                external_ip: false,
                template: json!({}),
                connect_within: Duration::from_secs(60),
            },
            endpoint: self.cloud.url().to_owned(),
            access: Access::Anonymous,
            writes_per_minute: 1200,
            keys_url: self.cloud.jwks_url(),
            resource_manager: self.cloud.url().to_owned(),
            iam: self.cloud.url().to_owned(),
            keep_failed: Duration::ZERO,
            pauses: Pauses {
                moving: Duration::from_millis(100),
                steady: Duration::from_millis(200),
                sweep: Duration::from_millis(300),
                disk_age: Duration::ZERO,
            },
            now,
        }
    }

    pub(super) fn gce(&self, mark: &str) -> Arc<Gce> {
        self.of(self.options(mark))
    }

    pub(super) fn of(&self, options: Options) -> Arc<Gce> {
        let mark = options.settings.mark.clone();
        let gce = Arc::new(Gce::new(options).expect("a backend"));
        let mut doors = self.doors.lock().expect("doors");
        doors.entry(mark).or_default().push(gce.door());
        gce
    }

    pub(super) fn order(&self) -> Order {
        conformance::order(self, MARK)
    }

    pub(super) fn fault(&self, fault: Fault) {
        let route = "compute.instances.insert".to_owned();
        self.cloud.add_fault(Fault { route, times: Some(1), ..fault });
    }

    /// A quota is used up for the next create, which is told so at once.
    pub(super) fn use_up_next_quota(&self) {
        let message = "Quota 'N2_CPUS' exceeded.  Limit: 0.0 in region us-central1.".to_owned();
        self.cloud.compute(|compute, now| {
            let mut knobs = compute.knobs().clone();
            knobs.quota_by_call = true;
            knobs.fail_inserts = Some(sandbox::cloud::compute::FailedInserts {
                code: "QUOTA_EXCEEDED".to_owned(),
                message: Some(message),
                times: 1,
                zone: None,
            });
            compute.set_knobs(knobs, now);
        });
    }

    pub(super) async fn end_agent(&self, name: &str) {
        let fifo = self.root.path().join("play").join(name);
        let told = tokio::task::spawn_blocking(move || {
            let until = Instant::now() + PATIENCE;
            while !fifo.exists() && Instant::now() < until {
                std::thread::sleep(Duration::from_millis(5));
            }
            let mut fifo = fs::OpenOptions::new().write(true).open(fifo)?;
            fifo.write_all(b"0\n")
        });
        told.await.expect("the step runs").expect("the agent listens");
    }

    /// Neither machines nor disks nor folders of machines.
    pub(super) async fn nothing_is_left(&self) {
        let none = |compute: &Compute| {
            (compute.instances().next().is_none() && compute.disks().next().is_none()).then_some(())
        };
        let gone = tokio::time::timeout(PATIENCE, self.cloud.until(none)).await;
        assert!(gone.is_ok(), "{}", self.story());
        // One that was stopped while it booted is tidied up a moment later.
        let at_rest = tokio::time::timeout(PATIENCE, self.cloud.at_rest()).await;
        assert!(at_rest.is_ok(), "a machine's processes stay: {}", self.story());
        let entries = fs::read_dir(self.root.path().join("machines")).expect("it is there");
        let folders: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
        assert_eq!(folders, Vec::<PathBuf>::new());
    }

    /// What has happened in the cloud, for a test that has failed.
    pub(super) fn story(&self) -> String {
        self.cloud.compute(|compute, _| {
            let serial: Vec<String> = compute
                .instances()
                .map(|it| format!("{}: {}", it.name, it.serial_output()))
                .collect();
            format!("{:#?}\n{}", compute.log(), serial.join("\n"))
        })
    }

    pub(super) fn address(&self) -> &str {
        &self.address
    }

    pub(super) async fn rotate_keys(&self) {
        let url = format!("{}/_cloud/keys/rotate", self.cloud.url());
        let client = reqwest::Client::builder().no_proxy().build().expect("a client");
        client.put(url).send().await.expect("an answer").error_for_status().expect("rotated");
    }

    /// Where a test counts what one minute holds, that minute is not about to end.
    pub(super) async fn away_from_the_edge(&self) {
        let second = now().as_second().rem_euclid(60);
        if second > 50 {
            let rest = u64::try_from(61 - second).expect("seconds");
            tokio::time::sleep(Duration::from_secs(rest)).await;
        }
    }

    pub(super) fn lists_of(&self, zone: &str) -> usize {
        let of = |request: &&sandbox::Request| {
            request.route == "compute.instances.list" && request.path.contains(zone)
        };
        self.cloud.requests().iter().filter(of).count()
    }

    pub(super) fn count(&self, route: &str) -> usize {
        self.cloud.requests().iter().filter(|request| request.route == route).count()
    }
}

pub(super) fn machine<'a>(listing: &'a Listing, order: &Order) -> Option<&'a Machine> {
    listing.machines.iter().find(|machine| machine.name == order.name)
}

/// Serves the doors of the marks as Jitney's own web server does.
async fn serve(doors: Doors) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let router = Router::new().route("/guests/{mark}/{what}", post(answer)).with_state(doors);
    tokio::spawn(async move { axum::serve(listener, router).await });
    format!("http://{address}")
}

async fn answer(
    State(doors): State<Doors>,
    Path((mark, what)): Path<(String, String)>,
    body: Bytes,
) -> Response {
    let doors = doors.lock().expect("doors").get(&mark).cloned().unwrap_or_default();
    let mut last = Answer { status: 404, body: String::new() };
    // The newest is the one that lives; the others are there only because a test holds them.
    for door in doors.iter().rev() {
        let said = match what.as_str() {
            "token" => match door.token(&body).await {
                Reply::Answer(answer) => answer,
                Reply::NoToken { .. } => Answer { status: 503, body: String::new() },
            },
            _ => door.report(&body).await,
        };
        let enough = said.status == 200 && what == "token";
        if last.status != 200 {
            last = said;
        }
        if enough {
            break;
        }
    }
    let status = StatusCode::from_u16(last.status).expect("a status");
    (status, last.body).into_response()
}

/// Waits for a machine's end.
pub(super) async fn ended(gce: &Gce, order: &Order) -> MachineEnd {
    let is_ended =
        |machine: Option<&Machine>| machine.is_some_and(|machine| machine.phase == Phase::Ended);
    let found = until(gce, &order.name, "ended", is_ended).await;
    *found.expect("a machine").ended.expect("an end")
}
