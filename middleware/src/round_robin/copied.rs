//! A request of any kind that is copied for the next instance, and its future.

use std::{
    error::Error,
    fmt,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use pin_project_lite::pin_project;
use tower_service::Service;

use super::{
    AnsweredBy, GenericRoundRobin,
    drive::Drive,
    exchange::{Exchange, Reach},
    ledger::{Failed, Ledger, Outlook},
    pass::Pass,
};
use crate::{Judge, Verdict};

/// Why a call of a [`GenericRoundRobin`] has no response.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum RoundRobinError<E> {
    /// No instance could be asked, or became ready in time. Nothing was done.
    NoInstance {
        /// When to try again, if a breaker said so.
        retry_after: Option<Duration>,
    },
    /// The instance that was asked last did not answer within [`Failover::per_try`](crate::Failover::per_try). The request
    /// may or may not have been processed.
    TimedOut,
    /// The error of the service of the instance that was asked last; if a request may have been processed, of the last one
    /// that may have.
    Service(E),
}

impl<E: fmt::Display> fmt::Display for RoundRobinError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoInstance { .. } => f.write_str("no instance could be asked; nothing was done"),
            Self::TimedOut => f.write_str("no answer in time; the request may or may not have been done"),
            Self::Service(error) => error.fmt(f),
        }
    }
}

/// Also for a boxed error, which is what most of tower has and is no `Error` itself; so it names no source.
impl<E: fmt::Debug + fmt::Display> Error for RoundRobinError<E> {}

/// The request, ready to be sent, and its copy for the attempt after that.
pub(super) struct Copied<T, Req, Res, E, J> {
    round: GenericRoundRobin<T, Req, Res, E, J>,
    request: Option<Req>,
}

impl<T, Req, Res, E, J: Judge<Res, E>> Exchange for Copied<T, Req, Res, E, J> {
    type Request = Req;
    type Response = Res;
    type Error = E;
    type Watch = Pass;
    type End = Result<Res, RoundRobinError<E>>;
    type Answer = Result<Res, RoundRobinError<E>>;

    fn request(&mut self, outlook: Outlook) -> Option<Req> {
        let request = self.request.take()?;
        let policy = &self.round.policy;
        // A copy for nothing may cost as much as the request.
        if outlook.after_maybe || outlook.after_nothing && policy.knows_refusals() {
            self.request = self.round.clone_request.as_ref().and_then(|clone_request| clone_request(&request));
        }
        Some(request)
    }

    fn can_send(&self) -> bool {
        self.request.is_some()
    }

    fn watch(&self, pass: Pass, _: &Req) -> Pass {
        pass
    }

    fn outcome(&mut self, pass: Pass, outcome: Result<Res, E>) -> Result<Self::Answer, Failed<Self::End>> {
        let is_refused = outcome.as_ref().is_ok_and(|response| self.round.policy.is_refused(response));
        let verdict = if is_refused { Verdict::Ignore } else { self.round.judge.verdict(&outcome) };
        pass.complete(verdict);
        let is_never_sent = outcome.as_ref().is_err_and(|error| self.round.policy.is_never_sent(error));
        let outcome = outcome.map_err(RoundRobinError::Service);
        match verdict {
            _ if is_refused || is_never_sent => Err(Failed::NothingDone(outcome)),
            Verdict::Failure => Err(Failed::MaybeDone(outcome)),
            _ => Ok(outcome),
        }
    }

    fn unready(&self, error: Option<E>) -> Self::End {
        Err(error.map_or(RoundRobinError::NoInstance { retry_after: None }, RoundRobinError::Service))
    }

    fn timed_out(&self, pass: Pass) -> Self::End {
        pass.complete(Verdict::Failure);
        Err(RoundRobinError::TimedOut)
    }

    fn answer(&self, end: Self::End) -> Self::Answer {
        end
    }

    fn not_asked(&self, retry_after: Option<Duration>) -> Self::Answer {
        Err(RoundRobinError::NoInstance { retry_after })
    }

    fn signed(answer: Self::Answer, _: AnsweredBy) -> Self::Answer {
        answer
    }
}

pin_project! {
    /// The outcome of an instance, or why there is none.
    ///
    /// # Cancel safety
    ///
    /// Dropping it abandons the attempt under way, which tells its instance's breaker nothing.
    pub struct GenericRoundRobinFuture<R, F, Req, Res, E, J>
    where
        R: Reach,
        J: Judge<Res, E>,
    {
        #[pin]
        drive: Drive<R, F, Copied<R::Target, Req, Res, E, J>>,
    }
}

impl<R: Reach, F, Req, Res, E, J: Judge<Res, E> + Clone> GenericRoundRobinFuture<R, F, Req, Res, E, J> {
    pub(super) fn new(round: &GenericRoundRobin<R::Target, Req, Res, E, J>, reach: R, request: Req) -> Self {
        let policy = &round.policy;
        let ledger = Ledger::new(policy.repeat(&request), policy.rules.failover.attempts);
        let copied = Copied { round: round.clone(), request: Some(request) };
        Self { drive: Drive::new(round.rotation.clone(), policy.rules.clone(), reach, copied, ledger) }
    }
}

impl<R, F, Req, Res, E, J> Future for GenericRoundRobinFuture<R, F, Req, Res, E, J>
where
    R: Reach,
    R::Target: Clone,
    R::Service: Service<Req, Response = Res, Error = E, Future = F>,
    F: Future<Output = Result<Res, E>>,
    J: Judge<Res, E>,
{
    type Output = Result<Res, RoundRobinError<E>>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.project().drive.poll(cx)
    }
}

impl<R: Reach, F, Req, Res, E, J: Judge<Res, E>> fmt::Debug for GenericRoundRobinFuture<R, F, Req, Res, E, J> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GenericRoundRobinFuture").finish_non_exhaustive()
    }
}
