//! Every call that a whole engine makes to the disk, failing once: what clients are told is kept, whatever it was.

use std::{collections::BTreeSet, io, path::Path, sync::Arc, time::Duration};

use super::{AckMode, Clock, Engine, EngineError, Options, Settled, Timestamp, ack_id, draft, name, one_of, texts};
use crate::{
    engine::disk::{Fault, FaultDisk, Op, Outcome, RealDisk, Times},
    model::{Delivery, Draft, Due},
};

const LEASE: Duration = Duration::from_secs(60);
/// Messages of one workload: several times what makes a checkpoint due.
const COUNT: usize = 90;

/// What clients were told.
#[derive(Debug, Default)]
struct Ledger {
    attempted: BTreeSet<usize>,
    stored: BTreeSet<usize>,
    /// Done with, for certain.
    done: BTreeSet<usize>,
    /// Perhaps done with: the answer never came.
    perhaps_done: BTreeSet<usize>,
}

impl Ledger {
    /// The message that is handed out next, as far as clients know.
    fn next(&self) -> Option<usize> {
        self.stored.iter().copied().find(|n| !self.done.contains(n) && !self.perhaps_done.contains(n))
    }
}

fn number(delivery: &Delivery) -> usize {
    let text = texts(std::slice::from_ref(delivery)).pop().expect("one");
    text.split(' ').next().and_then(|n| n.parse().ok()).expect("begins with its number")
}

async fn receive(engine: &Engine, mode: AckMode) -> Result<Option<Delivery>, EngineError> {
    Ok(engine.receive(one_of("t", mode)).await?.pop())
}

/// Publishes and consumes until all is done or the engine fails. Answers whether it went to the end.
async fn work(engine: &Engine, ledger: &mut Ledger, from: usize) -> Result<(), EngineError> {
    for n in from..COUNT {
        let dedup_id = n.is_multiple_of(5).then(|| n.to_string());
        let text = format!("{n} {}", "x".repeat(3000));
        ledger.attempted.insert(n);
        engine.publish(name("t"), vec![Draft { dedup_id, ..draft(&text) }]).await?;
        ledger.stored.insert(n);
        if n.is_multiple_of(7) {
            let due = Due::After(Duration::from_secs(3600));
            engine.publish(name("later"), vec![Draft { due, ..draft("later") }]).await?;
        }
        let mode = match n % 4 {
            0 => AckMode::AtOnce,
            2 => AckMode::Lease(LEASE),
            _ => continue,
        };
        let expected = ledger.next();
        match receive(engine, mode).await {
            // Nothing was handed out; it is asked for again later.
            Err(EngineError::Unreadable { .. }) => {}
            Err(failure) => {
                ledger.perhaps_done.extend(expected);
                return Err(failure);
            }
            Ok(None) => panic!("{expected:?} waits"),
            Ok(Some(delivery)) => {
                let got = number(&delivery);
                assert!(!ledger.done.contains(&got), "{got} was done with");
                if mode == AckMode::AtOnce {
                    ledger.done.insert(got);
                    continue;
                }
                ledger.perhaps_done.insert(got);
                let acked = engine.ack(name("t"), vec![Some(ack_id(&delivery))]).await?;
                assert_eq!(acked, [Settled::Done]);
                ledger.done.insert(got);
            }
        }
    }
    Ok(())
}

fn options(dir: &Path, disk: &FaultDisk) -> Options {
    Options {
        journal_file_bytes: 32 << 10,
        clock: Clock::standing_at(Timestamp::from_millis(1_800_000_000_000)),
        disk: Arc::new(disk.clone()),
        ..Options::new(dir.join("store"))
    }
}

/// One workload with a restart in the middle, and one fault somewhere in it. Answers whether somebody noticed.
async fn live(fault: &Fault) -> bool {
    let dir = tempfile::tempdir().expect("a folder");
    let disk = FaultDisk::new(RealDisk);
    let options = options(dir.path(), &disk);
    let (mut ledger, mut is_noticed) = (Ledger::default(), false);
    disk.set(fault.clone());
    for until in [COUNT / 2, COUNT] {
        let Ok(engine) = Engine::open(options.clone()) else {
            is_noticed = true;
            disk.heal();
            Engine::open(options.clone()).expect("a healthy disk").close().await;
            continue;
        };
        let from = ledger.attempted.last().map_or(0, |n| n + 1);
        if from < until && work(&engine, &mut ledger, from).await.is_err() {
            is_noticed = true;
        }
        engine.close().await;
    }
    is_noticed |= !disk.is_pending();
    disk.heal();
    check(&options, &ledger, fault).await;
    is_noticed
}

async fn check(options: &Options, ledger: &Ledger, fault: &Fault) {
    let engine = Engine::open(options.clone()).expect("a healthy disk");
    engine.advance_clock(LEASE);
    let mut left = Vec::new();
    while let Some(delivery) = receive(&engine, AckMode::AtOnce).await.expect("a healthy disk") {
        left.push(number(&delivery));
    }
    engine.close().await;
    assert!(left.is_sorted(), "{fault:?}: out of order: {left:?}");
    let found: BTreeSet<_> = left.iter().copied().collect();
    assert_eq!(found.len(), left.len(), "{fault:?}: twice: {left:?}");
    assert!(found.is_disjoint(&ledger.done), "{fault:?}: done with, and here again: {left:?}\n{ledger:?}");
    assert!(found.is_subset(&ledger.attempted), "{fault:?}: {left:?}");
    let missing = ledger.stored.iter().filter(|n| !found.contains(n));
    let missing: Vec<_> = missing.filter(|n| !ledger.done.contains(n) && !ledger.perhaps_done.contains(n)).collect();
    assert!(missing.is_empty(), "{fault:?}: lost: {missing:?}\n{ledger:?}");
}

#[tokio::test]
async fn whichever_call_of_a_whole_engine_fails_what_was_acknowledged_is_kept() {
    let error = |kind| Outcome::Error(kind);
    let (other, full) = (error(io::ErrorKind::Other), error(io::ErrorKind::StorageFull));
    let faults = [
        (Op::Write, other),
        (Op::Write, full),
        (Op::Write, Outcome::ShortWrite(700)),
        (Op::Sync, other),
        (Op::Sync, full),
        (Op::SyncDir, other),
        (Op::Create, full),
        (Op::Rename, other),
        (Op::Remove, other),
        (Op::Open, other),
        (Op::List, other),
        (Op::Read, other),
        (Op::Space, other),
    ];
    let mut noticed = 0;
    for (op, outcome) in faults {
        let mut nth = 1;
        loop {
            let fault = Fault { op, name_end: "", nth, outcome, times: Times::Once };
            if !live(&fault).await {
                break;
            }
            noticed += 1;
            // Every one of the first, and then every tenth and so on: there are hundreds of writes.
            nth += 1 + nth / 5;
        }
    }
    println!("{noticed} faults were met");
    assert!(noticed > 120, "only {noticed} faults were met");
}
