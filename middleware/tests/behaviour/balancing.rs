//! What a round robin makes of its instances: weights, coming and going, too few left, repeats that are paid for.

use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{
            AtomicU16, AtomicU32,
            Ordering::{Relaxed, SeqCst},
        },
    },
    time::Duration,
};

use bytes::Bytes;
use campanile_middleware::{
    CircuitBreaker, CircuitState, Failover, HealthCheck, Instance, ReplayBody, RetryBudget, RoundRobin,
};
use http::{Request, Response};
use http_body_util::{BodyExt, Empty, Full};
use tokio::time::sleep;
use tower::{ServiceExt, service_fn, util::BoxCloneSyncService};
use tracing::Level;

use crate::support::{logged, record_log, text};

type Service = BoxCloneSyncService<Request<ReplayBody<Empty<Bytes>>>, Response<Full<Bytes>>, Infallible>;
type Balancer = RoundRobin<Service, Infallible, Full<Bytes>>;

/// An instance that answers with a status that can be changed, and with its name.
struct Stub {
    instance: Instance<Service>,
    status: Arc<AtomicU16>,
}

fn stub(name: &'static str) -> Stub {
    let status = Arc::new(AtomicU16::new(200));
    let answers = status.clone();
    let service = service_fn(move |_| {
        let status = answers.load(SeqCst);
        async move { Ok(text(status, name)) }
    });
    let breaker = CircuitBreaker::builder(name).consecutive_failures(1).open_for(Duration::from_secs(5)).build();
    Stub { instance: Instance::new(name, BoxCloneSyncService::new(service), breaker), status }
}

fn balancer(stubs: &[Stub]) -> Balancer {
    RoundRobin::new(stubs.iter().map(|stub| stub.instance.clone())).start(0)
}

async fn ask(balancer: &Balancer, method: &str) -> (u16, String) {
    let request = Request::builder().method(method).uri("/").body(Empty::new()).expect("valid");
    let response = balancer.clone().oneshot(request).await.expect("infallible");
    let status = response.status().as_u16();
    let body = response.into_body().collect().await.expect("a whole body").to_bytes();
    (status, String::from_utf8_lossy(&body).into_owned())
}

/// Who answers, one after the other.
async fn order(balancer: &Balancer, count: usize) -> String {
    let mut order = String::new();
    for _ in 0..count {
        order += &ask(balancer, "POST").await.1;
    }
    order
}

#[tokio::test]
async fn an_instance_gets_as_many_requests_as_it_weighs() {
    let stubs = [stub("a"), stub("b")];
    stubs[0].instance.set_weight(3);
    assert_eq!(order(&balancer(&stubs), 8).await, "aabaaaba");
    stubs[0].instance.set_weight(0);
    assert_eq!(stubs[0].instance.weight(), 1);
    stubs[0].instance.set_weight(u32::MAX);
    assert_eq!(stubs[0].instance.weight(), 1000);
}

#[tokio::test]
async fn instances_come_and_go_by_name() {
    let balancer = balancer(&[stub("a"), stub("b")]);
    balancer.add(stub("c").instance);
    assert_eq!(order(&balancer, 3).await, "abc");
    let replaced = stub("a");
    balancer.add(replaced.instance.clone());
    assert_eq!(balancer.instances().len(), 3);
    assert!(balancer.remove("b"));
    assert!(!balancer.remove("b"));
    let answered = order(&balancer, 4).await;
    assert_eq!((answered.matches('a').count(), answered.matches('c').count()), (2, 2), "{answered}");
    assert_eq!(balancer.snapshot().instances[0].attempts_total, 2, "the one that took the place of the first");
}

/// Opens the circuits of these.
async fn break_all(balancer: &Balancer, stubs: &[Stub]) {
    stubs.iter().for_each(|stub| stub.status.store(500, SeqCst));
    while stubs.iter().any(|stub| stub.instance.breaker().state() == CircuitState::Closed) {
        ask(balancer, "POST").await;
    }
    stubs.iter().for_each(|stub| stub.status.store(200, SeqCst));
}

#[tokio::test(start_paused = true)]
async fn circuits_are_ignored_while_too_few_instances_are_left_and_isolated_ones_are_not_asked() {
    let stubs = [stub("a"), stub("b"), stub("c"), stub("d")];
    let balancer = balancer(&stubs).panic_below(0.5);
    break_all(&balancer, &stubs[..2]).await;
    let half = order(&balancer, 8).await;
    assert!(!half.contains(['a', 'b']), "half are left: {half}");
    stubs[3].instance.breaker().isolate();
    let quarter = order(&balancer, 9).await;
    for name in ["a", "b", "c"] {
        assert_eq!(quarter.matches(name).count(), 3, "{quarter}");
    }
    assert_eq!(stubs[0].instance.breaker().state(), CircuitState::Open, "what was ignored was told nothing");
}

#[tokio::test(start_paused = true)]
async fn without_panic_an_open_circuit_is_respected_to_the_last() {
    let stubs = [stub("a"), stub("b")];
    let balancer = balancer(&stubs);
    break_all(&balancer, &stubs).await;
    assert_eq!(ask(&balancer, "GET").await.0, 503);
}

#[tokio::test(start_paused = true)]
async fn repeats_are_paid_for_by_all_requests_together() {
    let calls = Arc::new(AtomicU32::new(0));
    let instances = ["a", "b", "c"].map(|name| {
        let calls = calls.clone();
        let service = service_fn(move |_| {
            calls.fetch_add(1, Relaxed);
            async { Ok(text(503, "")) }
        });
        let breaker = CircuitBreaker::builder(name).consecutive_failures(u32::MAX).build();
        Instance::new(name, BoxCloneSyncService::new(service), breaker)
    });
    let budget = RetryBudget { percent: 10, reserve: 5 };
    let balancer = Balancer::new(instances).failover(Failover { budget: Some(budget), ..Failover::default() });
    for _ in 0..200 {
        assert_eq!(ask(&balancer, "GET").await.0, 503);
    }
    let snapshot = balancer.snapshot();
    assert!((24..=25).contains(&snapshot.repeats_total), "5 + 10 % of 200, less what was not saved up: {snapshot}");
    assert_eq!(u64::from(calls.load(Relaxed)), 200 + snapshot.repeats_total);
    assert_eq!(snapshot.budget_left, Some(0));
}

#[tokio::test(start_paused = true)]
async fn an_instance_whose_circuit_closes_gets_its_share_by_and_by() {
    let stubs = [stub("a"), stub("b")];
    let balancer = balancer(&stubs).slow_start(Duration::from_secs(20));
    break_all(&balancer, &stubs[1..]).await;
    order(&balancer, 4).await;
    sleep(Duration::from_secs(6)).await;
    let cold = order(&balancer, 40).await.matches('b').count();
    sleep(Duration::from_secs(20)).await;
    let warm = order(&balancer, 40).await.matches('b').count();
    assert!((1..=6).contains(&cold), "{cold} of 40");
    assert_eq!(warm, 20);
}

#[tokio::test(start_paused = true)]
async fn an_instance_is_ready_or_not_only_after_several_answers_of_a_kind() {
    // The jitter of the interval.
    fastrand::seed(5);
    record_log(Level::DEBUG);
    let instance = Instance::new("a", (), CircuitBreaker::builder("a").build());
    let healthy = Arc::new(AtomicU16::new(1));
    let answer = healthy.clone();
    let check = HealthCheck { interval: Duration::from_secs(10), ..HealthCheck::default() };
    let watch = tokio::spawn(check.watch(instance.clone(), move || {
        let answer = answer.load(SeqCst);
        async move {
            match answer {
                0 => false,
                1 => true,
                _ => std::future::pending().await,
            }
        }
    }));
    let after = async |answer, seconds| {
        healthy.store(answer, SeqCst);
        sleep(Duration::from_secs(seconds)).await;
        instance.is_ready()
    };
    assert!(after(1, 25).await);
    assert!(after(0, 12).await, "one or two bad answers");
    assert!(after(1, 12).await, "a good one between");
    assert!(!after(0, 40).await, "three in a row");
    assert!(after(1, 40).await, "two good ones");
    assert!(!after(2, 50).await, "no answer in time is a bad one");
    watch.abort();
    let told = logged("campanile_middleware");
    let told: Vec<_> =
        told.iter().map(|event| (event.level, event.field("instance"), event.message.as_str())).collect();
    let went = [(Some(Level::WARN), "a", "instance does not serve"), (Some(Level::DEBUG), "a", "instance changed")];
    let came = [(Some(Level::INFO), "a", "instance serves again"), (Some(Level::DEBUG), "a", "instance changed")];
    assert_eq!(told, [went, came, went].concat());
}

#[tokio::test(start_paused = true)]
async fn a_person_can_read_how_it_stands() {
    let stubs = [stub("a"), stub("b")];
    let balancer = balancer(&stubs);
    stubs[1].status.store(503, SeqCst);
    ask(&balancer, "GET").await;
    ask(&balancer, "GET").await;
    stubs[0].instance.set_ready(false);
    let told = "\
0 of 2 instances available; 1 request repeated, 9 more repeats paid for
  a: not ready, weight 1, 2 attempts; a: closed; opened 0 times, refused 0 calls
  b: ready, weight 1, 1 attempt; b: open (consecutive_failures) for 5.0 s more; opened 1 time, refused 0 calls";
    assert_eq!(balancer.snapshot().to_string(), told);
}
