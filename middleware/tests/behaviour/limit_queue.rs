//! Waiting for a place, limits that move, and limits in front of services that do not speak HTTP.

use std::{
    convert::Infallible,
    future::{pending, ready},
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use campanile_middleware::{
    AdaptiveLimit, ConcurrencyLimit, ConcurrencyLimitError, ConcurrencyLimitLayer, GenericConcurrencyLimitLayer, Hold,
    OverflowQueue,
};
use http::{Request, Response};
use http_body_util::{Empty, Full};
use tokio::time::{Instant, advance};
use tokio_test::{assert_pending, assert_ready_err, assert_ready_ok, task::spawn};
use tower::{Layer, Service, ServiceExt, service_fn};
use tower_test::mock;

use crate::support::{get, grpc, problem_code, text};

const QUEUE: OverflowQueue = OverflowQueue { len: 2, timeout: Duration::from_millis(250) };

#[tokio::test(start_paused = true)]
async fn a_place_that_becomes_free_goes_to_who_has_waited_longest() {
    let limit = ConcurrencyLimit::fixed(1);
    let place = limit.try_acquire().expect("free");
    // In line from the call on, not from the first poll.
    let (mut first, mut second) = (spawn(limit.acquire(QUEUE)), spawn(limit.acquire(QUEUE)));
    assert_pending!(second.poll());
    assert_pending!(first.poll());
    assert_eq!(limit.snapshot().queued, 2);
    assert_ready_err!(spawn(limit.acquire(QUEUE)).poll(), "the queue is full");
    assert_eq!(limit.snapshot().shed_total, 1);

    drop(place);
    assert!(first.is_woken() && !second.is_woken());
    assert!(limit.try_acquire().is_err(), "nobody overtakes");
    let place = assert_ready_ok!(first.poll());
    assert_pending!(second.poll());
    drop(place);
    assert!(second.is_woken());
    drop(assert_ready_ok!(second.poll()));
    let rest = limit.snapshot();
    assert_eq!((rest.in_flight, rest.queued), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn who_leaves_the_queue_is_not_waited_for() {
    let limit = ConcurrencyLimit::fixed(1);
    let place = limit.try_acquire().expect("free");
    let (mut first, mut second) = (spawn(limit.acquire(QUEUE)), spawn(limit.acquire(QUEUE)));
    assert_pending!(first.poll());
    assert_pending!(second.poll());
    // Given its place, and dropped before it knows: the place goes on.
    drop(place);
    drop(first);
    assert!(second.is_woken());
    let place = assert_ready_ok!(second.poll());
    let mut third = spawn(limit.acquire(QUEUE));
    assert_pending!(third.poll());
    drop(third);
    drop(place);
    assert!(limit.try_acquire().is_ok(), "the third waits no longer");
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_longer_than_the_timeout() {
    let limit = ConcurrencyLimit::fixed(0);
    let begun = Instant::now();
    limit.acquire(QUEUE).await.expect_err("no place, ever");
    assert_eq!(begun.elapsed(), QUEUE.timeout);
    assert_eq!(limit.snapshot().queued, 0);
    // Even who has no end in mind.
    let forever = OverflowQueue { len: 1, timeout: Duration::MAX };
    limit.acquire(forever).await.expect_err("no place, ever");
    assert_eq!(begun.elapsed(), QUEUE.timeout + Duration::from_secs(24 * 3600));
}

#[tokio::test(start_paused = true)]
async fn a_higher_limit_lets_in_who_waits_and_a_lower_one_lets_finish() {
    let limit = ConcurrencyLimit::fixed(1);
    let place = limit.try_acquire().expect("free");
    let mut waiting = [spawn(limit.acquire(QUEUE)), spawn(limit.acquire(QUEUE))];
    waiting.iter_mut().for_each(|acquire| assert_pending!(acquire.poll()));
    limit.set_limit(3);
    let mut places: Vec<_> = waiting.iter_mut().map(|acquire| assert_ready_ok!(acquire.poll())).collect();
    places.push(place);
    limit.set_limit(2);
    assert_eq!((limit.snapshot().limit, limit.snapshot().in_flight), (2, 3));
    places.pop();
    assert!(limit.try_acquire().is_err(), "two of two are in flight");
    places.pop();
    assert!(limit.try_acquire().is_ok());
}

#[tokio::test(start_paused = true)]
async fn requests_wait_their_turn_and_the_rest_is_refused() {
    type Req = Request<Empty<Bytes>>;
    let (mock, mut handle) = mock::pair::<Req, Response<Full<Bytes>>>();
    let layer = ConcurrencyLimitLayer::fixed(1).overflow(QUEUE);
    // `Mock` panics when it is called without having been ready: a clone in its place would not do.
    let mut service = layer.layer(mock);
    let mut calls = Vec::new();
    for path in ["/1", "/2", "/3"] {
        handle.allow(8);
        let ready = service.ready().await.expect("ready");
        let mut call = spawn(ready.call(get(path)));
        assert_pending!(call.poll());
        calls.push(call);
    }
    let fourth = service.ready().await.expect("ready").call(grpc("/s/m"));
    let refused = fourth.await.expect("a response");
    assert_eq!((refused.status().as_u16(), &refused.headers()["grpc-status"]), (200, &"14".parse().expect("valid")));
    for path in ["/1", "/2", "/3"] {
        let (request, respond) = handle.next_request().await.expect("one comes in");
        assert_eq!(request.uri().path(), path);
        assert_eq!(layer.in_flight(), 1);
        respond.send_response(Response::new(Full::default()));
        let mut call = calls.remove(0);
        drop(assert_ready_ok!(call.poll()));
        calls.iter_mut().take(1).for_each(|next| assert_pending!(next.poll()));
    }
    assert_eq!(layer.in_flight(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_request_that_waits_too_long_is_answered_and_never_made() {
    let layer = ConcurrencyLimitLayer::fixed(1).overflow(QUEUE);
    let _place = layer.limit().try_acquire().expect("free");
    let never =
        service_fn(|_| async { unreachable!("there is no place") as Result<Response<Full<Bytes>>, Infallible> });
    let refused = layer.layer(never).oneshot(get("/")).await.expect("infallible");
    assert_eq!((refused.status().as_u16(), problem_code(refused).await.as_str()), (503, "overloaded"));
}

#[tokio::test(start_paused = true)]
async fn a_request_dropped_while_it_waits_leaves_nothing_behind() {
    let layer = ConcurrencyLimitLayer::fixed(1).overflow(QUEUE);
    let mut service = layer.layer(service_fn(|_| pending::<Result<Response<Full<Bytes>>, Infallible>>()));
    let (mut first, mut second) = (spawn(service.call(get("/"))), spawn(service.call(get("/"))));
    assert_pending!(first.poll());
    assert_pending!(second.poll());
    drop(second);
    let mut third = spawn(service.call(get("/")));
    drop(first);
    // Has its place, was never polled.
    assert_eq!(layer.in_flight(), 1);
    assert_pending!(third.poll());
    drop(third);
    let rest = layer.limit().snapshot();
    assert_eq!((rest.in_flight, rest.queued), (0, 0));
}

/// Ten requests at once that are answered so after a second; the limit after them.
async fn a_window_of(status: u16, layer: &ConcurrencyLimitLayer) -> usize {
    a_window_of_responses(move || text(status, "answer"), layer).await
}

async fn a_window_of_responses<R>(respond: R, layer: &ConcurrencyLimitLayer) -> usize
where
    R: Fn() -> Response<Full<Bytes>> + Clone + Send + 'static,
{
    let service = layer.layer(service_fn(move |_| {
        let response = respond();
        async move {
            tokio::time::sleep(Duration::from_secs(1)).await;
            Ok::<_, Infallible>(response)
        }
    }));
    let (mut early, mut late) = (tokio::task::JoinSet::new(), spawn(service.clone().oneshot(get("/"))));
    for _ in 0..10 {
        early.spawn(service.clone().oneshot(get("/")));
    }
    early.join_all().await;
    // A window lasts a second from its first answer.
    assert_pending!(late.poll());
    late.await.expect("infallible");
    layer.limit().snapshot().limit
}

#[tokio::test(start_paused = true)]
async fn an_adaptive_limit_grows_while_all_is_well_and_shrinks_when_the_service_says_it_is_too_much() {
    let settings = AdaptiveLimit { min: 10, initial: 20, headroom: 10, ..AdaptiveLimit::default() };
    let layer = ConcurrencyLimitLayer::adaptive(settings).hold(Hold::ResponseHead);
    assert_eq!(a_window_of(200, &layer).await, 22);
    for (status, limit) in [(503, 19), (429, 17), (504, 16)] {
        assert_eq!(a_window_of(status, &layer).await, limit, "{status}");
    }
    assert_eq!(a_window_of(500, &layer).await, 18, "an error is an answer");
}

#[tokio::test(start_paused = true)]
async fn calls_that_are_given_up_after_long_mean_overload() {
    let settings = AdaptiveLimit { min: 1, overload_after: Duration::from_secs(2), ..AdaptiveLimit::default() };
    let limit = ConcurrencyLimit::adaptive(settings);
    let places: Vec<_> = (0..20).map(|_| limit.try_acquire().expect("free")).collect();
    let mut places = places.into_iter();
    advance(Duration::from_secs(1)).await;
    drop(places.by_ref().take(9).collect::<Vec<_>>());
    advance(Duration::from_secs(1)).await;
    drop(places.by_ref().take(10).collect::<Vec<_>>());
    assert_eq!(limit.snapshot().limit, 20, "the window is not over");
    advance(Duration::from_secs(1)).await;
    drop(places);
    assert_eq!(limit.snapshot().limit, 18, "a tenth less, once for all of them");
    limit.set_limit(1000);
    assert_eq!(limit.snapshot().limit, 200, "within its bounds");
}

#[tokio::test(start_paused = true)]
async fn any_service_can_have_a_limit() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let record = seen.clone();
    let service = service_fn(move |n: u32| {
        record.lock().expect("no panic").push(n);
        ready(if n == 0 { Err("zero") } else { Ok(n) })
    });
    let rejecting = GenericConcurrencyLimitLayer::new(ConcurrencyLimit::fixed(1));
    let place = rejecting.limit().try_acquire().expect("free");
    let refused = rejecting.layer(service.clone()).oneshot(1).await.expect_err("no place");
    assert!(matches!(refused, ConcurrencyLimitError::Overloaded(_)), "{refused}");

    let queueing = rejecting.clone().overflow(QUEUE).layer(service.clone());
    let mut waiting = spawn(queueing.clone().oneshot(2));
    assert_pending!(waiting.poll());
    assert!(seen.lock().expect("no panic").is_empty(), "the service was not called");
    drop(place);
    assert_eq!(assert_ready_ok!(waiting.poll()), 2);
    assert_eq!(queueing.oneshot(0).await, Err(ConcurrencyLimitError::Service("zero")));
    assert_eq!(rejecting.limit().snapshot().in_flight, 0);
}

/// While nobody waits, a place takes nothing from the allocator.
#[test]
fn a_place_that_is_free_allocates_nothing() {
    let limits = [ConcurrencyLimit::fixed(2), ConcurrencyLimit::adaptive(AdaptiveLimit::default())];
    for limit in limits {
        let info = allocation_counter::measure(|| {
            for _ in 0..1000 {
                let mut place = limit.try_acquire().expect("free");
                place.answered();
            }
        });
        assert_eq!((info.count_total, limit.snapshot().shed_total), (0, 0), "{limit:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_grpc_status_in_the_head_can_say_that_it_is_too_much() {
    let settings = AdaptiveLimit { min: 10, initial: 20, headroom: 10, ..AdaptiveLimit::default() };
    for (status, limit) in [("8", 18), ("14", 18), ("4", 18), ("13", 22), ("0", 22)] {
        let layer = ConcurrencyLimitLayer::adaptive(settings).hold(Hold::ResponseHead);
        let refuse = move || {
            let builder = Response::builder().header("content-type", "application/grpc");
            builder.header("grpc-status", status).body(Full::default()).expect("a valid response")
        };
        assert_eq!(a_window_of_responses(refuse, &layer).await, limit, "{status}");
    }
}
