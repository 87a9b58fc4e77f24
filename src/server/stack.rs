//! What every request passes, REST and gRPC alike: the same layers, in the same order, with one state.
//!
//! Not here: the layers themselves (crate `campanile-middleware`). Invariant: there is one [`Stack`] in the process, and
//! both ports serve clones of the one service that it makes.

use std::{convert::Infallible, time::Duration};

use axum::{Router, body::Body};
use bytes::Bytes;
use campanile_middleware::{
    AccessLogLayer, CatchPanicLayer, CircuitBreaker, ConcurrencyLimitLayer, DeadlineLayer, HopLimitLayer,
    KeyedCircuitBreakerLayer, Protocol, RejectionCode, RequestIdLayer,
};
use http::{HeaderValue, Request, Response};
use tower::{BoxError, Service, ServiceBuilder};

use super::{branch::Branch, dispatch::Dispatch, operation::Operation, serving::Serving};
use crate::config::Config;

/// Failures in a row after which an operation is refused at once, and for how long. More patient and shorter than an
/// instance's circuit: there is nobody else to ask.
const OPERATION_FAILURES: u32 = 20;
const OPERATION_OPEN_FOR: Duration = Duration::from_secs(2);

/// A request is forwarded once, by the instance that its client asked.
const HOPS_MAX: u32 = 1;

/// The layers that have state. Built once.
#[derive(Debug)]
pub(super) struct Stack {
    concurrency_limit: ConcurrencyLimitLayer,
    operation_breakers: KeyedCircuitBreakerLayer<Operation>,
    deadline: DeadlineLayer,
}

impl Stack {
    pub(super) fn new(config: &Config) -> Self {
        let breaker = |operation: &Operation| {
            CircuitBreaker::builder(operation.name())
                .consecutive_failures(OPERATION_FAILURES)
                .open_for(OPERATION_OPEN_FOR)
                .build()
        };
        Self {
            concurrency_limit: ConcurrencyLimitLayer::fixed(config.concurrency_limit),
            operation_breakers: KeyedCircuitBreakerLayer::new(
                |request| Some(Operation::of_path(request.uri.path())),
                breaker,
            ),
            deadline: DeadlineLayer::new(config.request_timeout),
        }
    }

    /// The whole service. Read top to bottom: a request meets the layers in this order, its response in the reverse.
    pub(super) fn service(self, observability: Dispatch, serving: Serving) -> impl HttpService {
        let use_ = ServiceBuilder::new()
            // Bounds memory: nothing below ever holds more requests than this. Before the breaker, so that what is shed
            // counts neither for nor against it.
            .layer(self.concurrency_limit)
            // Outside the deadline, so that being too slow counts as a failure.
            .layer(self.operation_breakers)
            // Around all attempts at a request together.
            .layer(self.deadline)
            .service(serving);
        ServiceBuilder::new()
            // Outermost, so that all that follows can name the request.
            .layer(RequestIdLayer::new())
            // Outside all that refuses or breaks, so that this is logged too.
            .layer(AccessLogLayer::new())
            // Outside all layers that refuse: what they say over gRPC carries the code that the REST answer has.
            .map_response(name_code)
            // A panic below becomes an answer, and is logged as such.
            .layer(CatchPanicLayer::new())
            // First of those that refuse: a request that goes in circles takes no place from others.
            .layer(HopLimitLayer::new(HOPS_MAX))
            // Overload and open circuits must stay observable: health is outside of both.
            .service(Branch { observability, use_ })
    }
}

/// The metadata that carries a refusal's code over gRPC, as those of the broker's own refusals.
const CODE: &str = "campanile-code";

fn name_code<B>(mut response: Response<B>) -> Response<B> {
    let code = response.extensions().get::<RejectionCode>().copied();
    if let (Some(RejectionCode(code)), Protocol::Grpc) = (code, Protocol::of(response.headers())) {
        response.headers_mut().insert(CODE, HeaderValue::from_static(code));
    }
    response
}

/// The stack over any two routers, without health and without other instances: for tests of what it promises.
pub fn stack(config: &Config, rest: Router, grpc: Router) -> Router {
    let observability = Dispatch { rest: Router::new(), grpc: Router::new() };
    let serving = Serving::new(Dispatch { rest, grpc }, None);
    Router::new().fallback_service(Stack::new(config).service(observability, serving))
}

/// What a port can serve.
pub(super) trait HttpService:
    Service<Request<Body>, Response = Response<Self::Body>, Error = Infallible, Future: Send>
    + Clone
    + Send
    + Sync
    + 'static
{
    /// The body of its responses.
    type Body: http_body::Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static;
}

impl<S, B> HttpService for S
where
    S: Service<Request<Body>, Response = Response<B>, Error = Infallible, Future: Send> + Clone + Send + Sync + 'static,
    B: http_body::Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
{
    type Body = B;
}
