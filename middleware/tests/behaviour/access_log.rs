//! The access log.

use std::{convert::Infallible, time::Duration};

use bytes::Bytes;
use campanile_middleware::{AccessLogLayer, CatchPanicLayer, RequestIdLayer};
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
