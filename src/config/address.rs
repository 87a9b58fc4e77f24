//! `HOST:PORT`, as it is typed. Not resolved: that is done when it is used, since an answer can change.

use std::{fmt, str::FromStr};

/// A host and a port. The host is a name, an IPv4 address, or an IPv6 address in brackets.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Address {
    host: String,
    port: u16,
}

/// Why a text is no address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadAddress {
    /// There is no colon, or nothing before it.
    #[error("is not HOST:PORT")]
    Shape,
    /// The part after the last colon is no port.
    #[error("has no port from 0 to 65535 after its last colon")]
    Port,
    /// The part before the last colon is no host.
    #[error("has no host name or address before its port (an IPv6 address stands in brackets)")]
    Host,
}

impl Address {
    /// The host as it was typed; an IPv6 address keeps its brackets.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }
}

impl FromStr for Address {
    type Err = BadAddress;

    fn from_str(text: &str) -> Result<Self, BadAddress> {
        let (host, port) = text.rsplit_once(':').ok_or(BadAddress::Shape)?;
        // `parse` alone would take a sign.
        let port = Some(port).filter(|p| p.bytes().all(|b| b.is_ascii_digit()));
        let port = port.and_then(|p| p.parse().ok()).ok_or(BadAddress::Port)?;
        if is_host(host) { Ok(Self { host: host.to_owned(), port }) } else { Err(BadAddress::Host) }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

fn is_host(host: &str) -> bool {
    match host.strip_prefix('[') {
        Some(rest) => rest.strip_suffix(']').is_some_and(|v6| v6.parse::<std::net::Ipv6Addr>().is_ok()),
        None => !host.is_empty() && host.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_addresses_are_taken_as_typed() {
        for good in ["localhost:50051", "127.0.0.1:0", "0.0.0.0:8001", "[::1]:8001", "broker-1.campanile_net:50051"] {
            assert_eq!(good.parse::<Address>().map(|a| a.to_string()).as_deref(), Ok(good));
        }
    }

    #[test]
    fn anything_else_is_refused() {
        use BadAddress::{Host, Port, Shape};
        let cases = [
            ("localhost", Shape),
            ("", Shape),
            ("localhost:", Port),
            ("localhost:65536", Port),
            ("localhost:+1", Port),
            ("localhost:http", Port),
            (":8001", Host),
            ("http://a:8001", Host),
            ("::1:8001", Host),
            ("[::g]:8001", Host),
            ("a b:1", Host),
        ];
        for (bad, why) in cases {
            assert_eq!(bad.parse::<Address>(), Err(why), "{bad}");
        }
    }
}
