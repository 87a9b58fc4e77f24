//! The engine against a plain model of the semantics: random operations, restarts included, every answer compared.

use std::{collections::BTreeMap, time::Duration};

use proptest::prelude::*;

use super::{AckMode, Bench, Engine, LEASE, Receive, Settled, Settlement, ack_id, texts};
use crate::{
    engine::{
        Browse, Manage, Nack, NackOutcome, PurgeScope, Redrive, StateFilter,
        journal::{Journal as _, MemoryJournal, Position, RecordIter},
        state::State,
    },
    model::{AckId, Draft, Due, Properties},
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
    Keyed { topic: usize, key: usize },
    Nack { lease: prop::sample::Index, outcome: NackOutcome, seconds: u64 },
    Extend { lease: prop::sample::Index, seconds: u64 },
    Redrive { queue: usize },
    Purge { queue: usize, scope: PurgeScope },
    Delete { queue: usize, message: prop::sample::Index },
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
        3 => (0..2_usize, 0..2_usize).prop_map(|(topic, key)| Op::Keyed { topic, key }),
        3 => (any::<prop::sample::Index>(), an_outcome(), 0..40_u64)
            .prop_map(|(lease, outcome, seconds)| Op::Nack { lease, outcome, seconds }),
        1 => (any::<prop::sample::Index>(), 1..60_u64).prop_map(|(lease, seconds)| Op::Extend { lease, seconds }),
        1 => (0..6_usize).prop_map(|queue| Op::Redrive { queue }),
        1 => (0..6_usize, any::<[bool; 3]>()).prop_map(|(queue, [ready, leased, dead])| {
            Op::Purge { queue, scope: PurgeScope { ready, leased, dead } }
        }),
        1 => (0..6_usize, any::<prop::sample::Index>()).prop_map(|(queue, message)| Op::Delete { queue, message }),
        2 => (1..30_u64).prop_map(|seconds| Op::Advance { seconds }),
        1 => Just(Op::Restart),
    ]
}

fn an_outcome() -> impl Strategy<Value = NackOutcome> {
    prop_oneof![Just(NackOutcome::Release), Just(NackOutcome::Retry), Just(NackOutcome::DeadLetter)]
}

/// A message as one queue sees it.
#[derive(Debug, Clone)]
struct Item {
    number: usize,
    key: Option<usize>,
    expires: Option<u64>,
    attempts: u32,
    /// Which lease it is, or was.
    leases: u32,
    held_until: Option<u64>,
    retry_at: u64,
    is_dead: bool,
}

/// After how many deliveries that failed a message is dead, unless a policy says something else.
const ATTEMPTS_MAX: u32 = 5;

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
    fn publish(&mut self, topic: usize, text: usize, key: Option<usize>, expires: Option<u64>) {
        let number = self.visible;
        let fresh =
            Item { number, key, expires, attempts: 0, leases: 0, held_until: None, retry_at: 0, is_dead: false };
        let item = fresh;
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
            let mut wanted: Vec<Item> = wanted.filter(|item| !item.is_dead).cloned().collect();
            wanted.sort_by_key(|item| item.number);
            wanted.dedup_by_key(|item| item.number);
            let fresh = |item| Item { attempts: 0, leases: 0, held_until: None, retry_at: 0, ..item };
            items.extend(wanted.into_iter().map(fresh));
        }
        self.queues.insert((topic, service), items);
    }

    /// Lets go of what has expired and would be looked at.
    fn drop_expired(&mut self, queue: (usize, Option<usize>)) {
        let now = self.now;
        let items = self.queues.get_mut(&queue).expect("declared");
        items.retain(|item| item.held_until.is_some() || item.is_dead || item.expires.is_none_or(|at| at > now));
    }

    /// The numbers of messages that can be handed out, in order. Under leases there is one of each key at most.
    fn ready(&self, queue: (usize, Option<usize>)) -> Vec<usize> {
        let items = &self.queues[&queue];
        let comes_first =
            |item: &Item, other: &Item| other.number < item.number && other.key == item.key && !other.is_dead;
        let is_ready = |item: &&Item| {
            let is_kept_back = item.key.is_some()
                && items
                    .iter()
                    .any(|other| comes_first(item, other) || other.key == item.key && other.held_until.is_some());
            item.held_until.is_none() && !item.is_dead && item.retry_at <= self.now && !is_kept_back
        };
        items.iter().filter(is_ready).map(|item| item.number).collect()
    }

    /// Hands out messages that are acked at once: those of a key, too, one after the other.
    fn pop(&mut self, queue: (usize, Option<usize>), max: usize) -> Vec<usize> {
        self.declare(queue.0, queue.1);
        let mut taken = Vec::new();
        while taken.len() < max {
            self.drop_expired(queue);
            let Some(number) = self.ready(queue).first().copied() else { break };
            self.queues.get_mut(&queue).expect("declared").retain(|item| item.number != number);
            taken.push(number);
        }
        taken
    }

    fn held(&mut self, queue: (usize, Option<usize>), number: usize, lease: u32) -> Option<&mut Item> {
        let items = self.queues.get_mut(&queue).expect("declared");
        items.iter_mut().find(|item| item.number == number && item.leases == lease && item.held_until.is_some())
    }

    fn ack(&mut self, queue: (usize, Option<usize>), number: usize, lease: u32) -> bool {
        let is_held = self.held(queue, number, lease).is_some();
        if is_held {
            self.queues.get_mut(&queue).expect("declared").retain(|item| item.number != number);
        }
        is_held
    }

    fn nack(
        &mut self,
        queue: (usize, Option<usize>),
        number: usize,
        lease: u32,
        outcome: NackOutcome,
        seconds: u64,
    ) -> bool {
        let now = self.now;
        let Some(item) = self.held(queue, number, lease) else { return false };
        item.held_until = None;
        match outcome {
            NackOutcome::Release => item.attempts -= 1,
            NackOutcome::Retry if item.attempts >= ATTEMPTS_MAX => item.is_dead = true,
            NackOutcome::Retry => item.retry_at = now + seconds,
            NackOutcome::DeadLetter => item.is_dead = true,
        }
        true
    }

    fn advance(&mut self, seconds: u64) {
        self.now += seconds;
        let now = self.now;
        for item in self.queues.values_mut().flatten().filter(|item| item.held_until.is_some_and(|until| until <= now))
        {
            item.held_until = None;
            item.is_dead = item.attempts >= ATTEMPTS_MAX;
        }
        let mut due: Vec<_> = self.delayed.iter().copied().filter(|(at, ..)| *at <= now).collect();
        self.delayed.retain(|(at, ..)| *at > now);
        due.sort_unstable();
        for (_, _, topic, text) in due {
            self.publish(topic, text, None, None);
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

/// A delivery under a lease: from which queue, which message, which lease.
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
    model.declare(queue.0, queue.1);
    model.drop_expired(queue);
    let ready = model.ready(queue);
    let numbers: Vec<_> = ready.iter().map(|number| model.texts[*number].to_string()).collect();
    let Some(delivery) = got.first() else {
        prop_assert!(ready.is_empty(), "nothing from {}, but there are {numbers:?}", queue_name(queue));
        return Ok(());
    };
    let text = texts(&got).remove(0);
    let at = numbers.iter().position(|number| *number == text);
    prop_assert!(at.is_some(), "{text} from {}, but ready are {numbers:?}", queue_name(queue));
    let number = ready[at.unwrap_or_default()];
    let until = model.now + LEASE.as_secs();
    let items = model.queues.get_mut(&queue).expect("declared");
    if items.iter().all(|item| item.key.is_none()) {
        prop_assert_eq!(at, Some(0), "out of order from {}", queue_name(queue));
    }
    let item = items.iter_mut().find(|item| item.number == number).expect("there");
    item.attempts += 1;
    item.leases += 1;
    item.held_until = Some(until);
    prop_assert_eq!(delivery.attempt.0, item.attempts, "attempt of {}", text);
    leases.push((queue, number, item.leases, ack_id(delivery)));
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
            max_bytes: usize::MAX,
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
                    model.publish(topic, published, None, None);
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
                model.publish(topic, published, None, Some(model.now + seconds));
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
                    model.publish(topic, text, None, None);
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
                let expected = model.pop(queue, max);
                let expected: Vec<_> = expected.iter().map(|n| model.texts[*n].to_string()).collect();
                prop_assert_eq!(got, expected, "pop from {}", queue_name(queue));
            }
            Op::Lease { queue: index } => lease(&bench, &mut model, queue(index), &mut leases).await?,
            Op::Ack { lease } => {
                if leases.is_empty() {
                    continue;
                }
                let (queue, number, lease, id) = leases[lease.index(leases.len())];
                let got = bench.ack(&queue_name(queue), id).await;
                let expected = if model.ack(queue, number, lease) { Settled::Done } else { Settled::Stale };
                prop_assert_eq!(got, expected);
            }
            Op::Keyed { topic, key } => {
                let properties = Properties { ordering_key: Some(key.to_string()), ..Properties::default() };
                let keyed = Draft { properties, ..super::draft(&published.to_string()) };
                bench.publish_one(&format!("t{topic}"), keyed).await.expect("stored");
                model.publish(topic, published, Some(key), None);
                published += 1;
            }
            Op::Nack { lease, outcome, seconds } => {
                if leases.is_empty() {
                    continue;
                }
                let (queue, number, lease, id) = leases[lease.index(leases.len())];
                let nack = Nack { outcome, delay: Some(Duration::from_secs(seconds)), reason: String::new() };
                let got = bench.engine().settle_each(None, vec![(Some(id), Settlement::Nack(nack))]).await;
                let is_held = model.nack(queue, number, lease, outcome, seconds);
                prop_assert_eq!(got, Ok(vec![if is_held { Settled::Done } else { Settled::Stale }]));
            }
            Op::Extend { lease, seconds } => {
                if leases.is_empty() {
                    continue;
                }
                let (queue, number, lease, id) = leases[lease.index(leases.len())];
                let extend = Settlement::Extend(Duration::from_secs(seconds));
                let got = bench.engine().settle_each(None, vec![(Some(id), extend)]).await;
                let until = model.now + seconds;
                let held = model.held(queue, number, lease).map(|item| item.held_until = Some(until));
                prop_assert_eq!(got, Ok(vec![if held.is_some() { Settled::Done } else { Settled::Stale }]));
            }
            Op::Redrive { queue: index } => {
                let queue = queue(index);
                let redrive =
                    Manage::Redrive { queue: super::name(&queue_name(queue)), which: Redrive::Oldest(2), pace: None };
                let Some(items) = model.queues.get_mut(&queue) else { continue };
                let redriven = items.iter_mut().filter(|item| item.is_dead).take(2);
                let count = redriven.map(|item| (item.attempts, item.retry_at, item.is_dead) = (0, 0, false)).count();
                let managed = bench.engine().manage(redrive).await.expect("done");
                prop_assert_eq!(managed.messages, count as u64);
            }
            Op::Purge { queue: index, scope } => {
                let queue = queue(index);
                let Some(items) = model.queues.get_mut(&queue) else { continue };
                items.retain(|item| match (item.is_dead, item.held_until) {
                    (true, _) => !scope.dead,
                    (false, Some(_)) => !scope.leased,
                    (false, None) => !scope.ready,
                });
                let purge = Manage::Purge { queue: super::name(&queue_name(queue)), scope };
                bench.engine().manage(purge).await.expect("done");
            }
            Op::Delete { queue: index, message } => {
                let queue = queue(index);
                let state = StateFilter::Ready;
                let browse = Browse { queue: super::name(&queue_name(queue)), state, after: None, max: 100 };
                let Some(items) = model.queues.get_mut(&queue) else { continue };
                let page = bench.engine().browse(browse).await.expect("browsed");
                if page.messages.is_empty() {
                    continue;
                }
                let browsed = &page.messages[message.index(page.messages.len())];
                let text = String::from_utf8_lossy(&browsed.message.as_ref().expect("whole").payload).into_owned();
                let texts = &model.texts;
                items
                    .retain(|item| item.held_until.is_some() || item.is_dead || texts[item.number].to_string() != text);
                let delete = Manage::DeleteMessage { queue: super::name(&queue_name(queue)), seq: browsed.seq };
                prop_assert_eq!(bench.engine().manage(delete).await.map(|managed| managed.messages), Ok(1));
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
