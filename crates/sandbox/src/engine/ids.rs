//! Ids and tokens, from a seed when a run is to be repeated, else at random.

use jiff::Timestamp;
use uuid::Uuid;

#[derive(Debug)]
pub(super) struct Ids {
    /// The state of a small generator; `None` takes the system's randomness.
    seed: Option<u64>,
}

impl Ids {
    pub(super) fn new(seed: Option<u64>) -> Self {
        Self { seed }
    }

    fn bytes(&mut self) -> [u8; 16] {
        let Some(state) = &mut self.seed else { return Uuid::new_v4().into_bytes() };
        let mut bytes = [0; 16];
        for half in bytes.chunks_exact_mut(8) {
            // Splitmix64: enough to be unlike, and never used where a guess would do harm.
            *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
            let mut z = *state;
            z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
            half.copy_from_slice(&(z ^ (z >> 31)).to_be_bytes());
        }
        bytes
    }

    /// An id that sorts by the time of its making, as Buildkite's do.
    pub(super) fn uuid(&mut self, now: Timestamp) -> Uuid {
        let bytes = self.bytes();
        let mut random = [0; 10];
        random.copy_from_slice(&bytes[..10]);
        let millis = u64::try_from(now.as_millisecond()).unwrap_or(0);
        uuid::Builder::from_unix_timestamp_millis(millis, &random).into_uuid()
    }

    /// A token with Buildkite's prefix for its kind.
    pub(super) fn token(&mut self, prefix: &str) -> String {
        let (one, two) = (self.bytes(), self.bytes());
        let text: String = one.iter().chain(&two).map(|byte| format!("{byte:02x}")).collect();
        format!("{prefix}{text}")
    }
}
