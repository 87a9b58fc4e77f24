//! Threads that meet at a limit, in every order that there is: loom runs each of these with all of them.
//!
//! `RUSTFLAGS="--cfg campanile_loom" cargo test -p campanile-middleware --lib orders` runs them.

use std::{sync::Arc, task::Waker};

use loom::{
    model,
    sync::atomic::{AtomicUsize, Ordering::SeqCst},
    thread,
};

use super::{ConcurrencyLimit, Place};

/// Takes a place or waits for one; `Some` number if it waits.
fn join(limit: &ConcurrencyLimit) -> Option<u64> {
    limit.take_or_join(2).expect("there is room in the queue")
}

/// Nothing is in flight, nobody waits, and the next who comes is let in.
fn is_at_rest(limit: &ConcurrencyLimit) -> bool {
    let now = limit.snapshot();
    (now.in_flight, now.queued) == (0, 0) && limit.try_acquire().is_ok()
}

#[test]
fn there_are_never_more_at_once_than_may() {
    model(|| {
        let limit = ConcurrencyLimit::fixed(1);
        let inside = Arc::new(AtomicUsize::new(0));
        let call = |limit: ConcurrencyLimit, inside: Arc<AtomicUsize>| {
            move || {
                if let Ok(_place) = limit.try_acquire() {
                    assert_eq!(inside.fetch_add(1, SeqCst), 0);
                    inside.fetch_sub(1, SeqCst);
                }
            }
        };
        let other = thread::spawn(call(limit.clone(), inside.clone()));
        call(limit.clone(), inside)();
        other.join().expect("no panic");
        assert!(is_at_rest(&limit));
    });
}

#[test]
fn a_place_that_is_given_back_while_somebody_gets_in_line_is_not_lost() {
    model(|| {
        let limit = ConcurrencyLimit::fixed(1);
        let place = limit.try_acquire().expect("free");
        let giving = thread::spawn(move || drop(place));
        let number = join(&limit);
        giving.join().expect("no panic");
        assert!(number.is_none_or(|number| limit.collect(number, Waker::noop())), "it has waited for nothing");
        drop(Place::new(limit.clone()));
        assert!(is_at_rest(&limit));
    });
}

#[test]
fn a_higher_limit_is_seen_by_who_gets_in_line_meanwhile() {
    model(|| {
        let limit = ConcurrencyLimit::fixed(0);
        let raised = limit.clone();
        let raising = thread::spawn(move || raised.set_limit(1));
        let number = join(&limit);
        raising.join().expect("no panic");
        assert!(number.is_none_or(|number| limit.collect(number, Waker::noop())));
        drop(Place::new(limit.clone()));
        assert!(is_at_rest(&limit));
    });
}

#[test]
fn who_leaves_while_a_place_comes_takes_nothing_along() {
    model(|| {
        let limit = ConcurrencyLimit::fixed(1);
        let place = limit.try_acquire().expect("free");
        let (leaves, stays) = (join(&limit).expect("taken"), join(&limit).expect("taken"));
        let giving = thread::spawn(move || drop(place));
        limit.leave(leaves);
        giving.join().expect("no panic");
        assert!(limit.collect(stays, Waker::noop()), "the place came to who stayed");
        drop(Place::new(limit.clone()));
        assert!(is_at_rest(&limit));
    });
}

#[test]
fn two_places_that_come_at_once_reach_two_who_wait() {
    model(|| {
        let limit = ConcurrencyLimit::fixed(2);
        let (one, other) = (limit.try_acquire().expect("free"), limit.try_acquire().expect("free"));
        let (first, second) = (join(&limit).expect("taken"), join(&limit).expect("taken"));
        let giving = thread::spawn(move || drop(one));
        drop(other);
        giving.join().expect("no panic");
        for number in [first, second] {
            assert!(limit.collect(number, Waker::noop()));
            drop(Place::new(limit.clone()));
        }
        assert!(is_at_rest(&limit));
    });
}
