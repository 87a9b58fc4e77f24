//! The engine against a plain model of the semantics: random operations, restarts included, every answer compared.

use std::{collections::BTreeMap, time::Duration};

use proptest::prelude::*;

use super::{AckMode, Bench, Engine, LEASE, Receive, Settled, ack_id, texts};
use crate::{
    engine::{
        journal::{Journal as _, MemoryJournal, Position, RecordIter},
        state::State,
    },
    model::{AckId, Draft, Due},
};

/// One thing a client, an operator or time does.
#[derive(Debug, Clone)]
enum Op {
    Publish { topic: usize, count: usize },
    Delay { topic: usize, seconds: u64 },
    Expiring { topic: usize, seconds: u64 },
    Once { topic: usize, id: usize },
    Register { service: usize, topic: usize },
    Pop { queue: usize, max: usize },
    Lease { queue: usize },
    Ack { lease: prop::sample::Index },
    Advance { seconds: u64 },
    Restart,
}

fn an_op() -> impl Strategy<Value = Op> {
    prop_oneof![
        4 => (0..2_usize, 1..4_usize).prop_map(|(topic, count)| Op::Publish { topic, count }),
        1 => (0..2_usize, 1..40_u64).prop_map(|(topic, seconds)| Op::Delay { topic, seconds }),
        1 => (0..2_usize, 1..40_u64).prop_map(|(topic, seconds)| Op::Expiring { topic, seconds }),
        1 => (0..2_usize, 0..3_usize).prop_map(|(topic, id)| Op::Once { topic, id }),
        1 => (0..2_usize, 0..2_usize).prop_map(|(service, topic)| Op::Register { service, topic }),
        3 => (0..6_usize, 1..4_usize).prop_map(|(queue, max)| Op::Pop { queue, max }),
        3 => (0..6_usize).prop_map(|queue| Op::Lease { queue }),
        3 => any::<prop::sample::Index>().prop_map(|lease| Op::Ack { lease }),
        2 => (1..30_u64).prop_map(|seconds| Op::Advance { seconds }),
        1 => Just(Op::Restart),
    ]
}

/// A message as one queue sees it.
#[derive(Debug, Clone)]
struct Item {
    number: usize,
    expires: Option<u64>,
    attempts: u32,
    held_until: Option<u64>,
}

/// The semantics, told with lists.
#[derive(Debug, Default)]
struct Model {
    now: u64,
    /// Messages visible so far; the number of a message is its text.
    visible: usize,
    queues: BTreeMap<(usize, Option<usize>), Vec<Item>>,
    /// Of topics without a queue.
    kept: BTreeMap<usize, Vec<Item>>,
    /// Due, order of publishing, topic, text.
    delayed: Vec<(u64, usize, usize, usize)>,
    texts: Vec<usize>,
    /// Until when a dedup id of a topic is remembered.
    once: BTreeMap<(usize, usize), u64>,
}

impl Model {
    fn publish(&mut self, topic: usize, text: usize, expires: Option<u64>) {
        let item = Item { number: self.visible, expires, attempts: 0, held_until: None };
        self.visible += 1;
        self.texts.push(text);
        let mut has_queue = false;
        for ((of, _), items) in &mut self.queues {
            if *of == topic {
                items.push(item.clone());
                has_queue = true;
            }
        }
        if !has_queue {
            self.kept.entry(topic).or_default().push(item);
        }
    }

    fn declare(&mut self, topic: usize, service: Option<usize>) {
        if self.queues.contains_key(&(topic, service)) {
            return;
        }
        let mut items = self.kept.remove(&topic).unwrap_or_default();
        if service.is_none() {
            // The topic's own queue begins with the earliest message that some queue still wants.
            let wanted = self.queues.iter().filter(|((of, _), _)| *of == topic).flat_map(|(_, items)| items.iter());
            let mut wanted: Vec<Item> = wanted.cloned().collect();
            wanted.sort_by_key(|item| item.number);
            wanted.dedup_by_key(|item| item.number);
            items.extend(wanted.into_iter().map(|item| Item { attempts: 0, held_until: None, ..item }));
        }
        self.queues.insert((topic, service), items);
    }

    fn take(&mut self, queue: (usize, Option<usize>), max: usize, lease: Option<u64>) -> Vec<(usize, u32)> {
        self.declare(queue.0, queue.1);
        let now = self.now;
        let items = self.queues.get_mut(&queue).expect("declared");
        let mut taken = Vec::new();
        items.retain_mut(|item| {
            if taken.len() == max || item.held_until.is_some() {
                return true;
            }
            if item.expires.is_some_and(|at| at <= now) {
                return false;
            }
            item.attempts += 1;
            item.held_until = lease;
            taken.push((item.number, item.attempts));
            lease.is_some()
        });
        taken
    }

    fn ack(&mut self, queue: (usize, Option<usize>), number: usize, attempt: u32) -> bool {
        let items = self.queues.get_mut(&queue).expect("declared");
        let before = items.len();
        items.retain(|i| !(i.number == number && i.attempts == attempt && i.held_until.is_some()));
        items.len() < before
    }

    fn advance(&mut self, seconds: u64) {
        self.now += seconds;
        let now = self.now;
        for item in self.queues.values_mut().flatten() {
            item.held_until = item.held_until.filter(|until| *until > now);
        }
        let mut due: Vec<_> = self.delayed.iter().copied().filter(|(at, ..)| *at <= now).collect();
        self.delayed.retain(|(at, ..)| *at > now);
        due.sort_unstable();
        for (_, _, topic, text) in due {
            self.publish(topic, text, None);
        }
    }
}

/// Topics `t0`, `t1`; of each its own queue and those of two services.
fn queue(index: usize) -> (usize, Option<usize>) {
    (index % 2, [None, Some(0), Some(1)][index / 2])
}

fn queue_name((topic, service): (usize, Option<usize>)) -> String {
    service.map_or(format!("t{topic}"), |service| format!("t{topic}.s{service}"))
}

/// A delivery under a lease: from which queue, which message, which attempt.
type Leased = ((usize, Option<usize>), usize, u32, AckId);

/// Leases one message, and compares.
async fn lease(
    bench: &Bench,
    model: &mut Model,
    queue: (usize, Option<usize>),
    leases: &mut Vec<Leased>,
) -> Result<(), TestCaseError> {
    if queue.1.is_some() && !model.queues.contains_key(&queue) {
        return Ok(());
    }
    let got = bench.receive(&queue_name(queue), 1, Duration::ZERO, AckMode::Lease(LEASE)).await;
    let expected = model.take(queue, 1, Some(model.now + LEASE.as_secs()));
    let pairs: Vec<_> = expected.iter().map(|(n, a)| (model.texts[*n].to_string(), *a)).collect();
    let shown: Vec<_> = texts(&got).into_iter().zip(got.iter().map(|d| d.attempt.0)).collect();
    prop_assert_eq!(shown, pairs, "lease from {}", queue_name(queue));
    for (delivery, (number, attempt)) in got.iter().zip(expected) {
        leases.push((queue, number, attempt, ack_id(delivery)));
    }
    Ok(())
}

/// The digest of what the frames of a journal amount to when another engine applies them.
fn applied_elsewhere(journal: &MemoryJournal) -> u64 {
    let mut state = State::default();
    let read = journal.clone().read(Position::START, &mut |_, records| {
        for record in RecordIter::new(records) {
            let (time, record) = record.expect("whole");
            state.apply(time, record).expect("fits");
        }
        Ok(())
    });
    read.expect("readable");
    state.digest()
}

/// All that every queue delivers, in order, once all leases have ended.
async fn delivered(engine: &Engine) -> Vec<(String, Vec<(String, u32)>)> {
    engine.advance_clock(Duration::from_secs(1000));
    let mut all = Vec::new();
    for index in 0..6 {
        let queue = queue_name(queue(index));
        let receive = Receive {
            queue: super::name(&queue),
            service: None,
            max_messages: 999,
            wait: Duration::ZERO,
            mode: AckMode::AtOnce,
        };
        let got = engine.receive(receive).await.expect("received");
        all.push((queue, texts(&got).into_iter().zip(got.iter().map(|d| d.attempt.0)).collect()));
    }
    all
}

async fn run(mut bench: Bench, ops: Vec<Op>) -> Result<(), TestCaseError> {
    let mut model = Model::default();
    // So small that there are checkpoints.
    bench.options.journal_file_bytes = 32 << 10;
    bench.restart().await;
    let mut leases: Vec<Leased> = Vec::new();
    let mut published = 0;
    for op in ops {
        match op {
            Op::Publish { topic, count } => {
                for _ in 0..count {
                    bench.publish(&format!("t{topic}"), &[&published.to_string()]).await;
                    model.publish(topic, published, None);
                    published += 1;
                }
            }
            Op::Delay { topic, seconds } => {
                let due = Due::After(Duration::from_secs(seconds));
                let draft = Draft { due, ..super::draft(&published.to_string()) };
                bench.publish_one(&format!("t{topic}"), draft).await.expect("stored");
                model.delayed.push((model.now + seconds, published, topic, published));
                published += 1;
            }
            Op::Expiring { topic, seconds } => {
                let draft = Draft { ttl: Some(Duration::from_secs(seconds)), ..super::draft(&published.to_string()) };
                bench.publish_one(&format!("t{topic}"), draft).await.expect("stored");
                model.publish(topic, published, Some(model.now + seconds));
                published += 1;
            }
            Op::Once { topic, id } => {
                // Texts that nobody else has.
                let text = 1_000_000 + id;
                let once = Draft { dedup_id: Some(id.to_string()), ..super::draft(&text.to_string()) };
                let published = bench.publish_one(&format!("t{topic}"), once).await.expect("answered");
                let is_known = model.once.get(&(topic, id)).is_some_and(|until| *until > model.now);
                prop_assert_eq!(published.messages[0].duplicate, is_known);
                if !is_known {
                    model.publish(topic, text, None);
                    model.once.insert((topic, id), model.now + bench.options.dedup_window.as_secs());
                }
            }
            Op::Register { service, topic } => {
                bench.register(&format!("s{service}"), &[&format!("t{topic}")]).await.expect("registered");
                model.declare(topic, Some(service));
            }
            Op::Pop { queue: index, max } => {
                let queue = queue(index);
                if queue.1.is_some() && !model.queues.contains_key(&queue) {
                    continue;
                }
                let got = bench.pop(&queue_name(queue), max).await;
                let expected = model.take(queue, max, None);
                let expected: Vec<_> = expected.iter().map(|(n, _)| model.texts[*n].to_string()).collect();
                prop_assert_eq!(got, expected, "pop from {}", queue_name(queue));
            }
            Op::Lease { queue: index } => lease(&bench, &mut model, queue(index), &mut leases).await?,
            Op::Ack { lease } => {
                if leases.is_empty() {
                    continue;
                }
                let (queue, number, attempt, id) = leases[lease.index(leases.len())];
                let got = bench.ack(&queue_name(queue), id).await;
                let expected = if model.ack(queue, number, attempt) { Settled::Done } else { Settled::Stale };
                prop_assert_eq!(got, expected);
            }
            Op::Advance { seconds } => {
                bench.advance(Duration::from_secs(seconds));
                model.advance(seconds);
            }
            Op::Restart => {
                let before = bench.digest().await;
                bench.restart().await;
                prop_assert_eq!(bench.digest().await, before, "a restart changes the state");
            }
        }
        if let Some(journal) = &bench.memory {
            prop_assert_eq!(bench.digest().await, applied_elsewhere(journal), "another engine comes to another state");
        }
    }
    let Some(journal) = &bench.memory else { return Ok(()) };
    bench.engine.take().expect("open").close().await;
    // Each appends to a journal of its own.
    let mut shown = Vec::new();
    for _ in 0..2 {
        let options = super::Options { clock: bench.options.clock.clone(), ..bench.options.clone() };
        let engine = Engine::over(Box::new(journal.copied()), options).expect("frames that an engine wrote");
        shown.push(delivered(&engine).await);
    }
    prop_assert_eq!(&shown[0], &shown[1], "two engines deliver differently");
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(64) })]

    #[test]
    fn the_engine_does_what_the_model_says(ops in proptest::collection::vec(an_op(), 1..60)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            run(Bench::new(), ops.clone()).await?;
            run(Bench::in_memory(), ops).await
        })?;
    }
}
