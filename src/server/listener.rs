//! The accept loop of a port: HTTP/1.1 and HTTP/2 side by side, every wait and every buffer bounded.
//!
//! Not here: what a request means. Invariant: a connection lives in a task that the loop owns, so that none
//! outlives [`Listener::serve`].

use std::{io, net::SocketAddr, pin::pin, time::Duration};

use axum::{body::Body, extract::ConnectInfo};
use http::Request;
use hyper::body::Incoming;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
};
use tokio::{
    net::{TcpListener, TcpStream, lookup_host},
    task::JoinSet,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;
use tracing::{debug, warn};

use super::{
    ServeError,
    operation::is_stream,
    patient_body::PatientBody,
    patient_io::{Patience, PatientIo},
    stack::HttpService,
};
use crate::config::Address;

/// Longest wait for the name of a listen address to be resolved.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(5);

/// Longest pause between two requests of an HTTP/1.1 connection, its next head included. Longer than the 60 s for
/// which clients and proxies commonly keep a connection, so that they close it and not we, into their next request.
const IDLE_TIMEOUT: Duration = Duration::from_secs(75);

const PATIENCE: Patience = Patience {
    // hyper's own default for a head is 30 s; a slow mobile client needs less than 10.
    first_head: Duration::from_secs(10),
    read_on: Duration::from_secs(30),
};

/// Ping of a silent HTTP/2 connection, and how long its answer may take.
const PING_INTERVAL: Duration = Duration::from_secs(20);
const PING_TIMEOUT: Duration = Duration::from_secs(10);

/// Largest head over HTTP/1.1, and largest header list over HTTP/2: tonic's and nginx's order of magnitude.
const HEAD_BYTES_MAX: usize = 64 << 10;
const HEADER_LIST_BYTES_MAX: u32 = 16 << 10;

/// What one HTTP/2 stream and one connection may send ahead of being read: bounds the memory of a connection.
const STREAM_WINDOW_BYTES: u32 = 1 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 4 << 20;

/// Streams that clients opened and reset at once, before a connection is closed (CVE-2023-44487).
const RESET_STREAMS_PENDING_MAX: usize = 20;
const RESET_STREAMS_LOCAL_MAX: usize = 1024;

/// Pause after an accept that failed, doubled each time: out of file descriptors is no reason to spin or to end.
const ACCEPT_PAUSE_MIN: Duration = Duration::from_millis(50);
const ACCEPT_PAUSE_MAX: Duration = Duration::from_secs(1);

/// How much one port takes on.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// Most connections; further ones wait in the system's queue.
    pub(super) connections_max: usize,
    /// Most requests of one HTTP/2 connection at once.
    pub(super) streams_max: u32,
    /// How long the body of a request may take to arrive. Shorter than the deadline of the request.
    pub(super) body_time_max: Duration,
}

/// When a port ends.
#[derive(Debug, Clone, Default)]
pub(super) struct Until {
    /// Takes no more connections, and no more requests on those there are.
    pub(super) stop: CancellationToken,
    /// Closes what is left.
    pub(super) abort: CancellationToken,
}

/// A port that is bound and not served yet.
#[derive(Debug)]
pub(super) struct Listener {
    tcp: TcpListener,
    addr: SocketAddr,
}

impl Listener {
    /// Binds the first of the host's addresses that can be bound. `key` is the setting that the address is from.
    pub(super) async fn bind(key: &'static str, address: &Address) -> Result<Self, ServeError> {
        let failed = |source| ServeError::Bind { key, address: address.clone(), source };
        let (host, port) = (address.host().trim_matches(['[', ']']), address.port());
        let resolved = timeout(RESOLVE_TIMEOUT, lookup_host((host, port))).await;
        let resolved = resolved.map_err(|_| failed(io::ErrorKind::TimedOut.into()))?.map_err(failed)?;
        let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
        for addr in resolved {
            match TcpListener::bind(addr).await.and_then(|tcp| Ok((tcp.local_addr()?, tcp))) {
                Ok((addr, tcp)) => return Ok(Self { tcp, addr }),
                Err(source) => last = source,
            }
        }
        Err(failed(last))
    }

    /// The address actually bound: port 0 became a real one.
    pub(super) fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Serves until `until.stop`, then finishes what is under way until `until.abort`.
    pub(super) async fn serve(self, service: impl HttpService, limits: Limits, until: Until) {
        let Self { tcp, addr } = self;
        let Until { stop, abort } = until;
        let http = http_builder(limits.streams_max);
        let mut connections = JoinSet::new();
        let mut pause = ACCEPT_PAUSE_MIN;
        loop {
            let accepted = tokio::select! {
                () = stop.cancelled() => break,
                Some(ended) = connections.join_next() => { report(ended); continue }
                accepted = tcp.accept(), if connections.len() < limits.connections_max => accepted,
            };
            match accepted {
                Ok((stream, peer)) => {
                    pause = ACCEPT_PAUSE_MIN;
                    let (service, stop) = (service.clone(), stop.clone());
                    connections.spawn(connection(http.clone(), stream, peer, service, limits.body_time_max, stop));
                }
                Err(error) => {
                    warn!(%addr, %error, pause_ms = pause.as_millis() as u64, "a connection could not be accepted");
                    tokio::select! { () = stop.cancelled() => break, () = sleep(pause) => () }
                    pause = (pause * 2).min(ACCEPT_PAUSE_MAX);
                }
            }
        }
        // From here on connecting is refused at once, instead of waiting for nobody.
        drop(tcp);
        let finished = async { while connections.join_next().await.map(report).is_some() {} };
        tokio::select! { () = finished => (), () = abort.cancelled() => () }
        if !connections.is_empty() {
            warn!(%addr, connections = connections.len(), "connections were closed on requests under way");
        }
        connections.shutdown().await;
    }
}

fn report(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended {
        warn!(%error, "a connection's task failed");
    }
}

fn http_builder(streams_max: u32) -> auto::Builder<TokioExecutor> {
    let mut http = auto::Builder::new(TokioExecutor::new());
    http.http1()
        .timer(TokioTimer::new())
        .header_read_timeout(IDLE_TIMEOUT)
        .max_buf_size(HEAD_BYTES_MAX)
        .pipeline_flush(true);
    http.http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(streams_max)
        .keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIMEOUT)
        .max_header_list_size(HEADER_LIST_BYTES_MAX)
        .max_pending_accept_reset_streams(RESET_STREAMS_PENDING_MAX)
        .max_local_error_reset_streams(RESET_STREAMS_LOCAL_MAX)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES);
    http
}

async fn connection(
    http: auto::Builder<TokioExecutor>,
    stream: TcpStream,
    peer: SocketAddr,
    service: impl HttpService,
    body_time_max: Duration,
    stop: CancellationToken,
) {
    // Answers are small and written whole: waiting for more only delays them. Without it they still arrive.
    if let Err(error) = stream.set_nodelay(true) {
        debug!(%peer, %error, "no delay could not be set");
    }
    let service = hyper::service::service_fn(move |request: Request<Incoming>| {
        let mut request = if is_stream(request.uri().path()) {
            request.map(Body::new)
        } else {
            request.map(|body| Body::new(PatientBody::new(body, body_time_max)))
        };
        request.extensions_mut().insert(ConnectInfo(peer));
        service.clone().oneshot(request)
    });
    let mut connection = pin!(http.serve_connection(TokioIo::new(PatientIo::new(stream, PATIENCE)), service));
    let served = tokio::select! {
        served = connection.as_mut() => served,
        () = stop.cancelled() => {
            // HTTP/1.1: ends after the request under way. HTTP/2: GOAWAY, ends after the open streams.
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = served {
        debug!(%peer, error, "connection ended");
    }
}
