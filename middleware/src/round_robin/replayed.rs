//! An HTTP request whose body is replayed to the next instance: what is sent, and what responses and errors mean.
//!
//! No polling, no clock.

use std::{convert::Infallible, error::Error, fmt, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Request, Response, StatusCode, request::Parts};
use http_body::Body;

use super::{
    AnsweredBy,
    exchange::Exchange,
    failover::Policy,
    ledger::{Failed, Ledger, Outlook, Repeat},
    pass::{Guard, Pass, Watch},
};
use crate::{
    AutoClassify, AutoReject, Classify, GrpcCode, GuardedBody, Protocol, RejectResponse, Rejection, ReplayBody,
    Verdict, body::Replay, reject::rejected,
};

/// What a caller is told to wait when nothing better is known.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// What a caller of a round robin gets.
pub(super) type Answer<B> = Response<GuardedBody<B, Guard>>;

/// How a request ends if no instance answers it.
#[derive(Debug)]
pub(super) enum Unanswered<B> {
    /// The last instance's own response: it did nothing, or is out of order.
    Response(Response<B>),
    /// The request never left.
    Unreachable,
    /// The service failed, or took too long, after the request was sent.
    Unknown,
}

/// The request, ready to be sent again.
pub(super) struct Replayed<E, ReqB, ResB> {
    policy: Arc<Policy<Parts, Response<ResB>, E>>,
    /// `None` once it was given away for good.
    parts: Option<Parts>,
    replay: Replay<ReqB>,
    protocol: Protocol,
    repeat: Repeat,
}

impl<E, ReqB: Body<Data = Bytes>, ResB> Replayed<E, ReqB, ResB> {
    pub(super) fn new(
        policy: Arc<Policy<Parts, Response<ResB>, E>>,
        request: Request<ReqB>,
    ) -> (Self, Ledger<Unanswered<ResB>>) {
        let (parts, body) = request.into_parts();
        let protocol = Protocol::of(&parts.headers);
        let repeat = policy.repeat(&parts);
        let failover = policy.rules.failover;
        let replay = Replay::new(body, failover.replay_limit);
        let replayed = Self { policy, parts: Some(parts), replay, protocol, repeat };
        (replayed, Ledger::new(repeat, failover.attempts))
    }
}

impl<E, ReqB, ResB> Exchange for Replayed<E, ReqB, ResB>
where
    ReqB: Body<Data = Bytes> + Unpin,
    ReqB::Error: Into<Box<dyn Error + Send + Sync>>,
    ResB: Body<Data = Bytes>,
{
    type Request = Request<ReplayBody<ReqB>>;
    type Response = Response<ResB>;
    type Error = E;
    type Watch = Watch;
    type End = Unanswered<ResB>;
    type Answer = Result<Answer<ResB>, Infallible>;

    fn request(&mut self, outlook: Outlook) -> Option<Self::Request> {
        // Without a copy of the head when no attempt can follow.
        let parts = if outlook == Outlook::LAST { self.parts.take() } else { self.parts.clone() };
        Some(Request::from_parts(parts?, self.replay.body()?))
    }

    fn can_send(&self) -> bool {
        self.parts.is_some() && self.replay.can_replay()
    }

    fn watch(&self, pass: Pass, request: &Self::Request) -> Watch {
        pass.watch(AutoClassify.request(request))
    }

    fn outcome(
        &mut self,
        mut watch: Watch,
        outcome: Result<Response<ResB>, E>,
    ) -> Result<Self::Answer, Failed<Self::End>> {
        match outcome {
            Ok(response) if self.policy.is_refused(&response) => {
                watch.complete(Verdict::Ignore);
                Err(Failed::NothingDone(Unanswered::Response(response)))
            }
            Ok(response) => {
                let verdict = watch.head(&response);
                if verdict == Some(Verdict::Failure) && is_out_of_order(&response) {
                    watch.complete(Verdict::Failure);
                    return Err(Failed::MaybeDone(Unanswered::Response(response)));
                }
                Ok(Ok(watch.answer(verdict, response)))
            }
            Err(_) if self.replay.source_failed() => {
                watch.complete(Verdict::Ignore);
                Ok(Ok(self.reject(bad_body())))
            }
            Err(error) => {
                watch.failed();
                Err(match self.policy.is_never_sent(&error) {
                    true => Failed::NothingDone(Unanswered::Unreachable),
                    false => Failed::MaybeDone(Unanswered::Unknown),
                })
            }
        }
    }

    fn unready(&self, _: Option<E>) -> Self::End {
        Unanswered::Unreachable
    }

    fn timed_out(&self, watch: Watch) -> Self::End {
        watch.complete(Verdict::Failure);
        Unanswered::Unknown
    }

    fn answer(&self, end: Self::End) -> Self::Answer {
        Ok(match end {
            Unanswered::Response(response) => response.map(GuardedBody::unguarded),
            Unanswered::Unreachable => self.reject(
                Rejection::unavailable("unavailable", "no instance could be reached; nothing was done")
                    .with_retry_after(RETRY_AFTER)
                    .with_verdict(Verdict::Failure),
            ),
            Unanswered::Unknown => self.reject(
                Rejection::new(
                    StatusCode::BAD_GATEWAY,
                    GrpcCode::Unavailable,
                    "outcome_unknown",
                    "the connection to the instance broke; the request may or may not have been done",
                )
                // Only who may safely repeat it is told when.
                .with_retry_after((self.repeat == Repeat::Idempotent).then_some(RETRY_AFTER))
                .with_verdict(Verdict::Failure),
            ),
        })
    }

    fn not_asked(&self, retry_after: Option<Duration>) -> Self::Answer {
        let rejection = Rejection::unavailable("no_instance", "No healthy backend instances available");
        Ok(self.reject(rejection.with_retry_after(retry_after.unwrap_or(RETRY_AFTER))))
    }

    fn signed(answer: Self::Answer, by: AnsweredBy) -> Self::Answer {
        answer.map(|mut response| {
            response.extensions_mut().insert(by);
            response
        })
    }
}

impl<E, ReqB, ResB> Replayed<E, ReqB, ResB> {
    fn reject(&self, rejection: Rejection) -> Answer<ResB> {
        rejected(AutoReject.reject(self.protocol, &rejection), &rejection)
    }
}

/// The answer to a request whose own body broke off.
fn bad_body() -> Rejection {
    Rejection::new(
        StatusCode::BAD_REQUEST,
        GrpcCode::InvalidArgument,
        "request_body",
        "the body of the request broke off",
    )
}

/// The instance, or what stands in front of it, is out of order, rather than the request's processing.
fn is_out_of_order<B>(response: &Response<B>) -> bool {
    let gone = [StatusCode::BAD_GATEWAY, StatusCode::SERVICE_UNAVAILABLE, StatusCode::GATEWAY_TIMEOUT];
    gone.contains(&response.status()) || GrpcCode::of(response.headers()) == Some(GrpcCode::Unavailable)
}

impl<E, ReqB, ResB> fmt::Debug for Replayed<E, ReqB, ResB> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Replayed").field("parts", &self.parts).finish_non_exhaustive()
    }
}
