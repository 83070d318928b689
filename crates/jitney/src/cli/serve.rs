//! `run`: the program itself, until it is told to stop; here only how its end becomes an exit
//! code.

use tokio::runtime::{Builder, Runtime};

use super::arguments::Run;
use super::{Answer, Context, Exit, Failure, configuration};
use crate::service::Error;
use crate::{assembly, event_log, journal, log, run, service};

pub(super) fn serve(asked: Run, context: &Context<'_>) -> Result<Answer, Failure> {
    let (file, config) = configuration::config(context)?;
    let place = configuration::place(context)?;
    log::init(&config.log);
    let event_log = asked.event_log.map(event_log::Options::new);
    let runtime = runtime()?;
    let ended = runtime.block_on(service::serve(&file, config, place, event_log));
    // A look-up of a name, or a file that does not answer, may hold a thread for minutes.
    runtime.shutdown_background();
    match ended {
        Ok(()) => Ok(Answer::ok("")),
        Err(Error::Config(error)) => Err(error.into()),
        Err(error) => {
            let words = format!("{}: {error}", file.display());
            Err(Failure::new(exit(&error), words))
        }
    }
}

/// One thread decides, one more makes all calls: that is enough for hundreds of jobs a second, and
/// each thread keeps memory of its own for what it has freed.
fn runtime() -> Result<Runtime, Failure> {
    let failed = |error| Failure::new(Exit::Failed, format!("failed to start threads: {error}"));
    Builder::new_multi_thread().worker_threads(1).enable_all().build().map_err(failed)
}

/// Refused is what another start cannot heal: systemd does not try one then.
fn exit(error: &Error) -> Exit {
    match error {
        Error::Config(_)
        | Error::Assembly(
            assembly::Error::Unbuilt(_)
            | assembly::Error::NoStateDir(_)
            | assembly::Error::Client(_)
            | assembly::Error::NoApiToken
            | assembly::Error::NoOrganization
            | assembly::Error::Backend { .. },
        )
        | Error::Run(
            run::Error::Journal(journal::Error::Newer { .. })
            | run::Error::EventLog(event_log::Error::NotALog { .. })
            | run::Error::Unauthorized { .. }
            | run::Error::Unclustered { .. }
            | run::Error::NoJobTokens { .. }
            | run::Error::NoQueue { .. }
            | run::Error::Endpoint { .. },
        ) => Exit::Refused,
        Error::Signals(_)
        | Error::Assembly(assembly::Error::Listen { .. })
        | Error::Run(
            run::Error::Journal(journal::Error::Unusable { .. } | journal::Error::InUse { .. })
            | run::Error::EventLog(
                event_log::Error::Unusable { .. } | event_log::Error::InUse { .. },
            )
            | run::Error::NoStack { .. }
            | run::Error::Bug { .. },
        ) => Exit::Failed,
    }
}
