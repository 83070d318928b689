//! Policies that ask where a build comes from: what is known decides, what is not known yet is asked
//! for where it matters, and what nobody will tell counts as what is stricter.

use planner::{
    Cpu, Glob, Limits, LookFailure, Origin, OriginSeen, Policy, Rule, Shapes, Timestamp, Verdict,
    assess_with,
};

use crate::assess::{edit, explained, policy, row, show};

const NOW: Timestamp = Timestamp::from_millis(1_000_000);

/// At most four vCPU for those that match.
fn small(rule: Rule) -> Rule {
    let largest = Shapes { cpu: Some(Cpu::from_millis(4000)), ..Shapes::default() };
    Rule { largest, ..rule }
}

fn with(rules: &[Rule]) -> Policy {
    Policy { rules: rules.to_vec(), ..edit(|_| ()) }
}

fn forks() -> Rule {
    small(Rule { fork: Some(true), ..Rule::default() })
}

fn known(pull_request: Option<bool>, fork: Option<bool>, authors: &[&str]) -> OriginSeen {
    let authors = authors.iter().map(|author| (*author).into()).collect();
    OriginSeen::Known(Origin { pull_request, fork, authors })
}

fn denied() -> OriginSeen {
    OriginSeen::Denied { words: "read the job: 403".into() }
}

#[track_caller]
fn check(policy: &Policy, tags: &str, origin: &OriginSeen, expected: &str) {
    let verdict = assess_with(&row(tags, "web", "main"), origin, policy);
    let assumed = match &verdict {
        Verdict::Ours(request) => request.assumed.as_deref().map(|why| format!(" assuming: {why}")),
        Verdict::Invalid(_) | Verdict::Foreign(_) | Verdict::Undecided { .. } => None,
    };
    let text = show(&verdict);
    let cpu = text.split(',').next().unwrap_or_default().to_string();
    let text = if matches!(verdict, Verdict::Ours(_)) { cpu } else { text };
    assert_eq!(text + &assumed.unwrap_or_default(), expected);
}

#[test]
fn what_is_known_decides() {
    let policy = with(&[forks()]);
    check(&policy, "cpu=8", &known(Some(true), Some(false), &[]), "8 vCPU");
    check(
        &policy,
        "cpu=8",
        &known(Some(true), Some(true), &[]),
        "invalid cpu=8: the policy on forks allows at most 4 vCPU. Write cpu: 4 or less",
    );
    check(&policy, "cpu=2", &known(Some(true), Some(true), &[]), "2 vCPU");
}

#[test]
fn forks_get_machines_without_rights_where_a_policy_says_so() {
    let policy = with(&[Rule { fork: Some(true), no_rights: true, ..Rule::default() }]);
    let verdict = |origin| show(&assess_with(&row("cpu=2", "web", "main"), &origin, &policy));
    let of_a_fork = verdict(known(Some(true), Some(true), &[]));
    assert!(of_a_fork.contains("no rights of its own"), "{of_a_fork}");
    let ours = verdict(known(Some(true), Some(false), &[]));
    assert!(!ours.contains("rights"), "{ours}");
    assert_eq!(verdict(OriginSeen::default()), "undecided by [0]", "it makes a difference");
    assert!(verdict(denied()).contains("no rights of its own"), "the stricter holds");
}

#[test]
fn a_look_is_asked_for_only_where_the_verdict_depends_on_it() {
    let nobody = OriginSeen::default();
    let policy = with(&[Rule::default(), forks()]);
    check(&policy, "cpu=8", &nobody, "undecided by [1]");
    check(&policy, "cpu=2", &nobody, "2 vCPU");
    check(&policy, "os=windows", &nobody, "foreign os=windows, not os=linux");
    check(
        &policy,
        "cpu=much",
        &nobody,
        &show(&planner::assess(&row("cpu=much", "web", "main"), &policy)),
    );
    let elsewhere = Rule { pipeline: Some(Glob::new("docs-*")), ..forks() };
    check(&with(&[elsewhere]), "cpu=8", &nobody, "8 vCPU");
    let limited = Rule {
        fork: Some(true),
        limits: Limits { machines: Some(3), ..Limits::default() },
        ..Rule::default()
    };
    check(&with(&[limited]), "cpu=2", &nobody, "undecided by [0]");
    let toothless = Rule { fork: Some(true), ..Rule::default() };
    check(&with(&[toothless]), "cpu=2", &nobody, "2 vCPU");
}

#[test]
fn what_will_never_be_told_counts_as_what_is_stricter() {
    let no_images =
        Rule { pull_request: Some(true), backends: Some(vec!["here".into()]), ..Rule::default() };
    let policy = with(&[no_images, forks()]);
    check(
        &policy,
        "cpu=8",
        &denied(),
        "invalid cpu=8: the policy on forks (which counts because its origin is unknown: read the job: 403) allows at most 4 vCPU. Write cpu: 4 or less",
    );
    check(&policy, "cpu=2", &denied(), "2 vCPU assuming: read the job: 403");
    let silent = known(Some(true), None, &[]);
    check(&with(&[forks()]), "cpu=2", &silent, "2 vCPU");
    let default = edit(|queue| queue.defaults.cpu = Some(Cpu::from_millis(8000)));
    let policy = Policy { rules: vec![forks()], ..default };
    check(&policy, "", &silent, "4 vCPU assuming: its environment does not say");
}

#[test]
fn every_condition_of_a_rule_has_to_match() {
    let both = small(Rule {
        pull_request: Some(true),
        author: Some(Glob::new("*@partner.example")),
        ..Rule::default()
    });
    let policy = with(&[both]);
    let refused = "invalid cpu=8: the policy on pull requests, author *@partner.example allows at most 4 vCPU. Write cpu: 4 or less";
    let by = |authors: &[&str]| known(Some(true), Some(false), authors);
    check(&policy, "cpu=8", &by(&["Kim", "kim@partner.example"]), refused);
    check(&policy, "cpu=8", &by(&["Kim", "kim@acme.example"]), "8 vCPU");
    let pushed = known(Some(false), Some(false), &[]);
    check(&policy, "cpu=8", &pushed, "8 vCPU");
    let inside = small(Rule { fork: Some(false), ..Rule::default() });
    check(&with(&[inside]), "cpu=8", &known(None, Some(true), &[]), "8 vCPU");
}

#[test]
fn a_plan_says_which_policies_would_be_asked_about() {
    let policy = with(&[forks()]);
    let tags = |tags: &str| vec![tags.to_string()];
    let none: [usize; 0] = [];
    let asked = explained(&tags("cpu=8"), "web", &policy);
    assert!(asked.shape.is_err());
    assert_eq!(asked.doubtful, [0]);
    assert_eq!(explained(&tags("cpu=2"), "web", &policy).doubtful, none);
    assert_eq!(explained(&tags("cpu=2"), "web", &self::policy()).doubtful, none);
}

#[test]
fn looks_that_fail_too_often_are_a_denial() {
    let mut origin = OriginSeen::default();
    for _ in 0..100 {
        origin = origin.after_failure(LookFailure::Unreachable, "no route", NOW);
    }
    assert!(!origin.is_settled(), "an outage says nothing about the job");
    let mut pauses = Vec::new();
    for _ in 0..4 {
        origin = origin.after_failure(LookFailure::Failed, "502", NOW);
        let OriginSeen::Unknown { not_before, .. } = &origin else { panic!("{origin:?}") };
        pauses.push(not_before.since(NOW).as_secs());
    }
    assert_eq!(pauses, [1, 2, 4, 8], "what may heal by itself has time to");
    assert_eq!(
        origin.after_failure(LookFailure::Failed, "502", NOW),
        OriginSeen::Denied { words: "502".into() }
    );
    let refused = OriginSeen::default().after_failure(LookFailure::Refused, "403", NOW);
    assert_eq!(refused, OriginSeen::Denied { words: "403".into() });
    let answered = known(Some(true), None, &[]);
    assert_eq!(answered.after_failure(LookFailure::Refused, "403", NOW), answered);
}
