//! A minute in the life of five instances, on a paused clock: two are fine, one flaps, one is slow, one is dead at first.
//!
//! Prints its figures; the bounds that it asserts are what the README says.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use campanile_middleware::{
    Backoff, CircuitBreaker, Failover, HalfOpen, Instance, ReplayBody, RetryBudget, RoundRobin, Window,
};
use http::{Request, Response};
use http_body_util::{Empty, Full};
use tokio::time::{Instant, sleep};
use tower::{ServiceExt, service_fn, util::BoxCloneSyncService};

use crate::support::text;

#[derive(Debug)]
struct NoConnection;

type Service = BoxCloneSyncService<Request<ReplayBody<Empty<Bytes>>>, Response<Full<Bytes>>, NoConnection>;

const REQUESTS: u32 = 12_000;
const PERIOD: Duration = Duration::from_millis(5);
const BUDGET: RetryBudget = RetryBudget { percent: 20, reserve: 10 };

/// When the dead one comes back, and how long it then takes to its whole share.
const RETURN: Duration = Duration::from_secs(30);
const SLOW_START: Duration = Duration::from_secs(10);

#[derive(Clone, Copy)]
enum Kind {
    Fine,
    /// Up for 3 s, then down for 2 s.
    Flaps,
    /// Answers in 2 s.
    Slow,
    /// Cannot be reached before [`RETURN`].
    Dead,
}

/// When an instance answered well, since the start.
type Served = Arc<Mutex<Vec<Duration>>>;

async fn serve(kind: Kind, start: Instant, served: Served) -> Result<Response<Full<Bytes>>, NoConnection> {
    let now = start.elapsed();
    match kind {
        Kind::Dead if now < RETURN => return Err(NoConnection),
        Kind::Flaps if now.as_secs() % 5 >= 3 => {
            sleep(Duration::from_millis(5)).await;
            return Ok(text(503, ""));
        }
        Kind::Slow => sleep(Duration::from_secs(2)).await,
        Kind::Fine | Kind::Flaps | Kind::Dead => sleep(Duration::from_millis(10)).await,
    }
    served.lock().expect("one thread").push(start.elapsed());
    Ok(text(200, ""))
}

#[tokio::test(start_paused = true)]
async fn goodput_repeats_recovery_and_spread_stay_within_bounds_with_three_of_five_instances_in_trouble() {
    let start = Instant::now();
    let kinds = [
        ("fine 1", Kind::Fine),
        ("fine 2", Kind::Fine),
        ("flaps", Kind::Flaps),
        ("slow", Kind::Slow),
        ("dead", Kind::Dead),
    ];
    let served: Vec<Served> = kinds.iter().map(|_| Served::default()).collect();
    let instances: Vec<_> = kinds
        .iter()
        .zip(&served)
        .map(|(&(name, kind), served)| {
            let served = served.clone();
            let service = service_fn(move |_| serve(kind, start, served.clone()));
            let breaker = CircuitBreaker::builder(name)
                .consecutive_failures(5)
                .failure_rate(0.5, Window::time(Duration::from_secs(5)))
                .min_calls(20)
                .open_for(Backoff::exponential(Duration::from_secs(1), Duration::from_secs(4)).jitter(0.2))
                .half_open(HalfOpen { probes: 1, timeout: Duration::from_secs(5) })
                .build();
            Instance::new(name, BoxCloneSyncService::new(service), breaker)
        })
        .collect();
    let failover = Failover { per_try: Some(Duration::from_millis(200)), budget: Some(BUDGET), ..Failover::default() };
    let balancer: RoundRobin<Service, NoConnection, Full<Bytes>> = RoundRobin::new(instances)
        .start(0)
        .never_sent(|NoConnection: &NoConnection| true)
        .failover(failover)
        .slow_start(SLOW_START);

    let mut answers = tokio::task::JoinSet::new();
    for _ in 0..REQUESTS {
        let balancer = balancer.clone();
        answers.spawn(async move {
            let request = Request::get("/").body(Empty::new()).expect("valid");
            balancer.oneshot(request).await.is_ok_and(|response| response.status() == 200)
        });
        sleep(PERIOD).await;
    }
    let good = answers.join_all().await.into_iter().filter(|is_good| *is_good).count();

    let snapshot = balancer.snapshot();
    let goodput = good as f64 / f64::from(REQUESTS);
    let allowed = u64::from(BUDGET.reserve) + u64::from(REQUESTS * BUDGET.percent / 100);
    let back: Vec<Duration> = served[4].lock().expect("one thread").iter().map(|at| *at - RETURN).collect();
    let recovery = back.first().copied().unwrap_or(Duration::MAX);
    // Each second of the return, as a part of all requests of that second.
    let per_second = PERIOD.as_secs_f64().recip();
    let shares: Vec<f64> =
        (0..20).map(|second| back.iter().filter(|at| at.as_secs() == second).count() as f64 / per_second).collect();
    let peak = shares.iter().copied().fold(0.0, f64::max);
    let first = shares[recovery.as_secs().min(18) as usize + 1];
    println!("| measure | value | bound |\n|---|---|---|");
    println!("| good answers | {:.2} % | at least 99 % |", goodput * 100.0);
    println!("| repeats | {} | at most {allowed} |", snapshot.repeats_total);
    println!("| from the return to the first good answer | {:.2} s | at most 5 s |", recovery.as_secs_f64());
    println!("| share of the returned one in its second second | {:.0} % | at most 15 % |", first * 100.0);
    println!("| its largest share in any second | {:.0} % | at most 40 % |", peak * 100.0);
    println!("{snapshot}");

    assert!(goodput >= 0.99, "{goodput}");
    assert!(snapshot.repeats_total <= allowed, "{} > {allowed}", snapshot.repeats_total);
    // Longest open time 4 s, plus a fifth of it, plus its next turn.
    assert!(recovery <= Duration::from_secs(5), "{recovery:?}");
    assert!(first <= 0.15, "{first}");
    // A third is its fair share while one flaps and one is slow: no wave meets it.
    assert!(peak <= 0.40, "{peak}");
    assert!(shares[15..].iter().all(|share| *share > 0.2), "it has its share in the end: {shares:?}");
}
