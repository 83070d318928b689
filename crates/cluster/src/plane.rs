//! The control plane: etcd, API server, controllers and scheduler as child processes, started and
//! ended here. What they do with pods is the nodes' part.

pub(crate) mod access;
mod audit;
pub(crate) mod certificates;
mod controllers;
mod empty;
mod program;

use std::fs::{self, Permissions};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::process::Signal;
use tokio::runtime::Runtime;
use tokio::sync::OnceCell;
use tokio::time::{Instant, sleep};

pub use access::connect;
pub use audit::{Call, Tail};
pub use controllers::Controllers;
use program::Program;

use crate::error::io;
use crate::parts::Parts;
use crate::{Error, Result};

/// How long anything of it may take to come up; a cold API server on a busy computer takes half a
/// minute.
const START: Duration = Duration::from_secs(180);
const BETWEEN_ASKS: Duration = Duration::from_millis(100);
/// How long the nodes' tasks have to end.
const STOP: Duration = Duration::from_secs(10);
/// Where the memory of containers is counted, if that is mounted (version 1): in groups below one
/// with the name of the plane's folder.
pub(crate) const MEMORY: &str = "/sys/fs/cgroup/memory";
/// A real control plane, reached over loopback only. It ends with its drop, with this process,
/// and when this process is killed; nothing of it is left then.
#[derive(Debug)]
pub struct ControlPlane {
    pub(crate) inner: Arc<Inner>,
    /// All tasks run here, so that they outlive the runtime of the test that came first, and so
    /// that the threads which started the programs live as long as these.
    runtime: Option<Runtime>,
    remover: Child,
}

#[derive(Debug)]
pub(crate) struct Inner {
    parts: Parts,
    pub(crate) folder: PathBuf,
    pub(crate) port: u16,
    token: String,
    api_server: Mutex<Option<Program>>,
    others: Mutex<Vec<Program>>,
    names: AtomicUsize,
}

impl ControlPlane {
    /// The one that all tests of a program share. `None`, said loudly, where parts are absent.
    ///
    /// # Panics
    ///
    /// Where it does not start, or parts are absent though `CI=true`.
    pub async fn shared() -> Option<&'static Self> {
        static SHARED: OnceCell<Option<ControlPlane>> = OnceCell::const_new();
        let start = || async {
            let parts = Parts::for_tests()?;
            let started = Self::start_from(parts, Controllers::Quick).await;
            Some(started.unwrap_or_else(|error| panic!("no control plane: {error}")))
        };
        SHARED.get_or_init(start).await.as_ref()
    }

    /// Starts one, and returns once its API server and controllers answer.
    ///
    /// # Errors
    ///
    /// Where parts are absent, or one ends or is not ready in time.
    pub async fn start() -> Result<Self> {
        Self::start_with(Controllers::Quick).await
    }

    /// As `start`, with controllers of another pace.
    ///
    /// # Errors
    ///
    /// As those of `start`.
    pub async fn start_with(controllers: Controllers) -> Result<Self> {
        Self::start_from(Parts::find()?, controllers).await
    }

    /// Whether one can be started here, without doing it.
    ///
    /// # Errors
    ///
    /// Where parts are absent, with their names.
    pub fn find() -> Result<()> {
        Parts::find().map(drop)
    }

    async fn start_from(parts: Parts, controllers: Controllers) -> Result<Self> {
        let folder = tempfile::Builder::new()
            .prefix("jitney-cluster-")
            .tempdir()
            .map_err(io("make a folder"))?
            .keep();
        let remover = remover(&folder)?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("cluster")
            .enable_all()
            .build()
            .map_err(io("start a runtime"))?;
        let inner = Arc::new(Inner {
            parts,
            port: free_port()?,
            token: random_token()?,
            folder,
            api_server: Mutex::default(),
            others: Mutex::default(),
            names: AtomicUsize::new(1),
        });
        // From here on its drop cleans up.
        let plane = Self { inner, runtime: Some(runtime), remover };
        plane.run(move |inner| async move { inner.start(controllers).await }).await?;
        Ok(plane)
    }

    /// Does something on the plane's own threads.
    pub(crate) async fn run<T, F>(&self, work: impl FnOnce(Arc<Inner>) -> F) -> T
    where
        T: Send + 'static,
        F: Future<Output = T> + Send + 'static,
    {
        let runtime = self.runtime.as_ref().expect("it is there until the drop");
        runtime.spawn(work(Arc::clone(&self.inner))).await.expect("the work does not panic")
    }

    /// From now on the API server takes connections and answers nothing.
    ///
    /// # Errors
    ///
    /// Where it does not run.
    pub fn freeze(&self) -> Result<()> {
        self.inner.signal_api_server(Signal::STOP)
    }

    /// Undoes `freeze`; what was asked meanwhile is answered.
    ///
    /// # Errors
    ///
    /// Where it does not run.
    pub fn thaw(&self) -> Result<()> {
        self.inner.signal_api_server(Signal::CONT)
    }

    /// Kills the API server: connections break, and new ones are refused. What etcd holds stays.
    ///
    /// # Errors
    ///
    /// Where it cannot be killed.
    pub async fn stop_api_server(&self) -> Result<()> {
        self.run(|inner| async move { lock(&inner.api_server).take().map_or(Ok(()), Program::end) })
            .await
    }

    /// Starts it again where it was, and returns once it answers.
    ///
    /// # Errors
    ///
    /// Where it ends or is not ready in time.
    pub async fn start_api_server(&self) -> Result<()> {
        self.run(|inner| async move { inner.start_api_server().await }).await
    }

    /// All calls that the API server has answered so far. A watch is there once it has ended.
    ///
    /// # Errors
    ///
    /// Where the log cannot be read.
    pub fn audit(&self) -> Result<Vec<Call>> {
        self.audit_from_start().more()
    }

    /// The same, to be read on and on; a long log need not be read twice.
    #[must_use]
    pub fn audit_from_start(&self) -> Tail {
        Tail::new(self.inner.folder.join("audit.log"))
    }
}

impl Drop for ControlPlane {
    fn drop(&mut self) {
        let runtime = self.runtime.take();
        // A thread of its own, since a runtime may not be waited for where another one runs.
        let stopped = std::thread::spawn(move || {
            if let Some(runtime) = runtime {
                runtime.shutdown_timeout(STOP);
            }
        });
        let stopped = stopped.join().map_err(|_| "its tasks panicked".to_owned());
        let mut programs = std::mem::take(&mut *lock(&self.inner.others));
        programs.extend(lock(&self.inner.api_server).take());
        let programs = programs.into_iter().map(|it| it.end().map_err(|error| error.to_string()));
        let ended = programs.fold(stopped, |all, one| all.and(one));
        drop(self.remover.stdin.take());
        let removed = self.remover.wait().map(drop).map_err(|error| error.to_string());
        if let Err(error) = ended.and(removed) {
            eprintln!("the control plane has not ended as it should: {error}");
        }
    }
}

impl Inner {
    async fn start(&self, controllers: Controllers) -> Result<()> {
        certificates::write(&self.folder)?;
        self.write_access()?;
        self.write("audit-policy.yaml", audit::POLICY)?;
        let socket = |name| format!("unix://{name}:0");
        let etcd = [
            "--data-dir=etcd".to_owned(),
            "--unsafe-no-fsync".to_owned(),
            "--logger=zap".to_owned(),
            "--log-level=warn".to_owned(),
            format!("--listen-client-urls={}", socket("client")),
            format!("--advertise-client-urls={}", socket("client")),
            format!("--listen-peer-urls={}", socket("peer")),
            format!("--initial-advertise-peer-urls={}", socket("peer")),
            format!("--initial-cluster=default={}", socket("peer")),
        ];
        self.start_other("etcd", &self.parts.etcd, &etcd)?;
        self.start_api_server().await?;
        let kubeconfig = |user: &str| {
            let file = self.folder.join(format!("{user}.kubeconfig"));
            [
                format!("--kubeconfig={}", file.display()),
                "--leader-elect=false".to_owned(),
                "--secure-port=0".to_owned(),
            ]
        };
        let pace = controllers.flags().iter().map(|&flag| flag.to_owned());
        let keys = [
            format!("--root-ca-file={}", self.file("ca.crt")),
            format!("--service-account-private-key-file={}", self.file("accounts.key")),
        ];
        let controllers: Vec<String> =
            kubeconfig("controllers").into_iter().chain(keys).chain(pace).collect();
        self.start_other("controllers", &self.parts.controllers, &controllers)?;
        let quick = ["--kube-api-qps=2000".to_owned(), "--kube-api-burst=4000".to_owned()];
        let scheduler = [&kubeconfig("scheduler")[..], &quick].concat();
        self.start_other("scheduler", &self.parts.scheduler, &scheduler)?;
        self.default_account("default").await
    }

    fn start_other(&self, name: &'static str, path: &Path, arguments: &[String]) -> Result<()> {
        let program = Program::start(name, path, arguments, &self.folder)?;
        lock(&self.others).push(program);
        Ok(())
    }

    async fn start_api_server(&self) -> Result<()> {
        let arguments = [
            format!("--etcd-servers=unix://{}", self.file("client:0")),
            "--bind-address=127.0.0.1".to_owned(),
            // The address that pods would use; a loopback one is not allowed here, nor needed.
            "--advertise-address=192.0.2.1".to_owned(),
            "--endpoint-reconciler-type=none".to_owned(),
            format!("--secure-port={}", self.port),
            "--service-cluster-ip-range=192.0.2.0/24".to_owned(),
            format!("--cert-dir={}", self.folder.display()),
            format!("--tls-cert-file={}", self.file("server.crt")),
            format!("--tls-private-key-file={}", self.file("server.key")),
            "--service-account-issuer=https://kubernetes.default.svc".to_owned(),
            format!("--service-account-key-file={}", self.file("accounts.pub")),
            format!("--service-account-signing-key-file={}", self.file("accounts.key")),
            format!("--token-auth-file={}", self.file("tokens.csv")),
            "--authorization-mode=RBAC".to_owned(),
            "--allow-privileged=true".to_owned(),
            format!("--audit-policy-file={}", self.file("audit-policy.yaml")),
            format!("--audit-log-path={}", self.file("audit.log")),
            // In MB; what is read on and on must not be moved aside.
            "--audit-log-maxsize=4000".to_owned(),
            "--kubelet-preferred-address-types=InternalIP".to_owned(),
        ];
        let path = &self.parts.api_server;
        let program = Program::start("api-server", path, &arguments, &self.folder)?;
        *lock(&self.api_server) = Some(program);
        let client = &self.client("admin").await?;
        self.until("a ready API server", || async move {
            let request = http::Request::get("/readyz").body(Vec::new());
            let request = request.expect("a path and no more");
            Ok(client.request_text(request).await.is_ok())
        })
        .await
    }

    fn signal_api_server(&self, signal: Signal) -> Result<()> {
        match &*lock(&self.api_server) {
            Some(program) => program.signal(signal),
            None => Ok(()),
        }
    }

    /// Asks again and again until the answer is yes, while all programs run.
    pub(crate) async fn until<F>(&self, what: &str, ask: impl Fn() -> F) -> Result<()>
    where
        F: Future<Output = Result<bool>>,
    {
        let end = Instant::now() + START;
        while !ask().await? {
            for program in lock(&self.others).iter_mut() {
                program.check()?;
            }
            if let Some(program) = &mut *lock(&self.api_server) {
                program.check()?;
            }
            if Instant::now() > end {
                return Err(Error::Late { what: what.to_owned(), seconds: START.as_secs() });
            }
            sleep(BETWEEN_ASKS).await;
        }
        Ok(())
    }

    fn file(&self, name: &str) -> String {
        self.folder.join(name).display().to_string()
    }

    /// A file that only its owner may read.
    fn write(&self, name: &str, text: &str) -> Result<PathBuf> {
        let path = self.folder.join(name);
        fs::write(&path, text)
            .and_then(|()| fs::set_permissions(&path, Permissions::from_mode(0o600)))
            .map_err(io(format!("write {name}")))?;
        Ok(path)
    }
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A process that removes the folder, and the control groups of that name, once we have ended, however that was. It may have to try for
/// a moment, as long as the kernel still takes the last of the programs apart.
fn remover(folder: &Path) -> Result<Child> {
    let script = "read -r _
        for _ in $(seq 100); do
            cat \"$2\"/*/cgroup.procs | xargs -r kill -KILL
            [ ! -d \"$2\" ] || find \"$2\" -depth -type d -exec rmdir {} +
            rm -rf \"$1\" && [ ! -d \"$2\" ] && exit
            sleep 0.1
        done";
    let groups = Path::new(MEMORY).join(folder.file_name().unwrap_or_default());
    Command::new("sh")
        .args(["-c", script, "sh"])
        .arg(folder)
        .arg(groups)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
        .map_err(io("start sh"))
}

fn free_port() -> Result<u16> {
    TcpListener::bind("127.0.0.1:0")
        .and_then(|listener| listener.local_addr())
        .map(|address| address.port())
        .map_err(io("find a free port"))
}

/// Nobody else on this computer may use the API server: its pods are processes of ours.
fn random_token() -> Result<String> {
    let uuid = fs::read_to_string("/proc/sys/kernel/random/uuid").map_err(io("draw a token"))?;
    Ok(uuid.trim().to_owned())
}
