//! What the layers take from the allocator, counted.

use std::{
    convert::Infallible,
    pin::pin,
    task::{Context, Poll, Waker},
    time::Duration,
};

use allocation_counter::measure;
use bytes::Bytes;
use campanile_middleware::{
    AccessLogLayer, CatchPanicLayer, CircuitBreaker, CircuitBreakerBuilder, CircuitBreakerLayer, ConcurrencyLimit,
    ConcurrencyLimitLayer, DeadlineLayer, GenericCircuitBreakerLayer, GenericConcurrencyLimitLayer, ServerStack,
    Verdict, Window,
};
use http::{Request, Response};
use http_body::Body;
use http_body_util::Empty;
use tower::{Layer, Service, ServiceExt, service_fn};

use crate::support::{answer, get, grpc};

type Req = Request<Empty<Bytes>>;

const SECOND: Duration = Duration::from_secs(1);

/// Polls a future that has nothing to wait for.
fn drive<F: Future>(future: F) -> F::Output {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("there was something to wait for"),
    }
}

/// Everything that one request takes until the end of its response's body.
fn taken_by<S, B>(service: &S, request: Req) -> u64
where
    S: Service<Req, Response = Response<B>, Error = Infallible> + Clone,
    B: Body<Data = Bytes>,
{
    let call = |request| {
        let response = drive(service.clone().oneshot(request)).expect("infallible");
        let mut body = pin!(response.into_body());
        while drive(std::future::poll_fn(|cx| body.as_mut().poll_frame(cx))).is_some() {}
    };
    // What is made once, at the first request, is not a request's.
    call(request.clone());
    let mut request = Some(request);
    measure(|| call(request.take().expect("measured once"))).count_total
}

fn breakers() -> [CircuitBreaker; 3] {
    let builder = || CircuitBreakerBuilder::failure_rate(CircuitBreaker::builder("taken"), 0.9, Window::time(SECOND));
    [CircuitBreaker::builder("taken").build(), builder().build(), builder().slow_calls(SECOND, 0.9).build()]
}

#[test]
fn a_request_that_passes_takes_nothing() {
    let service = || service_fn(|_: Req| answer(200));
    let request = || [get("/"), grpc("/s/m")];
    for request in request() {
        assert_eq!(taken_by(&service(), request), 0, "the service itself");
    }
    for breaker in breakers() {
        for request in request() {
            assert_eq!(taken_by(&CircuitBreakerLayer::new(breaker.clone()).layer(service()), request), 0);
        }
        breaker.reset();
    }
    for request in request() {
        assert_eq!(taken_by(&ConcurrencyLimitLayer::fixed(1).layer(service()), request.clone()), 0);
        assert_eq!(taken_by(&AccessLogLayer::new().layer(service()), request.clone()), 0, "nobody listens");
        assert_eq!(taken_by(&CatchPanicLayer::new().layer(service()), request.clone()), 0);
        assert_eq!(taken_by(&DeadlineLayer::new(SECOND).layer(service()), request), 0);
    }
}

#[test]
fn a_call_of_any_service_that_passes_takes_nothing() {
    let service = || service_fn(|number: u32| async move { Ok::<_, Infallible>(number) });
    for breaker in breakers() {
        let guarded = GenericCircuitBreakerLayer::new(breaker).layer(service());
        let info = measure(|| assert!(drive(guarded.clone().oneshot(7)).is_ok()));
        assert_eq!(info.count_total, 0);
    }
    let limited = GenericConcurrencyLimitLayer::new(ConcurrencyLimit::fixed(1)).layer(service());
    let info = measure(|| assert!(drive(limited.clone().oneshot(7)).is_ok()));
    assert_eq!(info.count_total, 0);
}

/// Head, body and what is told to the layers further out.
#[test]
fn a_refusal_takes_little() {
    let breaker = CircuitBreaker::builder("taken").consecutive_failures(1).build();
    breaker.try_acquire().expect("closed").complete(Verdict::Failure);
    let open = CircuitBreakerLayer::new(breaker).layer(service_fn(|_: Req| answer(200)));
    assert_eq!(taken_by(&open, get("/")), 6, "2 for headers, 4 for extensions");
    assert_eq!(taken_by(&open, grpc("/s/m")), 7, "2 for headers, 1 for the time, 4 for extensions");
}

#[test]
fn the_whole_stack_of_a_server_takes_little() {
    let [breaker, ..] = breakers();
    let stack = ServerStack::new().breaker(CircuitBreakerLayer::new(breaker));
    let service = stack.layer(service_fn(|_: Req| answer(200)));
    assert_eq!(taken_by(&service, get("/")), 9, "the id, 2 maps of headers and 1 of extensions with 2 in it");
}
