//! The life of the process.
//!
//! ```text
//!   bind ─► open the store ─► serve ─► stop accepting ─► finish requests ─► close the store ─► end
//!           (or stand by, and take over)   ▲ a signal, or the store failed
//! ```

use std::{net::SocketAddr, time::Duration};

use tokio::{
    task::JoinSet,
    time::{Instant, sleep, timeout_at},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{info, warn};

use super::{
    ServeError,
    dispatch::Dispatch,
    identity::Identity,
    listener::{Limits, Listener, Until},
    peers::Peers,
    serving::Serving,
    signals::Signals,
    stack::Stack,
    store::Store,
};
use crate::{
    broker::{self, Broker},
    config::Config,
    grpc, rest,
};

/// How much earlier than the request's own time a receive that waits is answered, and a body has to be there: room for
/// the rest of the request.
const WAIT_MARGIN: Duration = Duration::from_secs(5);

/// How long the answers that the closing of the store gives may take to be written, at least.
const FLUSH_TIME_MIN: Duration = Duration::from_secs(1);

/// From the head of a request to the store, at most, when nothing has to be waited for.
const SETTLE_TIME: Duration = Duration::from_millis(50);

/// How long requests may take to get the answer that the store has failed.
const FAILED_DRAIN_TIMEOUT: Duration = Duration::from_secs(2);

/// Most requests of one HTTP/2 connection at once. All requests of another instance come on one connection.
const STREAMS_MAX: u32 = 4096;

/// Why the server ended, having served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// It was asked to.
    Asked,
    /// The store failed. What was under way may or may not be stored.
    StoreFailed,
}

/// Serves until SIGTERM or SIGINT, or until the store fails.
///
/// # Errors
/// [`ServeError`] when it could not start, or not take over.
pub async fn run(config: Config) -> Result<End, ServeError> {
    info!(version = env!("CARGO_PKG_VERSION"), "starting");
    let mut signals = Signals::catch().map_err(ServeError::Signals)?;
    let rest = Listener::bind("rest_addr", &config.rest_addr).await?;
    let grpc = Listener::bind("grpc_addr", &config.grpc_addr).await?;
    let (rest_addr, grpc_addr) = (rest.addr(), grpc.addr());

    let limits_of_requests = broker_limits(&config);
    let broker =
        if config.dev { Broker::standby_in_dev_mode(limits_of_requests) } else { Broker::standby(limits_of_requests) };
    let store = Store::new(&config, broker.clone());
    tokio::select! {
        opened = store.open() => opened?,
        signal = signals.next() => {
            info!(signal, "ending before the start");
            return Ok(End::Asked);
        }
    }

    let until = Until::default();
    let identity = Identity::new(broker.clone(), until.stop.clone());
    let here = transports(&config, &broker);
    let peers = if config.is_alone() { None } else { Some(Peers::new(&config, identity.clone(), here.clone())?) };
    let serving = Serving::new(here, peers.as_ref().map(Peers::round));
    let under_way = serving.under_way();
    let service = Stack::new(&config).service(observability(&broker, &identity, &until.stop), serving);

    let mut ports = JoinSet::new();
    for listener in [rest, grpc] {
        ports.spawn(listener.serve(service.clone(), limits(&config), until.clone()));
    }
    let mut background = JoinSet::new();
    if let Some(peers) = &peers {
        peers.refresh();
        background.spawn(peers.clone().watch());
    }
    warn_if_public([rest_addr, grpc_addr]);
    if config.dev {
        warn!("dev mode: whoever reaches a port can move the broker's clock");
    }
    info!(rest = %rest_addr, grpc = %grpc_addr, "listening");

    let activated = || {
        if let Some(peers) = &peers {
            peers.refresh();
        }
    };
    let (end, drain) = tokio::select! {
        signal = signals.next() => {
            info!(signal, timeout_ms = config.drain_timeout.as_millis() as u64, "draining");
            (End::Asked, config.drain_timeout)
        }
        failed = store.tend(&identity, activated) => {
            failed?;
            (End::StoreFailed, FAILED_DRAIN_TIMEOUT)
        }
    };
    tokio::select! {
        () = finish(ports, under_way, store, until, drain) => info!("ended"),
        // Whoever asks twice does not want to wait.
        signal = signals.next() => warn!(signal, "ended at once"),
    }
    Ok(end)
}

/// Ends the requests, the store and the ports, in this order and in `drain` altogether.
async fn finish(mut ports: JoinSet<()>, under_way: TaskTracker, store: Store, until: Until, drain: Duration) {
    let deadline = Instant::now() + drain;
    until.stop.cancel();
    under_way.close();
    let requests = async {
        // Requests that were read a moment ago reach the store, or are counted, before this is over.
        sleep(SETTLE_TIME).await;
        under_way.wait().await;
    };
    let ended = timeout_at(deadline, async {
        tokio::select! { () = requests => (), () = join(&mut ports) => () }
    });
    if ended.await.is_err() {
        warn!(requests = under_way.len(), "drain timed out");
    }
    store.close().await;
    // What could not be written by then is lost; the port says how many.
    let _ = timeout_at(deadline.max(Instant::now() + FLUSH_TIME_MIN), join(&mut ports)).await;
    until.abort.cancel();
    join(&mut ports).await;
}

async fn join(ports: &mut JoinSet<()>) {
    while let Some(ended) = ports.join_next().await {
        if let Err(error) = ended {
            warn!(%error, "a port's task failed");
        }
    }
}

fn transports(config: &Config, broker: &Broker) -> Dispatch {
    let message_bytes_max = config.message_bytes_max;
    Dispatch {
        rest: rest::router(broker.clone(), rest::Options { message_bytes_max }),
        grpc: grpc::routes(broker.clone(), grpc::Options { message_bytes_max }),
    }
}

fn observability(broker: &Broker, identity: &Identity, stop: &CancellationToken) -> Dispatch {
    Dispatch {
        rest: rest::health_router(broker.clone()).merge(identity.clone().router()).fallback(rest::unknown_path),
        grpc: grpc::health_routes(broker.clone(), stop.clone()),
    }
}

fn broker_limits(config: &Config) -> broker::Limits {
    let defaults = broker::Limits::default();
    let wait_max = wait_max(config).min(defaults.wait_max);
    broker::Limits { message_bytes_max: config.message_bytes_max, wait_max }
}

fn limits(config: &Config) -> Limits {
    Limits { connections_max: config.connections_max, streams_max: STREAMS_MAX, body_time_max: wait_max(config) }
}

fn wait_max(config: &Config) -> Duration {
    config.request_timeout.saturating_sub(WAIT_MARGIN).max(config.request_timeout / 2)
}

fn warn_if_public(addrs: [SocketAddr; 2]) {
    if let Some(addr) = addrs.iter().find(|addr| !addr.ip().is_loopback()) {
        warn!(%addr, "reachable from other machines, and there is no authentication");
    }
}
