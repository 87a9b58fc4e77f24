//! The journal beside writing and syncing the same bytes by hand.

use std::{
    fs::{File, OpenOptions},
    os::unix::fs::FileExt as _,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use campanile::{
    engine::{
        Engine, Options, Sealed,
        disk::RealDisk,
        journal::{
            FrameBuf, Journal as _, Position, Record,
            file::{self, FileJournal},
        },
    },
    model::{Draft, Seq, Timestamp, TopicId},
};

use crate::{
    Asked, Result, aside,
    load::{self, Load},
    median, ratio,
};

const RECORDS: u64 = 256;
const PAGE: usize = 4096;
const ROUNDS: usize = 7;

/// A file that was written from end to end before.
fn prepared(path: &Path, bytes: usize) -> Result<File> {
    let file = OpenOptions::new().read(true).write(true).create_new(true).open(path)?;
    let zeros = vec![0; 1 << 20];
    for at in (0..bytes).step_by(zeros.len()) {
        file.write_all_at(&zeros, at as u64)?;
    }
    file.sync_all()?;
    Ok(file)
}

fn frame(payload_bytes: usize) -> FrameBuf {
    let mut frame = FrameBuf::new();
    let payload = Bytes::from(vec![7; payload_bytes]);
    for seq in 0..RECORDS {
        let message =
            Sealed::new(Draft { payload: payload.clone(), ..Draft::default() }, Timestamp::EPOCH, Duration::ZERO);
        frame.push(&Record::Published { topic: TopicId(0), seq: Seq(seq), message }, Timestamp::from_millis(1));
    }
    frame
}

/// How long `count` writes of `bytes` take, each with its sync.
fn raw(file: &File, bytes: &[u8], count: usize) -> Result<Duration> {
    let begun = Instant::now();
    for n in 0..count {
        file.write_all_at(bytes, (n * bytes.len()) as u64)?;
        file.sync_data()?;
    }
    Ok(begun.elapsed())
}

pub(crate) fn run(asked: &Asked) -> Result<()> {
    for (payload_bytes, count, at_least) in [(1 << 10, 200, 0.7), (16 << 10, 30, 0.9)] {
        let dir = asked.fresh("journal")?;
        std::fs::create_dir(&dir)?;
        let mut journal = FileJournal::open(&dir, file::Options::default(), Arc::new(RealDisk))?;
        journal.read(Position::START, &mut |_, _| Ok(()))?;
        let mut frame = frame(payload_bytes);
        let bytes = (FrameBuf::HEADER_BYTES + frame.records().len()).next_multiple_of(PAGE);
        let beside = prepared(&dir.join("raw"), bytes * count)?;
        let written = vec![7; bytes];
        let (mut ratios, mut rates) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            let by_hand = raw(&beside, &written, count)?;
            let begun = Instant::now();
            for _ in 0..count {
                let end = journal.end();
                let end = journal.append(&mut frame, end)?;
                journal.trim(end)?;
            }
            let took = begun.elapsed();
            ratios.push(by_hand.as_secs_f64() / took.as_secs_f64());
            rates.push((bytes * count) as f64 / took.as_secs_f64() / f64::from(1 << 20));
        }
        let detail = format!("{:.0} MiB/s, {} KiB frames", median(rates), bytes >> 10);
        let what = format!("journal / raw write + fdatasync, {} KiB records", payload_bytes >> 10);
        ratio(&what, median(ratios), &detail, at_least);
    }
    Ok(())
}

/// The whole engine beside raw writes of frames as long as its own.
pub(crate) async fn run_engine(asked: &Asked) -> Result<()> {
    let dir = asked.fresh("engine")?;
    let engine = Engine::open(Options::new(&dir))?;
    let load = Load { tasks: 64, batch: 16, ..Load::default() };
    load::publish(&engine, &load, Duration::from_millis(500)).await?;
    let (mut ratios, mut rates, mut frame_bytes) = (Vec::new(), Vec::new(), 0);
    for round in 0..5 {
        let before = engine.statistics().await?.frames;
        let published = load::publish(&engine, &load, Duration::from_secs(1)).await?;
        let frames = engine.statistics().await?.frames - before;
        let bytes = published.messages * (load.payload_bytes + 56);
        frame_bytes = (bytes / usize::try_from(frames.max(1))?).next_multiple_of(PAGE);
        let count = (64 << 20) / frame_bytes;
        let path = dir.join(format!("raw-{round}"));
        let beside = prepared(&path, frame_bytes * count)?;
        let took = raw(&beside, &vec![7; frame_bytes], count)?;
        std::fs::remove_file(&path)?;
        let by_hand = (frame_bytes * count) as f64 / took.as_secs_f64();
        ratios.push(bytes as f64 / published.took.as_secs_f64() / by_hand);
        rates.push(published.per_second());
    }
    engine.close().await;
    let detail = format!("{:.0}k/s, {} KiB frames", median(rates) / 1000.0, frame_bytes >> 10);
    aside("whole engine / raw write + fdatasync, 64 x 16 x 1 KiB", median(ratios), &detail);
    Ok(())
}
