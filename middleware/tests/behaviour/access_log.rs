//! The access log.

use std::{convert::Infallible, net::SocketAddr, time::Duration};

use bytes::Bytes;
use campanile_middleware::{
    AccessLogLayer, CatchPanicLayer, CircuitBreaker, ConcurrencyLimitLayer, Instance, ReplayBody, RequestIdLayer,
    RoundRobin, Route,
};
use http::{Request, Response};
use http_body_util::{BodyExt, Empty, Full};
use tokio::time::sleep;
use tower::{Layer, ServiceBuilder, ServiceExt, service_fn};
use tracing::Level;

use crate::support::{Fed, Logged, answer, data, fed, get, grpc, logged, record_log, trailers};

type Req = Request<Empty<Bytes>>;

fn only_entry() -> Logged {
    let entries = logged("access");
    assert_eq!(entries.len(), 1, "{entries:?}");
    entries[0].clone()
}

#[tokio::test(start_paused = true)]
async fn one_event_per_request_with_all_there_is_to_know() {
    record_log(Level::DEBUG);
    let slow = service_fn(|_: Req| async {
        sleep(Duration::from_millis(20)).await;
        answer(404).await
    });
    let service = ServiceBuilder::new().layer(RequestIdLayer::new()).layer(AccessLogLayer::new()).service(slow);
    let mut request = get("/topics/a?token=secret");
    request.headers_mut().insert("x-request-id", "id-1".parse().expect("valid"));
    let response = service.oneshot(request).await.expect("infallible");
    assert!(logged("access").is_empty(), "not before the body is over");
    sleep(Duration::from_millis(10)).await;
    response.into_body().collect().await.expect("a whole body");

    let entry = only_entry();
    assert_eq!((entry.level, entry.message.as_str()), (Some(Level::DEBUG), "request"));
    let expected = [
        ("method", "GET"),
        ("path", "/topics/a"),
        ("protocol", "rest"),
        ("status", "404"),
        ("request_id", "id-1"),
        ("head_ms", "20.0"),
        ("total_ms", "30.0"),
        ("body_bytes", "6"),
        ("outcome", "ok"),
        ("verdict", "success"),
        ("route", ""),
        ("peer", ""),
        ("refused", ""),
        ("instance", ""),
    ];
    for (field, value) in expected {
        assert_eq!(entry.field(field), value, "{field}");
    }
    assert!(!format!("{entry:?}").contains("secret"));
}

#[tokio::test]
async fn a_5xx_is_a_warning() {
    record_log(Level::INFO);
    let service = AccessLogLayer::new().layer(service_fn(|_: Req| answer(503)));
    service.oneshot(get("/")).await.expect("infallible").into_body().collect().await.expect("a whole body");
    let entry = only_entry();
    assert_eq!((entry.level, entry.field("outcome")), (Some(Level::WARN), "error"));
}

#[tokio::test]
async fn the_grpc_status_is_that_of_the_trailers() {
    for (frame, level, outcome) in [("5", Level::DEBUG, "ok"), ("13", Level::WARN, "error")] {
        record_log(Level::DEBUG);
        let service = AccessLogLayer::new().layer(service_fn(move |_: Req| async move {
            let (feed, body) = fed();
            feed.send(data("abc")).expect("the body is there");
            feed.send(trailers(frame)).expect("the body is there");
            Ok::<_, Infallible>(Response::new(body))
        }));
        let response: Response<_> = service.oneshot(grpc("/s/m")).await.expect("infallible");
        response.into_body().collect().await.expect("a whole body");
        let entry = only_entry();
        assert_eq!((entry.level, entry.field("grpc_status")), (Some(level), frame));
        assert_eq!((entry.field("outcome"), entry.field("body_bytes")), (outcome, "3"));
    }
}

#[tokio::test]
async fn a_request_that_nobody_waits_for_any_more_is_logged_as_cancelled() {
    record_log(Level::DEBUG);
    let hangs = service_fn(|_: Req| std::future::pending::<Result<Response<Full<Bytes>>, Infallible>>());
    let mut future = Box::pin(AccessLogLayer::new().layer(hangs).oneshot(get("/head")));
    let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
    assert!(future.as_mut().poll(&mut cx).is_pending());
    drop(future);
    let entry = only_entry();
    assert_eq!((entry.field("outcome"), entry.field("status")), ("cancelled", ""));

    record_log(Level::DEBUG);
    let (_feed, body) = fed();
    let mut body = Some(body);
    let streams = service_fn(move |_: Req| {
        let body = body.take();
        async move { Ok::<Response<Fed>, Infallible>(Response::new(body.expect("one call"))) }
    });
    drop(AccessLogLayer::new().layer(streams).oneshot(get("/body")).await.expect("infallible"));
    let entry = only_entry();
    assert_eq!((entry.field("outcome"), entry.field("status")), ("cancelled", "200"));
}

#[tokio::test]
async fn what_breaks_off_is_an_error() {
    record_log(Level::WARN);
    let fails = service_fn(|_: Req| async { Err::<Response<Full<Bytes>>, _>("no connection") });
    assert!(AccessLogLayer::new().layer(fails).oneshot(get("/")).await.is_err());
    assert_eq!(only_entry().field("outcome"), "error");

    record_log(Level::WARN);
    let panics = service_fn(|_: Req| async { panic!("oops") as Result<Response<Full<Bytes>>, Infallible> });
    let stack = ServiceBuilder::new().layer(CatchPanicLayer::new().on_panic(|_| {})).layer(AccessLogLayer::new());
    stack.service(panics).oneshot(get("/")).await.expect("caught");
    assert_eq!(only_entry().field("outcome"), "error");
}

#[tokio::test]
async fn nothing_is_logged_when_nobody_listens() {
    record_log(Level::ERROR);
    let service = AccessLogLayer::new().layer(service_fn(|_: Req| answer(500)));
    service.oneshot(get("/")).await.expect("infallible").into_body().collect().await.expect("a whole body");
    assert!(logged("access").is_empty());
}

#[tokio::test]
async fn peer_and_route_stand_where_the_user_says_and_the_responses_route_wins() {
    let log = AccessLogLayer::new()
        .peer(|extensions| extensions.get::<SocketAddr>().copied())
        .route(|extensions| extensions.get::<&str>().map(|path| Route::from(*path)));
    for (told, route) in [(None, "/outer/{id}"), (Some(Route::from("/inner/{id}")), "/inner/{id}")] {
        record_log(Level::DEBUG);
        let service = log.layer(service_fn(move |_: Req| {
            let told = told.clone();
            async move {
                let mut response = answer(200).await.expect("infallible");
                told.map(|route| response.extensions_mut().insert(route));
                Ok::<_, Infallible>(response)
            }
        }));
        let mut request = get("/outer/7");
        request.extensions_mut().insert(SocketAddr::from(([127, 0, 0, 1], 4000)));
        request.extensions_mut().insert("/outer/{id}");
        service.oneshot(request).await.expect("infallible").into_body().collect().await.expect("a whole body");
        let entry = only_entry();
        assert_eq!((entry.field("peer"), entry.field("route")), ("127.0.0.1:4000", route));
    }
}

#[tokio::test]
async fn a_refusal_is_logged_with_its_code_and_says_nothing_about_the_service() {
    record_log(Level::DEBUG);
    let stack = ServiceBuilder::new().layer(AccessLogLayer::new()).layer(ConcurrencyLimitLayer::fixed(0));
    let service = stack.service(service_fn(|_: Req| answer(200)));
    service.oneshot(get("/")).await.expect("infallible").into_body().collect().await.expect("a whole body");
    let entry = only_entry();
    assert_eq!((entry.field("refused"), entry.field("verdict")), ("overloaded", "ignore"));
}

#[tokio::test]
async fn the_verdict_of_a_grpc_stream_falls_with_its_trailers() {
    for (status, verdict) in [("0", "success"), ("8", "throttled"), ("14", "failure")] {
        record_log(Level::DEBUG);
        let service = AccessLogLayer::new().layer(service_fn(move |_: Req| async move {
            let (feed, body) = fed();
            feed.send(trailers(status)).expect("the body is there");
            let response = Response::builder().header("content-type", "application/grpc").body(body);
            Ok::<_, Infallible>(response.expect("valid"))
        }));
        service.oneshot(grpc("/s/m")).await.expect("infallible").into_body().collect().await.expect("a whole body");
        assert_eq!(only_entry().field("verdict"), verdict);
    }
}

#[tokio::test]
async fn the_instance_that_answered_is_named_with_the_attempts_that_it_took() {
    record_log(Level::DEBUG);
    let instance = |name: &'static str, status: u16| {
        let service = service_fn(move |_: Request<ReplayBody<Empty<Bytes>>>| answer(status));
        let service = tower::util::BoxCloneSyncService::new(service);
        Instance::new(name, service, CircuitBreaker::builder(name).consecutive_failures(1).build())
    };
    let balancer = RoundRobin::new([instance("broken", 503), instance("sound", 200)]).start(0);
    let service = AccessLogLayer::new().layer(balancer);
    service.oneshot(get("/")).await.expect("infallible").into_body().collect().await.expect("a whole body");
    let entry = only_entry();
    let told = ["instance", "attempts", "circuit"].map(|field| entry.field(field).to_owned());
    assert_eq!(told, ["sound", "2", "closed"]);
}
