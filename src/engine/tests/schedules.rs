//! The engine's threads under many schedules: nobody waits for ever, and nothing is lost or twice, whoever runs when.
//!
//! `RUSTFLAGS="--cfg campanile_shuttle" cargo test --lib schedules` runs them, 300 schedules each of two kinds: chance at
//! every step, and priorities that change at a few steps, which starves threads for long. `CAMPANILE_SCHEDULES` sets
//! another number. A failure prints the schedule, for `shuttle::replay`.

use std::{path::Path, sync::Arc, time::Duration};

use shuttle::{
    Config, Runner,
    future::block_on,
    scheduler::{PctScheduler, RandomScheduler},
    thread,
};
use tempfile::TempDir;

use super::{AckMode, Engine, EngineError, Options, Receive, draft, name, texts};

const WAIT: Duration = Duration::from_secs(3600);
/// Journal files of this size make for many checkpoints, and for a bound that publishers reach.
const FILE_BYTES: u64 = 64 << 10;

/// Runs `scenario` under many schedules, each time over a new directory.
fn under_many_schedules(scenario: impl Fn(&Path) + Send + Sync + 'static) {
    let set = std::env::var("CAMPANILE_SCHEDULES").map(|count| count.parse().expect("a number"));
    let count = set.unwrap_or(300);
    let scenario = Arc::new(move || {
        let dir = TempDir::new().expect("a directory");
        scenario(dir.path());
    });
    let config = || {
        let mut config = Config::new();
        config.stack_size = 1 << 20;
        config
    };
    let run = Arc::clone(&scenario);
    Runner::new(RandomScheduler::new(count), config()).run(move || run());
    Runner::new(PctScheduler::new(4, count), config()).run(move || scenario());
}

fn open(dir: &Path) -> Engine {
    Engine::open(Options { journal_file_bytes: FILE_BYTES, ..Options::new(dir) }).expect("opens")
}

/// A text of about `bytes` that tells who wrote it, and as which.
fn text(producer: usize, number: usize, bytes: usize) -> String {
    format!("{producer} {number} {}", "x".repeat(bytes))
}

/// Who wrote it, and as which.
fn mark(text: &str) -> (usize, usize) {
    let mut words = text.split(' ').map(|word| word.parse().expect("a number"));
    (words.next().expect("who"), words.next().expect("which"))
}

async fn receive(engine: &Engine, wait: Duration, mode: AckMode) -> Result<Vec<(usize, usize)>, EngineError> {
    let receive =
        Receive { queue: name("t"), service: None, max_messages: 1, max_bytes: Receive::BYTES_MAX, wait, mode };
    Ok(texts(&engine.receive(receive).await?).iter().map(|text| mark(text)).collect())
}

#[test]
fn everything_published_goes_to_one_of_those_who_wait() {
    const EACH: usize = 3;
    under_many_schedules(|dir| {
        let engine = open(dir);
        let producers = (0..2).map(|producer| {
            let engine = engine.clone();
            thread::spawn(move || {
                for number in 0..EACH {
                    let message = draft(&text(producer, number, 10));
                    block_on(engine.publish(name("t"), vec![message])).expect("stored");
                }
            })
        });
        let producers: Vec<_> = producers.collect();
        let consumers = (0..2).map(|_| {
            let engine = engine.clone();
            thread::spawn(move || {
                let one = || block_on(receive(&engine, WAIT, AckMode::AtOnce)).expect("received");
                (0..EACH).flat_map(|_| one()).collect::<Vec<_>>()
            })
        });
        let consumers: Vec<_> = consumers.collect();
        producers.into_iter().for_each(|producer| producer.join().expect("no panic"));
        let mut got = Vec::new();
        for consumer in consumers {
            let of_one = consumer.join().expect("no panic");
            for producer in 0..2 {
                assert!(of_one.iter().filter(|mark| mark.0 == producer).is_sorted(), "in order: {of_one:?}");
            }
            got.extend(of_one);
        }
        got.sort_unstable();
        let all: Vec<_> = (0..2).flat_map(|producer| (0..EACH).map(move |number| (producer, number))).collect();
        assert_eq!(got, all);
    });
}

#[test]
fn an_engine_that_is_closed_answers_everybody_and_keeps_what_it_said() {
    under_many_schedules(|dir| {
        let engine = open(dir);
        let publishing = thread::spawn({
            let engine = engine.clone();
            move || {
                let mut stored = Vec::new();
                for number in 0..3 {
                    match block_on(engine.publish(name("t"), vec![draft(&text(0, number, 10))])) {
                        Ok(_) => stored.push((0, number)),
                        Err(refusal) => assert_eq!(refusal, EngineError::Stopped),
                    }
                }
                stored
            }
        });
        let receiving = thread::spawn({
            let engine = engine.clone();
            move || match block_on(receive(&engine, WAIT, AckMode::AtOnce)) {
                Ok(got) => got,
                Err(refusal) => {
                    assert_eq!(refusal, EngineError::Stopped);
                    Vec::new()
                }
            }
        });
        let closing = thread::spawn({
            let engine = engine.clone();
            move || engine.shared.inbox.close()
        });
        let stored = publishing.join().expect("no panic");
        let mut got = receiving.join().expect("no panic");
        closing.join().expect("no panic");
        drop(engine);

        let engine = open(dir);
        loop {
            let more = block_on(receive(&engine, Duration::ZERO, AckMode::AtOnce)).expect("received");
            if more.is_empty() {
                break;
            }
            got.extend(more);
        }
        assert_eq!(got, stored);
    });
}

#[test]
fn publishers_who_were_held_back_and_readers_of_the_disk_go_on() {
    const BATCHES: usize = 24;
    const BATCH: usize = 3;
    under_many_schedules(|dir| {
        let engine = open(dir);
        // More than the journal takes without a checkpoint.
        let producers = (0..2).map(|producer| {
            let engine = engine.clone();
            thread::spawn(move || {
                for batch in 0..BATCHES {
                    let numbers = batch * BATCH..(batch + 1) * BATCH;
                    let drafts = numbers.map(|number| draft(&text(producer, number, 9 << 10))).collect();
                    block_on(engine.publish(name("t"), drafts)).expect("stored");
                }
            })
        });
        let producers: Vec<_> = producers.collect();
        let mut got = Vec::new();
        while got.len() < 2 * BATCHES * BATCH {
            got.extend(block_on(receive(&engine, WAIT, AckMode::AtOnce)).expect("received"));
        }
        producers.into_iter().for_each(|producer| producer.join().expect("no panic"));
        for producer in 0..2 {
            let numbers: Vec<_> = got.iter().filter(|mark| mark.0 == producer).map(|mark| mark.1).collect();
            assert_eq!(numbers, (0..BATCHES * BATCH).collect::<Vec<_>>(), "in order, each once");
        }
    });
}

#[test]
fn a_message_whose_receiver_leaves_goes_to_the_next_one() {
    under_many_schedules(|dir| {
        let engine = open(dir);
        let leaving = thread::spawn({
            let engine = engine.clone();
            move || {
                // Gone after one look: the message may be on its way already.
                let waiting = shuttle::future::spawn(async move {
                    let _ = receive(&engine, WAIT, AckMode::Lease(WAIT)).await;
                });
                thread::yield_now();
                waiting.abort();
                // It has left when its task has ended: done, or broken off and its answer given back.
                let _ = block_on(waiting);
            }
        });
        block_on(engine.publish(name("t"), vec![draft("0 0")])).expect("stored");
        leaving.join().expect("no panic");
        let taken = thread::spawn({
            let engine = engine.clone();
            move || block_on(receive(&engine, Duration::ZERO, AckMode::AtOnce)).expect("received")
        });
        // It was received before its receiver left, or it is here at once.
        let got = taken.join().expect("no panic");
        let statistics = block_on(engine.statistics()).expect("counted");
        let leased: usize = statistics.queues.iter().map(|queue| queue.leased).sum();
        assert_eq!((got.len() + leased, statistics.messages), (1, 1 - got.len()));
    });
}
