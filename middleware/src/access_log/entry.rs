//! What is known of one request so far; written out when it ends, whichever way.

use std::{net::SocketAddr, time::Duration};

use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri};
use tokio::time::Instant;

use super::{Route, layer::Lookup};
use crate::{
    AnsweredBy, AutoClassify, AutoResponse, BodyGuard, CircuitState, Classify, ClassifyResponse, GrpcCode, Protocol,
    RejectionCode, RequestId, Verdict,
};

/// The log entry of one request: the guard that the access log puts on a response's body.
///
/// It is a pointer, so that futures and bodies carry one word when nobody listens.
#[derive(Debug)]
pub struct Entry(Box<Record>);

#[derive(Debug)]
struct Record {
    method: Method,
    uri: Uri,
    protocol: Protocol,
    request_id: Option<HeaderValue>,
    peer: Option<SocketAddr>,
    route: Option<Route>,
    started: Instant,
    call: AutoResponse,
    head: Option<Head>,
    body_bytes: u64,
    written: bool,
}

#[derive(Debug)]
struct Head {
    status: StatusCode,
    grpc_status: Option<GrpcCode>,
    after: Duration,
    /// `None` as long as it waits for the end of the body.
    verdict: Option<Verdict>,
    refused: Option<RejectionCode>,
    answered_by: Option<AnsweredBy>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Ok,
    Error,
    Cancelled,
}

impl Entry {
    pub(super) fn new<B>(request: &Request<B>, lookup: Lookup) -> Self {
        let id = request.extensions().get().map(RequestId::header_value);
        Self(Box::new(Record {
            method: request.method().clone(),
            uri: request.uri().clone(),
            protocol: Protocol::of(request.headers()),
            request_id: id.or_else(|| request.headers().get(RequestId::HEADER)).cloned(),
            peer: lookup.peer.and_then(|peer| peer(request.extensions())),
            route: lookup.route.and_then(|route| route(request.extensions())),
            started: Instant::now(),
            call: AutoClassify.request(request),
            head: None,
            body_bytes: 0,
            written: false,
        }))
    }

    pub(super) fn responded<B>(&mut self, response: &Response<B>) {
        self.0.responded(response);
    }
}

impl Record {
    fn responded<B>(&mut self, response: &Response<B>) {
        let grpc_status = match self.protocol {
            Protocol::Grpc => GrpcCode::of(response.headers()),
            Protocol::Rest => None,
        };
        let extensions = response.extensions();
        self.route = extensions.get::<Route>().cloned().or(self.route.take());
        self.head = Some(Head {
            status: response.status(),
            grpc_status,
            after: self.started.elapsed(),
            verdict: self.call.head(response),
            refused: extensions.get().copied(),
            answered_by: extensions.get().cloned(),
        });
    }

    fn outcome_at_end(&self) -> Outcome {
        let Some(head) = &self.head else { return Outcome::Error };
        let fine = match (self.protocol, head.grpc_status) {
            _ if head.status.is_server_error() => false,
            (Protocol::Rest, _) => true,
            (Protocol::Grpc, code) => code.is_some_and(|code| !code.is_server_fault()),
        };
        if fine { Outcome::Ok } else { Outcome::Error }
    }

    fn end(&mut self, trailers: Option<&HeaderMap>) {
        if let (Some(head), Some(code)) = (&mut self.head, trailers.and_then(GrpcCode::of)) {
            head.grpc_status = Some(code);
        }
        let verdict = self.head.as_ref().and_then(|head| head.verdict).unwrap_or_else(|| self.call.end(trailers));
        self.write(self.outcome_at_end(), verdict);
    }

    fn write(&mut self, outcome: Outcome, verdict: Verdict) {
        let head = self.head.as_ref();
        let answered_by = head.and_then(|head| head.answered_by.as_ref());
        /// The level of an event must be a constant, so there are two.
        macro_rules! event {
            ($level:ident) => {
                tracing::event!(
                    target: super::layer::TARGET,
                    tracing::Level::$level,
                    method = %self.method,
                    path = self.uri.path(),
                    route = self.route.as_ref().map(Route::as_str),
                    protocol = self.protocol.as_str(),
                    status = head.map(|head| head.status.as_u16()),
                    grpc_status = head.and_then(|head| head.grpc_status).map(GrpcCode::as_i32),
                    peer = self.peer.map(tracing::field::display),
                    request_id = self.request_id.as_ref().and_then(|id| id.to_str().ok()),
                    head_ms = head.map(|head| millis(head.after)),
                    total_ms = millis(self.started.elapsed()),
                    body_bytes = self.body_bytes,
                    outcome = match outcome {
                        Outcome::Ok => "ok",
                        Outcome::Error => "error",
                        Outcome::Cancelled => "cancelled",
                    },
                    verdict = verdict.as_str(),
                    refused = head.and_then(|head| head.refused).map(|RejectionCode(code)| code),
                    instance = answered_by.map(AnsweredBy::instance),
                    attempts = answered_by.map(AnsweredBy::attempts),
                    circuit = answered_by.map(AnsweredBy::circuit).map(CircuitState::as_str),
                    "request"
                )
            };
        }
        self.written = true;
        match outcome {
            Outcome::Ok | Outcome::Cancelled => event!(DEBUG),
            Outcome::Error => event!(WARN),
        }
    }
}

impl BodyGuard for Entry {
    fn data(&mut self, bytes: usize) {
        self.0.body_bytes += bytes as u64;
    }

    fn wants_trailers(&self) -> bool {
        self.0.protocol == Protocol::Grpc
    }

    fn end(mut self, trailers: Option<&HeaderMap>) {
        self.0.end(trailers);
    }

    fn error(mut self) {
        self.0.write(Outcome::Error, Verdict::Failure);
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        match (self.written, std::thread::panicking()) {
            (true, _) => {}
            (false, true) => self.write(Outcome::Error, Verdict::Failure),
            (false, false) => self.write(Outcome::Cancelled, Verdict::Cancelled),
        }
    }
}

/// With the microseconds behind the point.
fn millis(duration: Duration) -> f64 {
    duration.as_micros() as f64 / 1000.0
}
