//! What tower asks of a layer.

use std::{convert::Infallible, time::Duration};

use bytes::Bytes;
use campanile_middleware::{
    AccessLogLayer, CatchPanicLayer, CircuitBreaker, CircuitBreakerLayer, CircuitState, ConcurrencyLimit,
    ConcurrencyLimitLayer, DeadlineLayer, GenericCircuitBreakerLayer, GenericConcurrencyLimitLayer, HopLimitLayer,
    Instance, KeyedCircuitBreakerLayer, OverflowQueue, RequestIdLayer, RoundRobin,
};
use http::{Request, Response};
use http_body_util::{Empty, Full};
use tower::{
    Layer, Service, ServiceBuilder, ServiceExt, buffer::BufferLayer, service_fn, steer::Steer,
    util::BoxCloneSyncService,
};
use tower_test::mock;

use crate::support::{answer, get};

type Req = Request<Empty<Bytes>>;
type Res = Response<Full<Bytes>>;

fn open_breaker() -> CircuitBreaker {
    let breaker = CircuitBreaker::builder("test").consecutive_failures(1).build();
    breaker.try_acquire().expect("closed").complete(campanile_middleware::Verdict::Failure);
    breaker
}

#[tokio::test]
async fn an_open_circuit_inside_a_buffer_does_not_kill_it() {
    let breaker = open_breaker();
    let stack = ServiceBuilder::new().layer(BufferLayer::new(4)).layer(CircuitBreakerLayer::new(breaker.clone()));
    let service = stack.service(service_fn(|_: Req| answer(200)));
    for _ in 0..3 {
        assert_eq!(service.clone().oneshot(get("/")).await.expect("the buffer lives").status(), 503);
    }
    breaker.reset();
    assert_eq!(service.clone().oneshot(get("/")).await.expect("the buffer lives").status(), 200);
}

#[tokio::test]
async fn an_open_circuit_inside_steer_and_boxes_answers() {
    let open = CircuitBreakerLayer::new(open_breaker()).layer(service_fn(|_: Req| answer(200)));
    let closed =
        CircuitBreakerLayer::new(CircuitBreaker::builder("closed").build()).layer(service_fn(|_: Req| answer(200)));
    let services = [BoxCloneSyncService::new(open), BoxCloneSyncService::new(closed)];
    let by_path = |request: &Req, _: &[_]| usize::from(request.uri().path() == "/closed");
    let mut steer = Steer::new(services, by_path);
    for (path, status) in [("/open", 503), ("/closed", 200)] {
        let response = steer.ready().await.expect("ready").call(get(path)).await.expect("infallible");
        assert_eq!(response.status(), status);
    }
}

#[tokio::test]
async fn the_service_that_was_ready_is_the_one_that_is_called_at_once() {
    let (mock, mut handle) = mock::pair::<Req, Res>();
    // `mock::Mock` panics when it is called without having been ready: a layer that swaps in a clone would fail here.
    let mut service = ServiceBuilder::new()
        .layer(RequestIdLayer::new())
        .layer(AccessLogLayer::new())
        .layer(HopLimitLayer::new(1))
        .layer(ConcurrencyLimitLayer::fixed(1))
        .layer(CircuitBreakerLayer::new(CircuitBreaker::builder("test").build()))
        .layer(DeadlineLayer::new(Duration::from_secs(1)))
        .service(mock);
    handle.allow(1);
    service.ready().await.expect("ready");
    let response = service.call(get("/asked"));
    let (request, respond) = handle.next_request().await.expect("the request is there before the future is polled");
    assert_eq!(request.uri().path(), "/asked");
    respond.send_response(Response::new(Full::default()));
    assert_eq!(response.await.expect("a response").status(), 200);
}

#[tokio::test]
async fn readiness_is_that_of_the_service_whatever_the_circuit_says() {
    let (mock, mut handle) = mock::pair::<Req, Res>();
    let mut service = CircuitBreakerLayer::new(open_breaker()).layer(mock);
    let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
    handle.allow(0);
    assert!(service.poll_ready(&mut cx).is_pending());
    handle.allow(1);
    assert!(matches!(service.poll_ready(&mut cx), std::task::Poll::Ready(Ok(()))));
}

#[test]
fn stacks_are_send_and_sync_and_so_are_their_futures() {
    fn shared<S>(_: &S)
    where
        S: Service<Req, Error = Infallible, Future: Send> + Clone + Send + Sync + 'static,
    {
    }
    let instance = Instance::new("a", service_fn(|_| answer(200)), CircuitBreaker::builder("a").build());
    let stack = ServiceBuilder::new()
        .layer(RequestIdLayer::new())
        .layer(AccessLogLayer::new())
        .layer(CatchPanicLayer::new())
        .layer(HopLimitLayer::new(1))
        .layer(ConcurrencyLimitLayer::fixed(1))
        .layer(CircuitBreakerLayer::new(CircuitBreaker::builder("test").build()))
        .layer(DeadlineLayer::new(Duration::from_secs(1)))
        .service(RoundRobin::new([instance]));
    shared(&stack);
}

#[tokio::test]
async fn clone_and_oneshot_shares_the_circuit() {
    let breaker = CircuitBreaker::builder("test").consecutive_failures(3).build();
    let service = CircuitBreakerLayer::new(breaker.clone()).layer(service_fn(|_: Req| answer(500)));
    for _ in 0..3 {
        assert_eq!(service.clone().oneshot(get("/")).await.expect("infallible").status(), 500);
    }
    assert_eq!(breaker.state(), CircuitState::Open);
    assert_eq!(service.clone().oneshot(get("/")).await.expect("infallible").status(), 503);
}

#[test]
fn readiness_and_its_failure_are_those_of_the_service_behind_every_guard() {
    fn passes_through<L>(layer: &L)
    where
        L: Layer<mock::Mock<Req, Res>, Service: Service<Req>>,
    {
        let (mock, mut handle) = mock::pair::<Req, Res>();
        let mut service = layer.layer(mock);
        let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
        handle.allow(0);
        assert!(service.poll_ready(&mut cx).is_pending());
        handle.allow(1);
        assert!(matches!(service.poll_ready(&mut cx), std::task::Poll::Ready(Ok(()))));
        handle.send_error("gone");
        assert!(matches!(service.poll_ready(&mut cx), std::task::Poll::Ready(Err(_))));
    }
    passes_through(&CatchPanicLayer::new());
    passes_through(&CircuitBreakerLayer::new(open_breaker()));
    passes_through(&KeyedCircuitBreakerLayer::new(|_| Some(1), |_| open_breaker()));
    passes_through(&GenericCircuitBreakerLayer::new(open_breaker()));
    let queue = OverflowQueue { len: 1, timeout: Duration::from_secs(1) };
    passes_through(&ConcurrencyLimitLayer::fixed(0));
    passes_through(&ConcurrencyLimitLayer::fixed(0).overflow(queue));
    passes_through(&GenericConcurrencyLimitLayer::new(ConcurrencyLimit::fixed(0)));
    passes_through(&GenericConcurrencyLimitLayer::new(ConcurrencyLimit::fixed(0)).overflow(queue));
}
