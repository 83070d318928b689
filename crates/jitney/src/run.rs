//! The one loop that owns the truth: it takes in what came, decides, writes down what is to be
//! done, and has it done. Sources, executor and web only send it messages.

mod apply;
mod guests;
mod rest;
mod round;
mod snapshot;
mod state;
mod story;

use std::sync::Arc;
use std::time::Duration;

use planner::QueueKey;
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout_at};

use crate::clock::Clock;
use crate::event_log::{self, EventLog};
use crate::executor::{Executor, Stamp};
use crate::fleet::Fleet;
use crate::input::{Input, Sender};
use crate::journal::{self, Journal, Opened};
use crate::settings::{Options, Settings};
use crate::sources::machines::MachineSource;
use crate::sources::queue::QueueSource;
use crate::sources::stacks::Registrar;
use crate::web;
use state::State;

/// Rounds are at least this far apart; the first after a pause comes at once.
const APART: Duration = Duration::from_millis(10);
/// A long round is followed by a rest half as long as itself, up to this: what it has begun goes on
/// meanwhile, and the next one takes in more at once.
const REST_MOST: Duration = Duration::from_millis(50);
/// How many messages one round takes in; the rest is for the next.
const TAKE_MOST: usize = 20_000;
/// How long a stop waits for calls under way, and then for notifications.
const STOP_CALLS: Duration = Duration::from_secs(3);
const STOP_NOTICES: Duration = Duration::from_secs(1);

/// Why the program cannot go on. Each says what to do.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Journal(#[from] journal::Error),
    #[error(transparent)]
    EventLog(#[from] event_log::Error),
    #[error(
        "Buildkite does not know our token: {words}; give buildkite.token (or token_file) an agent token of the cluster"
    )]
    Unauthorized { words: String },
    #[error(
        "the token belongs to no cluster of {organization}, and only clusters have stacks; use an agent token of a cluster"
    )]
    Unclustered { organization: String },
    #[error(
        "Buildkite issues no job acquisition tokens to us: {words}; have them enabled for the organisation, or set buildkite.job_tokens: optional, knowing that machines then get the cluster's token"
    )]
    NoJobTokens { words: String },
    #[error(
        "the cluster has no queue {queue}: {words}; create it, or take it out of the configuration"
    )]
    NoQueue { queue: String, words: String },
    #[error("Buildkite refuses a stack for the queue {queue}: {words}")]
    NoStack { queue: String, words: String },
    #[error("what answers at buildkite.endpoint is not what we expect: {words}")]
    Endpoint { words: String },
    #[error("a part of the program has failed: {words}; this is a bug, please report it")]
    Bug { words: String },
}

/// Runs until it is told to stop.
///
/// # Errors
/// What cannot heal by itself, at the start or later.
pub async fn run(options: Options) -> Result<(), Error> {
    let opened = Journal::open(&options.journal, options.clock)?;
    let options = Options { clock: goes_on(options.clock, &opened), ..options };
    let event_log = options.event_log.as_ref().map(EventLog::open).transpose()?;
    let shutdown = options.shutdown.clone();
    let (inbox, mut outlet) = mpsc::unbounded_channel();
    let mut tasks = JoinSet::new();
    let (mut state, mut reloads) = start(options, opened, &inbox, &mut tasks);
    state.event_log = event_log;
    let mut full = state.journal.full();
    let mut earliest = Instant::now();
    let ended = loop {
        let wake = state.wake_at().map(|wait| Instant::now() + wait);
        tokio::select! {
            Some(input) = outlet.recv() => state.apply(input),
            () = sleep_until(wake.unwrap_or_else(Instant::now)), if wake.is_some() => {
                state.dirty = true;
            }
            Some(settings) = reloads.recv() => state.reload(settings),
            Ok(()) = full.changed() => {
                let full = *full.borrow_and_update();
                state.apply(Input::JournalFull(full));
            }
            Some(ended) = tasks.join_next() => {
                if let Err(error) = ended {
                    break Err(Error::Bug { words: error.to_string() });
                }
            }
            () = shutdown.cancelled() => break Ok(()),
        }
        if state.dirty {
            sleep_until(earliest).await;
        }
        for _ in 0..TAKE_MOST {
            let Ok(input) = outlet.try_recv() else { break };
            state.apply(input);
        }
        if let Some(error) = state.fatal.take() {
            break Err(error);
        }
        if state.dirty {
            let began = Instant::now();
            state.round().await;
            earliest = began + apart(began.elapsed());
        }
    };
    stop(state, tasks, outlet).await;
    ended
}

/// How long after a round's beginning the next may begin.
fn apart(took: Duration) -> Duration {
    APART.max(took + (took / 2).min(REST_MOST))
}

/// Time does not go back for the ledger. Else, where the clock was set back since, everything that
/// has to be looked at again after some moment would wait for that moment to come once more.
fn goes_on(clock: Clock, opened: &Opened) -> Clock {
    let ahead = opened.written_at.since(clock.now());
    if !ahead.is_zero() {
        tracing::warn!(
            seconds = ahead.as_secs_f64(),
            "the clock was set back since the journal was written; going on from its last moment"
        );
    }
    clock.not_before(opened.written_at)
}

fn start(
    options: Options,
    opened: Opened,
    inbox: &Sender,
    tasks: &mut JoinSet<()>,
) -> (State, mpsc::Receiver<Settings>) {
    let Options { settings, client, rest, backends, doors, fleets, listener, clock, .. } = options;
    let mark = Arc::clone(&settings.policy.name);
    let instance: Arc<str> = opened.instance.as_str().into();
    let stamp = Stamp {
        mark: Arc::clone(&mark),
        instance: Arc::clone(&instance),
        endpoint: settings.endpoint.as_str().into(),
    };
    let registrar = Registrar {
        client: client.clone(),
        name: mark.to_string(),
        instance: instance.to_string(),
        job_tokens: settings.job_tokens,
        clock,
        loop_inbox: inbox.clone(),
    };
    let queues: Vec<QueueKey> = settings.policy.queues.keys().cloned().collect();
    let served = fleets.iter().map(|fleet| QueueKey::new(&fleet.queue));
    let served: Vec<QueueKey> = served.filter(|served| !queues.contains(served)).collect();
    let wakes = web::Wakes::new(&[queues.as_slice(), served.as_slice()].concat());
    let (settings, seen_settings) = watch::channel(Arc::new(settings));
    let executor = Executor::new(clock, inbox.clone(), stamp, rest);
    let mut state = State::new(clock, settings, opened, executor);
    for (name, backend) in backends {
        let (live, seen_live) = watch::channel(false);
        let poke = state.add_backend(name.clone(), Arc::clone(&backend), live);
        let (mark, loop_inbox) = (Arc::clone(&mark), inbox.clone());
        let source =
            MachineSource { name, mark, backend, clock, loop_inbox, live: seen_live, poke };
        tasks.spawn(source.run());
    }
    let sources: Vec<QueueSource> = queues
        .into_iter()
        .map(|queue| {
            let (sender, origins) = mpsc::unbounded_channel();
            state.add_queue(queue.clone(), sender);
            QueueSource {
                wake: wakes.of(&queue).unwrap_or_else(|| Arc::new(Notify::new())),
                queue,
                registrar: registrar.clone(),
                settings: seen_settings.clone(),
                origins,
            }
        })
        .collect();
    for options in fleets {
        // Of a queue that has a stack of ours as well, that one's source is woken.
        let own = served.iter().find(|served| served.as_str() == options.queue);
        let wake = own.and_then(|queue| wakes.of(queue)).unwrap_or_default();
        let draining = state.draining.subscribe();
        let (fleet, status) = Fleet::new(options, client.clone(), clock, draining, wake);
        state.fleets.push(status);
        tasks.spawn(fleet.run());
    }
    if !sources.is_empty() {
        tasks.spawn(queues_for_ever(registrar, sources));
    }
    let web = web::Web {
        inbox: inbox.clone(),
        settings: seen_settings,
        wakes,
        doors: Arc::new(doors),
        clock,
    };
    tasks.spawn(web::serve(listener, web));
    (state, options.reloads)
}

/// Ends, with the reason sent to the loop, only when the program cannot go on.
async fn queues_for_ever(registrar: Registrar, sources: Vec<QueueSource>) {
    let error = match registrar.identify().await {
        Ok(identity) => {
            let mut queues = JoinSet::new();
            for source in sources {
                queues.spawn(source.run(identity.clone()));
            }
            match queues.join_next().await {
                Some(Ok(error)) => error,
                Some(Err(error)) => Error::Bug { words: error.to_string() },
                None => Error::Bug { words: "there is no queue".into() },
            }
        }
        Err(error) => error,
    };
    // The loop has gone: it needs no reason any more.
    let _ = registrar.loop_inbox.send(Input::Fatal(error));
}

/// Takes nothing new, waits a little for what is under way, and writes everything down. Machines
/// run on, and stacks stay registered: who comes next takes both over.
async fn stop(mut state: State, tasks: JoinSet<()>, mut outlet: mpsc::UnboundedReceiver<Input>) {
    drop(tasks);
    let until = Instant::now() + STOP_CALLS;
    while state.executor.in_flight() > 0 {
        match timeout_at(until, outlet.recv()).await {
            Ok(Some(input)) => state.apply(input),
            Ok(None) | Err(_) => break,
        }
    }
    state.write_down().await;
    if let Some(log) = state.event_log.take() {
        log.end(state.clock.now());
    }
    state.executor.flush_notices(STOP_NOTICES).await;
    tracing::info!(
        jobs = state.ledger.entries().count(),
        "stopped; machines run on, and whoever is started next takes them over"
    );
}
