//! The breakers per key.

use std::{
    hash::{Hash, Hasher},
    sync::{
        Arc, Barrier,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
};

use campanile_middleware::{CircuitBreaker, CircuitState, KeyedCircuitBreakerLayer};
use tower::{Layer, ServiceExt, service_fn};

use crate::support::{answer, get};

/// By the first part of the path; "/" has no key.
fn layer() -> KeyedCircuitBreakerLayer<String> {
    KeyedCircuitBreakerLayer::new(
        |request| request.uri.path().split('/').nth(1).filter(|part| !part.is_empty()).map(str::to_owned),
        |key| CircuitBreaker::builder(key.as_str()).consecutive_failures(1).build(),
    )
}

async fn ask(layer: &KeyedCircuitBreakerLayer<String>, path: &str, status: u16) -> u16 {
    let service = layer.layer(service_fn(move |_| answer(status)));
    service.oneshot(get(path)).await.expect("infallible").status().as_u16()
}

#[tokio::test]
async fn a_key_that_fails_shuts_itself_and_nothing_else() {
    let layer = layer();
    assert_eq!(ask(&layer, "/a", 500).await, 500);
    assert_eq!(ask(&layer, "/a", 200).await, 503, "the layer's state outlives the service");
    assert_eq!(ask(&layer, "/b", 200).await, 200);
    let mut states: Vec<_> = layer.breakers().into_iter().map(|(key, breaker)| (key, breaker.state())).collect();
    states.sort_by(|one, other| one.0.cmp(&other.0));
    assert_eq!(states, [("a".to_owned(), CircuitState::Open), ("b".to_owned(), CircuitState::Closed)]);
}

#[tokio::test]
async fn a_request_without_a_key_passes_unguarded() {
    let layer = layer();
    for _ in 0..3 {
        assert_eq!(ask(&layer, "/", 500).await, 500);
    }
    assert!(layer.breakers().is_empty());
}

#[tokio::test]
async fn keys_beyond_the_bound_share_one_breaker() {
    let overflow = CircuitBreaker::builder("others").consecutive_failures(2).build();
    let layer = layer().max_keys(1).overflow(overflow.clone());
    assert_eq!(ask(&layer, "/a", 200).await, 200);
    assert_eq!(ask(&layer, "/b", 500).await, 500);
    assert_eq!(ask(&layer, "/c", 500).await, 500);
    assert_eq!(overflow.state(), CircuitState::Open);
    assert_eq!(ask(&layer, "/d", 200).await, 503);
    assert_eq!(ask(&layer, "/a", 200).await, 200);
    assert_eq!(layer.breakers().len(), 1);
}

/// A key that waits, the first time that it is looked up, for another to be looked up too: then neither has a breaker
/// yet, and both are about to get one.
#[derive(Clone)]
struct Meets {
    name: &'static str,
    first: Arc<AtomicBool>,
    meeting: Arc<Barrier>,
}

impl Hash for Meets {
    fn hash<H: Hasher>(&self, state: &mut H) {
        if self.first.swap(false, SeqCst) {
            self.meeting.wait();
        }
        self.name.hash(state);
    }
}

impl PartialEq for Meets {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for Meets {}

/// The names of the breakers that these two keys get at once when there is room for one more, and how many there are
/// then.
fn at_once(names: [&'static str; 2]) -> ([String; 2], usize) {
    let layer = KeyedCircuitBreakerLayer::new(|_| None, |key: &Meets| CircuitBreaker::builder(key.name).build());
    let layer = layer.max_keys(2);
    let meeting = Arc::new(Barrier::new(2));
    let key = |name, waits| Meets { name, first: Arc::new(AtomicBool::new(waits)), meeting: meeting.clone() };
    assert_eq!(layer.breaker(&key("early", false)).name(), "early");
    let got = std::thread::scope(|scope| {
        let ask = |name| {
            let (key, layer) = (key(name, true), &layer);
            scope.spawn(move || layer.breaker(&key).name().to_owned())
        };
        names.map(ask).map(|thread| thread.join().expect("no panic"))
    });
    (got, layer.breakers().len())
}

#[test]
fn of_two_new_keys_that_come_at_once_to_the_last_place_one_gets_it() {
    let (mut got, breakers) = at_once(["one", "other"]);
    got.sort_unstable();
    assert!(got == ["one", "overflow"] || got == ["other", "overflow"], "{got:?}");
    assert_eq!(breakers, 2);
}

#[test]
fn a_new_key_that_comes_twice_at_once_has_one_breaker() {
    assert_eq!(at_once(["same", "same"]), (["same", "same"].map(str::to_owned), 2));
}
