//! One of the places, and for how long it is held.

use std::fmt;

use http::HeaderMap;
use tokio::time::Instant;

use super::{ConcurrencyLimit, gradient::Sample};
use crate::BodyGuard;

/// For how long a request holds its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Hold {
    /// Until the head of the response. Then any number of bodies may be streaming.
    ResponseHead,
    /// Until the end of the response's body, or its drop.
    #[default]
    ResponseBody,
}

/// One of the places: the permission to make one call, and the guard on a response's body. Its drop gives it back,
/// however the call or the body ends.
#[must_use = "a place that is dropped is free again"]
pub struct Place {
    limit: ConcurrencyLimit,
    /// When the call began, until it is answered. Only an adaptive limit wants to know.
    begun: Option<Instant>,
}

impl Place {
    #[inline]
    pub(super) fn new(limit: ConcurrencyLimit) -> Self {
        let begun = limit.is_adaptive().then(Instant::now);
        limit.metrics().entered();
        Self { limit, begun }
    }

    /// The service has answered: an adaptive limit learns how long it took. Only the first time counts. A place that is
    /// dropped without this was given up.
    #[inline]
    pub fn answered(&mut self) {
        self.sample(Sample::Answered);
    }

    /// The service has answered that it is overloaded: an adaptive limit goes down.
    #[inline]
    pub fn overloaded(&mut self) {
        self.sample(Sample::Refused);
    }

    /// Whether the limit wants to know what becomes of it: the limit is adaptive, and was not told yet.
    #[inline]
    pub(super) fn is_measured(&self) -> bool {
        self.begun.is_some()
    }

    #[inline]
    fn sample(&mut self, sample: Sample) {
        if let Some(begun) = self.begun.take() {
            self.limit.sample(sample, begun);
        }
    }
}

impl Drop for Place {
    #[inline]
    fn drop(&mut self) {
        self.sample(Sample::Abandoned);
        self.limit.metrics().left();
        self.limit.give_back();
    }
}

impl BodyGuard for Place {
    fn end(self, _: Option<&HeaderMap>) {}
    fn error(self) {}
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Place").field("begun", &self.begun).finish_non_exhaustive()
    }
}
