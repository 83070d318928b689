//! T2: many jobs that become visible at one moment, and the arrival of each create; beside it a
//! bare loop of the same calls, which shows what the world itself takes.

use super::{Measured, each, last, repeat, samples};
use crate::Done;
use crate::bare;
use crate::cores::Cores;
use crate::process::own_processor;
use crate::record::{Bound, Curve, Curves, Line, Statistic, Unit};
use crate::stage::{Scene, Stage, World, millis};

/// So many jobs, the last create within so many milliseconds.
const COUNTS: [(usize, f64); 2] = [(1_000, 1_000.0), (5_000, 2_000.0)];
/// Agents begin when the last create has long been sent.
const BOOT_MS: u64 = 60_000;
/// The count that is drawn.
const DRAWN: usize = 1_000;

/// One run: when each create came, and what the burst took of processors.
#[derive(Debug)]
struct Burst {
    creates: Vec<f64>,
    program_ms: f64,
    world_ms: f64,
}

pub(super) async fn measure(cores: Cores, runs: usize) -> Done<Measured> {
    let mut measured = Measured::default();
    for (count, most) in COUNTS {
        let ours = repeat(runs, || by_jitney(cores, count)).await?;
        let bare = repeat(runs, || by_bare_loop(cores, count)).await?;
        let reach = [Bound::at_most(Statistic::Median, most)];
        let mut line = |what: &str, reach: &[Bound], runs: &[Vec<f64>]| -> Done<()> {
            let what = format!("{count} jobs: {what}");
            measured.lines.push(Line::new(what, Unit::Millis, reach, runs)?);
            Ok(())
        };
        line("the last create", &reach, &each(&ours, |run| last(&run.creates)))?;
        line("each create", &[], &samples(&ours, |run| &run.creates))?;
        line("the last create of a bare loop", &[], &each(&bare, |run| last(&run.creates)))?;
        line("Jitney's processor time", &[], &each(&ours, |run| run.program_ms))?;
        line("the bare loop's processor time", &[], &each(&bare, |run| run.program_ms))?;
        line("the world's processor time", &[], &each(&ours, |run| run.world_ms))?;
        if count == DRAWN {
            measured.curves.extend(median_run(ours, Curves::Jitney));
            measured.curves.extend(median_run(bare, Curves::BareLoop));
        }
    }
    Ok(measured)
}

/// That of which the last create came neither early nor late.
fn median_run(mut runs: Vec<Burst>, of: Curves) -> Option<Curve> {
    runs.sort_by(|a, b| last(&a.creates).total_cmp(&last(&b.creates)));
    let middle = runs.len() / 2;
    runs.into_iter().nth(middle).map(|run| Curve::new(of, run.creates))
}

async fn by_jitney(cores: Cores, count: usize) -> Done<Burst> {
    let stage = Stage::set(cores, scene()).await?;
    let world = &stage.world;
    let (program, around) = (stage.program.processor()?, spent(world)?);
    let (_, at) = world.jobs(count, |_| 0.0)?;
    world.until_created(count).await?;
    Ok(Burst {
        program_ms: (stage.program.processor()? - program) * 1000.0,
        world_ms: (spent(world)? - around) * 1000.0,
        creates: since(world, at).await?,
    })
}

async fn by_bare_loop(cores: Cores, count: usize) -> Done<Burst> {
    let world = World::set(scene()).await?;
    let loops = bare::start(cores, &world, count)?;
    bare::until_registered(&world).await?;
    let around = spent(&world)?;
    let program = loops.processor()?;
    let (_, at) = world.jobs(count, |_| 0.0)?;
    world.until_created(count).await?;
    Ok(Burst {
        program_ms: (loops.processor()? - program) * 1000.0,
        world_ms: (spent(&world)? - around) * 1000.0,
        creates: since(&world, at).await?,
    })
}

const fn scene() -> Scene {
    Scene { webhook: false, boot_delay_ms: BOOT_MS }
}

/// Seconds of a processor.
fn spent(world: &World) -> Done<f64> {
    Ok(own_processor()? + world.machines.processor()?)
}

/// How long after that moment each job's create arrived.
async fn since(world: &World, at: jiff::Timestamp) -> Done<Vec<f64>> {
    let creates = world.creates().await?;
    Ok(creates.values().map(|create| millis(at, *create)).collect())
}
