//! jitney
