//! The client against a small server of its own, and the contract's JSON against the wire types.

mod surface;
