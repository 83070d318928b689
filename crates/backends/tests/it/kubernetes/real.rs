//! Against a real API server with its controllers and scheduler, and pods that are local processes.

use backends::conformance;

use super::ground::{Ground, STAYS, until_nothing_is_left};

#[tokio::test(flavor = "multi_thread")]
async fn conforms() {
    let Some(ground) = Ground::new("conforms", STAYS).await else { return };
    conformance::run(&ground).await;
    until_nothing_is_left(&ground).await;
}
