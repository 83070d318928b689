//! A control plane with one node, to play with by kubectl, until standard input ends.

use cluster::{ControlPlane, NodeOptions};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let plane = ControlPlane::start().await?;
    let node = plane.join(NodeOptions::named("here")).await?;
    println!("export KUBECONFIG={}", plane.kubeconfig().display());
    std::io::copy(&mut std::io::stdin(), &mut std::io::sink())?;
    drop(node);
    Ok(())
}
