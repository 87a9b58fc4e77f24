//! The connections to all addresses of a broker: for each one over HTTP/2 without TLS, opened when it is needed and shared by
//! all calls. A call's URI says which one it takes.
//!
//! Not here: which address, how often, how long.

use std::time::Duration;

use campanile_middleware::ReplayBody;
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use tonic::body::Body;

/// Longest wait for a connection: the next instance waits to be asked.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// Pings while calls are under way: a broker that vanished without a word is found out after both.
const PING_INTERVAL: Duration = Duration::from_secs(10);
const PING_TIMEOUT: Duration = Duration::from_secs(5);

/// Clones share the connections.
pub(super) type Connections = Client<HttpConnector, ReplayBody<Body>>;

pub(super) fn connections() -> Connections {
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    connector.set_connect_timeout(Some(CONNECT_TIMEOUT));
    Client::builder(TokioExecutor::new())
        .timer(TokioTimer::new())
        .pool_timer(TokioTimer::new())
        .http2_only(true)
        .http2_keep_alive_interval(PING_INTERVAL)
        .http2_keep_alive_timeout(PING_TIMEOUT)
        .build(connector)
}
