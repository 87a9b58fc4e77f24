//! Waiting for a place.
//!
//! Invariant: a number in the queue is left exactly once, with its place or, by drop, without.

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use pin_project_lite::pin_project;
use tokio::time::{Instant, Sleep, sleep_until};

use super::{ConcurrencyLimit, OverflowQueue, Overloaded, Place};

/// Nobody waits longer than a day.
const TIMEOUT_MAX: Duration = Duration::from_secs(24 * 3600);

pin_project! {
    /// A place, as soon as there is one. Made by [`ConcurrencyLimit::acquire`].
    #[must_use = "futures do nothing unless polled"]
    pub struct Acquire {
        #[pin]
        step: Step,
    }
}

pin_project! {
    #[project = StepProj]
    enum Step {
        Decided { outcome: Option<Result<Place, Overloaded>> },
        // The timer is made when it is polled, as it needs a runtime.
        Waiting { ticket: Ticket, deadline: Instant, #[pin] timer: Option<Sleep> },
    }
}

/// A number in the queue.
struct Ticket {
    limit: ConcurrencyLimit,
    number: u64,
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.limit.metrics().left_queue();
        self.limit.leave(self.number);
    }
}

impl Acquire {
    pub(super) fn new(limit: &ConcurrencyLimit, queue: OverflowQueue) -> Self {
        let decided = if limit.take() { Ok(None) } else { limit.take_or_join(queue.len) };
        let step = match decided {
            Ok(None) => Step::Decided { outcome: Some(Ok(Place::new(limit.clone()))) },
            Err(overloaded) => Step::Decided { outcome: Some(Err(overloaded)) },
            Ok(Some(number)) => {
                let ticket = Ticket { limit: limit.clone(), number };
                limit.metrics().joined_queue();
                let deadline = Instant::now() + queue.timeout.min(TIMEOUT_MAX);
                Step::Waiting { ticket, deadline, timer: None }
            }
        };
        Self { step }
    }
}

impl Future for Acquire {
    type Output = Result<Place, Overloaded>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut step = self.project().step;
        let outcome = match step.as_mut().project() {
            StepProj::Decided { outcome } => outcome.take().expect("a future is not polled after it was ready"),
            StepProj::Waiting { ticket, deadline, mut timer } => {
                if ticket.limit.collect(ticket.number, cx.waker()) {
                    Ok(Place::new(ticket.limit.clone()))
                } else {
                    if timer.is_none() {
                        timer.set(Some(sleep_until(*deadline)));
                    }
                    match timer.as_pin_mut().map(|timer| timer.poll(cx)) {
                        Some(Poll::Ready(())) => Err(ticket.limit.shed()),
                        _ => return Poll::Pending,
                    }
                }
            }
        };
        // Leaves the queue now, not when the future is dropped.
        step.set(Step::Decided { outcome: None });
        Poll::Ready(outcome)
    }
}

impl fmt::Debug for Acquire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Acquire").finish_non_exhaustive()
    }
}
