//! Reasons, notices and dooms as sentences: the one place in which words for people are made.
