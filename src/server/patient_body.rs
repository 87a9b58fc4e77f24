//! A request's body that has to arrive in time.
//!
//! The deadline of a request counts against the server: when it passes, the server was too slow. Without a shorter time
//! for the body, clients that send slowly could open an operation's circuit for everybody.

use std::{
    error::Error,
    fmt,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use tokio::time::{Sleep, sleep};
use tower::BoxError;

pin_project! {
    /// The body `B`, all of which has to arrive within a time. The time runs from the first wait: a body that came with
    /// its head never touches the timer.
    #[derive(Debug)]
    pub(super) struct PatientBody<B> {
        #[pin]
        body: B,
        time_max: Duration,
        late: Option<Pin<Box<Sleep>>>,
    }
}

impl<B> PatientBody<B> {
    pub(super) fn new(body: B, time_max: Duration) -> Self {
        Self { body, time_max, late: None }
    }
}

impl<B> Body for PatientBody<B>
where
    B: Body<Data = Bytes, Error: Into<BoxError>>,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = self.project();
        if let Poll::Ready(frame) = this.body.poll_frame(cx) {
            return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
        }
        let time_max = *this.time_max;
        let late = this.late.get_or_insert_with(|| Box::pin(sleep(time_max)));
        late.as_mut().poll(cx).map(|()| Some(Err(TooSlow::new().into())))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// The body took too long.
#[derive(Debug)]
struct TooSlow {
    /// What tonic looks for among the causes of an error: a status that blames the caller.
    status: tonic::Status,
}

impl TooSlow {
    const TEXT: &str = "it took too long to arrive";

    fn new() -> Self {
        Self { status: tonic::Status::cancelled(Self::TEXT) }
    }
}

impl fmt::Display for TooSlow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(Self::TEXT)
    }
}

impl Error for TooSlow {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.status)
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use http_body_util::{BodyExt as _, Full};
    use tokio::time::Instant;

    use super::*;

    const TIME_MAX: Duration = Duration::from_secs(60);

    /// A frame each 40 s, for ever.
    struct Trickle(Pin<Box<Sleep>>);

    impl Body for Trickle {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            std::task::ready!(self.0.as_mut().poll(cx));
            self.0 = Box::pin(sleep(Duration::from_secs(40)));
            Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(b"x")))))
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_trickles_is_given_up_and_blamed_on_the_caller() {
        let start = Instant::now();
        let body = PatientBody::new(Trickle(Box::pin(sleep(Duration::ZERO))), TIME_MAX);
        let error = body.collect().await.expect_err("too slow");
        assert_eq!(start.elapsed(), TIME_MAX);
        assert_eq!(tonic::Status::from_error(error).code(), tonic::Code::Cancelled);
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_is_there_is_untouched() {
        let body = PatientBody::new(Full::new(Bytes::from_static(b"abc")), TIME_MAX);
        assert_eq!(body.size_hint().exact(), Some(3));
        assert_eq!(body.collect().await.expect("whole").to_bytes(), "abc");
    }
}
