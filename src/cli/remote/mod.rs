//! The commands that ask a running broker over gRPC, each in a file of its own.
//!
//! Here is what they share: where the broker is, how a command ends, and with which exit code. Invariant: what was asked
//! for goes to standard output, what went wrong to standard error, in one line.

mod consume;
mod dead_letters;
mod explain;
mod failure;
mod flags;
mod json;
mod lines;
mod output;
mod pages;
mod publish;
mod publish_lines;
mod queues;
mod redrive;
mod services;
mod span;
mod steer;
mod story;
mod table;
mod tail;
mod topics;

use std::process::ExitCode;

use clap::{ArgMatches, Command};

use self::{
    failure::Failure,
    output::{Form, Output},
};
use super::{args, complain};
use crate::client::Client;

/// What a command works with.
struct Remote {
    client: Client,
    form: Form,
    output: Output,
}

/// The commands, in the order in which the help lists them.
pub(super) fn commands() -> impl IntoIterator<Item = Command> {
    [
        publish::command(),
        consume::command(),
        topics::command(),
        queues::command(),
        services::command(),
        dead_letters::command(),
        redrive::command(),
        explain::command(),
        tail::command(),
        steer::pause(),
        steer::resume(),
        steer::purge(),
    ]
    .map(flags::of_all)
}

/// Carries one of them out.
pub(super) fn run(name: &str, matches: &ArgMatches) -> ExitCode {
    let ended = start(name, matches);
    match &ended {
        Ok(()) => {}
        // Whoever read the output has seen enough.
        Err(failure) if failure.is_broken_pipe() => return ExitCode::SUCCESS,
        Err(failure) => complain(failure),
    }
    ended.map_or_else(|failure| failure.exit_code(), |()| ExitCode::SUCCESS)
}

fn start(name: &str, matches: &ArgMatches) -> Result<(), Failure> {
    let client = flags::client(matches)?;
    let mut remote = Remote { client, form: flags::form(matches), output: Output::stdout() };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let ended = runtime.block_on(async {
        let ended = dispatch(name, matches, &mut remote).await;
        remote.output.flush().and(ended)
    });
    // A thread may be reading a terminal that says nothing.
    runtime.shutdown_background();
    ended
}

async fn dispatch(name: &str, matches: &ArgMatches, remote: &mut Remote) -> Result<(), Failure> {
    match name {
        publish::NAME => publish::run(matches, remote).await,
        consume::NAME => consume::run(matches, remote).await,
        topics::NAME => topics::run(matches, remote).await,
        queues::NAME => queues::run(matches, remote).await,
        services::NAME => services::run(remote).await,
        dead_letters::NAME => dead_letters::run(matches, remote).await,
        redrive::NAME => redrive::run(matches, remote).await,
        explain::NAME => explain::run(matches, remote).await,
        tail::NAME => tail::run(matches, remote).await,
        steer::PAUSE => steer::run_pause(matches, remote).await,
        steer::RESUME => steer::run_resume(matches, remote).await,
        steer::PURGE => steer::run_purge(matches, remote).await,
        _ => unreachable!("`{name}` is not among the commands of this module"),
    }
}
