//! `jitney route` as a build would call it: a pipeline through standard input, and back.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::process::Stdio;

use tokio::io::AsyncWriteExt;

use crate::cli_support::{Ran, command};

const PIPELINE: &str = "# ours\nsteps:\n  - command: make\n    agents: { queue: old }\n  - wait\n";

async fn route(args: &[&str], environment: &[(&str, &str)], input: &str) -> Ran {
    let folder = tempfile::tempdir().unwrap();
    let args: Vec<&str> = ["route"].iter().chain(args).copied().collect();
    let mut child =
        command(&args, environment, folder.path()).stdin(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(input.as_bytes()).await.unwrap();
    drop(stdin);
    let output = child.wait_with_output().await.unwrap();
    Ran {
        code: output.status.code(),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

#[tokio::test]
async fn a_build_moves_or_stays_and_says_why() {
    let build = [("BUILDKITE_BUILD_ID", "019a3c0e-7f11-7abc-8000-000000000001")];
    let all = route(&["--to", "new=100%"], &build, PIPELINE).await.expect(0);
    assert_eq!(all.out, PIPELINE.replace("old", "new"));
    assert!(all.err.contains("1 step moves from old to new; the build is at "), "{}", all.err);
    let none = route(&["--to", "new=0%"], &build, PIPELINE).await.expect(0);
    assert_eq!(none.out, PIPELINE);
    assert!(none.err.contains("1 step stays in old; the build is at "), "{}", none.err);
}

#[tokio::test]
async fn a_variable_overrules_the_share() {
    let moved = route(&["--to", "new=0%"], &[("JITNEY_ROUTE", "new")], PIPELINE).await.expect(0);
    assert_eq!(moved.out, PIPELINE.replace("old", "new"));
    let stays = route(&["--to", "new=100%"], &[("JITNEY_ROUTE", "off")], PIPELINE).await.expect(0);
    assert_eq!(stays.out, PIPELINE);
    let wrong = route(&["--to", "new=0%"], &[("JITNEY_ROUTE", "nwe")], PIPELINE).await.expect(2);
    assert!(wrong.err.contains("`nwe` is neither off nor the queue new"), "{}", wrong.err);
}

#[tokio::test]
async fn what_cannot_be_is_refused_and_nothing_is_written() {
    let build = [("BUILDKITE_BUILD_ID", "1")];
    for (args, environment, input, words) in [
        (&["--to", "new=0%"][..], &build[..], "steps: 5", "line 1, column 8: steps must be a list"),
        (&["--to", "new=50%"], &[], PIPELINE, "BUILDKITE_BUILD_ID is not set"),
        (&["--to", "new"], &build, PIPELINE, "QUEUE=SHARE"),
    ] {
        let ran = route(args, environment, input).await.expect(2);
        assert!(ran.out.is_empty() && ran.err.contains(words), "{}", ran.err);
    }
}
