//! The serial port's output: the last mebibyte of what a machine said.

/// What is kept of it.
const KEPT: usize = 1 << 20;

#[derive(Clone, Debug, Default)]
pub(super) struct Serial {
    kept: Vec<u8>,
    /// How many bytes came before what is kept.
    before: usize,
}

/// A part of the output and where it stands in all of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) contents: String,
    pub(super) start: usize,
    pub(super) next: usize,
}

impl Serial {
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.kept.extend_from_slice(bytes);
        let surplus = self.kept.len().saturating_sub(KEPT);
        self.kept.drain(..surplus);
        self.before += surplus;
    }

    /// From a byte on; a negative one counts from the end.
    pub(super) fn read(&self, start: i64) -> Part {
        let end = self.before + self.kept.len();
        let asked = match usize::try_from(start) {
            Ok(start) => start,
            Err(_) => end.saturating_sub(usize::try_from(start.unsigned_abs()).unwrap_or(end)),
        };
        let start = asked.clamp(self.before, end);
        let contents = String::from_utf8_lossy(&self.kept[start - self.before..]).into_owned();
        Part { contents, start, next: end }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_mebibyte_is_kept() {
        let mut serial = Serial::default();
        serial.push(b"hello\nworld\n");
        let check = |serial: &Serial, start: i64, expected: (&str, usize, usize)| {
            let part = serial.read(start);
            assert_eq!((part.contents.as_str(), part.start, part.next), expected, "{start}");
        };
        check(&serial, 0, ("hello\nworld\n", 0, 12));
        check(&serial, 6, ("world\n", 6, 12));
        check(&serial, -6, ("world\n", 6, 12));
        check(&serial, -100, ("hello\nworld\n", 0, 12));
        check(&serial, 50, ("", 12, 12));
        serial.push(&vec![b'x'; KEPT]);
        let part = serial.read(0);
        assert_eq!((part.start, part.next, part.contents.len()), (12, 12 + KEPT, KEPT));
    }
}
