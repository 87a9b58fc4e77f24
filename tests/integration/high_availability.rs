//! Three instances on one data directory. The active one is killed with -9 under load, again and again; the clients of
//! the other two see nothing of it but a pause.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use reqwest::Method;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::{
    clients::{Answer, Grpc, Rest, codes_of, message, messages_of},
    ledger::{Ledger, Mark, check_order},
    process::{Broker, Launch},
    stage::{Stage, eventually, free_port},
};

const ROUNDS: usize = 6;

/// Far more than a take-over takes, on a machine that is busy with other things.
const GAP_MAX: Duration = Duration::from_secs(3);

/// The addresses of three instances, and how each is started.
struct Instances {
    ports: [u16; 3],
    stage: Stage,
}

impl Instances {
    async fn prepare() -> Self {
        Self { ports: [free_port(), free_port(), free_port()], stage: Stage::alone().await }
    }

    fn launch(&self, index: usize) -> Launch {
        let targets = self.ports.map(|port| format!("127.0.0.1:{port}")).join(",");
        let launch = self.stage.broker().set("BROKER_GRPC_ADDR", format!("127.0.0.1:{}", self.ports[index]));
        launch.set("BACKEND_TARGETS", targets)
    }

    async fn start(&self, index: usize) -> Broker {
        self.launch(index).start().await
    }
}

/// Which instance of those that run holds the store.
async fn role(broker: &Broker) -> String {
    let health = broker.rest().get("/health").await.ok();
    health["role"].as_str().expect("a role").to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_active_instance_is_killed_under_load_and_the_others_clients_see_no_error() {
    let instances = Instances::prepare().await;
    let mut brokers = BTreeMap::new();
    for index in 0..3 {
        brokers.insert(index, instances.start(index).await);
    }
    brokers[&0].rest().register("quiet", &["work"]).await;
    brokers[&0].rest().register("lease", &["work"]).await;

    let ledger = Arc::new(Ledger::default());
    let mut acked = Vec::new();
    let (mut take_overs, mut gaps) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        let active = active_of(&brokers).await;
        let standbys: Vec<usize> = brokers.keys().copied().filter(|index| *index != active).collect();
        for index in &standbys {
            brokers[index].process.logged("instance is active").await;
        }
        let load = Load::start(&brokers, &standbys, round, Arc::clone(&ledger));
        load.until_all_had_successes().await;
        let mut dead = brokers.remove(&active).expect("it runs");
        let killed = Instant::now();
        dead.process.kill();
        load.until_all_had_successes().await;
        let outcome = load.end().await;
        take_overs.push(outcome.first_success_after(killed) - killed);
        gaps.push(outcome.gap_max());
        acked.extend(outcome.acked);
        drop(dead);
        // Back again, as a standby.
        brokers.insert(active, instances.start(active).await);
    }
    println!("take-over, from kill -9 to the first success: {take_overs:.0?}");
    println!("longest time without a success, of each round's worst client: {gaps:.0?}");

    let rest = brokers[&active_of(&brokers).await].rest();
    let quiet: Vec<Mark> = rest.drain("work.quiet").await.iter().map(Mark::of).collect();
    ledger.check("work.quiet", &quiet, 0);
    check_order("work.quiet", &quiet);
    // Leases of answers that were lost end after 10 s.
    let path = "work.lease?max_messages=1000&wait_seconds=11&ack_deadline_seconds=10";
    loop {
        let messages = rest.consume(path).await;
        if messages.is_empty() {
            break;
        }
        let ids: Vec<&Value> = messages.iter().map(|message| &message["ack_id"]).collect();
        assert!(rest.ack("work.lease", &ids).await.iter().all(|code| code == "ok"));
        acked.extend(messages.iter().map(|message| Mark::of(&message["payload"])));
    }
    ledger.check("work.lease", &acked, 0);
    println!("{} messages acknowledged, {} leased and acked, {ROUNDS} kills", quiet.len(), acked.len());
    assert!(gaps.iter().all(|gap| *gap < GAP_MAX), "{gaps:?}");
    take_overs.sort_unstable();
    assert!(take_overs[ROUNDS / 2] < Duration::from_secs(1), "within a second, as a rule: {take_overs:?}");
}

async fn active_of(brokers: &BTreeMap<usize, Broker>) -> usize {
    let mut active = Vec::new();
    eventually("an active instance", async || {
        active.clear();
        for (index, broker) in brokers {
            if role(broker).await == "active" {
                active.push(*index);
            }
        }
        (!active.is_empty()).then_some(())
    })
    .await;
    assert_eq!(active.len(), 1, "one active instance");
    active[0]
}

// ------------------------------------------------------------------------------------ load

/// Clients of the standbys, none of whom may see an error.
struct Load {
    stop: Arc<AtomicBool>,
    clients: Vec<Arc<Successes>>,
    tasks: JoinSet<Vec<Mark>>,
}

/// When a client's requests were answered.
#[derive(Debug, Default)]
struct Successes(Mutex<Vec<Instant>>);

impl Successes {
    fn add(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(Instant::now());
    }

    fn all(&self) -> Vec<Instant> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// What came of a round.
struct Outcome {
    successes: Vec<Vec<Instant>>,
    acked: Vec<Mark>,
}

impl Outcome {
    fn first_success_after(&self, moment: Instant) -> Instant {
        // What was under way at that moment may still come in; the store's new owner needs longer than that.
        let later = |at: &&Instant| **at > moment + Duration::from_millis(20);
        *self.successes.iter().flatten().filter(later).min().expect("somebody succeeded")
    }

    fn gap_max(&self) -> Duration {
        let gaps = self.successes.iter().flat_map(|of_one| of_one.windows(2).map(|pair| pair[1] - pair[0]));
        gaps.max().expect("somebody succeeded twice")
    }
}

impl Load {
    fn start(brokers: &BTreeMap<usize, Broker>, standbys: &[usize], round: usize, ledger: Arc<Ledger>) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (mut clients, mut tasks) = (Vec::new(), JoinSet::new());
        for (place, index) in standbys.iter().enumerate() {
            let broker = &brokers[index];
            let mut client = || {
                let successes = Arc::new(Successes::default());
                clients.push(Arc::clone(&successes));
                successes
            };
            let producer = u32::try_from(round * 10 + place * 3).expect("few rounds");
            let stop = || Arc::clone(&stop);
            tasks.spawn(publish_over_rest(broker.rest(), producer, Arc::clone(&ledger), client(), stop()));
            tasks.spawn(publish_over_grpc(broker.grpc(), producer + 1, Arc::clone(&ledger), client(), stop()));
            tasks.spawn(lease_and_ack(broker.rest(), client(), stop()));
        }
        Self { stop, clients, tasks }
    }

    async fn until_all_had_successes(&self) {
        let now = Instant::now();
        eventually("thirty successes of each client", async || {
            let thirty = |client: &Arc<Successes>| client.all().iter().filter(|at| **at > now).count() >= 30;
            self.clients.iter().all(thirty).then_some(())
        })
        .await;
    }

    async fn end(mut self) -> Outcome {
        self.stop.store(true, SeqCst);
        let mut acked = Vec::new();
        while let Some(ended) = self.tasks.join_next().await {
            acked.extend(ended.expect("no client saw an error"));
        }
        Outcome { successes: self.clients.iter().map(|client| client.all()).collect(), acked }
    }
}

async fn publish_over_rest(
    rest: Rest,
    producer: u32,
    ledger: Arc<Ledger>,
    successes: Arc<Successes>,
    stop: Arc<AtomicBool>,
) -> Vec<Mark> {
    for number in 0.. {
        if stop.load(SeqCst) {
            break;
        }
        let mark = Mark { producer, number };
        ledger.attempt(mark);
        let request = rest.request(Method::POST, "/publish").header("idempotency-key", mark.key());
        answered(request.json(&json!({"topic": "work", "message": mark.payload(100)}))).await;
        ledger.acknowledge(mark);
        successes.add();
    }
    Vec::new()
}

async fn publish_over_grpc(
    grpc: Grpc,
    producer: u32,
    ledger: Arc<Ledger>,
    successes: Arc<Successes>,
    stop: Arc<AtomicBool>,
) -> Vec<Mark> {
    for number in 0.. {
        if stop.load(SeqCst) {
            break;
        }
        let mark = Mark { producer, number };
        ledger.attempt(mark);
        let payload = mark.payload(100).to_string();
        let sent = grpc.ask_send(message("work", &payload), Some(&mark.key())).await.expect("no error");
        assert!(sent.success, "{sent:?}");
        ledger.acknowledge(mark);
        successes.add();
    }
    Vec::new()
}

/// Answers what was acked.
async fn lease_and_ack(rest: Rest, successes: Arc<Successes>, stop: Arc<AtomicBool>) -> Vec<Mark> {
    let mut acked = Vec::new();
    let mut times = 0_u64;
    while !stop.load(SeqCst) {
        let path = "/consume/work.lease?max_messages=5&wait_seconds=0.2&ack_deadline_seconds=10";
        let messages = messages_of(answered(rest.request(Method::GET, path)).await.ok());
        if messages.is_empty() {
            continue;
        }
        times += 1;
        let ids: Vec<&Value> = messages.iter().map(|message| &message["ack_id"]).collect();
        // An ack may be repeated, and says by its key that its caller knows that.
        let ack = rest.request(Method::POST, "/v1/queues/work.lease/ack").header("idempotency-key", times);
        let codes = codes_of(&answered(ack.json(&json!({"ack_ids": ids}))).await.ok());
        // The second of two tries finds the work of the first one done.
        assert!(codes.iter().all(|code| code == "ok" || code == "stale_ack"), "{codes:?}");
        acked.extend(messages.iter().map(|message| Mark::of(&message["payload"])));
        successes.add();
    }
    acked
}

async fn answered(request: reqwest::RequestBuilder) -> Answer {
    let answer = Rest::ask(request).await.expect("no connection breaks");
    assert_eq!(answer.status, 200, "{}", answer.text);
    answer
}

// ------------------------------------------------------------------------------------ who is who

#[tokio::test]
async fn an_instance_of_another_broker_is_refused_and_said_so() {
    let stage = Stage::shared().await;
    let ports = [free_port(), free_port()];
    let targets = ports.map(|port| format!("127.0.0.1:{port}")).join(",");
    let launch = |port: u16, store: &str| {
        let launch = stage.broker().set("BROKER_DATA_DIR", stage.folder().join(store).display());
        launch.set("BROKER_GRPC_ADDR", format!("127.0.0.1:{port}")).set("BACKEND_TARGETS", &targets)
    };
    let ours = launch(ports[0], "ours").start().await;
    let theirs = launch(ports[1], "theirs").start().await;
    let event = ours.process.logged("instance serves another store: no request is sent to it").await;
    assert_eq!((&event["level"], &event["instance"]), (&json!("ERROR"), &json!(format!("127.0.0.1:{}", ports[1]))));
    assert_ne!(event["store"], event["my_store"]);
    theirs.process.logged("instance serves another store: no request is sent to it").await;
    for n in 0..20 {
        ours.rest().publish("t", json!(n)).await;
        ours.grpc().send("t", &n.to_string()).await;
    }
    assert_eq!(ours.rest().drain("t").await.len(), 40);
    assert_eq!(theirs.rest().drain("t").await.len(), 0);
}

#[tokio::test]
async fn an_active_instance_that_is_asked_to_end_hands_over() {
    let stage = Stage::shared().await;
    let [active, standby] = stage.active_and_standby().await;
    assert_eq!((role(&active).await, role(&standby).await), ("active".to_owned(), "standby".to_owned()));
    let publishing = {
        let rest = standby.rest();
        tokio::spawn(async move {
            let mut count = 0;
            let until = Instant::now() + Duration::from_secs(2);
            while Instant::now() < until {
                let request = rest.request(Method::POST, "/publish").header("idempotency-key", count.to_string());
                answered(request.json(&json!({"topic": "t", "message": count}))).await;
                count += 1;
            }
            count
        })
    };
    standby.rest().publish("u", json!("before")).await;
    assert_eq!(active.stop().await.code(), Some(0));
    standby.process.logged("took over").await;
    let count = publishing.await.expect("no client saw an error");
    assert_eq!(role(&standby).await, "active");
    let expected: Vec<Value> = (0..count).map(|n| json!(n)).collect();
    assert_eq!(standby.rest().drain("t").await, expected);
    assert_eq!(standby.rest().drain("u").await, [json!("before")]);
}
