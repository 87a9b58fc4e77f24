//! What clients are told, and what is stored, when the journal fails; and that replaying is the same as having done it.

use std::{
    io,
    sync::{Arc, mpsc},
    time::Duration,
};

use super::{AckMode, Clock, Timestamp, draft, name, one_of, texts};
use crate::engine::{
    Engine, EngineError, Options, Receive,
    disk::{DiskSpace, Fault, FaultDisk, Op, Outcome, RealDisk, Times},
    journal::{
        AppendError, FrameBuf, Journal, MemoryJournal, NextAppend, Position, ReadError, Visit,
        file::{self, FileJournal},
    },
};

fn options() -> Options {
    let mut options = Options::new("unused");
    options.clock = Clock::standing_at(Timestamp::from_millis(1_800_000_000_000));
    options
}

fn over(journal: &MemoryJournal, next: NextAppend) -> Engine {
    let mut journal = journal.clone();
    journal.set_next(next);
    Engine::over(Box::new(journal), options()).expect("frames that an engine wrote")
}

async fn publish(engine: &Engine, text: &str) -> Result<(), EngineError> {
    engine.publish(name("t"), vec![draft(text)]).await.map(drop)
}

async fn pop_all(engine: &Engine) -> Vec<String> {
    let (queue, wait, mode) = (name("t"), Duration::ZERO, AckMode::AtOnce);
    let receive = Receive { queue, service: None, max_messages: 99, max_bytes: Receive::BYTES_MAX, wait, mode };
    texts(&engine.receive(receive).await.expect("received"))
}

#[tokio::test]
async fn after_a_failed_append_the_outcome_is_unknown_and_nothing_more_is_taken() {
    for (next, stored) in [
        (NextAppend::UnknownStored, &["before", "unknown"][..]),
        (NextAppend::UnknownLost, &["before"][..]),
        (NextAppend::Fenced, &["before"][..]),
    ] {
        let journal = MemoryJournal::new();
        let engine = over(&journal, NextAppend::Stored);
        publish(&engine, "before").await.expect("stored");
        engine.close().await;
        drop(engine);

        let engine = over(&journal, next);
        assert!(!engine.has_failed());
        assert_eq!(publish(&engine, "unknown").await, Err(EngineError::OutcomeUnknown), "{next:?}");
        engine.failed().await;
        assert_eq!(publish(&engine, "late").await, Err(EngineError::Stopped));

        let engine = over(&journal, NextAppend::Stored);
        assert_eq!(pop_all(&engine).await, stored, "{next:?}");
    }
}

#[tokio::test]
async fn messages_of_a_failed_pop_are_not_shown_and_not_lost() {
    let journal = MemoryJournal::new();
    let engine = over(&journal, NextAppend::Stored);
    publish(&engine, "a").await.expect("stored");
    pop_all(&engine).await;
    publish(&engine, "b").await.expect("stored");
    engine.close().await;

    let engine = over(&journal, NextAppend::UnknownLost);
    let receive = one_of("t", AckMode::AtOnce);
    assert_eq!(engine.receive(receive).await.map(|d| texts(&d)), Err(EngineError::OutcomeUnknown));
    assert_eq!(pop_all(&over(&journal, NextAppend::Stored)).await, ["b"]);
}

#[tokio::test]
async fn a_request_that_is_refused_is_refused_also_when_its_frame_fails() {
    let journal = MemoryJournal::new();
    let engine = over(&journal, NextAppend::UnknownLost);
    let refused = engine.ack(name("nowhere"), vec![None]);
    let unknown = publish(&engine, "x");
    let (refused, unknown) = tokio::join!(refused, unknown);
    assert!(matches!(refused, Err(EngineError::NoSuchQueue { .. } | EngineError::Stopped)), "{refused:?}");
    assert_eq!(unknown, Err(EngineError::OutcomeUnknown));
}

#[tokio::test]
async fn another_engine_that_applies_the_same_frames_is_in_the_same_state() {
    let journal = MemoryJournal::new();
    let engine = over(&journal, NextAppend::Stored);
    engine.register(name("s"), vec![name("t"), name("u")]).await.expect("registered");
    for text in ["a", "b", "c", "d"] {
        publish(&engine, text).await.expect("stored");
    }
    let receive = |max_messages, mode| {
        let (queue, wait) = (name("t"), Duration::ZERO);
        engine.receive(Receive {
            queue,
            service: Some(name("s")),
            max_messages,
            max_bytes: Receive::BYTES_MAX,
            wait,
            mode,
        })
    };
    receive(2, AckMode::Lease(Duration::from_secs(10))).await.expect("leased");
    engine.advance_clock(Duration::from_secs(10));
    receive(1, AckMode::Lease(Duration::from_secs(90))).await.expect("leased");
    receive(1, AckMode::AtOnce).await.expect("popped");
    let statistics = engine.statistics().await.expect("counted");
    assert!(statistics.frames >= 7, "each step had a frame: {}", statistics.frames);
    engine.close().await;

    let other = over(&journal, NextAppend::Stored).statistics().await.expect("counted");
    assert_eq!(other.digest, statistics.digest);
    assert_eq!(other.queues, statistics.queues);
}

#[tokio::test]
async fn whichever_call_to_the_disk_fails_nothing_acknowledged_is_lost() {
    let outcomes = [
        (Op::Write, Outcome::Error(io::ErrorKind::Other)),
        (Op::Write, Outcome::Error(io::ErrorKind::StorageFull)),
        (Op::Write, Outcome::ShortWrite(700)),
        (Op::Sync, Outcome::Error(io::ErrorKind::Other)),
        (Op::Sync, Outcome::Error(io::ErrorKind::StorageFull)),
    ];
    let mut failures = 0;
    for (op, outcome) in outcomes {
        for nth in 1..=14 {
            let dir = tempfile::tempdir().expect("a folder");
            let disk = FaultDisk::new(RealDisk);
            let opened = FileJournal::open(dir.path(), file::Options { file_bytes: 32 << 10 }, Arc::new(disk.clone()));
            disk.set(Fault { op, name_end: "", nth, outcome, times: Times::Once });
            let mut acknowledged = 0;
            if let Ok(engine) = Engine::over(Box::new(opened.expect("a healthy disk so far")), options()) {
                for n in 0..10 {
                    // The files fill up, so that the making of the next one is hit as well.
                    if publish(&engine, &format!("{n:04000}")).await.is_err() {
                        failures += 1;
                        break;
                    }
                    acknowledged += 1;
                }
            }
            disk.heal();
            let journal = FileJournal::open(dir.path(), file::Options { file_bytes: 32 << 10 }, Arc::new(disk));
            let engine = Engine::over(Box::new(journal.expect("opens")), options()).expect("recovers");
            let recovered: Vec<u32> = pop_all(&engine).await.iter().map(|t| t.parse().expect("a number")).collect();
            let case = format!("{op:?} {nth}, {outcome:?}");
            assert!(recovered.iter().copied().eq(0..u32::try_from(recovered.len()).expect("few")), "{case}");
            assert!(
                (acknowledged..=acknowledged + 1).contains(&recovered.len()),
                "{case}: {acknowledged} acknowledged"
            );
        }
    }
    assert!(failures > 50, "only {failures} faults hit an append");
}

/// Panics instead of storing a frame, as soon as it is let.
#[derive(Debug)]
struct Panics {
    inner: MemoryJournal,
    may_begin: mpsc::Receiver<()>,
}

impl Journal for Panics {
    fn read(&mut self, from: Position, visit: &mut Visit<'_>) -> Result<(), ReadError> {
        self.inner.read(from, visit)
    }

    fn end(&self) -> Position {
        self.inner.end()
    }

    fn append(&mut self, _: &mut FrameBuf, _: Position) -> Result<Position, AppendError> {
        self.may_begin.recv().expect("the test lets it");
        panic!("a mistake in the engine");
    }

    fn idle(&mut self) {}

    fn is_long(&self) -> bool {
        false
    }

    fn is_full(&self) -> bool {
        false
    }

    fn trim(&mut self, _: Position) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn a_commit_thread_that_panics_lets_nobody_wait() {
    let (begin, may_begin) = mpsc::channel();
    let engine = Engine::over(Box::new(Panics { inner: MemoryJournal::new(), may_begin }), options()).expect("opens");
    let mut begun = Vec::new();
    for n in 0..3 {
        begun.push(engine.begin_publish(name("t"), vec![draft(&n.to_string())]).await.expect("in line"));
    }
    begin.send(()).expect("it waits for that");
    for pending in begun {
        let outcome = pending.await.map(drop);
        assert!(matches!(outcome, Err(EngineError::OutcomeUnknown | EngineError::Stopped)), "{outcome:?}");
    }
    engine.failed().await;
    assert!(engine.has_failed());
    assert_eq!(publish(&engine, "late").await, Err(EngineError::Stopped));
    engine.close().await;
}

#[tokio::test]
async fn while_the_disk_is_nearly_full_publishes_are_refused_and_consumers_go_on() {
    let dir = tempfile::tempdir().expect("a folder");
    let disk = FaultDisk::new(RealDisk);
    let options = Options {
        disk: Arc::new(disk.clone()),
        free_bytes_min: 1000,
        journal_file_bytes: 1 << 20,
        ..Options::new(dir.path().join("store"))
    };
    let engine = Engine::open(options).expect("opens");
    publish(&engine, "stored").await.expect("there is room");
    let refused = async || publish(&engine, "x").await.err();
    disk.pretend(Some(DiskSpace { free: 999, total: 1 << 30 }));
    while engine.storage_low().is_none() {
        tokio::task::yield_now().await;
    }
    assert_eq!(refused().await, Some(EngineError::StorageFull { free_bytes: 999, reserve_bytes: 1000 }));
    engine.register(name("s"), vec![name("other")]).await.expect("registered");
    assert_eq!(pop_all(&engine).await, ["stored"]);
    // A little more is not enough, lest it be refused and taken by turns.
    disk.pretend(Some(DiskSpace { free: 1100, total: 1 << 30 }));
    while engine.storage_low().is_some() {
        tokio::task::yield_now().await;
    }
    publish(&engine, "again").await.expect("there is room");
}
