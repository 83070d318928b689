//! `drain`: the Jitney that runs takes nothing new; machines and what was claimed go on. Says when
//! nothing is left.

use std::io::Write;
use std::time::Duration;

use serde_json::json;
use tokio::time::sleep;

use super::arguments::Drain;
use super::ask::Peer;
use super::{Answer, Context, Exit, Failure, configuration, runtime};

/// Between two looks while waiting.
const LOOK: Duration = Duration::from_millis(500);

pub(super) fn drain(asked: &Drain, context: &Context<'_>) -> Result<Answer, Failure> {
    let (_, config) = configuration::config(context)?;
    let peer = Peer::of(&config)?;
    runtime()?.block_on(async {
        peer.set_draining(!asked.resume).await?;
        if asked.resume {
            return Ok(said(asked, "Jitney takes jobs again.", 0));
        }
        let mut left = peer.status().await?.jobs.len();
        while asked.wait && left > 0 {
            if context.screen.terminal && !asked.json {
                print!("\r{} jobs are left ", left);
                // A progress line that cannot be shown is no reason to stop waiting.
                let _ = std::io::stdout().flush();
            }
            sleep(LOOK).await;
            left = peer.status().await?.jobs.len();
        }
        let words = match left {
            0 => "Nothing new is taken, and nothing is left: Jitney may be stopped.".to_owned(),
            1 => "Nothing new is taken; 1 job is left.".to_owned(),
            left => format!("Nothing new is taken; {left} jobs are left."),
        };
        let start = if asked.wait && context.screen.terminal { "\r" } else { "" };
        Ok(said(asked, &format!("{start}{words}"), left))
    })
}

fn said(asked: &Drain, words: &str, left: usize) -> Answer {
    if asked.json {
        return Answer::json(&json!({ "draining": !asked.resume, "left": left }), Exit::Ok);
    }
    Answer::ok(format!("{words}\n"))
}
