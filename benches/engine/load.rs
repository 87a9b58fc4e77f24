//! Publishers and consumers, as many as asked for.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use campanile::{
    engine::{AckMode, Engine, Options, Receive},
    model::{AckId, Delivery, Draft, Name},
};
use tokio::{task::JoinSet, time::interval};

use crate::{Asked, Result, aside, counting::CountingDisk, line, median, ratio};

/// Publishers that each have one publish under way at a time.
#[derive(Debug, Clone)]
pub(crate) struct Load {
    pub(crate) tasks: usize,
    /// Messages of one publish.
    pub(crate) batch: usize,
    pub(crate) payload_bytes: usize,
    pub(crate) topics: Arc<[Name]>,
}

impl Default for Load {
    fn default() -> Self {
        Self { tasks: 64, batch: 1, payload_bytes: 1024, topics: [name("t")].into() }
    }
}

/// What publishers achieved.
#[derive(Debug, Default)]
pub(crate) struct Published {
    pub(crate) messages: usize,
    pub(crate) took: Duration,
    /// Of each publish, in microseconds, sorted.
    latencies: Vec<u32>,
    /// Of those that came while a checkpoint was written.
    beside_checkpoints: Vec<u32>,
}

impl Published {
    pub(crate) fn per_second(&self) -> f64 {
        self.messages as f64 / self.took.as_secs_f64()
    }

    /// The longest one, in milliseconds.
    pub(crate) fn worst(&self) -> f64 {
        percentile(&self.latencies, 100)
    }
}

pub(crate) fn name(text: &str) -> Name {
    Name::parse(text).expect("a valid name")
}

pub(crate) fn drafts(count: usize, payload: &Bytes) -> Vec<Draft> {
    (0..count).map(|_| Draft { payload: payload.clone(), ..Draft::default() }).collect()
}

/// In milliseconds.
fn percentile(sorted: &[u32], percent: usize) -> f64 {
    let at = (sorted.len() * percent / 100).min(sorted.len().saturating_sub(1));
    sorted.get(at).map_or(0.0, |micros| f64::from(*micros) / 1000.0)
}

fn micros(since: Instant) -> u32 {
    u32::try_from(since.elapsed().as_micros()).unwrap_or(u32::MAX)
}

/// Publishes for that long.
pub(crate) async fn publish(engine: &Engine, load: &Load, how_long: Duration) -> Result<Published> {
    publish_beside(engine, load, how_long, None).await
}

async fn publish_beside(
    engine: &Engine,
    load: &Load,
    how_long: Duration,
    disk: Option<&CountingDisk>,
) -> Result<Published> {
    let begun = Instant::now();
    let payload = Bytes::from(vec![b'x'; load.payload_bytes]);
    let mut tasks = JoinSet::new();
    for task in 0..load.tasks {
        let (engine, load, payload, disk) = (engine.clone(), load.clone(), payload.clone(), disk.cloned());
        tasks.spawn(async move {
            let mut published = Published::default();
            let mut turn = task * load.topics.len() / load.tasks;
            while begun.elapsed() < how_long {
                let topic = load.topics[turn % load.topics.len()].clone();
                turn += 1;
                let asked = Instant::now();
                engine.publish(topic, drafts(load.batch, &payload)).await?;
                let latency = micros(asked);
                published.messages += load.batch;
                published.latencies.push(latency);
                if disk.as_ref().is_some_and(CountingDisk::is_checkpointing) {
                    published.beside_checkpoints.push(latency);
                }
            }
            Result::Ok(published)
        });
    }
    let mut all = Published::default();
    while let Some(one) = tasks.join_next().await {
        let one = one??;
        all.messages += one.messages;
        all.latencies.extend(one.latencies);
        all.beside_checkpoints.extend(one.beside_checkpoints);
    }
    all.took = begun.elapsed();
    all.latencies.sort_unstable();
    all.beside_checkpoints.sort_unstable();
    Ok(all)
}

pub(crate) async fn receive(engine: &Engine, max_messages: usize, mode: AckMode) -> Result<Vec<Delivery>> {
    receive_from(engine, "t", max_messages, mode).await
}

pub(crate) async fn receive_from(
    engine: &Engine,
    queue: &str,
    max_messages: usize,
    mode: AckMode,
) -> Result<Vec<Delivery>> {
    let receive = Receive {
        queue: name(queue),
        service: None,
        max_messages,
        max_bytes: Receive::BYTES_MAX,
        wait: Duration::ZERO,
        mode,
    };
    Ok(engine.receive(receive).await?)
}

/// Syncs for a million publishes and a million acks.
pub(crate) async fn fsyncs(asked: &Asked) -> Result<()> {
    for (window, messages) in [(1, 100_000), (64, 400_000)] {
        let disk = CountingDisk::new();
        let options = Options { disk: Arc::new(disk.clone()), ..Options::new(asked.fresh("fsyncs")?) };
        let engine = Engine::open(options)?;
        let clients = 64 * window;
        let before = disk.syncs();
        let publisher = engine.clone();
        each(clients, messages / clients, move |_| publish_one(publisher.clone())).await?;
        let published = disk.syncs();
        let mut ids: Vec<AckId> = Vec::with_capacity(messages);
        loop {
            let leased = receive(&engine, 1000, AckMode::Lease(Duration::from_secs(600))).await?;
            if leased.is_empty() {
                break;
            }
            ids.extend(leased.into_iter().filter_map(|delivery| Some(delivery.lease?.ack_id)));
        }
        let ids = Arc::new(ids);
        let before_acks = disk.syncs();
        let share = ids.len() / clients;
        let acker = engine.clone();
        each(clients, share, move |n| {
            let (engine, id) = (acker.clone(), ids[n]);
            async move { Ok(engine.ack(name("t"), vec![Some(id)]).await.map(drop)?) }
        })
        .await?;
        let acked = disk.syncs();
        engine.close().await;
        let per_million = |from: u64, to: u64, count: usize| (to - from) as f64 * 1e6 / count as f64;
        let sum = |counts: [u64; 3]| counts.iter().sum::<u64>();
        let publishes = per_million(sum(before), sum(published), messages);
        let acks = per_million(sum(before_acks), sum(acked), share * clients);
        let total = publishes + acks;
        let what = format!("syncs per 1 M publishes + acks, 64 clients x {window}");
        match window {
            // With one at a time no frame has more than 64, which is 31,250 syncs at the least.
            1 => aside(&what, total / 31_250.0, &format!("of the least possible: {publishes:.0} + {acks:.0}")),
            _ => line(&what, &format!("{total:.0} ({publishes:.0} + {acks:.0})"), "<= 5000", total <= 5000.0),
        }
    }
    Ok(())
}

async fn publish_one(engine: Engine) -> Result<()> {
    engine.publish(name("t"), drafts(1, &Bytes::from_static(&[b'x'; 1024]))).await?;
    Ok(())
}

/// Has each of `clients` do `count` things one after the other; each thing has a number.
async fn each<F>(clients: usize, count: usize, act: impl Fn(usize) -> F + Clone + Send + 'static) -> Result<()>
where
    F: Future<Output = Result<()>> + Send + 'static,
{
    let mut tasks = JoinSet::new();
    for client in 0..clients {
        let act = act.clone();
        tasks.spawn(async move {
            for n in 0..count {
                act(client * count + n).await?;
            }
            Result::Ok(())
        });
    }
    while let Some(done) = tasks.join_next().await {
        done??;
    }
    Ok(())
}

pub(crate) async fn topics(asked: &Asked) -> Result<()> {
    const COUNT: usize = 10_000;
    let disk = CountingDisk::new();
    let options = Options { disk: Arc::new(disk.clone()), ..Options::new(asked.fresh("topics")?) };
    let engine = Engine::open(options)?;
    let many: Arc<[Name]> = (0..COUNT).map(|n| name(&format!("topic.{n}"))).collect();
    for topic in many.iter() {
        engine.publish(topic.clone(), drafts(1, &Bytes::new())).await?;
    }
    let one = Load { tasks: 1024, ..Load::default() };
    let load = Load { topics: many, ..one.clone() };
    let (mut ratios, mut rates, mut latencies) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..5 {
        let alone = publish_beside(&engine, &one, Duration::from_secs(1), Some(&disk)).await?;
        let among = publish_beside(&engine, &load, Duration::from_secs(1), Some(&disk)).await?;
        ratios.push(among.per_second() / alone.per_second());
        rates.push(among.per_second());
        latencies.extend(among.beside_checkpoints.into_iter().chain(alone.beside_checkpoints));
    }
    let detail = format!("{:.0}k/s, 1024 in flight", median(rates.clone()) / 1000.0);
    ratio("10,000 topics / one", median(ratios), &detail, 0.7);
    latencies.sort_unstable();
    let p99 = percentile(&latencies, 99);
    let figure = format!("{p99:.1} ms (p50 {:.1}, n {})", percentile(&latencies, 50), latencies.len());
    line("p99 of a publish beside a checkpoint, full load", &figure, "<= 50 ms", p99 <= 50.0);

    let pace = median(rates) * 0.7;
    let paced = paced(&engine, "t", pace, Duration::from_secs(5), &disk).await?;
    let p99 = percentile(&paced.beside_checkpoints, 99);
    let (p50, count) = (percentile(&paced.beside_checkpoints, 50), paced.beside_checkpoints.len());
    let figure = format!("{p99:.1} ms (p50 {p50:.1}, n {count})");
    line("p99 of a publish beside a checkpoint, 70 % of that", &figure, "<= 50 ms", p99 <= 50.0);
    engine.close().await;
    Ok(())
}

/// Publishes at a steady rate, whatever the answers do.
pub(crate) async fn paced(
    engine: &Engine,
    topic: &str,
    per_second: f64,
    how_long: Duration,
    disk: &CountingDisk,
) -> Result<Published> {
    const TICK: Duration = Duration::from_millis(2);
    let topic = name(topic);
    let payload = Bytes::from(vec![b'x'; 1024]);
    let (begun, mut ticks, mut tasks, mut sent) = (Instant::now(), interval(TICK), JoinSet::new(), 0);
    let mut published = Published::default();
    while begun.elapsed() < how_long {
        ticks.tick().await;
        let due = (begun.elapsed().as_secs_f64() * per_second) as usize;
        while sent < due {
            sent += 1;
            let (engine, payload, disk) = (engine.clone(), payload.clone(), disk.clone());
            let topic = topic.clone();
            tasks.spawn(async move {
                let asked = Instant::now();
                engine.publish(topic, drafts(1, &payload)).await?;
                Result::Ok((micros(asked), disk.is_checkpointing()))
            });
        }
        while let Some(done) = tasks.try_join_next() {
            let (latency, is_beside) = done??;
            published.latencies.push(latency);
            if is_beside {
                published.beside_checkpoints.push(latency);
            }
        }
    }
    while let Some(done) = tasks.join_next().await {
        published.latencies.push(done??.0);
    }
    published.latencies.sort_unstable();
    published.beside_checkpoints.sort_unstable();
    Ok(published)
}

/// Small publishes, with and without large ones among them.
pub(crate) async fn large(asked: &Asked) -> Result<()> {
    const LARGE_BYTES: usize = 16 << 20;
    let disk = CountingDisk::new();
    let engine = Engine::open(Options::new(asked.fresh("large")?))?;
    let payload = Bytes::from(vec![b'x'; LARGE_BYTES]);
    let mut added = Vec::new();
    for _ in 0..3 {
        let without = paced(&engine, "t", 2000.0, Duration::from_secs(3), &disk).await?;
        let (engine_too, payload) = (engine.clone(), payload.clone());
        let large = tokio::spawn(async move {
            for _ in 0..3 {
                engine_too.publish(name("large"), drafts(1, &payload)).await?;
                tokio::time::sleep(Duration::from_millis(900)).await;
            }
            Result::Ok(())
        });
        let with = paced(&engine, "t", 2000.0, Duration::from_secs(3), &disk).await?;
        large.await??;
        added.push(percentile(&with.latencies, 99) - percentile(&without.latencies, 99));
    }
    engine.close().await;
    let added = median(added);
    line(
        "p99 of small publishes that one of 16 MiB each second adds",
        &format!("{added:.1} ms"),
        "<= 50 ms",
        added <= 50.0,
    );
    Ok(())
}

/// Receiving from a long backlog, beside receiving what is still in memory.
pub(crate) async fn drain(asked: &Asked) -> Result<()> {
    let engine = Engine::open(Options::new(asked.fresh("drain")?))?;
    let payload = Bytes::from(vec![b'x'; 1024]);
    let fill = async |count: usize| -> Result<()> {
        for _ in 0..count / 100 {
            engine.publish(name("t"), drafts(100, &payload)).await?;
        }
        Ok(())
    };
    for (consumers, batch, per_round) in [(16, 1, 10_000), (16, 64, 60_000)] {
        let (mut ratios, mut rates) = (Vec::new(), Vec::new());
        for _ in 0..3 {
            while !receive(&engine, 1000, AckMode::AtOnce).await?.is_empty() {}
            fill(per_round.min(20_000)).await?;
            let recent = pop(&engine, consumers, batch, per_round.min(20_000)).await?;
            fill(asked.messages.min(300_000)).await?;
            let backlog = pop(&engine, consumers, batch, per_round).await?;
            ratios.push(backlog / recent);
            rates.push(backlog);
        }
        let detail = format!("{:.0}k/s", median(rates) / 1000.0);
        let what = format!("receiving: backlog / memory, {consumers} consumers, batch {batch}");
        match batch {
            1 => ratio(&what, median(ratios), &detail, 0.9),
            _ => aside(&what, median(ratios), &detail),
        }
    }
    engine.close().await;
    Ok(())
}

/// How many messages per second that many consumers get.
async fn pop(engine: &Engine, consumers: usize, batch: usize, count: usize) -> Result<f64> {
    let begun = Instant::now();
    let mut tasks = JoinSet::new();
    for _ in 0..consumers {
        let engine = engine.clone();
        tasks.spawn(async move {
            let mut got = 0;
            while got < count / consumers {
                let messages = receive(&engine, batch, AckMode::AtOnce).await?.len();
                if messages == 0 {
                    break;
                }
                got += messages;
            }
            Result::Ok(got)
        });
    }
    let mut got = 0;
    while let Some(one) = tasks.join_next().await {
        got += one??;
    }
    Ok(got as f64 / begun.elapsed().as_secs_f64())
}
