//! Leases whose answer is not written yet: the guard travels with the response, and then with its body.
//!
//! Invariant: the guard is released when the body has been handed out to its end; dropped before, the leases end, and the
//! messages go back to their queue.

use std::sync::{Arc, Mutex, PoisonError};

use axum::{body::Body, response::Response};
use campanile_middleware::{BodyGuard, GuardedBody};
use http::HeaderMap;

use crate::broker::Hold;

/// A guard on its way from a call to the body of its response.
#[derive(Debug, Clone)]
pub(super) struct Held(Arc<Mutex<Option<Hold>>>);

impl Held {
    pub(super) fn new(hold: Hold) -> Self {
        Self(Arc::new(Mutex::new(Some(hold))))
    }

    fn take(&self) -> Option<Hold> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

struct Guard(Hold);

impl BodyGuard for Guard {
    fn wants_trailers(&self) -> bool {
        true
    }

    fn end(self, _: Option<&HeaderMap>) {
        self.0.release();
    }

    fn error(self) {}
}

/// The response, whose body keeps its leases until it is written.
pub(in crate::grpc) fn held_until_written(mut response: Response) -> Response {
    let held = response.extensions_mut().remove::<Held>();
    match held.and_then(|held| held.take()) {
        Some(hold) => response.map(|body| Body::new(GuardedBody::new(body, Guard(hold)))),
        None => response,
    }
}
