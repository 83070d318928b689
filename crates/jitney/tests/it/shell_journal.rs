//! The journal: what is written is read back, one process at a time, and bad luck with its file.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use jitney::clock::Clock;
use jitney::journal::{Batch, Closed, Error, Journal, Kept, Opened, Options, Phases};
use planner::{Event, JobId, JobRow, QueueKey, Timestamp};
use uuid::Uuid;

const KEEP: Duration = Duration::from_secs(30 * 24 * 3600);

fn options(folder: &Path) -> Options {
    Options::new(folder.join("state").join("jitney.db"), KEEP)
}

fn open(options: &Options) -> Opened {
    Journal::open(options, Clock::start()).expect("the folder is ours")
}

fn at(millis: u64) -> Timestamp {
    Timestamp::from_millis(millis)
}

fn taken(job: JobId) -> Event {
    let row = JobRow {
        id: job,
        queue: QueueKey::new("jit"),
        priority: 0,
        rules: vec!["queue=jit".into()],
        scheduled_at: at(1),
        runnable_at: None,
        pipeline: "web".into(),
        branch: "main".into(),
        build: 7,
        step: None,
    };
    Event::Taken { job, row: Arc::new(row), request: None, doom: None, at: at(2) }
}

fn batch(events: Vec<Event>) -> Batch {
    Batch { events, dispatch: "d".into(), at: at(3), closed: Vec::new() }
}

fn closed(job: JobId, closed_at: Timestamp) -> Closed {
    Closed {
        job,
        queue: QueueKey::new("jit"),
        pipeline: Some("web".into()),
        build: Some(7),
        step: None,
        outcome: "finished".into(),
        why: "the job has ended".into(),
        attempts: 1,
        backend: None,
        machine: None,
        replaces: None,
        replaced_by: None,
        phases: Phases::default(),
        cpu_millis_used: Some(5),
        peak_memory_bytes: None,
        closed_at,
        moments: Vec::new(),
    }
}

fn job(number: u128) -> JobId {
    JobId(Uuid::from_u128(number))
}

#[tokio::test]
async fn what_was_written_is_read_back_and_what_is_done_moves_into_history() {
    let folder = tempfile::tempdir().unwrap();
    let options = options(folder.path());
    let first = open(&options);
    let (one, two) = (job(1), job(2));
    assert_eq!(first.journal.append(batch(vec![taken(one), taken(two)])).await, Kept::Written);
    let now = Clock::start().now();
    let mut done = batch(vec![Event::Forgotten { job: two, at: now, why: "done".into() }]);
    done.closed.push(closed(two, now));
    assert_eq!(first.journal.append(done).await, Kept::Written);
    drop(first.journal);

    let second = open(&options);
    let jobs: Vec<_> = second.ledger.entries().map(|entry| entry.job).collect();
    assert_eq!(jobs, [one]);
    assert_eq!(second.instance, first.instance);
    assert_eq!(second.moved_aside, None);
    // What was written bears moments of long before the journal was begun.
    assert_eq!((first.written_at, second.written_at), (first.begun_at, first.begun_at));
    assert_eq!(second.journal.history(two).await, Some(closed(two, now)));
    assert_eq!(second.journal.history(one).await, None);
    assert_eq!(second.journal.recent(10).await.len(), 1);
}

#[tokio::test]
async fn history_is_forgotten_after_its_time() {
    let folder = tempfile::tempdir().unwrap();
    let options = options(folder.path());
    let first = open(&options);
    let mut done = batch(Vec::new());
    let now = Clock::start().now();
    done.closed = vec![closed(job(1), now.minus(KEEP * 2)), closed(job(2), now)];
    first.journal.append(done).await;
    drop(first.journal);

    let second = open(&options);
    let left: Vec<_> = second.journal.recent(10).await.iter().map(|closed| closed.job).collect();
    assert_eq!(left, [job(2)]);
}

#[tokio::test]
async fn a_second_process_is_told_who_has_the_journal() {
    let folder = tempfile::tempdir().unwrap();
    let options = options(folder.path());
    let _first = open(&options);
    let error = Journal::open(&options, Clock::start()).unwrap_err();
    let Error::InUse { pid, .. } = &error else { panic!("{error}") };
    assert_eq!(*pid, std::process::id().to_string());
    assert!(error.to_string().contains("store.journal"), "{error}");
}

#[tokio::test]
async fn a_corrupt_journal_is_moved_aside_and_the_instance_survives() {
    let folder = tempfile::tempdir().unwrap();
    let options = options(folder.path());
    let first = open(&options);
    first.journal.append(batch(vec![taken(job(1))])).await;
    drop(first.journal);
    std::fs::write(&options.path, b"this is not a database, whatever its name says").unwrap();

    let second = open(&options);
    assert_eq!(second.ledger.entries().count(), 0);
    assert_eq!(second.instance, first.instance);
    let moved = second.moved_aside.expect("it was moved");
    assert!(moved.to_string_lossy().contains("jitney.db.corrupt-"), "{moved:?}");
    assert!(std::fs::read(&moved).unwrap().starts_with(b"this is not"));
    assert_eq!(second.journal.append(batch(vec![taken(job(2))])).await, Kept::Written);
}

#[tokio::test]
async fn when_it_was_begun_is_kept_until_it_is_begun_anew() {
    let folder = tempfile::tempdir().unwrap();
    let options = options(folder.path());
    let first = open(&options);
    assert_eq!(first.journal.append(batch(vec![taken(job(1))])).await, Kept::Written);
    drop(first.journal);
    // The newest event is of the third millisecond: time does not go back behind it or the begin.
    for (begun, written) in [(2_u32, 3), (5, 5)] {
        let file = rusqlite::Connection::open(&options.path).unwrap();
        assert_eq!(file.execute("UPDATE begun SET at = ?1", [begun]).unwrap(), 1);
        drop(file);
        let again = open(&options);
        assert_eq!((again.begun_at, again.written_at), (at(begun.into()), at(written)));
        drop(again.journal);
    }

    std::fs::write(&options.path, "no journal at all, and long enough to be told from one")
        .unwrap();
    let anew = open(&options);
    assert!(anew.moved_aside.is_some());
    assert!(anew.begun_at > at(5), "{:?}", anew.begun_at);
}

#[tokio::test]
async fn a_journal_with_an_event_that_nobody_understands_is_moved_aside() {
    let folder = tempfile::tempdir().unwrap();
    let options = options(folder.path());
    drop(open(&options).journal);
    let tool = rusqlite::Connection::open(&options.path).unwrap();
    tool.execute("INSERT INTO events VALUES (1, x'00', 1, 'd', '{\"event\":\"never\"}')", [])
        .unwrap();
    drop(tool);
    assert!(open(&options).moved_aside.is_some());
}

#[tokio::test]
async fn a_newer_journal_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let options = options(folder.path());
    drop(open(&options).journal);
    let tool = rusqlite::Connection::open(&options.path).unwrap();
    tool.pragma_update(None, "user_version", 99).unwrap();
    drop(tool);
    let error = Journal::open(&options, Clock::start()).unwrap_err();
    assert!(matches!(error, Error::Newer { found: 99, .. }), "{error}");
}

#[tokio::test]
async fn a_journal_that_cannot_be_written_is_a_clear_error() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("state");
    std::fs::write(&file, b"a file where a folder should be").unwrap();
    let error = Journal::open(&options(folder.path()), Clock::start()).unwrap_err();
    let words = error.to_string();
    assert!(words.contains("jitney.db") && words.contains("store.journal"), "{words}");

    // A place that is read only, also for somebody whom no permission stops.
    let read_only = Options::new("/proc/self/jitney.db".into(), KEEP);
    let words = Journal::open(&read_only, Clock::start()).unwrap_err().to_string();
    assert!(words.contains("/proc/self/jitney.db") && words.contains("store.journal"), "{words}");

    // A folder in the journal's place: also for somebody whom no permission stops.
    let options = Options::new(folder.path().to_owned(), KEEP);
    let error = Journal::open(&options, Clock::start()).unwrap_err();
    assert!(matches!(error, Error::Unusable { .. }), "{error}");
}

#[tokio::test]
async fn a_full_disk_loses_nothing_and_is_noticed_both_ways() {
    let folder = tempfile::tempdir().unwrap();
    let options = options(folder.path());
    let opened = open(&options);
    let mut full = opened.journal.full();
    // Somebody holds the file so that it takes no writes, as a full disk takes none.
    let mut tool = rusqlite::Connection::open(&options.path).unwrap();
    let held = tool.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate).unwrap();
    assert_eq!(opened.journal.append(batch(vec![taken(job(1))])).await, Kept::InMemory);
    full.wait_for(|full| *full).await.unwrap();
    held.commit().unwrap();
    full.wait_for(|full| !*full).await.unwrap();
    drop(opened.journal);
    assert_eq!(open(&options).ledger.entries().count(), 1);
}

#[tokio::test]
async fn the_journal_grows_to_its_limit_and_no_further() {
    let folder = tempfile::tempdir().unwrap();
    let mut options = options(folder.path());
    options.most_bytes = 80 * 1024;
    let opened = open(&options);
    let mut kept = Kept::Written;
    for number in 0..2_000 {
        kept = opened.journal.append(batch(vec![taken(job(number))])).await;
        if kept == Kept::InMemory {
            break;
        }
    }
    assert_eq!(kept, Kept::InMemory);
    assert!(*opened.journal.full().borrow());
    drop(opened.journal);
    assert!(std::fs::metadata(&options.path).unwrap().len() <= options.most_bytes);
}

#[tokio::test]
async fn history_makes_room_for_work_when_the_journal_has_grown_to_its_limit() {
    let folder = tempfile::tempdir().unwrap();
    let mut options = options(folder.path());
    options.most_bytes = 256 * 1024;
    let opened = open(&options);
    for number in 0..2_000_u32 {
        let done = closed(job(number.into()), at(number.into()));
        let batch = Batch { closed: vec![done], ..batch(Vec::new()) };
        assert_eq!(opened.journal.append(batch).await, Kept::Written, "job {number}");
    }
    assert!(opened.journal.history(job(1_999)).await.is_some());
    assert!(opened.journal.history(job(0)).await.is_none(), "the oldest is gone");
    assert!(!*opened.journal.full().borrow());
    drop(opened.journal);
    assert!(std::fs::metadata(&options.path).unwrap().len() <= options.most_bytes);
}

#[tokio::test]
async fn a_journal_that_takes_no_writes_holds_nobody_up() {
    let folder = tempfile::tempdir().unwrap();
    let options = options(folder.path());
    let opened = open(&options);
    let mut tool = rusqlite::Connection::open(&options.path).unwrap();
    let held = tool.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate).unwrap();
    let began = std::time::Instant::now();
    // Each try of a file that somebody holds takes 200 ms.
    for number in 0..50 {
        assert_eq!(opened.journal.append(batch(vec![taken(job(number))])).await, Kept::InMemory);
    }
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    held.commit().unwrap();
    drop(opened.journal);
    assert_eq!(open(&options).ledger.entries().count(), 50, "the end does not wait to try");
}
