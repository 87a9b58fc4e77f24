//! `campanile redrive`: dead letters back to their queue.

use clap::{Arg, ArgMatches, Command, value_parser};
use serde_json::json;

use super::{Failure, Remote, flags, lines, output::Form};
use crate::grpc::proto::v1::RedriveRequest;

pub(super) const NAME: &str = "redrive";
const IDS: &str = "ids";
const MAX_PER_SECOND: &str = "max-per-second";

pub(super) fn command() -> Command {
    let ids = Arg::new(IDS).value_name("ID").num_args(0..=1000).help("Which messages, at most 1000 [default: all]");
    let max_per_second =
        flags::option(MAX_PER_SECOND, "N", "Let so many become deliverable per second [default: all at once]")
            .value_parser(value_parser!(u32).range(1..));
    Command::new(NAME)
        .about("Bring dead letters back to their places in the queue, as if they had never been delivered")
        .arg(flags::queue())
        .arg(ids)
        .arg(max_per_second)
}

pub(super) async fn run(matches: &ArgMatches, remote: &mut Remote) -> Result<(), Failure> {
    let request = RedriveRequest {
        queue: flags::text(matches, flags::QUEUE),
        message_ids: matches.get_many(IDS).into_iter().flatten().cloned().collect(),
        max_per_second: matches.get_one(MAX_PER_SECOND).copied().unwrap_or(0),
    };
    let messages = remote.client.redrive(request).await?.messages;
    match remote.form {
        Form::Json => remote.output.json(&json!({ "messages": messages })),
        Form::Text => remote.output.line(&format!("{} brought back", lines::messages(messages))),
    }
}
