//! What those cost who only wait: long polls over REST and streams over gRPC, each on a connection of its own, and how soon
//! one of them has a message that is published.
//!
//! ```text
//! cargo bench --bench idle                                 10,000 long polls and 1,000 streams: about two minutes
//! cargo bench --bench idle -- --polls 100 --streams 10     fewer
//! ```
//!
//! The broker is a process of its own, built like this program; its memory and its processor time are what the system says
//! (Linux). The clients share the machine with it. How soon a message is there is counted from before it is published, so
//! that it has a write to the disk in it; the publish alone is shown beside.

mod broker;
mod waiting;

use std::{
    env,
    error::Error,
    time::{Duration, Instant},
};

use self::{
    broker::{Broker, Usage},
    waiting::{Awaited, polls, streams},
};

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

/// How long nothing happens while the processor time is counted.
const IDLE: Duration = Duration::from_secs(20);

/// How many messages are published, one after the other.
const WAKE_UPS: usize = 2000;

struct Asked {
    polls: usize,
    streams: usize,
}

impl Asked {
    fn parse(args: &[String]) -> Result<Self> {
        let mut asked = Self { polls: 10_000, streams: 1000 };
        let mut args = args.iter();
        while let Some(arg) = args.next() {
            let mut number = || -> Result<usize> { Ok(args.next().ok_or("a number is missing")?.parse()?) };
            match arg.as_str() {
                "--bench" => {}
                "--polls" => asked.polls = number()?,
                "--streams" => asked.streams = number()?,
                other => return Err(format!("unknown argument {other}").into()),
            }
        }
        Ok(asked)
    }
}

fn main() -> Result<()> {
    let args: Vec<String> = env::args().skip(1).collect();
    if !args.iter().any(|arg| arg == "--bench") {
        println!("not measured: run `cargo bench --bench idle`");
        return Ok(());
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(run(&Asked::parse(&args)?))
}

async fn run(asked: &Asked) -> Result<()> {
    let broker = Broker::start()?;
    let client = reqwest::Client::new();
    // Warm: threads, connections, the first page of everything.
    publish_all(&client, &broker, &mut Awaited::none(), 200).await?;
    let empty = broker.usage()?;
    println!("{:<46} {}", "nobody waits: memory", mebibytes(empty.memory_bytes));

    let mut waiting = polls(&broker, asked.polls).await?;
    let with_polls = idle(&format!("{} long polls", asked.polls), &broker, empty, asked.polls).await?;
    wake("long poll", &client, &broker, &mut waiting).await?;

    let mut waiting = streams(&broker, asked.streams).await?;
    idle(&format!("and {} streams", asked.streams), &broker, with_polls, asked.streams).await?;
    wake("stream", &client, &broker, &mut waiting).await
}

/// What those who wait cost while nothing happens.
async fn idle(who: &str, broker: &Broker, before: Usage, count: usize) -> Result<Usage> {
    // What their coming took is over.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let (from, begin) = (broker.usage()?, Instant::now());
    tokio::time::sleep(IDLE).await;
    let (to, elapsed) = (broker.usage()?, begin.elapsed());
    let each = (to.memory_bytes.saturating_sub(before.memory_bytes)) as f64 / count.max(1) as f64 / 1024.0;
    let cpu = (to.processor - from.processor).as_secs_f64() / elapsed.as_secs_f64() * 100.0;
    println!("{:<46} {} ({each:.1} KiB each)", format!("{who}: memory"), mebibytes(to.memory_bytes));
    println!("{:<46} {cpu:.2} % of one core", format!("{who}: processor"));
    Ok(to)
}

/// How soon one of those who wait has a message.
async fn wake(who: &str, client: &reqwest::Client, broker: &Broker, waiting: &mut Awaited) -> Result<()> {
    let (published, arrived) = publish_all(client, broker, waiting, WAKE_UPS).await?;
    println!("{:<46} {}", format!("a publish, {who}s waiting: answered"), quantiles(published));
    println!("{:<46} {}", format!("a publish, {who}s waiting: at the {who}"), quantiles(arrived));
    Ok(())
}

/// Publishes messages one after the other, each when the one before has arrived; how long it took until each publish was
/// answered, and until its message was there.
async fn publish_all(
    client: &reqwest::Client,
    broker: &Broker,
    waiting: &mut Awaited,
    count: usize,
) -> Result<(Vec<Duration>, Vec<Duration>)> {
    let (mut published, mut arrived) = (Vec::with_capacity(count), Vec::with_capacity(count));
    for n in 0..count {
        let url = format!("http://{}/v1/topics/{}/publish", broker.rest, waiting.topic(n));
        let begin = Instant::now();
        client.post(url).json(&serde_json::json!({"messages": [{"json": n}]})).send().await?.error_for_status()?;
        published.push(begin.elapsed());
        if let Some(at) = waiting.arrival().await? {
            arrived.push(at.saturating_duration_since(begin));
        }
    }
    Ok((published, arrived))
}

fn quantiles(mut times: Vec<Duration>) -> String {
    times.sort_unstable();
    let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize].as_secs_f64() * 1000.0;
    format!("p50 {:.2} ms, p99 {:.2} ms, max {:.2} ms", at(0.5), at(0.99), at(1.0))
}

fn mebibytes(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}
