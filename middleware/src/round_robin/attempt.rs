//! The bookkeeping of one request's attempts: what may still be tried, and what the answer is if nothing works.
//!
//! Pure: no polling, no clock. Invariant: an outcome that may have been processed is never replaced by one that says that
//! nothing was done.

use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode, request::Parts};
use http_body::Body;

use super::failover::Policy;
use crate::{GrpcCode, Protocol, Rejection, ReplayBody, Verdict, body::Replay};

/// What a caller is told to wait when nothing better is known.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// How one attempt ended, if it did not answer the request.
#[derive(Debug)]
pub(super) enum Failed<B> {
    /// The instance's response says that it did nothing.
    Refused(Response<B>),
    /// The request never left.
    NeverSent,
    /// The instance's response says that it is out of order.
    Broken(Response<B>),
    /// The service failed, or took too long, after the request was sent.
    Lost,
}

/// The request, ready to be sent again, and the outcome so far.
pub(super) struct Attempts<ReqB, ResB> {
    /// `None` once it was given away for good.
    parts: Option<Parts>,
    replay: Replay<ReqB>,
    protocol: Protocol,
    idempotent: bool,
    /// Attempts that may have been processed.
    sent: u32,
    outcome: Outcome<ResB>,
}

enum Outcome<B> {
    /// No instance was asked; the soonest time that a breaker gave.
    NotAsked(Option<Duration>),
    Response(Response<B>),
    Unreachable,
    Unknown,
}

impl<ReqB: Body<Data = Bytes>, ResB> Attempts<ReqB, ResB> {
    pub(super) fn new<E>(request: Request<ReqB>, policy: &Policy<E, ResB>) -> Self {
        let (parts, body) = request.into_parts();
        Self {
            protocol: Protocol::of(&parts.headers),
            idempotent: (policy.idempotent)(&parts),
            parts: Some(parts),
            replay: Replay::new(body, policy.failover.replay_limit),
            sent: 0,
            outcome: Outcome::NotAsked(None),
        }
    }

    /// The request for the next attempt. `None` when it cannot be sent again.
    pub(super) fn request(&mut self) -> Option<Request<ReplayBody<ReqB>>> {
        Some(Request::from_parts(self.parts.clone()?, self.replay.body()?))
    }

    /// [`Attempts::request`] without a copy of the head, when no attempt can follow.
    pub(super) fn last_request(&mut self) -> Option<Request<ReplayBody<ReqB>>> {
        Some(Request::from_parts(self.parts.take()?, self.replay.body()?))
    }

    /// Whether [`Attempts::request`] would give a request.
    fn can_send(&self) -> bool {
        self.parts.is_some() && self.replay.can_replay()
    }

    /// Whether another attempt may be made: nothing can have been processed so far, or it may be processed again.
    pub(super) fn may_go_on(&self, attempts_max: u32) -> bool {
        (self.sent == 0 || self.idempotent && self.sent < attempts_max) && self.can_send()
    }

    pub(super) fn source_failed(&self) -> bool {
        self.replay.source_failed()
    }

    /// Whether a response that says that the instance is out of order may be followed by another attempt.
    pub(super) fn may_repeat(&self, attempts_max: u32) -> bool {
        self.idempotent && self.sent + 1 < attempts_max && self.can_send()
    }

    /// A breaker refused.
    pub(super) fn skipped(&mut self, retry_after: Option<Duration>) {
        if let Outcome::NotAsked(soonest) = &mut self.outcome {
            *soonest = match (*soonest, retry_after) {
                (Some(one), Some(other)) => Some(one.min(other)),
                (one, other) => one.or(other),
            };
        }
    }

    /// An attempt failed. Whether another may be made.
    pub(super) fn failed(&mut self, failed: Failed<ResB>, attempts_max: u32) -> bool {
        let unsent = self.sent == 0;
        match failed {
            Failed::Refused(response) if unsent => self.outcome = Outcome::Response(response),
            Failed::NeverSent if unsent => self.outcome = Outcome::Unreachable,
            Failed::Refused(_) | Failed::NeverSent => {}
            Failed::Broken(response) => {
                self.sent += 1;
                self.outcome = Outcome::Response(response);
            }
            Failed::Lost => {
                self.sent += 1;
                self.outcome = Outcome::Unknown;
            }
        }
        self.may_go_on(attempts_max)
    }

    /// The answer when nothing worked.
    pub(super) fn answer(&mut self) -> Result<Response<ResB>, (Rejection, Protocol)> {
        let rejection = match std::mem::replace(&mut self.outcome, Outcome::NotAsked(None)) {
            Outcome::Response(response) => return Ok(response),
            Outcome::NotAsked(soonest) => {
                Rejection::unavailable("no_instance", "No healthy backend instances available")
                    .with_retry_after(soonest.unwrap_or(RETRY_AFTER))
            }
            Outcome::Unreachable => {
                Rejection::unavailable("unavailable", "no instance could be reached; nothing was done")
                    .with_retry_after(RETRY_AFTER)
                    .with_verdict(Verdict::Failure)
            }
            // Only who may safely repeat it is told when.
            Outcome::Unknown => Rejection::new(
                StatusCode::BAD_GATEWAY,
                GrpcCode::Unavailable,
                "outcome_unknown",
                "the connection to the instance broke; the request may or may not have been done",
            )
            .with_retry_after(self.idempotent.then_some(RETRY_AFTER))
            .with_verdict(Verdict::Failure),
        };
        Err((rejection, self.protocol))
    }

    /// The answer to a request whose own body broke off.
    pub(super) fn bad_body(&self) -> (Rejection, Protocol) {
        let rejection = Rejection::new(
            StatusCode::BAD_REQUEST,
            GrpcCode::InvalidArgument,
            "request_body",
            "the body of the request broke off",
        );
        (rejection, self.protocol)
    }
}
