//! kill -9 at any moment, under load over both protocols: nothing acknowledged is lost, nothing handed out for good
//! comes back, and the order is kept.
//!
//! ```text
//!   8 producers ──► topic work ─┬─► work.pop      2 consumers, acked at once
//!                               ├─► work.lease    1 consumer under leases, each acked
//!                               └─► work.quiet    nobody, until the end
//! ```

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use reqwest::Method;
use serde_json::{Value, json};
use tokio::{sync::watch, task::JoinSet, time::sleep};
use tonic::Status;

use crate::{
    clients::{Grpc, Rest, codes_of, message, messages_of, metadata},
    ledger::{Ledger, Mark, check_order},
    process::Broker,
    stage::{Stage, eventually},
};

const KILLS_UNDER_LOAD: usize = 22;
const KILLS_AT_THE_START: usize = 6;
const POP_MAX: usize = 3;

/// Whether there is a broker, and where.
#[derive(Debug, Clone)]
enum Up {
    Down,
    Serving { rest: Rest, grpc: Grpc },
    Over,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Protocol {
    Rest,
    Grpc,
}

/// A request whose fate is not known: the broker died under it.
#[derive(Debug)]
struct Unknown;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kill_9_under_load_loses_nothing_brings_nothing_back_and_keeps_the_order() {
    let stage = Stage::alone().await;
    let seed = std::env::var("TEST_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(|| fastrand::u64(..));
    println!("TEST_SEED={seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    // Small files, so that the journal goes through several.
    let launch = stage.broker().set("BROKER_JOURNAL_FILE_BYTES", "1 MiB").set("BROKER_MESSAGE_BYTES_MAX", "64 KiB");
    let broker = launch.start().await;
    for service in ["pop", "lease", "quiet"] {
        broker.rest().register(service, &["work"]).await;
    }
    drop(broker);

    let begun = Instant::now();
    let load = Load::start(seed);
    for round in 0..KILLS_UNDER_LOAD + KILLS_AT_THE_START {
        if round % (1 + KILLS_UNDER_LOAD / KILLS_AT_THE_START) == 3 {
            let mut process = launch.spawn();
            sleep(Duration::from_millis(random.u64(..60))).await;
            process.kill();
        } else {
            let mut broker = launch.start().await;
            let before = load.ledger.acknowledged_count();
            load.say(&broker);
            eventually("load", async || (load.ledger.acknowledged_count() > before + 50).then_some(())).await;
            sleep(Duration::from_millis(random.u64(100..400))).await;
            broker.process.kill();
            load.up.send_replace(Up::Down);
        }
    }
    let broker = launch.start().await;
    load.end(&broker).await.check(&broker).await;
    println!("{} kills in {:?}", KILLS_UNDER_LOAD + KILLS_AT_THE_START, begun.elapsed());
}

/// Everybody who uses the broker while it is killed.
struct Load {
    up: watch::Sender<Up>,
    ledger: Arc<Ledger>,
    popped: Arc<Mutex<Popped>>,
    leased: Arc<Mutex<Leased>>,
    tasks: JoinSet<()>,
}

/// What the consumers got that take messages for good.
#[derive(Debug, Default)]
struct Popped {
    /// In the order that each consumer got them.
    by_consumer: [Vec<Mark>; 2],
    /// How many messages may have been in answers that were lost.
    lost_max: usize,
}

/// What the consumer did that acks.
#[derive(Debug, Default)]
struct Leased {
    first_attempts: Vec<Mark>,
    acked: BTreeSet<Mark>,
    /// Their ack was lost, and repeated too late to tell.
    perhaps_acked: BTreeSet<Mark>,
}

impl Load {
    fn start(seed: u64) -> Self {
        let (up, seen) = watch::channel(Up::Down);
        let (ledger, popped, leased): (Arc<Ledger>, Arc<Mutex<Popped>>, Arc<Mutex<Leased>>) = Default::default();
        let mut tasks = JoinSet::new();
        for producer in 0..8 {
            let protocol = if producer % 2 == 0 { Protocol::Rest } else { Protocol::Grpc };
            let random = fastrand::Rng::with_seed(seed ^ u64::from(producer));
            let producer = Producer { producer, protocol, ledger: Arc::clone(&ledger), random };
            // Half of them repeat a publish whose answer was lost, under its key; the others leave it at that.
            if producer.producer < 4 {
                tasks.spawn(producer.persistent(seen.clone()));
            } else {
                tasks.spawn(producer.careless(seen.clone()));
            }
        }
        for protocol in [Protocol::Rest, Protocol::Grpc] {
            tasks.spawn(pop(protocol, Arc::clone(&popped), seen.clone()));
        }
        tasks.spawn(lease(Arc::clone(&leased), seen));
        Self { up, ledger, popped, leased, tasks }
    }

    fn say(&self, broker: &Broker) {
        self.up.send_replace(Up::Serving { rest: broker.rest(), grpc: broker.grpc() });
    }

    /// Lets everybody finish what they were at.
    async fn end(mut self, broker: &Broker) -> Self {
        let before = self.ledger.acknowledged_count();
        self.say(broker);
        eventually("load", async || (self.ledger.acknowledged_count() > before + 50).then_some(())).await;
        self.up.send_replace(Up::Over);
        while let Some(ended) = self.tasks.join_next().await {
            ended.expect("no worker panics");
        }
        self
    }

    async fn check(self, broker: &Broker) {
        let rest = broker.rest();
        let quiet = marks(&rest.drain("work.quiet").await);
        self.ledger.check("work.quiet", &quiet, 0);
        check_order("work.quiet", &quiet);

        let mut popped = self.popped.lock().unwrap_or_else(PoisonError::into_inner).by_consumer.clone();
        popped[0].extend(marks(&rest.drain("work.pop").await));
        for consumer in &popped {
            check_order("work.pop", consumer);
        }
        let lost_max = self.popped.lock().unwrap_or_else(PoisonError::into_inner).lost_max;
        self.ledger.check("work.pop", &popped.concat(), lost_max);

        let mut leased = std::mem::take(&mut *self.leased.lock().unwrap_or_else(PoisonError::into_inner));
        check_order("work.lease", &leased.first_attempts);
        // Long enough for the leases of lost answers to end.
        while let Ok(messages @ [_, ..]) = receive(&rest, "?max_messages=1000&wait_seconds=11").await.as_deref() {
            ack_all(&rest, messages, &mut leased).await.expect("the broker lives");
        }
        let done: Vec<Mark> = leased.acked.union(&leased.perhaps_acked).copied().collect();
        self.ledger.check("work.lease", &done, 0);
        println!(
            "{} attempted, {} acknowledged, {} popped, {lost_max} may have been lost with their answers, {} acked",
            self.ledger.attempted_count(),
            self.ledger.acknowledged_count(),
            popped.concat().len(),
            leased.acked.len(),
        );
        assert!(popped.iter().all(|marks| marks.len() > 100) && leased.acked.len() > 100, "consumers were at work");
    }
}

fn marks(payloads: &[Value]) -> Vec<Mark> {
    payloads.iter().map(Mark::of).collect()
}

// ------------------------------------------------------------------------------------ producers

struct Producer {
    producer: u32,
    protocol: Protocol,
    ledger: Arc<Ledger>,
    random: fastrand::Rng,
}

impl Producer {
    async fn persistent(mut self, mut up: watch::Receiver<Up>) {
        for number in 0.. {
            let mark = Mark { producer: self.producer, number };
            let payload = mark.payload(self.random.usize(..2000));
            loop {
                let Some((rest, grpc)) = serving(&mut up).await else { return };
                if self.publish(&rest, &grpc, mark, &payload, Some(&mark.key())).await.is_ok() {
                    break;
                }
                wait_for_change(&mut up).await;
            }
        }
    }

    async fn careless(mut self, mut up: watch::Receiver<Up>) {
        for number in 0.. {
            let Some((rest, grpc)) = serving(&mut up).await else { return };
            let mark = Mark { producer: self.producer, number };
            let payload = mark.payload(self.random.usize(..2000));
            if self.publish(&rest, &grpc, mark, &payload, None).await.is_err() {
                wait_for_change(&mut up).await;
            }
        }
    }

    async fn publish(
        &self,
        rest: &Rest,
        grpc: &Grpc,
        mark: Mark,
        payload: &Value,
        key: Option<&str>,
    ) -> Result<(), Unknown> {
        self.ledger.attempt(mark);
        match self.protocol {
            Protocol::Rest => {
                let mut request = rest.request(Method::POST, "/publish");
                if let Some(key) = key {
                    request = request.header("idempotency-key", key);
                }
                let answer = Rest::ask(request.json(&json!({"topic": "work", "message": payload}))).await;
                answer.map_err(|_| Unknown)?.ok();
            }
            Protocol::Grpc => {
                let sent = grpc.ask_send(message("work", &payload.to_string()), key).await.map_err(unknown)?;
                assert!(sent.success, "{sent:?}");
            }
        }
        self.ledger.acknowledge(mark);
        Ok(())
    }
}

/// Only a connection that broke leaves a request unknown; what the broker itself says would be a finding.
fn unknown(status: Status) -> Unknown {
    assert_eq!(metadata(&status, "campanile-code"), "", "{status}");
    Unknown
}

// ------------------------------------------------------------------------------------ consumers

async fn pop(protocol: Protocol, popped: Arc<Mutex<Popped>>, mut up: watch::Receiver<Up>) {
    while let Some((rest, grpc)) = serving(&mut up).await {
        let (got, lost_max) = match protocol {
            Protocol::Rest => {
                let path = format!("/consume/work.pop?max_messages={POP_MAX}&wait_seconds=0.2");
                let answer = Rest::ask(rest.request(Method::GET, &path)).await;
                let payload = |mut message: Value| message["payload"].take();
                let payloads = |answer| messages_of(answer).into_iter().map(payload).collect::<Vec<_>>();
                (answer.map_err(|_| Unknown).map(|answer| payloads(answer.ok())), POP_MAX)
            }
            Protocol::Grpc => {
                let received = grpc.ask_receive("work.pop").await.map_err(unknown);
                let payload = |text: String| serde_json::from_str(&text).expect("JSON");
                (received.map(|r| Vec::from_iter(r.has_message.then(|| payload(r.payload)))), 1)
            }
        };
        let at_fault = got.is_err();
        {
            let mut popped = popped.lock().unwrap_or_else(PoisonError::into_inner);
            match got {
                Ok(payloads) => popped.by_consumer[protocol as usize].extend(marks(&payloads)),
                Err(Unknown) => popped.lost_max += lost_max,
            }
        }
        if at_fault {
            wait_for_change(&mut up).await;
        }
    }
}

async fn lease(leased: Arc<Mutex<Leased>>, mut up: watch::Receiver<Up>) {
    let mut mine = Leased::default();
    // What is held and not known to be acked.
    let mut held: Vec<Value> = Vec::new();
    while let Some((rest, _)) = serving(&mut up).await {
        let done = async {
            if held.is_empty() {
                held = receive(&rest, "?max_messages=5&wait_seconds=0.2").await?;
                for message in held.iter().filter(|message| message["delivery_attempt"] == 1) {
                    mine.first_attempts.push(Mark::of(&message["payload"]));
                }
            }
            ack_all(&rest, &held, &mut mine).await?;
            held.clear();
            Ok::<(), Unknown>(())
        };
        if done.await.is_err() {
            wait_for_change(&mut up).await;
        }
    }
    *leased.lock().unwrap_or_else(PoisonError::into_inner) = mine;
}

async fn receive(rest: &Rest, query: &str) -> Result<Vec<Value>, Unknown> {
    let request = rest.request(Method::GET, &format!("/consume/work.lease{query}&ack_deadline_seconds=10"));
    Ok(messages_of(Rest::ask(request).await.map_err(|_| Unknown)?.ok()))
}

/// Acks what is held; again, if that is not known to have been done.
async fn ack_all(rest: &Rest, held: &[Value], leased: &mut Leased) -> Result<(), Unknown> {
    if held.is_empty() {
        return Ok(());
    }
    let held_marks: Vec<Mark> = held.iter().map(|message| Mark::of(&message["payload"])).collect();
    for mark in &held_marks {
        assert!(!leased.acked.contains(mark), "{mark:?} was acked and came back");
    }
    let ack_ids: Vec<&Value> = held.iter().map(|message| &message["ack_id"]).collect();
    let request = rest.request(Method::POST, "/v1/queues/work.lease/ack").json(&json!({"ack_ids": ack_ids}));
    let answer = Rest::ask(request).await.map_err(|_| Unknown)?.ok();
    for (mark, code) in held_marks.into_iter().zip(codes_of(&answer)) {
        match code.as_str() {
            "ok" => leased.acked.insert(mark),
            // By the attempt before, or its lease is over; then it comes again.
            "stale_ack" => leased.perhaps_acked.insert(mark),
            other => panic!("{other} for {mark:?}"),
        };
    }
    Ok(())
}

// ------------------------------------------------------------------------------------ up and down

/// The broker, once there is one; `None` when there will be none.
async fn serving(up: &mut watch::Receiver<Up>) -> Option<(Rest, Grpc)> {
    let seen = up.wait_for(|up| !matches!(up, Up::Down)).await.expect("the test is not over");
    match &*seen {
        Up::Serving { rest, grpc } => Some((rest.clone(), grpc.clone())),
        Up::Down | Up::Over => None,
    }
}

/// Waits until the broker that was asked last is known to be gone.
async fn wait_for_change(up: &mut watch::Receiver<Up>) {
    up.changed().await.expect("the test is not over");
}
