//! Telling from an error that a request was never processed.
//!
//! Invariant: what is not proven is answered with no.

use std::{error::Error, io};

/// Whether this error proves that no server has begun to process the request: a connection that could not be made, or,
/// with the feature `h2`, a stream that the server refused (`REFUSED_STREAM`, RFC 9113 section 8.7) or that is above the
/// last one that its GOAWAY says it takes (section 6.8), or, with the feature `hyper`, a request that hyper's client had not
/// begun to send when its connection closed. For [`RoundRobin::never_sent`](crate::RoundRobin::never_sent).
///
/// Looks through all the sources of the error, so it works on those of hyper, tonic and reqwest.
///
/// ```
/// use std::io;
///
/// let refused = io::Error::from(io::ErrorKind::ConnectionRefused);
/// assert!(campanile_middleware::is_never_sent(&refused));
/// let reset = io::Error::from(io::ErrorKind::ConnectionReset);
/// assert!(!campanile_middleware::is_never_sent(&reset));
/// ```
#[must_use]
pub fn is_never_sent(error: &(dyn Error + 'static)) -> bool {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if proves_it(error) {
            return true;
        }
        cause = error.source();
    }
    false
}

fn proves_it(error: &(dyn Error + 'static)) -> bool {
    if let Some(error) = error.downcast_ref::<io::Error>() {
        // An error of a connection that was there is none of these.
        return matches!(
            error.kind(),
            io::ErrorKind::ConnectionRefused
                | io::ErrorKind::HostUnreachable
                | io::ErrorKind::NetworkUnreachable
                | io::ErrorKind::AddrNotAvailable
        );
    }
    #[cfg(feature = "hyper")]
    if let Some(error) = error.downcast_ref::<hyper_util::client::legacy::Error>() {
        return error.is_connect();
    }
    #[cfg(feature = "hyper")]
    if let Some(error) = error.downcast_ref::<hyper::Error>() {
        // It says so only of a request that was still waiting to be sent, or that it gives back.
        return error.is_canceled();
    }
    #[cfg(feature = "h2")]
    if let Some(error) = error.downcast_ref::<h2::Error>() {
        let is_refused = error.is_reset() && error.reason() == Some(h2::Reason::REFUSED_STREAM);
        // h2 ends a stream with the server's GOAWAY only if the GOAWAY says that it was not taken, and a request that
        // finds the connection going away is not even sent. A stream that was taken goes on, and if it breaks that is an
        // error of the connection's I/O.
        return error.is_remote() && (is_refused || error.is_go_away());
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Outer(io::Error);

    impl std::fmt::Display for Outer {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("request failed")
        }
    }

    impl Error for Outer {
        fn source(&self) -> Option<&(dyn Error + 'static)> {
            Some(&self.0)
        }
    }

    #[test]
    fn the_sources_are_looked_through() {
        assert!(is_never_sent(&Outer(io::ErrorKind::ConnectionRefused.into())));
        assert!(!is_never_sent(&Outer(io::ErrorKind::BrokenPipe.into())));
        assert!(!is_never_sent(&Outer(io::ErrorKind::TimedOut.into())), "it may have timed out after it was sent");
    }
}
