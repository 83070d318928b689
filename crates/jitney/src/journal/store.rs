//! The SQLite file: its form, what is read from it and written to it. It keeps no thread and no
//! memory of its own.

use std::path::{Path, PathBuf};
use std::time::Duration;

use planner::{Event, JobId, Ledger, Timestamp};
use rusqlite::{Connection, ErrorCode, OptionalExtension, params};

use super::{Batch, Closed, Error};

/// Each step brings a file from the version of its index to the next.
const MIGRATIONS: [&str; 3] = [
    "
    CREATE TABLE events (
        seq INTEGER PRIMARY KEY,
        job BLOB NOT NULL,
        at INTEGER NOT NULL,
        dispatch TEXT NOT NULL,
        body TEXT NOT NULL
    );
    CREATE INDEX events_of_job ON events (job);
    CREATE TABLE history (
        job BLOB PRIMARY KEY,
        closed_at INTEGER NOT NULL,
        queue TEXT NOT NULL,
        pipeline TEXT,
        build INTEGER,
        outcome TEXT NOT NULL,
        attempts INTEGER NOT NULL,
        seen_at INTEGER,
        created_at INTEGER,
        connected_at INTEGER,
        acquired_at INTEGER,
        ended_at INTEGER,
        gone_at INTEGER,
        cpu_millis_used INTEGER,
        peak_memory_bytes INTEGER,
        body TEXT NOT NULL
    ) WITHOUT ROWID;
    CREATE INDEX history_by_time ON history (closed_at);
",
    "
    CREATE TABLE lasting (seq INTEGER PRIMARY KEY, at INTEGER NOT NULL, body TEXT NOT NULL);
    CREATE INDEX lasting_by_time ON lasting (at);
",
    "
    CREATE TABLE begun (at INTEGER NOT NULL);
",
];

/// Somebody who looks into the file with a tool of theirs holds it for moments only.
const BUSY: Duration = Duration::from_millis(200);

/// What SQLite keeps of the file in memory: negative, in KiB. Events are written, seldom read.
const CACHE_KIB: i64 = -512;

/// How many jobs' history makes room for what is new: a few megabytes.
const MADE_ROOM: i64 = 1_000;

/// Why the file could not be used.
#[derive(Debug)]
pub(super) enum Broken {
    /// It does not hold what a journal holds.
    Corrupt(String),
    Other(Error),
}

/// What a journal's events make, and when it was last written to.
#[derive(Debug, Default)]
pub(super) struct Replayed {
    pub ledger: Ledger,
    pub written_at: Timestamp,
    /// When the file was begun; zero of one that is from before that was kept.
    pub begun_at: Timestamp,
}

#[derive(Debug)]
pub(super) struct Store {
    connection: Connection,
    path: PathBuf,
}

impl Store {
    pub(super) fn open(path: &Path, most_bytes: u64, now: Timestamp) -> Result<Self, Broken> {
        let broken = |error: rusqlite::Error| classify(path, &error);
        let connection = Connection::open(path).map_err(broken)?;
        connection.busy_timeout(BUSY).map_err(broken)?;
        // WAL with NORMAL does not wait for the disk at each commit: a crash of the host may lose
        // the last moments, never the file. That is enough, because what correctness needs is in
        // the machines' names and labels and in Buildkite's reservations.
        connection.pragma_update(None, "journal_mode", "WAL").map_err(broken)?;
        connection.pragma_update(None, "synchronous", "NORMAL").map_err(broken)?;
        connection.pragma_update(None, "cache_size", CACHE_KIB).map_err(broken)?;
        let page: u32 =
            connection.query_row("PRAGMA page_size", [], |row| row.get(0)).map_err(broken)?;
        let pages = (most_bytes / u64::from(page.max(1))).clamp(1, u64::from(u32::MAX - 1));
        connection
            .query_row(&format!("PRAGMA max_page_count = {pages}"), [], |row| row.get::<_, i64>(0))
            .map_err(broken)?;
        let mut store = Self { connection, path: path.to_owned() };
        store.migrate(now)?;
        Ok(store)
    }

    fn migrate(&mut self, now: Timestamp) -> Result<(), Broken> {
        let path = self.path.clone();
        let broken = |error: rusqlite::Error| classify(&path, &error);
        let found: u32 = self
            .connection
            .query_row("PRAGMA user_version", [], |row| row.get(0))
            .map_err(broken)?;
        let known = u32::try_from(MIGRATIONS.len()).expect("a few migrations");
        if found > known {
            return Err(Broken::Other(Error::Newer { path, found, known }));
        }
        let done = usize::try_from(found).expect("checked to be small");
        let transaction = self.connection.transaction().map_err(broken)?;
        for step in MIGRATIONS.iter().skip(done) {
            transaction.execute_batch(step).map_err(broken)?;
        }
        if found == 0 {
            transaction
                .execute("INSERT INTO begun (at) VALUES (?1)", params![number(now)])
                .map_err(broken)?;
        }
        if found < known {
            transaction.pragma_update(None, "user_version", known).map_err(broken)?;
        }
        transaction.commit().map_err(broken)?;
        // That it can be written to is known now, not at the first job.
        self.connection
            .execute_batch("BEGIN IMMEDIATE; DELETE FROM events WHERE seq < 0; COMMIT")
            .map_err(broken)
    }

    /// What the events make.
    pub(super) fn replay(&self) -> Result<Replayed, Broken> {
        let broken = |error: rusqlite::Error| classify(&self.path, &error);
        let begun = "SELECT at FROM begun";
        let begun: Option<i64> =
            self.connection.query_row(begun, [], |row| row.get(0)).optional().map_err(broken)?;
        let begun_at = moment(begun.unwrap_or_default());
        let mut replayed = Replayed { begun_at, written_at: begun_at, ..Replayed::default() };
        // What outlives its job first: a job that was taken since finds it.
        for table in ["lasting", "events"] {
            let select = format!("SELECT seq, body, at FROM {table} ORDER BY seq");
            let mut select = self.connection.prepare(&select).map_err(broken)?;
            let mut rows = select.query([]).map_err(broken)?;
            while let Some(row) = rows.next().map_err(broken)? {
                let seq: i64 = row.get(0).map_err(broken)?;
                let body: String = row.get(1).map_err(broken)?;
                let event: Event = serde_json::from_str(&body)
                    .map_err(|error| Broken::Corrupt(format!("{table} {seq}: {error}")))?;
                replayed.ledger.record(event);
                let at: i64 = row.get(2).map_err(broken)?;
                replayed.written_at = replayed.written_at.max(moment(at));
            }
        }
        Ok(replayed)
    }

    /// All batches in one commit, or none of them.
    pub(super) fn write<'a>(
        &mut self,
        batches: impl Iterator<Item = &'a Batch>,
    ) -> rusqlite::Result<()> {
        let transaction = self.connection.transaction()?;
        {
            let mut insert = transaction.prepare_cached(
                "INSERT INTO events (job, at, dispatch, body) VALUES (?1, ?2, ?3, ?4)",
            )?;
            let mut outlive =
                transaction.prepare_cached("INSERT INTO lasting (at, body) VALUES (?1, ?2)")?;
            let mut remove = transaction.prepare_cached("DELETE FROM events WHERE job = ?1")?;
            let mut close = transaction.prepare_cached(
                "INSERT OR REPLACE INTO history (job, closed_at, queue, pipeline, build, outcome,
                 attempts, seen_at, created_at, connected_at, acquired_at, ended_at, gone_at,
                 cpu_millis_used, peak_memory_bytes, body)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16)",
            )?;
            for batch in batches {
                for event in &batch.events {
                    let job = event.job();
                    if matches!(event, Event::Forgotten { .. }) {
                        remove.execute(params![key(job)])?;
                        continue;
                    }
                    let body = serde_json::to_string(event).expect("events have a JSON form");
                    if event.outlives_its_job() {
                        outlive.execute(params![number(batch.at), body])?;
                    }
                    insert.execute(params![key(job), number(batch.at), batch.dispatch, body])?;
                }
                for closed in &batch.closed {
                    close_job(&mut close, closed)?;
                }
            }
        }
        transaction.commit()
    }

    pub(super) fn history(&self, job: JobId) -> rusqlite::Result<Option<Closed>> {
        let mut select =
            self.connection.prepare_cached("SELECT body FROM history WHERE job = ?1")?;
        let body: Option<String> =
            select.query_row(params![key(job)], |row| row.get(0)).optional()?;
        Ok(body.and_then(|body| serde_json::from_str(&body).ok()))
    }

    pub(super) fn recent(&self, most: u32) -> rusqlite::Result<Vec<Closed>> {
        let mut select = self
            .connection
            .prepare_cached("SELECT body FROM history ORDER BY closed_at DESC LIMIT ?1")?;
        let rows = select.query_map(params![most], |row| row.get::<_, String>(0))?;
        let mut closed = Vec::new();
        for body in rows {
            closed.extend(serde_json::from_str::<Closed>(&body?).ok());
        }
        Ok(closed)
    }

    /// Drops the oldest of the history, if the file is at its limit; of a disk that is full for
    /// another reason nothing is won. Answers how many jobs it has forgotten.
    pub(super) fn make_room(&self) -> rusqlite::Result<usize> {
        let number = |pragma: &str| -> rusqlite::Result<i64> {
            self.connection.query_row(pragma, [], |row| row.get(0))
        };
        let (pages, most) = (number("PRAGMA page_count")?, number("PRAGMA max_page_count")?);
        if pages < most - most / 8 {
            return Ok(0);
        }
        self.connection.execute(
            "DELETE FROM history WHERE job IN (SELECT job FROM history ORDER BY closed_at LIMIT ?1)",
            params![MADE_ROOM],
        )
    }

    /// However short history is kept: what is counted for a build has to outlive the build.
    pub(super) fn prune_lasting(&self, before: Timestamp) -> rusqlite::Result<usize> {
        self.connection.execute("DELETE FROM lasting WHERE at < ?1", params![number(before)])
    }

    pub(super) fn prune(&self, before: Timestamp) -> rusqlite::Result<usize> {
        self.connection.execute("DELETE FROM history WHERE closed_at < ?1", params![number(before)])
    }
}

fn close_job(insert: &mut rusqlite::CachedStatement<'_>, closed: &Closed) -> rusqlite::Result<()> {
    let at = |at: Option<Timestamp>| at.map(number);
    let phases = &closed.phases;
    insert.execute(params![
        key(closed.job),
        number(closed.closed_at),
        closed.queue.as_str(),
        closed.pipeline,
        closed.build.and_then(|build| i64::try_from(build).ok()),
        closed.outcome,
        closed.attempts,
        at(phases.seen),
        at(phases.created),
        at(phases.connected),
        at(phases.acquired),
        at(phases.ended),
        at(phases.gone),
        closed.cpu_millis_used.and_then(|millis| i64::try_from(millis).ok()),
        closed.peak_memory_bytes.and_then(|bytes| i64::try_from(bytes).ok()),
        serde_json::to_string(closed).expect("history has a JSON form"),
    ])?;
    Ok(())
}

fn key(job: JobId) -> [u8; 16] {
    job.0.into_bytes()
}

fn moment(millis: i64) -> Timestamp {
    Timestamp::from_millis(u64::try_from(millis).unwrap_or_default())
}

fn number(at: Timestamp) -> i64 {
    i64::try_from(at.millis()).unwrap_or(i64::MAX)
}

fn classify(path: &Path, error: &rusqlite::Error) -> Broken {
    match error.sqlite_error_code() {
        Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt) => {
            Broken::Corrupt(error.to_string())
        }
        // "no such column", "table events already exists": not the form that its version says.
        Some(ErrorCode::Unknown) => Broken::Corrupt(error.to_string()),
        Some(_) | None => Broken::Other(super::unusable(path, error)),
    }
}
