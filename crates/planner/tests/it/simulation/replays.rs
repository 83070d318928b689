//! Every round of some seeds, written down as lines of the event log and read again: what was seen
//! and decided survives the way there and back, and the same is decided again.

use std::sync::Arc;

use planner::{LogLine, Observation, Player, Policy, Recorder, decide};

use super::run::{Setting, run_with};

/// The lines as a file holds them.
fn written(lines: Vec<LogLine>) -> Vec<String> {
    let text = |line: LogLine| serde_json::to_string(&line).expect("lines have a JSON form");
    lines.into_iter().map(text).collect()
}

fn read(text: &str) -> LogLine {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// Runs a seed, and plays each of its rounds again. The events are not handed to us here, so that
/// the ledger is written down whole wherever it has changed.
fn check_seed(seed: u64) -> (usize, usize) {
    let (mut recorder, mut player) = (Recorder::new("test"), Player::default());
    let (mut rounds, mut bytes) = (0, 0);
    let mut known: Option<Arc<Policy>> = None;
    let ran = run_with(&Setting::of_seed(seed), false, &mut |ledger, seen, policy, now| {
        let plan = decide(ledger, seen, policy, now);
        let same = known.take().filter(|known| **known == *policy);
        let policy = Arc::clone(known.insert(same.unwrap_or_else(|| Arc::new(policy.clone()))));
        recorder.decided(ledger, seen, &policy, now, &plan);
        let mut lines = recorder.take();
        if player.ledger != *ledger {
            lines.insert(lines.len() - 1, LogLine::Ledger(Box::new(ledger.clone())));
        }
        let lines = written(lines);
        bytes += lines.last().map_or(0, String::len);
        let mut recorded = None;
        for line in lines {
            recorded = player.take(read(&line)).expect("the lines are in order");
        }
        let recorded = recorded.expect("the last line is the round");
        assert_eq!(player.seen, *seen, "seed {seed}, round {rounds}");
        assert_eq!(player.ledger, *ledger, "seed {seed}, round {rounds}");
        assert_eq!((recorded.now, &recorded.plan), (now, &plan), "seed {seed}, round {rounds}");
        assert_eq!(player.decide(now), plan, "seed {seed}, round {rounds}");
        rounds += 1;
        plan
    });
    assert!(ran.broken.is_none(), "seed {seed}: {}", ran.broken.expect("it is there"));
    (rounds, bytes)
}

#[test]
fn every_round_is_decided_again_as_it_was() {
    for seed in [3, 17, 60, 120, 199] {
        let (rounds, bytes) = check_seed(seed);
        println!("seed {seed}: {rounds} rounds, {} bytes each", bytes / rounds);
        assert!(rounds > 100, "seed {seed}: {rounds} rounds are too few to be a test");
    }
}

#[test]
fn policies_and_observations_survive_whole() {
    let mut policies = 0;
    for seed in 0..20 {
        let mut checked = false;
        run_with(&Setting::of_seed(seed), false, &mut |ledger, seen, policy, now| {
            if !checked && seen.queues.values().any(|queue| !queue.candidates.is_empty()) {
                checked = true;
                policies += 1;
                let text = serde_json::to_string(policy).expect("policies have a JSON form");
                let again: Policy = serde_json::from_str(&text).expect("it can be read");
                assert_eq!(again, *policy, "seed {seed}");
                let text = serde_json::to_string(seen).expect("observations have a JSON form");
                let again: Observation = serde_json::from_str(&text).expect("it can be read");
                assert_eq!(again, *seen, "seed {seed}");
            }
            decide(ledger, seen, policy, now)
        });
    }
    assert_eq!(policies, 20);
}

/// The comparison can fail: another policy, another ledger, another time.
#[test]
fn a_round_with_another_input_is_decided_otherwise() {
    let mut differ = [0; 3];
    let (mut recorder, mut player) = (Recorder::new("test"), Player::default());
    run_with(&Setting::of_seed(120), false, &mut |ledger, seen, policy, now| {
        let plan = decide(ledger, seen, policy, now);
        recorder.begin_anew();
        recorder.decided(ledger, seen, &Arc::new(policy.clone()), now, &plan);
        for line in recorder.take() {
            player.take(line).expect("the lines are in order");
        }
        differ[0] +=
            usize::from(player.decide(now.minus(std::time::Duration::from_secs(60))) != plan);
        player.seen.draining = !player.seen.draining;
        differ[1] += usize::from(player.decide(now) != plan);
        player.seen.draining = !player.seen.draining;
        player.ledger = planner::Ledger::default();
        differ[2] += usize::from(player.decide(now) != plan);
        plan
    });
    assert!(differ.iter().all(|count| *count > 20), "{differ:?}");
}
