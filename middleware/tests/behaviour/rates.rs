//! Failure rates and slow calls, over a time and over a number of calls.

use std::{collections::VecDeque, convert::Infallible, time::Duration};

use bytes::Bytes;
use campanile_middleware::{
    Backoff, CircuitBreaker, CircuitBreakerBuilder, CircuitBreakerLayer, CircuitState, HalfOpen, OpenCause, Verdict,
    Window,
};
use http::Response;
use http_body_util::{BodyExt, Full};
use proptest::prelude::*;
use tokio::time::{Instant, advance, sleep};
use tower::{Layer, ServiceExt, service_fn};

use crate::support::{data, fed, get};

const OPEN: Duration = Duration::from_secs(30);
const SECOND: Duration = Duration::from_secs(1);

fn builder() -> CircuitBreakerBuilder {
    CircuitBreaker::builder("rates").open_for(OPEN)
}

fn call(breaker: &CircuitBreaker, verdict: Verdict) {
    breaker.try_acquire().expect("admitted").complete(verdict);
}

fn calls(breaker: &CircuitBreaker, count: usize, verdict: Verdict) {
    (0..count).for_each(|_| call(breaker, verdict));
}

fn counts(breaker: &CircuitBreaker) -> (u32, u32, u32) {
    let recent = breaker.snapshot().recent.expect("there is a rate, and the circuit is closed");
    (recent.calls, recent.failed, recent.slow)
}

#[tokio::test(start_paused = true)]
async fn however_many_calls_went_well_before_the_rate_is_that_of_the_window() {
    for window in [Window::count(100), Window::time(SECOND)] {
        let breaker = builder().failure_rate(0.5, window).build();
        calls(&breaker, 100_000, Verdict::Success);
        advance(2 * SECOND).await;
        calls(&breaker, 50, Verdict::Success);
        calls(&breaker, 49, Verdict::Failure);
        assert_eq!(breaker.state(), CircuitState::Closed, "{window:?}");
        call(&breaker, Verdict::Failure);
        assert_eq!(breaker.state(), CircuitState::Open, "{window:?}");
        assert_eq!(breaker.snapshot().last_cause, Some(OpenCause::FailureRate));
    }
}

#[tokio::test(start_paused = true)]
async fn a_rate_is_not_judged_by_too_few_calls_nor_by_a_run_of_failures() {
    let breaker = builder().failure_rate(0.9, Window::time(SECOND)).min_calls(30).build();
    calls(&breaker, 29, Verdict::Failure);
    assert_eq!(breaker.state(), CircuitState::Closed);
    call(&breaker, Verdict::Failure);
    assert_eq!(breaker.state(), CircuitState::Open);

    let both = builder().failure_rate(0.9, Window::time(SECOND)).consecutive_failures(3).build();
    calls(&both, 3, Verdict::Failure);
    assert_eq!((both.state(), both.snapshot().last_cause), (CircuitState::Open, Some(OpenCause::ConsecutiveFailures)));
}

#[tokio::test(start_paused = true)]
async fn as_many_calls_as_the_window_holds_are_enough() {
    let breaker = builder().failure_rate(1.0, Window::count(3)).min_calls(20).build();
    calls(&breaker, 2, Verdict::Failure);
    assert_eq!(breaker.state(), CircuitState::Closed);
    call(&breaker, Verdict::Failure);
    assert_eq!(breaker.state(), CircuitState::Open);
}

#[tokio::test(start_paused = true)]
async fn a_throttled_call_counts_in_the_rate_and_may_stretch_the_open_time() {
    let breaker = builder().failure_rate(1.0, Window::count(2)).consecutive_failures(2).build();
    call(&breaker, Verdict::Throttled { retry_after: None });
    assert_eq!((counts(&breaker), breaker.snapshot().consecutive_failures), ((1, 1, 0), 0));
    call(&breaker, Verdict::Throttled { retry_after: Some(45 * SECOND) });
    let snapshot = breaker.snapshot();
    assert_eq!((snapshot.state, snapshot.open_for), (CircuitState::Open, Some(45 * SECOND)));
}

#[tokio::test(start_paused = true)]
async fn what_says_nothing_about_the_service_is_not_counted() {
    let breaker = builder().failure_rate(0.5, Window::time(SECOND)).build();
    call(&breaker, Verdict::Ignore);
    call(&breaker, Verdict::Cancelled);
    drop(breaker.try_acquire());
    assert_eq!(counts(&breaker), (0, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn slow_calls_open_the_circuit_failed_or_not() {
    let breaker = builder().slow_calls(SECOND, 0.5).min_calls(4).build();
    let slow = async |verdict| {
        let permit = breaker.try_acquire().expect("admitted");
        sleep(SECOND).await;
        permit.complete(verdict);
    };
    slow(Verdict::Success).await;
    calls(&breaker, 2, Verdict::Failure);
    assert_eq!((counts(&breaker), breaker.state()), ((3, 2, 1), CircuitState::Closed));
    slow(Verdict::Failure).await;
    let snapshot = breaker.snapshot();
    assert_eq!((snapshot.state, snapshot.last_cause), (CircuitState::Open, Some(OpenCause::SlowCalls)));
}

#[tokio::test(start_paused = true)]
async fn a_probe_that_is_slow_has_failed() {
    let breaker = builder().slow_calls(SECOND, 0.5).consecutive_failures(1).build();
    call(&breaker, Verdict::Failure);
    advance(OPEN).await;
    let probe = breaker.try_acquire().expect("the probe");
    sleep(SECOND).await;
    probe.complete(Verdict::Success);
    assert_eq!((breaker.state(), breaker.snapshot().last_cause), (CircuitState::Open, Some(OpenCause::Probe)));
    advance(OPEN).await;
    call(&breaker, Verdict::Success);
    assert_eq!(breaker.state(), CircuitState::Closed);
}

#[tokio::test(start_paused = true)]
async fn a_response_is_not_slow_because_its_body_takes_long() {
    let breaker = builder().slow_calls(SECOND, 0.1).min_calls(1).build();
    let service = service_fn(|_| async {
        let (feed, body) = fed();
        tokio::spawn(async move {
            sleep(5 * SECOND).await;
            feed.send(data("late")).expect("somebody reads");
        });
        Ok::<_, Infallible>(Response::new(body))
    });
    let service = CircuitBreakerLayer::new(breaker.clone()).layer(service);
    let response = service.oneshot(get("/")).await.expect("infallible");
    response.into_body().collect().await.expect("a body");
    assert_eq!((counts(&breaker), breaker.state()), ((1, 0, 0), CircuitState::Closed));

    let service = service_fn(|_| async {
        sleep(SECOND).await;
        Ok::<_, Infallible>(Response::new(Full::new(Bytes::new())))
    });
    let service = CircuitBreakerLayer::new(breaker.clone()).layer(service);
    service.oneshot(get("/")).await.expect("infallible");
    assert_eq!(breaker.state(), CircuitState::Open);
}

/// What others do: a slow call that was admitted before the circuit opened closes it, or counts in what comes after it.
#[tokio::test(start_paused = true)]
async fn a_call_from_before_the_circuit_opened_has_no_say_after_it() {
    for window in [Window::count(10), Window::time(600 * SECOND)] {
        let breaker = builder().failure_rate(0.5, window).min_calls(2).build();
        let stragglers: Vec<_> = (0..40).map(|_| breaker.try_acquire().expect("admitted")).collect();
        let mut stragglers = stragglers.into_iter();
        calls(&breaker, 2, Verdict::Failure);
        stragglers.by_ref().take(10).for_each(|call| call.complete(Verdict::Success));
        assert_eq!(breaker.state(), CircuitState::Open);
        advance(OPEN).await;
        let probe = breaker.try_acquire().expect("the probe");
        stragglers.by_ref().take(10).for_each(|call| call.complete(Verdict::Success));
        assert_eq!(breaker.state(), CircuitState::HalfOpen);
        probe.complete(Verdict::Success);
        stragglers.for_each(|call| call.complete(Verdict::Failure));
        assert_eq!((breaker.state(), counts(&breaker)), (CircuitState::Closed, (0, 0, 0)), "{window:?}");
    }
}

/// The buckets of a window keep no more of a generation than its last bits.
#[tokio::test(start_paused = true)]
async fn a_call_from_very_many_changes_ago_neither_counts_nor_wipes_out_what_was_counted_since() {
    for window in [Window::count(10), Window::time(SECOND)] {
        for changes in [1, 16, 100, 256] {
            let breaker = builder().failure_rate(0.9, window).build();
            let straggler = breaker.try_acquire().expect("admitted");
            (0..changes).for_each(|_| breaker.reset());
            calls(&breaker, 2, Verdict::Success);
            straggler.complete(Verdict::Failure);
            assert_eq!(counts(&breaker), (2, 0, 0), "{window:?}, {changes} changes");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_reset_forgets_what_was_counted() {
    let breaker = builder().failure_rate(0.5, Window::count(10)).build();
    calls(&breaker, 4, Verdict::Failure);
    breaker.reset();
    assert_eq!(counts(&breaker), (0, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn open_times_differ_by_chance_within_the_jitter() {
    let mut times: Vec<Duration> = Vec::new();
    for _ in 0..50 {
        let backoff = Backoff::fixed(10 * SECOND).jitter(0.2);
        let breaker = builder().consecutive_failures(1).open_for(backoff).build();
        call(&breaker, Verdict::Failure);
        times.push(breaker.snapshot().open_for.expect("it is open"));
    }
    assert!(times.iter().all(|time| (8 * SECOND..=12 * SECOND).contains(time)), "{times:?}");
    times.sort_unstable();
    assert!(times[49] - times[0] > SECOND, "fifty of them lie this close by chance once in 10^29: {times:?}");
}

#[tokio::test(start_paused = true)]
async fn a_subscriber_is_told_the_newest_state() {
    let breaker = builder().consecutive_failures(1).build();
    let mut subscription = breaker.subscribe();
    assert_eq!(subscription.state(), CircuitState::Closed);
    call(&breaker, Verdict::Failure);
    assert_eq!(subscription.changed().await, Some(CircuitState::Open));
    breaker.isolate();
    breaker.reset();
    assert_eq!(subscription.changed().await, Some(CircuitState::Closed), "the newest, not each");
    let waiting = tokio::spawn(async move { subscription.changed().await });
    tokio::task::yield_now().await;
    breaker.disable();
    assert_eq!(waiting.await.expect("no panic"), Some(CircuitState::Disabled));
    let mut last = breaker.subscribe();
    drop(breaker);
    assert_eq!(last.changed().await, None);
}

#[tokio::test(start_paused = true)]
async fn a_snapshot_is_a_line_for_people() {
    let breaker = builder().failure_rate(0.6, Window::count(10)).consecutive_failures(3).min_calls(5).build();
    assert_eq!(breaker.snapshot().to_string(), "rates: closed, 0 of 0 calls failed; opened 0 times, refused 0 calls");
    calls(&breaker, 2, Verdict::Success);
    calls(&breaker, 2, Verdict::Failure);
    let line = "rates: closed, 2 failures in a row, 2 of 4 calls failed; opened 0 times, refused 0 calls";
    assert_eq!(breaker.snapshot().to_string(), line);
    call(&breaker, Verdict::Failure);
    advance(Duration::from_millis(500)).await;
    assert!(breaker.try_acquire().is_err());
    let line = "rates: open (consecutive_failures) for 29.5 s more; opened 1 time, refused 1 call";
    assert_eq!(breaker.snapshot().to_string(), line);
    advance(OPEN).await;
    let _probe = breaker.try_acquire().expect("the probe");
    let line = "rates: half_open, 1 probe under way; opened 1 time, refused 1 call";
    assert_eq!(breaker.snapshot().to_string(), line);
}

/// The closed path takes nothing from the allocator, whatever is counted.
#[test]
fn a_call_through_a_closed_circuit_allocates_nothing() {
    let half_open = HalfOpen { probes: 1, timeout: SECOND };
    let breakers = [
        builder().half_open(half_open).build(),
        builder().failure_rate(0.9, Window::time(SECOND)).slow_calls(SECOND, 0.9).build(),
        builder().failure_rate(0.9, Window::count(100)).build(),
    ];
    for breaker in breakers {
        let info = allocation_counter::measure(|| {
            for n in 0..1000 {
                call(&breaker, if n % 4 == 0 { Verdict::Failure } else { Verdict::Success });
            }
        });
        assert_eq!((info.count_total, breaker.state()), (0, CircuitState::Closed), "{breaker:?}");
    }
}

/// A window without a ring: every call with its time.
#[derive(Default)]
struct Naive(VecDeque<(Instant, bool)>);

impl Naive {
    fn failed(&self) -> usize {
        self.0.iter().filter(|(_, failed)| *failed).count()
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(200) })]

    #[test]
    fn a_window_of_calls_holds_the_last_ones(size in 1_u32..40, failed in proptest::collection::vec(any::<bool>(), 0..200)) {
        // Never opens: no part of all is reached while one call of more than there are must fail.
        let breaker = builder().failure_rate(1.0, Window::count(size)).min_calls(u32::MAX).build();
        let mut naive = VecDeque::new();
        for failed in failed {
            if breaker.state() == CircuitState::Open {
                prop_assert_eq!((naive.len(), naive.contains(&false)), (size as usize, false));
                break;
            }
            call(&breaker, if failed { Verdict::Failure } else { Verdict::Success });
            naive.push_back(failed);
            if naive.len() > size as usize {
                naive.pop_front();
            }
            if breaker.state() == CircuitState::Closed {
                let count = naive.iter().filter(|failed| **failed).count();
                prop_assert_eq!(counts(&breaker), (naive.len() as u32, count as u32, 0));
            }
        }
    }

    #[test]
    fn a_window_of_time_holds_no_older_call_and_misses_no_younger_one(
        steps in proptest::collection::vec((0_u64..300, any::<bool>()), 0..200),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
        runtime.expect("a runtime").block_on(async {
            let window = Duration::from_millis(1600);
            let breaker = builder().failure_rate(1.0, Window::time(window)).min_calls(u32::MAX).build();
            let (mut most, mut least) = (Naive::default(), Naive::default());
            for (ms, failed) in steps {
                advance(Duration::from_millis(ms)).await;
                call(&breaker, if failed { Verdict::Failure } else { Verdict::Success });
                let now = Instant::now();
                most.0.push_back((now, failed));
                least.0.push_back((now, failed));
                most.0.retain(|(at, _)| now - *at < window);
                least.0.retain(|(at, _)| now - *at <= window - window / 16);
                let (count, failed, _) = counts(&breaker);
                prop_assert!((least.0.len()..=most.0.len()).contains(&(count as usize)));
                prop_assert!((least.failed()..=most.failed()).contains(&(failed as usize)));
            }
            Ok(())
        })?;
    }
}
