//! `campanile publish`: a message, or each line of the input as one.

use std::{collections::BTreeMap, io::Read as _};

use bytes::Bytes;
use clap::{Arg, ArgAction, ArgMatches, Command};
use serde_json::json;

use super::{Failure, Remote, flags, output::Form, publish_lines};
use crate::grpc::proto::v1::{NewMessage, PublishRequest, new_message::Due};

pub(super) const NAME: &str = "publish";
const TOPIC: &str = "topic";
const MESSAGE: &str = "message";
const LINES: &str = "lines";
const CONTENT_TYPE: &str = "content-type";
const ATTRIBUTE: &str = "attribute";
const KEY: &str = "key";
const DEDUP_ID: &str = "dedup-id";
const DELAY: &str = "delay";
const TTL: &str = "ttl";

/// Stands for standard input.
const STDIN: &str = "-";

pub(super) fn command() -> Command {
    let topic = Arg::new(TOPIC).value_name("TOPIC").required(true).help("Where it goes");
    let message = Arg::new(MESSAGE)
        .value_name("MESSAGE")
        .help("The payload; `-` or nothing: all of standard input")
        .allow_hyphen_values(true);
    let lines = flags::switch(LINES, "Publish each line of standard input that is not empty as a message of its own");
    let content_type = flags::option(
        CONTENT_TYPE,
        "TYPE",
        "Its media type [default: application/json if it is JSON, else text/plain or application/octet-stream]",
    );
    let attribute = flags::option(ATTRIBUTE, "NAME=VALUE", "A text that travels beside it; may be repeated")
        .action(ArgAction::Append)
        .value_parser(parse_attribute);
    Command::new(NAME)
        .about("Publish a message; when this ends with 0 it is on disk")
        .arg(topic)
        .arg(message)
        .arg(lines.conflicts_with(MESSAGE))
        .arg(content_type)
        .arg(attribute)
        .arg(flags::option(KEY, "KEY", "Deliver messages with the same key one at a time, in order"))
        .arg(flags::option(DEDUP_ID, "ID", "Store it once, however often it is published").conflicts_with(LINES))
        .arg(flags::time(DELAY, "Make it visible only after that long, such as 500ms, 90s, 2m, 1h, 7d"))
        .arg(flags::time(TTL, "Do not deliver it any more after that long"))
        .after_help(
            "With --lines one confirmation is awaited for each message, many at a time. Messages that are refused are named \
             on standard error, and the others are stored all the same; then the exit code is 1.",
        )
}

pub(super) async fn run(matches: &ArgMatches, remote: &mut Remote) -> Result<(), Failure> {
    let topic = flags::text(matches, TOPIC);
    let draft = Draft::of(matches);
    if matches.get_flag(LINES) {
        return publish_lines::run(&topic, draft, remote).await;
    }
    let payload = match matches.get_one::<String>(MESSAGE) {
        Some(text) if text != STDIN => Bytes::from(text.clone()),
        _ => stdin()?,
    };
    let messages = vec![draft.message(payload)];
    let published = remote.client.publish(PublishRequest { topic: topic.clone(), messages }).await?;
    let stored = published.messages.into_iter().next().unwrap_or_default();
    match remote.form {
        Form::Json => remote.output.json(&json!({
            "message_id": stored.message_id,
            "duplicate": stored.duplicate,
            "topic": topic,
            "delivered_to": published.delivered_to,
            "queues": published.queues,
        })),
        Form::Text => remote.output.line(&stored.message_id),
    }
}

fn stdin() -> Result<Bytes, Failure> {
    let mut payload = Vec::new();
    std::io::stdin().lock().read_to_end(&mut payload)?;
    Ok(payload.into())
}

/// What the flags say of every message.
#[derive(Debug, Clone)]
pub(super) struct Draft {
    like: NewMessage,
}

impl Draft {
    fn of(matches: &ArgMatches) -> Self {
        let attributes: BTreeMap<_, _> =
            matches.get_many::<(String, String)>(ATTRIBUTE).into_iter().flatten().cloned().collect();
        let like = NewMessage {
            content_type: flags::text(matches, CONTENT_TYPE),
            attributes,
            ordering_key: flags::text(matches, KEY),
            dedup_id: flags::text(matches, DEDUP_ID),
            due: flags::duration(matches, DELAY).map(Due::Delay),
            ttl: flags::duration(matches, TTL),
            ..NewMessage::default()
        };
        Self { like }
    }

    pub(super) fn message(&self, data: Bytes) -> NewMessage {
        let mut message = NewMessage { data, ..self.like.clone() };
        if message.content_type.is_empty() {
            message.content_type = guessed_content_type(&message.data).to_owned();
        }
        message
    }
}

/// Empty is JSON to the broker.
fn guessed_content_type(payload: &[u8]) -> &'static str {
    if serde_json::from_slice::<serde::de::IgnoredAny>(payload).is_ok() {
        ""
    } else if std::str::from_utf8(payload).is_ok() {
        "text/plain"
    } else {
        "application/octet-stream"
    }
}

fn parse_attribute(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("it is not NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_that_is_no_json_is_called_what_it_is() {
        assert_eq!(guessed_content_type(br#" {"a": [1]} "#), "");
        assert_eq!(guessed_content_type(b"hello"), "text/plain");
        assert_eq!(guessed_content_type(b""), "text/plain");
        assert_eq!(guessed_content_type(b"\xff"), "application/octet-stream");
    }

    #[test]
    fn an_attribute_has_a_name_and_a_value() {
        assert_eq!(parse_attribute("a=b=c"), Ok(("a".into(), "b=c".into())));
        assert_eq!(parse_attribute("a="), Ok(("a".into(), String::new())));
        assert!(parse_attribute("a").is_err());
    }
}
