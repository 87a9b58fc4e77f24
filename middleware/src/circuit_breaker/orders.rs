//! Every order in which threads can meet at a breaker, tried one after the other by loom:
//! `RUSTFLAGS="--cfg campanile_loom" cargo test -p campanile-middleware --lib --target-dir target/orders orders`.
//!
//! Loom decides who runs next at each step of the word, the lock and the ring, up to three switches against a thread's
//! will per order. An open time of zero makes the clock say the same each time: who asks an open circuit is its probe.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    time::Duration,
};

use loom::thread;

use super::{CircuitBreaker, CircuitBreakerBuilder, CircuitState, HalfOpen, Permit, Window};
use crate::Verdict;

fn every_order(check: impl Fn() + Send + Sync + 'static) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(3);
    model.check(check);
}

fn builder(failures: u32) -> CircuitBreakerBuilder {
    CircuitBreaker::builder("a").consecutive_failures(failures).open_for(Duration::ZERO)
}

/// Open, and its time is over.
fn open(probes: u32) -> CircuitBreaker {
    let half_open = HalfOpen { probes, ..HalfOpen::default() };
    let breaker = builder(1).half_open(half_open).build();
    breaker.try_acquire().expect("closed").complete(Verdict::Failure);
    breaker
}

/// Does `step` on another thread.
fn meanwhile<T: 'static>(
    breaker: &CircuitBreaker,
    step: impl FnOnce(&CircuitBreaker) -> T + Send + 'static,
) -> thread::JoinHandle<T> {
    let breaker = breaker.clone();
    thread::spawn(move || step(&breaker))
}

fn admitted(permits: impl IntoIterator<Item = Option<Permit>>) -> Vec<Permit> {
    permits.into_iter().flatten().collect()
}

#[test]
fn half_open_admits_exactly_its_probes() {
    for probes in [1, 2] {
        every_order(move || {
            let breaker = open(probes);
            let ask = |breaker: &CircuitBreaker| breaker.try_acquire().ok();
            let others = [meanwhile(&breaker, ask), meanwhile(&breaker, ask)];
            let mine = ask(&breaker);
            let permits = admitted(others.map(|other| other.join().expect("no panic")).into_iter().chain([mine]));
            assert_eq!(permits.len(), probes as usize);
            let snapshot = breaker.snapshot();
            assert_eq!((snapshot.state, snapshot.probes_under_way), (CircuitState::HalfOpen, probes as usize));
            assert_eq!(snapshot.rejected_total, u64::from(3 - probes));
        });
    }
}

#[test]
fn a_probe_that_is_dropped_leaves_its_place_to_the_next() {
    every_order(|| {
        let breaker = open(1);
        let probe = breaker.try_acquire().expect("the first is the probe");
        let gives_up = thread::spawn(move || drop(probe));
        let asks = meanwhile(&breaker, |breaker| breaker.try_acquire().ok());
        gives_up.join().expect("no panic");
        let next = asks.join().expect("no panic");
        // Who asked too early was refused; there is a place for one more then, and for none else.
        assert_eq!(breaker.try_acquire().is_ok(), next.is_none());
        drop(next);
        breaker.try_acquire().expect("nobody probes").complete(Verdict::Success);
        assert_eq!(breaker.state(), CircuitState::Closed);
    });
}

#[test]
fn failures_that_come_together_open_once() {
    every_order(|| {
        let opened = Arc::new(AtomicU64::new(0));
        let count = opened.clone();
        let breaker = builder(2)
            .on_transition(move |_| {
                count.fetch_add(1, SeqCst);
            })
            .build();
        let fail = |breaker: &CircuitBreaker| {
            if let Ok(permit) = breaker.try_acquire() {
                permit.complete(Verdict::Failure);
            }
        };
        let permit = breaker.try_acquire().expect("closed");
        let other = breaker.try_acquire().expect("closed");
        let others = [meanwhile(&breaker, move |_| other.complete(Verdict::Failure))];
        permit.complete(Verdict::Failure);
        for other in others {
            other.join().expect("no panic");
        }
        assert_eq!((breaker.state(), opened.load(SeqCst)), (CircuitState::Open, 1));
        assert_eq!(breaker.snapshot().opened_total, 1);
        // The probe: fails, and opens it again.
        fail(&breaker);
        assert_eq!((breaker.state(), opened.load(SeqCst)), (CircuitState::Open, 3));
    });
}

#[test]
fn no_failure_of_a_run_is_lost() {
    every_order(|| {
        let breaker = builder(3).build();
        let permits = [(); 3].map(|()| breaker.try_acquire().expect("closed"));
        let [first, second, third] = permits.map(|permit| thread::spawn(move || permit.complete(Verdict::Failure)));
        for thread in [first, second, third] {
            thread.join().expect("no panic");
        }
        assert_eq!(breaker.state(), CircuitState::Open);
    });
}

#[test]
fn a_success_ends_the_run_wherever_it_falls() {
    every_order(|| {
        let breaker = builder(2).build();
        let [fails, succeeds] = [(); 2].map(|()| breaker.try_acquire().expect("closed"));
        let fails = thread::spawn(move || fails.complete(Verdict::Failure));
        succeeds.complete(Verdict::Success);
        fails.join().expect("no panic");
        let snapshot = breaker.snapshot();
        assert_eq!(snapshot.state, CircuitState::Closed);
        assert!(snapshot.consecutive_failures <= 1);
        breaker.try_acquire().expect("closed").complete(Verdict::Success);
        assert_eq!(breaker.snapshot().consecutive_failures, 0);
    });
}

#[test]
fn a_straggler_has_no_say_after_a_reset() {
    every_order(|| {
        for breaker in [builder(1).build(), open(1)] {
            let permit = breaker.try_acquire().expect("a call, or the probe");
            let resets = meanwhile(&breaker, CircuitBreaker::reset);
            permit.complete(Verdict::Failure);
            resets.join().expect("no panic");
            // It opened the circuit that was then reset, or it came too late.
            let snapshot = breaker.snapshot();
            assert_eq!((snapshot.state, snapshot.consecutive_failures), (CircuitState::Closed, 0));
        }
    });
}

#[test]
fn isolation_holds_whatever_a_probe_says_meanwhile() {
    for verdict in [Verdict::Success, Verdict::Failure, Verdict::Cancelled] {
        every_order(move || {
            let breaker = open(1);
            let probe = breaker.try_acquire().expect("the probe");
            let isolates = meanwhile(&breaker, CircuitBreaker::isolate);
            probe.complete(verdict);
            isolates.join().expect("no panic");
            assert_eq!(breaker.state(), CircuitState::Isolated);
            breaker.try_acquire().expect_err("isolated");
        });
    }
}

#[test]
fn who_subscribed_is_told_the_newest() {
    every_order(|| {
        let breaker = builder(1).build();
        let subscription = breaker.subscribe();
        let isolates = meanwhile(&breaker, CircuitBreaker::isolate);
        breaker.disable();
        isolates.join().expect("no panic");
        assert_eq!(subscription.state(), breaker.state());
    });
}

#[test]
fn no_failure_of_a_window_is_lost() {
    for window in [Window::time(Duration::from_secs(24 * 3600)), Window::count(2)] {
        every_order(move || {
            let breaker = CircuitBreaker::builder("a").failure_rate(1.0, window).min_calls(2).build();
            let [one, other] = [(); 2].map(|()| breaker.try_acquire().expect("closed"));
            let one = thread::spawn(move || one.complete(Verdict::Failure));
            other.complete(Verdict::Failure);
            one.join().expect("no panic");
            assert_eq!(breaker.state(), CircuitState::Open);
            assert_eq!(breaker.snapshot().opened_total, 1);
        });
    }
}
