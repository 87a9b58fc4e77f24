//! `campanile pause`, `resume` and `purge`: a queue that hands nothing out, does so again, is emptied.

use clap::{Arg, ArgMatches, Command, builder::PossibleValuesParser};
use serde_json::json;

use super::{Failure, Remote, flags, json, lines, output::Form};
use crate::grpc::proto::v1::{MessageState, PauseRequest, PurgeRequest, Queue, ResumeRequest};

pub(super) const PAUSE: &str = "pause";
pub(super) const RESUME: &str = "resume";
pub(super) const PURGE: &str = "purge";
const STATES: &str = "state";

pub(super) fn pause() -> Command {
    Command::new(PAUSE).about("Hand nothing out from a queue until it is resumed").arg(flags::queue())
}

pub(super) fn resume() -> Command {
    Command::new(RESUME).about("Hand messages of a queue out again").arg(flags::queue())
}

pub(super) fn purge() -> Command {
    let states = Arg::new(STATES)
        .long(STATES)
        .value_name("STATE")
        .value_parser(PossibleValuesParser::new(["ready", "leased", "dead"]))
        .value_delimiter(',')
        .help("What is removed [default: ready]");
    Command::new(PURGE).about("Remove messages from a queue, for good").arg(flags::queue()).arg(states)
}

pub(super) async fn run_pause(matches: &ArgMatches, remote: &mut Remote) -> Result<(), Failure> {
    let queue = remote.client.pause(PauseRequest { queue: flags::text(matches, flags::QUEUE) }).await?;
    show(remote, &queue, "is paused")
}

pub(super) async fn run_resume(matches: &ArgMatches, remote: &mut Remote) -> Result<(), Failure> {
    let queue = remote.client.resume(ResumeRequest { queue: flags::text(matches, flags::QUEUE) }).await?;
    show(remote, &queue, "hands messages out")
}

fn show(remote: &mut Remote, queue: &Queue, words: &str) -> Result<(), Failure> {
    match remote.form {
        Form::Json => remote.output.json(&json::queue(queue)),
        Form::Text => remote.output.line(&format!("{} {words}", queue.name)),
    }
}

pub(super) async fn run_purge(matches: &ArgMatches, remote: &mut Remote) -> Result<(), Failure> {
    let states = matches.get_many::<String>(STATES).into_iter().flatten().map(|state| state_of(state).into()).collect();
    let request = PurgeRequest { queue: flags::text(matches, flags::QUEUE), states };
    let messages = remote.client.purge(request).await?.messages;
    match remote.form {
        Form::Json => remote.output.json(&json!({ "messages": messages })),
        Form::Text => remote.output.line(&format!("{} removed", lines::messages(messages))),
    }
}

fn state_of(word: &str) -> MessageState {
    match word {
        "leased" => MessageState::Leased,
        "dead" => MessageState::Dead,
        // The parser lets no other word through.
        _ => MessageState::Ready,
    }
}
