//! What differs between protocols on a request's way through the instances, and how an instance is reached.

use std::{fmt, marker::PhantomData, time::Duration};

use super::{
    AnsweredBy,
    ledger::{Failed, Outlook},
    pass::Pass,
};

/// One request: what is sent in each attempt, and what the outcome of an attempt means.
pub(super) trait Exchange {
    /// What is sent.
    type Request;
    /// What the service of an instance answers.
    type Response;
    /// Its error.
    type Error;
    /// What an attempt holds of its instance's breaker while it is under way.
    type Watch;
    /// How the request ends if nothing works.
    type End;
    /// What the caller gets.
    type Answer;

    /// The request for the next attempt, kept for those after it as far as any may follow. `None` when it is gone.
    fn request(&mut self, outlook: Outlook) -> Option<Self::Request>;

    /// Whether [`Exchange::request`] would give a request.
    fn can_send(&self) -> bool;

    /// From here on the attempt is under way.
    fn watch(&self, pass: Pass, request: &Self::Request) -> Self::Watch;

    /// What the outcome of an attempt means. Tells the breaker.
    fn outcome(
        &mut self,
        watch: Self::Watch,
        outcome: Result<Self::Response, Self::Error>,
    ) -> Result<Self::Answer, Failed<Self::End>>;

    /// The service did not become ready; nothing was done. `None`: not in time.
    fn unready(&self, error: Option<Self::Error>) -> Self::End;

    /// The attempt took too long; it may have been processed. Tells the breaker.
    fn timed_out(&self, watch: Self::Watch) -> Self::End;

    /// The answer when nothing worked.
    fn answer(&self, end: Self::End) -> Self::Answer;

    /// The answer when no instance could be asked.
    fn not_asked(&self, retry_after: Option<Duration>) -> Self::Answer;

    /// The answer with the name of who gave it, where there is a place for that.
    fn signed(answer: Self::Answer, by: AnsweredBy) -> Self::Answer;
}

/// Makes the service of an attempt from what stands for an instance in the rotation.
pub trait Reach {
    /// What stands for an instance.
    type Target;
    /// What is called.
    type Service;

    /// The service of one attempt.
    fn reach(&self, target: &Self::Target) -> Self::Service;
}

/// An instance stands for itself: its service is in the rotation.
pub struct Itself<S>(PhantomData<fn() -> S>);

impl<S> Itself<S> {
    pub(super) const NEW: Self = Self(PhantomData);
}

impl<S: Clone> Reach for Itself<S> {
    type Target = S;
    type Service = S;

    fn reach(&self, service: &S) -> S {
        service.clone()
    }
}

impl<S> fmt::Debug for Itself<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Itself")
    }
}
