//! `campanile consume`: prints messages and acks them.
//!
//! Invariant: a message is acked when it was printed, not before; what is held and was not printed goes back to the queue at
//! once, however the command ends.

use std::{io, pin::Pin, time::Duration};

use clap::{ArgMatches, Command};

use super::{
    Failure, Remote, flags, json,
    output::{Form, Output},
};
use crate::{
    client::{ClientError, Deliveries},
    grpc::proto::v1::{
        Ack, Credit, Delivery, Nack, PullRequest, SettleRequest, SettleResult, Settlement, StreamingPullStart,
        nack::Outcome as NackOutcome, settlement::Outcome,
    },
};

pub(super) const NAME: &str = "consume";
const NO_ACK: &str = "no-ack";
const SERVICE: &str = "service";
const WAIT: &str = "wait";

/// Messages that are held at once.
const BATCH: u64 = 100;

/// As many as one call can settle.
const SETTLEMENTS_MAX: usize = 1000;

/// How long messages are held that are not acked: a stream gives them back when it ends, however it does; what was pulled
/// and is held by a command that was killed waits for the end of its lease.
const STREAM_HOLD: prost_types::Duration = prost_types::Duration { seconds: 12 * 3600, nanos: 0 };
const PULL_HOLD: prost_types::Duration = prost_types::Duration { seconds: 600, nanos: 0 };

/// As the queue's list of consumers shows it.
const CONSUMER: &str = "campanile consume";

/// How often, and how long apart, a stream that broke is opened again before the command gives up.
const REOPENINGS: u32 = 10;
const REOPENING_PAUSE: Duration = Duration::from_millis(500);

/// How long the acks of what is printed are awaited after Ctrl-C.
const SETTLING_PATIENCE: Duration = Duration::from_secs(5);

pub(super) fn command() -> Command {
    Command::new(NAME)
        .about("Print the messages of a queue and ack each when it is printed")
        .arg(flags::queue())
        .arg(flags::count(flags::MAX, "End after so many messages [default: when the queue is empty]"))
        .arg(flags::switch(flags::FOLLOW, "Wait for messages until Ctrl-C"))
        .arg(flags::switch(NO_ACK, "Give the messages back at the end instead of acking them"))
        .arg(flags::option(SERVICE, "NAME", "Take QUEUE as a topic, and consume from this service's queue on it"))
        .arg(flags::time(WAIT, "Wait so long for the next message, at most 60s").conflicts_with(flags::FOLLOW))
        .after_help(
            "Payloads are printed as they are, each with a line's end. Without --follow it ends when the queue has nothing to \
             hand out. With --no-ack it shows each message once and gives all back at the end; those deliveries do not \
             count. With --follow a stream that breaks is opened again.",
        )
}

/// What to take, and from where.
struct Order {
    queue: String,
    service: String,
    left: u64,
    wait: Option<prost_types::Duration>,
    end: End,
}

/// What becomes of a message that was printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Acked,
    GivenBack,
}

pub(super) async fn run(matches: &ArgMatches, remote: &mut Remote) -> Result<(), Failure> {
    let order = Order {
        queue: flags::text(matches, flags::QUEUE),
        service: flags::text(matches, SERVICE),
        left: flags::number(matches, flags::MAX).unwrap_or(u64::MAX),
        wait: flags::duration(matches, WAIT),
        end: if matches.get_flag(NO_ACK) { End::GivenBack } else { End::Acked },
    };
    if matches.get_flag(flags::FOLLOW) { follow(order, remote).await } else { pull(order, remote).await }
}

/// Takes what there is, a batch at a time.
async fn pull(mut order: Order, remote: &mut Remote) -> Result<(), Failure> {
    let mut held = Vec::new();
    let ended = pull_all(&mut order, &mut held, remote).await;
    for settlements in held.chunks(SETTLEMENTS_MAX) {
        let request = SettleRequest { settlements: settlements.to_vec(), ..SettleRequest::default() };
        let given_back = remote.client.settle(request).await;
        // Why it ended says more than that what it held comes back by itself, a little later.
        if ended.is_ok() {
            given_back?;
        }
    }
    ended
}

async fn pull_all(order: &mut Order, held: &mut Vec<Settlement>, remote: &mut Remote) -> Result<(), Failure> {
    let mut interrupt = std::pin::pin!(tokio::signal::ctrl_c());
    while order.left > 0 {
        let request = PullRequest {
            queue: order.queue.clone(),
            service: order.service.clone(),
            max_messages: u32::try_from(order.left.min(BATCH)).ok(),
            wait: order.wait,
            ack_deadline: (order.end == End::GivenBack).then_some(PULL_HOLD),
            consumer: CONSUMER.to_owned(),
            ..PullRequest::default()
        };
        let deliveries = tokio::select! {
            pulled = remote.client.pull(request) => pulled?.deliveries,
            interrupted = &mut interrupt => return Ok(interrupted?),
        };
        if deliveries.is_empty() {
            return Ok(());
        }
        order.left = order.left.saturating_sub(deliveries.len() as u64);
        // Until they are printed they are to be given back.
        let first = held.len();
        held.extend(deliveries.iter().map(|delivery| given_back(&delivery.ack_id)));
        for delivery in &deliveries {
            print(&mut remote.output, remote.form, delivery)?;
        }
        remote.output.flush()?;
        if order.end == End::Acked {
            held.truncate(first);
            let settlements = deliveries.iter().map(|delivery| acked(&delivery.ack_id)).collect();
            let settled = remote.client.settle(SettleRequest { settlements, ..SettleRequest::default() }).await?;
            check(&settled.results)?;
        }
    }
    Ok(())
}

/// Takes what comes. The end of the stream gives back what is held.
async fn follow(mut order: Order, remote: &mut Remote) -> Result<(), Failure> {
    let mut interrupt = std::pin::pin!(tokio::signal::ctrl_c());
    let mut reopenings = 0;
    while order.left > 0 {
        let broken = match follow_stream(&mut order, &mut reopenings, remote, interrupt.as_mut()).await {
            Ok(()) => return Ok(()),
            Err(Failure::Client(error)) if may_be_mended(&error) && reopenings < REOPENINGS => error,
            Err(failure) => return Err(failure),
        };
        reopenings += 1;
        tracing::debug!(%broken, "stream is opened again");
        tokio::select! {
            () = tokio::time::sleep(REOPENING_PAUSE) => {}
            interrupted = &mut interrupt => return Ok(interrupted?),
        }
    }
    Ok(())
}

/// Prints what has come, and acks it together: what is printed is acked also when that is interrupted.
async fn follow_stream(
    order: &mut Order,
    reopenings: &mut u32,
    remote: &mut Remote,
    mut interrupt: Pin<&mut impl Future<Output = io::Result<()>>>,
) -> Result<(), Failure> {
    let start = StreamingPullStart {
        queue: order.queue.clone(),
        service: order.service.clone(),
        ack_deadline: (order.end == End::GivenBack).then_some(STREAM_HOLD),
        consumer: CONSUMER.to_owned(),
        credit: Some(Credit { max_outstanding_messages: credit(order), ..Credit::default() }),
    };
    let (mut deliveries, settler) = tokio::select! {
        opened = remote.client.subscribe(start) => opened?,
        interrupted = interrupt.as_mut() => return Ok(interrupted?),
    };
    while order.left > 0 {
        let batch = tokio::select! {
            batch = next_batch(&mut deliveries, order.left.min(BATCH)) => batch?,
            interrupted = interrupt.as_mut() => return Ok(interrupted?),
        };
        *reopenings = 0;
        for delivery in &batch {
            print(&mut remote.output, remote.form, delivery)?;
        }
        remote.output.flush()?;
        order.left -= batch.len() as u64;
        if order.end == End::GivenBack {
            continue;
        }
        let settlements = batch.iter().map(|delivery| acked(&delivery.ack_id)).collect();
        let mut settling = std::pin::pin!(settler.settle(settlements));
        tokio::select! {
            settled = settling.as_mut() => check(&settled?)?,
            interrupted = interrupt.as_mut() => {
                interrupted?;
                let settled = tokio::time::timeout(SETTLING_PATIENCE, settling).await;
                return check(&settled.unwrap_or(Err(ClientError::Ended))?);
            }
        }
    }
    Ok(())
}

/// How many to hold at once: of those that are not acked, all of them.
fn credit(order: &Order) -> Option<u32> {
    let credit = if order.end == End::Acked { order.left.min(BATCH) } else { order.left.min(10_000) };
    u32::try_from(credit).ok()
}

/// The next delivery, and those that have come with it.
async fn next_batch(deliveries: &mut Deliveries, max: u64) -> Result<Vec<Delivery>, Failure> {
    let mut batch = vec![deliveries.next().await?.ok_or(ClientError::Ended)?];
    while (batch.len() as u64) < max
        && let Some(delivery) = deliveries.try_next()
    {
        batch.push(delivery);
    }
    Ok(batch)
}

fn may_be_mended(error: &ClientError) -> bool {
    match error {
        ClientError::Unreachable(_) | ClientError::Unknown(_) | ClientError::Ended => true,
        // An instance that goes away says when to come again; somebody takes over.
        other => other.retry_after().is_some(),
    }
}

fn check(results: &[SettleResult]) -> Result<(), Failure> {
    match results.iter().filter(|result| result.code != "ok").count() {
        0 => Ok(()),
        stale => Err(Failure::Stale { stale }),
    }
}

fn print(output: &mut Output, form: Form, delivery: &Delivery) -> Result<(), Failure> {
    match form {
        Form::Json => output.json(&json::delivery(delivery)),
        Form::Text => output.payload(delivery.message.as_ref().map_or(&[], |message| &message.data[..])),
    }
}

fn acked(ack_id: &str) -> Settlement {
    Settlement { ack_id: ack_id.to_owned(), outcome: Some(Outcome::Ack(Ack {})) }
}

fn given_back(ack_id: &str) -> Settlement {
    let nack = Nack { outcome: NackOutcome::Release.into(), ..Nack::default() };
    Settlement { ack_id: ack_id.to_owned(), outcome: Some(Outcome::Nack(nack)) }
}
