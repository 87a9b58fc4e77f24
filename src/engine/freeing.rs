//! The thread that gives memory back, so that the commit thread does not.
//!
//! Invariant: whoever hands something over never waits for it to be freed.

use std::sync::{Arc, PoisonError};

use super::{
    state::Leftovers,
    sync::{Condvar, JoinHandle, Mutex, MutexGuard, thread},
};

/// Fewer messages are freed where they are: about a tenth of a millisecond.
const HERE_MAX: usize = 500;

/// How many lots may wait to be freed; what does not fit is freed where it is.
const WAITING_MAX: usize = 8;

/// The thread; dropping it ends it, and waits for that.
#[derive(Debug)]
pub(super) struct Freeing {
    desk: Arc<Desk>,
    /// `None` if the system has none: then all is freed where it is.
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Desk {
    lots: Mutex<Lots>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Lots {
    waiting: Vec<Leftovers>,
    is_over: bool,
}

impl Freeing {
    pub(super) fn start() -> Self {
        let desk = Arc::new(Desk::default());
        let thread = thread::Builder::new().name("free".into()).spawn({
            let desk = Arc::clone(&desk);
            move || desk.work()
        });
        Self { desk, thread: thread.ok() }
    }

    /// Has it freed.
    pub(super) fn free(&self, leftovers: Leftovers) {
        if leftovers.count() <= HERE_MAX || self.thread.is_none() {
            return;
        }
        let mut lots = self.desk.lots();
        if lots.waiting.len() < WAITING_MAX {
            lots.waiting.push(leftovers);
            self.desk.changed.notify_one();
        }
    }
}

impl Drop for Freeing {
    fn drop(&mut self) {
        self.desk.lots().is_over = true;
        self.desk.changed.notify_one();
        if let Some(thread) = self.thread.take() {
            // A thread that panicked has said so.
            let _ = thread.join();
        }
    }
}

impl Desk {
    fn lots(&self) -> MutexGuard<'_, Lots> {
        self.lots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Frees what comes until it is over, and what is there then.
    fn work(&self) {
        let mut lots = self.lots();
        loop {
            let waiting = std::mem::take(&mut lots.waiting);
            if !waiting.is_empty() {
                drop(lots);
                drop(waiting);
                lots = self.lots();
            } else if lots.is_over {
                return;
            } else {
                lots = self.changed.wait(lots).unwrap_or_else(PoisonError::into_inner);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{
        engine::{journal::Record, sealed::Sealed, state::State},
        model::{Draft, Name, Seq, Timestamp, TopicId},
    };

    /// What a topic leaves that had so many messages with this payload.
    fn leftovers(count: u64, payload: &bytes::Bytes) -> Leftovers {
        let (mut state, topic) = (State::default(), TopicId(0));
        state.keep_leftovers();
        let mut apply = |record| state.apply(Timestamp::EPOCH, record).expect("fits");
        apply(Record::TopicCreated { topic, name: Name::parse("t").expect("valid") });
        for seq in (0..count).map(Seq) {
            let draft = Draft { payload: payload.clone(), ..Draft::default() };
            let message = Sealed::new(draft, Timestamp::EPOCH, Duration::ZERO);
            apply(Record::Published { topic, seq, message });
        }
        apply(Record::TopicDeleted { topic });
        state.take_leftovers()
    }

    #[test]
    fn what_is_left_is_freed_when_the_thread_has_ended_and_few_at_once() {
        let payload = bytes::Bytes::from(vec![b'x'; 9]);
        let freeing = Freeing::start();
        for count in [1, HERE_MAX as u64] {
            let few = leftovers(count, &payload);
            assert_eq!(few.count() as u64, count);
            freeing.free(few);
            assert!(payload.is_unique(), "{count}");
        }
        for _ in 0..WAITING_MAX * 3 {
            freeing.free(leftovers(HERE_MAX as u64 + 1, &payload));
        }
        drop(freeing);
        assert!(payload.is_unique());
    }
}
