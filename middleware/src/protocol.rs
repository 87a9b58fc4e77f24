//! Which of the two wire protocols a request speaks.
//!
//! It looks at one header and nothing else: not at the HTTP version, not at the path. gRPC-web is *not* gRPC here (its
//! status travels in the body), so it is answered as REST; put these layers inside a gRPC-web translation.

use http::{HeaderMap, HeaderValue, header::CONTENT_TYPE};

/// The wire protocol of a request: decides how a rejection is written and where a status is looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// Plain HTTP: the status code says how it went.
    Rest,
    /// gRPC over HTTP/2: `grpc-status` in the trailers (or in the headers, when there is no body) says how it went.
    Grpc,
}

impl Protocol {
    /// The protocol of the request (or response) with these headers: [`Protocol::Grpc`] when the content type is
    /// `application/grpc`, alone or followed by `+format` or `;parameters`.
    ///
    /// ```
    /// use campanile_middleware::Protocol;
    /// use http::{HeaderMap, HeaderValue, header::CONTENT_TYPE};
    ///
    /// let mut headers = HeaderMap::new();
    /// assert_eq!(Protocol::of(&headers), Protocol::Rest);
    /// headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc+proto"));
    /// assert_eq!(Protocol::of(&headers), Protocol::Grpc);
    /// ```
    #[must_use]
    #[inline]
    pub fn of(headers: &HeaderMap) -> Self {
        match headers.get(CONTENT_TYPE) {
            Some(value) if is_grpc(value) => Self::Grpc,
            _ => Self::Rest,
        }
    }

    /// `"rest"` or `"grpc"`, as it stands in logs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Rest => "rest",
            Self::Grpc => "grpc",
        }
    }
}

fn is_grpc(content_type: &HeaderValue) -> bool {
    const GRPC: &[u8] = b"application/grpc";
    let value = content_type.as_bytes();
    match value.split_at_checked(GRPC.len()) {
        Some((start, rest)) => {
            start.eq_ignore_ascii_case(GRPC) && matches!(rest.first(), None | Some(b'+' | b';' | b' '))
        }
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_grpc_itself_is_grpc() {
        let of = |value: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(value));
            Protocol::of(&headers)
        };
        for grpc in ["application/grpc", "application/grpc+proto", "application/grpc;x=1", "Application/GRPC"] {
            assert_eq!(of(grpc), Protocol::Grpc, "{grpc}");
        }
        for rest in ["application/grpc-web", "application/grpc-web+proto", "application/json", "application/gr", ""] {
            assert_eq!(of(rest), Protocol::Rest, "{rest}");
        }
    }
}
