//! A round robin over services that are not ready when they are asked, requests that cannot be repeated, and handles
//! that are set otherwise than the one they were cloned from.

use std::{
    convert::Infallible,
    future::{Ready, ready},
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use campanile_middleware::{CircuitBreaker, CircuitState, Failover, Instance, ReplayBody, RoundRobin};
use http::{Request, Response};
use http_body_util::{BodyExt, Empty, Full};
use tower::{Service, ServiceExt, service_fn, util::BoxCloneSyncService};

use crate::support::{get, text};

#[derive(Debug, Clone, Copy, PartialEq)]
enum Is {
    Ready,
    /// At the second look.
    Late,
    /// And never will be.
    Busy,
    Broken,
    /// Ready, but no connection comes about.
    Unreachable,
}

#[derive(Debug, Clone)]
struct Stub(&'static str, Is);

#[derive(Debug, PartialEq)]
struct NotSent;

impl Service<Request<ReplayBody<Empty<Bytes>>>> for Stub {
    type Response = Response<Full<Bytes>>;
    type Error = NotSent;
    type Future = Ready<Result<Response<Full<Bytes>>, NotSent>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), NotSent>> {
        match self.1 {
            Is::Ready | Is::Unreachable => Poll::Ready(Ok(())),
            Is::Late => {
                self.1 = Is::Ready;
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            Is::Busy => Poll::Pending,
            Is::Broken => Poll::Ready(Err(NotSent)),
        }
    }

    fn call(&mut self, _: Request<ReplayBody<Empty<Bytes>>>) -> Self::Future {
        ready(if self.1 == Is::Unreachable { Err(NotSent) } else { Ok(text(200, self.0)) })
    }
}

type Balancer = RoundRobin<Stub, NotSent, Full<Bytes>>;

fn balancer(stubs: impl IntoIterator<Item = Stub>) -> Balancer {
    let instance = |stub: Stub| {
        let breaker = CircuitBreaker::builder(stub.0).consecutive_failures(1).build();
        Instance::new(stub.0, stub, breaker)
    };
    RoundRobin::new(stubs.into_iter().map(instance)).start(0)
}

async fn status(balancer: &Balancer, method: http::Method) -> u16 {
    let mut request = get("/");
    *request.method_mut() = method;
    let answered: Result<_, Infallible> = balancer.clone().oneshot(request).await;
    answered.expect("infallible").status().as_u16()
}

#[tokio::test(start_paused = true)]
async fn an_instance_whose_service_does_not_become_ready_has_failed_and_was_sent_nothing() {
    for unready in [Is::Busy, Is::Broken] {
        let failover = Failover { per_try: Some(Duration::from_secs(1)), attempts: 1, ..Failover::default() };
        let balancer = balancer([Stub("a", unready), Stub("b", Is::Ready)]).failover(failover);
        assert_eq!(status(&balancer, http::Method::POST).await, 200, "{unready:?}");
        let states: Vec<_> = balancer.instances().iter().map(|instance| instance.breaker().state()).collect();
        assert_eq!(states, [CircuitState::Open, CircuitState::Closed], "{unready:?}");
    }
}

#[tokio::test]
async fn a_clone_that_is_set_otherwise_keeps_the_rest_and_leaves_the_first_as_it_was() {
    let failover = Failover { attempts: 7, ..Failover::default() };
    let stubs = [Stub("a", Is::Unreachable), Stub("b", Is::Ready)];
    let one = balancer(stubs).failover(failover).never_sent(|NotSent| true);
    let other = one.clone().idempotent(|_| false);
    assert_eq!(status(&other, http::Method::POST).await, 200, "what was never sent goes to the next instance");
    let shown = format!("{other:?}");
    assert!(shown.contains("attempts: 7") && shown.contains(r#"Instance { name: "a""#), "{shown}");

    let silent = one.clone().never_sent(|NotSent| false).start(0);
    one.instances()[0].breaker().reset();
    assert_eq!(status(&silent, http::Method::POST).await, 502, "nothing proves that it was not sent");
    one.instances()[0].breaker().reset();
    assert_eq!(status(&one.start(0), http::Method::POST).await, 200);
}

#[tokio::test(start_paused = true)]
async fn an_instance_whose_service_takes_a_moment_to_become_ready_is_waited_for() {
    for per_try in [None, Some(Duration::from_secs(1))] {
        let failover = Failover { per_try, ..Failover::default() };
        let balancer = balancer([Stub("a", Is::Late), Stub("b", Is::Ready)]).failover(failover);
        assert_eq!(status(&balancer, http::Method::POST).await, 200);
        let attempts: Vec<_> = balancer.snapshot().instances.iter().map(|instance| instance.attempts_total).collect();
        assert_eq!(attempts, [1, 0], "{per_try:?}");
    }
}

/// An instance that reads the request and answers so.
type Reading = BoxCloneSyncService<Request<ReplayBody<Full<Bytes>>>, Response<Full<Bytes>>, NotSent>;

fn reads(name: &'static str, status: u16) -> Instance<Reading> {
    let service = service_fn(move |request: Request<ReplayBody<Full<Bytes>>>| async move {
        request.into_body().collect().await.map_err(|_| NotSent)?;
        Ok::<_, NotSent>(text(status, name))
    });
    Instance::new(name, BoxCloneSyncService::new(service), CircuitBreaker::builder(name).build())
}

fn put() -> Request<Full<Bytes>> {
    Request::put("/").body(Full::from("body")).expect("a valid request")
}

#[tokio::test]
async fn only_what_is_out_of_order_is_repeated_and_a_failure_in_the_processing_is_the_answer() {
    for (status, answer) in [(500, 500), (501, 501), (502, 200), (503, 200), (504, 200)] {
        let balancer = RoundRobin::new([reads("a", status), reads("b", 200)]).start(0);
        let response = balancer.clone().oneshot(put()).await.expect("infallible");
        assert_eq!(response.status(), answer, "after {status}");
        assert_eq!(balancer.snapshot().repeats_total, u64::from(answer == 200), "after {status}");
    }
}

#[tokio::test]
async fn a_repeat_that_may_not_be_made_is_not_paid_for() {
    let post = Request::post("/").body(Full::from("body")).expect("a valid request");
    for (attempts, request) in [(1, put()), (3, post)] {
        let failover = Failover { attempts, ..Failover::default() };
        let balancer = RoundRobin::new([reads("a", 503), reads("b", 200)]).start(0).failover(failover);
        assert_eq!(balancer.clone().oneshot(request).await.expect("infallible").status(), 503);
        let snapshot = balancer.snapshot();
        assert_eq!((snapshot.repeats_total, snapshot.budget_left), (0, Some(10)), "{attempts} attempts");
    }
}

#[tokio::test]
async fn a_repeat_that_cannot_be_made_is_neither_paid_for_nor_asked_of_anybody() {
    let failover = Failover { replay_limit: 3, ..Failover::default() };
    let balancer = RoundRobin::new([reads("a", 503), reads("b", 200)]).start(0).failover(failover);
    assert_eq!(balancer.clone().oneshot(put()).await.expect("infallible").status(), 503, "the answer of the one asked");
    let snapshot = balancer.snapshot();
    assert_eq!((snapshot.repeats_total, snapshot.budget_left), (0, Some(10)));
    assert_eq!(snapshot.instances[1].attempts_total, 0);
}
