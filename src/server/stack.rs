//! What every request passes, REST and gRPC alike: the same layers, in the same order, with one state.
//!
//! Not here: the layers themselves (crate `campanile-middleware`). Invariant: there is one [`Stack`] in the process, and
//! both ports serve clones of the one service that it makes.

use std::{convert::Infallible, time::Duration};

use axum::{Router, body::Body};
use bytes::Bytes;
use campanile_middleware::{
    CircuitBreaker, ConcurrencyLimitLayer, HopLimitLayer, KeyedCircuitBreakerLayer, Protocol, RejectionCode,
    ServerStack,
};
use http::{HeaderValue, Request, Response};
use tower::{BoxError, Layer as _, Service, ServiceBuilder};

use super::{branch::Branch, dispatch::Dispatch, fork::Fork, operation::Operation, serving::Serving};
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
    layers: ServerStack<KeyedCircuitBreakerLayer<Operation>>,
    /// The same circuits under the limit of those who wait for messages.
    receives: ServerStack<KeyedCircuitBreakerLayer<Operation>>,
}

impl Stack {
    pub(super) fn new(config: &Config) -> Self {
        let breaker = |operation: &Operation| {
            CircuitBreaker::builder(operation.name())
                .consecutive_failures(OPERATION_FAILURES)
                .open_for(OPERATION_OPEN_FOR)
                .build()
        };
        let breakers = KeyedCircuitBreakerLayer::new(|request| Some(Operation::of_path(request.uri.path())), breaker);
        let layers = ServerStack::new()
            .hop_limit(HopLimitLayer::new(HOPS_MAX))
            .concurrency_limit(ConcurrencyLimitLayer::fixed(config.concurrency_limit))
            .breaker(breakers)
            .deadline(config.request_timeout);
        let receives = layers.clone().concurrency_limit(ConcurrencyLimitLayer::fixed(config.waiting_receives_max));
        Self { layers, receives }
    }

    /// The whole service. The order within the two parts, and the reasons for it, stand with [`ServerStack`]. Read top to
    /// bottom: a request meets them in this order, its response in the reverse.
    pub(super) fn service(self, observability: Dispatch, serving: Serving) -> impl HttpService {
        let use_ = Fork {
            receives: self.receives.guards().layer(serving.clone()),
            others: self.layers.guards().layer(serving),
        };
        ServiceBuilder::new()
            // Outside all layers that refuse: what they say over gRPC carries the code that the REST answer has.
            .map_response(name_code)
            // Names, logs, catches panics, breaks circles.
            .layer(self.layers.front())
            // Overload and open circuits must stay observable: health is outside of both. Below the fork: the limit, the
            // operations' breakers, and the deadline around all attempts at a request together.
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
