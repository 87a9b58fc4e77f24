//! The engine through its public face, over a real directory or a journal in memory, with the clock moved instead of
//! waited for.

/// Runs each of the tests over both journals: the one in files, and the one in memory.
macro_rules! over_both {
    ($($test:ident),* $(,)?) => {
        mod over_files {
            $(#[tokio::test]
            async fn $test() {
                super::$test(super::Bench::new()).await;
            })*
        }
        mod over_memory {
            $(#[tokio::test]
            async fn $test() {
                super::$test(super::Bench::in_memory()).await;
            })*
        }
    };
}

mod checkpoints;
mod contents;
mod crash;
mod damage;
mod decoders;
mod delivery;
mod failure;
mod faults;
mod formats;
mod import;
mod keys;
mod looks;
mod manage;
mod model;
mod names;
mod pressure;
mod queues;
mod records;
mod retries;
#[cfg(campanile_shuttle)]
mod schedules;
mod time;

use std::time::Duration;

use tempfile::TempDir;

use super::{
    AckMode, Clock, Engine, EngineError, Options, Published, Receive, Settled, Settlement, journal::MemoryJournal,
};
use crate::model::{AckId, Delivery, Draft, Due, Name, Timestamp};

/// An engine over a directory of its own, which can be restarted.
struct Bench {
    _dir: TempDir,
    options: Options,
    engine: Option<Engine>,
    /// The journal, if it is not in files.
    memory: Option<MemoryJournal>,
}

impl Bench {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a folder for the test");
        let mut options = Options::new(dir.path().join("store"));
        options.journal_file_bytes = 1 << 20;
        options.clock = Clock::standing_at(Timestamp::from_millis(1_800_000_000_000));
        let engine = Some(Engine::open(options.clone()).expect("a new store opens"));
        Self { _dir: dir, options, engine, memory: None }
    }

    fn in_memory() -> Self {
        let mut bench = Self { memory: Some(MemoryJournal::new()), ..Self::new() };
        bench.engine = Some(bench.open());
        bench
    }

    fn open(&self) -> Engine {
        match &self.memory {
            None => Engine::open(self.options.clone()).expect("the store opens again"),
            Some(journal) => {
                Engine::over(Box::new(journal.clone()), self.options.clone()).expect("frames that an engine wrote")
            }
        }
    }

    fn engine(&self) -> &Engine {
        self.engine.as_ref().expect("open except while it restarts")
    }

    /// Ends the engine in order and opens the store again.
    async fn restart(&mut self) {
        if let Some(engine) = self.engine.take() {
            engine.close().await;
        }
        self.engine = Some(self.open());
    }

    fn advance(&self, by: Duration) {
        self.engine().advance_clock(by);
    }

    async fn publish(&self, topic: &str, texts: &[&str]) -> Published {
        let drafts = texts.iter().map(|text| draft(text)).collect();
        self.engine().publish(name(topic), drafts).await.expect("stored")
    }

    async fn publish_one(&self, topic: &str, draft: Draft) -> Result<Published, EngineError> {
        self.engine().publish(name(topic), vec![draft]).await
    }

    async fn register(&self, service: &str, topics: &[&str]) -> Result<Vec<String>, EngineError> {
        let topics = topics.iter().map(|topic| name(topic)).collect();
        let registered = self.engine().register(name(service), topics).await?;
        Ok(registered.declared.iter().map(Name::to_string).collect())
    }

    /// Receives up to `max`, acked at once; the payloads.
    async fn pop(&self, queue: &str, max: usize) -> Vec<String> {
        texts(&self.receive(queue, max, Duration::ZERO, AckMode::AtOnce).await)
    }

    /// Receives one under a lease of 30 s.
    async fn lease(&self, queue: &str) -> Option<Delivery> {
        self.receive(queue, 1, Duration::ZERO, AckMode::Lease(LEASE)).await.pop()
    }

    async fn receive(&self, queue: &str, max: usize, wait: Duration, mode: AckMode) -> Vec<Delivery> {
        let receive =
            Receive { queue: name(queue), service: None, max_messages: max, max_bytes: Receive::BYTES_MAX, wait, mode };
        self.engine().receive(receive).await.expect("received")
    }

    async fn ack(&self, queue: &str, id: AckId) -> Settled {
        let acked = self.engine().ack(name(queue), vec![Some(id)]).await.expect("answered");
        acked[0]
    }

    async fn digest(&self) -> u64 {
        self.engine().statistics().await.expect("counted").digest
    }
}

const LEASE: Duration = Duration::from_secs(30);

fn name(text: &str) -> Name {
    Name::parse(text).expect("a valid name")
}

/// Asks for one message, and does not wait.
fn one_of(queue: &str, mode: AckMode) -> Receive {
    let (queue, max_bytes, wait) = (name(queue), Receive::BYTES_MAX, Duration::ZERO);
    Receive { queue, service: None, max_messages: 1, max_bytes, wait, mode }
}

fn draft(text: &str) -> Draft {
    Draft { payload: text.to_owned().into(), ..Draft::default() }
}

fn texts(deliveries: &[Delivery]) -> Vec<String> {
    deliveries.iter().map(|d| String::from_utf8_lossy(&d.message.payload).into_owned()).collect()
}

fn ack_id(delivery: &Delivery) -> AckId {
    delivery.lease.as_ref().expect("leased").ack_id
}
