//! Bodies that are fed by hand, services that are scripted, and a log that can be read.

use std::{
    cell::RefCell,
    convert::Infallible,
    fmt::Debug,
    pin::Pin,
    sync::Once,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body::{Body, Frame};
use http_body_util::{BodyExt, Empty, Full};
use tokio::sync::mpsc;
use tracing::{Event, Level, Metadata, Subscriber, field::Visit, subscriber::Interest};
use tracing_subscriber::{
    layer::{Context as LayerContext, Layer, SubscriberExt},
    registry,
};

pub(crate) type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A body whose frames come from a channel; it ends when the sender is dropped.
#[derive(Debug)]
pub(crate) struct Fed(mpsc::UnboundedReceiver<Result<Frame<Bytes>, BoxError>>);

pub(crate) type Feed = mpsc::UnboundedSender<Result<Frame<Bytes>, BoxError>>;

pub(crate) fn fed() -> (Feed, Fed) {
    let (feed, frames) = mpsc::unbounded_channel();
    (feed, Fed(frames))
}

impl Body for Fed {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        self.0.poll_recv(cx)
    }
}

pub(crate) fn data(text: &'static str) -> Result<Frame<Bytes>, BoxError> {
    Ok(Frame::data(Bytes::from_static(text.as_bytes())))
}

pub(crate) fn trailers(grpc_status: &'static str) -> Result<Frame<Bytes>, BoxError> {
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", grpc_status.parse().expect("valid"));
    Ok(Frame::trailers(trailers))
}

pub(crate) fn get(path: &str) -> Request<Empty<Bytes>> {
    Request::get(path).body(Empty::new()).expect("a valid request")
}

pub(crate) fn grpc(path: &str) -> Request<Empty<Bytes>> {
    Request::post(path).header("content-type", "application/grpc").body(Empty::new()).expect("a valid request")
}

pub(crate) fn text(status: u16, text: &'static str) -> Response<Full<Bytes>> {
    Response::builder().status(status).body(Full::new(Bytes::from_static(text.as_bytes()))).expect("a valid response")
}

/// A service that always answers so.
pub(crate) async fn answer(status: u16) -> Result<Response<Full<Bytes>>, Infallible> {
    Ok(text(status, "answer"))
}

/// The `code` of a problem, or "" when it is none.
pub(crate) async fn problem_code<B>(response: Response<B>) -> String
where
    B: Body<Data = Bytes>,
    B::Error: Debug,
{
    let body = response.into_body().collect().await.expect("a whole body").to_bytes();
    let body = String::from_utf8_lossy(&body).into_owned();
    let code = body.split_once(r#""code":""#).and_then(|(_, rest)| rest.split_once('"'));
    code.map(|(code, _)| code.to_owned()).unwrap_or_default()
}

/// One event: its level, target, message and fields.
#[derive(Debug, Clone, Default)]
pub(crate) struct Logged {
    pub(crate) level: Option<Level>,
    pub(crate) target: String,
    pub(crate) message: String,
    pub(crate) fields: Vec<(&'static str, String)>,
}

impl Logged {
    pub(crate) fn field(&self, name: &str) -> &str {
        self.fields.iter().find(|(field, _)| *field == name).map_or("", |(_, value)| value)
    }
}

impl Visit for Logged {
    fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn Debug) {
        if field.name() == "message" {
            self.message = format!("{value:?}");
        } else {
            self.fields.push((field.name(), format!("{value:?}")));
        }
    }

    fn record_str(&mut self, field: &tracing::field::Field, value: &str) {
        self.fields.push((field.name(), value.to_owned()));
    }
}

thread_local! {
    static LOG: RefCell<Option<(Level, Vec<Logged>)>> = const { RefCell::new(None) };
}

struct Recorder;

impl<S: Subscriber> Layer<S> for Recorder {
    fn register_callsite(&self, _: &'static Metadata<'static>) -> Interest {
        Interest::sometimes()
    }

    fn enabled(&self, metadata: &Metadata<'_>, _: LayerContext<'_, S>) -> bool {
        LOG.with_borrow(|log| log.as_ref().is_some_and(|(max, _)| metadata.level() <= max))
    }

    fn on_event(&self, event: &Event<'_>, _: LayerContext<'_, S>) {
        let level = Some(*event.metadata().level());
        let mut logged = Logged { level, target: event.metadata().target().to_owned(), ..Logged::default() };
        event.record(&mut logged);
        LOG.with_borrow_mut(|log| {
            if let Some((_, events)) = log {
                events.push(logged);
            }
        });
    }
}

/// Records what this thread logs, up to `max`. Tests on one thread see their own events and no others.
pub(crate) fn record_log(max: Level) {
    static INSTALL: Once = Once::new();
    INSTALL.call_once(|| {
        tracing::subscriber::set_global_default(registry().with(Recorder)).expect("no other subscriber");
    });
    LOG.set(Some((max, Vec::new())));
}

pub(crate) fn logged(target: &str) -> Vec<Logged> {
    LOG.with_borrow(|log| {
        let events = log.iter().flat_map(|(_, events)| events);
        events.filter(|event| event.target.starts_with(target)).cloned().collect()
    })
}
