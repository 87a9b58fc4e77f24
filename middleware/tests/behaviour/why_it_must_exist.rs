//! Why there is one more crate of layers: what others get wrong, a test for each. The doc of a test names who does it
//! otherwise; where the other is at hand, the test shows it too.

use std::{
    convert::Infallible,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use axum::{Router, body::Body, routing::get as route};
use bytes::Bytes;
use campanile_middleware::{
    CircuitBreaker, CircuitBreakerLayer, CircuitState, ConcurrencyLimitLayer, HalfOpen, Instance, Permit, ReplayBody,
    RoundRobin, Verdict, Window,
};
use failsafe::CircuitBreaker as _;
use http::{Request, Response};
use http_body_util::{Empty, Full};
use tokio::time::advance;
use tokio_test::{assert_pending, task::spawn};
use tower::{
    Layer, Service, ServiceBuilder, ServiceExt, balance::p2c::Balance, buffer::BufferLayer, discover::ServiceList,
    limit::ConcurrencyLimit as TowerLimit, load::Constant, service_fn, util::BoxCloneSyncService,
};

use crate::support::{answer, fed, get, grpc, text};

type Req = Request<Empty<Bytes>>;

const OPEN: Duration = Duration::from_secs(30);

/// Opens with the first failure.
fn fragile() -> CircuitBreaker {
    CircuitBreaker::builder("why").consecutive_failures(1).open_for(OPEN).build()
}

fn call(breaker: &CircuitBreaker, verdict: Verdict) {
    breaker.try_acquire().expect("admitted").complete(verdict);
}

/// Half-open, with one probe to give.
async fn probing() -> CircuitBreaker {
    let breaker = fragile();
    call(&breaker, Verdict::Failure);
    advance(OPEN).await;
    breaker
}

/// tower-resilience 0.14 counts from the beginning: after 100 000 successes its window of 100 takes 100 000 failures.
#[test]
fn a_hundred_thousand_successes_do_not_outvote_a_window_of_failures() {
    let breaker = CircuitBreaker::builder("why").failure_rate(0.5, Window::count(100)).build();
    for _ in 0..100_000 {
        call(&breaker, Verdict::Success);
    }
    for failures in 1..=50 {
        assert_eq!(breaker.state(), CircuitState::Closed, "before failure {failures}");
        call(&breaker, Verdict::Failure);
    }
    assert_eq!(breaker.state(), CircuitState::Open);
}

/// tower-resilience 0.14 keeps every call of the window, and goes through all of them for each.
#[test]
fn a_window_of_time_keeps_no_calls() {
    let breaker = CircuitBreaker::builder("why").failure_rate(1.0, Window::time(OPEN)).build();
    let info = allocation_counter::measure(|| (0..100_000).for_each(|_| call(&breaker, Verdict::Success)));
    assert_eq!(info.count_total, 0, "whatever is kept was there before the first call");
}

/// tower-resilience 0.14 stays half-open for good when its probes do not end.
#[tokio::test(start_paused = true)]
async fn probes_that_never_end_do_not_keep_the_circuit_half_open() {
    let breaker = probing().await;
    let _hangs = breaker.try_acquire().expect("the probe");
    assert!(breaker.try_acquire().is_err());
    advance(HalfOpen::default().timeout).await;
    call(&breaker, Verdict::Success);
    assert_eq!(breaker.state(), CircuitState::Closed);
}

/// tower-resilience 0.14 takes the success of a call from before the trip for that of a probe.
#[tokio::test(start_paused = true)]
async fn a_call_from_before_the_trip_does_not_close_the_circuit() {
    let breaker = fragile();
    let slow = breaker.try_acquire().expect("closed");
    call(&breaker, Verdict::Failure);
    advance(OPEN).await;
    let _probe = breaker.try_acquire().expect("the probe");
    slow.complete(Verdict::Success);
    assert_eq!(breaker.state(), CircuitState::HalfOpen);
}

/// failsafe 1 lets all of a hundred through when its time is over, and so does recloser.
#[tokio::test(start_paused = true)]
async fn of_a_hundred_at_once_one_probes() {
    let breaker = probing().await;
    let permits: Vec<Permit> = (0..100).filter_map(|_| breaker.try_acquire().ok()).collect();
    assert_eq!(permits.len(), 1);

    let policy = failsafe::failure_policy::consecutive_failures(1, failsafe::backoff::constant(Duration::ZERO));
    let failsafe = failsafe::Config::new().failure_policy(policy).build();
    assert!(failsafe.call(|| Err::<(), _>(())).is_err());
    assert_eq!((0..100).filter(|_| failsafe.is_call_permitted()).count(), 100, "what it was measured with");
}

/// linkerd2-proxy waits in half-open for a verdict that does not come, when the probe is dropped before the head.
#[tokio::test(start_paused = true)]
async fn a_probe_that_is_dropped_before_the_head_gives_its_place_to_the_next() {
    let layer = CircuitBreakerLayer::new(probing().await);
    let hangs = service_fn(|_: Req| std::future::pending::<Result<Response<Full<Bytes>>, Infallible>>());
    let mut probe = spawn(layer.layer(hangs).oneshot(get("/")));
    assert_pending!(probe.poll());
    assert_eq!(layer.breaker().snapshot().probes_under_way, 1);
    drop(probe);
    let next = layer.layer(service_fn(|_| answer(200))).oneshot(get("/")).await.expect("infallible");
    assert_eq!(next.status(), 200);
}

/// tower's ConcurrencyLimit gives the place back with the head, so one place streams any number of bodies.
#[tokio::test]
async fn a_body_that_streams_holds_its_place() {
    let (_feed, mut bodies): (Vec<_>, Vec<_>) = (0..4).map(|_| fed()).unzip();
    let mut streams = || {
        let body = Arc::new(Mutex::new(vec![bodies.pop(), bodies.pop()]));
        service_fn(move |_: Req| {
            let body = body.lock().expect("one thread").pop().flatten().expect("two calls at most");
            async move { Ok::<_, Infallible>(Response::new(body)) }
        })
    };
    let ours = ConcurrencyLimitLayer::fixed(1).layer(streams());
    let streaming = ours.clone().oneshot(get("/")).await.expect("infallible");
    assert_eq!(ours.clone().oneshot(get("/")).await.expect("infallible").status(), 503);
    drop(streaming);
    assert_eq!(ours.oneshot(get("/")).await.expect("infallible").status(), 200);

    let theirs = TowerLimit::new(streams(), 1);
    let streaming = theirs.clone().oneshot(get("/")).await.expect("infallible");
    assert_eq!(theirs.oneshot(get("/")).await.expect("infallible").status(), 200, "what it was measured with");
    drop(streaming);
}

/// tower's ConcurrencyLimit takes the place in `poll_ready`: a clone that is ready and idle keeps all others waiting.
#[tokio::test]
async fn a_clone_that_is_ready_and_idle_takes_no_place() {
    let mut idle = ConcurrencyLimitLayer::fixed(1).layer(service_fn(|_: Req| answer(200)));
    idle.ready().await.expect("ready");
    assert_eq!(idle.clone().oneshot(get("/")).await.expect("infallible").status(), 200);

    let mut idle = TowerLimit::new(service_fn(|_: Req| answer(200)), 1);
    idle.ready().await.expect("ready");
    assert_pending!(spawn(idle.clone().oneshot(get("/"))).poll(), "what it was measured with");
}

/// `Router::layer` of axum applies a layer once per route: state that `layer()` makes is one per route.
#[tokio::test]
async fn the_routes_of_a_router_share_one_circuit_and_one_limit() {
    let (breaker, limit) = (fragile(), ConcurrencyLimitLayer::fixed(1));
    let fails = || async { http::StatusCode::INTERNAL_SERVER_ERROR };
    let router: Router = Router::new()
        .route("/fails", route(fails))
        .route("/fine", route(|| async { "fine" }))
        .layer(CircuitBreakerLayer::new(breaker.clone()))
        .layer(limit.clone());
    let ask = |path: &str| router.clone().oneshot(Request::get(path).body(Body::empty()).expect("valid"));
    let held = ask("/fine").await.expect("infallible");
    assert_eq!((held.status().as_u16(), limit.in_flight()), (200, 1));
    assert_eq!(ask("/fails").await.expect("infallible").status(), 503, "the other route is full too");
    drop(held);
    assert_eq!(ask("/fails").await.expect("infallible").status(), 500);
    assert_eq!(ask("/fine").await.expect("infallible").status(), 503, "the other route is shut too");
    assert_eq!(breaker.state(), CircuitState::Open);
}

/// tonic's `balance_list` chooses at random, and goes on choosing endpoints that are gone.
#[tokio::test]
async fn a_dead_instance_costs_no_request_and_the_others_take_turns() {
    let asked: Arc<Mutex<Vec<&str>>> = Arc::default();
    let instances = ["a", "dead", "b"].map(|name| {
        let asked = asked.clone();
        let service = service_fn(move |_: Request<ReplayBody<Empty<Bytes>>>| {
            asked.lock().expect("one thread").push(name);
            async move { if name == "dead" { Err("no connection") } else { Ok(text(200, name)) } }
        });
        Instance::new(name, BoxCloneSyncService::new(service), fragile())
    });
    let balancer = RoundRobin::new(instances).never_sent(|_: &&str| true);
    for _ in 0..10 {
        // Not idempotent: what may have been processed would not be asked again.
        let post = Request::post("/").body(Empty::<Bytes>::new()).expect("valid");
        assert_eq!(balancer.clone().oneshot(post).await.expect("another instance answers").status(), 200);
    }
    let asked = asked.lock().expect("one thread");
    assert_eq!(asked.iter().filter(|name| **name == "dead").count(), 1, "its circuit is open: {asked:?}");
    let answered: Vec<&str> = asked.iter().copied().filter(|name| *name != "dead").collect();
    assert!(answered.windows(2).all(|pair| pair[0] != pair[1]), "{asked:?}");
}

/// tower-http's GrpcErrorsAsFailures takes a body without trailers for a success, and a 503 without `grpc-status` too.
#[tokio::test]
async fn a_grpc_answer_without_a_status_is_a_failure() {
    for status in [200, 503] {
        let layer = CircuitBreakerLayer::new(fragile());
        let service = layer.layer(service_fn(|_: Req| async move {
            let response = Response::builder().status(status).header("content-type", "application/grpc");
            Ok::<_, Infallible>(response.body(Full::new(Bytes::from_static(b"frame"))).expect("valid"))
        }));
        let response = service.oneshot(grpc("/s/m")).await.expect("infallible");
        http_body_util::BodyExt::collect(response.into_body()).await.expect("a whole body");
        assert_eq!(layer.breaker().state(), CircuitState::Open, "{status}");
    }
}

/// A breaker that fails in `poll_ready` (tower's pull request 855) ends a Buffer for good, and a balancer drops it.
#[tokio::test]
async fn an_open_circuit_ends_no_buffer_and_leaves_no_balancer() {
    let breaker = fragile();
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = calls.clone();
    let service = CircuitBreakerLayer::new(breaker.clone()).layer(service_fn(move |_: Req| {
        counted.fetch_add(1, SeqCst);
        answer(200)
    }));
    let buffered = ServiceBuilder::new().layer(BufferLayer::new(4)).service(service.clone());
    let mut balanced = Balance::new(ServiceList::new([Constant::new(service, 1)]));
    for (verdict, status) in [(Verdict::Failure, 503), (Verdict::Success, 200)] {
        breaker.reset();
        call(&breaker, verdict);
        let response = buffered.clone().oneshot(get("/")).await.expect("the buffer lives");
        assert_eq!(response.status(), status);
        let response = balanced.ready().await.expect("ready").call(get("/")).await.expect("it is still there");
        assert_eq!(response.status(), status);
    }
    assert_eq!(calls.load(SeqCst), 2);
}
