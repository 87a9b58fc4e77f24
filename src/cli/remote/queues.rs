//! `campanile queues`: how much waits where, and who takes it.

use std::time::Duration;

use clap::{ArgMatches, Command};

use super::{
    Failure, Remote, flags, json,
    output::{Form, Output},
    pages::{self, PAGE},
    span,
    table::{Side, Table},
};
use crate::{
    grpc::proto::v1::{ListQueuesRequest, Queue},
    model::Timestamp,
};

pub(super) const NAME: &str = "queues";
const PREFIX: &str = "prefix";
const WATCH: &str = "watch";

/// How often it is shown again.
const WATCH_PERIOD: Duration = Duration::from_secs(2);

pub(super) fn command() -> Command {
    let prefix = flags::option(PREFIX, "TEXT", "Only those whose names begin so");
    let watch = flags::switch(WATCH, "Show them again every 2 s, until Ctrl-C");
    Command::new(NAME)
        .about("List the queues: what waits, what is held, what is dead, who consumes")
        .arg(prefix)
        .arg(watch)
}

pub(super) async fn run(matches: &ArgMatches, remote: &mut Remote) -> Result<(), Failure> {
    let prefix = flags::text(matches, PREFIX);
    let mut ticks = tokio::time::interval(WATCH_PERIOD);
    loop {
        ticks.tick().await;
        let queues = pages::all(async |page_token| {
            let request = ListQueuesRequest { page_size: Some(PAGE), page_token, prefix: prefix.clone() };
            let page = remote.client.list_queues(request).await?;
            Ok((page.queues, page.next_page_token))
        });
        let queues = queues.await?;
        if matches.get_flag(WATCH) && Output::is_terminal() {
            remote.output.clear()?;
        }
        show(remote, &queues)?;
        if !matches.get_flag(WATCH) {
            return Ok(());
        }
        remote.output.flush()?;
    }
}

fn show(remote: &mut Remote, queues: &[Queue]) -> Result<(), Failure> {
    match remote.form {
        Form::Json => queues.iter().try_for_each(|queue| remote.output.json(&json::queue(queue))),
        Form::Text => remote.output.table(&table(queues, Timestamp::now())),
    }
}

fn table(queues: &[Queue], now: Timestamp) -> Table {
    let mut table = Table::new(&[
        ("QUEUE", Side::Left),
        ("READY", Side::Right),
        ("LEASED", Side::Right),
        ("RETRYING", Side::Right),
        ("DELAYED", Side::Right),
        ("DEAD", Side::Right),
        ("OLDEST", Side::Right),
        ("CONSUMERS", Side::Right),
        ("STATE", Side::Left),
    ]);
    for queue in queues {
        table.row([
            queue.name.clone(),
            queue.ready.to_string(),
            queue.leased.to_string(),
            queue.retrying.to_string(),
            queue.delayed.to_string(),
            queue.dead.to_string(),
            span::from_now(queue.oldest_published_at, now),
            queue.consumers.len().to_string(),
            if queue.paused { "paused".to_owned() } else { String::new() },
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queue_is_a_row() {
        let oldest_published_at = Some(prost_types::Timestamp { seconds: 10, nanos: 0 });
        let queue = Queue { name: "orders".into(), ready: 12, paused: true, oldest_published_at, ..Queue::default() };
        let lines: Vec<_> = table(&[queue], Timestamp::from_millis(130_000)).lines().collect();
        assert_eq!(lines[0], "QUEUE   READY  LEASED  RETRYING  DELAYED  DEAD  OLDEST  CONSUMERS  STATE");
        assert_eq!(lines[1], "orders     12       0         0        0     0  2m ago          0  paused");
    }
}
