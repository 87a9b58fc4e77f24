//! Looking at topics, queues and messages without changing anything.
//!
//! The commit thread answers what is where; messages that are not in memory are read by whoever asked. Invariant: nothing
//! is shown that is not durable, since the answer waits for the open frame like any other.

mod browse;
mod explain;
mod queue_view;
mod search;
mod story;
#[cfg(test)]
mod tests;
mod topic_view;

use std::fmt;

use tokio::sync::{OwnedSemaphorePermit, oneshot};

pub use self::{
    browse::{Browse, Browsed, MessageState, Page, StateFilter},
    explain::{Explanation, HeldKey, Obstacle},
    queue_view::QueueView,
    search::Found,
    story::{Event, EventKind, QueueState, Story},
    topic_view::{ServiceView, TopicView},
};
pub(super) use self::{
    browse::{Located, Outline, Source},
    explain::Reasons,
    search::Trail,
    story::History,
};
use super::{EngineError, Limits, request::Answer, state::State, waiters::Waiters};
use crate::model::Timestamp;

/// What can be looked at, between two requests.
pub(super) struct View<'a> {
    pub(super) state: &'a State,
    pub(super) waiters: &'a Waiters,
    pub(super) history: &'a History,
    pub(super) limits: Limits,
    pub(super) now: Timestamp,
}

/// A look on its way to the commit thread.
pub(super) struct Look(Box<dyn LookAt + Send>);

trait LookAt {
    fn look(self: Box<Self>, view: &View<'_>, room: OwnedSemaphorePermit) -> Answer;
    fn refuse(self: Box<Self>, error: EngineError);
}

struct Looking<F, T> {
    look: F,
    reply: oneshot::Sender<Result<T, EngineError>>,
}

impl<F, T> LookAt for Looking<F, T>
where
    F: FnOnce(&View<'_>) -> Result<T, EngineError>,
    T: Send + 'static,
{
    fn look(self: Box<Self>, view: &View<'_>, room: OwnedSemaphorePermit) -> Answer {
        Answer::new(self.reply, (self.look)(view), room)
    }

    fn refuse(self: Box<Self>, error: EngineError) {
        // Nobody is there any more to be told: that is fine.
        let _ = self.reply.send(Err(error));
    }
}

impl Look {
    pub(super) fn new<T: Send + 'static>(
        look: impl FnOnce(&View<'_>) -> Result<T, EngineError> + Send + 'static,
        reply: oneshot::Sender<Result<T, EngineError>>,
    ) -> Self {
        Self(Box::new(Looking { look, reply }))
    }

    pub(super) fn look(self, view: &View<'_>, room: OwnedSemaphorePermit) -> Answer {
        self.0.look(view, room)
    }

    pub(super) fn refuse(self, error: EngineError) {
        self.0.refuse(error);
    }
}

impl fmt::Debug for Look {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Look").finish_non_exhaustive()
    }
}
