//! What the broker promises about delivery, each promise once, over both protocols.
//!
//! A case is written against [`Case`], which makes the calls of `/v1` and `campanile.v1.Broker` in one form; it runs over
//! each protocol against the real program in dev mode, whose clock is moved instead of waited for, and what it was told over
//! the one has to be what it was told over the other, field by field. Cases run one after the other, each on names of its
//! own, so the clock that one moves is nothing to the others.

mod admin;
mod deliveries;
mod fairness;
mod grpc;
mod keys;
mod limits;
mod looks;
mod peer;
mod publishing;
mod refusals;
mod requests;
mod rest;
mod restarts;
mod retries;
mod steps;
mod streams;
mod told;

use std::{future::Future, pin::Pin};

use serde_json::{Value, json};
use tokio::task::{LocalSet, spawn_local};

pub(crate) use self::peer::{Answer, Peer, Refused};
use self::told::Told;
use crate::stage::Stage;

/// How many cases there are at least, counted once for both protocols.
const CASES_MIN: usize = 150;

/// Named cases.
type Cases = Vec<(String, Run)>;
type Run = Box<dyn Fn(Case) -> Pin<Box<dyn Future<Output = ()>>>>;

/// A table of cases: the claim, and what shows it.
macro_rules! cases {
    ($($claim:literal => $run:path),* $(,)?) => {
        vec![$(($claim.to_owned(), super::run_of($run))),*]
    };
}
use cases;

fn run_of<F: Future<Output = ()> + 'static>(run: impl Fn(Case) -> F + 'static) -> Run {
    Box::new(move |case| Box::pin(run(case)))
}

/// One run of one case.
#[derive(Debug, Clone)]
pub(crate) struct Case {
    pub(crate) peer: Peer,
    /// A name that no other case has.
    pub(crate) name: String,
    told: Told,
}

impl Case {
    fn new(peer: Peer, name: String) -> Self {
        Self { peer, name, told: Told::default() }
    }

    /// The same, of which the other protocol need not be told the same: what it asks, or when, is chance.
    fn aside(&self) -> Self {
        Self::new(self.peer.clone(), self.name.clone())
    }

    /// Makes a call.
    pub(crate) async fn call(&self, call: &str, args: Value) -> Answer {
        let answer = self.peer.call(call, args).await;
        self.told.note(call, self.peer.name(), &answer);
        answer
    }

    /// Makes a call that has to be carried out.
    pub(crate) async fn ok(&self, call: &str, args: Value) -> Value {
        let shown = args.to_string();
        self.call(call, args).await.unwrap_or_else(|refused| panic!("{call} {shown} was refused: {refused:?}"))
    }

    /// Code and field of a call that has to be refused.
    pub(crate) async fn refused(&self, call: &str, args: Value) -> (String, String) {
        let shown = args.to_string();
        match self.call(call, args).await {
            Ok(answer) => panic!("{call} {shown} was carried out: {answer}"),
            Err(Refused { code, field, .. }) => (code, field),
        }
    }

    /// Code and whole path of the field of a call that has to be refused.
    pub(crate) async fn refused_at(&self, call: &str, args: Value) -> (String, String) {
        let shown = args.to_string();
        match self.call(call, args).await {
            Ok(answer) => panic!("{call} {shown} was carried out: {answer}"),
            Err(Refused { code, path, .. }) => (code, path),
        }
    }

    /// The code alone.
    pub(crate) async fn code(&self, call: &str, args: Value) -> String {
        self.refused(call, args).await.0
    }

    /// Publishes one JSON payload; its id.
    pub(crate) async fn publish(&self, topic: &str, payload: impl Into<Value>) -> String {
        self.publish_as(topic, json!({"json": payload.into()})).await
    }

    /// Publishes one message; its id.
    pub(crate) async fn publish_as(&self, topic: &str, message: Value) -> String {
        let answer = self.ok("publish", json!({"topic": topic, "messages": [message]})).await;
        text(&answer["messages"][0]["message_id"])
    }

    /// Publishes JSON payloads in one batch; their ids.
    pub(crate) async fn publish_all(&self, topic: &str, payloads: impl IntoIterator<Item = i64>) -> Vec<String> {
        let messages: Vec<_> = payloads.into_iter().map(|payload| json!({"json": payload})).collect();
        let answer = self.ok("publish", json!({"topic": topic, "messages": messages})).await;
        list(&answer["messages"]).iter().map(|message| text(&message["message_id"])).collect()
    }

    /// Declares the own queue of a topic.
    pub(crate) async fn declare(&self, queue: &str) {
        assert_eq!(self.pull(queue, 1).await.len(), 0, "{queue} is new");
    }

    /// Up to `max` messages under a lease of the queue's own length.
    pub(crate) async fn pull(&self, queue: &str, max: u64) -> Vec<Value> {
        self.pull_with(json!({"queue": queue, "max_messages": max})).await
    }

    pub(crate) async fn pull_with(&self, args: Value) -> Vec<Value> {
        list(&self.ok("pull", args).await["messages"])
    }

    /// The next message; there has to be one.
    pub(crate) async fn take(&self, queue: &str) -> Value {
        let mut pulled = self.pull(queue, 1).await;
        assert_eq!(pulled.len(), 1, "the next message of {queue}");
        pulled.remove(0)
    }

    /// Up to `max` messages, acked at once; their JSON payloads.
    pub(crate) async fn drain(&self, queue: &str, max: u64) -> Vec<Value> {
        let pulled = self.pull_with(json!({"queue": queue, "max_messages": max, "auto_ack": true})).await;
        pulled.into_iter().map(|message| message["json"].clone()).collect()
    }

    /// Acks a delivery; the code.
    pub(crate) async fn ack(&self, queue: &str, delivery: &Value) -> String {
        self.settle("ack", json!({"queue": queue, "ack_ids": [delivery["ack_id"]]})).await
    }

    /// Nacks a delivery; the code.
    pub(crate) async fn nack(&self, queue: &str, delivery: &Value, how: Value) -> String {
        let mut args = json!({"queue": queue, "ack_ids": [delivery["ack_id"]]});
        merge(&mut args, how);
        self.settle("nack", args).await
    }

    pub(crate) async fn extend(&self, queue: &str, delivery: &Value, seconds: u64) -> String {
        let args = json!({"queue": queue, "ack_ids": [delivery["ack_id"]], "ack_deadline_seconds": seconds});
        self.settle("extend", args).await
    }

    async fn settle(&self, call: &str, args: Value) -> String {
        text(&self.ok(call, args).await["results"][0]["code"])
    }

    /// Gives the queue a policy.
    pub(crate) async fn policy(&self, queue: &str, policy: Value) -> Value {
        self.ok("update_queue", json!({"queue": queue, "policy": policy})).await
    }

    pub(crate) async fn queue(&self, queue: &str) -> Value {
        self.ok("get_queue", json!({"queue": queue})).await
    }

    /// Ready, retrying, leased, delayed and dead messages of a queue.
    pub(crate) async fn counts(&self, queue: &str) -> [u64; 5] {
        let queue = self.queue(queue).await;
        ["ready", "retrying", "leased", "delayed", "dead"].map(|field| number(&queue[field]))
    }

    /// Moves the clock.
    pub(crate) async fn advance(&self, seconds: f64) {
        self.ok("advance_clock", json!({"by_seconds": seconds})).await;
    }

    /// The messages of a queue in that state.
    pub(crate) async fn browse(&self, queue: &str, state: &str) -> Vec<Value> {
        let state = match self.peer {
            Peer::Rest(_) => state.to_owned(),
            Peer::Grpc(_) => state.to_uppercase(),
        };
        list(&self.ok("browse", json!({"queue": queue, "state": state})).await["messages"])
    }

    /// The kinds of what happened to a message.
    pub(crate) async fn events(&self, id: &str) -> Vec<String> {
        let story = self.ok("get_story", json!({"message_id": id})).await;
        list(&story["events"]).iter().map(|event| text(&event["kind"])).collect()
    }

    /// The kinds of what holds a queue's messages back.
    pub(crate) async fn obstacles(&self, queue: &str) -> Vec<String> {
        let explanation = self.ok("explain", json!({"queue": queue})).await;
        list(&explanation["obstacles"]).iter().map(|obstacle| text(&obstacle["kind"])).collect()
    }
}

pub(crate) fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

pub(crate) fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_default()
}

pub(crate) fn list(value: &Value) -> Vec<Value> {
    value.as_array().cloned().unwrap_or_default()
}

/// Payloads of deliveries.
pub(crate) fn payloads(deliveries: &[Value]) -> Vec<Value> {
    deliveries.iter().map(|delivery| delivery["json"].clone()).collect()
}

fn merge(into: &mut Value, from: Value) {
    if let (Value::Object(into), Value::Object(mut from)) = (into, from) {
        into.append(&mut from);
    }
}

fn all() -> Cases {
    let mut cases = Cases::new();
    for group in [
        publishing::cases(),
        steps::cases(),
        deliveries::cases(),
        retries::cases(),
        keys::cases(),
        limits::cases(),
        admin::cases(),
        looks::cases(),
        requests::cases(),
        refusals::cases(),
        streams::cases(),
    ] {
        cases.extend(group);
    }
    cases
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_promise_holds_over_both_protocols() {
    let stage = Stage::shared().await;
    let broker = stage.broker().args(&["--dev"]).start().await;
    let cases = all();
    assert!(cases.len() >= CASES_MIN, "{} cases", cases.len());
    let wanted = std::env::var("CAMPANILE_CASE").unwrap_or_default();
    let mut failed = Vec::new();
    let mut count = 0;
    for (at, (claim, run)) in cases.iter().enumerate().filter(|(_, (claim, _))| claim.contains(&wanted)) {
        let mut told = Vec::new();
        for peer in [Peer::rest(broker.rest), Peer::grpc(broker.grpc)] {
            let protocol = peer.name();
            let case = Case::new(peer, format!("case-{at}.{}", protocol.to_lowercase()));
            let heard = case.told.clone();
            // A case that panics is one that failed.
            let outcome = LocalSet::new().run_until(async { spawn_local(run(case)).await }).await;
            count += 1;
            match outcome {
                Ok(()) => told.push(heard),
                Err(error) => failed.push(format!("{claim}, over {protocol}: {}", problem_of(error))),
            }
        }
        if let [over_rest, over_grpc] = &told[..]
            && let Some(difference) = over_rest.difference(over_grpc)
        {
            failed.push(format!("{claim}, REST and gRPC differ: {difference}"));
        }
    }
    println!("{count} runs of {} cases", cases.len());
    assert!(failed.is_empty(), "{} of {count} failed:\n{}", failed.len(), failed.join("\n"));
}

fn problem_of(error: tokio::task::JoinError) -> String {
    let panic = error.into_panic();
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap_or_default()
}
