//! How a rejection is written on the wire.
//!
//! Invariant of [`AutoReject`]: a gRPC rejection has no body at all, so that its headers can end the stream.

use std::{borrow::Cow, sync::OnceLock, time::Duration};

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Response, StatusCode, header};

use super::encode::{grpc_message, json_string, number};
use crate::{GrpcCode, Protocol, Rejection, grpc_code::GRPC_STATUS};

static GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
static GRPC_PUSHBACK_MS: HeaderName = HeaderName::from_static("grpc-retry-pushback-ms");

/// Writes rejections.
///
/// The layers put the rejection's verdict and code into the extensions of what this returns.
pub trait RejectResponse {
    /// The response that tells a caller who speaks `protocol`. An empty body makes it trailers-only over HTTP/2.
    fn reject(&self, protocol: Protocol, rejection: &Rejection) -> Response<Bytes>;
}

/// Writes rejections as either protocol's clients expect them.
///
/// - REST: the status, `Retry-After` (whole seconds, rounded up, at least 1), and a body of `application/problem+json`
///   (RFC 9457) with `type`, `title`, `status`, `detail` and `code`.
/// - gRPC: trailers-only. HTTP 200, `grpc-status`, `grpc-message`, and `grpc-retry-pushback-ms` (gRFC A6): the time to
///   retry after, or -1 ("do not") for UNAVAILABLE without one.
#[derive(Debug, Clone, Copy, Default)]
pub struct AutoReject;

impl RejectResponse for AutoReject {
    fn reject(&self, protocol: Protocol, rejection: &Rejection) -> Response<Bytes> {
        match protocol {
            Protocol::Rest => problem(rejection),
            Protocol::Grpc => trailers_only(rejection),
        }
    }
}

/// The words of the first rejections that there were, of those whose words are constants: nearly all there are. None is
/// ever forgotten, and the ninth is written each time.
static WRITTEN: [OnceLock<Words>; 8] = [const { OnceLock::new() }; 8];

/// What a rejection says, as it stands on the wire.
struct Words {
    status: StatusCode,
    code: &'static str,
    message: &'static str,
    problem: String,
    grpc_message: HeaderValue,
}

/// The words of this rejection, if they are among those.
fn written(rejection: &Rejection) -> Option<&'static Words> {
    let Rejection { status, code, message: Cow::Borrowed(message), .. } = *rejection else { return None };
    let write =
        || Words { status, code, message, problem: write_problem(rejection), grpc_message: grpc_message(message) };
    let mut written = WRITTEN.iter().map(|place| place.get_or_init(write));
    written.find(|words| (words.status, words.code, words.message) == (status, code, message))
}

fn write_problem(rejection: &Rejection) -> String {
    /// All but what is said, to take the whole body from the allocator at once.
    const FRAME: &str = r#"{"type":"about:blank","title":"","status":000,"detail":"","code":""}"#;
    let status = rejection.status;
    let title = status.canonical_reason().unwrap_or("Error");
    let said = title.len() + rejection.message.len() + rejection.code.len();
    let mut json = String::with_capacity(FRAME.len() + said);
    json.push_str(r#"{"type":"about:blank","title":"#);
    json_string(&mut json, title);
    json.push_str(r#","status":"#);
    json.push_str(status.as_str());
    json.push_str(r#","detail":"#);
    json_string(&mut json, &rejection.message);
    json.push_str(r#","code":"#);
    json_string(&mut json, rejection.code);
    json.push('}');
    json
}

fn problem(rejection: &Rejection) -> Response<Bytes> {
    let body = match written(rejection) {
        Some(words) => Bytes::from_static(words.problem.as_bytes()),
        None => Bytes::from(write_problem(rejection)),
    };
    let mut response = Response::new(body);
    *response.status_mut() = rejection.status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
    if let Some(retry_after) = rejection.retry_after {
        headers.insert(header::RETRY_AFTER, number(whole_seconds(retry_after)));
    }
    response
}

fn trailers_only(rejection: &Rejection) -> Response<Bytes> {
    let mut response = Response::new(Bytes::new());
    *response.status_mut() = StatusCode::OK;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert(&GRPC_STATUS, number(rejection.grpc_code as u64));
    let message = match written(rejection) {
        Some(words) => words.grpc_message.clone(),
        None => grpc_message(&rejection.message),
    };
    headers.insert(&GRPC_MESSAGE, message);
    let pushback_ms = match rejection.retry_after {
        Some(retry_after) => Some(number(u64::try_from(retry_after.as_millis()).unwrap_or(u64::MAX))),
        None => (rejection.grpc_code == GrpcCode::Unavailable).then(|| HeaderValue::from_static("-1")),
    };
    if let Some(pushback_ms) = pushback_ms {
        headers.insert(&GRPC_PUSHBACK_MS, pushback_ms);
    }
    response
}

/// Rounded up, at least 1: a caller who comes back a moment too early is refused again.
fn whole_seconds(duration: Duration) -> u64 {
    duration.as_secs().saturating_add(u64::from(duration.subsec_nanos() > 0)).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_are_rounded_up_and_never_zero() {
        for (millis, seconds) in [(0, 1), (1, 1), (1000, 1), (1001, 2), (29_999, 30)] {
            assert_eq!(whole_seconds(Duration::from_millis(millis)), seconds, "{millis} ms");
        }
        assert_eq!(whole_seconds(Duration::MAX), u64::MAX);
    }

    #[test]
    fn a_rest_rejection_is_a_problem() {
        let rejection =
            Rejection::unavailable("circuit_open", "try \"later\"").with_retry_after(Duration::from_millis(1500));
        let response = AutoReject.reject(Protocol::Rest, &rejection);
        assert_eq!(response.status(), 503);
        assert_eq!(response.headers()["retry-after"], "2");
        assert_eq!(response.headers()["content-type"], "application/problem+json");
        let json = r#"{"type":"about:blank","title":"Service Unavailable","status":503,"detail":"try \"later\"","code":"circuit_open"}"#;
        assert_eq!(response.body(), json);
    }

    #[test]
    fn every_rejection_has_its_own_words_however_many_there_are() {
        const WORDS: [&str; 12] = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l"];
        for _ in 0..2 {
            for (code, message) in WORDS.iter().flat_map(|code| WORDS.map(|message| (*code, message))) {
                for rejection in
                    [Rejection::unavailable(code, message), Rejection::unavailable(code, message.to_owned())]
                {
                    let body = AutoReject.reject(Protocol::Rest, &rejection).into_body();
                    assert_eq!(body, write_problem(&rejection), "{code} {message}");
                    let response = AutoReject.reject(Protocol::Grpc, &rejection);
                    assert_eq!(response.headers()["grpc-message"], message);
                }
            }
        }
        let (mut busy, mut gone) = (Rejection::unavailable("a", "a"), Rejection::unavailable("a", "a"));
        (busy.status, gone.status) = (StatusCode::TOO_MANY_REQUESTS, StatusCode::GONE);
        for rejection in [busy, gone] {
            assert_eq!(AutoReject.reject(Protocol::Rest, &rejection).into_body(), write_problem(&rejection));
        }
    }

    #[test]
    fn a_grpc_rejection_is_all_headers() {
        let rejection =
            Rejection::unavailable("circuit_open", "100% open").with_retry_after(Duration::from_millis(1500));
        let response = AutoReject.reject(Protocol::Grpc, &rejection);
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "application/grpc");
        assert_eq!(response.headers()["grpc-status"], "14");
        assert_eq!(response.headers()["grpc-message"], "100%25 open");
        assert_eq!(response.headers()["grpc-retry-pushback-ms"], "1500");
        assert!(response.body().is_empty());
    }

    #[test]
    fn unavailable_without_a_time_tells_grpc_clients_not_to_retry() {
        let response = AutoReject.reject(Protocol::Grpc, &Rejection::unavailable("isolated", "isolated"));
        assert_eq!(response.headers()["grpc-retry-pushback-ms"], "-1");
        let invalid = Rejection::new(StatusCode::BAD_REQUEST, GrpcCode::InvalidArgument, "bad", "bad");
        assert!(!AutoReject.reject(Protocol::Grpc, &invalid).headers().contains_key("grpc-retry-pushback-ms"));
    }
}
