//! The order of the stacks, seen from what a request meets.

use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    time::Duration,
};

use bytes::Bytes;
use campanile_middleware::{
    CircuitBreaker, CircuitBreakerLayer, CircuitState, ClientStack, ConcurrencyLimitLayer, Hops, Instance, RoundRobin,
    ServerStack, Verdict,
};
use http::{Request, Response};
use http_body_util::{Empty, Full};
use tokio::time::Instant;
use tower::{Layer, Service, ServiceExt, layer::util::Identity, service_fn};
use tracing::Level;

use crate::support::{answer, get, logged, problem_code, record_log};

type Req = Request<Empty<Bytes>>;

fn breaker() -> CircuitBreaker {
    CircuitBreaker::builder("test").consecutive_failures(1).build()
}

#[tokio::test]
async fn what_a_server_refuses_is_named_and_logged_and_says_nothing_about_the_service() {
    let breaker = breaker();
    for (limit, hops, code) in [(0, "0", "overloaded"), (1, "9", "loop_detected")] {
        record_log(Level::DEBUG);
        let stack = ServerStack::new()
            .concurrency_limit(ConcurrencyLimitLayer::fixed(limit))
            .breaker(CircuitBreakerLayer::new(breaker.clone()));
        let mut request = get("/");
        request.headers_mut().insert(Hops::HEADER, hops.parse().expect("valid"));
        let response = stack.layer(service_fn(|_: Req| answer(200))).oneshot(request).await.expect("infallible");
        assert!(response.headers().contains_key("x-request-id"), "{code}");
        assert_eq!(problem_code(response).await, code);
        assert_eq!(logged("access").len(), 1, "{code}");
    }
    assert_eq!(breaker.state(), CircuitState::Closed);
}

#[tokio::test]
async fn a_request_that_goes_in_circles_takes_no_place() {
    let limit = ConcurrencyLimitLayer::fixed(1);
    let service = ServerStack::new().concurrency_limit(limit.clone()).layer(service_fn(|_: Req| answer(200)));
    let mut request = get("/");
    request.headers_mut().insert(Hops::HEADER, "4".parse().expect("valid"));
    let response = service.oneshot(request).await.expect("infallible");
    assert_eq!((response.status().as_u16(), limit.in_flight()), (508, 0));
}

#[tokio::test(start_paused = true)]
async fn being_too_slow_counts_as_a_failure_on_both_sides() {
    let slow = || service_fn(|_: Req| std::future::pending::<Result<Response<Full<Bytes>>, Infallible>>());
    let second = Duration::from_secs(1);
    let (server, client) = (breaker(), breaker());
    let begun = Instant::now();
    let stack = ServerStack::new().deadline(second).breaker(CircuitBreakerLayer::new(server.clone()));
    assert_eq!(stack.layer(slow()).oneshot(get("/")).await.expect("infallible").status(), 504);
    assert_eq!(begun.elapsed(), second);
    let stack = ClientStack::new().deadline(second).breaker(CircuitBreakerLayer::new(client.clone()));
    assert_eq!(stack.layer(slow()).oneshot(get("/")).await.expect("infallible").status(), 504);
    assert_eq!(begun.elapsed(), 2 * second);
    assert_eq!((server.state(), client.state()), (CircuitState::Open, CircuitState::Open));
}

#[tokio::test]
async fn a_panic_is_answered_logged_and_a_failure_to_the_breaker() {
    record_log(Level::DEBUG);
    let breaker = breaker();
    let stack = ServerStack::new().breaker(CircuitBreakerLayer::new(breaker.clone()));
    let panics = service_fn(|_: Req| async { panic!("a bug") as Result<Response<Full<Bytes>>, Infallible> });
    let response = stack.layer(panics).oneshot(get("/")).await.expect("infallible");
    assert_eq!((response.status().as_u16(), response.extensions().get()), (500, Some(&Verdict::Failure)));
    drop(response);
    assert_eq!(logged("access").len(), 1);
    let told: Vec<_> = logged("campanile_middleware::catch_panic").iter().map(|event| event.level).collect();
    assert_eq!(told, [Some(Level::ERROR)], "once");
    assert_eq!(breaker.state(), CircuitState::Open);
}

#[tokio::test]
async fn health_between_the_parts_answers_while_the_service_is_overloaded() {
    let stack = ServerStack::new().concurrency_limit(ConcurrencyLimitLayer::fixed(0));
    let mut guarded = stack.guards().layer(service_fn(|_: Req| answer(200)));
    let fork = stack.front().layer(service_fn(move |request: Req| {
        let health = request.uri().path() == "/health";
        let guarded = guarded.call(request);
        async move {
            if health {
                answer(200).await
            } else {
                Ok(Response::builder().status(guarded.await?.status()).body(Full::default()).expect("valid"))
            }
        }
    }));
    assert_eq!(fork.clone().oneshot(get("/health")).await.expect("infallible").status(), 200);
    assert_eq!(fork.oneshot(get("/orders")).await.expect("infallible").status(), 503);
}

#[tokio::test]
async fn all_attempts_of_a_client_carry_one_id_and_make_one_event() {
    record_log(Level::DEBUG);
    let (attempts, ids) = (Arc::new(AtomicU32::new(0)), Arc::new(std::sync::Mutex::new(Vec::new())));
    let instances = ["a", "b"].map(|name| {
        let (attempts, ids) = (attempts.clone(), ids.clone());
        let service = service_fn(move |request: Request<_>| {
            let _: &campanile_middleware::ReplayBody<Empty<Bytes>> = request.body();
            ids.lock().expect("one thread").push(request.headers()["x-request-id"].clone());
            answer(if attempts.fetch_add(1, Relaxed) == 0 { 503 } else { 200 })
        });
        Instance::new(name, service, CircuitBreaker::builder(name).build())
    });
    let client = ClientStack::new().layer(RoundRobin::new(instances));
    let response = client.oneshot(get("/")).await.expect("infallible");
    assert_eq!(response.status(), 200);
    let ids = ids.lock().expect("one thread");
    assert_eq!(ids.len(), 2);
    assert!(ids.iter().all(|id| *id == response.headers()["x-request-id"]));
    drop(response);
    assert_eq!(logged("access").len(), 1);
}

#[tokio::test]
async fn everything_made_from_a_stack_shares_one_circuit() {
    let breaker = breaker();
    let stack = ServerStack::new().breaker(CircuitBreakerLayer::new(breaker));
    let broken = stack.clone().layer(service_fn(|_: Req| answer(500)));
    let fine = stack.layer(service_fn(|_: Req| answer(200)));
    assert_eq!(broken.oneshot(get("/")).await.expect("infallible").status(), 500);
    assert_eq!(fine.oneshot(get("/")).await.expect("infallible").status(), 503);
}

#[tokio::test]
async fn a_client_that_keeps_no_log_still_names_its_requests() {
    record_log(Level::DEBUG);
    let service = ClientStack::new().access_log(Identity::new()).layer(service_fn(|_: Req| answer(503)));
    let response = service.oneshot(get("/")).await.expect("infallible");
    assert!(response.headers().contains_key("x-request-id"));
    assert!(logged("access").is_empty());
}
