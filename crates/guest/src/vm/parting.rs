//! How a machine leaves the cloud by itself. One that is only switched off has no deadline of the
//! cloud's any more, and its disk costs money until somebody deletes it; where it may, it deletes
//! itself. Whatever comes of that, it goes off.

use std::io;
use std::thread::sleep;
use std::time::Duration;

use super::metadata::Metadata;
use super::tell::{Answer, delete};
use super::{DELETE_AT, KEEP_FAILED};

const TRIES: u32 = 3;
const PAUSE: Duration = Duration::from_secs(2);

/// What became of the machine's one job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Parting {
    /// An agent has connected, and is gone.
    Served,
    NeverConnected,
    /// The cloud takes the machine, and deletes it.
    Taken,
}

/// What comes of one try.
#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    /// It is being deleted, by us or by somebody else.
    Gone,
    Again,
    /// It will not be taken however often it is asked.
    Never,
}

/// Deletes this machine, where it is told where, and may.
pub(super) fn delete_self(metadata: &Metadata, parting: Parting) {
    let url = match wanted(metadata, parting) {
        Ok(Some(url)) => url,
        Ok(None) => return,
        Err(error) => {
            eprintln!("jitney guest: whether it deletes itself nobody says: {error}");
            return;
        }
    };
    for left in (0..TRIES).rev() {
        let answer = metadata.access_token().and_then(|token| delete(url.trim(), &token));
        let outcome = answer.as_ref().map_or(Outcome::Again, outcome);
        if outcome == Outcome::Gone {
            return;
        }
        let words = match answer {
            Ok(Answer { status, body }) => format!("{status} {}", body.trim()),
            Err(error) => error.to_string(),
        };
        eprintln!("jitney guest: the machine does not get itself deleted: {words}");
        if outcome == Outcome::Never || left == 0 {
            return;
        }
        sleep(PAUSE);
    }
}

fn wanted(metadata: &Metadata, parting: Parting) -> io::Result<Option<String>> {
    match parting {
        Parting::Taken => Ok(None),
        Parting::NeverConnected if metadata.attribute(KEEP_FAILED)?.is_some() => Ok(None),
        Parting::Served | Parting::NeverConnected => metadata.attribute(DELETE_AT),
    }
}

fn outcome(answer: &Answer) -> Outcome {
    let Answer { status, body } = answer;
    match status.as_str() {
        "404" | "409" => Outcome::Gone,
        "400" if body.contains("resourceNotReady") => Outcome::Gone,
        "408" | "429" => Outcome::Again,
        status if status.starts_with('2') => Outcome::Gone,
        status if status.starts_with('4') => Outcome::Never,
        _ => Outcome::Again,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_may_pass_is_tried_again() {
        let of = |status: &str, body: &str| {
            outcome(&Answer { status: status.to_owned(), body: body.to_owned() })
        };
        for (status, body, expected) in [
            ("200", "{}", Outcome::Gone),
            ("404", "", Outcome::Gone),
            ("400", "resourceNotReady", Outcome::Gone),
            ("400", "invalid", Outcome::Never),
            ("401", "", Outcome::Never),
            ("403", "forbidden", Outcome::Never),
            ("429", "", Outcome::Again),
            ("503", "", Outcome::Again),
        ] {
            assert_eq!(of(status, body), expected, "{status} {body}");
        }
    }
}
