//! Agents and jobs on this host that do not behave: too old, deaf to SIGTERM, forked away.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use rustix::process::{Pid, Signal, kill_process};
use sandbox::engine::{EventKind, NewStep, State};

use super::world::{World, alive_below, each_ran_once, entries, soon};

fn script(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

async fn an_agent_that_is_too_old_is_an_alarm_and_its_successor_is_used_at_once() {
    let mut world = World::new().await;
    let agent = world.folder.path().join("buildkite-agent");
    script(&agent, "#!/bin/sh\necho buildkite-agent version 3.51.0, build 1\n");
    world.on_processes_with(&agent);
    let program = world.start().await;
    let jobs = world.build_steps(vec![NewStep::command("true")]);
    let alarm = program.until("the alarm", |seen| seen.alarms.first().cloned()).await;
    assert_eq!(alarm.kind, "denied");
    assert!(alarm.text.contains("3.51") && alarm.text.contains("3.52 or newer"), "{alarm:?}");
    fs::remove_file(&agent).unwrap();
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_jitney"), &agent).unwrap();
    each_ran_once(&world.ended(&jobs).await);
    program.at_rest().await;
    program.stop().await;
    world.no_trace_is_left();
}

/// The job's shell ignores SIGTERM, and so does what it forked away into a session of its own.
async fn a_cancelled_job_that_ignores_sigterm_and_forked_away_leaves_nothing() {
    let mut world = World::new().await;
    world.on_processes();
    let program = world.start().await;
    let command = "trap '' TERM; setsid -f sh -c 'trap \"\" TERM; sleep 600' >/dev/null 2>&1; \
                   while :; do sleep 1; done";
    let jobs = world.build_steps(vec![NewStep::command(command)]);
    world.reached(&jobs, 1, EventKind::Started).await;
    let sleeps = || alive_below(&world.builds()).values().any(|line| line.contains("sleep 600"));
    soon("it has forked away", sleeps).await;
    world.sandbox.engine(|engine, now| engine.cancel_job(jobs[0], now).unwrap());
    program.at_rest().await;
    assert_eq!(world.ended(&jobs).await[0].state, State::Canceled);
    soon("all processes are gone", || alive_below(&world.builds()).is_empty()).await;
    world.no_trace_is_left();
    program.stop().await;
}

/// An agent that hears no signal but the one that nobody can ignore.
async fn an_agent_that_ignores_sigterm_is_gone_with_its_cancelled_job() {
    let mut world = World::new().await;
    let agent = world.folder.path().join("buildkite-agent");
    let deaf = "#!/bin/bash\nif [ \"$1\" = --version ]; then echo buildkite-agent version \
                3.137.0+deaf; exit; fi\ntrap '' TERM QUIT INT\nwhile :; do sleep 1; done\n";
    script(&agent, deaf);
    world.on_processes_with(&agent);
    let program = world.start().await;
    let jobs = world.build_steps(vec![NewStep::command("true")]);
    soon("the agent runs", || {
        alive_below(&world.builds()).values().any(|line| line.contains("buildkite-agent"))
    })
    .await;
    world.sandbox.engine(|engine, now| engine.cancel_job(jobs[0], now).unwrap());
    program.at_rest().await;
    soon("all processes are gone", || alive_below(&world.builds()).is_empty()).await;
    world.no_trace_is_left();
    program.stop().await;
}

/// As when the program is killed between a machine's directory and the start of its guest: the next
/// start finds a machine that nobody will ever start, and does not wait for its agent.
async fn a_machine_whose_guest_never_lived_is_made_anew() {
    let mut world = World::new().await;
    let agent = world.folder.path().join("buildkite-agent");
    let idle = "#!/bin/sh\nif [ \"$1\" = --version ]; then echo buildkite-agent version \
                3.137.0+idle; exit; fi\nexec sleep 600\n";
    script(&agent, idle);
    world.on_processes_with(&agent);
    let program = world.start().await;
    let jobs = world.build_steps(vec![NewStep::command("true")]);
    let sleeps = || alive_below(&world.builds()).values().any(|line| line.contains("sleep 600"));
    soon("the agent runs", sleeps).await;
    program.process.kill().await;
    for pid in alive_below(&world.builds()).into_keys() {
        let pid = Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
        // One may have gone with the other.
        let _ = kill_process(pid, Signal::KILL);
    }
    soon("they are gone", || alive_below(&world.builds()).is_empty()).await;
    let machines = entries(&world.builds().join("machines"));
    assert_eq!(machines.len(), 1);
    fs::remove_file(machines[0].join("report.json")).unwrap();
    fs::remove_file(&agent).unwrap();
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_jitney"), &agent).unwrap();

    let program = world.start().await;
    each_ran_once(&world.ended(&jobs).await);
    program.at_rest().await;
    world.no_trace_is_left();
    program.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn agents_and_jobs_that_do_not_behave_leave_nothing() {
    tokio::join!(
        an_agent_that_is_too_old_is_an_alarm_and_its_successor_is_used_at_once(),
        a_cancelled_job_that_ignores_sigterm_and_forked_away_leaves_nothing(),
        an_agent_that_ignores_sigterm_is_gone_with_its_cancelled_job(),
        a_machine_whose_guest_never_lived_is_made_anew(),
    );
}
