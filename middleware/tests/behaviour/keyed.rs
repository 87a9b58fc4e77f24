//! The breakers per key.

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
