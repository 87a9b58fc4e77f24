//! One request on its way through the instances.
//!
//! ```text
//!        ┌───────── the next one ──────────┐
//!        ▼                                 │
//!      Pick ──▶ Ready (poll_ready) ──▶ Call ──▶ answer
//!       ▲ │ no more
//!       │ ▼
//!      Wait ──▶ answer
//! ```
//!
//! Invariants: an attempt's permit is settled, by verdict or by drop, whatever becomes of this future; nothing of an
//! abandoned attempt runs on.

use std::{
    convert::Infallible,
    error::Error,
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body::Body;
use pin_project_lite::pin_project;
use tokio::{
    sync::futures::OwnedNotified,
    time::{Instant, Sleep, sleep, sleep_until},
};
use tower_service::Service;

use super::{
    AnsweredBy, Instance,
    attempt::{Attempts, Failed},
    failover::Policy,
    pass::{Guard, Pass, Watch},
    rotation::{Rotation, Round},
};
use crate::{
    AutoClassify, AutoReject, Classify, GrpcCode, GuardedBody, Protocol, RejectResponse, Rejection, ReplayBody,
    Verdict, reject::rejected,
};

/// How often a waiting request tries again without being woken: circuits close and standbys take over unannounced.
const TICK: Duration = Duration::from_millis(50);

/// A day: nobody waits longer, and it is safe to add to any clock.
const WAIT_MAX: Duration = Duration::from_secs(24 * 3600);

type Answer<B> = Response<GuardedBody<B, Guard>>;

pin_project! {
    /// The response of an instance, or the rejection when none could answer.
    ///
    /// # Cancel safety
    ///
    /// Dropping it abandons the attempt under way, which tells its instance's breaker nothing.
    pub struct RoundRobinFuture<S, F, E, ReqB, ResB> {
        rotation: Arc<Rotation<S>>,
        policy: Arc<Policy<E, ResB>>,
        attempts: Attempts<ReqB, ResB>,
        round: Round<S>,
        // The instance that was asked last, and how many were.
        asked: Option<Instance<S>>,
        asked_count: u32,
        // When to give up waiting for an instance; set by the first wait.
        give_up: Option<Instant>,
        // The end of the attempt under way.
        #[pin]
        per_try: Option<Sleep>,
        #[pin]
        step: Step<S, F>,
    }
}

pin_project! {
    #[project = StepProj]
    enum Step<S, F> {
        Pick,
        Ready { service: S, pass: Option<Pass> },
        Call { #[pin] future: F, watch: Option<Watch> },
        Wait { #[pin] woken: OwnedNotified, #[pin] tick: Sleep },
    }
}

/// What a step makes of the request.
enum Next<B> {
    /// Another step is to be taken.
    Step,
    Pending,
    Answer(Answer<B>),
    /// The attempt did not answer the request.
    Failed(Failed<B>),
    /// No instance is left in this round.
    RoundOver,
    /// Nothing worked.
    GiveUp,
}

impl<S, F, E, ReqB: Body<Data = Bytes>, ResB> RoundRobinFuture<S, F, E, ReqB, ResB> {
    pub(super) fn new(rotation: Arc<Rotation<S>>, policy: Arc<Policy<E, ResB>>, request: Request<ReqB>) -> Self {
        let attempts = Attempts::new(request, &policy);
        let round = rotation.round();
        policy.begun();
        Self {
            rotation,
            policy,
            attempts,
            round,
            asked: None,
            asked_count: 0,
            give_up: None,
            per_try: None,
            step: Step::Pick,
        }
    }
}

impl<S, F, E, ReqB, ResB> RoundRobinFuture<S, F, E, ReqB, ResB>
where
    S: Service<Request<ReplayBody<ReqB>>, Response = Response<ResB>, Error = E, Future = F> + Clone,
    F: Future<Output = Result<Response<ResB>, E>>,
    ReqB: Body<Data = Bytes> + Unpin,
    ReqB::Error: Into<Box<dyn Error + Send + Sync>>,
    ResB: Body<Data = Bytes>,
{
    fn pick(self: Pin<&mut Self>) -> Next<ResB> {
        let mut this = self.project();
        let Some(instance) = this.round.pick() else {
            return Next::RoundOver;
        };
        let pass = match instance.breaker().try_acquire() {
            Ok(permit) => Pass::Permit(permit),
            Err(rejected) if this.policy.ignores(&rejected, this.round.available()) => Pass::Ignored,
            Err(rejected) => {
                instance.skipped(&rejected);
                this.attempts.skipped(rejected.retry_after);
                return Next::Step;
            }
        };
        instance.attempted();
        let bound = this.policy.failover.per_try.filter(|_| !instance.is_local());
        this.per_try.set(bound.map(sleep));
        this.step.set(Step::Ready { service: instance.service().clone(), pass: Some(pass) });
        *this.asked = Some(instance);
        *this.asked_count = this.asked_count.saturating_add(1);
        Next::Step
    }

    /// Every instance was asked or passed over: wait for one, if the request may be sent to it.
    fn round_over(self: Pin<&mut Self>) -> Next<ResB> {
        let mut this = self.project();
        let failover = &this.policy.failover;
        let Some(wait) = failover.wait_for_ready.filter(|_| this.attempts.may_go_on(failover.attempts)) else {
            return Next::GiveUp;
        };
        let now = Instant::now();
        let give_up = *this.give_up.get_or_insert_with(|| now + wait.min(WAIT_MAX));
        if now >= give_up {
            return Next::GiveUp;
        }
        match this.rotation.wait(this.round) {
            Some(woken) => this.step.set(Step::Wait { woken, tick: sleep_until(give_up.min(now + TICK)) }),
            None => *this.round = this.rotation.round(),
        }
        Next::Step
    }

    fn wait(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Next<ResB> {
        let mut this = self.project();
        let StepProj::Wait { woken, tick } = this.step.as_mut().project() else { return Next::Step };
        if woken.poll(cx).is_pending() && tick.poll(cx).is_pending() {
            return Next::Pending;
        }
        *this.round = this.rotation.round();
        this.step.set(Step::Pick);
        Next::Step
    }

    fn ready(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Next<ResB> {
        let mut this = self.project();
        let StepProj::Ready { service, pass: slot } = this.step.as_mut().project() else { return Next::Step };
        // Out of `self` while the service runs: if it panics, the permit is dropped by the unwinding, and can tell.
        let pass = slot.take().expect("an attempt has a pass");
        match service.poll_ready(cx) {
            Poll::Ready(Ok(())) => {
                let more = this.round.has_more() || this.policy.failover.wait_for_ready.is_some();
                let request = if more { this.attempts.request() } else { this.attempts.last_request() };
                let Some(request) = request else { return Next::GiveUp };
                let watch = pass.watch(AutoClassify.request(&request));
                let future = service.call(request);
                this.step.set(Step::Call { future, watch: Some(watch) });
                Next::Step
            }
            Poll::Pending if !is_over(this.per_try, cx) => {
                *slot = Some(pass);
                Next::Pending
            }
            Poll::Pending | Poll::Ready(Err(_)) => {
                pass.failed();
                Next::Failed(Failed::NeverSent)
            }
        }
    }

    fn call(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Next<ResB> {
        let mut this = self.project();
        let StepProj::Call { future, watch: slot } = this.step.as_mut().project() else { return Next::Step };
        let watch = slot.take().expect("an attempt is watched");
        match future.poll(cx) {
            Poll::Ready(Ok(response)) => respond(this.attempts, this.round, this.policy, watch, response),
            Poll::Ready(Err(_)) if this.attempts.source_failed() => {
                watch.complete(Verdict::Ignore);
                let (rejection, protocol) = this.attempts.bad_body();
                Next::Answer(reject(rejection, protocol))
            }
            Poll::Ready(Err(error)) => {
                watch.failed();
                let never_sent = (this.policy.never_sent)(&error);
                Next::Failed(if never_sent { Failed::NeverSent } else { Failed::Lost })
            }
            Poll::Pending if !is_over(this.per_try, cx) => {
                *slot = Some(watch);
                Next::Pending
            }
            Poll::Pending => {
                watch.complete(Verdict::Failure);
                Next::Failed(Failed::Lost)
            }
        }
    }
}

/// The response is the answer, unless the instance did nothing, or is out of order and the request may be repeated.
fn respond<E, ReqB: Body<Data = Bytes>, ResB: Body<Data = Bytes>, S>(
    attempts: &Attempts<ReqB, ResB>,
    round: &Round<S>,
    policy: &Policy<E, ResB>,
    mut watch: Watch,
    response: Response<ResB>,
) -> Next<ResB> {
    if (policy.refused)(&response) {
        watch.complete(Verdict::Ignore);
        return Next::Failed(Failed::Refused(response));
    }
    let verdict = watch.head(&response);
    let broken = verdict == Some(Verdict::Failure) && is_out_of_order(&response);
    let is_last = !round.has_more() && policy.failover.wait_for_ready.is_none();
    if broken && !is_last && attempts.may_repeat(policy.failover.attempts) && policy.pays_for_repeat() {
        watch.complete(Verdict::Failure);
        return Next::Failed(Failed::Broken(response));
    }
    Next::Answer(watch.answer(verdict, response))
}

/// The instance, or what stands in front of it, is out of order, rather than the request's processing.
fn is_out_of_order<B>(response: &Response<B>) -> bool {
    let gone = [StatusCode::BAD_GATEWAY, StatusCode::SERVICE_UNAVAILABLE, StatusCode::GATEWAY_TIMEOUT];
    gone.contains(&response.status()) || GrpcCode::of(response.headers()) == Some(GrpcCode::Unavailable)
}

fn is_over(bound: Pin<&mut Option<Sleep>>, cx: &mut Context<'_>) -> bool {
    bound.as_pin_mut().is_some_and(|sleep| sleep.poll(cx).is_ready())
}

/// The answer with the name of who gave it.
fn signed<B, S>(mut answer: Answer<B>, asked: Option<&Instance<S>>, attempts: u32) -> Answer<B> {
    if let Some(instance) = asked {
        answer.extensions_mut().insert(AnsweredBy::new(instance, attempts));
    }
    answer
}

fn reject<B>(rejection: Rejection, protocol: Protocol) -> Answer<B> {
    rejected(AutoReject.reject(protocol, &rejection), &rejection)
}

impl<S, F, E, ReqB, ResB> Future for RoundRobinFuture<S, F, E, ReqB, ResB>
where
    S: Service<Request<ReplayBody<ReqB>>, Response = Response<ResB>, Error = E, Future = F> + Clone,
    F: Future<Output = Result<Response<ResB>, E>>,
    ReqB: Body<Data = Bytes> + Unpin,
    ReqB::Error: Into<Box<dyn Error + Send + Sync>>,
    ResB: Body<Data = Bytes>,
{
    type Output = Result<Answer<ResB>, Infallible>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        loop {
            let mut next = match self.as_mut().project().step.project() {
                StepProj::Pick => self.as_mut().pick(),
                StepProj::Ready { .. } => self.as_mut().ready(cx),
                StepProj::Call { .. } => self.as_mut().call(cx),
                StepProj::Wait { .. } => self.as_mut().wait(cx),
            };
            if let Next::RoundOver = next {
                next = self.as_mut().round_over();
            }
            let mut this = self.as_mut().project();
            let go_on = match next {
                Next::Step | Next::RoundOver => continue,
                Next::Pending => return Poll::Pending,
                Next::Answer(answer) => return Poll::Ready(Ok(signed(answer, this.asked.as_ref(), *this.asked_count))),
                Next::Failed(failed) => {
                    // A response that may be followed by a repeat is paid for already.
                    let is_to_pay = matches!(failed, Failed::Lost);
                    let is_last = !this.round.has_more() && this.policy.failover.wait_for_ready.is_none();
                    let may_go_on = this.attempts.failed(failed, this.policy.failover.attempts) && !is_last;
                    may_go_on && (!is_to_pay || this.policy.pays_for_repeat())
                }
                Next::GiveUp => false,
            };
            // What is left of the attempt is dropped here, before the next one or the answer.
            this.step.set(Step::Pick);
            if !go_on {
                let answer = match this.attempts.answer() {
                    Ok(response) => response.map(GuardedBody::unguarded),
                    Err((rejection, protocol)) => reject(rejection, protocol),
                };
                return Poll::Ready(Ok(signed(answer, this.asked.as_ref(), *this.asked_count)));
            }
        }
    }
}

impl<S, F, E, ReqB, ResB> fmt::Debug for RoundRobinFuture<S, F, E, ReqB, ResB> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RoundRobinFuture").finish_non_exhaustive()
    }
}
