//! Ten ordering keys, one of them with a very long backlog: how long the messages of the other nine wait, beside how long
//! they wait when it has as few as they have.

use std::time::{Duration, Instant};

use bytes::Bytes;
use campanile::{
    engine::{AckMode, Engine, Options, Receive, Settlement},
    model::{Draft, Properties},
};

use crate::{Asked, Result, line, load::name, median};

const OTHERS: usize = 9;
/// Of each of the others.
const MESSAGES: usize = 200;
const PAYLOAD_BYTES: usize = 1024;
const LEASE: Duration = Duration::from_secs(600);

/// Where the messages of the others are.
#[derive(Debug, Clone, Copy)]
enum Layout {
    /// Behind all of the long backlog.
    Behind,
    /// Spread evenly over it.
    Among,
}

/// How long the others waited for a consumer that takes one message at a time, counted from its beginning.
#[derive(Debug)]
struct Waited {
    first: Duration,
    all: Duration,
    /// How many messages of the long backlog came in between.
    between: usize,
}

fn draft(key: &str, payload: &Bytes) -> Draft {
    let properties = Properties { ordering_key: Some(key.to_owned()), ..Properties::default() };
    Draft { payload: payload.clone(), properties, ..Draft::default() }
}

async fn fill(engine: &Engine, backlog: usize, layout: Layout) -> Result<()> {
    let payload = Bytes::from(vec![b'x'; PAYLOAD_BYTES]);
    let others = OTHERS * MESSAGES;
    let stride = match layout {
        Layout::Behind => usize::MAX,
        Layout::Among => (backlog / others).max(1),
    };
    let (mut batch, mut placed) = (Vec::new(), 0);
    for n in 0..backlog {
        batch.push(draft("long", &payload));
        if n % stride == stride - 1 && placed < others {
            batch.push(draft(&format!("other {}", placed % OTHERS), &payload));
            placed += 1;
        }
        if batch.len() >= 256 {
            engine.publish(name("t"), std::mem::take(&mut batch)).await?;
        }
    }
    batch.extend((placed..others).map(|n| draft(&format!("other {}", n % OTHERS), &payload)));
    engine.publish(name("t"), batch).await?;
    Ok(())
}

async fn consume(engine: &Engine) -> Result<Waited> {
    let receive = Receive {
        queue: name("t"),
        service: None,
        max_messages: 1,
        max_bytes: Receive::BYTES_MAX,
        mode: AckMode::Lease(LEASE),
        wait: Duration::ZERO,
    };
    let begun = Instant::now();
    let (mut waited, mut left) = (Waited { first: Duration::ZERO, all: Duration::ZERO, between: 0 }, OTHERS * MESSAGES);
    while left > 0 {
        let delivery = engine.receive(receive.clone()).await?.pop().ok_or("the others are not found")?;
        if delivery.message.properties.ordering_key.as_deref() == Some("long") {
            waited.between += 1;
        } else {
            if left == OTHERS * MESSAGES {
                waited.first = begun.elapsed();
            }
            left -= 1;
        }
        let lease = delivery.lease.ok_or("under a lease")?;
        engine.settle_each(None, vec![(Some(lease.ack_id), Settlement::Ack)]).await?;
    }
    waited.all = begun.elapsed();
    Ok(waited)
}

async fn measure(asked: &Asked, backlog: usize, layout: Layout) -> Result<Waited> {
    let options = Options::new(asked.fresh("keys")?);
    let engine = Engine::open(options.clone())?;
    fill(&engine, backlog, layout).await?;
    engine.close().await;
    drop(engine);
    let engine = Engine::open(options)?;
    let waited = consume(&engine).await?;
    engine.close().await;
    Ok(waited)
}

pub(crate) async fn run(asked: &Asked) -> Result<()> {
    for layout in [Layout::Behind, Layout::Among] {
        let mut ratios = Vec::new();
        let mut last = None;
        for _ in 0..3 {
            let few = measure(asked, MESSAGES, layout).await?;
            let many = measure(asked, asked.messages, layout).await?;
            ratios.push(many.all.as_secs_f64() / few.all.as_secs_f64());
            last = Some((few, many));
        }
        let (Some((few, many)), ratio) = (last, median(ratios)) else { continue };
        let what = format!("9 keys {layout:?} {} of a 10th: wait, beside few", asked.messages).to_lowercase();
        let detail = format!(
            "{ratio:.2} ({:.0} / {:.0} ms, first {:.1} / {:.1} ms, {} / {} between)",
            many.all.as_secs_f64() * 1e3,
            few.all.as_secs_f64() * 1e3,
            many.first.as_secs_f64() * 1e3,
            few.first.as_secs_f64() * 1e3,
            many.between,
            few.between,
        );
        line(&what, &detail, "<= 1.25", ratio <= 1.25);
    }
    Ok(())
}
