//! The deadline layer, alone and under a breaker.

use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::Duration,
};

use bytes::Bytes;
use campanile_middleware::{CircuitBreaker, CircuitBreakerLayer, CircuitState, DeadlineLayer};
use http::{Request, Response};
use http_body_util::{Empty, Full};
use tokio::time::{Instant, sleep};
use tower::{Layer, Service, ServiceBuilder, ServiceExt, service_fn};

use crate::support::{answer, get, grpc, problem_code};

const MAX: Duration = Duration::from_secs(5);

async fn hang(_: Request<Empty<Bytes>>) -> Result<Response<Full<Bytes>>, Infallible> {
    std::future::pending().await
}

fn grpc_with_timeout(timeout: &'static str) -> Request<Empty<Bytes>> {
    let mut request = grpc("/s/m");
    request.headers_mut().insert("grpc-timeout", timeout.parse().expect("valid"));
    request
}

#[tokio::test(start_paused = true)]
async fn what_takes_too_long_is_answered_at_the_maximum() {
    let began = Instant::now();
    let response = DeadlineLayer::new(MAX).layer(service_fn(hang)).oneshot(get("/")).await.expect("infallible");
    assert_eq!(began.elapsed().as_secs(), 5);
    assert_eq!(response.status(), 504);
    assert_eq!(problem_code(response).await, "deadline_exceeded");
}

#[tokio::test(start_paused = true)]
async fn what_is_in_time_passes() {
    let slow = service_fn(|_: Request<Empty<Bytes>>| async {
        sleep(MAX - Duration::from_millis(1)).await;
        answer(200).await
    });
    assert_eq!(DeadlineLayer::new(MAX).layer(slow).oneshot(get("/")).await.expect("infallible").status(), 200);
}

#[tokio::test(start_paused = true)]
async fn a_grpc_client_can_shorten_the_time_but_not_lengthen_it() {
    for (timeout, seconds) in [("2S", 2), ("9S", 5), ("nonsense", 5)] {
        let began = Instant::now();
        let service = DeadlineLayer::new(MAX).layer(service_fn(hang));
        let response = service.oneshot(grpc_with_timeout(timeout)).await.expect("infallible");
        assert_eq!(began.elapsed().as_secs(), seconds, "{timeout}");
        assert_eq!(response.headers()["grpc-status"], "4");
    }
}

#[tokio::test(start_paused = true)]
async fn only_the_servers_own_deadline_is_a_failure() {
    let breaker = CircuitBreaker::builder("test").consecutive_failures(1).build();
    let stack = ServiceBuilder::new().layer(CircuitBreakerLayer::new(breaker.clone())).layer(DeadlineLayer::new(MAX));
    let service = stack.service(service_fn(hang));
    for _ in 0..3 {
        service.clone().oneshot(grpc_with_timeout("1n")).await.expect("infallible");
        assert_eq!(breaker.state(), CircuitState::Closed);
    }
    service.oneshot(grpc_with_timeout("9S")).await.expect("infallible");
    assert_eq!(breaker.state(), CircuitState::Open);
}

#[tokio::test(start_paused = true)]
async fn what_is_too_late_is_dropped_before_the_answer() {
    struct SetOnDrop(Arc<AtomicBool>);
    impl Drop for SetOnDrop {
        fn drop(&mut self) {
            self.0.store(true, SeqCst);
        }
    }
    let dropped = Arc::new(AtomicBool::new(false));
    let guard = dropped.clone();
    let service = service_fn(move |request| {
        let guard = SetOnDrop(guard.clone());
        async move {
            let _guard = guard;
            hang(request).await
        }
    });
    let mut future = Box::pin(DeadlineLayer::new(MAX).layer(service).call(get("/")));
    let response = future.as_mut().await.expect("infallible");
    assert!(dropped.load(SeqCst), "though the future that answered is still there");
    drop((response, future));
}
