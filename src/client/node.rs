//! One address of a broker as a service: one HTTP/2 connection without TLS, opened when it is needed and shared by all calls.
//!
//! Not here: which address, how often, how long. Invariant: a call is changed in nothing but where it goes.

use std::{
    fmt,
    task::{Context, Poll},
    time::Duration,
};

use campanile_middleware::ReplayBody;
use http::{
    Request, Response, Uri,
    uri::{Authority, InvalidUri, PathAndQuery, Scheme},
};
use hyper::body::Incoming;
use hyper_util::{
    client::legacy::{self, ResponseFuture, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use tonic::body::Body;
use tower::Service;

use crate::config::Address;

/// Longest wait for a connection: the next instance waits to be asked.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// Pings while calls are under way: a broker that vanished without a word is found out after both.
const PING_INTERVAL: Duration = Duration::from_secs(10);
const PING_TIMEOUT: Duration = Duration::from_secs(5);

/// Clones share the connection.
#[derive(Clone)]
pub(super) struct Node {
    client: legacy::Client<HttpConnector, ReplayBody<Body>>,
    authority: Authority,
}

impl Node {
    /// # Errors
    /// The address is no authority of a URI.
    pub(super) fn new(address: &Address) -> Result<Self, InvalidUri> {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(CONNECT_TIMEOUT));
        let client = legacy::Client::builder(TokioExecutor::new())
            .timer(TokioTimer::new())
            .pool_timer(TokioTimer::new())
            .http2_only(true)
            .http2_keep_alive_interval(PING_INTERVAL)
            .http2_keep_alive_timeout(PING_TIMEOUT)
            .build(connector);
        Ok(Self { client, authority: address.to_string().parse()? })
    }
}

/// Whether a call provably never left this process.
pub(super) fn is_never_sent(error: &legacy::Error) -> bool {
    error.is_connect()
}

impl Service<Request<ReplayBody<Body>>> for Node {
    type Response = Response<Incoming>;
    type Error = legacy::Error;
    type Future = ResponseFuture;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), legacy::Error>> {
        // Whether it can be reached shows when it is asked.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request<ReplayBody<Body>>) -> ResponseFuture {
        let path = request.uri().path_and_query().cloned();
        let mut parts = http::uri::Parts::default();
        parts.scheme = Some(Scheme::HTTP);
        parts.authority = Some(self.authority.clone());
        parts.path_and_query = Some(path.unwrap_or_else(|| PathAndQuery::from_static("/")));
        *request.uri_mut() = Uri::from_parts(parts).expect("scheme, authority and path make a URI");
        self.client.request(request)
    }
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Node").field("authority", &self.authority).finish_non_exhaustive()
    }
}
