//! The circuit breaker in front of services that know nothing of HTTP.

use std::{convert::Infallible, time::Duration};

use campanile_middleware::{
    CircuitBreaker, CircuitBreakerError, CircuitState, GenericCircuitBreakerLayer, RejectReason, Verdict,
};
use tokio::time::advance;
use tower::{Layer, Service, ServiceBuilder, ServiceExt, buffer::BufferLayer, service_fn};

use crate::support::BoxError;

const OPEN: Duration = Duration::from_secs(30);

fn breaker() -> CircuitBreaker {
    CircuitBreaker::builder("any").consecutive_failures(2).open_for(OPEN).build()
}

async fn even(number: u32) -> Result<u32, String> {
    if number.is_multiple_of(2) { Ok(number) } else { Err(format!("{number} is odd")) }
}

#[tokio::test(start_paused = true)]
async fn errors_open_the_circuit_and_pass_through() {
    let breaker = breaker();
    let mut service = GenericCircuitBreakerLayer::new(breaker.clone()).layer(service_fn(even));
    assert_eq!(service.ready().await.expect("ready").call(2).await, Ok(2));
    for _ in 0..2 {
        let failed = service.ready().await.expect("ready").call(1).await;
        assert_eq!(failed, Err(CircuitBreakerError::Service("1 is odd".to_owned())));
    }
    let Err(CircuitBreakerError::Rejected(rejected)) = service.ready().await.expect("ready").call(2).await else {
        panic!("the circuit is open");
    };
    assert_eq!((rejected.reason, rejected.retry_after), (RejectReason::Open, Some(OPEN)));
    advance(OPEN).await;
    assert_eq!(service.ready().await.expect("ready").call(4).await, Ok(4));
    assert_eq!(breaker.state(), CircuitState::Closed);
}

#[tokio::test]
async fn a_closure_judges_responses() {
    let breaker = breaker();
    let judge = |outcome: &Result<u32, Infallible>| match outcome {
        Ok(0) => Verdict::Failure,
        Ok(_) => Verdict::Success,
        Err(never) => match *never {},
    };
    let layer = GenericCircuitBreakerLayer::new(breaker.clone()).judge(judge);
    let service = layer.layer(service_fn(async |number: u32| Ok::<_, Infallible>(number)));
    for number in [0, 1, 0, 0] {
        assert_eq!(service.clone().oneshot(number).await, Ok(number));
    }
    assert_eq!(layer.breaker().state(), CircuitState::Open);
}

#[tokio::test]
async fn a_call_that_is_dropped_says_nothing_and_one_that_panics_has_failed() {
    let breaker = CircuitBreaker::builder("any").consecutive_failures(1).build();
    let layer = GenericCircuitBreakerLayer::new(breaker.clone());
    let silent = layer.layer(service_fn(|(): ()| std::future::pending::<Result<(), Infallible>>()));
    drop(silent.clone().call(()));
    assert_eq!(breaker.state(), CircuitState::Closed);
    let service = service_fn(async |(): ()| if true { panic!("on purpose") } else { Ok::<(), Infallible>(()) });
    let panicking = layer.layer(service);
    assert!(tokio::spawn(panicking.oneshot(())).await.is_err());
    assert_eq!(breaker.state(), CircuitState::Open);
}

/// An open circuit that makes `poll_ready` fail ends a `Buffer` for good.
#[tokio::test(start_paused = true)]
async fn a_buffer_outlives_an_open_circuit() {
    let breaker = breaker();
    let layers = ServiceBuilder::new().layer(BufferLayer::new(4)).layer(GenericCircuitBreakerLayer::new(breaker));
    let mut service = layers.service(service_fn(async |number| even(number).await.map_err(BoxError::from)));
    for number in [1, 1, 2] {
        assert!(service.ready().await.expect("ready").call(number).await.is_err());
    }
    advance(OPEN).await;
    assert_eq!(service.ready().await.expect("ready").call(2).await.ok(), Some(2));
}
