//! Services that are no HTTP: lookups in something slow and unreliable, behind a circuit; the handle of that, without tower;
//! and a round robin over replicas.
//!
//! ```text
//! cargo run -p campanile-middleware --example any_service
//! ```

use std::{io, time::Duration};

use campanile_middleware::{
    CircuitBreaker, CircuitBreakerError, CircuitState, GenericCircuitBreakerLayer, GenericRoundRobin, Instance,
    Verdict, Window,
};
use tower::{Layer, ServiceExt, service_fn};

/// The lookup. Odd keys are missing, and from 100 on the disk is.
async fn look_up(key: u32) -> io::Result<String> {
    match key {
        100.. => Err(io::Error::other("the disk is gone")),
        key if key % 2 == 1 => Err(io::ErrorKind::NotFound.into()),
        key => Ok(format!("value of {key}")),
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let breaker = CircuitBreaker::builder("lookups")
        .failure_rate(0.5, Window::time(Duration::from_secs(10)))
        .min_calls(4)
        .open_for(Duration::from_secs(5))
        .on_transition(|change| println!("circuit of {}: {} -> {}", change.name, change.from, change.to))
        .build();
    // That a key is missing is an answer: it says nothing against the disk.
    let layer = GenericCircuitBreakerLayer::new(breaker.clone()).judge(|outcome: &io::Result<String>| match outcome {
        Ok(_) => Verdict::Success,
        Err(error) if error.kind() == io::ErrorKind::NotFound => Verdict::Success,
        Err(_) => Verdict::Failure,
    });
    let service = layer.layer(service_fn(look_up));

    for key in [1, 2, 3, 100, 101, 102, 2] {
        match service.clone().oneshot(key).await {
            Ok(value) => println!("{key}: {value}"),
            Err(CircuitBreakerError::Service(error)) => println!("{key}: {error}"),
            Err(CircuitBreakerError::Rejected(rejected)) => println!("{key}: not asked, {rejected}"),
        }
    }
    assert_eq!(breaker.state(), CircuitState::Open);

    // The same circuit for work that is no service at all.
    breaker.reset();
    match breaker.try_acquire() {
        Ok(permit) => {
            let value = look_up(4).await;
            permit.complete(if value.is_ok() { Verdict::Success } else { Verdict::Failure });
            println!("by hand: {value:?}");
        }
        Err(rejected) => println!("by hand: {rejected}"),
    }
    println!("{}", breaker.snapshot());

    // Three replicas, the first of which has lost its disk: what fails there is looked up in the next one.
    let replicas = [("a", 100), ("b", 0), ("c", 0)].map(|(name, offset)| {
        let look_up = move |key: u32| look_up(key + offset);
        Instance::new(name, service_fn(look_up), CircuitBreaker::builder(name).consecutive_failures(2).build())
    });
    let store = GenericRoundRobin::new(replicas).idempotent(|_| true).clone_request(|key: &u32| Some(*key)).judge(
        |outcome: &io::Result<String>| match outcome {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Verdict::Failure,
            _ => Verdict::Success,
        },
    );
    for key in [2, 4, 6, 8, 10, 12] {
        println!("{key}: {:?}", store.clone().oneshot(key).await);
    }
    println!("{}", store.snapshot());
}
