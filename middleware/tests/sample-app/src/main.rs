//! A shop whose stock is kept by two warehouses, one of which breaks. It prints what its customers see.

use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering::Relaxed},
    },
    time::Duration,
};

use bytes::Bytes;
use campanile_middleware::{
    AnsweredBy, CircuitBreaker, CircuitBreakerLayer, CircuitState, Instance, ReplayBody, RoundRobin, ServerStack,
};
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use tower::{Layer, Service, ServiceExt, util::BoxCloneSyncService};

type Body = Full<Bytes>;

/// One warehouse, and how often it was asked.
#[derive(Clone, Default)]
struct Warehouse {
    is_broken: Arc<AtomicBool>,
    asked: Arc<AtomicU32>,
}

impl Warehouse {
    async fn serve(self) -> Result<Response<Body>, Infallible> {
        self.asked.fetch_add(1, Relaxed);
        let status = if self.is_broken.load(Relaxed) { StatusCode::BAD_GATEWAY } else { StatusCode::OK };
        Ok(Response::builder().status(status).body(Body::default()).expect("a valid response"))
    }

    fn instance(
        &self,
        name: &'static str,
    ) -> Instance<BoxCloneSyncService<Request<ReplayBody<Body>>, Response<Body>, Infallible>> {
        let warehouse = self.clone();
        let service = tower::service_fn(move |_| warehouse.clone().serve());
        let breaker = CircuitBreaker::builder(name).consecutive_failures(2).open_for(Duration::from_secs(60)).build();
        Instance::new(name, BoxCloneSyncService::new(service), breaker)
    }
}

fn request(method: &str) -> Request<Body> {
    Request::builder().method(method).uri("/stock").body(Body::default()).expect("a valid request")
}

async fn ask<S, B>(shop: &mut S, method: &str) -> Response<B>
where
    S: Service<Request<Body>, Response = Response<B>, Error = Infallible>,
{
    match shop.ready().await {
        Ok(ready) => match ready.call(request(method)).await {
            Ok(response) => response,
            Err(never) => match never {},
        },
        Err(never) => match never {},
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let (north, south) = (Warehouse::default(), Warehouse::default());
    let instances = [north.instance("north"), south.instance("south")];
    let circuit = instances[0].breaker().clone();
    let mut shop = ServerStack::new()
        .breaker(CircuitBreakerLayer::new(CircuitBreaker::builder("shop").build()))
        .deadline(Duration::from_secs(5))
        .layer(RoundRobin::new(instances).start(0));

    let by = |response: &Response<_>| {
        let by = response.extensions().get::<AnsweredBy>().expect("an instance was asked").clone();
        format!("{} by {} after {}", response.status().as_u16(), by.instance(), by.attempts())
    };
    println!("well: {}, {}", by(&ask(&mut shop, "GET").await), by(&ask(&mut shop, "GET").await));

    north.is_broken.store(true, Relaxed);
    println!("north breaks: {}", by(&ask(&mut shop, "GET").await));
    for _ in 0..4 {
        assert_eq!(ask(&mut shop, "GET").await.status(), 200, "no customer notices");
    }
    assert_eq!(circuit.state(), CircuitState::Open);
    println!("north is left alone: asked {} times", north.asked.load(Relaxed));

    south.is_broken.store(true, Relaxed);
    println!("south breaks too: {}", by(&ask(&mut shop, "POST").await));
    println!("south again: {}", by(&ask(&mut shop, "POST").await));
    let refused = ask(&mut shop, "POST").await;
    assert!(refused.headers().contains_key("x-request-id"), "a refusal has its id");
    println!(
        "nobody is asked: {}, come back in {} s",
        refused.status().as_u16(),
        refused.headers()["retry-after"].to_str().expect("digits")
    );
}
