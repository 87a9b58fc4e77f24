//! A request body that can be sent again: what the first attempt streamed is kept, up to a limit, for the next.
//!
//! It never reads ahead of the attempt that is under way, and copies nothing (chunks are shared). Invariant: one attempt
//! at a time reads from the source; the body of an abandoned attempt gets [`ReplayError`] instead of stolen frames.

use std::{
    error::Error,
    fmt,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};

/// A body in very small pieces would cost more than its bytes: past so many it is not kept either.
const CHUNKS_MAX: usize = 1024;

type BoxError = Box<dyn Error + Send + Sync>;

/// Why a [`ReplayBody`] broke off.
#[derive(Debug)]
#[non_exhaustive]
pub enum ReplayError {
    /// The body of the original request failed.
    Source(BoxError),
    /// The attempt that this body belongs to was abandoned, and a later one is under way.
    Superseded,
}

impl fmt::Display for ReplayError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Source(_) => f.write_str("the request body failed"),
            Self::Superseded => f.write_str("the attempt was abandoned"),
        }
    }
}

impl Error for ReplayError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Source(error) => Some(&**error),
            Self::Superseded => None,
        }
    }
}

/// The body of one attempt at a request.
///
/// Needs `B: Unpin`, as bodies of axum, tonic and hyper are: the source stays where every attempt can reach it.
#[derive(Debug)]
pub struct ReplayBody<B> {
    /// `None` for a request without a body.
    tape: Option<Arc<Mutex<Tape<B>>>>,
    attempt: u64,
    /// The next kept chunk to send.
    next: usize,
    trailers_sent: bool,
}

/// The request's side of it: makes the bodies of the attempts.
#[derive(Debug)]
pub(crate) struct Replay<B> {
    tape: Option<Arc<Mutex<Tape<B>>>>,
}

#[derive(Debug)]
struct Tape<B> {
    source: B,
    source_state: SourceState,
    /// What was read so far; empty once `kept` is false.
    chunks: Vec<Bytes>,
    chunks_bytes: usize,
    trailers: Option<HeaderMap>,
    /// False when something was read that is not in `chunks`: what is gone cannot be sent again.
    kept: bool,
    limit_bytes: usize,
    attempt: u64,
    /// Of the attempt that waits for the source, to tell it when it is superseded.
    waker: Option<Waker>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum SourceState {
    Open,
    Ended,
    Failed,
}

impl<B: Body<Data = Bytes>> Replay<B> {
    /// Keeps at most `limit_bytes` of `body`.
    pub(crate) fn new(body: B, limit_bytes: usize) -> Self {
        if body.is_end_stream() {
            return Self { tape: None };
        }
        // A body that says it is too long is not kept at all, rather than up to the limit and then thrown away.
        let limit_bytes = if body.size_hint().lower() > limit_bytes as u64 { 0 } else { limit_bytes };
        let tape = Tape {
            source: body,
            source_state: SourceState::Open,
            chunks: Vec::new(),
            chunks_bytes: 0,
            trailers: None,
            kept: true,
            limit_bytes,
            attempt: 0,
            waker: None,
        };
        Self { tape: Some(Arc::new(Mutex::new(tape))) }
    }

    /// The whole body again, for the next attempt; the body of the attempt before it breaks off. `None` when what was
    /// sent is past the limit.
    pub(crate) fn body(&self) -> Option<ReplayBody<B>> {
        let mut attempt = 0;
        if let Some(tape) = &self.tape {
            let mut tape = lock(tape);
            if !tape.can_replay() {
                return None;
            }
            tape.attempt += 1;
            attempt = tape.attempt;
            let superseded = tape.waker.take();
            drop(tape);
            if let Some(waker) = superseded {
                waker.wake();
            }
        }
        Some(ReplayBody { tape: self.tape.clone(), attempt, next: 0, trailers_sent: false })
    }

    /// Whether [`Replay::body`] would give a body.
    pub(crate) fn can_replay(&self) -> bool {
        self.tape.as_ref().is_none_or(|tape| lock(tape).can_replay())
    }

    /// Whether the original body failed: then it is the sender's fault that an attempt failed.
    pub(crate) fn source_failed(&self) -> bool {
        self.tape.as_ref().is_some_and(|tape| lock(tape).source_state == SourceState::Failed)
    }
}

impl<B> Tape<B> {
    fn can_replay(&self) -> bool {
        self.kept && self.source_state != SourceState::Failed
    }

    fn keep(&mut self, chunk: &Bytes) {
        if !self.kept {
            return;
        }
        self.chunks_bytes += chunk.len();
        if self.chunks_bytes > self.limit_bytes || self.chunks.len() >= CHUNKS_MAX {
            self.kept = false;
            self.chunks = Vec::new();
        } else {
            self.chunks.push(chunk.clone());
        }
    }
}

impl<B> Body for ReplayBody<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = ReplayError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, ReplayError>>> {
        let this = self.get_mut();
        let Some(tape) = &this.tape else {
            return Poll::Ready(None);
        };
        // Held while the source is polled: only the attempt under way does that, and only a superseding one waits.
        let mut tape = lock(tape);
        if tape.attempt != this.attempt {
            return Poll::Ready(Some(Err(ReplayError::Superseded)));
        }
        if let Some(chunk) = tape.chunks.get(this.next) {
            this.next += 1;
            return Poll::Ready(Some(Ok(Frame::data(chunk.clone()))));
        }
        if tape.source_state != SourceState::Open {
            let trailers = tape.trailers.clone().filter(|_| !this.trailers_sent);
            this.trailers_sent = true;
            return Poll::Ready(trailers.map(|trailers| Ok(Frame::trailers(trailers))));
        }
        match Pin::new(&mut tape.source).poll_frame(cx) {
            Poll::Pending => {
                tape.waker = Some(cx.waker().clone());
                Poll::Pending
            }
            Poll::Ready(None) => {
                tape.source_state = SourceState::Ended;
                Poll::Ready(None)
            }
            Poll::Ready(Some(Err(error))) => {
                tape.source_state = SourceState::Failed;
                Poll::Ready(Some(Err(ReplayError::Source(error.into()))))
            }
            Poll::Ready(Some(Ok(frame))) => {
                if let Some(chunk) = frame.data_ref() {
                    tape.keep(chunk);
                    this.next = tape.chunks.len();
                } else if let Some(trailers) = frame.trailers_ref() {
                    tape.trailers = Some(trailers.clone());
                    tape.source_state = SourceState::Ended;
                    this.trailers_sent = true;
                }
                Poll::Ready(Some(Ok(frame)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        let Some(tape) = &self.tape else { return true };
        let tape = lock(tape);
        if tape.attempt != self.attempt || self.next < tape.chunks.len() {
            return false;
        }
        match tape.source_state {
            SourceState::Open => tape.source.is_end_stream(),
            SourceState::Ended => tape.trailers.is_none() || self.trailers_sent,
            SourceState::Failed => true,
        }
    }

    fn size_hint(&self) -> SizeHint {
        let Some(tape) = &self.tape else { return SizeHint::with_exact(0) };
        let tape = lock(tape);
        let kept: usize = tape.chunks.iter().skip(self.next).map(Bytes::len).sum();
        let rest = match tape.source_state {
            SourceState::Open => tape.source.size_hint(),
            SourceState::Ended | SourceState::Failed => SizeHint::with_exact(0),
        };
        let mut hint = SizeHint::new();
        hint.set_lower(rest.lower().saturating_add(kept as u64));
        if let Some(upper) = rest.upper().and_then(|upper| upper.checked_add(kept as u64)) {
            hint.set_upper(upper);
        }
        hint
    }
}

fn lock<B>(tape: &Mutex<Tape<B>>) -> MutexGuard<'_, Tape<B>> {
    // A source that panicked while polled leaves a tape that is still true: nothing was taken from it.
    tape.lock().unwrap_or_else(PoisonError::into_inner)
}
