//! What the core decides, seen from outside.

mod assess;
mod assess_shapes;
mod assess_units;
mod words;
mod words_doom;
