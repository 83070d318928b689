//! `demo`.
use crate::cli::{Answer, Context, Exit, Failure};
use std::net::SocketAddr;
pub(crate) fn demo(
    _listen: SocketAddr,
    _keep: bool,
    _context: &Context<'_>,
) -> Result<Answer, Failure> {
    Err(Failure::new(Exit::Failed, "the demo is not in this build yet"))
}
