//! A stream of deliveries to one consumer, bounded by its credit.
//!
//! ```text
//!             next ──► engine.receive(as much as there is credit)
//!   consumer ◄── deliveries ── + outstanding
//!   settle, extend, deadline ── − outstanding ──► next goes on
//! ```
//!
//! Not here: how deliveries and settlements travel. Invariant: nothing is handed out to a consumer who holds as much as its
//! credit allows; and when the feed is dropped, whatever it holds goes back to the queue at once, as if it had not been
//! delivered.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use tokio::sync::{Notify, watch};

use super::{BrokerError, Credit, Limits, consumers::Presence};
use crate::{
    engine::{AckMode, Engine, Receive as EngineReceive},
    model::{AckId, Delivery, Name, Timestamp},
};

/// How long one look at the queue waits; then the next one does.
const WAIT: Duration = Duration::from_secs(60);

/// Deliveries to one consumer.
#[derive(Debug)]
pub struct Feed {
    engine: Engine,
    queue: Name,
    service: Option<Name>,
    mode: AckMode,
    max_bytes: usize,
    standing: Arc<Standing>,
    draining: watch::Receiver<bool>,
    _presence: Presence,
}

/// What a consumer holds, and how much it may hold. Shared by those who hand out and those who settle.
#[derive(Debug)]
pub struct Standing {
    held: Mutex<Holding>,
    changed: Notify,
    owners: Owners,
}

#[derive(Debug)]
struct Holding {
    credit: Credit,
    leases: HashMap<AckId, Held>,
    bytes: u64,
}

#[derive(Debug, Clone, Copy)]
struct Held {
    bytes: u64,
    deadline: Timestamp,
}

/// Which feed holds a lease, so that a settlement gives credit back wherever it comes in. Clones share it.
#[derive(Debug, Clone, Default)]
pub(super) struct Owners(Arc<Mutex<HashMap<AckId, Weak<Standing>>>>);

/// How a feed is set up.
#[derive(Debug)]
pub(super) struct Setup {
    pub(super) engine: Engine,
    pub(super) queue: Name,
    pub(super) service: Option<Name>,
    pub(super) mode: AckMode,
    pub(super) max_bytes: usize,
    pub(super) draining: watch::Receiver<bool>,
}

impl Feed {
    pub(super) fn new(setup: Setup, standing: Arc<Standing>, presence: Presence) -> Self {
        let Setup { engine, queue, service, mode, max_bytes, draining } = setup;
        Self { engine, queue, service, mode, max_bytes, standing, draining, _presence: presence }
    }

    /// What the consumer holds, to be told of settlements and of other credit.
    #[must_use]
    pub fn standing(&self) -> Arc<Standing> {
        Arc::clone(&self.standing)
    }

    /// The next messages, as soon as there are some and credit for them; never none.
    ///
    /// # Errors
    /// [`BrokerError`]; [`BrokerError::Draining`] when the broker shuts down.
    ///
    /// # Cancel safety
    /// Nothing is lost: what was handed out for it goes back to the queue.
    pub async fn next(&mut self) -> Result<Vec<Delivery>, BrokerError> {
        loop {
            let Some((messages, bytes)) = self.credit_left() else {
                self.await_credit().await?;
                continue;
            };
            let receive = EngineReceive {
                queue: self.queue.clone(),
                service: self.service.clone(),
                max_messages: usize::try_from(messages).unwrap_or(usize::MAX).min(Limits::BATCH_MAX),
                max_bytes: usize::try_from(bytes).unwrap_or(usize::MAX).min(self.max_bytes),
                wait: WAIT,
                mode: self.mode,
            };
            // Less credit is heeded at once; more of it when the look at the queue ends.
            let deliveries = tokio::select! {
                deliveries = self.engine.receive(receive) => deliveries?,
                () = self.standing.until_less_than(messages, bytes) => continue,
                () = drained(&mut self.draining) => return Err(BrokerError::Draining),
            };
            if !deliveries.is_empty() {
                self.standing.take(&deliveries);
                return Ok(deliveries);
            }
            if *self.draining.borrow() {
                return Err(BrokerError::Draining);
            }
        }
    }

    fn credit_left(&self) -> Option<(u64, u64)> {
        let now = self.engine.clock().now();
        self.standing.credit_left(now)
    }

    /// Waits until something is settled, more may be held, or a lease has ended.
    async fn await_credit(&mut self) -> Result<(), BrokerError> {
        let clock = self.engine.clock();
        let mut moves = clock.moves();
        let changed = self.standing.changed.notified();
        tokio::pin!(changed);
        changed.as_mut().enable();
        let now = clock.now();
        if self.standing.credit_left(now).is_some() {
            return Ok(());
        }
        let until_deadline = self.standing.next_deadline().map_or(WAIT, |at| at.since(now));
        tokio::select! {
            () = changed => {}
            () = tokio::time::sleep(until_deadline) => {}
            _ = moves.changed() => {}
            () = drained(&mut self.draining) => return Err(BrokerError::Draining),
        }
        Ok(())
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        self.engine.give_back(self.standing.let_go());
    }
}

async fn drained(draining: &mut watch::Receiver<bool>) {
    if draining.wait_for(|draining| *draining).await.is_err() {
        // The broker is gone: whoever asks the engine is told.
        std::future::pending::<()>().await;
    }
}

impl Standing {
    pub(super) fn new(credit: Credit, owners: Owners) -> Arc<Self> {
        let holding = Holding { credit, leases: HashMap::new(), bytes: 0 };
        Arc::new(Self { held: Mutex::new(holding), changed: Notify::new(), owners })
    }

    /// From here on so much may be held.
    ///
    /// # Errors
    /// [`BrokerError::InvalidArgument`]: it is out of bounds.
    pub fn set_credit(&self, credit: Credit) -> Result<(), BrokerError> {
        Limits::check_credit(credit)?;
        self.lock().credit = credit;
        self.changed.notify_waiters();
        Ok(())
    }

    /// Messages that are held, and their bytes.
    #[must_use]
    pub fn outstanding(&self) -> (u64, u64) {
        let holding = self.lock();
        (holding.leases.len() as u64, holding.bytes)
    }

    /// Whether more may be handed out.
    #[must_use]
    pub fn has_credit(&self) -> bool {
        self.lock().left().is_some()
    }

    /// A delivery is settled, or its lease has ended.
    fn is_settled(&self, id: AckId) {
        self.lock().remove(id);
        self.changed.notify_waiters();
    }

    fn is_extended(&self, id: AckId, deadline: Timestamp) {
        if let Some(held) = self.lock().leases.get_mut(&id) {
            held.deadline = deadline;
        }
        // It may end sooner than before.
        self.changed.notify_waiters();
    }

    fn take(self: &Arc<Self>, deliveries: &[Delivery]) {
        let mut holding = self.lock();
        let mut owners = self.owners.lock();
        for delivery in deliveries {
            let Some(lease) = &delivery.lease else { continue };
            let held = Held { bytes: delivery.message.bytes() as u64, deadline: lease.ack_deadline };
            holding.bytes += held.bytes;
            holding.leases.insert(lease.ack_id, held);
            owners.insert(lease.ack_id, Arc::downgrade(self));
        }
    }

    /// What may be handed out: messages and bytes, both more than none. Leases that have ended are held no more.
    fn credit_left(&self, now: Timestamp) -> Option<(u64, u64)> {
        let mut holding = self.lock();
        if let Some(left) = holding.left() {
            return Some(left);
        }
        let ended: Vec<_> = holding.leases.iter().filter(|(_, held)| held.deadline <= now).map(|(id, _)| *id).collect();
        ended.iter().for_each(|id| holding.remove(*id));
        let left = holding.left();
        drop(holding);
        self.owners.forget(ended);
        left
    }

    fn next_deadline(&self) -> Option<Timestamp> {
        self.lock().leases.values().map(|held| held.deadline).min()
    }

    async fn until_less_than(&self, messages: u64, bytes: u64) {
        loop {
            let changed = self.changed.notified();
            let is_less = self.lock().left().is_none_or(|(m, b)| m < messages || b < bytes);
            if is_less {
                return;
            }
            changed.await;
        }
    }

    /// Everything that is held; nothing any more.
    fn let_go(&self) -> Vec<AckId> {
        let mut holding = self.lock();
        holding.bytes = 0;
        let held: Vec<_> = holding.leases.drain().map(|(id, _)| id).collect();
        drop(holding);
        self.owners.forget(held.iter().copied());
        held
    }

    fn lock(&self) -> MutexGuard<'_, Holding> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Holding {
    fn left(&self) -> Option<(u64, u64)> {
        let messages = self.credit.messages_max.saturating_sub(self.leases.len() as u64);
        let bytes = self.credit.bytes_max.saturating_sub(self.bytes);
        (messages > 0 && bytes > 0).then_some((messages, bytes))
    }

    fn remove(&mut self, id: AckId) {
        if let Some(held) = self.leases.remove(&id) {
            self.bytes -= held.bytes;
        }
    }
}

impl Owners {
    /// Deliveries are settled, or their leases have ended: who held them may be given others.
    pub(super) fn settled(&self, ids: impl IntoIterator<Item = AckId>) {
        let owned: Vec<_> = {
            let mut owners = self.lock();
            if owners.is_empty() {
                return;
            }
            ids.into_iter().filter_map(|id| Some((id, owners.remove(&id)?))).collect()
        };
        for (id, owner) in owned {
            if let Some(standing) = owner.upgrade() {
                standing.is_settled(id);
            }
        }
    }

    /// A lease ends at another time.
    pub(super) fn extended(&self, id: AckId, deadline: Timestamp) {
        let owner = self.lock().get(&id).and_then(Weak::upgrade);
        if let Some(standing) = owner {
            standing.is_extended(id, deadline);
        }
    }

    fn forget(&self, ids: impl IntoIterator<Item = AckId>) {
        let mut owners = self.lock();
        ids.into_iter().for_each(|id| drop(owners.remove(&id)));
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<AckId, Weak<Standing>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
