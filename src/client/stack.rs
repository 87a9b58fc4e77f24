//! The layers that every call passes, the same for all of them and with one state.
//!
//! Not here: the layers themselves (crate `campanile-middleware`). Invariant: there is one stack in a client, and its
//! clones share it.

use std::{convert::Infallible, time::Duration};

use campanile_middleware::{
    CircuitBreaker, ClientStack, ConcurrencyLimitLayer, Failover, Instance, RetryBudget, RoundRobin, RoundRobinLayer,
    is_never_sent,
};
use http::{Request, Response, Uri, request::Parts};
use hyper_util::client::legacy;
use tonic::body::Body;
use tower::{ServiceBuilder, layer::util::Identity, util::BoxCloneSyncService};

use super::{
    builder::ClientBuilder,
    connections::connections,
    error::{ClientError, is_refused, name_code},
};
use crate::config::{Address, BadAddress};

/// The whole of it. Boxed, so that the client has a type that can be written down.
pub(super) type Stack = BoxCloneSyncService<Request<Body>, Response<Body>, Infallible>;

/// Failures in a row after which an address is passed over, and for how long, as between the broker's own instances.
const CIRCUIT_FAILURES: u32 = 5;
const CIRCUIT_OPEN_FOR: Duration = Duration::from_secs(5);

/// A day, longer than any call: each says by itself how long it may take, and a stream may go on for ever.
const DEADLINE_MAX: Duration = Duration::from_secs(24 * 3600);

/// Calls and streams at once. The broker takes far fewer of one client; those past this are refused here, before they
/// cost memory, and come again after the pause that the refusal names.
const IN_FLIGHT_MAX: usize = 1 << 14;

/// Marks a call that may be carried out twice, in the extensions of its request.
#[derive(Debug, Clone, Copy)]
pub(super) struct Repeatable;

/// Read top to bottom: a call meets the layers in this order, its answer in the reverse.
pub(super) fn stack(settings: &ClientBuilder) -> Result<Stack, ClientError> {
    let instances: Result<Vec<_>, _> = settings.addresses.iter().map(|address| instance(address)).collect();
    let instances = instances?;
    let failover = Failover {
        attempts: u32::try_from(instances.len()).unwrap_or(u32::MAX).max(2),
        // Each call has a deadline, and pings find out a connection that is dead.
        per_try: None,
        replay_limit: settings.replay_bytes_max,
        wait_for_ready: settings.wait_for_instance,
        // For repeats of calls whose connection broke. Those that the broker refused and asked for have one of their own.
        budget: Some(RetryBudget::default()),
    };
    let round = RoundRobin::new(instances)
        .failover(failover)
        .never_sent(|error: &legacy::Error| is_never_sent(error))
        .refused(is_refused)
        .idempotent(is_repeatable);
    let layers = ClientStack::new()
        // The caller is told, and logs what it likes.
        .access_log(Identity::new())
        .concurrency_limit(ConcurrencyLimitLayer::fixed(IN_FLIGHT_MAX))
        .deadline(DEADLINE_MAX);
    let service = ServiceBuilder::new()
        // Outside of all that refuses: what layers say is known by its code, as what the broker says.
        .map_response(|response| name_code(response).map(Body::new))
        // Names a call, so that all attempts at it have one id, and bounds how many there are and how long they take. The
        // order within, and the reasons for it, stand with `ClientStack`.
        .layer(layers)
        // Each attempt goes to the next address in turn.
        .layer(RoundRobinLayer::new(round))
        .service(connections());
    Ok(BoxCloneSyncService::new(service))
}

fn instance(address: &str) -> Result<Instance<Uri>, ClientError> {
    let invalid = |problem| ClientError::Address { address: address.to_owned(), problem };
    let parsed: Address = address.parse().map_err(invalid)?;
    let uri = format!("http://{parsed}").parse::<Uri>().map_err(|_| invalid(BadAddress::Host))?;
    let breaker =
        CircuitBreaker::builder(address).consecutive_failures(CIRCUIT_FAILURES).open_for(CIRCUIT_OPEN_FOR).build();
    Ok(Instance::new(address, uri, breaker))
}

fn is_repeatable(call: &Parts) -> bool {
    call.extensions.get::<Repeatable>().is_some()
}
