//! `campanile topics`: the topics there are, and how much is in them.

use clap::{ArgMatches, Command};

use super::{
    Failure, Remote, flags, json,
    output::Form,
    table::{Side, Table},
};
use crate::{
    client::Client,
    grpc::proto::v1::{ListTopicsRequest, Topic},
};

pub(super) const NAME: &str = "topics";
const PREFIX: &str = "prefix";

/// As many as the broker gives at once.
const PAGE: u32 = 1000;

pub(super) fn command() -> Command {
    let prefix = flags::option(PREFIX, "TEXT", "Only those whose names begin so");
    Command::new(NAME).about("List the topics").arg(prefix)
}

pub(super) async fn run(matches: &ArgMatches, remote: &mut Remote) -> Result<(), Failure> {
    let topics = all(&remote.client, &flags::text(matches, PREFIX)).await?;
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

async fn all(client: &Client, prefix: &str) -> Result<Vec<Topic>, Failure> {
    let (mut topics, mut page_token) = (Vec::new(), String::new());
    loop {
        let request = ListTopicsRequest { page_size: Some(PAGE), page_token, prefix: prefix.to_owned() };
        let page = client.list_topics(request).await?;
        topics.extend(page.topics);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return Ok(topics);
        }
    }
}
