//! Tests of the planner from outside.

mod decide;
