//! Round robin and failover.

use std::{
    convert::Infallible,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use campanile_middleware::{
    CircuitBreaker, CircuitState, Failover, Instance, ReplayBody, ReplayError, RoundRobin, Verdict,
};
use http::{Request, Response};
use http_body::Body;
use http_body_util::{BodyExt, Full};
use tokio::time::{Instant, sleep};
use tower::{ServiceExt, util::BoxCloneSyncService};
use tracing::Level;

use crate::support::{Fed, data, fed, logged, problem_code, record_log, text};

/// What an instance does with a request.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Does {
    Answers(u16),
    /// Answers 409: not the active one.
    Refuses,
    /// Fails before the request is sent.
    CannotConnect,
    /// Reads the request's body, and breaks.
    BreaksAfterReading,
    Hangs,
    Panics,
}

#[derive(Debug, PartialEq)]
enum Failure {
    Connect,
    Broken,
}

type Service = BoxCloneSyncService<Request<ReplayBody<Fed>>, Response<Full<Bytes>>, Failure>;
type Balancer = RoundRobin<Service, Failure, Full<Bytes>>;

/// One scripted instance, and what it saw.
#[derive(Clone)]
struct Stub {
    name: &'static str,
    does: Arc<Mutex<Does>>,
    /// The bodies that it read.
    seen: Arc<Mutex<Vec<String>>>,
}

impl Stub {
    fn new(name: &'static str, does: Does) -> Self {
        Self { name, does: Arc::new(Mutex::new(does)), seen: Arc::default() }
    }

    fn now(&self, does: Does) {
        *self.does.lock().expect("one thread") = does;
    }

    fn seen(&self) -> Vec<String> {
        self.seen.lock().expect("one thread").clone()
    }

    fn calls(&self) -> usize {
        self.seen().len()
    }

    async fn serve(self, request: Request<ReplayBody<Fed>>) -> Result<Response<Full<Bytes>>, Failure> {
        let does = *self.does.lock().expect("one thread");
        let reads = !matches!(does, Does::CannotConnect | Does::Refuses);
        let body = if reads { request.into_body().collect().await } else { Ok(Default::default()) };
        let body = body.map_err(|_| Failure::Broken)?;
        let trailers = body.trailers().map(|trailers| format!("+{}", trailers.len())).unwrap_or_default();
        let body = String::from_utf8_lossy(&body.to_bytes()).into_owned();
        self.seen.lock().expect("one thread").push(body + &trailers);
        match does {
            Does::Answers(status) => Ok(text(status, self.name)),
            Does::Refuses => Ok(text(409, self.name)),
            Does::CannotConnect => Err(Failure::Connect),
            Does::BreaksAfterReading => Err(Failure::Broken),
            Does::Hangs => std::future::pending().await,
            Does::Panics => panic!("the instance panics"),
        }
    }

    fn instance(&self) -> Instance<Service> {
        let stub = self.clone();
        let service = tower::service_fn(move |request| stub.clone().serve(request));
        let breaker = CircuitBreaker::builder(self.name).consecutive_failures(3).build();
        Instance::new(self.name, BoxCloneSyncService::new(service), breaker)
    }
}

fn stubs<const N: usize>(does: [Does; N]) -> [Stub; N] {
    let mut names = ["a", "b", "c"].into_iter();
    does.map(|does| Stub::new(names.next().expect("three at most"), does))
}

fn balancer(stubs: &[Stub]) -> Balancer {
    RoundRobin::new(stubs.iter().map(Stub::instance))
        .start(0)
        .never_sent(|error| *error == Failure::Connect)
        .refused(|response: &Response<_>| response.status() == 409)
}

fn failover() -> Failover {
    Failover::default()
}

fn request(method: &str, body: &'static str) -> Request<Fed> {
    let (feed, fed) = fed();
    if !body.is_empty() {
        feed.send(data(body)).expect("the body is there");
    }
    Request::builder().method(method).uri("/").body(fed).expect("valid")
}

/// The status, and the name of the instance or the code of the rejection.
async fn ask(balancer: &Balancer, request: Request<Fed>) -> (u16, String) {
    read(balancer.clone().oneshot(request).await).await
}

async fn read<B>(response: Result<Response<B>, Infallible>) -> (u16, String)
where
    B: Body<Data = Bytes, Error = Infallible>,
{
    let response = response.expect("infallible");
    let status = response.status().as_u16();
    if response.headers().get("content-type").is_some_and(|value| value == "application/problem+json") {
        return (status, problem_code(response).await);
    }
    let body = response.into_body().collect().await.expect("a whole body").to_bytes();
    (status, String::from_utf8_lossy(&body).into_owned())
}

fn answered(status: u16, by: &str) -> (u16, String) {
    (status, by.to_owned())
}

const OK: Does = Does::Answers(200);

#[tokio::test]
async fn each_request_goes_to_the_next_instance_in_turn() {
    let stubs = stubs([OK, OK, OK]);
    let balancer = balancer(&stubs);
    let mut order = String::new();
    for _ in 0..7 {
        order += &ask(&balancer, request("POST", "")).await.1;
    }
    assert_eq!(order, "abcabca");
}

#[tokio::test]
async fn an_instance_whose_circuit_is_open_is_skipped_and_the_log_says_so() {
    record_log(Level::DEBUG);
    let stubs = stubs([OK, Does::Answers(500), OK]);
    let balancer = balancer(&stubs);
    for _ in 0..9 {
        ask(&balancer, request("POST", "")).await;
    }
    assert_eq!(balancer.instances()[1].breaker().state(), CircuitState::Open);
    let order = [ask(&balancer, request("POST", "")).await, ask(&balancer, request("POST", "")).await];
    assert_eq!(order, [answered(200, "a"), answered(200, "c")]);
    ask(&balancer, request("POST", "")).await;
    ask(&balancer, request("POST", "")).await;
    assert_eq!(stubs[1].calls(), 3);

    let skips: Vec<_> =
        logged("campanile_middleware").into_iter().filter(|event| event.message.contains("skip")).collect();
    let levels: Vec<_> = skips.iter().filter_map(|event| event.level).collect();
    assert_eq!(levels, [Level::WARN, Level::DEBUG], "loud once for every opening");
    assert!(skips.iter().all(|event| event.message == "Instance b circuit OPEN; skipping"));
}

#[tokio::test(start_paused = true)]
async fn the_next_opening_is_told_loudly_again() {
    record_log(Level::WARN);
    let stubs = stubs([Does::Answers(500), OK]);
    let balancer = balancer(&stubs);
    for _ in 0..10 {
        ask(&balancer, request("POST", "")).await;
    }
    sleep(Duration::from_secs(31)).await;
    // A probe, which fails; then a skip.
    for _ in 0..4 {
        ask(&balancer, request("POST", "")).await;
    }
    let skips = logged("campanile_middleware").into_iter().filter(|event| event.message.contains("skip")).count();
    assert_eq!(skips, 2);
}

#[tokio::test]
async fn what_never_started_is_tried_on_the_next_instance_whatever_the_method() {
    for never_started in [Does::CannotConnect, Does::Refuses] {
        let stubs = stubs([never_started, never_started, OK]);
        let balancer = balancer(&stubs).failover(Failover { attempts: 1, ..failover() });
        assert_eq!(ask(&balancer, request("POST", "body")).await, answered(200, "c"), "{never_started:?}");
        assert_eq!(stubs[2].seen(), ["body"]);
    }
}

#[tokio::test]
async fn a_refusal_counts_neither_for_nor_against_the_instance() {
    let stubs = stubs([Does::Refuses, OK]);
    let balancer = balancer(&stubs);
    for _ in 0..10 {
        ask(&balancer, request("POST", "")).await;
    }
    let snapshot = balancer.instances()[0].breaker().snapshot();
    assert_eq!((snapshot.state, snapshot.consecutive_failures), (CircuitState::Closed, 0));
}

#[tokio::test]
async fn a_post_that_may_have_been_processed_is_not_repeated() {
    let stubs = stubs([Does::BreaksAfterReading, OK]);
    let balancer = balancer(&stubs);
    let response = balancer.clone().oneshot(request("POST", "body")).await.expect("infallible");
    assert_eq!(response.extensions().get(), Some(&Verdict::Failure));
    assert!(!response.headers().contains_key("retry-after"), "who must not repeat it is not told when");
    assert_eq!(read(Ok(response)).await, answered(502, "outcome_unknown"));
    assert_eq!((stubs[0].calls(), stubs[1].calls()), (1, 0));
}

#[tokio::test]
async fn a_503_to_a_post_is_the_answer() {
    let stubs = stubs([Does::Answers(503), OK]);
    assert_eq!(ask(&balancer(&stubs), request("POST", "")).await, answered(503, "a"));
}

#[tokio::test]
async fn an_idempotent_request_is_repeated() {
    for broken in [Does::BreaksAfterReading, Does::Answers(503)] {
        let stubs = stubs([broken, OK]);
        let balancer = balancer(&stubs);
        assert_eq!(ask(&balancer, request("PUT", "body")).await, answered(200, "b"), "{broken:?}");
        assert_eq!((stubs[0].seen(), stubs[1].seen()), (vec!["body".to_owned()], vec!["body".to_owned()]));
        let mut keyed = request("POST", "body");
        keyed.headers_mut().insert("idempotency-key", "k1".parse().expect("valid"));
        assert_eq!(ask(&balancer.start(0), keyed).await, answered(200, "b"), "{broken:?}");
    }
}

#[tokio::test]
async fn the_user_can_say_that_a_get_is_not_idempotent() {
    let stubs = stubs([Does::BreaksAfterReading, OK]);
    let balancer = balancer(&stubs).idempotent(|request| request.uri.path() != "/");
    assert_eq!(ask(&balancer, request("GET", "")).await, answered(502, "outcome_unknown"));
    assert_eq!(stubs[1].calls(), 0);
}

#[tokio::test]
async fn attempts_that_may_have_been_processed_are_bounded() {
    let stubs = stubs([Does::BreaksAfterReading, Does::BreaksAfterReading, OK]);
    let balancer = balancer(&stubs).failover(Failover { attempts: 2, ..failover() });
    let response = balancer.clone().oneshot(request("GET", "")).await.expect("infallible");
    assert_eq!(response.headers()["retry-after"], "1", "it may safely be repeated");
    assert_eq!(read(Ok(response)).await, answered(502, "outcome_unknown"));
    assert_eq!(stubs[2].calls(), 0);
}

#[tokio::test]
async fn an_unknown_outcome_is_never_replaced_by_one_that_says_nothing_was_done() {
    for later in [Does::CannotConnect, Does::Refuses] {
        let stubs = stubs([Does::BreaksAfterReading, later]);
        assert_eq!(ask(&balancer(&stubs), request("PUT", "")).await, answered(502, "outcome_unknown"), "{later:?}");
    }
}

#[tokio::test]
async fn when_all_are_unreachable_nothing_was_done_and_each_was_tried_once() {
    let stubs = stubs([Does::CannotConnect; 3]);
    assert_eq!(ask(&balancer(&stubs), request("POST", "body")).await, answered(503, "unavailable"));
    assert_eq!(stubs.map(|stub| stub.calls()), [1, 1, 1]);
}

#[tokio::test]
async fn when_all_refuse_the_last_refusal_is_the_answer() {
    let stubs = stubs([Does::Refuses; 2]);
    assert_eq!(ask(&balancer(&stubs), request("POST", "")).await, answered(409, "b"));
    assert_eq!(stubs.map(|stub| stub.calls()), [1, 1]);
}

#[tokio::test]
async fn when_no_instance_can_be_asked_the_answer_says_when() {
    let none = balancer(&[]);
    assert_eq!(ask(&none, request("GET", "")).await, answered(503, "no_instance"));

    let stubs = stubs([Does::CannotConnect]);
    let balancer = balancer(&stubs);
    for _ in 0..3 {
        ask(&balancer, request("POST", "")).await;
    }
    let response = balancer.clone().oneshot(request("POST", "")).await.expect("infallible");
    assert_eq!(response.headers()["retry-after"], "30", "the remaining open time");
    let body = response.into_body().collect().await.expect("a whole body").to_bytes();
    assert!(String::from_utf8_lossy(&body).contains("No healthy backend instances available"));
}

#[tokio::test]
async fn a_body_that_is_still_streaming_and_its_trailers_are_replayed() {
    let stubs = stubs([Does::BreaksAfterReading, OK]);
    let balancer = balancer(&stubs);
    let (feed, body) = fed();
    let sending = async move {
        for part in ["one ", "two ", "three"] {
            feed.send(data(part)).expect("the body is there");
            tokio::task::yield_now().await;
        }
        feed.send(crate::support::trailers("0")).expect("the body is there");
    };
    let asking = ask(&balancer, Request::put("/").body(body).expect("valid"));
    let (answer, ()) = tokio::join!(asking, sending);
    assert_eq!(answer, answered(200, "b"));
    assert_eq!(
        (stubs[0].seen(), stubs[1].seen()),
        (vec!["one two three+1".to_owned()], vec!["one two three+1".to_owned()])
    );
}

#[tokio::test]
async fn a_body_over_the_limit_is_sent_once() {
    for (limit, answer, calls) in [(3, answered(502, "outcome_unknown"), 0), (4, answered(200, "b"), 1)] {
        let stubs = stubs([Does::BreaksAfterReading, OK]);
        let balancer = balancer(&stubs).failover(Failover { replay_limit: limit, ..failover() });
        assert_eq!(ask(&balancer, request("PUT", "body")).await, answer, "limit {limit}");
        assert_eq!((stubs[0].seen(), stubs[1].calls()), (vec!["body".to_owned()], calls));
    }
}

#[tokio::test]
async fn a_body_in_very_many_pieces_is_over_the_limit_too() {
    for (pieces, calls) in [(1024, 1), (1025, 0)] {
        let stubs = stubs([Does::BreaksAfterReading, OK]);
        let (feed, body) = fed();
        (0..pieces).for_each(|_| feed.send(data("x")).expect("the body is there"));
        drop(feed);
        ask(&balancer(&stubs), Request::put("/").body(body).expect("valid")).await;
        assert_eq!((stubs[0].seen()[0].len(), stubs[1].calls()), (pieces, calls));
    }
}

#[tokio::test(start_paused = true)]
async fn the_body_of_an_abandoned_attempt_breaks_off_and_takes_nothing_from_the_next() {
    let kept = Arc::new(Mutex::new(None));
    let keep = kept.clone();
    // Keeps the body, as a connection's task may do for a while after its response is no longer wanted.
    let keeps = move |request: Request<ReplayBody<Fed>>| {
        *keep.lock().expect("one thread") = Some(request.into_body());
        std::future::pending::<Result<Response<Full<Bytes>>, Failure>>()
    };
    let keeps = BoxCloneSyncService::new(tower::service_fn(keeps));
    let first = Instance::new("first", keeps, CircuitBreaker::builder("first").build());
    let second = Stub::new("second", OK);
    let balancer = RoundRobin::new([first, second.instance()])
        .start(0)
        .failover(Failover { per_try: Some(Duration::from_secs(1)), ..failover() });
    assert_eq!(ask(&balancer, request("PUT", "body")).await, answered(200, "second"));
    assert_eq!(second.seen(), ["body"]);
    let mut body = kept.lock().expect("one thread").take().expect("kept");
    assert!(matches!(body.frame().await, Some(Err(ReplayError::Superseded))));
}

#[tokio::test]
async fn a_body_over_the_limit_that_nobody_read_can_go_to_the_next() {
    let stubs = stubs([Does::CannotConnect, OK]);
    let balancer = balancer(&stubs).failover(Failover { replay_limit: 0, ..failover() });
    assert_eq!(ask(&balancer, request("POST", "body")).await, answered(200, "b"));
    assert_eq!(stubs[1].seen(), ["body"]);
}

#[tokio::test]
async fn a_request_body_that_breaks_off_is_not_the_instances_fault() {
    let stubs = stubs([OK, OK]);
    let balancer = balancer(&stubs);
    for _ in 0..6 {
        let (feed, body) = fed();
        feed.send(data("half")).expect("the body is there");
        feed.send(Err("gone".into())).expect("the body is there");
        let answer = ask(&balancer, Request::put("/").body(body).expect("valid")).await;
        assert_eq!(answer, answered(400, "request_body"));
    }
    assert!(balancer.instances().iter().all(|instance| instance.breaker().snapshot().consecutive_failures == 0));
}

#[tokio::test(start_paused = true)]
async fn an_attempt_on_a_remote_instance_is_bounded_and_on_a_local_one_is_not() {
    let per_try = Duration::from_secs(2);
    let stubs = stubs([Does::Hangs, OK]);
    let balancer = balancer(&stubs).failover(Failover { per_try: Some(per_try), ..failover() });
    let began = Instant::now();
    assert_eq!(ask(&balancer, request("GET", "")).await, answered(200, "b"));
    assert_eq!(began.elapsed().as_secs(), 2);
    assert_eq!(balancer.instances()[0].breaker().snapshot().consecutive_failures, 1);
    assert_eq!(ask(&balancer.clone().start(0), request("POST", "")).await, answered(502, "outcome_unknown"));

    balancer.set_instances([stubs[0].instance().local()]);
    let local = tokio::time::timeout(per_try * 10, ask(&balancer, request("GET", ""))).await;
    assert!(local.is_err(), "it still waits");
}

#[tokio::test]
async fn an_instance_that_is_not_ready_is_passed_over_while_another_is() {
    let stubs = stubs([OK, OK]);
    let balancer = balancer(&stubs);
    balancer.instances()[0].set_ready(false);
    for _ in 0..4 {
        assert_eq!(ask(&balancer, request("POST", "")).await, answered(200, "b"));
    }
    stubs[1].now(Does::CannotConnect);
    assert_eq!(ask(&balancer, request("POST", "")).await, answered(200, "a"), "a hint, so it is asked last");
}

fn waiting(stubs: &[Stub], seconds: u64) -> Balancer {
    balancer(stubs).failover(Failover { wait_for_ready: Some(Duration::from_secs(seconds)), ..failover() })
}

#[tokio::test(start_paused = true)]
async fn a_waiting_request_is_woken_when_an_instance_becomes_ready() {
    let stubs = stubs([Does::Refuses]);
    let balancer = waiting(&stubs, 10);
    balancer.instances()[0].set_ready(false);
    let began = Instant::now();
    let becomes_active = async {
        sleep(Duration::from_millis(1020)).await;
        stubs[0].now(OK);
        balancer.instances()[0].set_ready(true);
    };
    let (answer, ()) = tokio::join!(ask(&balancer, request("POST", "body")), becomes_active);
    assert_eq!(answer, answered(200, "a"));
    assert_eq!(began.elapsed().as_millis(), 1020, "woken, not found by the next tick");
    assert_eq!(stubs[0].seen().last().map(String::as_str), Some("body"));
}

#[tokio::test(start_paused = true)]
async fn a_waiting_request_is_woken_by_new_instances() {
    let balancer = waiting(&[], 10);
    let stub = Stub::new("new", OK);
    let began = Instant::now();
    let arrives = async {
        sleep(Duration::from_millis(1020)).await;
        balancer.set_instances([stub.instance()]);
    };
    let (answer, ()) = tokio::join!(ask(&balancer, request("POST", "")), arrives);
    assert_eq!((answer, began.elapsed().as_millis()), (answered(200, "new"), 1020));
}

#[tokio::test(start_paused = true)]
async fn a_waiting_request_tries_again_every_50_ms_without_being_woken() {
    let stubs = stubs([Does::Refuses]);
    let balancer = waiting(&stubs, 10);
    let began = Instant::now();
    let becomes_active = async {
        sleep(Duration::from_millis(120)).await;
        stubs[0].now(OK);
    };
    let (answer, ()) = tokio::join!(ask(&balancer, request("POST", "")), becomes_active);
    assert_eq!((answer, began.elapsed().as_millis()), (answered(200, "a"), 150));
    assert_eq!(stubs[0].calls(), 4, "at 0, 50, 100 and 150 ms");
}

#[tokio::test(start_paused = true)]
async fn waiting_has_an_end_and_the_last_refusal_is_the_answer() {
    let stubs = stubs([Does::Refuses, Does::CannotConnect]);
    let balancer = waiting(&stubs, 1);
    balancer.instances()[1].breaker().isolate();
    let began = Instant::now();
    assert_eq!(ask(&balancer, request("POST", "")).await, answered(409, "a"));
    assert_eq!(began.elapsed().as_secs(), 1);
    assert_eq!(stubs[0].calls(), 21, "once per round");
}

#[tokio::test(start_paused = true)]
async fn a_request_that_may_have_been_processed_does_not_wait() {
    let stubs = stubs([Does::BreaksAfterReading]);
    let began = Instant::now();
    assert_eq!(ask(&waiting(&stubs, 10), request("POST", "")).await, answered(502, "outcome_unknown"));
    assert_eq!(began.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn an_idempotent_request_whose_instance_died_waits_for_the_one_that_takes_over() {
    for dying in [Does::BreaksAfterReading, Does::Answers(503)] {
        let stubs = stubs([dying, Does::Refuses]);
        let balancer = waiting(&stubs, 10);
        let takes_over = async {
            sleep(Duration::from_millis(10)).await;
            stubs[0].now(Does::CannotConnect);
            sleep(Duration::from_millis(1000)).await;
            stubs[1].now(OK);
        };
        let (answer, ()) = tokio::join!(ask(&balancer, request("PUT", "body")), takes_over);
        assert_eq!(answer, answered(200, "b"), "{dying:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_idempotent_request_that_only_fails_is_repeated_no_more_often_than_allowed() {
    let stubs = stubs([Does::Answers(503)]);
    let balancer = waiting(&stubs, 10).failover(Failover {
        attempts: 3,
        wait_for_ready: Some(Duration::from_secs(10)),
        ..failover()
    });
    let began = Instant::now();
    assert_eq!(ask(&balancer, request("PUT", "")).await, answered(503, "a"));
    assert_eq!((stubs[0].calls(), began.elapsed()), (3, Duration::from_millis(100)));
}

#[tokio::test]
async fn a_dropped_request_says_nothing_about_its_instance_and_a_panic_does() {
    let stubs = stubs([Does::Hangs]);
    let balancer = balancer(&stubs);
    let breaker = balancer.instances()[0].breaker().clone();
    let mut future = Box::pin(balancer.clone().oneshot(request("GET", "")));
    let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
    assert!(future.as_mut().poll(&mut cx).is_pending());
    drop(future);
    assert_eq!(breaker.snapshot().consecutive_failures, 0);

    stubs[0].now(Does::Panics);
    let asked = tokio::spawn(async move { ask(&balancer, request("GET", "")).await });
    assert!(asked.await.is_err());
    assert_eq!(breaker.snapshot().consecutive_failures, 1);
}
