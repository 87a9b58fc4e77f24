//! The concurrency limit.

use std::{convert::Infallible, sync::Arc};

use axum::{Router, body::Body, routing::get as route};
use bytes::Bytes;
use campanile_middleware::{ConcurrencyLimit, ConcurrencyLimitLayer, Hold};
use http::{Request, Response};
use http_body_util::{BodyExt, Empty, Full};
use tokio::sync::Semaphore;
use tokio_test::{assert_ready, task::spawn};
use tower::{Layer, Service, ServiceExt, service_fn};
use tracing::Level;

use crate::support::{answer, fed, get, grpc, logged, problem_code, record_log};

#[test]
fn another_limit_is_told_once_by_the_name_that_was_given_first() {
    record_log(Level::DEBUG);
    let limit = ConcurrencyLimit::fixed(3).named("first").named("second");
    limit.set_limit(5);
    limit.set_limit(5);
    let told = logged("campanile_middleware");
    let fields: Vec<_> = told.iter().map(|event| ["limit", "from", "to"].map(|name| event.field(name))).collect();
    assert_eq!(fields, [["first", "3", "5"]]);
}

#[tokio::test]
async fn one_limit_over_all_routes_of_an_axum_router() {
    let limit = ConcurrencyLimitLayer::fixed(2);
    let gate = Arc::new(Semaphore::new(0));
    let handler = |gate: Arc<Semaphore>| async move { drop(gate.acquire().await.expect("open")) };
    let (one, other) = (gate.clone(), gate.clone());
    // `Router::layer` makes one service per route, and no state is set: the way that fools state minted in `layer()`.
    let router: Router = Router::new()
        .route("/one", route(move || handler(one.clone())))
        .route("/other", route(move || handler(other.clone())))
        .layer(limit.clone());
    let call =
        |path: &str| tokio::spawn(router.clone().oneshot(Request::get(path).body(Body::empty()).expect("valid")));
    let (first, second) = (call("/one"), call("/other"));
    while limit.in_flight() < 2 {
        tokio::task::yield_now().await;
    }
    for path in ["/one", "/other"] {
        let refused = call(path).await.expect("no panic").expect("infallible");
        assert_eq!(refused.status(), 503);
        assert_eq!(refused.headers()["retry-after"], "1");
        assert_eq!(problem_code(refused).await, "overloaded");
    }
    gate.add_permits(2);
    for waiting in [first, second] {
        let response = waiting.await.expect("no panic").expect("infallible");
        assert_eq!(response.status(), 200);
        response.into_body().collect().await.expect("a whole body");
    }
    assert_eq!(limit.in_flight(), 0);
}

#[tokio::test]
async fn a_place_is_held_to_the_end_of_the_body() {
    let limit = ConcurrencyLimitLayer::fixed(1);
    let (feed, body) = fed();
    let mut body = Some(body);
    let mut service = limit.layer(service_fn(move |_| {
        let body = body.take().expect("one call");
        async move { Ok::<_, Infallible>(Response::new(body)) }
    }));
    let response = service.ready().await.expect("ready").call(get("/")).await.expect("infallible");
    assert_eq!(limit.in_flight(), 1, "the head is out, the body is not");
    assert_eq!(
        service.ready().await.expect("ready").call(grpc("/s/m")).await.expect("infallible").headers()["grpc-status"],
        "14"
    );
    drop(feed);
    response.into_body().collect().await.expect("a whole body");
    assert_eq!(limit.in_flight(), 0);
}

#[tokio::test]
async fn a_dropped_body_and_a_dropped_future_give_the_place_back() {
    let limit = ConcurrencyLimitLayer::fixed(1);
    let (_feed, body) = fed();
    let mut body = Some(body);
    let mut service = limit.layer(service_fn(move |_| {
        let body = body.take().expect("one call");
        async move { Ok::<_, Infallible>(Response::new(body)) }
    }));
    let future = service.call(get("/"));
    assert_eq!(limit.in_flight(), 1, "taken in call");
    let response = future.await.expect("infallible");
    drop(response);
    assert_eq!(limit.in_flight(), 0);

    let hangs =
        service_fn(|_: Request<Empty<Bytes>>| std::future::pending::<Result<Response<Full<Bytes>>, Infallible>>());
    let future = limit.layer(hangs).oneshot(get("/"));
    let mut future = Box::pin(future);
    let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
    assert!(future.as_mut().poll(&mut cx).is_pending());
    assert_eq!(limit.in_flight(), 1);
    drop(future);
    assert_eq!(limit.in_flight(), 0);
}

#[tokio::test]
async fn a_call_that_fails_gives_its_place_back_with_the_error() {
    let limit = ConcurrencyLimitLayer::fixed(1);
    let fails = service_fn(|_: Request<Empty<Bytes>>| async { Err::<Response<Full<Bytes>>, _>("no connection") });
    let mut failing = spawn(limit.layer(fails).call(get("/")));
    assert!(assert_ready!(failing.poll()).is_err());
    assert_eq!(limit.in_flight(), 0, "though the future is still there");
}

#[tokio::test]
async fn a_place_can_be_held_to_the_head_only() {
    let limit = ConcurrencyLimitLayer::fixed(1).hold(Hold::ResponseHead);
    let response = limit.layer(service_fn(|_| answer(200))).oneshot(get("/")).await.expect("infallible");
    assert_eq!(limit.in_flight(), 0);
    drop(response);
}

#[tokio::test]
async fn an_idle_clone_that_is_ready_starves_nobody() {
    let limit = ConcurrencyLimitLayer::fixed(1);
    let mut idle = limit.layer(service_fn(|_| answer(200)));
    idle.ready().await.expect("ready");
    let other = idle.clone();
    assert_eq!(other.oneshot(get("/")).await.expect("infallible").status(), 200);
}

#[tokio::test]
async fn a_limit_of_nothing_refuses_everything() {
    let service = ConcurrencyLimitLayer::fixed(0).layer(service_fn(|_| answer(200)));
    assert_eq!(service.oneshot(get("/")).await.expect("infallible").status(), 503);
}
