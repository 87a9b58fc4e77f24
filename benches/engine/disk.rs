//! What the data directory takes beside the messages that wait in it.

use std::{path::Path, time::Duration};

use bytes::Bytes;
use campanile::{
    engine::{AckMode, Engine, Options},
    model::AckId,
};

use crate::{
    Asked, Result, line,
    load::{drafts, name, receive, receive_from},
};

const PAYLOAD_BYTES: usize = 1024;

/// What the files of a folder take together.
pub(crate) fn bytes_of(folder: &Path) -> Result<u64> {
    let mut bytes = 0;
    for entry in std::fs::read_dir(folder)? {
        // One may go between the listing and the question.
        bytes += entry?.metadata().map_or(0, |file| file.len());
    }
    Ok(bytes)
}

pub(crate) async fn run(asked: &Asked) -> Result<()> {
    const MESSAGES: usize = 200_000;
    let dir = asked.fresh("disk")?;
    let engine = Engine::open(Options::new(&dir))?;
    let payload = Bytes::from(vec![b'x'; PAYLOAD_BYTES]);
    for _ in 0..1000 {
        engine.publish(name("t"), drafts(500, &payload)).await?;
        receive(&engine, 500, AckMode::AtOnce).await?;
    }
    let (segments, journal) = (bytes_of(&dir.join("segments"))?, bytes_of(&dir.join("journal"))?);
    let figure = format!("{} + {} MiB", segments >> 20, journal >> 20);
    line("500 MiB passed through: segments + journal", &figure, "<= 640 MiB", (segments + journal) >> 20 <= 640);

    let mut ids: Vec<AckId> = Vec::with_capacity(MESSAGES);
    for _ in 0..MESSAGES / 500 {
        engine.publish(name("t"), drafts(500, &payload)).await?;
        let leased = receive(&engine, 500, AckMode::Lease(Duration::from_secs(3600))).await?;
        ids.extend(leased.into_iter().filter_map(|delivery| Some(delivery.lease?.ack_id)));
    }
    // Every second one, then every second of the rest, and so on: what is left is everywhere.
    let mut worst: f64 = 0.0;
    for _ in 0..4 {
        let (acked, left): (Vec<_>, Vec<_>) = ids.iter().enumerate().partition(|(n, _)| n % 2 == 0);
        for acked in acked.chunks(500) {
            engine.ack(name("t"), acked.iter().map(|(_, id)| Some(**id)).collect()).await?;
        }
        ids = left.into_iter().map(|(_, id)| *id).collect();
        // So that checkpoints come: of another queue, and nothing of it stays.
        for _ in 0..600 {
            engine.publish(name("other"), drafts(500, &payload)).await?;
            receive_from(&engine, "other", 500, AckMode::AtOnce).await?;
        }
        let live = (ids.len() * PAYLOAD_BYTES) as f64;
        worst = worst.max(bytes_of(&dir.join("segments"))? as f64 / live);
    }
    engine.close().await;
    line("segments / payload bytes after random acks", &format!("{worst:.2} at most"), "<= 2.00", worst <= 2.0);
    Ok(())
}
