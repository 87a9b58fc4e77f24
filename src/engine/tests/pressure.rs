//! More comes than checkpoints can write: publishers wait or are refused, consumers go on, and nothing hangs.

use std::{io, sync::Arc, time::Duration};

use tokio::time::{Instant, sleep};

use super::{AckMode, Bench, Engine, EngineError, draft, name};
use crate::engine::disk::{Fault, FaultDisk, Op, Outcome, RealDisk, Times};

const PATIENCE: Duration = Duration::from_secs(20);
/// What is kept in memory at most with journal files of 1 MiB, in messages.
const FILLING: usize = 400;
const TEXT_BYTES: usize = 8 << 10;

fn text(n: usize) -> String {
    format!("{n} {}", "x".repeat(TEXT_BYTES))
}

async fn publish(engine: Engine, n: usize) -> Result<(), EngineError> {
    engine.publish(name("t"), vec![draft(&text(n))]).await.map(drop)
}

/// A store on a disk that fails as it is told, with one message in `u`.
async fn bench() -> (Bench, FaultDisk) {
    let (mut bench, disk) = (Bench::new(), FaultDisk::new(RealDisk));
    bench.options.disk = Arc::new(disk.clone());
    bench.restart().await;
    bench.publish("u", &["of another queue"]).await;
    (bench, disk)
}

async fn assert_all_there(bench: &Bench, mut from: usize, end: usize) {
    while from < end {
        let got = bench.pop("t", 50).await;
        assert!(!got.is_empty(), "{from} of {end}");
        for text in got {
            assert!(text.starts_with(&format!("{from} ")), "{} instead of {from}", &text[..8]);
            from += 1;
        }
    }
    assert!(bench.pop("t", 1).await.is_empty());
}

#[tokio::test]
async fn publishers_wait_for_a_checkpoint_that_takes_its_time_and_consumers_do_not() {
    let (bench, disk) = bench().await;
    disk.set(Fault { op: Op::Write, name_end: ".seg", nth: 1, outcome: Outcome::Wait, times: Times::Always });
    let publishing = tokio::spawn({
        let engine = bench.engine().clone();
        async move {
            for n in 0..FILLING {
                publish(engine.clone(), n).await?;
            }
            Ok::<_, EngineError>(())
        }
    });
    // It stands still when what is in memory has reached its bound.
    let deadline = Instant::now() + PATIENCE;
    let mut before = usize::MAX;
    loop {
        let messages = bench.engine().statistics().await.expect("counted").messages;
        if messages == before {
            break;
        }
        assert!(Instant::now() < deadline, "publishers are not held back: {messages}");
        before = messages;
        sleep(Duration::from_millis(200)).await;
    }
    assert!((200..FILLING).contains(&before), "{before} messages of {TEXT_BYTES} bytes");
    assert!(!publishing.is_finished());
    assert_eq!(bench.pop("u", 9).await, ["of another queue"]);
    assert!(bench.lease("t").await.is_some());
    disk.heal();
    publishing.await.expect("no panic").expect("stored");
    bench.advance(super::LEASE);
    assert_all_there(&bench, 0, FILLING).await;
}

#[tokio::test]
async fn publishers_are_refused_while_checkpoints_fail_and_taken_again_when_they_do_not() {
    let (bench, disk) = bench().await;
    let outcome = Outcome::Error(io::ErrorKind::StorageFull);
    disk.set(Fault { op: Op::Create, name_end: ".seg", nth: 1, outcome, times: Times::Always });
    let mut stored = 0;
    let refusal = loop {
        match publish(bench.engine().clone(), stored).await {
            Ok(()) => stored += 1,
            Err(refusal) => break refusal,
        }
        assert!(stored < FILLING, "nothing was refused");
    };
    assert!(matches!(refusal, EngineError::Full { .. }), "{refusal:?}");
    assert!(stored > 200, "{stored}");
    assert_eq!(bench.pop("u", 9).await, ["of another queue"]);
    disk.heal();
    let deadline = Instant::now() + PATIENCE;
    while let Err(refusal) = publish(bench.engine().clone(), stored).await {
        assert!(matches!(refusal, EngineError::Full { .. }), "{refusal:?}");
        assert!(Instant::now() < deadline, "still refused");
        sleep(Duration::from_millis(5)).await;
    }
    assert_all_there(&bench, 0, stored + 1).await;
}

#[tokio::test]
async fn what_cannot_be_read_now_is_said_and_delivered_when_it_can() {
    let (mut bench, disk) = bench().await;
    for n in 0..150 {
        publish(bench.engine().clone(), n).await.expect("stored");
    }
    bench.restart().await;
    let outcome = Outcome::Error(io::ErrorKind::Other);
    disk.set(Fault { op: Op::Read, name_end: ".seg", nth: 1, outcome, times: Times::Always });
    let receive = super::Receive {
        queue: name("t"),
        service: None,
        max_messages: 1,
        wait: Duration::ZERO,
        max_bytes: usize::MAX,
        mode: AckMode::AtOnce,
    };
    let refused = bench.engine().receive(receive).await;
    assert!(matches!(refused, Err(EngineError::Unreadable { .. })), "{refused:?}");
    disk.heal();
    assert_all_there(&bench, 0, 150).await;
}

#[tokio::test]
async fn closing_waits_for_nobody_who_is_held_back() {
    let (mut bench, disk) = bench().await;
    let outcome = Outcome::Wait;
    disk.set(Fault { op: Op::Write, name_end: ".seg", nth: 1, outcome, times: Times::Always });
    let publishing: Vec<_> = (0..FILLING).map(|n| tokio::spawn(publish(bench.engine().clone(), n))).collect();
    let deadline = Instant::now() + PATIENCE;
    while bench.engine().statistics().await.expect("counted").messages < 200 {
        assert!(Instant::now() < deadline, "too slow");
        sleep(Duration::from_millis(5)).await;
    }
    let engine = bench.engine.take().expect("open");
    let closing = tokio::spawn(async move { engine.close().await });
    // A checkpoint that is under way is finished first.
    disk.heal();
    closing.await.expect("closed");
    let mut outcomes = Vec::new();
    for one in publishing {
        outcomes.push(one.await.expect("no panic"));
    }
    let stored = outcomes.iter().filter(|outcome| outcome.is_ok()).count();
    assert!(outcomes.iter().all(|o| matches!(o, Ok(()) | Err(EngineError::Stopped))), "{outcomes:?}");
    bench.restart().await;
    assert_eq!(bench.engine().recovery().messages, stored + 1);
}

/// Begins publishes of texts while the journal stands still; answers how many frames they took.
async fn frames_of(texts: impl Iterator<Item = String>) -> u64 {
    let (bench, disk) = bench().await;
    let before = bench.engine().statistics().await.expect("counted").frames;
    disk.set(Fault { op: Op::Sync, name_end: ".wal", nth: 1, outcome: Outcome::Wait, times: Times::Always });
    let mut begun = Vec::new();
    for text in texts {
        begun.push(bench.engine().begin_publish(name("t"), vec![draft(&text)]).await.expect("in line"));
    }
    disk.heal();
    for pending in begun {
        pending.await.expect("stored");
    }
    bench.engine().statistics().await.expect("counted").frames - before
}

#[tokio::test]
async fn what_comes_while_a_frame_is_synced_shares_the_next_one() {
    let frames = frames_of((0..20).map(|n| n.to_string())).await;
    assert!((1..=2).contains(&frames), "{frames} frames");
}

#[tokio::test]
async fn what_does_not_fit_into_one_frame_together_goes_into_several() {
    let frames = frames_of((0..3).map(|n| n.to_string().repeat(400_000))).await;
    assert_eq!(frames, 3);
}
