//! Ids and tokens, from a seed when a run is to be repeated, else at random.

use jiff::Timestamp;
use uuid::Uuid;

use crate::dice::Dice;

#[derive(Debug)]
pub(super) struct Ids {
    /// `None` takes the system's randomness.
    seed: Option<Dice>,
}

impl Ids {
    pub(super) fn new(seed: Option<u64>) -> Self {
        Self { seed: seed.map(Dice) }
    }

    fn bytes(&mut self) -> [u8; 16] {
        let Some(dice) = &mut self.seed else { return Uuid::new_v4().into_bytes() };
        let mut bytes = [0; 16];
        for half in bytes.chunks_exact_mut(8) {
            half.copy_from_slice(&dice.next().to_be_bytes());
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
