//! A response body that tells a guard how it ended, or that is a rejection written by a layer.
//!
//! It neither buffers nor changes a byte. Invariant: the guard learns of exactly one end. It is consumed by
//! [`BodyGuard::end`] or [`BodyGuard::error`], or else dropped, which means that nobody wanted the rest.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

use crate::unwind::dropping_on_unwind;

/// What wants to know how a response body ends: a permit, a log entry.
///
/// Dropping a guard means that the body was dropped before its end; on an unwinding thread, that the body panicked.
pub trait BodyGuard: Sized {
    /// `bytes` more were handed out.
    fn data(&mut self, bytes: usize) {
        let _ = bytes;
    }

    /// Whether the trailers matter. If not, a body is over with the last byte of its exact size: a server need not
    /// poll it again, and may drop it there.
    fn wants_trailers(&self) -> bool {
        false
    }

    /// The body is complete.
    fn end(self, trailers: Option<&HeaderMap>);

    /// The body failed.
    fn error(self);
}

/// No guard: for layers that only need to answer with rejections.
impl BodyGuard for () {
    fn end(self, _: Option<&HeaderMap>) {}
    fn error(self) {}
}

pin_project! {
    /// A body `B` watched by a guard `G`, or the bytes of a rejection.
    ///
    /// `is_end_stream()` of an empty rejection is true before it is polled, so that a server puts END_STREAM on the
    /// HEADERS frame, as trailers-only gRPC demands.
    #[derive(Debug)]
    pub struct GuardedBody<B, G = ()> {
        #[pin]
        source: Source<B>,
        guard: Option<G>,
    }
}

pin_project! {
    #[project = SourceProj]
    #[derive(Debug)]
    enum Source<B> {
        Body { #[pin] body: B },
        Rejection { bytes: Option<Bytes> },
    }
}

impl<B, G> GuardedBody<B, G> {
    /// The body of a rejection; no guard, as nothing was admitted.
    #[must_use]
    #[inline]
    pub fn rejection(bytes: Bytes) -> Self {
        let bytes = (!bytes.is_empty()).then_some(bytes);
        Self { source: Source::Rejection { bytes }, guard: None }
    }

    /// `body`, watched by nobody.
    #[must_use]
    #[inline]
    pub fn unguarded(body: B) -> Self {
        Self { source: Source::Body { body }, guard: None }
    }
}

impl<B: Body, G: BodyGuard> GuardedBody<B, G> {
    /// `body`, watched by `guard` to its end. A body that is over already ends the guard here.
    #[must_use]
    #[inline]
    pub fn new(body: B, guard: G) -> Self {
        if is_over(&body, &guard) {
            guard.end(None);
            return Self::unguarded(body);
        }
        Self { source: Source::Body { body }, guard: Some(guard) }
    }
}

impl<B, G> Body for GuardedBody<B, G>
where
    B: Body<Data = Bytes>,
    G: BodyGuard,
{
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let this = self.project();
        let mut body = match this.source.project() {
            SourceProj::Body { body } => body,
            SourceProj::Rejection { bytes } => return Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
        };
        let polled = dropping_on_unwind(this.guard, || body.as_mut().poll_frame(cx));
        if polled.is_pending() {
            return Poll::Pending;
        }
        let Some(mut guard) = this.guard.take() else {
            return polled;
        };
        match &polled {
            Poll::Pending | Poll::Ready(None) => guard.end(None),
            Poll::Ready(Some(Err(_))) => guard.error(),
            Poll::Ready(Some(Ok(frame))) => {
                if let Some(trailers) = frame.trailers_ref() {
                    guard.end(Some(trailers));
                } else {
                    guard.data(frame.data_ref().map_or(0, Bytes::len));
                    if is_over(&*body, &guard) {
                        guard.end(None);
                    } else {
                        *this.guard = Some(guard);
                    }
                }
            }
        }
        polled
    }

    #[inline]
    fn is_end_stream(&self) -> bool {
        match &self.source {
            Source::Body { body } => body.is_end_stream(),
            Source::Rejection { bytes } => bytes.is_none(),
        }
    }

    #[inline]
    fn size_hint(&self) -> SizeHint {
        match &self.source {
            Source::Body { body } => body.size_hint(),
            Source::Rejection { bytes } => SizeHint::with_exact(bytes.as_ref().map_or(0, Bytes::len) as u64),
        }
    }
}

/// Servers do not poll a body again that says it is over, nor (HTTP/1) one that has filled its content length.
#[inline]
fn is_over<B: Body, G: BodyGuard>(body: &B, guard: &G) -> bool {
    body.is_end_stream() || (!guard.wants_trailers() && body.size_hint().exact() == Some(0))
}
