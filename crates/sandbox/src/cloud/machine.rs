//! A machine as processes of this computer: its folder, its metadata server and its startup script,
//! from the boot to the power switch.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::net::TcpListener;
use tokio::process::{Child, Command};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::metadata;
use super::processes::{self, MARK, Mark};
use super::server::Shared;

/// Where commands are found after those of the machine and those that were given.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What a machine is.
#[derive(Clone, Debug)]
pub enum Machines {
    /// A state and nothing more: it runs when it is said to, and does nothing.
    Idle,
    /// Its startup script, run here.
    Processes(Processes),
}

/// How machines run as processes.
#[derive(Clone, Debug, Default)]
pub struct Processes {
    /// Where each machine gets a folder of its own, which is removed at its end.
    pub folder: PathBuf,
    /// Folders that are put before the usual ones of `PATH`.
    pub path: Vec<PathBuf>,
    /// Variables that every machine has.
    pub env: Vec<(String, String)>,
}

/// What a machine is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    Run,
    /// Its power button was pressed; so long it may take.
    SwitchOff(Duration),
    Kill,
}

/// How to reach a machine.
#[derive(Clone, Debug)]
pub(super) struct Reins(watch::Sender<Order>);

impl Default for Reins {
    fn default() -> Self {
        Self(watch::Sender::new(Order::Run))
    }
}

impl Reins {
    pub(super) fn switch_off(&self, patience: Duration) {
        self.0.send_if_modified(|order| {
            let runs = *order == Order::Run;
            if runs {
                *order = Order::SwitchOff(patience);
            }
            runs
        });
    }

    pub(super) fn kill(&self) {
        self.0.send_replace(Order::Kill);
    }

    /// The order to end, once there is one.
    async fn ordered(&self) -> Order {
        let mut orders = self.0.subscribe();
        let ordered = orders.wait_for(|order| *order != Order::Run).await;
        ordered.map_or(Order::Kill, |order| *order)
    }

    async fn killed(&self) {
        let mut orders = self.0.subscribe();
        if orders.wait_for(|order| *order == Order::Kill).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// What the machine needs to know of itself.
struct Plan {
    name: String,
    mark: Mark,
    startup_script: Option<String>,
    clock_skew_s: i64,
}

/// From its boot until all of its processes are gone.
pub(super) async fn live(shared: Arc<Shared>, id: u64, reins: Reins) {
    let plan = shared.look(|compute| {
        let instance = compute.instance_by_id(id)?;
        Some(Plan {
            name: instance.name.clone(),
            mark: shared.mark(id),
            startup_script: instance.attribute("startup-script").map(str::to_owned),
            clock_skew_s: instance.clock_skew_s,
        })
    });
    if let (Some(plan), Machines::Processes(processes)) = (plan, &shared.machines) {
        let folder = processes.folder.join(id.to_string());
        if let Err(error) = run(&shared, id, &plan, processes, &folder, &reins).await {
            tracing::error!(machine = plan.name, %error, "a machine could not be run");
            let words = format!("sandbox: the machine could not be run: {error}\n");
            shared.compute(|compute, _| compute.serial_write(id, words.as_bytes()));
            reins.ordered().await;
        }
        processes::kill(&plan.mark).await;
        if let Err(error) = tokio::fs::remove_dir_all(&folder).await
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(machine = plan.name, %error, "a machine's folder could not be removed");
        }
    }
    shared.machine_off(id);
}

async fn run(
    shared: &Arc<Shared>,
    id: u64,
    plan: &Plan,
    processes: &Processes,
    folder: &Path,
    reins: &Reins,
) -> io::Result<()> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    let address = listener.local_addr()?;
    let server = metadata::serve(listener, Arc::clone(shared), id);
    furnish(folder, plan, address.port())?;
    let words = format!("sandbox: {} boots, metadata at {address}\n", plan.name);
    let boots = shared.compute(|compute, now| {
        compute.serial_write(id, words.as_bytes());
        compute.booted(id, now)
    });
    if !boots {
        server.abort();
        return Ok(());
    }
    let mut watched = JoinSet::new();
    if let Some(script) = &plan.startup_script {
        let mut command = command(folder, script)?;
        environment(&mut command, shared, plan, processes, folder, &address.to_string());
        let mut child = command.spawn()?;
        listen(&mut watched, shared, id, &mut child);
        let shared = Arc::clone(shared);
        watched.spawn(async move {
            let words = match child.wait().await {
                Ok(status) => format!("sandbox: the startup script ended: {status}\n"),
                Err(error) => format!("sandbox: the startup script is lost: {error}\n"),
            };
            shared.compute(|compute, _| compute.serial_write(id, words.as_bytes()));
        });
    }
    match reins.ordered().await {
        Order::SwitchOff(patience) => tokio::select! {
            () = processes::end(&plan.mark, patience) => {}
            () = reins.killed() => processes::kill(&plan.mark).await,
        },
        Order::Kill | Order::Run => processes::kill(&plan.mark).await,
    }
    // Their last words are in the pipes; nobody is left who could hold them open.
    while watched.join_next().await.is_some() {}
    server.abort();
    Ok(())
}

fn furnish(folder: &Path, plan: &Plan, port: u16) -> io::Result<()> {
    for inner in ["bin", "home", "state", "tmp"] {
        std::fs::create_dir_all(folder.join(inner))?;
    }
    // Bash speaks TCP by itself; nothing else has to be there.
    let off = format!(
        "#!/usr/bin/env bash\nexec 3<>/dev/tcp/127.0.0.1/{port} || exit 1\nprintf 'POST {} HTTP/1.1\\r\\nHost: metadata.google.internal\\r\\nMetadata-Flavor: Google\\r\\nConnection: close\\r\\nContent-Length: 0\\r\\n\\r\\n' >&3\ncat <&3 >/dev/null\n",
        metadata::POWER_OFF
    );
    for name in ["poweroff", "halt", "shutdown"] {
        write_program(&folder.join("bin").join(name), &off)?;
    }
    if plan.clock_skew_s != 0 {
        let date = format!(
            "#!/usr/bin/env bash\nPATH={PATH} exec date --date='{} seconds' \"$@\"\n",
            plan.clock_skew_s
        );
        write_program(&folder.join("bin/date"), &date)?;
    }
    Ok(())
}

fn write_program(path: &Path, text: &str) -> io::Result<()> {
    std::fs::write(path, text)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755))
}

/// The script by itself where it says what reads it, else by bash.
fn command(folder: &Path, script: &str) -> io::Result<Command> {
    let path = folder.join("startup-script");
    write_program(&path, script)?;
    if script.starts_with("#!") {
        return Ok(Command::new(path));
    }
    let mut command = Command::new("bash");
    command.arg(path);
    Ok(command)
}

fn environment(
    command: &mut Command,
    shared: &Shared,
    plan: &Plan,
    processes: &Processes,
    folder: &Path,
    metadata: &str,
) {
    let mut path = folder.join("bin").display().to_string();
    for folder in &processes.path {
        path.push(':');
        path.push_str(&folder.display().to_string());
    }
    command
        .env_clear()
        .env("PATH", format!("{path}:{PATH}"))
        .env("HOME", folder.join("home"))
        .env("TMPDIR", folder.join("tmp"))
        // A computer has one place for state; machines on it are to have one each.
        .env("STATE_DIRECTORY", folder.join("state"))
        .env("HOSTNAME", &plan.name)
        .env("GCE_METADATA_HOST", metadata)
        .env("GCE_METADATA_IP", metadata)
        .env("GCE_METADATA_ROOT", metadata)
        .env("CLOUDSDK_API_ENDPOINT_OVERRIDES_COMPUTE", format!("{}/compute/v1/", shared.url()))
        .envs(processes.env.iter().map(|(key, value)| (key, value)))
        .env(MARK, plan.mark.to_string())
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    if plan.clock_skew_s != 0 {
        command.env("CLOCK_SKEW_S", plan.clock_skew_s.to_string());
    }
    in_own_session(command);
}

#[expect(unsafe_code, reason = "a session of its own can only be begun between fork and exec")]
fn in_own_session(command: &mut Command) {
    // SAFETY: setsid is async-signal-safe, and nothing is allocated.
    unsafe {
        command.pre_exec(|| {
            rustix::process::setsid()?;
            Ok(())
        });
    }
}

/// What the script and whoever it started say goes to the serial port.
fn listen(watched: &mut JoinSet<()>, shared: &Arc<Shared>, id: u64, child: &mut Child) {
    if let Some(output) = child.stdout.take() {
        watched.spawn(pump(Arc::clone(shared), id, output));
    }
    if let Some(errors) = child.stderr.take() {
        watched.spawn(pump(Arc::clone(shared), id, errors));
    }
}

async fn pump(shared: Arc<Shared>, id: u64, mut from: impl AsyncRead + Unpin) {
    let mut buffer = vec![0; 8 << 10];
    loop {
        match from.read(&mut buffer).await {
            Ok(0) => return,
            Ok(read) => shared.compute(|compute, _| compute.serial_write(id, &buffer[..read])),
            Err(error) => {
                tracing::warn!(machine = id, %error, "a machine's output was lost");
                return;
            }
        }
    }
}
