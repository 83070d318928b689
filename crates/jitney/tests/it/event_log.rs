//! The event log of real runs: what was decided is decided again, and bad luck with its file costs
//! nothing but the log.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use jitney::event_log::{Error, Options};
use rustix::process::{Pid, Signal, kill_process};
use sandbox::Fault;
use sandbox::engine::{EventKind, State};
use sandbox::machines::{Faults, Refusal};
use serde_json::Value;
use tokio::process::{Child, Command};
use uuid::Uuid;

use crate::cli_support::{Ran, command, jitney};
use crate::rules::repository;
use crate::shell_support::{PATIENCE, TOKEN, World};

/// `jitney run --event-log`, a process of its own.
struct Run {
    child: Child,
    stderr: PathBuf,
}

impl Run {
    fn start(world: &World, log: &str) -> Self {
        let folder = world.folder.path();
        fs::write(folder.join("jitney.yaml"), world.yaml()).unwrap();
        let stderr = folder.join("stderr");
        let mut run = command(&["run", "--event-log", log], &[], folder);
        run.stdout(Stdio::null()).stderr(File::create(&stderr).unwrap());
        Self { child: run.spawn().unwrap(), stderr }
    }

    fn signal(&self, signal: Signal) {
        let pid = self.child.id().and_then(|pid| i32::try_from(pid).ok()).and_then(Pid::from_raw);
        kill_process(pid.unwrap(), signal).unwrap();
    }

    /// Ends it with a signal, and gives what it said.
    async fn end(mut self, signal: Signal) -> String {
        self.signal(signal);
        tokio::time::timeout(PATIENCE, self.child.wait()).await.unwrap().unwrap();
        fs::read_to_string(self.stderr).unwrap()
    }
}

async fn replay(world: &World, args: &[&str]) -> Ran {
    jitney(&[&["replay"], args].concat(), world.folder.path()).await
}

fn many(count: usize) -> String {
    format!("steps: [{{ command: x, parallelism: {count}, env: {{ PLAY_SECONDS: \"0.3\" }} }}]")
}

/// Waits until so many of the jobs have come to such a state.
async fn until(world: &World, jobs: &[Uuid], count: usize, state: impl Fn(State) -> bool) {
    world
        .until("jobs come so far", |engine| {
            let states = jobs.iter().filter_map(|id| Some(engine.job(*id)?.state));
            (states.filter(|is| state(*is)).count() >= count).then_some(())
        })
        .await;
}

/// A short run with a few jobs, written down.
async fn recorded(jobs: usize) -> (World, PathBuf) {
    let mut world = World::new().await;
    let log = world.folder.path().join("events.jsonl");
    world.event_log = Some(Options::new(log.clone()));
    let program = world.start().await;
    let jobs = world.build(&many(jobs));
    world.ended(&jobs).await;
    program.at_rest().await;
    program.stop().await;
    (world, log)
}

fn lines(log: &Path) -> Vec<Value> {
    let text = fs::read_to_string(log).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn write_lines(log: &Path, lines: &[Value]) {
    let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
    fs::write(log, text).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_with_much_bad_luck_is_decided_again_as_it_was() {
    let mut world = World::new().await;
    world
        .set_faults(&Faults {
            boot_delay_ms: 100,
            die_before_acquire: 15,
            die_after_acquire: 5,
            lose_create_reply: 10,
            fail_delete: 5,
            incomplete_lists: 3,
            refuse: Some(Refusal {
                class: backends::Class::Capacity,
                times: 3,
                message: None,
                retry_after_s: Some(0.2),
                place: None,
            }),
            ..Faults::default()
        })
        .await;
    for (route, times) in [("/v3/stacks/{key}/scheduled-jobs/batch-reserve", 2), ("/v3/*", 3)] {
        let fault =
            Fault { route: route.to_owned(), skip: 5, times: Some(times), ..Fault::default() };
        world.sandbox.add_fault(Fault { status: Some(503), ..fault });
    }
    world.more = "limits: { machines: 20 }".into();
    let jobs = world.build(&many(200));
    let run = Run::start(&world, "events.jsonl");
    until(&world, &jobs, 40, State::is_terminal).await;
    // Machines are slow to start, and Buildkite's time passes: what is reserved lapses.
    world.set_faults(&Faults { boot_delay_ms: 2_000, ..Faults::default() }).await;
    until(&world, &jobs, 5, |state| matches!(state, State::Reserved)).await;
    world.sandbox.advance(Duration::from_secs(3_600));
    world
        .until("some lapse", |engine| {
            let events = jobs.iter().filter_map(|id| engine.job(*id)).flat_map(|job| &job.events);
            let mut lapses =
                events.filter(|event| matches!(event.kind, EventKind::ReservedExpired));
            lapses.next().map(|_| ())
        })
        .await;
    world.set_faults(&Faults { boot_delay_ms: 100, ..Faults::default() }).await;
    until(&world, &jobs, 80, State::is_terminal).await;
    world.more = "limits: { machines: 60 }".into();
    fs::write(world.folder.path().join("jitney.yaml"), world.yaml()).unwrap();
    run.signal(Signal::HUP);
    until(&world, &jobs, 40, |state| matches!(state, State::Running)).await;
    run.end(Signal::KILL).await;
    let run = Run::start(&world, "events.jsonl");
    world.ended(&jobs).await;
    run.end(Signal::TERM).await;

    let ran = replay(&world, &["events.jsonl"]).await.expect(0);
    for part in
        ["ok all", "in 2 parts, with 1 reload\n", "jobs      200\n", "stopped in good order"]
    {
        assert!(ran.out.contains(part), "{part} is not in\n{}", ran.out);
    }
    let json = replay(&world, &["events.jsonl", "--json"]).await.expect(0).json();
    assert_eq!((&json["differing"], &json["first_difference"]), (&0.into(), &Value::Null));
    let log = &json["log"];
    assert!(log["rounds"].as_u64().unwrap() > 100, "{log:#}");
    for kind in ["attempt_failed", "create_ended", "delete_ended", "told", "forgotten"] {
        assert!(log["events"][kind].as_u64().unwrap_or(0) > 0, "nothing was {kind}: {log:#}");
    }
    let text = fs::read_to_string(world.folder.path().join("events.jsonl")).unwrap();
    println!("{}\n{} bytes for each job", ran.out, text.len() / jobs.len());
    for secret in [TOKEN, "bkjat_", "PLAY_SECONDS"] {
        assert!(!text.contains(secret), "{secret} is in the log");
    }
    let mode = fs::metadata(world.folder.path().join("events.jsonl")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_changed_in_a_log_is_decided_otherwise() {
    let (world, log) = recorded(5).await;
    replay(&world, &["events.jsonl"]).await.expect(0);
    let all = lines(&log);

    // Buildkite never reserved the first job.
    let mut changed = all.clone();
    let reserved = |line: &Value| line["recorded"]["event"] == "reserved";
    let at = changed.iter().position(reserved).unwrap();
    let job = changed[at]["recorded"]["job"].as_str().unwrap().to_owned();
    changed.remove(at);
    write_lines(&log, &changed);
    let ran = replay(&world, &["events.jsonl"]).await.expect(4);
    for part in ["decided otherwise", "- it was step", "+ now    hold", &job] {
        assert!(ran.out.contains(part), "{part} is not in\n{}", ran.out);
    }
    let json = replay(&world, &["events.jsonl", "--json"]).await.expect(4).json();
    assert!(json["differing"].as_u64().unwrap() >= 1, "{json:#}");
    let first = &json["first_difference"];
    let round = first["round"].as_u64().unwrap();
    assert!(first["differences"].as_array().unwrap().iter().any(|one| one["part"] == "step"));
    let looked = replay(&world, &["events.jsonl", "--round", &round.to_string()]).await.expect(0);
    assert!(looked.out.contains("decided otherwise now"), "{}", looked.out);

    // One millisecond, in what was decided.
    let mut changed = all;
    let wakes = |line: &&mut Value| line["decided"]["plan"]["wake_at"].is_u64();
    let wake = changed.iter_mut().rfind(wakes).unwrap();
    let at = &mut wake["decided"]["plan"]["wake_at"];
    *at = (at.as_u64().unwrap() + 1).into();
    write_lines(&log, &changed);
    let json = replay(&world, &["events.jsonl", "--json"]).await.expect(4).json();
    assert_eq!(json["differing"], 1, "{json:#}");
    let part = &json["first_difference"]["differences"][0]["part"];
    assert_eq!(part, "wake_at", "{json:#}");

    // Cut off before the first round.
    write_lines(&log, &changed[..1]);
    let ran = replay(&world, &["events.jsonl"]).await.expect(0);
    assert!(ran.out.contains("the log ends before its first round"), "{}", ran.out);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_round_a_dispatch_and_a_job_can_be_looked_at() {
    let (world, log) = recorded(5).await;
    let created = |line: &Value| line["recorded"]["event"] == "create_intended";
    let intent = lines(&log).into_iter().find(created).unwrap();
    let job = intent["recorded"]["job"].as_str().unwrap().to_owned();
    let dispatch = intent["recorded"]["dispatch"].as_str().unwrap().to_owned();

    let ran = replay(&world, &["events.jsonl", "--job", &job]).await.expect(0);
    for part in ["seen     listed", "decided  step", "{\"action\":\"create\"", "told     event"] {
        assert!(ran.out.contains(part), "{part} is not in\n{}", ran.out);
    }
    let others = lines(&log).into_iter().filter_map(|line| {
        let other = line["recorded"]["job"].as_str()?.to_owned();
        (other != job).then_some(other)
    });
    for other in others {
        assert!(!ran.out.contains(&other), "{other} is in\n{}", ran.out);
    }
    let ran = replay(&world, &["events.jsonl", "--round", &dispatch]).await.expect(0);
    assert!(ran.out.contains(&dispatch) && ran.out.contains("\"create\""), "{}", ran.out);
    let json = replay(&world, &["events.jsonl", "--json", "--round", "3"]).await.expect(0).json();
    assert_eq!(
        (&json["rounds"][0]["round"], &json["rounds"][0]["same"]),
        (&3.into(), &true.into())
    );
    assert!(json["rounds"][0]["whole"]["seen"]["backends"]["there"].is_object(), "{json:#}");

    for (flag, what, words) in [
        ("--round", "999999", "There is no round 999999"),
        ("--round", "ffffffffffff", "No dispatch"),
        ("--job", "ffffffff-ffff", "No job"),
    ] {
        let ran = replay(&world, &["events.jsonl", flag, what]).await.expect(4);
        assert!(ran.out.contains(words), "{}", ran.out);
    }
    // Ids begin with the time, and these were made in the same moment.
    let ran = replay(&world, &["events.jsonl", "--job", &job[..8]]).await.expect(4);
    assert!(
        ran.out.contains("Several have an id that begins with") && ran.out.contains(&job),
        "{}",
        ran.out
    );
    let ran = replay(&world, &["events.jsonl", "--round", "third"]).await.expect(2);
    assert!(ran.err.contains("counted from 1"), "{}", ran.err);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_configuration_is_tried_on_a_day_that_was() {
    let (world, _) = recorded(5).await;
    let file = world.folder.path().join("other.yaml");
    fs::write(&file, world.yaml()).unwrap();
    let args = ["events.jsonl", "--config", "other.yaml"];
    let ran = replay(&world, &args).await.expect(0);
    assert!(ran.out.contains("decided as they were under other.yaml"), "{}", ran.out);

    fs::write(&file, world.yaml() + "limits: { machines: 2 }\n").unwrap();
    let ran = replay(&world, &args).await.expect(4);
    for part in ["under other.yaml", "+ now    hold", "\"limit\""] {
        assert!(ran.out.contains(part), "{part} is not in\n{}", ran.out);
    }
    // What a job asks for is judged anew as well.
    let yaml =
        world.yaml().replace("backends: [there] }", "backends: [there], defaults: { cpu: 3 } }");
    fs::write(&file, yaml).unwrap();
    let ran = replay(&world, &args).await.expect(4);
    assert!(ran.out.contains("3000"), "{}", ran.out);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_whole_log_is_said_with_its_place() {
    let (world, log) = recorded(3).await;
    let whole = fs::read_to_string(&log).unwrap();
    let count = whole.lines().count();

    // The disk was full, or the process killed, in the middle of a line.
    fs::write(&log, &whole[..whole.len() - 10]).unwrap();
    let ran = replay(&world, &["events.jsonl"]).await.expect(0);
    let broken = format!("breaks off in line {count}");
    assert!(ran.out.contains(&broken) && ran.out.contains("not stopped"), "{}", ran.out);
    // And whoever came next went on.
    fs::write(&log, format!("{}\n{whole}", &whole[..whole.len() - 10])).unwrap();
    let ran = replay(&world, &["events.jsonl"]).await.expect(0);
    assert!(ran.out.contains(&broken) && ran.out.contains("in 2 parts"), "{}", ran.out);

    let second = whole.lines().nth(1).unwrap();
    let newer = whole.replace("\"version\":1,\"program\":\"", "\"version\":2,\"program\":\"9.");
    let headless: String = whole.lines().skip(1).map(|line| format!("{line}\n")).collect();
    for (text, words) in [
        (String::new(), "it is empty"),
        ("name: jitney\n".to_owned(), "does not begin as an event log does"),
        (headless, "from its first line on"),
        (newer, "written by jitney 9."),
        (whole.replace(second, &second[..40]), "line 2 is damaged"),
        (whole.replace(&format!("{second}\n"), ""), "builds on lines that are not there"),
    ] {
        fs::write(&log, text).unwrap();
        let ran = replay(&world, &["events.jsonl"]).await.expect(2);
        assert!(ran.err.contains(words) && ran.err.contains("events.jsonl"), "{}", ran.err);
    }
    for (name, words) in [("nowhere.jsonl", "No such file"), (".", "line 1: Is a directory")] {
        let ran = replay(&world, &[name]).await.expect(2);
        assert!(ran.err.contains(words) && ran.err.contains(name), "{}", ran.err);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_ends_the_log_and_nothing_else() {
    let world = World::new().await;
    let run = Run::start(&world, "/dev/full");
    let jobs = world.jobs(20);
    let ended = world.ended(&jobs).await;
    assert!(ended.iter().all(|job| job.outcome.is_success()));
    let said = run.end(Signal::TERM).await;
    let lines: Vec<&str> = said.lines().filter(|line| line.contains("the event log;")).collect();
    assert_eq!(lines.len(), 1, "{said}");
    assert!(lines[0].contains("No space left") && lines[0].contains("/dev/full"), "{lines:?}");
}

/// A pipe that nobody reads takes a few pages and then nothing, as a disk does that hangs.
#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_hangs_leaves_a_gap_that_is_known() {
    let mut world = World::new().await;
    let pipe = world.folder.path().join("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().await.unwrap().success());
    world.event_log = Some(Options::new(pipe.clone()));
    world.more = "limits: { machines: 4 }".into();
    let program = world.start().await;
    loop {
        // More rounds than may wait for the disk.
        let jobs = world.jobs(40);
        world.ended(&jobs).await;
        if program.status().await.counts.rounds > 600 {
            break;
        }
    }
    let log = world.folder.path().join("events.jsonl");
    let copy = log.clone();
    let reader = std::thread::spawn(move || {
        std::io::copy(&mut File::open(pipe).unwrap(), &mut File::create(copy).unwrap()).unwrap()
    });
    let jobs = world.jobs(20);
    world.ended(&jobs).await;
    program.at_rest().await;
    program.stop().await;
    reader.join().unwrap();

    let json = replay(&world, &["events.jsonl", "--json"]).await.expect(0).json();
    let log = &json["log"];
    assert_eq!((&json["differing"], &log["starts"]), (&0.into(), &2.into()), "{log:#}");
    assert!(log["rounds_missed"].as_u64().unwrap() > 0, "{log:#}");
    let ran = replay(&world, &["events.jsonl"]).await.expect(0);
    assert!(ran.out.contains("the disk was too slow"), "{}", ran.out);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_does_not_wait_for_a_disk_that_hangs() {
    let mut world = World::new().await;
    let pipe = world.folder.path().join("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().await.unwrap().success());
    world.more = "limits: { machines: 4 }".into();
    let run = Run::start(&world, "pipe");
    let jobs = world.jobs(100);
    world.ended(&jobs).await;
    let began = std::time::Instant::now();
    let said = run.end(Signal::TERM).await;
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    assert!(said.contains("without waiting any longer for the event log"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_grows_to_its_largest_size_and_each_file_of_it_can_be_replayed() {
    let mut world = World::new().await;
    let log = world.folder.path().join("events.jsonl");
    const MOST: u64 = 60_000;
    world.event_log = Some(Options { path: log.clone(), most_bytes: MOST });
    let program = world.start().await;
    for _ in 0..6 {
        let jobs = world.jobs(10);
        world.ended(&jobs).await;
        program.at_rest().await;
    }
    program.stop().await;
    for name in ["events.jsonl", "events.jsonl.1"] {
        let bytes = fs::metadata(world.folder.path().join(name)).unwrap().len();
        // What the round held that came to the end, and those that waited behind it.
        assert!(bytes < MOST * 3, "{name}: {bytes} bytes");
        let ran = replay(&world, &[name]).await.expect(0);
        assert!(ran.out.contains("ok all"), "{name}: {}", ran.out);
    }
    assert!(fs::metadata(world.folder.path().join("events.jsonl.1")).unwrap().len() >= MOST);
    assert_eq!(
        fs::read_dir(world.folder.path())
            .unwrap()
            .filter(|entry| {
                entry.as_ref().unwrap().file_name().to_string_lossy().starts_with("events")
            })
            .count(),
        2
    );
}

/// As a full disk: the log ends, and all else goes on.
#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_cannot_be_put_aside_ends_whole() {
    let mut world = World::new().await;
    let log = world.folder.path().join("events.jsonl");
    world.event_log = Some(Options { path: log.clone(), most_bytes: 30_000 });
    fs::create_dir_all(log.with_added_extension("1").join("in the way")).unwrap();
    let program = world.start().await;
    for _ in 0..4 {
        let jobs = world.jobs(10);
        world.ended(&jobs).await;
        program.at_rest().await;
    }
    program.stop().await;
    let ran = replay(&world, &["events.jsonl"]).await.expect(0);
    assert!(ran.out.contains("not stopped in good order"), "{}", ran.out);
    assert!(fs::metadata(&log).unwrap().len() < 300_000);
}

/// A log of an earlier version, as it was written. Where it cannot be read any more, either what was
/// added needs a default, or `LOG_VERSION` grows and this file is recorded anew. That this version
/// decides otherwise is its right.
#[tokio::test]
async fn a_log_of_this_form_stays_readable() {
    let log = repository().join("crates/jitney/tests/golden/events.1.jsonl");
    let folder = tempfile::tempdir().unwrap();
    let ran = jitney(&["replay", &log.display().to_string(), "--json"], folder.path()).await;
    assert!(matches!(ran.code, Some(0 | 4)), "{}", ran.err);
    let json = ran.json();
    assert_eq!((&json["log"]["jobs"], &json["log"]["stopped"]), (&3.into(), &true.into()));
    assert_eq!(json["log"]["events"]["taken"], 2, "the third is foreign");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_no_log_or_another_ones_is_left_alone() {
    let mut world = World::new().await;
    let log = world.folder.path().join("events.jsonl");
    world.event_log = Some(Options::new(log.clone()));
    let program = world.start().await;
    program.until("it is ready", |snapshot| snapshot.missing.is_empty().then_some(())).await;

    let mut other = World::new().await;
    other.event_log = world.event_log.clone();
    let error = other.start().await.result().await.unwrap_err();
    assert!(matches!(&error, jitney::run::Error::EventLog(Error::InUse { path }) if *path == log));
    program.stop().await;

    let notes = other.folder.path().join("notes");
    fs::write(&notes, "mine").unwrap();
    fs::write(other.folder.path().join("jitney.yaml"), other.yaml()).unwrap();
    let ran = jitney(&["run", "--event-log", "notes"], other.folder.path()).await.expect(2);
    assert!(ran.err.contains("something else than an event log"), "{}", ran.err);
    assert_eq!(fs::read_to_string(notes).unwrap(), "mine");
    let ran = jitney(&["run", "--event-log", "no/where"], other.folder.path()).await.expect(1);
    assert!(ran.err.contains("no/where") && ran.err.contains("--event-log"), "{}", ran.err);
}
