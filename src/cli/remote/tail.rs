//! `campanile tail`: the messages of a queue as they wait there, without consuming them; or the story of one message.
//!
//! A queue is followed by asking again for its last page. What was shown of that page is remembered, and no more: a page
//! that is full has a next one, and its messages are behind us.

use std::{collections::HashSet, time::Duration};

use clap::{Arg, ArgMatches, Command};

use super::{Failure, Remote, flags, json, lines::beginning, output::Form, span, story};
use crate::{
    grpc::proto::v1::{BrowseRequest, BrowsedMessage, GetStoryRequest, MessageState},
    model::Timestamp,
};

pub(super) const NAME: &str = "tail";
const MESSAGE: &str = "message";

/// Messages that are asked for at once.
const PAGE: u32 = 100;

/// How often a queue is asked that is followed.
const PERIOD: Duration = Duration::from_millis(500);

/// As much of a payload as a line shows.
const PAYLOAD_CHARS_MAX: usize = 120;

pub(super) fn command() -> Command {
    let queue = Arg::new(flags::QUEUE).value_name("QUEUE").required_unless_present(MESSAGE).help("Whose messages");
    let message = flags::option(MESSAGE, "ID", "Tell what has happened to this message").conflicts_with(flags::QUEUE);
    let max = flags::count(flags::MAX, "Show so many at most [default: all]").conflicts_with(MESSAGE);
    let follow = flags::switch(flags::FOLLOW, "Go on with those that come, until Ctrl-C").conflicts_with(MESSAGE);
    Command::new(NAME)
        .about("Show the messages that wait in a queue without consuming them, or the story of one message")
        .arg(queue)
        .arg(message)
        .arg(max)
        .arg(follow)
}

pub(super) async fn run(matches: &ArgMatches, remote: &mut Remote) -> Result<(), Failure> {
    match matches.get_one::<String>(MESSAGE) {
        Some(message_id) => tell(message_id, remote).await,
        None => browse(matches, remote).await,
    }
}

async fn tell(message_id: &str, remote: &mut Remote) -> Result<(), Failure> {
    let story = remote.client.get_story(GetStoryRequest { message_id: message_id.to_owned() }).await?;
    match remote.form {
        Form::Json => remote.output.json(&json::story(&story)),
        Form::Text => story::lines(&story, Timestamp::now()).iter().try_for_each(|line| remote.output.line(line)),
    }
}

async fn browse(matches: &ArgMatches, remote: &mut Remote) -> Result<(), Failure> {
    let queue = flags::text(matches, flags::QUEUE);
    let mut left = flags::number(matches, flags::MAX).unwrap_or(u64::MAX);
    let (mut page_token, mut shown) = (String::new(), HashSet::new());
    loop {
        let request = BrowseRequest {
            queue: queue.clone(),
            state: MessageState::Ready.into(),
            page_size: Some(PAGE),
            page_token: page_token.clone(),
        };
        let page = remote.client.browse(request).await?;
        for browsed in &page.messages {
            let id = browsed.message.as_ref().map(|message| message.id.clone()).unwrap_or_default();
            if left > 0 && shown.insert(id) {
                show(remote, browsed)?;
                left -= 1;
            }
        }
        if left == 0 {
            return Ok(());
        }
        if !page.next_page_token.is_empty() {
            page_token = page.next_page_token;
            shown.clear();
            continue;
        }
        if !matches.get_flag(flags::FOLLOW) {
            return Ok(());
        }
        remote.output.flush()?;
        // What was shown and has left the queue does not come back under the same token, unless it is given back: then it
        // is shown again.
        shown.retain(|id| page.messages.iter().any(|browsed| browsed.message.as_ref().is_some_and(|m| m.id == *id)));
        tokio::time::sleep(PERIOD).await;
    }
}

fn show(remote: &mut Remote, browsed: &BrowsedMessage) -> Result<(), Failure> {
    match remote.form {
        Form::Json => remote.output.json(&json::browsed(browsed)),
        Form::Text => remote.output.line(&line(browsed, Timestamp::now())),
    }
}

fn line(browsed: &BrowsedMessage, now: Timestamp) -> String {
    let Some(message) = &browsed.message else { return "(damaged)".to_owned() };
    let at = span::from_now(message.published_at, now);
    let payload = String::from_utf8_lossy(&message.data);
    format!("{}  {at:>8}  {}", message.id, beginning(&payload, PAYLOAD_CHARS_MAX))
}
