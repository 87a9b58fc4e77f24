//! Requests to another instance: the same request again, REST and gRPC alike, over HTTP/2 without TLS.
//!
//! Not here: which instance, how often, how long. Invariant: a request is changed in nothing but what belongs to the
//! connection that it came on and its number of hops, and an answer in nothing at all.

use std::{fmt, time::Duration};

use axum::body::Body;
use campanile_middleware::Hops;
use http::{
    HeaderName, Request, Uri, Version, header,
    uri::{Authority, InvalidUri, PathAndQuery, Scheme},
};
use hyper_util::{
    client::legacy::{Client, ResponseFuture, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};

use crate::config::Address;

/// Longest wait for a connection to another instance: they are near each other, and the next one waits to be asked.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// Pings on the connection to another instance: one that vanished without a word is found out after both.
const PING_INTERVAL: Duration = Duration::from_secs(2);
const PING_TIMEOUT: Duration = Duration::from_secs(3);

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

/// The way to another instance: one connection, opened when it is needed.
pub(super) struct Forward {
    client: Client<HttpConnector, Body>,
    authority: Authority,
}

impl Forward {
    /// # Errors
    /// The address is no authority of a URI.
    pub(super) fn new(target: &Address) -> Result<Self, InvalidUri> {
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
        Ok(Self { client, authority: target.to_string().parse()? })
    }

    /// Sends a request and waits for the head of the answer.
    pub(super) fn send(&self, mut request: Request<Body>) -> ResponseFuture {
        self.readdress(&mut request);
        self.client.request(request)
    }

    fn readdress(&self, request: &mut Request<Body>) {
        let path = request.uri().path_and_query().cloned();
        let mut parts = http::uri::Parts::default();
        parts.scheme = Some(Scheme::HTTP);
        parts.authority = Some(self.authority.clone());
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
    }
}

impl fmt::Debug for Forward {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Forward").field("authority", &self.authority).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_request_keeps_all_but_its_connection() {
        let forward = Forward::new(&"broker-2:50051".parse().expect("an address")).expect("an authority");
        let mut request = Request::post("/consume/a%20b?max_messages=2")
            .header("host", "localhost:8001")
            .header("connection", "keep-alive")
            .header("te", "trailers")
            .header("idempotency-key", "k")
            .body(Body::empty())
            .expect("a request");
        forward.readdress(&mut request);
        assert_eq!(request.uri(), "http://broker-2:50051/consume/a%20b?max_messages=2");
        let mut names: Vec<_> = request.headers().keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, ["idempotency-key", "te", "x-campanile-hop"]);
        assert_eq!(request.headers()[Hops::HEADER], "1");
    }
}
