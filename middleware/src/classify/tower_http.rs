//! The classifiers of tower-http, as the ones for its `Trace` are written.
//!
//! It adds no rules of its own but two: a [`Verdict`] in the response's extensions wins, and a body that breaks off is a
//! failure, whatever the head said.

use http::{HeaderMap, Request, Response};
use tower_http::classify::{ClassifiedResponse, ClassifyEos, ClassifyResponse as ClassifyHead, MakeClassifier};

use super::{Classify, ClassifyResponse};
use crate::Verdict;

/// A classifier of tower-http decides: `Failure` for what it calls a failure, else `Success` at the end of the body.
///
/// Its rules come with it: `GrpcErrorsAsFailures` takes a response without a status, or a 503 without one, for a success.
/// [`AutoClassify`](crate::AutoClassify) does not.
///
/// ```
/// use campanile_middleware::{CircuitBreaker, CircuitBreakerLayer, TowerHttpClassify};
/// use tower_http::classify::{ServerErrorsAsFailures, SharedClassifier};
///
/// let classifier = SharedClassifier::new(ServerErrorsAsFailures::new());
/// let layer = CircuitBreakerLayer::new(CircuitBreaker::builder("orders").build())
///     .classify(TowerHttpClassify::new(classifier));
/// # let _ = layer;
/// ```
#[derive(Debug, Clone, Copy, Default)]
pub struct TowerHttpClassify<M> {
    make: M,
}

impl<M: MakeClassifier> TowerHttpClassify<M> {
    /// As `make` says.
    #[must_use]
    pub fn new(make: M) -> Self {
        Self { make }
    }
}

impl<M: MakeClassifier> Classify for TowerHttpClassify<M> {
    type Response = TowerHttpResponse<M::Classifier, M::ClassifyEos>;

    fn request<B>(&self, request: &Request<B>) -> Self::Response {
        TowerHttpResponse { step: Step::Head(self.make.make_classifier(request)) }
    }
}

/// [`TowerHttpClassify`] for one call.
#[derive(Debug)]
pub struct TowerHttpResponse<C, E> {
    step: Step<C, E>,
}

#[derive(Debug)]
enum Step<C, E> {
    /// The head has not come.
    Head(C),
    /// The trailers decide.
    Trailers(E),
    /// Decided by the head.
    Decided,
}

impl<C, E> ClassifyResponse for TowerHttpResponse<C, E>
where
    C: ClassifyHead<ClassifyEos = E>,
    E: ClassifyEos,
{
    fn head<B>(&mut self, response: &Response<B>) -> Option<Verdict> {
        if let Some(verdict) = response.extensions().get::<Verdict>() {
            return Some(*verdict);
        }
        let Step::Head(classifier) = std::mem::replace(&mut self.step, Step::Decided) else { return None };
        match classifier.classify_response(response) {
            ClassifiedResponse::Ready(Ok(())) => None,
            ClassifiedResponse::Ready(Err(_)) => Some(Verdict::Failure),
            ClassifiedResponse::RequiresEos(classifier) => {
                self.step = Step::Trailers(classifier);
                None
            }
        }
    }

    fn end(self, trailers: Option<&HeaderMap>) -> Verdict {
        match self.step {
            Step::Trailers(classifier) => {
                classifier.classify_eos(trailers).map_or(Verdict::Failure, |()| Verdict::Success)
            }
            Step::Head(_) | Step::Decided => Verdict::Success,
        }
    }

    fn wants_trailers(&self) -> bool {
        matches!(self.step, Step::Trailers(_))
    }
}

#[cfg(test)]
mod tests {
    use tower_http::classify::{GrpcErrorsAsFailures, ServerErrorsAsFailures, SharedClassifier};

    use super::*;

    fn response(status: u16) -> Response<()> {
        Response::builder().status(status).body(()).expect("a valid response")
    }

    #[test]
    fn the_head_decides_where_the_classifier_says_so() {
        let classify = TowerHttpClassify::new(SharedClassifier::new(ServerErrorsAsFailures::new()));
        let call = || classify.request(&Request::new(()));
        assert_eq!(call().head(&response(500)), Some(Verdict::Failure));
        for fine in [200, 404, 429] {
            let mut call = call();
            assert_eq!(call.head(&response(fine)), None, "the body may break off");
            assert!(!call.wants_trailers());
            assert_eq!(call.end(None), Verdict::Success);
        }
        assert_eq!(call().error(), Verdict::Failure);
    }

    #[test]
    fn the_trailers_decide_where_the_classifier_says_so() {
        let classify = TowerHttpClassify::new(SharedClassifier::new(GrpcErrorsAsFailures::new()));
        for (status, verdict) in [("0", Verdict::Success), ("13", Verdict::Failure)] {
            let mut call = classify.request(&Request::new(()));
            assert_eq!(call.head(&response(200)), None);
            assert!(call.wants_trailers());
            let trailers = [(http::HeaderName::from_static("grpc-status"), status.parse().expect("valid"))];
            assert_eq!(call.end(Some(&trailers.into_iter().collect())), verdict, "{status}");
        }
    }

    #[test]
    fn a_verdict_in_the_extensions_wins() {
        let classify = TowerHttpClassify::new(SharedClassifier::new(ServerErrorsAsFailures::new()));
        let mut planned = response(503);
        planned.extensions_mut().insert(Verdict::Ignore);
        assert_eq!(classify.request(&Request::new(())).head(&planned), Some(Verdict::Ignore));
    }
}
