//! `jitney init`: by flags, by asking, and never over a file that is there.

use std::path::Path;

use jitney::config::Config;
use jitney::init::{InitArgs, InitError, Lines, init};

use crate::config::PLANTED;

fn args(directory: &Path) -> InitArgs {
    InitArgs { output: directory.join("jitney.yaml"), ..InitArgs::default() }
}

fn load(args: &InitArgs) -> Config {
    let set = |name: &str| Some(format!("value-of-{name}"));
    Config::load(&args.output, &set).expect("what init writes is right")
}

/// Answers the questions in order; gives what was shown and how it ended.
fn answer(args: &InitArgs, answers: &str) -> (String, Result<String, InitError>) {
    let mut shown = Vec::new();
    let mut lines = Lines { input: answers.as_bytes(), output: &mut shown };
    let end = init(args, Some(&mut lines));
    (String::from_utf8(shown).expect("prompts are texts"), end)
}

#[test]
fn without_a_terminal_flags_and_defaults_serve() {
    let directory = tempfile::tempdir().unwrap();
    let args = args(directory.path());
    let next = init(&args, None).unwrap();
    assert!(next.contains("export BUILDKITE_AGENT_TOKEN="), "{next}");
    let config = load(&args);
    assert_eq!(config.unbuilt(), []);
    assert!(config.queues.contains_key(&"default".into()));
}

#[test]
fn flags_are_taken() {
    let directory = tempfile::tempdir().unwrap();
    let args = InitArgs {
        queue: Some("jit".into()),
        token_env: Some("CI_TOKEN".into()),
        agent: Some("/opt/my agent: 3/buildkite-agent".into()),
        ..args(directory.path())
    };
    init(&args, None).unwrap();
    assert!(load(&args).queues.contains_key(&"jit".into()));
    let text = std::fs::read_to_string(&args.output).unwrap();
    assert!(text.contains("token: ${CI_TOKEN}"), "{text}");
    assert!(text.contains("\"/opt/my agent: 3/buildkite-agent\""), "{text}");
}

#[test]
fn questions_are_asked_and_defaults_offered() {
    let directory = tempfile::tempdir().unwrap();
    let args = InitArgs { agent: Some("buildkite-agent".into()), ..args(directory.path()) };
    let (shown, end) = answer(&args, "\njit-1\n");
    end.unwrap();
    assert!(shown.contains("[BUILDKITE_AGENT_TOKEN]: "), "{shown}");
    assert!(!shown.contains("on PATH"), "what a flag says is not asked: {shown}");
    assert!(load(&args).queues.contains_key(&"jit-1".into()));
}

#[test]
fn a_wrong_answer_is_asked_again_and_then_given_up() {
    let directory = tempfile::tempdir().unwrap();
    let args = args(directory.path());
    let (shown, end) = answer(&args, "A\na b\nqueue\n\n");
    end.unwrap();
    assert!(shown.contains("\"a b\" is not the key of a queue; write the queue's key"), "{shown}");
    std::fs::remove_file(&args.output).unwrap();

    let (_, end) = answer(&args, "A\na b\nc d\ne f\n");
    assert!(matches!(end, Err(InitError::Answer { .. })));
    let (_, end) = answer(&args, "A\n");
    assert!(matches!(end, Err(InitError::Ask(_))), "the input ended");
    assert!(!args.output.exists(), "nothing is written after an error");
}

#[test]
fn a_token_is_neither_taken_nor_repeated() {
    let directory = tempfile::tempdir().unwrap();
    let (shown, end) = answer(&args(directory.path()), &format!("{PLANTED}\nTOKEN\n\n\n"));
    end.unwrap();
    assert!(!shown.contains(PLANTED), "{shown}");
    let args = InitArgs { token_env: Some(PLANTED.into()), force: true, ..args(directory.path()) };
    let error = init(&args, None).unwrap_err();
    assert!(!format!("{error} {error:?}").contains(PLANTED));
}

#[test]
fn a_file_that_is_there_is_kept() {
    let directory = tempfile::tempdir().unwrap();
    let args = args(directory.path());
    std::fs::write(&args.output, "mine").unwrap();
    let (shown, end) = answer(&args, "");
    assert!(matches!(end, Err(InitError::Exists(_))));
    assert_eq!(shown, "", "nobody is asked for nothing");
    assert_eq!(std::fs::read_to_string(&args.output).unwrap(), "mine");

    init(&InitArgs { force: true, ..args.clone() }, None).unwrap();
    load(&args);
}

#[test]
fn a_directory_that_is_not_there() {
    let directory = tempfile::tempdir().unwrap();
    let error = init(&args(&directory.path().join("absent")), None).unwrap_err();
    assert!(matches!(error, InitError::Write { .. }), "{error}");
}
