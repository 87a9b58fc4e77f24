//! Round robin in front of one HTTP client for all instances.

use std::{
    convert::Infallible,
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use campanile_middleware::{
    AnsweredBy, CircuitBreaker, ClientStack, Instance, ReplayBody, RoundRobin, RoundRobinLayer,
};
use http::{Request, Response, Uri};
use http_body_util::{BodyExt, Empty, Full};
use tower::{Layer, Service, ServiceExt, service_fn};

use crate::support::{get, text};

type Sent = Request<ReplayBody<Empty<Bytes>>>;

/// The host that cannot be reached.
const DOWN: &str = "down:1";

#[derive(Debug, PartialEq)]
struct CannotConnect;

fn instance(address: &'static str) -> Instance<Uri> {
    let breaker = CircuitBreaker::builder(address).consecutive_failures(1).build();
    Instance::new(address, Uri::from_static(address), breaker)
}

/// A client that writes down where it was sent.
fn client(
    sent: &Arc<Mutex<Vec<String>>>,
) -> impl Service<Sent, Response = Response<Full<Bytes>>, Error = CannotConnect, Future: Send> + Clone + use<> {
    let sent = sent.clone();
    service_fn(move |request: Sent| {
        let is_down = request.uri().authority().is_some_and(|authority| authority == DOWN);
        sent.lock().expect("one thread").push(request.uri().to_string());
        async move { if is_down { Err(CannotConnect) } else { Ok(text(200, "answer")) } }
    })
}

fn told(sent: &Mutex<Vec<String>>) -> Vec<String> {
    std::mem::take(&mut *sent.lock().expect("one thread"))
}

#[tokio::test]
async fn each_attempt_is_sent_to_the_address_of_its_instance() {
    let sent = Arc::default();
    let round = RoundRobin::new([instance("http://down:1"), instance("https://up:2/base")])
        .start(0)
        .never_sent(|error| *error == CannotConnect);
    let service = ClientStack::new().layer(RoundRobinLayer::new(round).layer(client(&sent)));
    let response = service.clone().oneshot(get("/path?query")).await.expect("infallible");
    let by = response.extensions().get::<AnsweredBy>().expect("an instance answered");
    assert_eq!((by.instance(), by.attempts()), ("https://up:2/base", 2));
    assert_eq!(told(&sent), ["http://down:1/path?query", "https://up:2/base/path?query"]);
    service.oneshot(get("/")).await.expect("infallible").into_body().collect().await.expect("a whole body");
    assert_eq!(told(&sent), ["https://up:2/base/"], "the circuit of the other one is open");
}

#[tokio::test]
async fn all_that_is_made_from_a_layer_shares_its_turn_and_its_instances() {
    let sent = Arc::default();
    let layer = RoundRobinLayer::new(RoundRobin::new([instance("http://a"), instance("http://b")]).start(0));
    let services = [layer.layer(client(&sent)), layer.clone().layer(client(&sent))];
    for service in services.iter().cycle().take(4) {
        service.clone().oneshot(get("/")).await.expect("infallible");
    }
    assert_eq!(told(&sent), ["http://a/", "http://b/", "http://a/", "http://b/"]);
    layer.round_robin().add(instance("http://c"));
    assert!(layer.round_robin().remove("http://a"));
    for service in services.iter().cycle().take(2) {
        service.clone().oneshot(get("/")).await.expect("infallible");
    }
    let mut after = told(&sent);
    after.sort_unstable();
    assert_eq!(after, ["http://b/", "http://c/"]);
}

#[tokio::test]
async fn the_client_can_be_told_in_its_own_way_which_instance_is_meant() {
    let breaker = CircuitBreaker::builder("a").build();
    let round = RoundRobin::new([Instance::new("a", 7_u16, breaker)]);
    let client = service_fn(async |(port, _): (u16, Sent)| Ok::<_, Infallible>(text(port, "answer")));
    let layer = RoundRobinLayer::new(round).direct(|request: Sent, port: &u16| (*port + 200, request));
    assert_eq!(layer.layer(client).oneshot(get("/")).await.expect("infallible").status(), 207);
}
