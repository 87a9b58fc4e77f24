//! What operators do to topics and queues, and what others notice of it.

use std::time::{Duration, Instant};

use bytes::Bytes;
use campanile::engine::{AckMode, Engine, Manage, Managed, Options, PurgeScope};
use tokio::task::JoinSet;

use crate::{
    Asked, Result, backlog,
    counting::CountingDisk,
    line,
    load::{drafts, name, paced, receive_from},
};

/// Small publishes while a long backlog is purged and deleted, beside without.
pub(crate) async fn run(asked: &Asked) -> Result<()> {
    let ready = PurgeScope { ready: true, ..PurgeScope::default() };
    let engine = Engine::open(Options::new(asked.fresh("manage")?))?;
    for service in ["a", "b", "c"] {
        engine.register(name(service), vec![name("t")]).await?;
    }
    backlog::fill(&engine, asked.messages, 1024).await?;
    let purge = || Manage::Purge { queue: name("t.a"), scope: ready };
    let steps = [
        ("purge of a queue, others want it all", purge(), None),
        ("deletion of a queue, another wants it all", Manage::DeleteQueue { queue: name("t.b") }, None),
        ("deletion of a topic", Manage::DeleteTopic { topic: name("t") }, None),
        ("purge of the only queue", purge(), Some(1024)),
        // As many of them as can be are in memory.
        ("the same, with 16 bytes", purge(), Some(16)),
    ];
    for (what, change, filled_with) in steps {
        if let Some(payload_bytes) = filled_with {
            engine.register(name("a"), vec![name("t")]).await?;
            backlog::fill(&engine, asked.messages, payload_bytes).await?;
        }
        let (without, _) = worst_beside(&engine, None).await?;
        let (with, took) = worst_beside(&engine, Some(change)).await?;
        let what = format!("{what}, {} messages", asked.messages);
        let figure = format!("{with:.1} ms (without {without:.1}, itself {took:.1})");
        line(&what, &figure, "<= 50 ms", with <= without.max(50.0));
    }
    engine.close().await;
    Ok(())
}

/// The longest that one of many small publishes takes while something is done, and how long that takes, in milliseconds.
async fn worst_beside(engine: &Engine, change: Option<Manage>) -> Result<(f64, f64)> {
    let disk = CountingDisk::new();
    let changing = change.map(|change| {
        let engine = engine.clone();
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(500)).await;
            let begun = Instant::now();
            let _: Managed = engine.manage(change).await?;
            Result::Ok(begun.elapsed().as_secs_f64() * 1000.0)
        })
    });
    let published = paced(engine, "small", 2000.0, Duration::from_secs(2), &disk).await?;
    let took = match changing {
        Some(changing) => changing.await??,
        None => 0.0,
    };
    Ok((published.worst(), took))
}

/// What is left of topics that come and go: in memory, in the manifest, and at the next start.
pub(crate) async fn deletions(asked: &Asked) -> Result<()> {
    const WARM_UP: usize = 50_000;
    const STAY: usize = 10_000;
    let dir = asked.fresh("deletions")?;
    let engine = Engine::open(Options::new(&dir))?;
    come_and_go(&engine, "early", WARM_UP).await?;
    let before = backlog::memory("VmRSS")?;
    for n in 0..STAY {
        let topic = name(&format!("stays.{n}"));
        engine.publish(topic.clone(), drafts(1, &Bytes::new())).await?;
        receive_from(&engine, topic.as_str(), 1, AckMode::AtOnce).await?;
    }
    let each = (backlog::memory("VmRSS")? - before) * f64::from(1 << 20) / STAY as f64;
    println!("{:<58} {each:.0} bytes", "memory of a topic with a queue that is done with all of it");
    let before = backlog::memory("VmRSS")?;
    let begun = Instant::now();
    come_and_go(&engine, "late", asked.messages).await?;
    let per_second = asked.messages as f64 / begun.elapsed().as_secs_f64();
    let more = backlog::memory("VmRSS")? - before;
    // So that a checkpoint is written.
    backlog::fill(&engine, 100_000, 1024).await?;
    engine.close().await;
    let manifest = std::fs::metadata(dir.join("MANIFEST"))?.len();
    let what = format!("memory that {} topics leave which came and went", asked.messages);
    line(&what, &format!("{more:.1} MiB ({:.0}k/s)", per_second / 1000.0), "<= 16 MiB", more <= 16.0);
    let each = manifest / STAY as u64;
    line(
        "the manifest after that, for each topic that is there",
        &format!("{each} bytes"),
        "<= 256 bytes",
        each <= 256,
    );
    Ok(())
}

/// That many topics come, get a message and a queue, and go.
async fn come_and_go(engine: &Engine, stem: &str, count: usize) -> Result<()> {
    const TASKS: usize = 256;
    let mut tasks = JoinSet::new();
    for task in 0..TASKS {
        let (engine, stem) = (engine.clone(), stem.to_owned());
        tasks.spawn(async move {
            for n in 0..count / TASKS {
                let text = format!("{stem}.{task}.{n}");
                engine.publish(name(&text), drafts(1, &Bytes::from_static(b"x"))).await?;
                receive_from(&engine, &text, 1, AckMode::AtOnce).await?;
                engine.manage(Manage::DeleteTopic { topic: name(&text) }).await?;
            }
            Result::Ok(())
        });
    }
    while let Some(done) = tasks.join_next().await {
        done??;
    }
    Ok(())
}
