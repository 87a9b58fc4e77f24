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

#[cfg(test)]
mod tests {
    use std::{collections::VecDeque, convert::Infallible};

    use http::{HeaderValue, header::ETAG};
    use http_body_util::Full;

    use super::*;

    const LIMIT: usize = 1024;

    /// Frames, and an end that is not known before it is reached.
    struct Frames(VecDeque<Frame<Bytes>>);

    impl Body for Frames {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            Poll::Ready(self.0.pop_front().map(Ok))
        }
    }

    fn data() -> Frame<Bytes> {
        Frame::data(Bytes::from_static(b"body"))
    }

    fn trailers() -> HeaderMap {
        HeaderMap::from_iter([(ETAG, HeaderValue::from_static("1"))])
    }

    /// The next frame; nothing here is ever pending.
    fn next<B: Body<Data = Bytes, Error = Infallible> + Unpin>(body: &mut ReplayBody<B>) -> Option<Frame<Bytes>> {
        match Pin::new(body).poll_frame(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(frame) => frame.transpose().expect("no failure"),
            Poll::Pending => None,
        }
    }

    #[test]
    fn every_attempt_says_how_much_is_left_and_when_it_is_over() {
        let replay = Replay::new(Full::new(Bytes::from_static(b"body")), LIMIT);
        for attempt in 0..3 {
            let mut body = replay.body().expect("all is kept");
            assert_eq!((body.is_end_stream(), body.size_hint().exact()), (false, Some(4)), "attempt {attempt}");
            assert_eq!(next(&mut body).and_then(|frame| frame.into_data().ok()), data().into_data().ok());
            assert_eq!((body.is_end_stream(), body.size_hint().exact()), (true, Some(0)), "attempt {attempt}");
        }
    }

    #[test]
    fn a_body_is_over_in_every_attempt_after_its_trailers_or_when_there_are_none() {
        for with_trailers in [true, false] {
            let tail = with_trailers.then(|| Frame::trailers(trailers()));
            let replay = Replay::new(Frames([data()].into_iter().chain(tail).collect()), LIMIT);
            for attempt in 0..3 {
                let mut body = replay.body().expect("all is kept");
                assert!(next(&mut body).is_some_and(|frame| frame.is_data()));
                assert_eq!(body.is_end_stream(), attempt > 0 && !with_trailers, "the first cannot know");
                let last = next(&mut body).and_then(|frame| frame.into_trailers().ok());
                assert_eq!(last, with_trailers.then(trailers), "attempt {attempt}");
                assert!(body.is_end_stream(), "attempt {attempt}");
                assert!(next(&mut body).is_none(), "attempt {attempt}");
            }
        }
    }

    #[test]
    fn a_body_that_is_superseded_breaks_off_even_at_its_end() {
        let replay = Replay::new(Full::new(Bytes::from_static(b"body")), LIMIT);
        let mut first = replay.body().expect("all is kept");
        assert!(next(&mut first).is_some());
        let _second = replay.body().expect("all is kept");
        assert!(!first.is_end_stream(), "else it would pass for a whole request");
        let polled = Pin::new(&mut first).poll_frame(&mut Context::from_waker(Waker::noop()));
        assert!(matches!(polled, Poll::Ready(Some(Err(ReplayError::Superseded)))));
    }

    #[test]
    fn an_error_tells_whose_fault_it_was() {
        let broken = ReplayError::Source("gone".into());
        assert_eq!(broken.to_string(), "the request body failed");
        assert_eq!(broken.source().map(ToString::to_string).as_deref(), Some("gone"));
        assert_eq!(ReplayError::Superseded.to_string(), "the attempt was abandoned");
        assert!(ReplayError::Superseded.source().is_none());
    }
}
