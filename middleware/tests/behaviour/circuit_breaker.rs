//! The circuit breaker and its layer.

use std::{
    convert::Infallible,
    sync::{Arc, Barrier, Mutex},
    time::Duration,
};

use bytes::Bytes;
use campanile_middleware::{
    CatchPanicLayer, CircuitBreaker, CircuitBreakerLayer, CircuitState, HalfOpen, Permit, Verdict,
};
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body_util::{BodyExt, Empty, Full};
use tokio::time::advance;
use tower::{Layer, Service, ServiceBuilder, ServiceExt, service_fn};

use crate::support::{BoxError, Fed, answer, data, fed, get, grpc, problem_code, trailers};

const OPEN: Duration = Duration::from_secs(30);

/// Opens with the first failure.
fn breaker() -> CircuitBreaker {
    CircuitBreaker::builder("test").consecutive_failures(1).open_for(OPEN).build()
}

fn fail(breaker: &CircuitBreaker) {
    breaker.try_acquire().expect("admitted").complete(Verdict::Failure);
}

/// Calls a service that answers with this response, and reads its body to the end.
async fn verdict_of(request: Request<Empty<Bytes>>, response: Response<Fed>) -> CircuitState {
    let breaker = breaker();
    let response = Mutex::new(Some(response));
    let service = service_fn(|_| {
        let response = response.lock().expect("one thread").take().expect("one call");
        async move { Ok::<_, Infallible>(response) }
    });
    let service = CircuitBreakerLayer::new(breaker.clone()).layer(service);
    let response = service.oneshot(request).await.expect("infallible");
    let _ = response.into_body().collect().await;
    breaker.state()
}

fn grpc_response(frames: impl IntoIterator<Item = Result<http_body::Frame<Bytes>, BoxError>>) -> Response<Fed> {
    let (feed, body) = fed();
    frames.into_iter().for_each(|frame| feed.send(frame).expect("the body is there"));
    Response::builder().header("content-type", "application/grpc").body(body).expect("valid")
}

#[test]
fn half_open_admits_exactly_its_probes_of_a_hundred_at_once() {
    for probes in [1, 3] {
        let half_open = HalfOpen { probes, timeout: Duration::from_secs(60) };
        let builder = CircuitBreaker::builder("test").consecutive_failures(1);
        let breaker = builder.open_for(Duration::ZERO).half_open(half_open).build();
        fail(&breaker);
        let barrier = Barrier::new(100);
        let ask = || {
            barrier.wait();
            breaker.try_acquire()
        };
        let permits: Vec<Permit> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..100).map(|_| scope.spawn(ask)).collect();
            threads.into_iter().filter_map(|thread| thread.join().expect("no panic").ok()).collect()
        });
        assert_eq!(permits.len(), probes as usize);
    }
}

#[test]
fn threads_that_fail_and_succeed_at_once_leave_a_circuit_that_works() {
    let breaker = CircuitBreaker::builder("test").consecutive_failures(3).open_for(Duration::ZERO).build();
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let breaker = breaker.clone();
            scope.spawn(move || {
                for call in 0..20_000 {
                    if let Ok(permit) = breaker.try_acquire() {
                        match (call + thread) % 5 {
                            0 | 1 => permit.complete(Verdict::Failure),
                            2 => drop(permit),
                            _ => permit.complete(Verdict::Success),
                        }
                    }
                }
            });
        }
    });
    assert_eq!(breaker.snapshot().probes_under_way, 0);
    while breaker.state() != CircuitState::Closed {
        breaker.try_acquire().expect("nothing is under way").complete(Verdict::Success);
    }
}

#[test]
fn a_hundred_thousand_successes_do_not_make_it_numb() {
    let breaker = CircuitBreaker::builder("test").consecutive_failures(5).build();
    for _ in 0..100_000 {
        breaker.try_acquire().expect("closed").complete(Verdict::Success);
    }
    for _ in 0..5 {
        assert_eq!(breaker.state(), CircuitState::Closed);
        fail(&breaker);
    }
    assert_eq!(breaker.state(), CircuitState::Open);
}

#[tokio::test(start_paused = true)]
async fn a_slow_call_admitted_before_the_trip_cannot_close_the_circuit() {
    let breaker = breaker();
    let slow = breaker.try_acquire().expect("closed");
    fail(&breaker);
    advance(OPEN).await;
    let probe = breaker.try_acquire().expect("the open time is over");
    slow.complete(Verdict::Success);
    assert_eq!(breaker.state(), CircuitState::HalfOpen);
    probe.complete(Verdict::Success);
    assert_eq!(breaker.state(), CircuitState::Closed);
}

#[tokio::test(start_paused = true)]
async fn a_slow_failure_from_before_the_trip_cannot_open_the_closed_circuit_again() {
    let breaker = breaker();
    let slow = breaker.try_acquire().expect("closed");
    fail(&breaker);
    advance(OPEN).await;
    breaker.try_acquire().expect("a probe").complete(Verdict::Success);
    slow.complete(Verdict::Failure);
    assert_eq!(breaker.state(), CircuitState::Closed);
}

#[tokio::test(start_paused = true)]
async fn a_probe_dropped_before_the_head_gives_its_place_back() {
    let breaker = breaker();
    fail(&breaker);
    advance(OPEN).await;
    let hangs =
        service_fn(|_: Request<Empty<Bytes>>| std::future::pending::<Result<Response<Full<Bytes>>, Infallible>>());
    let service = CircuitBreakerLayer::new(breaker.clone()).layer(hangs);
    let mut probe = tokio_test_task(service.oneshot(get("/")));
    assert!(probe.poll().is_pending());
    assert_eq!(breaker.snapshot().probes_under_way, 1);
    assert!(breaker.try_acquire().is_err());
    drop(probe);
    assert_eq!(breaker.state(), CircuitState::HalfOpen);
    breaker.try_acquire().expect("its place is free").complete(Verdict::Success);
    assert_eq!(breaker.state(), CircuitState::Closed);
}

#[tokio::test(start_paused = true)]
async fn a_probe_that_never_ends_does_not_stick() {
    let breaker = breaker();
    fail(&breaker);
    advance(OPEN).await;
    let _hangs = breaker.try_acquire().expect("the first probe");
    advance(Duration::from_millis(9999)).await;
    assert!(breaker.try_acquire().is_err());
    advance(Duration::from_millis(1)).await;
    breaker.try_acquire().expect("its time is over").complete(Verdict::Success);
    assert_eq!(breaker.state(), CircuitState::Closed);
}

#[tokio::test]
async fn an_open_circuit_answers_and_the_service_is_not_called() {
    let breaker = breaker();
    let mut service = CircuitBreakerLayer::new(breaker.clone()).layer(service_fn(|_| answer(500)));
    let first = service.ready().await.expect("ready").call(get("/")).await.expect("a response");
    assert_eq!(first.status(), 500);
    let second = service.ready().await.expect("ready, never an error").call(get("/")).await.expect("a response");
    assert_eq!(second.status(), 503);
    assert_eq!(second.headers()["retry-after"], "30");
    assert_eq!(second.extensions().get(), Some(&Verdict::Ignore));
    assert_eq!(problem_code(second).await, "circuit_open");
    assert_eq!(breaker.snapshot().rejected_total, 1);

    breaker.isolate();
    let isolated = service.ready().await.expect("ready").call(grpc("/s/m")).await.expect("a response");
    assert_eq!(isolated.headers()["grpc-status"], "14");
    assert_eq!(isolated.headers()["grpc-retry-pushback-ms"], "-1");
}

#[tokio::test]
async fn grpc_without_trailers_is_a_failure() {
    assert_eq!(verdict_of(grpc("/s/m"), grpc_response([data("x")])).await, CircuitState::Open);
    assert_eq!(verdict_of(grpc("/s/m"), grpc_response([data("x"), trailers("0")])).await, CircuitState::Closed);
}

#[tokio::test]
async fn internal_in_the_trailers_is_a_failure() {
    assert_eq!(verdict_of(grpc("/s/m"), grpc_response([data("x"), trailers("13")])).await, CircuitState::Open);
    assert_eq!(verdict_of(grpc("/s/m"), grpc_response([data("x"), trailers("5")])).await, CircuitState::Closed);
}

#[tokio::test]
async fn a_503_without_grpc_status_is_a_failure() {
    let (_feed, body) = fed();
    let response = Response::builder().status(503).body(body).expect("valid");
    let breaker = breaker();
    let response = Mutex::new(Some(response));
    let service = CircuitBreakerLayer::new(breaker.clone()).layer(service_fn(|_| {
        let response = response.lock().expect("one thread").take().expect("one call");
        async move { Ok::<_, Infallible>(response) }
    }));
    service.oneshot(grpc("/s/m")).await.expect("infallible");
    assert_eq!(breaker.state(), CircuitState::Open, "at the head, without waiting for the body");
}

#[tokio::test]
async fn a_body_that_breaks_off_is_a_failure() {
    let broken = || [data("x"), Err("broken".into())];
    assert_eq!(verdict_of(grpc("/s/m"), grpc_response(broken())).await, CircuitState::Open);
    assert_eq!(verdict_of(get("/"), grpc_response(broken())).await, CircuitState::Open);
}

#[tokio::test]
async fn a_verdict_in_the_extensions_wins() {
    let refuses = service_fn(|_| async {
        let mut response = answer(503).await?;
        response.extensions_mut().insert(Verdict::Ignore);
        Ok::<_, Infallible>(response)
    });
    let breaker = breaker();
    let service = CircuitBreakerLayer::new(breaker.clone()).layer(refuses);
    assert_eq!(service.oneshot(get("/")).await.expect("infallible").status(), 503);
    assert_eq!(breaker.state(), CircuitState::Closed);
}

#[tokio::test(start_paused = true)]
async fn a_probe_holds_its_place_to_the_end_of_the_body_and_a_dropped_body_gives_it_back() {
    let breaker = breaker();
    fail(&breaker);
    advance(OPEN).await;
    let (feed, body) = fed();
    let body = Mutex::new(Some(body));
    let service = CircuitBreakerLayer::new(breaker.clone()).layer(service_fn(|_| {
        let body = body.lock().expect("one thread").take().expect("one call");
        async move { Ok::<_, Infallible>(Response::new(body)) }
    }));
    let response = service.oneshot(get("/")).await.expect("infallible");
    feed.send(data("x")).expect("the body is there");
    let mut body = response.into_body();
    body.frame().await.expect("a frame").expect("data");
    assert_eq!(breaker.snapshot().probes_under_way, 1);
    drop(body);
    assert_eq!((breaker.state(), breaker.snapshot().probes_under_way), (CircuitState::HalfOpen, 0));
}

#[tokio::test]
async fn a_body_of_known_size_is_over_with_its_last_byte() {
    let breaker = CircuitBreaker::builder("test").consecutive_failures(2).build();
    fail(&breaker);
    let service = CircuitBreakerLayer::new(breaker.clone()).layer(service_fn(|_| answer(200)));
    let mut body = service.oneshot(get("/")).await.expect("infallible").into_body();
    assert_eq!(breaker.snapshot().consecutive_failures, 1);
    body.frame().await.expect("a frame").expect("data");
    assert_eq!(breaker.snapshot().consecutive_failures, 0, "servers do not poll it again");
}

#[tokio::test]
async fn a_grpc_body_of_known_size_is_not_over_before_its_trailers() {
    let breaker = breaker();
    let service = CircuitBreakerLayer::new(breaker.clone()).layer(service_fn(|_: Request<Empty<Bytes>>| async {
        let mut ok = HeaderMap::new();
        ok.insert("grpc-status", HeaderValue::from_static("0"));
        let body = Full::new(Bytes::from_static(b"message")).with_trailers(async { Some(Ok(ok)) });
        Response::builder().header("content-type", "application/grpc").body(body)
    }));
    let response = service.oneshot(grpc("/s/m")).await.expect("valid");
    response.into_body().collect().await.expect("a whole body");
    assert_eq!(breaker.state(), CircuitState::Closed);
}

#[tokio::test]
async fn a_panic_in_the_service_is_a_failure_even_when_it_is_caught_outside() {
    let in_call = breaker();
    let service =
        service_fn(|_| -> std::future::Ready<Result<Response<Full<Bytes>>, Infallible>> { panic!("in call") });
    let stack = ServiceBuilder::new().layer(CatchPanicLayer::new()).layer(CircuitBreakerLayer::new(in_call.clone()));
    assert_eq!(stack.service(service).oneshot(get("/")).await.expect("infallible").status(), 500);
    assert_eq!(in_call.state(), CircuitState::Open);

    let in_future = breaker();
    let service = service_fn(|_| async { panic!("in the future") as Result<Response<Full<Bytes>>, Infallible> });
    let stack = ServiceBuilder::new().layer(CatchPanicLayer::new()).layer(CircuitBreakerLayer::new(in_future.clone()));
    assert_eq!(stack.service(service).oneshot(get("/")).await.expect("infallible").status(), 500);
    assert_eq!(in_future.state(), CircuitState::Open);
}

#[tokio::test]
async fn errors_of_the_service_pass_through_and_are_failures() {
    let breaker = breaker();
    let fails = service_fn(|_| async { Err::<Response<Full<Bytes>>, _>("no connection") });
    let service = CircuitBreakerLayer::new(breaker.clone()).layer(fails);
    assert_eq!(service.oneshot(get("/")).await.err(), Some("no connection"));
    assert_eq!(breaker.state(), CircuitState::Open);
}

#[test]
fn a_listener_may_ask_and_change_the_breaker() {
    let handle: Arc<Mutex<Option<CircuitBreaker>>> = Arc::default();
    let seen: Arc<Mutex<Vec<(CircuitState, CircuitState)>>> = Arc::default();
    let (in_listener, told) = (handle.clone(), seen.clone());
    let builder = CircuitBreaker::builder("test").consecutive_failures(1).on_transition(move |transition| {
        told.lock().expect("not poisoned").push((transition.from, transition.to));
        let breaker = in_listener.lock().expect("not poisoned").clone().expect("built");
        if breaker.snapshot().state == CircuitState::Open {
            breaker.isolate();
        }
    });
    let breaker = builder.build();
    *handle.lock().expect("not poisoned") = Some(breaker.clone());
    fail(&breaker);
    assert_eq!(breaker.state(), CircuitState::Isolated);
    let seen = seen.lock().expect("not poisoned");
    use CircuitState::{Closed, Isolated, Open};
    assert_eq!(*seen, [(Closed, Open), (Open, Isolated)]);
}

#[tokio::test(start_paused = true)]
async fn the_place_of_a_probe_is_kept_for_a_millisecond_at_least_and_for_a_day_at_most() {
    let kept = [(Duration::ZERO, Duration::from_millis(1)), (Duration::MAX, Duration::from_secs(86_400))];
    for (asked_for, kept) in kept {
        let builder = CircuitBreaker::builder("test").consecutive_failures(1).open_for(OPEN);
        let breaker = builder.half_open(HalfOpen { probes: 1, timeout: asked_for }).build();
        fail(&breaker);
        advance(OPEN).await;
        let _hangs = breaker.try_acquire().expect("the first probe");
        advance(kept - Duration::from_millis(1)).await;
        assert!(breaker.try_acquire().is_err(), "{asked_for:?}");
        advance(Duration::from_millis(1)).await;
        assert!(breaker.try_acquire().is_ok(), "{asked_for:?}");
    }
}

/// A future polled by hand.
fn tokio_test_task<F: Future>(future: F) -> Task<F> {
    Task(Box::pin(future))
}

struct Task<F>(std::pin::Pin<Box<F>>);

impl<F: Future> Task<F> {
    fn poll(&mut self) -> std::task::Poll<F::Output> {
        let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
        self.0.as_mut().poll(&mut cx)
    }
}
