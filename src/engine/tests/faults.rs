//! Every call that a whole engine makes to the disk, failing once: what clients are told is kept, whatever it was.

use std::{collections::BTreeSet, io, path::Path, sync::Arc, time::Duration};

use super::{AckMode, Clock, Engine, EngineError, Options, Settled, Timestamp, ack_id, draft, name, one_of, texts};
use crate::{
    engine::disk::{Fault, FaultDisk, Op, Outcome, RealDisk, Times},
    model::{Delivery, Draft, Due},
};

const LEASE: Duration = Duration::from_secs(60);
const OTHER: Outcome = Outcome::Error(io::ErrorKind::Other);
const FULL: Outcome = Outcome::Error(io::ErrorKind::StorageFull);
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
            0 | 1 => AckMode::AtOnce,
            2 => AckMode::Lease(LEASE),
            // One in four stays, so that segments are mostly unwanted and the rest is moved on.
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

/// Has every call of some kinds fail, one after the other; answers how many of these faults were met.
///
/// `CAMPANILE_EVERY_FAULT` makes it really every one. Else it is every one of the first, and then every sixth and so on:
/// there are hundreds.
async fn fail_each<F>(kinds: impl IntoIterator<Item = (Op, Outcome)>, live: impl Fn(Fault) -> F) -> u32
where
    F: Future<Output = bool>,
{
    let is_every_one = std::env::var_os("CAMPANILE_EVERY_FAULT").is_some();
    let mut met = 0;
    for (op, outcome) in kinds {
        let mut nth = 1;
        while live(Fault { op, name_end: "", nth, outcome, times: Times::Once }).await {
            met += 1;
            nth += if is_every_one { 1 } else { 1 + nth / 5 };
        }
    }
    println!("{met} faults were met");
    met
}

/// Every kind of call, with every way in which it can fail.
fn kinds() -> Vec<(Op, Outcome)> {
    let others =
        [Op::SyncDir, Op::Create, Op::CreateDir, Op::Rename, Op::Remove, Op::Open, Op::List, Op::Read, Op::Space];
    let mut kinds: Vec<_> = others.into_iter().map(|op| (op, OTHER)).collect();
    kinds.extend([Op::Write, Op::Sync, Op::SyncDir, Op::Create, Op::CreateDir, Op::Rename].map(|op| (op, FULL)));
    kinds.extend([(Op::Write, OTHER), (Op::Sync, OTHER)]);
    kinds.extend([1, 700, 4096].map(|bytes| (Op::Write, Outcome::ShortWrite(bytes))));
    kinds
}

#[tokio::test]
async fn whichever_call_of_a_whole_engine_fails_what_was_acknowledged_is_kept() {
    let met = fail_each(kinds(), async |fault| live(&fault).await).await;
    assert!(met > 250, "only {met} faults were met");
}

#[tokio::test]
async fn the_calls_that_fail_are_those_of_every_phase() {
    let calls = [
        // Making a store, and each start.
        (Op::CreateDir, "journal"),
        (Op::Create, "STORE.tmp"),
        (Op::Rename, "STORE.tmp"),
        (Op::List, "journal"),
        (Op::List, "segments"),
        (Op::Read, "STORE"),
        (Op::Read, "MANIFEST"),
        (Op::Read, ".wal"),
        (Op::Rename, ".wal"),
        // Appending, and the file that is prepared for it.
        (Op::Write, ".wal"),
        (Op::Sync, ".wal"),
        (Op::Create, ".tmp"),
        (Op::Write, ".spare"),
        (Op::Rename, ".spare"),
        (Op::SyncDir, "journal"),
        // Checkpoints, messages that are moved on, and what is removed then.
        (Op::Write, ".seg"),
        (Op::Sync, ".seg"),
        (Op::Write, ".ids"),
        (Op::Write, "MANIFEST.tmp"),
        (Op::Rename, "MANIFEST.tmp"),
        (Op::SyncDir, "segments"),
        (Op::SyncDir, "store"),
        (Op::Read, ".seg"),
        (Op::Remove, ".seg"),
        (Op::Space, "store"),
    ];
    for (op, name_end) in calls {
        let fault = Fault { op, name_end, nth: 1, outcome: OTHER, times: Times::Once };
        assert!(live(&fault).await, "{fault:?} was not met");
    }
}

/// A file of the original broker is taken over, with one fault on the way. Answers whether it was met.
async fn take_over(fault: Fault) -> bool {
    const LINES: usize = 40;
    let dir = tempfile::tempdir().expect("a folder");
    let disk = FaultDisk::new(RealDisk);
    let options = options(dir.path(), &disk);
    let file = options.data_dir.join("t.jsonl");
    let line = |n: usize| {
        let (id, text) = (uuid::Uuid::from_u128(n as u128 + 1), "x".repeat(3000));
        format!("{{\"id\": \"{id}\", \"topic\": \"t\", \"payload\": \"{n} {text}\"}}\n")
    };
    std::fs::create_dir(&options.data_dir).expect("made");
    std::fs::write(&file, (0..LINES).map(line).collect::<String>()).expect("written");
    disk.set(fault.clone());
    if let Ok(engine) = Engine::open(options.clone()) {
        engine.close().await;
    }
    let is_met = !disk.is_pending();
    disk.heal();
    let engine = Engine::open(options).expect("a healthy disk");
    assert!(!file.exists(), "{fault:?}: it has been taken over");
    for n in 0..LINES {
        let delivery = receive(&engine, AckMode::AtOnce).await.expect("a healthy disk").expect("there is one more");
        let text = texts(std::slice::from_ref(&delivery)).pop().expect("one");
        assert!(text.starts_with(&format!("\"{n} ")), "{fault:?}: {} instead of {n}", &text[..9]);
    }
    assert_eq!(receive(&engine, AckMode::AtOnce).await.map(|left| left.is_some()), Ok(false), "{fault:?}: twice");
    engine.close().await;
    is_met
}

#[tokio::test]
async fn whichever_call_fails_a_file_is_taken_over_once() {
    let met = fail_each(kinds(), take_over).await;
    assert!(met > 150, "only {met} faults were met");
}
