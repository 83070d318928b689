//! Machines are pods: one `batch/v1` Job for each, made from the operator's template and watched.
//! The Job controller starts its pod once and never again, and ends it at its deadline by itself.

mod job;
pub mod nodes;
mod pod;
pub mod read;
pub mod seen;
mod settings;
mod stamp;
mod template;

pub use job::job;
pub use settings::{Disk, Nodes, Settings};
pub use template::{JOB_CONTAINER, Template, TemplateError};
