//! Round robin over services that know nothing of HTTP.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering::SeqCst},
    },
    task::{Context, Poll},
    time::Duration,
};

use campanile_middleware::{
    CircuitBreaker, CircuitState, Failover, GenericRoundRobin, GenericRoundRobinLayer, Instance, RetryBudget,
    RoundRobinError, Verdict,
};
use tokio::time::{Instant, sleep};
use tower::{Layer, Service, ServiceExt, service_fn};

/// What an instance does with a request.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Does {
    Answers(&'static str),
    Fails(Failure),
    /// Fails in `poll_ready`.
    IsBroken,
    NeverReady,
    Hangs,
    Panics,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Failure {
    /// The request never left.
    Connect,
    Lost,
    /// The service works, and does not know the answer.
    NotFound,
}

/// A request that counts its copies. It is no `Clone`, as requests need not be.
#[derive(Debug, Default)]
struct Query {
    copies: Arc<AtomicU32>,
}

impl Query {
    fn copy(&self) -> Option<Self> {
        self.copies.fetch_add(1, SeqCst);
        Some(Self { copies: self.copies.clone() })
    }
}

/// One scripted instance, and how often it was called.
#[derive(Clone)]
struct Stub {
    name: &'static str,
    does: Arc<Mutex<Does>>,
    calls: Arc<AtomicU32>,
}

impl Stub {
    fn now(&self, does: Does) {
        *self.does.lock().expect("one thread") = does;
    }

    fn does(&self) -> Does {
        *self.does.lock().expect("one thread")
    }

    fn instance(&self) -> Instance<Self> {
        let breaker = CircuitBreaker::builder(self.name).consecutive_failures(3).build();
        Instance::new(self.name, self.clone(), breaker)
    }
}

impl Service<Query> for Stub {
    type Response = &'static str;
    type Error = Failure;
    type Future = std::pin::Pin<Box<dyn Future<Output = Result<&'static str, Failure>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        match self.does() {
            Does::IsBroken => Poll::Ready(Err(Failure::Lost)),
            Does::NeverReady => Poll::Pending,
            _ => Poll::Ready(Ok(())),
        }
    }

    fn call(&mut self, _: Query) -> Self::Future {
        self.calls.fetch_add(1, SeqCst);
        let does = self.does();
        Box::pin(async move {
            match does {
                Does::Answers(answer) => Ok(answer),
                Does::Fails(failure) => Err(failure),
                Does::Hangs => std::future::pending().await,
                Does::Panics => panic!("the instance panics"),
                Does::IsBroken | Does::NeverReady => unreachable!("it was not ready"),
            }
        })
    }
}

type Balancer = GenericRoundRobin<Stub, Query, &'static str, Failure>;

fn stubs<const N: usize>(does: [Does; N]) -> [Stub; N] {
    let mut names = ["a", "b", "c"].into_iter();
    does.map(|does| Stub {
        name: names.next().expect("three at most"),
        does: Arc::new(Mutex::new(does)),
        calls: Arc::default(),
    })
}

fn plain(stubs: &[Stub]) -> Balancer {
    GenericRoundRobin::new(stubs.iter().map(Stub::instance)).start(0)
}

/// Requests can be copied, and some errors and responses tell that nothing was done.
fn balancer(stubs: &[Stub]) -> Balancer {
    plain(stubs)
        .clone_request(Query::copy)
        .never_sent(|error| *error == Failure::Connect)
        .refused(|answer| *answer == "not the leader")
}

async fn ask(balancer: &Balancer) -> Result<&'static str, RoundRobinError<Failure>> {
    balancer.clone().oneshot(Query::default()).await
}

fn failures<J>(balancer: &GenericRoundRobin<Stub, Query, &'static str, Failure, J>) -> Vec<u32> {
    let instances = balancer.instances();
    instances.iter().map(|instance| instance.breaker().snapshot().consecutive_failures).collect()
}

fn calls<const N: usize>(stubs: &[Stub; N]) -> [u32; N] {
    stubs.each_ref().map(|stub| stub.calls.load(SeqCst))
}

const OK: Does = Does::Answers("ok");

#[tokio::test]
async fn each_request_goes_to_the_next_instance_in_turn() {
    let stubs = stubs([Does::Answers("a"), Does::Answers("b"), Does::Answers("c")]);
    let balancer = balancer(&stubs);
    let mut order = String::new();
    for _ in 0..7 {
        order += ask(&balancer).await.expect("all answer");
    }
    assert_eq!(order, "abcabca");
}

#[tokio::test(start_paused = true)]
async fn an_instance_that_keeps_failing_is_passed_over_and_without_another_the_error_says_when() {
    let stubs = stubs([Does::Fails(Failure::Lost), OK]);
    let balancer = balancer(&stubs);
    for _ in 0..20 {
        let _ = ask(&balancer).await;
    }
    assert_eq!(balancer.instances()[0].breaker().state(), CircuitState::Open);
    assert_eq!(calls(&stubs), [3, 17]);
    assert!(balancer.remove("b"));
    let retry_after = Some(Duration::from_secs(30));
    assert_eq!(ask(&balancer).await, Err(RoundRobinError::NoInstance { retry_after }));
    balancer.set_instances([]);
    assert_eq!(ask(&balancer).await, Err(RoundRobinError::NoInstance { retry_after: None }));
}

#[tokio::test]
async fn what_never_started_is_tried_on_the_next_instance_whatever_the_request() {
    for never_started in [Does::Fails(Failure::Connect), Does::Answers("not the leader"), Does::IsBroken] {
        let stubs = stubs([never_started, never_started, OK]);
        let balancer = balancer(&stubs).failover(Failover { attempts: 1, budget: None, ..Failover::default() });
        assert_eq!(ask(&balancer).await, Ok("ok"), "{never_started:?}");
        assert_eq!(balancer.snapshot().repeats_total, 0, "it is no repeat");
        let is_failure = never_started != Does::Answers("not the leader");
        let failures = balancer.instances()[0].breaker().snapshot().consecutive_failures;
        assert_eq!(failures, u32::from(is_failure), "{never_started:?}");
    }
}

#[tokio::test]
async fn what_may_have_been_processed_is_repeated_only_if_it_is_idempotent() {
    let stubs = stubs([Does::Fails(Failure::Lost), OK]);
    let balancer = balancer(&stubs);
    assert_eq!(ask(&balancer).await, Err(RoundRobinError::Service(Failure::Lost)));
    assert_eq!(calls(&stubs), [1, 0]);
    let balancer = balancer.start(0).idempotent(|_| true);
    assert_eq!(ask(&balancer).await, Ok("ok"));
    assert_eq!((calls(&stubs), balancer.snapshot().repeats_total), ([2, 1], 1));
}

#[tokio::test]
async fn a_loss_is_never_replaced_by_an_error_that_says_that_nothing_was_done() {
    for later in [Does::Fails(Failure::Connect), Does::Answers("not the leader"), Does::NeverReady] {
        let stubs = stubs([Does::Fails(Failure::Lost), later]);
        let per_try = Some(Duration::from_millis(1));
        let balancer = balancer(&stubs).idempotent(|_| true).failover(Failover { per_try, ..Failover::default() });
        assert_eq!(ask(&balancer).await, Err(RoundRobinError::Service(Failure::Lost)), "{later:?}");
    }
}

#[tokio::test]
async fn the_judge_says_which_outcomes_are_failures_and_any_other_is_the_answer() {
    let stubs = stubs([Does::Fails(Failure::NotFound), Does::Answers("broken"), OK]);
    let judge = |outcome: &Result<&'static str, Failure>| match outcome {
        Err(Failure::NotFound) => Verdict::Success,
        Ok("broken") | Err(_) => Verdict::Failure,
        Ok(_) => Verdict::Success,
    };
    let balancer = balancer(&stubs).idempotent(|_| true).judge(judge);
    let ask = || balancer.clone().oneshot(Query::default());
    assert_eq!(ask().await, Err(RoundRobinError::Service(Failure::NotFound)), "that is an answer");
    assert_eq!(ask().await, Ok("ok"), "a broken response is repeated");
    assert_eq!(failures(&balancer), [0, 1, 0]);
    stubs[2].now(Does::Answers("broken"));
    stubs[0].now(Does::Answers("broken"));
    assert_eq!(ask().await, Ok("broken"), "the last one's own response is the answer");
}

#[tokio::test]
async fn attempts_and_budget_bound_the_repeats() {
    let stubs = stubs([Does::Fails(Failure::Lost); 3]);
    let budget = Some(RetryBudget { percent: 0, reserve: 3 });
    let failover = Failover { attempts: 2, budget, ..Failover::default() };
    let balancer = balancer(&stubs).idempotent(|_| true).failover(failover);
    let mut attempts = Vec::new();
    for _ in 0..5 {
        let before: u32 = calls(&stubs).iter().sum();
        balancer.instances().iter().for_each(|instance| instance.breaker().reset());
        assert_eq!(ask(&balancer).await, Err(RoundRobinError::Service(Failure::Lost)));
        attempts.push(calls(&stubs).iter().sum::<u32>() - before);
    }
    assert_eq!(attempts, [2, 2, 2, 1, 1]);
    assert_eq!(balancer.snapshot().budget_left, Some(0));
}

#[tokio::test]
async fn a_request_is_copied_only_while_another_attempt_may_follow() {
    let never_sent = |error: &Failure| *error == Failure::Connect;
    let copies = async |balancer: &Balancer| {
        let query = Query::default();
        let copies = query.copies.clone();
        let _ = balancer.clone().oneshot(query).await;
        copies.load(SeqCst)
    };
    let one = stubs([OK]);
    assert_eq!(copies(&balancer(&one).idempotent(|_| true)).await, 0, "there is no other instance");
    let two = stubs([OK, OK]);
    let copied = || plain(&two).clone_request(Query::copy);
    assert_eq!(copies(&copied()).await, 0, "no outcome would be followed by another attempt");
    assert_eq!(copies(&copied().idempotent(|_| true)).await, 1);
    assert_eq!(copies(&copied().never_sent(never_sent)).await, 1);
    let once = Failover { attempts: 1, ..Failover::default() };
    assert_eq!(copies(&copied().idempotent(|_| true).failover(once)).await, 0, "one attempt is all");
    let unreachable = stubs([Does::Fails(Failure::Connect); 3]);
    assert_eq!(copies(&balancer(&unreachable)).await, 2, "none for the last");
}

#[tokio::test]
async fn a_request_that_cannot_be_copied_is_sent_once_and_still_passes_who_is_not_ready() {
    let stubs = stubs([Does::IsBroken, Does::Fails(Failure::Connect), OK]);
    let balancer = plain(&stubs).idempotent(|_| true).never_sent(|error| *error == Failure::Connect);
    assert_eq!(ask(&balancer).await, Err(RoundRobinError::Service(Failure::Connect)));
    assert_eq!(calls(&stubs), [0, 1, 0]);
    let refuses = balancer.start(0).clone_request(|_| None);
    assert_eq!(ask(&refuses).await, Err(RoundRobinError::Service(Failure::Connect)));
    assert_eq!(calls(&stubs), [0, 2, 0]);
}

#[tokio::test(start_paused = true)]
async fn an_attempt_is_bounded_unless_its_instance_is_local() {
    let stubs = stubs([Does::NeverReady, Does::Hangs]);
    let failover = Failover { per_try: Some(Duration::from_secs(2)), ..Failover::default() };
    let balancer = balancer(&stubs).failover(failover);
    let began = Instant::now();
    assert_eq!(ask(&balancer).await, Err(RoundRobinError::TimedOut));
    assert_eq!(began.elapsed().as_secs(), 4, "two for each");
    assert_eq!(failures(&balancer), [1, 1]);
    assert!(balancer.remove("b"));
    assert_eq!(ask(&balancer).await, Err(RoundRobinError::NoInstance { retry_after: None }), "nothing was done");
    balancer.set_instances([stubs[1].instance().local()]);
    assert!(tokio::time::timeout(Duration::from_secs(60), ask(&balancer)).await.is_err(), "it still waits");
}

#[tokio::test(start_paused = true)]
async fn a_request_of_which_nothing_was_done_waits_for_an_instance() {
    let stubs = stubs([Does::Answers("not the leader")]);
    let failover = Failover { wait_for_ready: Some(Duration::from_secs(10)), ..Failover::default() };
    let balancer = balancer(&stubs).failover(failover);
    let began = Instant::now();
    let becomes_leader = async {
        sleep(Duration::from_millis(120)).await;
        stubs[0].now(OK);
    };
    let (answer, ()) = tokio::join!(ask(&balancer), becomes_leader);
    assert_eq!((answer, began.elapsed().as_millis()), (Ok("ok"), 150), "every 50 ms");
}

#[tokio::test(start_paused = true)]
async fn circuits_are_ignored_while_too_few_instances_are_left() {
    let stubs = stubs([Does::Fails(Failure::Lost), Does::Fails(Failure::Lost), OK]);
    let balancer = balancer(&stubs).panic_below(0.5);
    for _ in 0..9 {
        let _ = ask(&balancer).await;
    }
    let before = calls(&stubs);
    for _ in 0..6 {
        let _ = ask(&balancer).await;
    }
    assert_eq!(calls(&stubs), before.map(|calls| calls + 2));
}

#[tokio::test]
async fn a_dropped_request_says_nothing_about_its_instance_and_a_panic_does() {
    let stubs = stubs([Does::Hangs]);
    let balancer = balancer(&stubs);
    let breaker = balancer.instances()[0].breaker().clone();
    let mut future = Box::pin(balancer.clone().call(Query::default()));
    let mut cx = Context::from_waker(std::task::Waker::noop());
    assert!(future.as_mut().poll(&mut cx).is_pending());
    drop(future);
    assert_eq!(breaker.snapshot().consecutive_failures, 0);
    stubs[0].now(Does::Panics);
    let asked = tokio::spawn(balancer.oneshot(Query::default()));
    assert!(asked.await.is_err());
    assert_eq!(breaker.snapshot().consecutive_failures, 1);
}

#[tokio::test]
async fn one_client_serves_all_instances_behind_a_layer() {
    let asked = Arc::new(Mutex::new(String::new()));
    let asks = asked.clone();
    let client = service_fn(move |(shard, key): (char, u32)| {
        asks.lock().expect("one thread").push(shard);
        async move { if shard == 'b' { Err(Failure::Connect) } else { Ok(key) } }
    });
    let instance = |shard: char| {
        let name = shard.to_string();
        let breaker = CircuitBreaker::builder(name.as_str()).consecutive_failures(2).build();
        Instance::new(name.as_str(), shard, breaker)
    };
    let round = GenericRoundRobin::new(['a', 'b', 'c'].map(instance))
        .start(0)
        .clone_request(|key: &u32| Some(*key))
        .never_sent(|error| *error == Failure::Connect);
    let layer = GenericRoundRobinLayer::new(round.clone(), |key, shard: &char| (*shard, key));
    // Two services, one turn and one circuit for each instance.
    let services = [layer.layer(client.clone()), layer.layer(client)];
    for (number, service) in (0..8).zip(services.iter().cycle()) {
        assert_eq!(service.clone().oneshot(number).await, Ok(number));
    }
    assert_eq!(*asked.lock().expect("one thread"), "abcabcacac", "b is left alone after two failures");
    assert_eq!(layer.round_robin().instances()[1].breaker().state(), CircuitState::Open);
    round.set_instances([instance('d')]);
    assert_eq!(services[0].clone().oneshot(9).await, Ok(9));
    assert!(asked.lock().expect("one thread").ends_with('d'));
}
