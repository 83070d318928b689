//! `kill -9` in the middle of many jobs, again and again: the next start finds everything, no job
//! runs twice, and nothing is left.

use std::collections::BTreeSet;
use std::path::Path;

use sandbox::engine::{EventKind, NewStep};
use sandbox::machines::Faults;
use sandbox::{Fault, engine};

use super::parts;
use super::world::{World, each_ran_once, soon};

/// Of machines at a time; no kill may lead to more.
const LIMIT: usize = 60;

/// Calls that take a while: a kill then befalls some that are under way.
fn slow_calls() -> Fault {
    Fault { route: "/v3/*".to_owned(), delay_before_ms: 25, delay_after_ms: 25, ..Fault::default() }
}

/// Kills the program at each of these moments, when so many jobs have come so far, starts it anew,
/// and sees to the end.
async fn killed_on_http(count: usize, moments: &[(usize, EventKind)]) {
    let mut world = World::new().await;
    // Several waves: at each moment some jobs wait, some are claimed and some run.
    world.queue = format!("    limits: {{ machines: {LIMIT} }}");
    world.sandbox.add_fault(slow_calls());
    let slow = Faults { create_delay_ms: 20, delete_delay_ms: 20, ..Faults::default() };
    world.set_faults(&slow).await;
    let jobs = world.jobs(count, 0.4);
    for (reached, kind) in moments {
        let program = world.start().await;
        world.reached(&jobs, *reached, *kind).await;
        program.process.kill().await;
    }
    let program = world.start().await;
    each_ran_once(&world.ended(&jobs).await);
    program.at_rest().await;
    world.no_machine_is_left().await;
    let made = world.made().await;
    let again: Vec<_> = made.iter().filter(|(_, made)| made.len() > 1).collect();
    assert!(again.is_empty(), "more than one machine: {again:#?}");
    assert_eq!(made.len(), count);
    let most = world.counters().await.most_alive;
    assert!(most <= LIMIT, "the limit of {LIMIT} machines did not hold: {most}");
    program.stop().await;
}

/// Early, in the middle and at the end, each in a world of its own.
#[tokio::test(flavor = "multi_thread")]
async fn nine_times_in_three_times_200_jobs_on_http() {
    use EventKind::{Accepted, Finished, Reserved, Started};
    tokio::join!(
        killed_on_http(200, &[(1, Reserved), (60, Reserved), (1, Accepted)]),
        killed_on_http(200, &[(30, Accepted), (90, Started), (140, Finished)]),
        killed_on_http(200, &[(170, Reserved), (199, Finished), (200, Finished)]),
    );
}

/// Real processes: each job leaves one line of its own, so that two runs of it would be seen.
async fn killed_on_processes(agent: Option<&Path>, count: usize, at: &[(usize, EventKind)]) {
    let mut world = World::new().await;
    match agent {
        Some(agent) => world.on_processes_with(agent),
        None => world.on_processes(),
    }
    world.queue = "    limits: { machines: 6 }".to_owned();
    let ran = world.folder.path().join("ran");
    let command = format!("echo $BUILDKITE_JOB_ID >> {}; sleep 0.5", ran.display());
    let jobs = world.build_steps(vec![NewStep::command(&command); count]);
    for (reached, kind) in at {
        let program = world.start().await;
        world.reached(&jobs, *reached, *kind).await;
        program.process.kill().await;
    }
    let program = world.start().await;
    let ended: Vec<engine::Job> = world.ended(&jobs).await;
    each_ran_once(&ended);
    program.at_rest().await;
    let lines = std::fs::read_to_string(&ran).unwrap();
    let lines: Vec<&str> = lines.lines().collect();
    let distinct: BTreeSet<&str> = lines.iter().copied().collect();
    assert_eq!((lines.len(), distinct.len()), (count, count), "{lines:?}");
    soon("all processes are gone", || super::world::alive_below(&world.builds()).is_empty()).await;
    world.no_trace_is_left();
    program.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn three_times_in_24_processes_and_twice_in_8_real_agents() {
    use EventKind::{Accepted, Finished, Reserved, Started};
    let minimal = [(2, Reserved), (4, Accepted), (12, Finished)];
    tokio::join!(killed_on_processes(None, 24, &minimal), async {
        if let Some(agent) = parts::agent() {
            killed_on_processes(Some(&agent), 8, &[(2, Started), (4, Finished)]).await;
        }
    });
}
