//! The engine against a plain model of the semantics: random operations, restarts included, every answer compared.

use std::time::Duration;

use proptest::prelude::*;

use super::{
    AckMode, Bench, Engine, EngineError, LEASE, Receive, Settled, Settlement, ack_id,
    operations::{Op, an_op},
    semantics::{Full, Model, QueueKey, Traits},
    texts,
};
use crate::{
    engine::{
        Browse, Browsed, Manage, MessageState, Nack, PurgeScope, Redrive, StateFilter,
        journal::{Journal as _, MemoryJournal, Position, RecordIter},
        state::State,
    },
    model::{AckId, Draft, Due, Overflow, Properties, QueueLimitsPatch, QueuePolicyPatch, Timestamp},
};

/// Topics `t0`, `t1`; of each its own queue and those of two services.
fn queue(index: usize) -> QueueKey {
    (index % 2, [None, Some(0), Some(1)][index / 2])
}

fn queue_name((topic, service): QueueKey) -> String {
    service.map_or(format!("t{topic}"), |service| format!("t{topic}.s{service}"))
}

/// A delivery under a lease: from which queue, which message, which lease.
type Leased = (QueueKey, usize, u32, AckId);

/// An engine and the model beside it.
struct Pair {
    bench: Bench,
    model: Model,
    leases: Vec<Leased>,
    /// Texts given out so far.
    texts: usize,
    begin: Timestamp,
}

type Outcome = Result<(), TestCaseError>;

impl Pair {
    fn next_text(&mut self) -> usize {
        self.texts += 1;
        self.texts - 1
    }

    async fn publish(&mut self, topic: usize, text: usize, draft: Draft, traits: Traits) -> Outcome {
        let published = self.bench.publish_one(&format!("t{topic}"), draft).await;
        let is_full = matches!(published, Err(EngineError::QueueFull { .. }));
        prop_assert!(published.is_ok() || is_full, "{:?}", published);
        let expected = self.model.publish(topic, text, traits, &[]);
        prop_assert_eq!(is_full, expected == Err(Full), "publish of {} to t{}", text, topic);
        Ok(())
    }

    async fn once(&mut self, topic: usize, id: usize) -> Outcome {
        // Texts that nobody else has.
        let text = 1_000_000 + id;
        let once = Draft { dedup_id: Some(id.to_string()), ..super::draft(&text.to_string()) };
        let is_known = self.model.once.get(&(topic, id)).is_some_and(|until| *until > self.model.now);
        let published = self.bench.publish_one(&format!("t{topic}"), once).await;
        if is_known {
            prop_assert!(published.is_ok_and(|published| published.messages[0].duplicate));
            return Ok(());
        }
        let expected = self.model.publish(topic, text, Traits::default(), &[]);
        let stored = published.map(|published| published.messages[0].duplicate).map_err(|_| Full);
        prop_assert_eq!(stored, expected.map(|()| false));
        if expected.is_ok() {
            self.model.once.insert((topic, id), self.model.now + self.bench.options.dedup_window.as_secs());
        }
        Ok(())
    }

    async fn pop(&mut self, queue: QueueKey, max: usize) -> Outcome {
        if queue.1.is_some() && !self.model.queues.contains_key(&queue) {
            return Ok(());
        }
        let got = self.bench.pop(&queue_name(queue), max).await;
        let expected = self.model.pop(queue, max);
        let expected: Vec<_> = expected.iter().map(|n| self.model.texts[*n].to_string()).collect();
        prop_assert_eq!(got, expected, "pop from {}", queue_name(queue));
        Ok(())
    }

    async fn lease(&mut self, queue: QueueKey) -> Outcome {
        let Self { bench, model, leases, .. } = self;
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
        let items = &mut model.queue(queue).items;
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

    async fn settle(&mut self, lease: prop::sample::Index, settlement: Settlement) -> Outcome {
        if self.leases.is_empty() {
            return Ok(());
        }
        let (queue, number, lease, id) = self.leases[lease.index(self.leases.len())];
        let got = self.bench.engine().settle_each(None, vec![(Some(id), settlement.clone())]).await;
        let is_held = match settlement {
            Settlement::Ack => self.model.ack(queue, number, lease),
            Settlement::Nack(nack) => {
                self.model.nack(queue, number, lease, nack.outcome, nack.delay.map(|delay| delay.as_secs()))
            }
            Settlement::Extend(by) => {
                let until = self.model.now + by.as_secs();
                self.model.held(queue, number, lease).map(|item| item.held_until = Some(until)).is_some()
            }
        };
        prop_assert_eq!(got, Ok(vec![if is_held { Settled::Done } else { Settled::Stale }]));
        Ok(())
    }

    /// Acks two deliveries and publishes a message, or nothing of it.
    async fn settle_all(&mut self, leases: [prop::sample::Index; 2], topic: usize) -> Outcome {
        if self.leases.is_empty() {
            return Ok(());
        }
        let chosen = leases.map(|lease| self.leases[lease.index(self.leases.len())]);
        let text = self.next_text();
        let items = chosen.iter().map(|(.., id)| (Some(*id), Settlement::Ack)).collect();
        let publications = vec![(super::name(&format!("t{topic}")), vec![super::draft(&text.to_string())])];
        let got = self.bench.engine().settle_all(items, publications).await;
        let mut seen = Vec::new();
        let stale = chosen.iter().position(|(queue, number, lease, _)| {
            let is_again = seen.contains(&(*queue, *number));
            seen.push((*queue, *number));
            is_again || self.model.held(*queue, *number, *lease).is_none()
        });
        match stale {
            Some(index) => prop_assert_eq!(got.map(|_| ()), Err(EngineError::StaleAck { index })),
            None => {
                let expected = self.model.publish(topic, text, Traits::default(), &seen);
                prop_assert_eq!(got.map(|_| ()).map_err(|_| Full), expected);
            }
        }
        Ok(())
    }

    async fn browse(&self, queue: &str, state: StateFilter) -> Vec<Browsed> {
        let browse = Browse { queue: super::name(queue), state, after: None, max: 1000 };
        self.bench.engine().browse(browse).await.expect("browsed").messages
    }

    async fn cancel(&mut self, topic: usize, message: prop::sample::Index) -> Outcome {
        // Whichever queue of the topic there is; its own shows what is to come also when there is none.
        let name = self.model.queues.keys().find(|(of, _)| *of == topic).map_or((topic, None), |key| *key);
        if self.model.delayed.iter().all(|(_, _, of, _)| *of != topic) {
            return Ok(());
        }
        let shown = self.browse(&queue_name(name), StateFilter::Delayed).await;
        prop_assert_eq!(shown.len(), self.model.delayed.iter().filter(|(_, _, of, _)| *of == topic).count());
        let browsed = &shown[message.index(shown.len())];
        let text = text_of(browsed);
        self.model.delayed.retain(|(_, of, ..)| of.to_string() != text);
        let cancel = Manage::CancelDelayed { topic: super::name(&format!("t{topic}")), seq: browsed.seq };
        prop_assert_eq!(self.bench.engine().manage(cancel).await.map(|managed| managed.messages), Ok(1));
        Ok(())
    }

    async fn delete(&mut self, queue: QueueKey, message: prop::sample::Index) -> Outcome {
        let shown = self.browse(&queue_name(queue), StateFilter::Ready).await;
        if shown.is_empty() {
            return Ok(());
        }
        let seq = shown[message.index(shown.len())].seq;
        self.model.queue(queue).items.retain(|item| item.seq != seq.0);
        let delete = Manage::DeleteMessage { queue: super::name(&queue_name(queue)), seq };
        prop_assert_eq!(self.bench.engine().manage(delete).await.map(|managed| managed.messages), Ok(1));
        Ok(())
    }

    async fn redrive(&mut self, queue: QueueKey) -> Outcome {
        let redriven = self.model.queue(queue).items.iter_mut().filter(|item| item.is_dead).take(2);
        let count = redriven.map(|item| (item.attempts, item.retry_at, item.is_dead) = (0, 0, false)).count();
        let (name, which) = (super::name(&queue_name(queue)), Redrive::Oldest(2));
        let managed = self.bench.engine().manage(Manage::Redrive { queue: name, which, pace: None }).await;
        prop_assert_eq!(managed.map(|managed| managed.messages), Ok(count as u64));
        Ok(())
    }

    async fn purge(&mut self, queue: QueueKey, scope: PurgeScope) {
        self.model.queue(queue).items.retain(|item| match (item.is_dead, item.held_until) {
            (true, _) => !scope.dead,
            (false, Some(_)) => !scope.leased,
            (false, None) => !scope.ready,
        });
        self.manage(Manage::Purge { queue: super::name(&queue_name(queue)), scope }).await;
    }

    async fn pause(&mut self, queue: QueueKey, is_paused: bool) {
        self.model.queue(queue).is_paused = is_paused;
        let queue = super::name(&queue_name(queue));
        self.manage(if is_paused { Manage::Pause { queue } } else { Manage::Resume { queue } }).await;
    }

    async fn set(&self, queue: QueueKey, policy: QueuePolicyPatch) {
        self.manage(Manage::SetQueuePolicy { queue: super::name(&queue_name(queue)), policy }).await;
    }

    async fn limit(&mut self, queue: QueueKey, messages: usize, drops_oldest: bool) {
        self.model.queue(queue).limit = Some((messages, drops_oldest));
        self.model.make_room(queue.0);
        let overflow = if drops_oldest { Overflow::DropOldest } else { Overflow::Reject };
        let messages_max = Some(Some(messages as u64));
        let limits = QueueLimitsPatch { messages_max, overflow: Some(Some(overflow)), ..QueueLimitsPatch::default() };
        self.set(queue, QueuePolicyPatch { limits, ..QueuePolicyPatch::default() }).await;
    }

    async fn age(&mut self, queue: QueueKey, seconds: u64) {
        // Once: what is over its time now would come back with a longer one if nobody has come across it.
        if self.model.queue(queue).age_max.is_some() {
            return;
        }
        self.model.queue(queue).age_max = Some(seconds);
        let age_max = Some(Some(Duration::from_secs(seconds)));
        let limits = QueueLimitsPatch { age_max, ..QueueLimitsPatch::default() };
        self.set(queue, QueuePolicyPatch { limits, ..QueuePolicyPatch::default() }).await;
    }

    async fn backoff(&mut self, queue: QueueKey, shortest: u64, longest: u64) {
        self.model.queue(queue).backoff = (shortest, longest);
        let [minimum_backoff, maximum_backoff] = [shortest, longest].map(|seconds| Some(Duration::from_secs(seconds)));
        self.set(queue, QueuePolicyPatch { minimum_backoff, maximum_backoff, ..QueuePolicyPatch::default() }).await;
    }

    async fn manage(&self, manage: Manage) {
        self.bench.engine().manage(manage).await.expect("done");
    }

    /// Asks when the messages are retried for which the engine has drawn lots: within what the policy says.
    async fn learn(&mut self) -> Outcome {
        for drawn in std::mem::take(&mut self.model.drawn) {
            let shown = self.browse(&queue_name(drawn.queue), StateFilter::Ready).await;
            let Some(browsed) = shown.iter().find(|browsed| browsed.seq.0 == drawn.seq) else {
                // It made room in the meantime.
                let is_gone = !self.model.queue(drawn.queue).items.iter().any(|item| item.number == drawn.number);
                prop_assert!(is_gone, "{drawn:?} is not shown");
                continue;
            };
            let MessageState::Retrying { retry_at, .. } = browsed.state else {
                return Err(TestCaseError::fail(format!("{drawn:?} is {:?}", browsed.state)));
            };
            let after = retry_at.since(self.begin.after(Duration::from_secs(self.model.now)));
            let most = Duration::from_secs(drawn.backoff);
            prop_assert!(most / 2 <= after && after <= most, "{after:?} of {most:?}");
            // The clock moves by whole seconds.
            let retry_at = retry_at.since(self.begin).as_millis().div_ceil(1000) as u64;
            let mut items = self.model.queue(drawn.queue).items.iter_mut();
            items.find(|item| item.number == drawn.number).expect("it waits").retry_at = retry_at;
        }
        Ok(())
    }

    async fn restart(&mut self) -> Outcome {
        let before = self.bench.digest().await;
        self.bench.restart().await;
        prop_assert_eq!(self.bench.digest().await, before, "a restart changes the state");
        Ok(())
    }

    async fn carry_out(&mut self, op: Op) -> Outcome {
        let there = |model: &Model, index: usize| Some(queue(index)).filter(|key| model.queues.contains_key(key));
        // Those of the second topic have limits, those of the first one messages that expire.
        let (limited, aging) = (|index: usize| 2 * index + 1, |index: usize| 2 * index);
        match op {
            Op::Publish { topic, count } => {
                for _ in 0..count {
                    let text = self.next_text();
                    self.publish(topic, text, super::draft(&text.to_string()), Traits::default()).await?;
                }
            }
            Op::Keyed { topic, key } => {
                let text = self.next_text();
                let properties = Properties { ordering_key: Some(key.to_string()), ..Properties::default() };
                let keyed = Draft { properties, ..super::draft(&text.to_string()) };
                self.publish(topic, text, keyed, Traits { key: Some(key), ..Traits::default() }).await?;
            }
            Op::Expiring { seconds } => {
                let text = self.next_text();
                let draft = Draft { ttl: Some(Duration::from_secs(seconds)), ..super::draft(&text.to_string()) };
                self.publish(0, text, draft, Traits { ttl: Some(seconds), ..Traits::default() }).await?;
            }
            Op::Delay { topic, seconds } => {
                let text = self.next_text();
                let due = Due::After(Duration::from_secs(seconds));
                let draft = Draft { due, ..super::draft(&text.to_string()) };
                self.bench.publish_one(&format!("t{topic}"), draft).await.expect("stored");
                self.model.delayed.push((self.model.now + seconds, text, topic, self.model.now));
            }
            Op::Cancel { topic, message } => self.cancel(topic, message).await?,
            Op::Once { topic, id } => self.once(topic, id).await?,
            Op::Register { service, topic } => {
                self.bench.register(&format!("s{service}"), &[&format!("t{topic}")]).await.expect("registered");
                self.model.declare(topic, Some(service));
            }
            Op::Pop { queue: index, max } => self.pop(queue(index), max).await?,
            Op::Lease { queue: index } => self.lease(queue(index)).await?,
            Op::Ack { lease } => self.settle(lease, Settlement::Ack).await?,
            Op::Nack { lease, outcome, seconds } => {
                let nack = Nack { outcome, delay: seconds.map(Duration::from_secs), reason: String::new() };
                self.settle(lease, Settlement::Nack(nack)).await?;
            }
            Op::Extend { lease, seconds } => {
                self.settle(lease, Settlement::Extend(Duration::from_secs(seconds))).await?;
            }
            Op::SettleAll { leases, topic } => self.settle_all(leases, topic).await?,
            Op::Redrive { queue } => {
                if let Some(queue) = there(&self.model, queue) {
                    self.redrive(queue).await?;
                }
            }
            Op::Delete { queue, message } => {
                if let Some(queue) = there(&self.model, queue) {
                    self.delete(queue, message).await?;
                }
            }
            Op::Purge { queue, scope } => {
                if let Some(queue) = there(&self.model, queue) {
                    self.purge(queue, scope).await;
                }
            }
            Op::Pause { queue, is_paused } => {
                if let Some(queue) = there(&self.model, queue) {
                    self.pause(queue, is_paused).await;
                }
            }
            Op::Limit { queue, messages, drops_oldest } => {
                if let Some(queue) = there(&self.model, limited(queue)) {
                    self.limit(queue, messages, drops_oldest).await;
                }
            }
            Op::Age { queue, seconds } => {
                if let Some(queue) = there(&self.model, aging(queue)) {
                    self.age(queue, seconds).await;
                }
            }
            Op::Backoff { queue, shortest, longest } => {
                if let Some(queue) = there(&self.model, queue) {
                    self.backoff(queue, shortest, longest).await;
                }
            }
            Op::Advance { seconds } => {
                self.bench.advance(Duration::from_secs(seconds));
                self.model.advance(seconds);
            }
            Op::Restart => self.restart().await?,
        }
        self.learn().await
    }
}

fn text_of(browsed: &Browsed) -> String {
    String::from_utf8_lossy(&browsed.message.as_ref().expect("whole").payload).into_owned()
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

async fn run(mut bench: Bench, ops: Vec<Op>) -> Outcome {
    // So small that there are checkpoints.
    bench.options.journal_file_bytes = 32 << 10;
    bench.restart().await;
    let begin = bench.options.clock.now();
    let mut pair = Pair { bench, model: Model::default(), leases: Vec::new(), texts: 0, begin };
    for op in ops {
        pair.carry_out(op).await?;
        if let Some(journal) = &pair.bench.memory {
            let digest = pair.bench.digest().await;
            prop_assert_eq!(digest, applied_elsewhere(journal), "another engine comes to another state");
        }
    }
    let mut bench = pair.bench;
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
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(96) })]

    #[test]
    fn the_engine_does_what_the_model_says(ops in proptest::collection::vec(an_op(), 1..90)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            run(Bench::new(), ops.clone()).await?;
            run(Bench::in_memory(), ops).await
        })?;
    }
}
