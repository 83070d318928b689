//! What a user would notice of the program, one module per subject.

mod shell_journal;
