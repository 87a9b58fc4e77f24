//! One request on its way through the instances, whatever its protocol.
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
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use pin_project_lite::pin_project;
use tokio::{
    sync::futures::OwnedNotified,
    time::{Instant, Sleep, sleep, sleep_until},
};
use tower_service::Service;

use super::{
    AnsweredBy, Instance,
    exchange::{Exchange, Reach},
    failover::Rules,
    ledger::{End, Failed, Ledger, Outlook},
    pass::Pass,
    rotation::{Rotation, Round},
};
use crate::Verdict;

/// How often a waiting request tries again without being woken: circuits close and standbys take over unannounced.
const TICK: Duration = Duration::from_millis(50);

/// A day: nobody waits longer, and it is safe to add to any clock.
const WAIT_MAX: Duration = Duration::from_secs(24 * 3600);

pin_project! {
    /// `R` reaches the instances, `F` is the future of their service, `X` is the request.
    pub(super) struct Drive<R, F, X>
    where
        R: Reach,
        X: Exchange,
    {
        rotation: Arc<Rotation<R::Target>>,
        rules: Arc<Rules>,
        reach: R,
        exchange: X,
        ledger: Ledger<X::End>,
        round: Round<R::Target>,
        // The instance that was asked last, and how many were.
        asked: Option<Instance<R::Target>>,
        asked_count: u32,
        // When to give up waiting for an instance; set by the first wait.
        give_up: Option<Instant>,
        // The end of the attempt under way.
        #[pin]
        per_try: Option<Sleep>,
        #[pin]
        step: Step<R::Service, F, X::Watch>,
    }
}

pin_project! {
    #[project = StepProj]
    enum Step<S, F, W> {
        Pick,
        Ready { service: S, pass: Option<Pass> },
        Call { #[pin] future: F, watch: Option<W> },
        Wait { #[pin] woken: OwnedNotified, #[pin] tick: Sleep },
    }
}

/// What a step makes of the request.
enum Next<X: Exchange> {
    /// Another step is to be taken.
    Step,
    Pending,
    Answer(X::Answer),
    /// The attempt did not answer the request.
    Failed(Failed<X::End>),
    /// No instance is left in this round.
    RoundOver,
    /// Nothing worked.
    GiveUp,
}

impl<R: Reach, F, X: Exchange> Drive<R, F, X> {
    pub(super) fn new(
        rotation: Arc<Rotation<R::Target>>,
        rules: Arc<Rules>,
        reach: R,
        exchange: X,
        ledger: Ledger<X::End>,
    ) -> Self {
        let round = rotation.round();
        rules.begun();
        Self {
            rotation,
            rules,
            reach,
            exchange,
            ledger,
            round,
            asked: None,
            asked_count: 0,
            give_up: None,
            per_try: None,
            step: Step::Pick,
        }
    }
}

impl<R, F, X> Drive<R, F, X>
where
    R: Reach,
    R::Target: Clone,
    R::Service: Service<X::Request, Response = X::Response, Error = X::Error, Future = F>,
    F: Future<Output = Result<X::Response, X::Error>>,
    X: Exchange,
{
    fn pick(self: Pin<&mut Self>) -> Next<X> {
        let mut this = self.project();
        let Some(instance) = this.round.pick() else {
            return Next::RoundOver;
        };
        let pass = match instance.breaker().try_acquire() {
            Ok(permit) => Pass::Permit(permit),
            Err(rejected) if this.rules.ignores(&rejected, this.round.available()) => Pass::Ignored,
            Err(rejected) => {
                instance.skipped(&rejected);
                this.ledger.skipped(rejected.retry_after);
                return Next::Step;
            }
        };
        instance.attempted();
        let bound = this.rules.failover.per_try.filter(|_| !instance.is_local());
        this.per_try.set(bound.map(sleep));
        let service = this.reach.reach(instance.service());
        this.step.set(Step::Ready { service, pass: Some(pass) });
        *this.asked = Some(instance);
        *this.asked_count = this.asked_count.saturating_add(1);
        Next::Step
    }

    /// Every instance was asked or passed over: wait for one, if the request may be sent to it.
    fn round_over(self: Pin<&mut Self>) -> Next<X> {
        let mut this = self.project();
        let may_go_on = this.ledger.may_go_on() && this.exchange.can_send();
        let Some(wait) = this.rules.failover.wait_for_ready.filter(|_| may_go_on) else {
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

    fn wait(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Next<X> {
        let mut this = self.project();
        let StepProj::Wait { woken, tick } = this.step.as_mut().project() else { return Next::Step };
        if woken.poll(cx).is_pending() && tick.poll(cx).is_pending() {
            return Next::Pending;
        }
        *this.round = this.rotation.round();
        this.step.set(Step::Pick);
        Next::Step
    }

    fn ready(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Next<X> {
        let mut this = self.project();
        let StepProj::Ready { service, pass: slot } = this.step.as_mut().project() else { return Next::Step };
        // Out of `self` while the service runs: if it panics, the permit is dropped by the unwinding, and can tell.
        let pass = slot.take().expect("an attempt has a pass");
        let error = match service.poll_ready(cx) {
            Poll::Ready(Ok(())) => {
                let is_last = is_last(this.round, this.rules);
                let outlook = if is_last { Outlook::LAST } else { this.ledger.outlook() };
                let Some(request) = this.exchange.request(outlook) else { return Next::GiveUp };
                let watch = this.exchange.watch(pass, &request);
                let future = service.call(request);
                this.step.set(Step::Call { future, watch: Some(watch) });
                return Next::Step;
            }
            Poll::Pending if !is_over(this.per_try, cx) => {
                *slot = Some(pass);
                return Next::Pending;
            }
            Poll::Pending => None,
            Poll::Ready(Err(error)) => Some(error),
        };
        pass.complete(Verdict::Failure);
        Next::Failed(Failed::NothingDone(this.exchange.unready(error)))
    }

    fn call(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Next<X> {
        let mut this = self.project();
        let StepProj::Call { future, watch: slot } = this.step.as_mut().project() else { return Next::Step };
        let watch = slot.take().expect("an attempt is watched");
        match future.poll(cx) {
            Poll::Ready(outcome) => match this.exchange.outcome(watch, outcome) {
                Ok(answer) => Next::Answer(answer),
                Err(failed) => Next::Failed(failed),
            },
            Poll::Pending if !is_over(this.per_try, cx) => {
                *slot = Some(watch);
                Next::Pending
            }
            Poll::Pending => Next::Failed(Failed::MaybeDone(this.exchange.timed_out(watch))),
        }
    }

    /// Whether another attempt is to be made after this one.
    fn failed(self: Pin<&mut Self>, failed: Failed<X::End>) -> bool {
        let this = self.project();
        // An attempt that provably did nothing is free.
        let is_to_pay = matches!(failed, Failed::MaybeDone(_));
        this.ledger.failed(failed);
        this.ledger.may_go_on()
            && this.exchange.can_send()
            && !is_last(this.round, this.rules)
            && (!is_to_pay || this.rules.pays_for_repeat())
    }
}

/// Whether no attempt can follow the one under way.
fn is_last<T>(round: &Round<T>, rules: &Rules) -> bool {
    !round.has_more() && rules.failover.wait_for_ready.is_none()
}

fn is_over(bound: Pin<&mut Option<Sleep>>, cx: &mut Context<'_>) -> bool {
    bound.as_pin_mut().is_some_and(|sleep| sleep.poll(cx).is_ready())
}

impl<R, F, X> Future for Drive<R, F, X>
where
    R: Reach,
    R::Target: Clone,
    R::Service: Service<X::Request, Response = X::Response, Error = X::Error, Future = F>,
    F: Future<Output = Result<X::Response, X::Error>>,
    X: Exchange,
{
    type Output = X::Answer;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<X::Answer> {
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
            let goes_on = match next {
                Next::Step | Next::RoundOver => continue,
                Next::Pending => return Poll::Pending,
                Next::Answer(answer) => {
                    let this = self.project();
                    return Poll::Ready(signed::<X, _>(answer, this.asked.as_ref(), *this.asked_count));
                }
                Next::Failed(failed) => self.as_mut().failed(failed),
                Next::GiveUp => false,
            };
            let mut this = self.as_mut().project();
            // What is left of the attempt is dropped here, before the next one or the answer.
            this.step.set(Step::Pick);
            if !goes_on {
                let answer = match this.ledger.end() {
                    End::Asked(end) => this.exchange.answer(end),
                    End::NotAsked(retry_after) => this.exchange.not_asked(retry_after),
                };
                return Poll::Ready(signed::<X, _>(answer, this.asked.as_ref(), *this.asked_count));
            }
        }
    }
}

fn signed<X: Exchange, T>(answer: X::Answer, asked: Option<&Instance<T>>, attempts: u32) -> X::Answer {
    match asked {
        Some(instance) => X::signed(answer, AnsweredBy::new(instance, attempts)),
        None => answer,
    }
}
