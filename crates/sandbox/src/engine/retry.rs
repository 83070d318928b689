//! Whether a job that failed is run again, by its own rules. It creates no job.

use super::job::Outcome;
use super::steps::{ExitMatch, RetryRule};

/// The rule by which the job is run again. The first rule that matches decides, even if its limit
/// is used up.
pub(super) fn rule_for(
    rules: &[RetryRule],
    outcome: &Outcome,
    used: impl Fn(usize) -> u32,
) -> Option<usize> {
    let index = rules.iter().position(|rule| matches(rule, outcome))?;
    (used(index) < rules[index].limit).then_some(index)
}

fn matches(rule: &RetryRule, outcome: &Outcome) -> bool {
    let status = match &rule.exit_status {
        ExitMatch::Unsaid => true,
        ExitMatch::Failed => outcome.exit_status.is_some_and(|status| (1..=255).contains(&status)),
        ExitMatch::These(these) => outcome.exit_status.is_some_and(|s| these.contains(&s)),
    };
    status
        && text_matches(rule.signal.as_deref(), outcome.signal.as_deref())
        && text_matches(rule.signal_reason.as_deref(), outcome.signal_reason.as_deref())
}

fn text_matches(rule: Option<&str>, is: Option<&str>) -> bool {
    match rule {
        None => true,
        Some("*") => is.is_some(),
        Some("none") => is.is_none(),
        Some(text) => {
            // Signals are named with and without their prefix.
            is.is_some_and(|is| is.trim_start_matches("SIG") == text.trim_start_matches("SIG"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(status: ExitMatch, reason: Option<&str>, limit: u32) -> RetryRule {
        RetryRule {
            exit_status: status,
            signal: None,
            signal_reason: reason.map(str::to_owned),
            limit,
        }
    }

    fn ended(status: i32, reason: Option<&str>) -> Outcome {
        Outcome {
            exit_status: Some(status),
            signal: None,
            signal_reason: reason.map(str::to_owned),
        }
    }

    #[test]
    fn a_star_leaves_out_the_lost_agent() {
        let rules = [rule(ExitMatch::Failed, None, 2)];
        assert_eq!(rule_for(&rules, &ended(3, None), |_| 0), Some(0));
        assert_eq!(rule_for(&rules, &ended(-1, None), |_| 0), None);
        let rules = [rule(ExitMatch::These(vec![-1]), None, 1)];
        assert_eq!(rule_for(&rules, &ended(-1, None), |_| 0), Some(0));
        assert_eq!(rule_for(&rules, &ended(-1, None), |_| 1), None);
    }

    #[test]
    fn the_first_match_decides_even_when_it_forbids() {
        let rules = [
            rule(ExitMatch::These(vec![-1]), Some("stack_error"), 0),
            rule(ExitMatch::These(vec![-1]), None, 5),
        ];
        assert_eq!(rule_for(&rules, &ended(-1, Some("stack_error")), |_| 0), None);
        assert_eq!(rule_for(&rules, &ended(-1, None), |_| 0), Some(1));
    }

    #[test]
    fn none_and_star_speak_of_absence_and_presence() {
        let rules = [rule(ExitMatch::Unsaid, Some("none"), 1)];
        assert_eq!(rule_for(&rules, &ended(-1, None), |_| 0), Some(0));
        assert_eq!(rule_for(&rules, &ended(-1, Some("stack_error")), |_| 0), None);
        let rules = [rule(ExitMatch::Unsaid, Some("*"), 1)];
        assert_eq!(rule_for(&rules, &ended(-1, None), |_| 0), None);
        assert_eq!(rule_for(&rules, &ended(-1, Some("cancel")), |_| 0), Some(0));
    }
}
