//! Request ids, hop limit, caught panics.

use std::{
    convert::Infallible,
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use campanile_middleware::{
    CatchPanicLayer, ConcurrencyLimitLayer, HopLimitLayer, Hops, Protocol, Rejection, RequestId, RequestIdLayer,
    Verdict,
};
use http::{HeaderName, HeaderValue, Request, Response};
use http_body::Body;
use http_body_util::{Empty, Full};
use tower::{Layer, Service, ServiceBuilder, ServiceExt, service_fn};

use crate::support::{answer, get, grpc, problem_code};

type Req = Request<Empty<Bytes>>;

fn with(mut request: Req, name: &'static str, value: &'static str) -> Req {
    request.headers_mut().insert(name, HeaderValue::from_static(value));
    request
}

#[tokio::test]
async fn an_id_is_the_same_in_extensions_request_and_response() {
    let service = RequestIdLayer::new().layer(service_fn(|request: Req| async move {
        let id = request.extensions().get::<RequestId>().expect("an id").clone();
        assert_eq!(request.headers()["x-request-id"], id.header_value());
        Ok::<_, Infallible>(
            Response::builder().header("seen", id.as_str()).body(Full::<Bytes>::default()).expect("valid"),
        )
    }));
    let kept = service.clone().oneshot(with(get("/"), "x-request-id", "mine-1")).await.expect("infallible");
    assert_eq!(kept.headers()["x-request-id"], "mine-1");
    assert_eq!(kept.headers()["seen"], "mine-1");
    let new = service.clone().oneshot(with(get("/"), "x-request-id", "not fit")).await.expect("infallible");
    assert_eq!(new.headers()["x-request-id"], new.headers()["seen"]);
    assert_eq!(new.headers()["x-request-id"].len(), 36);
}

#[tokio::test]
async fn ids_can_be_made_by_the_user_and_stand_on_rejections() {
    let stack = ServiceBuilder::new()
        .layer(RequestIdLayer::new().make(|| HeaderValue::from_static("made")))
        .layer(ConcurrencyLimitLayer::fixed(0));
    let response = stack.service(service_fn(|_: Req| answer(200))).oneshot(get("/")).await.expect("infallible");
    assert_eq!(
        (response.status().as_u16(), &response.headers()["x-request-id"]),
        (503, &HeaderValue::from_static("made"))
    );
}

#[tokio::test]
async fn hops_are_counted_and_a_circle_is_broken() {
    let layer = HopLimitLayer::new(2);
    let service = layer.layer(service_fn(|request: Req| async move {
        let hops = *request.extensions().get::<Hops>().expect("hops");
        Ok::<_, Infallible>(Response::builder().header("hops", hops.0).body(Full::<Bytes>::default()).expect("valid"))
    }));
    for (sent, seen) in [(None, "0"), (Some("1"), "1"), (Some("2"), "2")] {
        let request = sent.map_or_else(|| get("/"), |sent| with(get("/"), "x-campanile-hop", sent));
        assert_eq!(service.clone().oneshot(request).await.expect("infallible").headers()["hops"], seen);
    }
    for sent in ["3", "many"] {
        let refused = service.clone().oneshot(with(get("/"), "x-campanile-hop", sent)).await.expect("infallible");
        assert_eq!(refused.status(), 508);
        assert_eq!(problem_code(refused).await, "loop_detected");
    }
    let refused = service.oneshot(with(grpc("/s/m"), "x-campanile-hop", "3")).await.expect("infallible");
    assert_eq!(refused.headers()["grpc-status"], "9");
}

#[tokio::test]
async fn the_hop_header_can_have_another_name() {
    let layer = HopLimitLayer::new(0).header(HeaderName::from_static("x-hop"));
    let mut request = get("/");
    layer.forward(Hops(0), request.headers_mut());
    assert_eq!(request.headers()["x-hop"], "1");
    let response = layer.layer(service_fn(|_: Req| answer(200))).oneshot(request).await.expect("infallible");
    assert_eq!(response.status(), 508);
}

#[tokio::test]
async fn a_panic_is_answered_and_told_to_the_hook_only() {
    let told: Arc<Mutex<Vec<String>>> = Arc::default();
    let hook = told.clone();
    let layer =
        CatchPanicLayer::new().on_panic(move |message| hook.lock().expect("one thread").push(message.to_owned()));
    let in_call =
        service_fn(|_: Req| -> std::future::Ready<Result<Response<Full<Bytes>>, Infallible>> { panic!("secret 1") });
    let response = layer.layer(in_call).oneshot(get("/")).await.expect("infallible");
    assert_eq!(response.status(), 500);
    assert_eq!(response.extensions().get(), Some(&Verdict::Failure));
    assert_eq!(problem_code(response).await, "internal");

    let number = 2;
    let in_future = service_fn(move |_: Req| async move {
        tokio::task::yield_now().await;
        panic!("secret {number}") as Result<Response<Full<Bytes>>, Infallible>
    });
    let response = layer.layer(in_future).oneshot(grpc("/s/m")).await.expect("infallible");
    assert_eq!(
        (response.status().as_u16(), &response.headers()["grpc-status"]),
        (200, &HeaderValue::from_static("13"))
    );
    assert_eq!(response.headers()["grpc-message"], "internal error");
    assert_eq!(*told.lock().expect("one thread"), ["secret 1", "secret 2"]);
}

#[tokio::test]
async fn a_future_that_panics_again_as_it_is_dropped_is_answered_once() {
    struct Twice;
    impl Future for Twice {
        type Output = Result<Response<Full<Bytes>>, Infallible>;

        fn poll(self: std::pin::Pin<&mut Self>, _: &mut std::task::Context<'_>) -> std::task::Poll<Self::Output> {
            panic!("once")
        }
    }
    impl Drop for Twice {
        fn drop(&mut self) {
            panic!("twice");
        }
    }
    let mut service = CatchPanicLayer::new().on_panic(|_| {}).layer(service_fn(|_: Req| Twice));
    assert_eq!(service.call(get("/")).await.expect("infallible").status(), 500);
}

#[tokio::test]
async fn a_service_that_panicked_once_serves_on() {
    let mut calls = 0;
    let mut service = CatchPanicLayer::new().on_panic(|_| {}).layer(service_fn(move |_: Req| {
        calls += 1;
        assert!(calls > 1, "the first call panics");
        answer(200)
    }));
    assert_eq!(service.call(get("/")).await.expect("infallible").status(), 500);
    assert_eq!(service.call(get("/")).await.expect("infallible").status(), 200);
}

#[test]
fn a_grpc_rejection_ends_the_stream_with_its_head() {
    let response = Rejection::unavailable("busy", "busy").into_response::<Full<Bytes>>(Protocol::Grpc);
    assert!(response.body().is_end_stream(), "before it is polled");
    let response = Rejection::unavailable("busy", "busy").into_response::<Full<Bytes>>(Protocol::Rest);
    assert!(!response.body().is_end_stream());
    assert!(response.body().size_hint().exact().is_some_and(|bytes| bytes > 0), "a content length");
}
