//! What a user would notice of the program, one module per subject.

mod config;
mod config_reload;
mod config_whole;
mod shell_journal;
