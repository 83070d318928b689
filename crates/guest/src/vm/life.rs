//! The life of a virtual machine: its token, the guest proper beside us, what is told of it, and
//! what ends it before its time. The steps from a stop to the agent's end are the guest's own.

use std::io;
use std::process::{Child, Command, ExitStatus};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::{JoinHandle, sleep};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use super::metadata::Metadata;
use super::parting::Parting;
use super::tell::post;
use super::{Asking, Given, TOKEN, Told, VmOrders};
use crate::clock;
use crate::place::{Place, read_json};
use crate::report::{Phase, Report};
use crate::signals::Signals;

/// How often the report is looked at, and signals are passed on.
const LOOK: Duration = Duration::from_millis(100);
const AGAIN_FIRST: Duration = Duration::from_millis(500);
const AGAIN_MOST: Duration = Duration::from_secs(5);
/// For how long the last report is told of; then the machine goes off all the same.
const LAST_WORDS: Duration = Duration::from_secs(15);

/// What happens beside the looks.
enum Event {
    Ended(io::Result<ExitStatus>),
    Preempted,
}

pub(super) struct Life<'a> {
    orders: &'a VmOrders,
    metadata: Metadata,
    signals: Signals,
    /// Since the boot.
    connect_by: Duration,
}

impl<'a> Life<'a> {
    pub(super) fn begin(orders: &'a VmOrders, metadata: Metadata) -> io::Result<Self> {
        let connect_by = clock::since_boot() + Duration::from_secs(orders.connect_within_s);
        Ok(Self { orders, metadata, signals: Signals::catch()?, connect_by })
    }

    /// From the metadata, or from Jitney; nothing where there is none in time.
    pub(super) fn token(&mut self) -> io::Result<Option<String>> {
        let Some(url) = &self.orders.url else {
            return self.metadata.get(&format!("instance/attributes/{TOKEN}")).map(Some);
        };
        let mut pause = AGAIN_FIRST;
        while clock::since_boot() < self.connect_by {
            if self.signals.take_stop() {
                return Ok(None);
            }
            match self.ask(url) {
                Ok(token) => return Ok(Some(token)),
                Err(error) => eprintln!("jitney guest: no token yet: {error}"),
            }
            sleep(pause);
            pause = (pause * 2).min(AGAIN_MOST);
        }
        Ok(None)
    }

    fn ask(&self, url: &str) -> io::Result<String> {
        let identity = self.metadata.identity(url)?;
        let asking = serde_json::to_string(&Asking { identity }).map_err(io::Error::other)?;
        let answer = post(&format!("{url}/token"), &asking)?;
        let given: Given = serde_json::from_str(&answer).map_err(io::Error::other)?;
        Ok(given.token)
    }

    /// Stays with the guest until it is gone, and tells of what it writes down.
    pub(super) fn watch_over(&mut self, place: &Place) -> io::Result<Parting> {
        let mut guest = Command::new("/proc/self/exe");
        // The same program may be the whole of Jitney, which calls its guest by a word.
        guest
            .args(std::env::args_os().skip(1).take_while(|arg| arg != super::RUN))
            .arg(place.dir());
        let guest = guest.spawn()?;
        let pid = Pid::from_child(&guest);
        let (events, happened) = channel();
        wait_for(guest, events.clone());
        let metadata = self.metadata.clone();
        std::thread::spawn(move || {
            metadata.until_preempted();
            // Nobody listens any more: the machine is going off anyway.
            let _ = events.send(Event::Preempted);
        });
        let teller = Teller::start(self.orders.url.clone(), &self.metadata);
        let preempted = self.until_gone(place, pid, &happened, &teller)?;
        let report = read_json::<Report>(&place.report())?;
        let connected = report.as_ref().is_some_and(|report| report.connected_at.is_some());
        if let Some(report) = report {
            teller.say(report, preempted);
        }
        teller.finish();
        Ok(match (preempted, connected) {
            (true, _) => Parting::Taken,
            (false, true) => Parting::Served,
            (false, false) => Parting::NeverConnected,
        })
    }

    /// Whether it was preempted.
    fn until_gone(
        &mut self,
        place: &Place,
        guest: Pid,
        happened: &Receiver<Event>,
        teller: &Teller,
    ) -> io::Result<bool> {
        let (mut preempted, mut connected, mut given_up) = (false, false, false);
        loop {
            match happened.recv_timeout(LOOK) {
                Ok(Event::Ended(status)) => {
                    status?;
                    return Ok(preempted);
                }
                Ok(Event::Preempted) => {
                    eprintln!("jitney guest: the machine is being preempted; the agent stops now");
                    preempted = true;
                    if let Some(report) = read_json::<Report>(&place.report())? {
                        teller.say(report, true);
                    }
                    stop(guest);
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(io::Error::other("nobody waits for the guest any more"));
                }
            }
            if self.signals.take_stop() {
                stop(guest);
            }
            let report = if connected { None } else { read_json::<Report>(&place.report())? };
            if let Some(report) = report.filter(|report| report.phase == Phase::Connected) {
                connected = true;
                teller.say(report, false);
            }
            if !connected && !given_up && clock::since_boot() >= self.connect_by {
                eprintln!("jitney guest: no agent has connected in time; it stops now");
                given_up = true;
                stop(guest);
            }
        }
    }
}

/// It is our child, and whoever waits for it says so before its number can be another's.
fn stop(guest: Pid) {
    if let Err(error) = kill_process(guest, Signal::TERM) {
        eprintln!("jitney guest: the guest cannot be told to stop: {error}");
    }
}

fn wait_for(mut guest: Child, events: Sender<Event>) {
    std::thread::spawn(move || {
        let ended = guest.wait();
        // Nobody listens any more: the machine is going off anyway.
        let _ = events.send(Event::Ended(ended));
    });
}

/// Tells Jitney, in a thread of its own: neither signals nor the deadline wait for a network. Only
/// the newest report matters.
struct Teller {
    reports: Sender<(Report, bool)>,
    thread: JoinHandle<()>,
}

impl Teller {
    fn start(url: Option<String>, metadata: &Metadata) -> Self {
        let (reports, told) = channel();
        let metadata = metadata.clone();
        let thread = std::thread::spawn(move || {
            if let Some(url) = url {
                tell_all(&url, &metadata, &told);
            }
        });
        Self { reports, thread }
    }

    fn say(&self, report: Report, preempted: bool) {
        // Where nobody is to be told the other end is closed.
        let _ = self.reports.send((report, preempted));
    }

    fn finish(self) {
        drop(self.reports);
        if self.thread.join().is_err() {
            eprintln!("jitney guest: the last report was not told");
        }
    }
}

fn tell_all(url: &str, metadata: &Metadata, told: &Receiver<(Report, bool)>) {
    while let Ok(mut report) = told.recv() {
        let mut pause = AGAIN_FIRST;
        let mut give_up = None;
        loop {
            match tell(url, metadata, &report) {
                Ok(()) => break,
                Err(error) => eprintln!("jitney guest: a report was not told: {error}"),
            }
            match told.recv_timeout(pause) {
                Ok(newer) => report = newer,
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    let until = *give_up.get_or_insert(clock::since_boot() + LAST_WORDS);
                    if clock::since_boot() >= until {
                        return;
                    }
                    sleep(pause);
                }
            }
            pause = (pause * 2).min(AGAIN_MOST);
        }
    }
}

fn tell(url: &str, metadata: &Metadata, (report, preempted): &(Report, bool)) -> io::Result<()> {
    let identity = metadata.identity(url)?;
    let told = Told { identity, report: report.clone(), preempted: *preempted };
    let body = serde_json::to_string(&told).map_err(io::Error::other)?;
    post(&format!("{url}/report"), &body).map(drop)
}
