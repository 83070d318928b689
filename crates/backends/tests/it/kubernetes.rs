//! The `kubernetes` backend: what it sends, and what it makes of what it sees.

mod reading;
mod translation;
