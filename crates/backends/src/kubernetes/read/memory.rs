//! What ran in a container whose memory had run out, in words for whoever wrote the pipeline.

use guest::pod::{Look, Program};
use jiff::{SignedDuration, Timestamp};

/// What has less than this part of what the largest has is not worth a word.
const WORTH_A_WORD: u64 = 20;
/// A look that is no older than this is one at what was killed. The kubelet tells whole seconds.
const A_MOMENT: SignedDuration = SignedDuration::from_secs(2);

/// `3 × rustc (2.1 GiB) and ld (300 MiB)`.
pub(super) fn ran(look: &Look) -> Option<String> {
    let least = look.programs.first()?.bytes / WORTH_A_WORD;
    let worth = look.programs.iter().filter(|program| program.bytes >= least);
    let each: Vec<String> = worth.map(program).collect();
    let (last, rest) = each.split_last()?;
    Some(if rest.is_empty() { last.clone() } else { format!("{} and {last}", rest.join(", ")) })
}

/// `; a moment before, 3.9 GiB were in use, most of it by …`.
pub(super) fn last_look(look: &Look, ended_at: Timestamp) -> Option<String> {
    let ran = ran(look)?;
    let age = ended_at.duration_since(look.at);
    let when = if age <= A_MOMENT {
        "a moment before".to_owned()
    } else {
        format!("{} s before", age.as_secs())
    };
    Some(format!("; {when}, {} were in use, most of it by {ran}", amount(look.used_bytes)))
}

fn program(program: &Program) -> String {
    let Program { name, processes, bytes } = program;
    match processes {
        1 => format!("{name} ({})", amount(*bytes)),
        _ => format!("{processes} × {name} ({})", amount(*bytes)),
    }
}

/// `2.1 GiB`, `300 MiB`: no more digits than say something.
fn amount(bytes: u64) -> String {
    let (unit, shift) = if bytes >= 1 << 30 { ("GiB", 30) } else { ("MiB", 20) };
    let whole = bytes >> shift;
    match ((bytes - (whole << shift)) * 10) >> shift {
        tenths if tenths > 0 && shift == 30 => format!("{whole}.{tenths} {unit}"),
        _ => format!("{whole} {unit}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_have_as_many_digits_as_say_something() {
        for (bytes, expected) in [
            (0, "0 MiB"),
            ((300 << 20) + 999_999, "300 MiB"),
            (1 << 30, "1 GiB"),
            ((4 << 30) - 1, "3.9 GiB"),
            (u64::MAX, "17179869183.9 GiB"),
        ] {
            assert_eq!(amount(bytes), expected);
        }
    }
}
