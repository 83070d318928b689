//! What a container's memory went to lately: a few looks at how much is in use and which programs
//! have most of it. Pure; who looks, and when, is elsewhere.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// How many looks are kept beside the fullest one.
const KEPT: usize = 3;
/// How many programs of each.
const LARGEST: usize = 3;
/// The kernel's names are no longer; who writes another one is cut.
const LONGEST_NAME: usize = 15;

/// The last few looks, and the most that was ever in use.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memory {
    pub peak_bytes: u64,
    /// In their order; among them is the one that found the largest programs.
    pub looks: Vec<Look>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Look {
    pub at: Timestamp,
    /// By all of the container, files that the kernel could forget included.
    pub used_bytes: u64,
    /// The largest first.
    pub programs: Vec<Program>,
}

/// All processes of one name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Program {
    pub name: String,
    pub processes: u32,
    /// What they share counts for each of them.
    pub bytes: u64,
}

impl Memory {
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.looks.is_empty()
    }

    /// The look with the largest programs: what ran before something was killed.
    #[must_use]
    pub fn fullest(&self) -> Option<&Look> {
        self.looks.iter().max_by_key(|look| look.in_programs())
    }

    pub(super) fn take(&mut self, look: Look) {
        self.peak_bytes = self.peak_bytes.max(look.used_bytes);
        self.looks.push(look);
        while self.looks.len() > KEPT {
            // The oldest, unless it is the one to keep.
            let fullest = self.fullest().map(|look| look.at);
            let oldest = usize::from(self.looks.first().map(|look| look.at) == fullest);
            self.looks.remove(oldest);
        }
    }

    /// Lets go of one look, the first and the last being the last to go; whether there was any.
    pub(super) fn forget_one(&mut self) -> bool {
        let any = !self.looks.is_empty();
        if any {
            self.looks.remove(usize::from(self.looks.len() > 2));
        }
        any
    }
}

impl Look {
    /// Of processes by name and bytes. `used` is what a control group counts; where none does, it is
    /// what the processes have.
    pub(super) fn new(
        at: Timestamp,
        used: Option<u64>,
        processes: impl IntoIterator<Item = (String, u64)>,
    ) -> Self {
        let mut by_name: BTreeMap<String, Program> = BTreeMap::new();
        for (name, bytes) in processes {
            let name = plain(&name);
            let program =
                by_name.entry(name.clone()).or_insert(Program { name, processes: 0, bytes: 0 });
            program.processes = program.processes.saturating_add(1);
            program.bytes = program.bytes.saturating_add(bytes);
        }
        let mut programs: Vec<Program> = by_name.into_values().collect();
        let in_all = programs.iter().fold(0_u64, |all, one| all.saturating_add(one.bytes));
        programs.sort_by_key(|program| std::cmp::Reverse(program.bytes));
        programs.truncate(LARGEST);
        Self { at, used_bytes: used.unwrap_or(in_all), programs }
    }

    fn in_programs(&self) -> u64 {
        self.programs.iter().fold(0, |all, one| all.saturating_add(one.bytes))
    }
}

/// A process may call itself anything; what is shown to people is a short word.
fn plain(name: &str) -> String {
    let word = |c: char| if c.is_control() || c == '\u{fffd}' { '?' } else { c };
    name.chars().take(LONGEST_NAME).map(word).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(second: i64, bytes: u64) -> Look {
        let at = Timestamp::from_second(second).expect("a time");
        Look::new(at, None, [("x".to_owned(), bytes)])
    }

    #[test]
    fn processes_of_one_name_are_one_program_and_the_largest_come_first() {
        let at = Timestamp::UNIX_EPOCH;
        let found = [("sh", 1), ("cc1plus", 300), ("ld", 500), ("cc1plus", 400), ("make", 2)];
        let found = found.map(|(name, bytes)| (name.to_owned(), bytes));
        let look = Look::new(at, Some(9_999_999), found.clone());
        let shown: Vec<_> =
            look.programs.iter().map(|one| (one.name.as_str(), one.processes, one.bytes)).collect();
        assert_eq!(shown, [("cc1plus", 2, 700), ("ld", 1, 500), ("make", 1, 2)]);
        assert_eq!(look.used_bytes, 9_999_999, "the group counts more than the processes");
        assert_eq!(Look::new(at, None, found).used_bytes, 1203, "all of them");
    }

    #[test]
    fn the_last_few_looks_are_kept_and_the_fullest() {
        let mut memory = Memory::default();
        for (second, bytes) in [(1, 5), (2, 90), (3, 10), (4, 20), (5, 30), (6, 1)] {
            memory.take(look(second, bytes));
        }
        let kept = |memory: &Memory| -> Vec<i64> {
            memory.looks.iter().map(|look| look.at.as_second()).collect()
        };
        assert_eq!(kept(&memory), [2, 5, 6]);
        assert_eq!(memory.peak_bytes, 90);
        memory.take(look(7, 91));
        assert_eq!(memory.fullest().map(|look| look.at.as_second()), Some(7));
        assert_eq!(kept(&memory), [5, 6, 7], "the fullest of before is as old as any other");
        memory.forget_one();
        assert_eq!(kept(&memory), [5, 7]);
        assert!(memory.forget_one() && memory.forget_one() && !memory.forget_one());
    }

    #[test]
    fn a_name_that_is_no_word_is_shown_as_one() {
        let odd = "a\nb\u{1b}[0m\u{fffd} and so on and on";
        let look = Look::new(Timestamp::UNIX_EPOCH, None, [(odd.to_owned(), 1)]);
        assert_eq!(look.programs[0].name, "a?b?[0m? and so");
    }
}
