//! A job's log as its agent sends it: chunks that may come out of order and more than once.
//! It renders no colours and no sections.

use std::collections::BTreeMap;

/// Chunks by sequence number. The same chunk sent twice is stored once.
#[derive(Clone, Debug, Default)]
pub struct Log {
    chunks: BTreeMap<u64, Chunk>,
    bytes: usize,
}

#[derive(Clone, Debug)]
struct Chunk {
    offset: u64,
    content: Vec<u8>,
}

impl Log {
    /// Stores a chunk. Answers false, and stores nothing, when the log would outgrow `limit` bytes.
    pub(super) fn put(
        &mut self,
        sequence: u64,
        offset: u64,
        content: Vec<u8>,
        limit: usize,
    ) -> bool {
        let replaced = self.chunks.get(&sequence).map_or(0, |chunk| chunk.content.len());
        let bytes = self.bytes - replaced + content.len();
        if bytes > limit {
            return false;
        }
        self.bytes = bytes;
        self.chunks.insert(sequence, Chunk { offset, content });
        true
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.chunks.is_empty()
    }

    /// The numbers of the chunks that arrived, in order.
    pub fn sequences(&self) -> impl Iterator<Item = u64> {
        self.chunks.keys().copied()
    }

    /// The chunks one after the other by sequence: the bytes that the agent sent.
    #[must_use]
    pub fn raw(&self) -> Vec<u8> {
        self.chunks.values().flat_map(|chunk| &chunk.content).copied().collect()
    }

    /// The text by offset, without the agent's time marks; colours and sections are left in.
    #[must_use]
    pub fn text(&self) -> String {
        let mut chunks: Vec<&Chunk> = self.chunks.values().collect();
        chunks.sort_by_key(|chunk| chunk.offset);
        let bytes: Vec<u8> = chunks.iter().flat_map(|chunk| &chunk.content).copied().collect();
        without_time_marks(&String::from_utf8_lossy(&bytes))
    }
}

/// Takes out `ESC _ bk;t=<milliseconds> BEL`, which new agents put before every line.
fn without_time_marks(text: &str) -> String {
    let mut rest = text;
    let mut clean = String::with_capacity(text.len());
    while let Some(at) = rest.find("\x1b_bk;") {
        let Some(end) = rest[at..].find('\x07') else { break };
        clean.push_str(&rest[..at]);
        rest = &rest[at + end + 1..];
    }
    clean.push_str(rest);
    clean
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_out_of_order_and_twice_make_one_text() {
        let mut log = Log::default();
        assert!(log.put(2, 6, b"world\n".to_vec(), 100));
        assert!(log.put(1, 0, b"hello ".to_vec(), 100));
        assert!(log.put(2, 6, b"world\n".to_vec(), 100));
        assert_eq!(log.raw(), b"hello world\n");
        assert_eq!(log.text(), "hello world\n");
        assert_eq!(log.sequences().collect::<Vec<_>>(), [1, 2]);
    }

    #[test]
    fn a_log_beyond_its_limit_takes_nothing_more() {
        let mut log = Log::default();
        assert!(log.put(1, 0, vec![b'a'; 10], 12));
        assert!(!log.put(2, 10, vec![b'b'; 3], 12));
        assert_eq!(log.raw().len(), 10);
    }

    #[test]
    fn time_marks_go_and_colours_stay() {
        assert_eq!(
            without_time_marks(
                "\x1b_bk;t=1700000000000\x07\x1b[32mok\x1b[0m\n\x1b_bk;t=1\x07done\x1b_bk;cut"
            ),
            "\x1b[32mok\x1b[0m\ndone\x1b_bk;cut"
        );
    }
}
