//! The `kubernetes` backend: what it sends, what it makes of what it sees, and how it fares against
//! a real API server.

mod disrupted;
mod encoding;
mod ground;
mod nodes;
mod orphans;
mod reading;
mod real;
mod reasons;
mod rights;
mod translation;
