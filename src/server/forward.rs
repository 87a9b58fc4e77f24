//! Requests to another instance: the same request again, REST and gRPC alike, over HTTP/2 without TLS.
//!
//! Not here: which instance, how often, how long. Invariant: a request is changed in nothing but what belongs to the
//! connection that it came on and its number of hops, and an answer in nothing at all.

use std::{fmt, time::Duration};

use axum::body::Body;
use campanile_middleware::{ClientStack, Hops};
use http::{
    HeaderName, Request, Response, Uri, Version, header,
    uri::{Authority, InvalidUri, PathAndQuery, Scheme},
};
use hyper_util::{
    client::legacy::{self, Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use tower::{
    ServiceBuilder, ServiceExt as _,
    layer::util::Identity,
    util::{BoxCloneSyncService, Oneshot},
};

use crate::config::Address;

/// Longest wait for a connection to another instance: they are near each other, and the next one waits to be asked.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// Pings on the connection to another instance: one that vanished without a word is found out after both.
const PING_INTERVAL: Duration = Duration::from_secs(2);
const PING_TIMEOUT: Duration = Duration::from_secs(3);

/// A day, longer than any request: each has a deadline since it came in, and a stream may go on for ever.
pub(super) const DEADLINE_MAX: Duration = Duration::from_secs(24 * 3600);

/// Headers that belong to a connection and not to the request, RFC 9110 section 7.6.1. (`te` may stay for gRPC.)
const CONNECTION_HEADERS: [HeaderName; 6] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    // The authority of the target takes its place.
    header::HOST,
];

/// Boxed, so that it has a type that can be written down; next to the network a box costs nothing.
type Stack = BoxCloneSyncService<Request<Body>, Response<Body>, legacy::Error>;

/// The head of an answer.
pub(super) type Answer = Oneshot<Stack, Request<Body>>;

/// The way to another instance: one connection, opened when it is needed.
pub(super) struct Forward {
    stack: Stack,
    authority: Authority,
}

impl Forward {
    /// Waits at most `deadline` for the head of an answer.
    ///
    /// # Errors
    /// The address is no authority of a URI.
    pub(super) fn new(target: &Address, deadline: Duration) -> Result<Self, InvalidUri> {
        let authority: Authority = target.to_string().parse()?;
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(CONNECT_TIMEOUT));
        let client = Client::builder(TokioExecutor::new())
            .timer(TokioTimer::new())
            .pool_timer(TokioTimer::new())
            .http2_only(true)
            .http2_keep_alive_interval(PING_INTERVAL)
            .http2_keep_alive_timeout(PING_TIMEOUT)
            .http2_keep_alive_while_idle(true)
            .build(connector);
        let layers = ClientStack::new()
            // A client's request is logged once, by the stack that it came in through, which bounds how many there are, too.
            .access_log(Identity::new())
            .concurrency_limit(Identity::new())
            .deadline(deadline);
        let to = authority.clone();
        let service = ServiceBuilder::new()
            .map_response(|response: Response<_>| response.map(Body::new))
            // A request that came in keeps its id on its way to another instance; a question of this one's own gets one.
            .layer(layers)
            .map_request(move |request| readdressed(request, &to))
            .service(client);
        Ok(Self { stack: Stack::new(service), authority })
    }

    /// Sends a request and waits for the head of the answer.
    pub(super) fn send(&self, request: Request<Body>) -> Answer {
        self.stack.clone().oneshot(request)
    }
}

/// The request as it goes to the instance at `authority`.
fn readdressed(mut request: Request<Body>, authority: &Authority) -> Request<Body> {
    let path = request.uri().path_and_query().cloned();
    let mut parts = http::uri::Parts::default();
    parts.scheme = Some(Scheme::HTTP);
    parts.authority = Some(authority.clone());
    parts.path_and_query = Some(path.unwrap_or_else(|| PathAndQuery::from_static("/")));
    *request.uri_mut() = Uri::from_parts(parts).expect("scheme, authority and path make a URI");
    *request.version_mut() = Version::HTTP_2;
    let hops = request.extensions().get::<Hops>().copied().unwrap_or_default();
    let headers = request.headers_mut();
    hops.forward(Hops::HEADER, headers);
    for name in CONNECTION_HEADERS {
        headers.remove(name);
    }
    if headers.get(header::TE).is_some_and(|te| te != "trailers") {
        headers.remove(header::TE);
    }
    request
}

impl fmt::Debug for Forward {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Forward").field("authority", &self.authority).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_keeps_all_but_its_connection() {
        let request = Request::post("/consume/a%20b?max_messages=2")
            .header("host", "localhost:8001")
            .header("connection", "keep-alive")
            .header("te", "trailers")
            .header("idempotency-key", "k")
            .body(Body::empty())
            .expect("a request");
        let request = readdressed(request, &Authority::from_static("broker-2:50051"));
        assert_eq!(request.uri(), "http://broker-2:50051/consume/a%20b?max_messages=2");
        let mut names: Vec<_> = request.headers().keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, ["idempotency-key", "te", "x-campanile-hop"]);
        assert_eq!(request.headers()[Hops::HEADER], "1");
    }
}
