//! Which builds move: a share of them, chosen by the build's id, so that every job of a build, and
//! every pipeline that it uploads, decides the same, and a larger share moves more of them and none
//! back.

use std::fmt;
use std::str::FromStr;

use sha2::{Digest, Sha256};

/// Overrules the share: `off`, or the queue.
pub(crate) const OVERRULE: &str = "JITNEY_ROUTE";
/// What Buildkite gives to every job of a build.
pub(crate) const BUILD: &str = "BUILDKITE_BUILD_ID";
/// A whole, in hundredths of a per cent.
const WHOLE: u32 = 10_000;

/// `QUEUE=SHARE%`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Destination {
    pub(crate) queue: String,
    /// In hundredths of a per cent.
    share: u32,
}

impl FromStr for Destination {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let whole = || format!("`{text}` is no QUEUE=SHARE: write stateless=50%");
        let (queue, share) = text.rsplit_once('=').ok_or_else(whole)?;
        let percent = share.strip_suffix('%').ok_or_else(whole)?;
        Ok(Self { queue: queue_key(queue)?, share: hundredths(percent).ok_or_else(whole)? })
    }
}

/// The characters of a queue's key, so that it can be put into a text as it is.
pub(crate) fn queue_key(text: &str) -> Result<String, String> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "-_.:/@".contains(c);
    if text.is_empty() || !text.chars().all(allowed) {
        return Err(format!("`{text}` is no key of a queue: letters, digits, - _ . : / @"));
    }
    Ok(text.to_owned())
}

fn hundredths(percent: &str) -> Option<u32> {
    let (whole, part) = percent.split_once('.').unwrap_or((percent, "0"));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    if !digits(whole) || !digits(part) || part.len() > 2 {
        return None;
    }
    let part = format!("{part:0<2}").parse::<u32>().ok()?;
    let share = whole.parse::<u32>().ok()?.checked_mul(100)?.checked_add(part)?;
    (share <= WHOLE).then_some(share)
}

/// What is decided for a build.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Choice {
    /// Its number is below the share.
    Moves(Percent),
    Stays(Percent),
    /// Somebody said so.
    Told {
        moves: bool,
    },
}

/// Where in the whole a build is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Percent(u32);

impl fmt::Display for Percent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:02}", self.0 / 100, self.0 % 100)
    }
}

impl Destination {
    /// `told` is the variable that overrules the share; empty, it is as if it were not there.
    pub(crate) fn choose(&self, build: Option<&str>, told: Option<&str>) -> Result<Choice, String> {
        match told.filter(|told| !told.is_empty()) {
            Some("off") => return Ok(Choice::Told { moves: false }),
            Some(queue) if queue == self.queue => return Ok(Choice::Told { moves: true }),
            Some(other) => {
                return Err(format!(
                    "{OVERRULE}: `{other}` is neither off nor the queue {}",
                    self.queue
                ));
            }
            None => {}
        }
        let Some(build) = build.filter(|build| !build.is_empty()) else {
            return Err(format!(
                "{BUILD} is not set, and tells which builds move; it is in a step's environment: to \
                 try it by hand, set it to any text, or {OVERRULE} to {} or off",
                self.queue
            ));
        };
        let at = position(build);
        let moves = at < self.share;
        Ok(if moves { Choice::Moves(Percent(at)) } else { Choice::Stays(Percent(at)) })
    }
}

impl Choice {
    pub(crate) const fn moves(&self) -> bool {
        match self {
            Self::Moves(_) => true,
            Self::Stays(_) => false,
            Self::Told { moves } => *moves,
        }
    }
}

/// Ids are not evenly spread over anything by themselves: newer ones begin with the time.
fn position(build: &str) -> u32 {
    let hash = Sha256::digest(build.as_bytes());
    let number = hash.iter().take(6).fold(0_u64, |number, byte| number << 8 | u64::from(*byte));
    u32::try_from(number % u64::from(WHOLE)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn to(text: &str) -> Destination {
        text.parse().expect("a destination")
    }

    #[test]
    fn shares_are_per_cent() {
        assert_eq!(to("stateless=50%").share, 5_000);
        assert_eq!(to("a:b/c=0.5%").share, 50);
        assert_eq!((to("q=0%").share, to("q=100%").share), (0, WHOLE));
        for wrong in ["q", "q=50", "q=101%", "q=-1%", "q=1.234%", "q=.5%", "=5%", "q q=5%", "q=%"] {
            assert!(wrong.parse::<Destination>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn about_the_share_moves_and_a_larger_one_moves_none_back() {
        let builds: Vec<String> =
            (0..10_000).map(|n| format!("019a3c0e-0000-7000-8000-{n:012}")).collect();
        let moved = |share: &str| -> Vec<bool> {
            let to = to(share);
            builds.iter().map(|id| to.choose(Some(id), None).expect("chosen").moves()).collect()
        };
        let (third, half) = (moved("q=33%"), moved("q=50%"));
        let count = half.iter().filter(|moves| **moves).count();
        assert!((4_800..5_200).contains(&count), "{count}");
        assert!(third.iter().zip(&half).all(|(third, half)| !third || *half));
        assert!(moved("q=100%").into_iter().all(|moves| moves));
        assert!(!moved("q=0%").into_iter().any(|moves| moves));
    }

    #[test]
    fn a_variable_overrules_the_share() {
        let choose = |told| to("q=0%").choose(None, Some(told));
        assert_eq!(choose("q"), Ok(Choice::Told { moves: true }));
        assert_eq!(to("q=100%").choose(None, Some("off")), Ok(Choice::Told { moves: false }));
        assert_eq!(choose("r"), Err("JITNEY_ROUTE: `r` is neither off nor the queue q".into()));
        assert!(choose("").is_err_and(|words| words.contains("BUILDKITE_BUILD_ID")));
    }
}
