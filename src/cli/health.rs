//! `campanile health`: one question to a running broker, for containers and supervisors.

use std::{
    io::{self, Read as _, Write as _},
    net::{IpAddr, SocketAddr, TcpStream, ToSocketAddrs as _},
    process::ExitCode,
    time::Duration,
};

use clap::ArgMatches;

use super::{answer, args, complain};
use crate::config::{Address, BadAddress, ConfigError};

/// Longest wait for the connection, and for each part of the answer.
const TIMEOUT: Duration = Duration::from_secs(3);

/// As much of the answer as is read; it has a few hundred bytes.
const ANSWER_BYTES_MAX: u64 = 16 << 10;

#[derive(Debug, thiserror::Error)]
enum Unhealthy {
    #[error(transparent)]
    Settings(#[from] ConfigError),
    #[error("--addr {addr}: it {problem}")]
    Addr { addr: String, problem: BadAddress },
    #[error("no answer from {addr}")]
    NoAnswer {
        addr: Address,
        #[source]
        source: io::Error,
    },
    #[error("{addr} answered: {answer}")]
    Degraded { addr: Address, answer: String },
}

pub(super) fn run(matches: &ArgMatches) -> ExitCode {
    match addr(matches).and_then(|addr| ask(&addr)) {
        Ok(text) => {
            answer(&text);
            ExitCode::SUCCESS
        }
        Err(error) => {
            complain(&error);
            ExitCode::FAILURE
        }
    }
}

fn addr(matches: &ArgMatches) -> Result<Address, Unhealthy> {
    match matches.get_one::<String>(args::ADDR) {
        Some(addr) => addr.parse().map_err(|problem| Unhealthy::Addr { addr: addr.clone(), problem }),
        None => Ok(args::raw(matches)?.validate()?.rest_addr),
    }
}

fn ask(addr: &Address) -> Result<String, Unhealthy> {
    let answer = exchange(addr).map_err(|source| Unhealthy::NoAnswer { addr: addr.clone(), source })?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    match head.split_whitespace().nth(1) {
        Some("200") => Ok(body.to_owned()),
        _ => Err(Unhealthy::Degraded { addr: addr.clone(), answer: format!("{} {body}", first_line(head)) }),
    }
}

fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default()
}

fn exchange(addr: &Address) -> io::Result<String> {
    let mut stream = connect(addr)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    // In one piece: a server that answers to the first part and closes would break off the rest.
    let request = format!("GET /health HTTP/1.1\r\nHost: {addr}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

fn connect(addr: &Address) -> io::Result<TcpStream> {
    let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for addr in (addr.host().trim_matches(['[', ']']), addr.port()).to_socket_addrs()? {
        match TcpStream::connect_timeout(&reachable(addr), TIMEOUT) {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// One can listen on "every address", but not connect to it.
fn reachable(addr: SocketAddr) -> SocketAddr {
    let ip = match addr.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::from([127, 0, 0, 1]),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1]),
        ip => ip,
    };
    SocketAddr::new(ip, addr.port())
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    fn served(answer: &'static str) -> Result<String, Unhealthy> {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let addr = listener.local_addr().expect("bound").to_string().parse().expect("an address");
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("a client");
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                stream.read_exact(&mut byte).expect("a request");
                request.push(byte[0]);
            }
            stream.write_all(answer.as_bytes()).expect("the client reads");
        });
        let asked = ask(&addr);
        server.join().expect("no panic");
        asked
    }

    #[test]
    fn only_a_200_is_healthy() {
        assert_eq!(served("HTTP/1.1 200 OK\r\n\r\n{}").expect("healthy"), "{}");
        let error = served("HTTP/1.1 503 Service Unavailable\r\n\r\n{\"reason\":\"r\"}").expect_err("degraded");
        assert!(error.to_string().ends_with("HTTP/1.1 503 Service Unavailable {\"reason\":\"r\"}"), "{error}");
        assert!(matches!(served(""), Err(Unhealthy::Degraded { .. })));
    }

    #[test]
    fn nobody_there_is_not_healthy() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let addr: Address = listener.local_addr().expect("bound").to_string().parse().expect("an address");
        drop(listener);
        assert!(matches!(ask(&addr), Err(Unhealthy::NoAnswer { .. })));
    }

    #[test]
    fn every_address_is_asked_at_loopback() {
        let at = |addr: &str| reachable(addr.parse().expect("valid")).to_string();
        assert_eq!(at("0.0.0.0:1"), "127.0.0.1:1");
        assert_eq!(at("[::]:1"), "[::1]:1");
        assert_eq!(at("10.0.0.1:1"), "10.0.0.1:1");
    }
}
