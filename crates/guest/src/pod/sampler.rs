//! Looks at the container's memory while the job runs, and says what it sees in the container's last
//! words as it goes. A thread of its own: neither the deadline nor a signal waits for `/proc`.

use std::io;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use super::image::Image;
use super::memory::{Look, Memory};
use super::message::{LastWords, Message};
use crate::cgroup::{Gauge, Groups, Layout};
use crate::clock;
use crate::place::{Place, read_json};
use crate::report::Report;
use crate::tree;

/// How often the control group's own count is read: one system call.
const GLANCE: Duration = Duration::from_millis(100);
/// How often the processes are looked at while little changes.
const LOOK: Duration = Duration::from_secs(1);
/// The part of the limit by which the use may grow until they are looked at again.
const STEP: u64 = 32;
/// The same where there is no limit.
const STEP_BYTES: u64 = 64 << 20;
/// So many times as long as a look took, none follows: looking takes no more than a hundredth of
/// one processor, however many processes there are.
const REST: u32 = 100;

/// The thread that looks.
#[derive(Debug)]
pub(super) struct Sampler {
    stop: Sender<()>,
    thread: JoinHandle<Memory>,
}

impl Sampler {
    /// `words` is the file for the container's last words; without one it only looks.
    pub(super) fn start(
        place: &Place,
        image: &Image,
        words: Option<LastWords>,
    ) -> io::Result<Self> {
        let groups = Groups::around_us(&Layout::read());
        let watcher = Watcher {
            gauge: groups.memory_gauge(),
            pace: Pace::new(groups.memory_limit()),
            groups,
            memory: Memory::default(),
            place: place.clone(),
            image: image.clone(),
            words,
        };
        let (stop, stopped) = channel();
        let thread =
            Builder::new().name("sampler".to_owned()).spawn(move || run(watcher, &stopped))?;
        Ok(Self { stop, thread })
    }

    /// What it has seen. From then on it says nothing more.
    pub(super) fn stop(self) -> Memory {
        drop(self.stop);
        self.thread.join().expect("it only looks and writes")
    }
}

fn run(mut watcher: Watcher, stopped: &Receiver<()>) -> Memory {
    loop {
        watcher.glance();
        match stopped.recv_timeout(GLANCE) {
            Err(RecvTimeoutError::Timeout) => {}
            Ok(()) | Err(RecvTimeoutError::Disconnected) => return watcher.memory,
        }
    }
}

#[derive(Debug)]
struct Watcher {
    gauge: Option<Gauge>,
    groups: Groups,
    pace: Pace,
    memory: Memory,
    place: Place,
    image: Image,
    words: Option<LastWords>,
}

impl Watcher {
    fn glance(&mut self) {
        let used = self.gauge.as_ref().and_then(Gauge::bytes);
        self.memory.peak_bytes = self.memory.peak_bytes.max(used.unwrap_or_default());
        let began = clock::since_boot();
        if !self.pace.is_due(began, used) {
            return;
        }
        self.memory.take(look(used));
        let peak = self.groups.memory_peak().unwrap_or_default();
        self.memory.peak_bytes = self.memory.peak_bytes.max(peak);
        if let Err(error) = self.say() {
            // Once: the next would fail too, and what is seen is kept all the same.
            eprintln!("jitney guest: what memory goes to is not told: {error}");
            self.words = None;
        }
        self.pace.looked(began, clock::since_boot(), used);
    }

    fn say(&mut self) -> io::Result<()> {
        let Some(words) = &mut self.words else { return Ok(()) };
        // Not yet there in the first moments.
        let Some(report) = read_json::<Report>(&self.place.report())? else { return Ok(()) };
        if report.ended.is_some() {
            // That is for others to say, whole.
            return Ok(());
        }
        let (image, memory) = (self.image.clone(), self.memory.clone());
        words.say(Message { report, image, memory })
    }
}

fn look(used: Option<u64>) -> Look {
    let page = u64::try_from(rustix::param::page_size()).unwrap_or(u64::MAX);
    let processes = tree::running_below_us().into_iter();
    let processes = processes.map(|one| (one.name, one.pages.saturating_mul(page)));
    // A thousandth of a second is as much as anybody reads.
    let at = clock::wall().round(jiff::Unit::Millisecond).unwrap_or_else(|_| clock::wall());
    Look::new(at, used, processes)
}

/// When the processes are looked at again. Times are since the boot.
#[derive(Debug)]
struct Pace {
    step: u64,
    /// When, and how much was in use then.
    last: Option<(Duration, u64)>,
    not_before: Duration,
}

impl Pace {
    fn new(limit: Option<u64>) -> Self {
        let step = limit.map_or(STEP_BYTES, |limit| limit / STEP);
        Self { step, last: None, not_before: Duration::ZERO }
    }

    fn is_due(&self, now: Duration, used: Option<u64>) -> bool {
        let Some((last_at, last_used)) = self.last else { return true };
        let grown = used.is_some_and(|used| used.saturating_sub(last_used) >= self.step.max(1));
        now >= self.not_before && (grown || now >= last_at + LOOK)
    }

    fn looked(&mut self, began: Duration, ended: Duration, used: Option<u64>) {
        self.last = Some((began, used.unwrap_or_default()));
        self.not_before = ended + ended.saturating_sub(began) * REST;
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::time::Instant;

    use rustix::time::{ClockId, clock_gettime};

    use super::*;
    use crate::place::write_whole;

    const MIB: u64 = 1 << 20;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    /// Whether it is time, after a look at 10 s that took `took` and found 100 MiB.
    fn check(limit: Option<u64>, took: u64, after: u64, used: Option<u64>, expected: bool) {
        let mut pace = Pace::new(limit);
        assert!(pace.is_due(Duration::ZERO, None), "the first is at once");
        pace.looked(ms(10_000), ms(10_000 + took), Some(100 * MIB));
        assert_eq!(pace.is_due(ms(10_000 + after), used), expected, "{took} {after} {used:?}");
    }

    #[test]
    fn it_looks_each_second_and_sooner_where_use_grows_but_never_for_more_than_a_hundredth() {
        let limit = Some(3200 * MIB);
        check(limit, 1, 900, Some(199 * MIB), false);
        check(limit, 1, 1000, Some(100 * MIB), true);
        check(limit, 1, 1000, None, true);
        check(limit, 1, 110, Some(200 * MIB), true);
        check(limit, 1, 110, Some(50 * MIB), false);
        check(None, 1, 110, Some(164 * MIB), true);
        check(None, 1, 110, Some(163 * MIB), false);
        // With tens of thousands of processes a look takes its time.
        check(limit, 50, 5040, Some(3000 * MIB), false);
        check(limit, 50, 5050, Some(100 * MIB), true);
    }

    fn busy() -> Duration {
        let time = clock_gettime(ClockId::ThreadCPUTime);
        let seconds = u64::try_from(time.tv_sec).expect("time passes");
        Duration::new(seconds, u32::try_from(time.tv_nsec).expect("nanoseconds"))
    }

    #[test]
    fn a_look_and_a_glance_cost_next_to_nothing() {
        const LOOKS: u32 = 20;
        const GLANCES: u32 = 1000;
        let processes = std::fs::read_dir("/proc").expect("/proc").count();
        let began = busy();
        for _ in 0..LOOKS {
            look(None);
        }
        let of_look = (busy() - began) / LOOKS;
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("memory.current"), "123456\n").expect("written");
        let groups = Groups { v2: Some(folder.path().to_owned()), v1: Vec::new() };
        let gauge = groups.memory_gauge().expect("it is there");
        let began = busy();
        for _ in 0..GLANCES {
            assert_eq!(gauge.bytes(), Some(123_456));
        }
        let of_glance = (busy() - began) / GLANCES;
        // Of one processor, in parts of a million: looks are one a second, glances ten.
        let share = (of_look + of_glance * 10).as_micros();
        println!(
            "{processes} entries of /proc: look {of_look:?}, glance {of_glance:?}, {share} ppm"
        );
        assert!(share < 20_000, "{share} ppm of a processor, without optimization");
    }

    /// What the file for the last words says at some time, if it is as wanted.
    fn until(path: &Path, wanted: impl Fn(&Message) -> bool) -> Message {
        let give_up = Instant::now() + Duration::from_secs(20);
        let (_nobody, pause) = channel::<()>();
        loop {
            let text = std::fs::read_to_string(path).expect("it is there");
            let said = Message::read(&text);
            assert!(said.is_some() || text.is_empty(), "never half of it: {text}");
            if let Some(said) = said.filter(&wanted) {
                return said;
            }
            assert!(Instant::now() < give_up, "{text}");
            let paused = pause.recv_timeout(Duration::from_millis(10));
            assert_eq!(paused, Err(RecvTimeoutError::Timeout));
        }
    }

    #[test]
    fn what_runs_is_said_while_it_runs() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("termination-log");
        std::fs::write(&path, "").expect("written");
        let words = LastWords::open(&path).expect("it is there");
        let place = Place::new(folder.path());
        let image = Image { lacks: vec![super::super::image::Lack::Git] };
        let sampler = Sampler::start(&place, &image, Some(words)).expect("a thread");
        let report = r#"{"phase":"connected","started_at":"2026-11-27T08:00:00Z","connected_at":"2026-11-27T08:00:01Z"}"#;
        write_whole(&place.report(), report.as_bytes()).expect("written");
        // The kernel cuts the name.
        let sleeper = folder.path().join("very-large-program");
        std::os::unix::fs::symlink("/bin/sleep", &sleeper).expect("a link");
        let mut child = std::process::Command::new(&sleeper).arg("60").spawn().expect("it runs");
        let is_there = |said: &Message| {
            let mut programs = said.memory.looks.iter().flat_map(|look| &look.programs);
            programs.any(|one| one.name == "very-large-prog" && one.bytes > 0)
        };
        let said = until(&path, is_there);
        assert_eq!(said.image, image);
        assert!(said.report.ended.is_none() && said.report.connected_at.is_some());
        assert!(said.memory.peak_bytes > 0);
        let memory = sampler.stop();
        child.kill().and_then(|()| child.wait()).expect("it ends");
        assert!(!memory.is_empty());
    }
}
