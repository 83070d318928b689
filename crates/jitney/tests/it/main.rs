//! What a user would notice of the program, one module per subject.

mod chaos;
mod cli;
mod cli_docs;
mod cli_running;
mod cli_support;
mod config;
mod config_broken;
mod config_docs;
mod config_init;
mod config_reload;
mod config_whole;
mod demo;
mod event_log;
mod rules;
mod rules_links;
mod shell_crash;
mod shell_jobs;
mod shell_journal;
mod shell_origin;
mod shell_process;
mod shell_signals;
mod shell_start;
mod shell_support;
mod shell_way;
mod shell_web;
