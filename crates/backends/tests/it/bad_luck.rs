//! What goes wrong around a machine: agents that do not stop, jobs that fork away, guests and
//! creators that are killed, disks that are full.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use backends::conformance::{self, MARK, Subject, until};
use backends::{Backend, Class, Machine, MachineEnd, Phase};
use guest::place::{Place as Dir, is_locked};
use guest::report::Isolate;
use rustix::process::{Pid, Signal, kill_process};
use tokio::time::timeout;

use crate::place::{Place, STAYS, alive_below, not_tested};

fn is_up(machine: Option<&Machine>) -> bool {
    machine.is_some_and(|machine| machine.phase >= Phase::Connected)
}

fn is_ended(machine: Option<&Machine>) -> bool {
    machine.is_some_and(|machine| machine.phase == Phase::Ended)
}

fn is_root(what: &str) -> bool {
    let root = rustix::process::getuid().is_root();
    if !root {
        not_tested(&format!("{what}, which needs root"));
    }
    root
}

/// Creates a machine, lets it come up and then end by itself.
async fn lived(place: &Place) -> (String, MachineEnd) {
    let backend = place.process();
    let order = conformance::order(place, MARK);
    backend.create(&order).await.expect("create");
    let machine = until(&backend, &order.name, "ended", is_ended).await.expect("a machine");
    (order.name, *machine.ended.expect("an end"))
}

/// A guest that has written its last report needs another moment to be gone itself.
fn nothing_alive(place: &Place) {
    let until = Instant::now() + Duration::from_secs(10);
    let mut alive = alive_below(place.path());
    while !alive.is_empty() && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(5));
        alive = alive_below(place.path());
    }
    assert!(alive.is_empty(), "still alive: {alive:?}");
}

fn guest_of(place: &Place, name: &str) -> Pid {
    let text = fs::read_to_string(place.machine(name).join("pid")).expect("the guest's pid");
    Pid::from_raw(text.parse().expect("a number")).expect("not zero")
}

#[tokio::test]
async fn an_agent_that_ignores_sigterm_gets_two_and_is_killed_after_the_grace() {
    let place = Place::new(
        r#"trap 'echo term >> "$PLAY/terms"' TERM; echo up > "$PLAY/up"; while :; do sleep 0.01; done"#,
    );
    let backend = place.process();
    let order = conformance::order(&place, MARK);
    backend.create(&order).await.expect("create");
    until(&backend, &order.name, "connected", is_up).await;
    while place.played("up").is_empty() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let dir = Dir::new(place.machine(&order.name));
    kill_process(guest_of(&place, &order.name), Signal::TERM).expect("the guest lives");
    let machine = until(&backend, &order.name, "ended", is_ended).await.expect("a machine");
    assert_eq!(machine.ended.expect("an end").cause, "the agent was stopped on request");
    assert_eq!(place.played("terms"), "term\nterm\n");
    assert!(!dir.tmp().exists(), "what may hold secrets of the job is gone");
    nothing_alive(&place);
    backend.delete(&order.name).await.expect("delete");
    assert!(!dir.dir().exists());
}

#[tokio::test]
async fn an_agent_that_lingers_after_its_job_is_nudged_once() {
    let place = Place::new(
        r#"trap 'echo term >> "$PLAY/terms"; exit 0' TERM; echo "Finished job 1"; while :; do sleep 0.01; done"#,
    );
    let (_, end) = lived(&place).await;
    assert_eq!(end.cause, "the agent exited with 0", "it left by itself");
    assert_eq!(place.played("terms"), "term\n");
}

/// A real agent panics at a signal when it is almost gone, and exits with 2. The shell's own
/// `printf` would write line by line.
#[tokio::test]
async fn an_agent_that_leaves_by_itself_is_not_nudged() {
    let place = Place::new(
        r#"trap 'exit 2' TERM; env printf 'Finished job 1\nDisconnecting...\n'; read -rt 0.3 < <(sleep 1); exit 0"#,
    );
    let (_, end) = lived(&place).await;
    assert_eq!(end.cause, "the agent exited with 0", "{end:?}");
}

/// A job's child that leaves session, process group and parent behind, with this command.
fn forks_away(command: &str) -> String {
    format!(
        r#"setsid -f bash -c '(trap "" TERM HUP; {command} bash -c "echo \$\$ > $PLAY/away; exec sleep 300") & disown' < /dev/null > /dev/null 2>&1
           while [ ! -s "$PLAY/away" ]; do sleep 0.01; done; "#
    )
}

#[tokio::test]
async fn a_job_that_forks_away_dies_with_its_machine() {
    // By control group where there is one, and by the guest's children alone.
    for (isolate, command) in
        [(Isolate::Auto, "env -i PLAY=$PLAY"), (Isolate::Never, "env -i PLAY=$PLAY")]
    {
        let mut place = Place::new(&format!("{} exit 7", forks_away(command)));
        place.options.isolate = isolate;
        let (_, end) = lived(&place).await;
        assert_eq!(end.cause, "the agent exited with 7", "{end:?}");
        assert!(end.cpu_seconds.is_some(), "{end:?}");
        is_dead(&place.played("away"));
    }
}

fn is_dead(pid: &str) {
    let proc = Path::new("/proc").join(pid.trim());
    assert!(!pid.trim().is_empty() && !proc.join("cwd").exists(), "{pid} is alive");
}

#[tokio::test]
async fn a_killed_guest_is_heard_of_and_what_it_left_is_killed() {
    for isolate in [Isolate::Auto, Isolate::Never] {
        let mut place = Place::new(&format!("{}\n{STAYS}", forks_away("")));
        place.options.isolate = isolate;
        let backend = place.process();
        let order = conformance::order(&place, MARK);
        backend.create(&order).await.expect("create");
        until(&backend, &order.name, "connected", is_up).await;
        while place.played("away").is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        kill_process(guest_of(&place, &order.name), Signal::KILL).expect("the guest lives");
        let heard = timeout(Duration::from_secs(5), async {
            loop {
                backend.changed().await;
                let listing = backend.list().await.expect("a listing");
                if let Some(end) = listing.machines.into_iter().find_map(|m| m.ended) {
                    return end;
                }
            }
        });
        let end = heard.await.expect("the kernel tells of it");
        assert_eq!(end.cause, "the guest was killed; nothing more is known");
        is_dead(&place.played("away"));
        nothing_alive(&place);
        backend.delete(&order.name).await.expect("delete");
        assert!(!place.machine(&order.name).exists());
    }
}

#[tokio::test]
async fn machines_outlive_who_made_them_and_their_deadline_needs_nobody() {
    let place = Place::new(STAYS);
    let mut order = conformance::order(&place, MARK);
    order.deadline = Duration::from_secs(1);
    place.process().create(&order).await.expect("create");
    // The backend that made it is gone; another one finds the machine, and its end.
    let backend = place.process();
    let machine = until(&backend, &order.name, "ended", is_ended).await.expect("a machine");
    assert_eq!(machine.ended.expect("an end").cause, "the machine's deadline was reached");
    nothing_alive(&place);
}

/// A machine as a creator leaves it that is killed after the rename and before the guest.
async fn unstarted(place: &mut Place) -> backends::Order {
    let working = place.options.guest_exe.clone();
    // A guest that dies at once stands for one that was never started.
    place.options.guest_exe = "/bin/true".into();
    let order = conformance::order(place, MARK);
    let backend = place.process();
    backend.create(&order).await.expect("create");
    place.options.guest_exe = working;
    let dir = Dir::new(place.machine(&order.name));
    while is_locked(&dir).expect("a lock") {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(dir.token().exists() && !dir.report().exists());
    order
}

#[tokio::test]
async fn a_repeat_starts_what_a_killed_creator_left_unstarted() {
    let mut place = Place::new(STAYS);
    let order = unstarted(&mut place).await;
    let backend = place.process();
    backend.create(&order).await.expect("the repeat");
    until(&backend, &order.name, "connected", is_up).await;
    assert!(!place.machine(&order.name).join("token").exists());
    backend.delete(&order.name).await.expect("delete");
}

/// Who has seen it in a listing takes it for made and does not repeat the create.
#[tokio::test]
async fn what_a_killed_creator_left_unstarted_is_an_end_once_it_was_listed() {
    let mut place = Place::new(STAYS);
    let order = unstarted(&mut place).await;
    let backend = place.process();
    let listing = backend.list().await.expect("a listing");
    let end = listing.machines[0].ended.clone().expect("an end");
    assert_eq!(end.cause, "the agent could not be started: its guest did not come up");
    assert!(!place.machine(&order.name).join("token").exists());
    backend.create(&order).await.expect("a repeat that was under way");
    assert_eq!(backend.list().await.expect("a listing"), listing, "it does not come back to life");
    nothing_alive(&place);
    backend.delete(&order.name).await.expect("delete");
}

#[tokio::test]
async fn a_delete_removes_what_a_killed_creator_left_unstarted() {
    let mut place = Place::new(STAYS);
    let order = unstarted(&mut place).await;
    place.process().delete(&order.name).await.expect("delete");
    assert!(!place.machine(&order.name).exists());
}

#[tokio::test]
async fn what_killed_processes_left_half_done_is_swept_at_start() {
    let mut place = Place::new(STAYS);
    let order = unstarted(&mut place).await;
    let (whole, machines) = (place.machine(&order.name), place.options.directory.join("machines"));
    // Furnished but not named yet; and named no more but not removed yet.
    fs::rename(&whole, machines.join(".new-a-1-0")).expect("rename");
    fs::create_dir_all(machines.join(".gone-b/build/deep")).expect("a directory");
    // One that somebody is furnishing at this moment is left alone.
    fs::create_dir(machines.join(".new-c-1-0")).expect("a directory");
    let backend = place.process();
    let left: Vec<_> = fs::read_dir(&machines)
        .expect("machines")
        .map(|entry| entry.expect("an entry").file_name())
        .collect();
    assert_eq!(left, [".new-c-1-0"]);
    let listing = backend.list().await.expect("a listing");
    assert!(listing.complete && listing.machines.is_empty(), "{listing:?}");
}

#[tokio::test]
async fn labels_that_cannot_be_read_make_a_listing_incomplete() {
    let place = Place::new(STAYS);
    let order = conformance::order(&place, MARK);
    let backend = place.process();
    backend.create(&order).await.expect("create");
    let labels = place.machine(&order.name).join("labels.json");
    let good = fs::read(&labels).expect("labels");
    fs::write(&labels, "{").expect("spoiled");
    assert!(!backend.list().await.expect("a listing").complete);
    backend.delete(&order.name).await.expect_err("whose it is is not known");
    fs::write(&labels, good).expect("mended");
    backend.delete(&order.name).await.expect("delete");
}

#[tokio::test]
async fn a_dead_guests_report_that_cannot_be_read_is_replaced() {
    let place = Place::new("exit 0");
    let (name, _) = lived(&place).await;
    while is_locked(&Dir::new(place.machine(&name))).expect("a lock") {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    // As a power failure leaves it.
    fs::write(place.machine(&name).join("report.json"), "").expect("spoiled");
    let backend = place.process();
    let listing = backend.list().await.expect("a listing");
    let end = listing.machines[0].ended.clone().expect("an end");
    assert_eq!(end.cause, "the guest was killed; nothing more is known");
    assert!(listing.complete);
    backend.delete(&name).await.expect("delete");
    assert!(!place.machine(&name).exists());
}

#[tokio::test]
async fn a_report_that_cannot_be_read_keeps_no_machine_from_being_removed() {
    let place = Place::new("exit 0");
    let (name, _) = lived(&place).await;
    fs::write(place.machine(&name).join("report.json"), "{").expect("spoiled");
    place.process().delete(&name).await.expect("delete");
    assert!(!place.machine(&name).exists());
}

#[tokio::test]
async fn another_installations_machine_is_never_deleted_nor_taken_for_ours() {
    let place = Place::new(STAYS);
    let order = conformance::order(&place, MARK);
    place.process().create(&order).await.expect("create");
    let other = place.backend(conformance::OTHER_MARK);
    let error = other.delete(&order.name).await.expect_err("not theirs");
    assert_eq!(error.class, Class::Rejected);
    assert!(error.words.contains("belongs to the installation `jitney`"), "{error}");
    let mut same_name = order.clone();
    same_name.labels.mark = conformance::OTHER_MARK.into();
    let error = other.create(&same_name).await.expect_err("the name is taken");
    assert_eq!(error.class, Class::Rejected);
    place.process().delete(&order.name).await.expect("delete");
}

#[tokio::test]
async fn a_full_disk_is_a_want_of_capacity_and_leaves_nothing() {
    if !is_root("a full disk") {
        return;
    }
    let place = Place::new(STAYS);
    let disk = &place.options.directory;
    fs::create_dir(disk).expect("a directory");
    let mount = |args: &[&str]| {
        let status = Command::new(args[0]).args(&args[1..]).arg(disk).status();
        assert!(status.expect("it runs").success(), "{args:?}");
    };
    mount(&["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs"]);
    let backend = place.process();
    let filled = fs::write(disk.join("filler"), vec![1; 1 << 20]);
    let order = conformance::order(&place, MARK);
    let outcome = backend.create(&order).await;
    let left = fs::read_dir(disk.join("machines")).map(Iterator::count);
    mount(&["umount", "--lazy"]);
    filled.expect_err("the disk is full");
    let error = outcome.expect_err("there is no room");
    assert_eq!(error.class, Class::Capacity, "{error}");
    assert!(error.words.contains("free some space or set `directory`"), "{error}");
    assert_eq!(left.expect("a directory"), 0, "nothing is left");
}

#[tokio::test]
async fn a_directory_that_cannot_be_made_is_denied_by_name() {
    let mut place = Place::new(STAYS);
    place.options.directory = place.path().join("buildkite-agent/builds");
    let error =
        backends::process::Process::new(place.options.clone()).expect_err("not a directory");
    assert_eq!(error.class, Class::Denied);
    assert!(error.words.contains("buildkite-agent/builds/machines"), "{error}");
}

#[tokio::test]
async fn a_guest_program_that_is_gone_is_denied_and_leaves_no_token() {
    let mut place = Place::new(STAYS);
    place.options.guest_exe = place.path().join("gone");
    let order = conformance::order(&place, MARK);
    let error = place.process().create(&order).await.expect_err("no guest");
    assert_eq!(error.class, Class::Denied);
    assert!(error.words.contains("start the guest"), "{error}");
    assert!(!place.machine(&order.name).exists());
}

#[tokio::test]
async fn an_agent_that_cannot_be_started_is_an_end_with_words() {
    let place = Place::new(STAYS);
    let backend = place.process();
    let order = conformance::order(&place, MARK);
    // A program for whoever looks at it, and for the kernel not.
    fs::write(&place.options.agent, "#!/no/such/interpreter\n").expect("written");
    let error = backend.create(&order).await.expect_err("it cannot say its version");
    assert_eq!(error.class, Class::Denied);
    assert!(error.words.contains("cannot be started"), "{error}");
}

#[tokio::test]
async fn a_job_over_its_memory_is_killed_and_that_is_recorded() {
    if !is_root("memory limits") {
        return;
    }
    let place = Place::new("tail /dev/zero; exit 9");
    let backend = place.process();
    let mut order = conformance::order(&place, MARK);
    order.resources.memory_bytes = 64 << 20;
    backend.create(&order).await.expect("create");
    let machine = until(&backend, &order.name, "ended", is_ended).await.expect("a machine");
    let end = machine.ended.expect("an end");
    assert!(end.oom_killed, "{end:?}");
    let peak = end.peak_memory_bytes.expect("memory is metered");
    assert!((32 << 20..=64 << 20).contains(&peak), "{peak}");
    assert_eq!(end.cause, "the agent exited with 9", "only the job was killed: {end:?}");
}

#[tokio::test]
async fn agents_run_as_the_configured_user_and_cannot_read_what_is_ours() {
    if !is_root("another user") {
        return;
    }
    let mut place = Place::new(
        r#"id -un > "$PLAY/user"; id -G > "$PLAY/groups"; pwd > "$PLAY/pwd"; touch here || exit 3
           cat ../orders.json ../labels.json ../report.json && exit 4; touch ../new && exit 5; exit 0"#,
    );
    place.options.user = Some("nobody".to_owned());
    let (name, end) = lived(&place).await;
    assert_eq!(end.cause, "the agent exited with 0", "{end:?}");
    assert_eq!(place.played("user"), "nobody\n");
    assert_eq!(place.played("groups"), "65534\n");
    assert!(place.machine(&name).join("build/here").exists());

    place.options.user = Some("no-such-user".to_owned());
    let order = conformance::order(&place, MARK);
    let error = place.process().create(&order).await.expect_err("no such user");
    assert_eq!(error.class, Class::Denied);
    assert_eq!(error.words, "there is no user `no-such-user` in /etc/passwd");
}

#[tokio::test]
async fn the_probe_tells_what_there_is() {
    let mut place = Place::new(STAYS);
    let probe = place.process().probe().await;
    let (path, version) = probe.agent.expect("the play agent");
    assert_eq!(path, place.options.agent);
    assert_eq!(version.expect("a version").to_string(), "3.137");
    let room = probe.directory.expect("a directory");
    assert!(room.free_bytes > 0 && room.free_bytes <= room.total_bytes, "{room:?}");
    assert!(probe.user.is_none());
    if is_root("control groups") {
        assert!(probe.groups_v2 || !probe.groups_v1.is_empty(), "{:?}", probe.unlimited);
    }
    place.options.agent = "absent".into();
    place.options.user = Some("no-such-user".to_owned());
    let probe = place.process().probe().await;
    assert_eq!(probe.agent.expect_err("absent").class, Class::Denied);
    assert!(probe.user.expect("a user is configured").is_err());
}

#[tokio::test]
async fn a_creator_killed_between_any_two_steps_is_mended_by_a_repeat() {
    let mut place = Place::new(STAYS);
    let machines = place.options.directory.join("machines");
    // In the order in which a creator writes them.
    let steps = ["lock", "orders.json", "token", "labels.json"];
    for done in 0..=steps.len() {
        let order = unstarted(&mut place).await;
        let whole = place.machine(&order.name);
        let aside = machines.join(format!(".new-{}-1-0", order.name));
        fs::rename(&whole, &aside).expect("rename");
        for absent in &steps[done..] {
            fs::remove_file(aside.join(absent)).expect("removed");
        }
        let minutes_ago = std::time::SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
        let dir = fs::File::open(&aside).expect("a directory");
        dir.set_modified(minutes_ago).expect("it is ours");

        let backend = place.process();
        assert!(!aside.exists(), "swept with {done} steps done");
        backend.create(&order).await.expect("the repeat");
        let listing = backend.list().await.expect("a listing");
        assert_eq!(listing.machines.len(), 1, "one machine: {listing:?}");
        until(&backend, &order.name, "connected", is_up).await;
        backend.delete(&order.name).await.expect("delete");
        assert_eq!(fs::read_dir(&machines).expect("machines").count(), 0);
    }
}

/// The step at which a remover was killed: before the rename, with some of it gone already.
#[tokio::test]
async fn a_remover_killed_half_way_is_followed_by_another() {
    let place = Place::new("mkdir -p ro/deep; touch ro/deep/file; chmod 500 ro; exit 0");
    for gone in [&[][..], &["build"], &["build", "plugins", "token"]] {
        let (name, _) = lived(&place).await;
        for part in gone {
            let _ = fs::remove_dir_all(place.machine(&name).join(part));
        }
        let backend = place.process();
        let listing = backend.list().await.expect("a listing");
        assert!(is_ended(listing.machines.iter().find(|machine| machine.name == name)));
        backend.delete(&name).await.expect("delete");
        assert!(!place.machine(&name).exists());
        let _ = fs::remove_file(place.play(&name));
    }
}
