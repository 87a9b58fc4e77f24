//! What an attempt holds of its instance's breaker: a permit, or nothing where circuits are ignored.
//!
//! Invariant: with a permit, the outcome is told exactly once; without one, nothing is told.

use bytes::Bytes;
use http::Response;
use http_body::Body;

use crate::{AutoResponse, BodyGuard as _, ClassifyResponse as _, GuardedBody, Permit, Verdict, VerdictGuard};

pub(super) type Guard = VerdictGuard<AutoResponse>;

/// Before the call.
#[derive(Debug)]
pub(super) enum Pass {
    Permit(Permit),
    /// Too few instances are left, so this one is asked although its circuit is open.
    Ignored,
}

/// From the call to the end of the response's body.
#[derive(Debug)]
pub(super) enum Watch {
    Guard(Guard),
    Ignored(AutoResponse),
}

impl Pass {
    pub(super) fn complete(self, verdict: Verdict) {
        match self {
            Self::Permit(permit) => permit.complete(verdict),
            Self::Ignored => {}
        }
    }

    pub(super) fn watch(self, call: AutoResponse) -> Watch {
        match self {
            Self::Permit(permit) => Watch::Guard(Guard::new(permit, call)),
            Self::Ignored => Watch::Ignored(call),
        }
    }
}

impl Watch {
    pub(super) fn complete(self, verdict: Verdict) {
        match self {
            Self::Guard(guard) => guard.complete(verdict),
            Self::Ignored(_) => {}
        }
    }

    /// The service failed without a response.
    pub(super) fn failed(self) {
        match self {
            Self::Guard(guard) => guard.error(),
            Self::Ignored(_) => {}
        }
    }

    pub(super) fn head<B>(&mut self, response: &Response<B>) -> Option<Verdict> {
        match self {
            Self::Guard(guard) => guard.head(response),
            Self::Ignored(call) => call.head(response),
        }
    }

    /// The response as the answer; its body is watched if there is no verdict yet.
    pub(super) fn answer<B: Body<Data = Bytes>>(
        self,
        verdict: Option<Verdict>,
        response: Response<B>,
    ) -> Response<GuardedBody<B, Guard>> {
        match self {
            Self::Guard(guard) => guard.watch(verdict, response),
            Self::Ignored(_) => response.map(GuardedBody::unguarded),
        }
    }
}
