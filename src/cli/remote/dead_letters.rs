//! `campanile dead-letters`: what could not be worked on, and why.

use clap::{ArgMatches, Command};

use super::{
    Failure, Remote, flags, json,
    lines::beginning,
    output::Form,
    span,
    table::{Side, Table},
};
use crate::{
    grpc::proto::v1::{BrowseRequest, BrowsedMessage, MessageState},
    model::Timestamp,
};

pub(super) const NAME: &str = "dead-letters";

/// As many as the broker gives at once.
const PAGE: u64 = 1000;

/// How many are listed if nothing else is said.
const MAX_DEFAULT: u64 = 1000;

/// As much of a reason as a table shows.
const REASON_CHARS_MAX: usize = 80;

pub(super) fn command() -> Command {
    let max = flags::count(flags::MAX, "List so many at most [default: 1000]");
    Command::new(NAME).about("List the dead letters of a queue: why and when they died").arg(flags::queue()).arg(max)
}

pub(super) async fn run(matches: &ArgMatches, remote: &mut Remote) -> Result<(), Failure> {
    let queue = flags::text(matches, flags::QUEUE);
    let mut left = flags::number(matches, flags::MAX).unwrap_or(MAX_DEFAULT);
    let (mut letters, mut page_token) = (Vec::new(), String::new());
    while left > 0 {
        let page_size = u32::try_from(left.min(PAGE)).ok();
        let request = BrowseRequest { queue: queue.clone(), state: MessageState::Dead.into(), page_size, page_token };
        let page = remote.client.browse(request).await?;
        left = left.saturating_sub(page.messages.len() as u64);
        letters.extend(page.messages);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    if remote.form == Form::Json {
        return letters.iter().try_for_each(|letter| remote.output.json(&json::browsed(letter)));
    }
    remote.output.table(&table(&letters, Timestamp::now()))?;
    if !page_token.is_empty() {
        remote.output.line("There are more; --max lists them.")?;
    }
    Ok(())
}

fn table(letters: &[BrowsedMessage], now: Timestamp) -> Table {
    let mut table = Table::new(&[
        ("MESSAGE", Side::Left),
        ("ATTEMPTS", Side::Right),
        ("FIRST FAILED", Side::Right),
        ("DIED", Side::Right),
        ("CAUSE", Side::Left),
        ("REASON", Side::Left),
    ]);
    for letter in letters {
        let death = letter.dead_letter.clone().unwrap_or_default();
        table.row([
            letter.message.as_ref().map_or_else(|| "(damaged)".to_owned(), |message| message.id.clone()),
            letter.delivery_attempts.to_string(),
            span::from_now(death.first_failed_at, now),
            span::from_now(death.dead_lettered_at, now),
            json::cause(&death).to_owned(),
            beginning(&death.reason, REASON_CHARS_MAX),
        ]);
    }
    table
}
