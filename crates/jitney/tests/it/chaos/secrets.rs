//! Planted secrets: the cluster's token, the tokens for single jobs, the API's own token and a
//! secret in a job's environment appear in no log, argument list, file of ours, or reply.

use std::fs;
use std::path::Path;

use sandbox::engine::{EventKind, NewStep};

use super::world::{TOKEN, World, each_ran_once, of_process, with_env};

const OF_THE_JOB: &str = "planted_in_the_jobs_environment";
const OF_THE_API: &str = "planted_for_the_api";
/// The cluster's token, tokens for one job, of an agent's session, and of a running job.
const SECRETS: [&str; 6] = [TOKEN, "bkjat_", "bkaa_", "bkaj_", OF_THE_JOB, OF_THE_API];

fn check(place: &str, text: &str) {
    for secret in SECRETS {
        let Some(at) = text.find(secret) else { continue };
        let from = text[..at].rfind('\n').map_or(0, |end| end + 1);
        let line = text[from..].lines().next().unwrap_or_default();
        panic!("{secret} is in {place}: {line}");
    }
}

fn arguments() -> String {
    let pids = fs::read_dir("/proc").unwrap().flatten();
    let pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.map(|pid| of_process(pid, "cmdline") + "\n").collect()
}

fn files(folder: &Path) -> String {
    let mut all = String::new();
    for path in super::world::entries(folder) {
        if path.is_dir() {
            all.push_str(&files(&path));
        } else {
            all.push_str(&String::from_utf8_lossy(&fs::read(&path).unwrap_or_default()));
        }
    }
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn planted_secrets_appear_nowhere() {
    let mut world = World::new().await;
    world.on_processes();
    // Its environment is looked at, for the sake of one fact.
    let policies = "policies: [{ match: { fork: true }, limits: { machines: 9 } }]";
    world.more = format!("access: {{ token: {OF_THE_API} }}\n{policies}");
    let config = world.config();
    let loud = fs::read_to_string(&config).unwrap().replace("level: info", "level: trace");
    fs::write(&config, loud).unwrap();
    let program = super::program::Program::start(&config, world.folder.path()).await;
    let step = NewStep::command("sleep 2; echo told=${#SECRET}");
    let step = with_env(step, &[("SECRET", OF_THE_JOB)]);
    let jobs = world.build_steps(vec![step; 3]);
    world.reached(&jobs, 1, EventKind::Started).await;
    let seen = arguments();
    assert!(seen.contains("buildkite-agent"), "an agent runs now: {seen}");
    check("an argument list", &seen);
    check("a file while the jobs run", &files(&world.folder.path().join("state")));
    let ended = world.ended(&jobs).await;
    each_ran_once(&ended);
    for job in &ended {
        let told = format!("told={}", OF_THE_JOB.len());
        assert!(job.log.text().contains(&told), "the job knew its secret: {}", job.log.text());
    }
    let explain = format!("/api/jobs/{}", jobs[0]);
    for path in ["/api/status", "/api/history", "/metrics", "/readyz", "/healthz", &explain] {
        let (_, text) = program.get_with(path, OF_THE_API).await;
        check(path, &text);
        check(path, &program.get(path).await.1);
    }
    let heard = program.stop().await.text();
    assert!(heard.contains(&jobs[0].to_string()), "this is the log of these jobs");
    check("the log", &heard);
    let files = files(&world.folder.path().join("state")) + &files(&world.builds());
    assert!(files.contains(&jobs[0].to_string()), "this is the journal of these jobs");
    check("a file", &files);
}
