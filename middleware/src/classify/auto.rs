//! The rules that hold unless others are given: REST by its status, gRPC by its own.
//!
//! Invariant: no caller can make a healthy service look broken, neither by bad requests, nor by going away, nor by
//! deadlines that cannot be met.

use std::time::Duration;

use http::{HeaderMap, Method, Request, Response, StatusCode, header::RETRY_AFTER};

use super::{Classify, ClassifyResponse};
use crate::{GrpcCode, Protocol, Verdict, grpc_code::GRPC_TIMEOUT};

/// The default: tells REST from gRPC by the content types.
///
/// A [`Verdict`] in the response's extensions wins over everything. Else:
///
/// | REST | gRPC | verdict |
/// |---|---|---|
/// | 5xx, body breaks off | UNKNOWN, INTERNAL, UNAVAILABLE, DATA_LOSS, DEADLINE_EXCEEDED, no status at the end | `Failure` |
/// | 429 | RESOURCE_EXHAUSTED | `Throttled`, with `Retry-After` in seconds or `grpc-retry-pushback-ms` |
/// | | CANCELLED; DEADLINE_EXCEEDED to a request that brought a `grpc-timeout` | `Ignore` |
/// | the rest | the rest | `Success` |
///
/// A response that breaks off before its end because nobody wanted it is `Cancelled` (by the permit's drop). A gRPC
/// response other than 200 without `grpc-status` is mapped as the specification says. A gRPC request that got an answer
/// of another content type met something that does not speak gRPC: then only 5xx is a failure, as any caller can ask a
/// REST route in gRPC.
#[derive(Debug, Clone, Copy, Default)]
pub struct AutoClassify;

/// [`AutoClassify`] for one call.
#[derive(Debug, Clone, Copy)]
pub struct AutoResponse {
    protocol: Protocol,
    /// HEAD: the response ends with its head, whatever body it names.
    head_only: bool,
    client_deadline: bool,
}

impl Classify for AutoClassify {
    type Response = AutoResponse;

    #[inline]
    fn request<B>(&self, request: &Request<B>) -> AutoResponse {
        let protocol = Protocol::of(request.headers());
        AutoResponse {
            protocol,
            head_only: request.method() == Method::HEAD,
            client_deadline: protocol == Protocol::Grpc && request.headers().contains_key(&GRPC_TIMEOUT),
        }
    }
}

impl AutoResponse {
    fn code(self, code: GrpcCode, headers: &HeaderMap) -> Verdict {
        match code {
            GrpcCode::Cancelled => Verdict::Ignore,
            GrpcCode::DeadlineExceeded if self.client_deadline => Verdict::Ignore,
            GrpcCode::ResourceExhausted => Verdict::Throttled { retry_after: pushback(headers) },
            code if code.is_server_fault() => Verdict::Failure,
            _ => Verdict::Success,
        }
    }
}

impl ClassifyResponse for AutoResponse {
    #[inline]
    fn head<B>(&mut self, response: &Response<B>) -> Option<Verdict> {
        if let Some(verdict) = response.extensions().get::<Verdict>() {
            return Some(*verdict);
        }
        let (status, headers) = (response.status(), response.headers());
        if self.protocol == Protocol::Grpc {
            if let Some(code) = GrpcCode::of(headers) {
                return Some(self.code(code, headers));
            }
            if Protocol::of(headers) == Protocol::Grpc {
                return match status {
                    StatusCode::OK => None,
                    StatusCode::TOO_MANY_REQUESTS => Some(Verdict::Throttled { retry_after: retry_after(headers) }),
                    other => Some(self.code(GrpcCode::from_http(other), headers)),
                };
            }
            self.protocol = Protocol::Rest;
        }
        if status.is_server_error() {
            Some(Verdict::Failure)
        } else if status == StatusCode::TOO_MANY_REQUESTS {
            Some(Verdict::Throttled { retry_after: retry_after(headers) })
        } else {
            self.head_only.then_some(Verdict::Success)
        }
    }

    #[inline]
    fn end(self, trailers: Option<&HeaderMap>) -> Verdict {
        match self.protocol {
            Protocol::Rest => Verdict::Success,
            Protocol::Grpc => trailers
                .and_then(|trailers| Some(self.code(GrpcCode::of(trailers)?, trailers)))
                .unwrap_or(Verdict::Failure),
        }
    }

    #[inline]
    fn wants_trailers(&self) -> bool {
        self.protocol == Protocol::Grpc
    }
}

/// `Retry-After` in seconds. The other form, a date, is not worth a clock and a parser here.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    headers.get(RETRY_AFTER)?.to_str().ok()?.parse().ok().map(Duration::from_secs)
}

fn pushback(headers: &HeaderMap) -> Option<Duration> {
    headers.get("grpc-retry-pushback-ms")?.to_str().ok()?.parse().ok().map(Duration::from_millis)
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::header::CONTENT_TYPE;

    const GRPC: &str = "application/grpc";

    fn response(status: u16, headers: &[(&'static str, &str)]) -> Response<()> {
        let mut builder = Response::builder().status(status);
        for (name, value) in headers {
            builder = builder.header(*name, *value);
        }
        builder.body(()).expect("a valid response")
    }

    fn rest() -> AutoResponse {
        AutoClassify.request(&Request::new(()))
    }

    fn grpc() -> AutoResponse {
        AutoClassify.request(&Request::builder().header(CONTENT_TYPE, GRPC).body(()).expect("a valid request"))
    }

    #[test]
    fn rest_goes_by_the_status() {
        assert_eq!(rest().head(&response(200, &[])), None);
        assert_eq!(rest().head(&response(404, &[])), None);
        assert_eq!(rest().end(None), Verdict::Success);
        assert_eq!(rest().head(&response(500, &[])), Some(Verdict::Failure));
        let throttled = Verdict::Throttled { retry_after: Some(Duration::from_secs(7)) };
        assert_eq!(rest().head(&response(429, &[("retry-after", "7")])), Some(throttled));
    }

    #[test]
    fn the_head_is_all_of_an_answer_to_head() {
        let request = Request::builder().method(Method::HEAD).body(()).expect("a valid request");
        assert_eq!(AutoClassify.request(&request).head(&response(200, &[])), Some(Verdict::Success));
    }

    #[test]
    fn a_verdict_in_the_extensions_wins() {
        let mut refused = response(503, &[]);
        refused.extensions_mut().insert(Verdict::Ignore);
        assert_eq!(rest().head(&refused), Some(Verdict::Ignore));
        assert_eq!(grpc().head(&refused), Some(Verdict::Ignore));
    }

    #[test]
    fn grpc_without_a_status_at_the_end_is_a_failure() {
        assert_eq!(grpc().head(&response(200, &[("content-type", GRPC)])), None);
        assert_eq!(grpc().end(None), Verdict::Failure);
        assert_eq!(grpc().end(Some(&HeaderMap::new())), Verdict::Failure);
    }

    #[test]
    fn grpc_statuses_are_read_from_head_and_trailers_alike() {
        let cases = [
            ("0", Verdict::Success),
            ("1", Verdict::Ignore),
            ("2", Verdict::Failure),
            ("3", Verdict::Success),
            ("4", Verdict::Failure),
            ("8", Verdict::Throttled { retry_after: None }),
            ("12", Verdict::Success),
            ("13", Verdict::Failure),
            ("14", Verdict::Failure),
            ("15", Verdict::Failure),
            ("x", Verdict::Failure),
        ];
        for (status, verdict) in cases {
            let response = response(200, &[("content-type", GRPC), ("grpc-status", status)]);
            assert_eq!(grpc().head(&response), Some(verdict), "{status} in the head");
            assert_eq!(grpc().end(Some(response.headers())), verdict, "{status} in the trailers");
        }
    }

    #[test]
    fn http_errors_without_a_grpc_status_are_mapped() {
        let head = |status| grpc().head(&response(status, &[("content-type", GRPC)]));
        for failure in [400, 500, 502, 503, 504] {
            assert_eq!(head(failure), Some(Verdict::Failure), "{failure}");
        }
        for fine in [401, 403, 404] {
            assert_eq!(head(fine), Some(Verdict::Success), "{fine}");
        }
        assert_eq!(head(429), Some(Verdict::Throttled { retry_after: None }));
    }

    #[test]
    fn asking_a_rest_route_in_grpc_breaks_nothing() {
        let mut call = grpc();
        assert_eq!(call.head(&response(200, &[("content-type", "application/json")])), None);
        assert_eq!(call.end(None), Verdict::Success);
        assert_eq!(grpc().head(&response(415, &[])), None);
        assert_eq!(grpc().head(&response(503, &[])), Some(Verdict::Failure));
    }

    #[test]
    fn a_deadline_that_the_client_set_is_no_failure() {
        let request = Request::builder().header(CONTENT_TYPE, GRPC).header("grpc-timeout", "1n").body(());
        let mut call = AutoClassify.request(&request.expect("a valid request"));
        let exceeded = response(200, &[("content-type", GRPC), ("grpc-status", "4")]);
        assert_eq!(call.head(&exceeded), Some(Verdict::Ignore));
    }

    #[test]
    fn a_grpc_service_says_in_milliseconds_when_to_come_back() {
        let retry_after = |pushback: &str| {
            let headers = [("content-type", GRPC), ("grpc-status", "8"), ("grpc-retry-pushback-ms", pushback)];
            match grpc().head(&response(200, &headers)) {
                Some(Verdict::Throttled { retry_after }) => retry_after,
                other => panic!("RESOURCE_EXHAUSTED is {other:?}"),
            }
        };
        assert_eq!(retry_after("250"), Some(Duration::from_millis(250)));
        assert_eq!(retry_after("-1"), None, "not at all, which is no time");
    }
}
