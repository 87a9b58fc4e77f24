//! What breakers and limits tell to people: in transitions, in lines for a log, in the errors of their refusals and to a
//! debugger.

use std::{
    fmt::Debug,
    future::{Pending, pending},
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use campanile_middleware::{
    CircuitBreaker, CircuitBreakerError, CircuitBreakerLayer, CircuitState, ConcurrencyLimit, ConcurrencyLimitError,
    ConcurrencyLimitLayer, GenericConcurrencyLimitLayer, KeyedCircuitBreakerLayer, OpenCause, OverflowQueue,
    Transition, Verdict,
};
use http::Response;
use http_body_util::Full;
use tokio::time::advance;
use tower::{Layer, Service, service_fn};

use crate::support::{answer, get};

const OPEN: Duration = Duration::from_secs(30);
const SECOND: Duration = Duration::from_secs(1);

#[tokio::test(start_paused = true)]
async fn a_transition_says_why_and_for_how_long_only_when_the_circuit_opens() {
    let seen: Arc<Mutex<Vec<Transition>>> = Arc::default();
    let told = seen.clone();
    let builder = CircuitBreaker::builder("orders").consecutive_failures(1).open_for(OPEN);
    let breaker =
        builder.on_transition(move |transition| told.lock().expect("no panic").push(transition.clone())).build();
    let call = |verdict| breaker.try_acquire().expect("admitted").complete(verdict);
    call(Verdict::Failure);
    advance(OPEN).await;
    call(Verdict::Failure);
    advance(OPEN).await;
    call(Verdict::Success);
    breaker.isolate();
    let seen = seen.lock().expect("no panic");
    let told: Vec<_> = seen.iter().map(|told| (told.to, told.cause, told.open_for)).collect();
    use CircuitState::{Closed, HalfOpen, Isolated, Open};
    let expected = [
        (Open, Some(OpenCause::ConsecutiveFailures), Some(OPEN)),
        (HalfOpen, None, None),
        (Open, Some(OpenCause::Probe), Some(OPEN)),
        (HalfOpen, None, None),
        (Closed, None, None),
        (Isolated, None, None),
    ];
    assert_eq!(told, expected);
    assert!(seen.iter().all(|told| &*told.name == "orders"), "{seen:?}");
    assert!(seen.is_sorted_by(|one, next| one.generation + 1 == next.generation), "{seen:?}");
}

#[tokio::test(start_paused = true)]
async fn the_line_for_people_counts_slow_calls_when_there_are_any() {
    let breaker = CircuitBreaker::builder("orders").slow_calls(SECOND, 0.9).min_calls(10).build();
    breaker.try_acquire().expect("closed").complete(Verdict::Success);
    let line = "orders: closed, 0 of 1 calls failed; opened 0 times, refused 0 calls";
    assert_eq!(breaker.snapshot().to_string(), line);
    for _ in 0..2 {
        let permit = breaker.try_acquire().expect("closed");
        advance(SECOND).await;
        permit.complete(Verdict::Success);
    }
    let line = "orders: closed, 0 of 3 calls failed, 2 were slow; opened 0 times, refused 0 calls";
    assert_eq!(breaker.snapshot().to_string(), line);
}

#[tokio::test(start_paused = true)]
async fn an_error_reads_as_what_refused_the_call_or_as_the_error_of_the_service() {
    let breaker = CircuitBreaker::builder("orders").consecutive_failures(1).open_for(OPEN).build();
    assert_eq!(breaker.name(), "orders");
    breaker.try_acquire().expect("closed").complete(Verdict::Failure);
    let open = breaker.try_acquire().expect_err("open");
    assert_eq!(open.to_string(), "the circuit is open");
    advance(OPEN).await;
    let _probe = breaker.try_acquire().expect("a probe");
    let full = breaker.try_acquire().expect_err("one probe is under way");
    assert_eq!(full.to_string(), "the circuit is half-open and its probes are under way");
    breaker.isolate();
    assert_eq!(breaker.try_acquire().expect_err("isolated").to_string(), "the circuit is isolated");

    assert_eq!(CircuitBreakerError::<&str>::Rejected(open).to_string(), "the circuit is open");
    assert_eq!(CircuitBreakerError::Service("no route").to_string(), "no route");
    let overloaded = ConcurrencyLimit::fixed(0).try_acquire().expect_err("no place, ever");
    assert_eq!(ConcurrencyLimitError::<&str>::Overloaded(overloaded).to_string(), "too many requests at once");
    assert_eq!(ConcurrencyLimitError::Service("no route").to_string(), "no route");
}

/// Everything is `Debug`, whatever it wraps, and says what it is and what tells one from another.
#[tokio::test(start_paused = true)]
async fn a_debugger_is_told_what_it_looks_at() {
    fn shows(thing: &impl Debug, parts: &[&str]) {
        let shown = format!("{thing:?}");
        assert!(shown.starts_with(parts[0]), "{shown} is no {}", parts[0]);
        for part in parts {
            assert!(shown.contains(part), "{shown} does not tell {part}");
        }
    }
    let builder = CircuitBreaker::builder("orders").consecutive_failures(7);
    shows(&builder, &["CircuitBreakerBuilder", r#"name: "orders""#, "failures_to_open: Some(7)"]);
    let breaker = builder.build();
    shows(&breaker, &["CircuitBreaker", r#"name: "orders""#, "state: Closed"]);
    shows(
        &breaker.try_acquire().expect("closed"),
        &["Permit", r#"breaker: Some("orders")"#, "generation: 0", "pass: Free"],
    );
    shows(
        &CircuitBreakerLayer::new(breaker).layer(service_fn(|_| answer(200))).call(get("/")),
        &["CircuitBreakerFuture"],
    );
    let keyed = KeyedCircuitBreakerLayer::new(|_| Some(1), |_| CircuitBreaker::builder("one").build()).max_keys(9);
    shows(&keyed, &["KeyedCircuitBreakerLayer", "max_keys: 9"]);
    shows(&keyed.layer("inner"), &["KeyedCircuitBreakerService", r#""inner""#, "max_keys: 9"]);

    let limit = ConcurrencyLimit::fixed(3);
    let place = limit.try_acquire().expect("free");
    shows(&limit, &["ConcurrencyLimit", "limit: 3", "in_flight: 1"]);
    shows(&place, &["Place", "begun: None"]);
    let queue = OverflowQueue { len: 1, timeout: SECOND };
    shows(&limit.acquire(queue), &["Acquire"]);
    type Never = Pending<Result<Response<Full<Bytes>>, &'static str>>;
    let never = || service_fn(|_| -> Never { pending() });
    shows(&ConcurrencyLimitLayer::fixed(0).layer(never()).call(get("/")), &["ConcurrencyLimitFuture"]);
    shows(
        &GenericConcurrencyLimitLayer::new(limit.clone()).layer(never()).call(get("/")),
        &["GenericConcurrencyLimitFuture"],
    );
}
