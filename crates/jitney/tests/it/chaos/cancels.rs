//! A job is cancelled in each of the windows between two steps of its way. Each window is held
//! open by a delay on the next call. The job never runs, and its machine goes at once.

use std::time::Duration;

use jitney::api::JobPhase;
use sandbox::Fault;
use sandbox::engine::{EventKind, State};
use sandbox::machines::Faults;
use tokio::time::Instant;

use super::world::{World, each_ran_once, times};

/// How long a window stays open: longer than the cancel takes to get there.
const OPEN_MS: u64 = 4_000;
/// From the cancel to the deletion of the machine, the window's own length apart.
const PROMPT: Duration = Duration::from_secs(10);

fn delay(route: &str) -> Option<Fault> {
    Some(Fault {
        route: route.to_owned(),
        delay_before_ms: OPEN_MS,
        times: Some(1),
        ..Fault::default()
    })
}

async fn check(what: &str, api: Option<Fault>, machines: Faults, at: JobPhase, made: u64) {
    let world = World::new().await;
    world.set_faults(&machines).await;
    let program = world.start().await;
    program.ready().await;
    if let Some(fault) = api {
        world.sandbox.add_fault(fault);
    }
    let jobs = world.jobs(1, 30.0);
    let phase =
        |seen: &jitney::api::Snapshot| Some(seen.jobs.first()?.phase == at).filter(|is| *is);
    program.until(what, phase).await;
    world.sandbox.engine(|engine, now| engine.cancel_job(jobs[0], now).unwrap());
    let cancelled = Instant::now();
    world.set_faults(&Faults::default()).await;
    program.at_rest().await;
    let took = cancelled.elapsed();
    eprintln!("cancelled {what}: at rest {took:.1?} later");
    let job = world.job(jobs[0]);
    assert_eq!(job.state, State::Canceled, "{what}: {job:#?}");
    assert_eq!(times(&job, EventKind::Started), 0, "{what}: {job:#?}");
    let counters = world.counters().await;
    assert_eq!((counters.made, counters.deleted, counters.alive), (made, made, 0), "{what}");
    let bound = PROMPT + Duration::from_millis(OPEN_MS);
    assert!(took <= bound, "{what}: it took {took:?}\n{}", program.process.err.text());
    each_ran_once(&world.ended(&world.jobs(1, 0.0)).await);
    program.at_rest().await;
    program.stop().await;
}

/// All windows at once: each has a world of its own, and waits most of the time.
#[tokio::test(flavor = "multi_thread")]
async fn in_every_window_between_list_and_start() {
    let slow_create = Faults { create_delay_ms: OPEN_MS, ..Faults::default() };
    let slow_boot = Faults { boot_delay_ms: 600_000, ..Faults::default() };
    let none = Faults::default;
    let reserve = delay("/v3/stacks/{key}/scheduled-jobs/batch-reserve");
    let token = delay("/v3/stacks/{key}/job-acquisition-tokens");
    let acquire = delay("/v3/jobs/{id}/acquire");
    let start = delay("/v3/jobs/{id}/start");
    tokio::join!(
        check("between list and reserve", reserve, none(), JobPhase::Taken, 0),
        check("between reserve and token", token, none(), JobPhase::Reserved, 0),
        check("while the create is under way", None, slow_create, JobPhase::Requested, 1),
        check("while the machine boots", None, slow_boot, JobPhase::Created, 1),
        check("between connect and acquire", acquire, none(), JobPhase::Connected, 1),
        check("between acquire and start", start, none(), JobPhase::Acquired, 1),
    );
}
