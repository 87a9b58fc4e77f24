//! A connection that waits for its client only so long.
//!
//! hyper has no timer while it finds out which HTTP version a client speaks, and none while a client does not read.
//! Not here: the pause between two requests and the later heads of a connection (hyper's own header timer), bodies
//! (the deadline of the request), HTTP/2 connections that fall silent (hyper's pings).

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep, sleep},
};

/// How long a client may take.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience {
    /// From the connection to the end of its first head, or of the HTTP/2 preface.
    pub(super) first_head: Duration,
    /// From the moment its buffers are full until it reads on.
    pub(super) read_on: Duration,
}

/// A stream whose reads and writes end with [`io::ErrorKind::TimedOut`] when [`Patience`] does.
#[derive(Debug)]
pub(super) struct PatientIo<I> {
    io: I,
    patience: Patience,
    first_head: Option<(Head, Pin<Box<Sleep>>)>,
    stalled: Option<Pin<Box<Sleep>>>,
}

impl<I> PatientIo<I> {
    pub(super) fn new(io: I, patience: Patience) -> Self {
        let first_head = Some((Head::default(), Box::pin(sleep(patience.first_head))));
        Self { io, patience, first_head, stalled: None }
    }

    fn stall<T>(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.stalled = None;
            return written;
        }
        let read_on = self.patience.read_on;
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(sleep(read_on)));
        match stalled.as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for PatientIo<I> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let me = self.get_mut();
        let before = buf.filled().len();
        let read = Pin::new(&mut me.io).poll_read(cx, buf);
        let Some((head, deadline)) = &mut me.first_head else { return read };
        head.feed(&buf.filled()[before..]);
        if head.is_complete() {
            me.first_head = None;
        } else if deadline.deadline() <= Instant::now() || (read.is_pending() && deadline.as_mut().poll(cx).is_ready())
        {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        read
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for PatientIo<I> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let me = self.get_mut();
        let written = Pin::new(&mut me.io).poll_write(cx, bytes);
        me.stall(cx, written)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let me = self.get_mut();
        let written = Pin::new(&mut me.io).poll_write_vectored(cx, slices);
        me.stall(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let me = self.get_mut();
        let flushed = Pin::new(&mut me.io).poll_flush(cx);
        me.stall(cx, flushed)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let me = self.get_mut();
        let shut = Pin::new(&mut me.io).poll_shutdown(cx);
        me.stall(cx, shut)
    }
}

/// What was seen of the first head: it ends with an empty line, the HTTP/2 preface with its second one.
#[derive(Debug, Default)]
struct Head {
    seen: usize,
    is_preface: bool,
    line: Line,
    empty_lines: u8,
}

/// Where in a line the last byte was.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Line {
    #[default]
    Within,
    AtStart,
}

impl Head {
    /// The preface up to its first empty line.
    const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\n";

    fn feed(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.is_preface = (self.is_preface || self.seen == 0)
                && Self::PREFACE.get(self.seen).is_none_or(|expected| expected == byte);
            self.seen = self.seen.saturating_add(1);
            self.line = match (byte, self.line) {
                (b'\n', Line::AtStart) => {
                    self.empty_lines = self.empty_lines.saturating_add(1);
                    Line::AtStart
                }
                // HTTP parsers take a bare line feed as the end of a line too.
                (b'\n', Line::Within) | (b'\r', Line::AtStart) => Line::AtStart,
                _ => Line::Within,
            };
            if self.is_complete() {
                return;
            }
        }
    }

    fn is_complete(&self) -> bool {
        self.empty_lines >= if self.is_preface { 2 } else { 1 }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};

    use super::*;

    const PATIENCE: Patience = Patience { first_head: Duration::from_secs(10), read_on: Duration::from_secs(30) };

    fn complete_at(bytes: &[u8]) -> Option<usize> {
        let mut head = Head::default();
        for (n, byte) in bytes.iter().enumerate() {
            head.feed(&[*byte]);
            if head.is_complete() {
                return Some(n + 1);
            }
        }
        None
    }

    #[test]
    fn a_head_ends_with_an_empty_line_and_the_preface_with_its_second() {
        for whole in [
            "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET / HTTP/1.1\n\n",
            "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            "PRI / HTTP/1.1\r\n\r\n",
        ] {
            assert_eq!(complete_at(format!("{whole}rest").as_bytes()), Some(whole.len()), "{whole:?}");
        }
        for half in ["", "GET / HTTP/1.1\r\nHost: a\r\n", "PRI * HTTP/2.0\r\n\r\nSM", "\r"] {
            assert_eq!(complete_at(half.as_bytes()), None, "{half:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_sends_no_head_is_given_up() {
        for sent in ["", "GET / HTT", "PRI * HTTP/2.0\r\n\r\n"] {
            let (mut client, server) = duplex(1024);
            let mut server = PatientIo::new(server, PATIENCE);
            client.write_all(sent.as_bytes()).await.expect("room");
            let start = Instant::now();
            let error = server.read_to_end(&mut Vec::new()).await.expect_err("no end of the head");
            assert_eq!((error.kind(), start.elapsed()), (io::ErrorKind::TimedOut, PATIENCE.first_head), "{sent:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_trickles_its_head_is_given_up() {
        let (mut client, server) = duplex(1024);
        let mut server = PatientIo::new(server, PATIENCE);
        tokio::spawn(async move {
            while client.write_all(b"x").await.is_ok() {
                sleep(Duration::from_secs(1)).await;
            }
        });
        let error = server.read_to_end(&mut Vec::new()).await.expect_err("no end of the head");
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test(start_paused = true)]
    async fn after_its_head_a_client_may_be_silent() {
        let (mut client, server) = duplex(1024);
        let mut server = PatientIo::new(server, PATIENCE);
        client.write_all(b"GET / HTTP/1.1\r\n\r\n").await.expect("room");
        let mut byte = [0; 18];
        server.read_exact(&mut byte).await.expect("the head");
        let silent = tokio::time::timeout(Duration::from_secs(3600), server.read_u8()).await;
        assert!(silent.is_err(), "nothing was read, and no error");
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_does_not_read_is_given_up() {
        let (_client, server) = duplex(8);
        let mut server = PatientIo::new(server, PATIENCE);
        let start = Instant::now();
        let error = server.write_all(&[0; 9]).await.expect_err("nobody reads");
        assert_eq!((error.kind(), start.elapsed()), (io::ErrorKind::TimedOut, PATIENCE.read_on));
    }
}
