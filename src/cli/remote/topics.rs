//! `campanile topics`: the topics there are, and how much is in them.

use clap::{ArgMatches, Command};

use super::{
    Failure, Remote, flags, json,
    output::Form,
    pages::{self, PAGE},
    table::{Side, Table},
};
use crate::grpc::proto::v1::ListTopicsRequest;

pub(super) const NAME: &str = "topics";
const PREFIX: &str = "prefix";

pub(super) fn command() -> Command {
    let prefix = flags::option(PREFIX, "TEXT", "Only those whose names begin so");
    Command::new(NAME).about("List the topics").arg(prefix)
}

pub(super) async fn run(matches: &ArgMatches, remote: &mut Remote) -> Result<(), Failure> {
    let prefix = flags::text(matches, PREFIX);
    let topics = pages::all(async |page_token| {
        let request = ListTopicsRequest { page_size: Some(PAGE), page_token, prefix: prefix.clone() };
        let page = remote.client.list_topics(request).await?;
        Ok((page.topics, page.next_page_token))
    });
    let topics = topics.await?;
    if remote.form == Form::Json {
        return topics.iter().try_for_each(|topic| remote.output.json(&json::topic(topic)));
    }
    let columns = [("TOPIC", Side::Left), ("MESSAGES", Side::Right), ("DELAYED", Side::Right), ("QUEUES", Side::Left)];
    let mut table = Table::new(&columns);
    for topic in topics {
        let note = if topic.is_inbox { " (inbox)" } else { "" };
        let name = format!("{}{note}", topic.name);
        table.row([name, topic.messages.to_string(), topic.delayed.to_string(), topic.queues.join(" ")]);
    }
    remote.output.table(&table)
}
