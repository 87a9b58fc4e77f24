//! The bounded way into the commit thread.
//!
//! Requests wait here while the last frame syncs; whatever has come by then shares the next frame. The bound is in
//! bytes for what brings messages, and in requests for the rest, so that consumers get in when publishers are held back.
//! Semaphores hold both: a caller waits for room without blocking a thread, and the list never grows beyond it.

use std::{
    sync::{Arc, PoisonError},
    time::Duration,
};

use tokio::sync::Semaphore;

use super::{
    EngineError,
    request::{Request, Verb},
    sync::{Condvar, Mutex, MutexGuard},
};
use crate::model::AckId;

#[derive(Debug)]
pub(super) struct Inbox {
    waiting: Mutex<Waiting>,
    arrived: Condvar,
    /// In bytes, for requests that bring messages.
    room: Arc<Semaphore>,
    room_bytes: u32,
    /// In requests, for the others.
    places: Arc<Semaphore>,
}

/// Most requests that bring no messages and are under way at a time.
const PLACES: usize = 16_384;

#[derive(Debug, Default)]
struct Waiting {
    requests: Vec<Request>,
    /// Leases that nobody wants. Each lease comes here once at most, so they are no more than there may be leases.
    unclaimed: Vec<AckId>,
    is_closed: bool,
    is_woken: bool,
}

/// What the commit thread finds when it looks.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Look {
    /// Requests, or nothing but a reason to look at the clock.
    Open,
    /// No more requests will come.
    Closed,
}

impl Inbox {
    /// Room for requests of `room_bytes` together.
    pub(super) fn new(room_bytes: u32) -> Self {
        let room = Arc::new(Semaphore::new(room_bytes as usize));
        let places = Arc::new(Semaphore::new(PLACES));
        Self { waiting: Mutex::default(), arrived: Condvar::new(), room, room_bytes, places }
    }

    /// Puts a request in, as soon as there is room.
    ///
    /// # Cancel safety
    /// Dropped while it waits for room, it has done nothing.
    pub(super) async fn put(&self, verb: Verb) -> Result<(), EngineError> {
        let (semaphore, count) = match verb.room_bytes() {
            Some(bytes) => (&self.room, u32::try_from(bytes).unwrap_or(u32::MAX).min(self.room_bytes)),
            None => (&self.places, 1),
        };
        let room = Arc::clone(semaphore).acquire_many_owned(count).await;
        let Ok(room) = room else { return Err(EngineError::Stopped) };
        let mut waiting = self.lock();
        if waiting.is_closed {
            return Err(EngineError::Stopped);
        }
        waiting.requests.push(Request { verb, room });
        drop(waiting);
        self.arrived.notify_one();
        Ok(())
    }

    /// Lets go of leases whose client has gone. Never waits for room.
    pub(super) fn give_back(&self, unclaimed: impl IntoIterator<Item = AckId>) {
        self.lock().unclaimed.extend(unclaimed);
        self.arrived.notify_one();
    }

    /// Makes the commit thread look at the clock.
    pub(super) fn wake(&self) {
        self.lock().is_woken = true;
        self.arrived.notify_one();
    }

    /// Takes no more requests; those that are in are carried out.
    pub(super) fn close(&self) {
        self.lock().is_closed = true;
        self.room.close();
        self.places.close();
        self.arrived.notify_one();
    }

    /// Moves all requests into `taken`, which is empty, and adds to `unclaimed`; waits for the first one of either, for a
    /// wake-up, or for `at_most`.
    pub(super) fn take(&self, taken: &mut Vec<Request>, unclaimed: &mut Vec<AckId>, at_most: Option<Duration>) -> Look {
        let mut waiting = self.lock();
        let is_idle = |w: &mut Waiting| w.requests.is_empty() && w.unclaimed.is_empty() && !w.is_closed && !w.is_woken;
        waiting = match at_most {
            Some(Duration::ZERO) => waiting,
            Some(time) => {
                let waited = self.arrived.wait_timeout_while(waiting, time, is_idle);
                waited.unwrap_or_else(PoisonError::into_inner).0
            }
            None => self.arrived.wait_while(waiting, is_idle).unwrap_or_else(PoisonError::into_inner),
        };
        waiting.is_woken = false;
        std::mem::swap(&mut waiting.requests, taken);
        unclaimed.append(&mut waiting.unclaimed);
        if waiting.is_closed && taken.is_empty() { Look::Closed } else { Look::Open }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
