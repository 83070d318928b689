//! Real agents run jobs: what they report is what the sandbox tells.

use sandbox::engine::State;

use crate::parts::AGENTS;
use crate::support::{Agent, Caller, TOKEN, ended, job, start_for};

#[tokio::test]
async fn hello() {
    for part in AGENTS {
        let Some(program) = part.find() else { continue };
        let (sandbox, _repository) = start_for(part).await;
        let stacks = Caller::new(&sandbox, TOKEN);
        stacks.stack("a").await;
        let job = job(&sandbox, "echo hello");
        let token = stacks.token_for("a", job).await;
        let mut agent = Agent::start(&sandbox, &program, &token, job);
        let done = ended(&sandbox, job).await;
        assert_eq!(done.state, State::Finished, "{}", agent.log());
        assert_eq!(done.outcome.exit_status, Some(0), "{}", done.log.text());
        assert!(done.log.text().contains("\nhello\r"), "{:?}", done.log.text());
        assert_eq!(agent.exit_code().await, 0, "{}", agent.log());
    }
}
