//! The seventeen gRPC status codes, as numbers on the wire.
//!
//! Not a dependency on any gRPC crate: layers that only read and write `grpc-status` need no more than this.

use std::fmt;

use http::{HeaderMap, HeaderName, StatusCode};

/// The header (or trailer) that carries the status of a gRPC call.
pub(crate) static GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");

/// The header with the time that a client gives a call.
pub(crate) static GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");

/// A gRPC status code. The discriminants are the numbers of the gRPC protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the names are those of the gRPC specification")]
#[repr(i32)]
pub enum GrpcCode {
    Ok = 0,
    Cancelled = 1,
    Unknown = 2,
    InvalidArgument = 3,
    DeadlineExceeded = 4,
    NotFound = 5,
    AlreadyExists = 6,
    PermissionDenied = 7,
    ResourceExhausted = 8,
    FailedPrecondition = 9,
    Aborted = 10,
    OutOfRange = 11,
    Unimplemented = 12,
    Internal = 13,
    Unavailable = 14,
    DataLoss = 15,
    Unauthenticated = 16,
}

const CODES: [GrpcCode; 17] = [
    GrpcCode::Ok,
    GrpcCode::Cancelled,
    GrpcCode::Unknown,
    GrpcCode::InvalidArgument,
    GrpcCode::DeadlineExceeded,
    GrpcCode::NotFound,
    GrpcCode::AlreadyExists,
    GrpcCode::PermissionDenied,
    GrpcCode::ResourceExhausted,
    GrpcCode::FailedPrecondition,
    GrpcCode::Aborted,
    GrpcCode::OutOfRange,
    GrpcCode::Unimplemented,
    GrpcCode::Internal,
    GrpcCode::Unavailable,
    GrpcCode::DataLoss,
    GrpcCode::Unauthenticated,
];

impl GrpcCode {
    /// The number on the wire, 0 to 16.
    #[must_use]
    pub const fn as_i32(self) -> i32 {
        self as i32
    }

    /// The code with this number; [`GrpcCode::Unknown`] for a number that the specification does not name.
    #[must_use]
    pub fn from_i32(number: i32) -> Self {
        usize::try_from(number).ok().and_then(|index| CODES.get(index).copied()).unwrap_or(Self::Unknown)
    }

    /// The `grpc-status` in these headers or trailers; `None` when there is none, [`GrpcCode::Unknown`] when it is not
    /// a number.
    #[must_use]
    pub fn of(headers: &HeaderMap) -> Option<Self> {
        let value = headers.get(&GRPC_STATUS)?;
        let number = value.to_str().ok().and_then(|text| text.parse().ok());
        Some(number.map_or(Self::Unknown, Self::from_i32))
    }

    /// What a response without any `grpc-status` means, by the table in the gRPC specification
    /// ("HTTP to gRPC Status Code Mapping").
    #[must_use]
    pub fn from_http(status: StatusCode) -> Self {
        match status.as_u16() {
            400 => Self::Internal,
            401 => Self::Unauthenticated,
            403 => Self::PermissionDenied,
            404 => Self::Unimplemented,
            429 | 502 | 503 | 504 => Self::Unavailable,
            _ => Self::Unknown,
        }
    }

    /// Whether the code blames the service: UNKNOWN, DEADLINE_EXCEEDED, INTERNAL, UNAVAILABLE or DATA_LOSS.
    #[must_use]
    pub const fn is_server_fault(self) -> bool {
        matches!(self, Self::Unknown | Self::DeadlineExceeded | Self::Internal | Self::Unavailable | Self::DataLoss)
    }
}

impl fmt::Display for GrpcCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_i32().fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    #[test]
    fn numbers_go_there_and_back() {
        for number in 0..17 {
            assert_eq!(GrpcCode::from_i32(number).as_i32(), number);
        }
        assert_eq!(GrpcCode::from_i32(17), GrpcCode::Unknown);
        assert_eq!(GrpcCode::from_i32(-1), GrpcCode::Unknown);
    }

    #[test]
    fn an_unreadable_status_is_unknown_and_an_absent_one_is_none() {
        let mut headers = HeaderMap::new();
        assert_eq!(GrpcCode::of(&headers), None);
        headers.insert(&GRPC_STATUS, HeaderValue::from_static("fourteen"));
        assert_eq!(GrpcCode::of(&headers), Some(GrpcCode::Unknown));
        headers.insert(&GRPC_STATUS, HeaderValue::from_static("14"));
        assert_eq!(GrpcCode::of(&headers), Some(GrpcCode::Unavailable));
    }

    #[test]
    fn a_status_of_http_means_what_the_specification_says() {
        use GrpcCode::{Internal, PermissionDenied, Unauthenticated, Unavailable, Unimplemented, Unknown};
        let table = [
            (400, Internal),
            (401, Unauthenticated),
            (403, PermissionDenied),
            (404, Unimplemented),
            (429, Unavailable),
            (502, Unavailable),
            (503, Unavailable),
            (504, Unavailable),
            (200, Unknown),
            (500, Unknown),
        ];
        for (status, code) in table {
            assert_eq!(GrpcCode::from_http(StatusCode::from_u16(status).expect("valid")), code, "{status}");
        }
    }
}
