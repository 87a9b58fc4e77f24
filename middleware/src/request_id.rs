//! A name for every request, kept from end to end.
//!
//! It is a name, not a secret: generated ids do not repeat in practice, but are not meant to be hard to guess. Invariant:
//! the id in the extensions, in the forwarded request's header and in the response's header are the same.

use std::{
    fmt,
    hash::{BuildHasher, RandomState},
    pin::Pin,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Request, Response};
use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

/// The longest id that is kept.
const ID_BYTES_MAX: usize = 128;

const HEXADECIMAL: &[u8; 16] = b"0123456789abcdef";

/// Where the two digits of each byte stand in a UUID: 8-4-4-4-12.
const UUID_PLACES: [usize; 16] = [0, 2, 4, 6, 9, 11, 14, 16, 19, 21, 24, 26, 28, 30, 32, 34];

/// The id of a request, in its extensions. At most 128 visible ASCII characters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestId(HeaderValue);

impl RequestId {
    /// The header that carries it.
    pub const HEADER: HeaderName = HeaderName::from_static("x-request-id");

    /// As a header's value.
    #[must_use]
    pub fn header_value(&self) -> &HeaderValue {
        &self.0
    }

    /// As text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.to_str().unwrap_or_default()
    }

    /// An id that a client sent, if it is fit to be logged and sent on.
    fn checked(value: &HeaderValue) -> Option<Self> {
        let bytes = value.as_bytes();
        let fit = (1..=ID_BYTES_MAX).contains(&bytes.len()) && bytes.iter().all(u8::is_ascii_graphic);
        fit.then(|| Self(value.clone()))
    }

    /// 122 bits of a keyed hash of a counter, in the form of a version 4 UUID.
    fn random() -> Self {
        static KEYS: OnceLock<(RandomState, RandomState)> = OnceLock::new();
        static COUNTER: AtomicU64 = AtomicU64::new(0);
        let (high, low) = KEYS.get_or_init(Default::default);
        let count = COUNTER.fetch_add(1, Relaxed);
        let high = high.hash_one(count) & !0xf000 | 0x4000;
        let low = low.hash_one(count) & !(0b11 << 62) | 0b10 << 62;
        let id = u128::from(high) << 64 | u128::from(low);
        let mut text = [b'-'; 36];
        for (byte, place) in id.to_be_bytes().into_iter().zip(UUID_PLACES) {
            text[place] = HEXADECIMAL[usize::from(byte >> 4)];
            text[place + 1] = HEXADECIMAL[usize::from(byte & 0xf)];
        }
        // It is cloned three times, and as an owner of its own that takes nothing more from the allocator.
        let shared = HeaderValue::from_maybe_shared(Bytes::from_owner(text));
        Self(shared.expect("hexadecimal digits and dashes are a valid header"))
    }
}

type Make = dyn Fn() -> HeaderValue + Send + Sync;

/// Gives every request an id: the `x-request-id` that it brings, if that is 1 to 128 visible ASCII characters, else a
/// new one. It stands in the request's extensions ([`RequestId`]) and headers, and on every response.
///
/// ```
/// use std::convert::Infallible;
/// use campanile_middleware::{RequestId, RequestIdLayer};
/// use http::{Request, Response};
/// use tower::{Layer, ServiceExt, service_fn};
///
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// let service = RequestIdLayer::new().layer(service_fn(|request: Request<()>| async move {
///     let id = request.extensions().get::<RequestId>().expect("the layer gives one").as_str().to_owned();
///     Ok::<_, Infallible>(Response::new(id))
/// }));
/// let response = service.oneshot(Request::new(())).await.unwrap();
/// assert_eq!(response.headers()["x-request-id"], response.body().as_str());
/// # });
/// ```
#[derive(Clone)]
pub struct RequestIdLayer {
    make: Option<Arc<Make>>,
}

impl RequestIdLayer {
    /// New ids look like random UUIDs.
    #[must_use]
    pub fn new() -> Self {
        Self { make: None }
    }

    /// New ids come from `make`, for example time-ordered UUIDs.
    #[must_use]
    pub fn make(self, make: impl Fn() -> HeaderValue + Send + Sync + 'static) -> Self {
        Self { make: Some(Arc::new(make)) }
    }
}

impl Default for RequestIdLayer {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for RequestIdLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RequestIdLayer").finish_non_exhaustive()
    }
}

impl<S> Layer<S> for RequestIdLayer {
    type Service = RequestIdService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        RequestIdService { inner, make: self.make.clone() }
    }
}

/// A service behind a [`RequestIdLayer`].
#[derive(Clone)]
pub struct RequestIdService<S> {
    inner: S,
    make: Option<Arc<Make>>,
}

impl<S: fmt::Debug> fmt::Debug for RequestIdService<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RequestIdService").field("inner", &self.inner).finish_non_exhaustive()
    }
}

impl<S, ReqB, ResB> Service<Request<ReqB>> for RequestIdService<S>
where
    S: Service<Request<ReqB>, Response = Response<ResB>>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = RequestIdFuture<S::Future>;

    #[inline]
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    #[inline]
    fn call(&mut self, mut request: Request<ReqB>) -> Self::Future {
        let id = match request.headers().get(RequestId::HEADER).and_then(RequestId::checked) {
            Some(id) => id,
            None => {
                let id = self.make.as_ref().map_or_else(RequestId::random, |make| RequestId(make()));
                request.headers_mut().insert(RequestId::HEADER, id.0.clone());
                id
            }
        };
        request.extensions_mut().insert(id.clone());
        RequestIdFuture { future: self.inner.call(request), id }
    }
}

pin_project! {
    /// The response of a service, with the request's id.
    #[derive(Debug)]
    pub struct RequestIdFuture<F> {
        #[pin]
        future: F,
        id: RequestId,
    }
}

impl<F, B, E> Future for RequestIdFuture<F>
where
    F: Future<Output = Result<Response<B>, E>>,
{
    type Output = Result<Response<B>, E>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let mut response = ready!(this.future.poll(cx))?;
        response.headers_mut().insert(RequestId::HEADER, this.id.0.clone());
        Poll::Ready(Ok(response))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn new_ids_look_like_uuids_and_differ() {
        let (one, other) = (RequestId::random(), RequestId::random());
        assert_ne!(one, other);
        let parts: Vec<usize> = one.as_str().split('-').map(str::len).collect();
        assert_eq!(parts, [8, 4, 4, 4, 12]);
        assert!(RequestId::checked(&one.0).is_some());
    }

    #[test]
    fn all_of_a_new_id_is_random_but_what_says_version_4() {
        let ids: Vec<_> = (0..500).map(|_| RequestId::random()).collect();
        for place in (0..36).filter(|place| ![8, 13, 18, 23].contains(place)) {
            let digits: BTreeSet<_> = ids.iter().map(|id| id.as_str().as_bytes()[place]).collect();
            let expected: &[u8] = match place {
                14 => b"4",
                19 => b"89ab",
                _ => b"0123456789abcdef",
            };
            // One digit of sixteen is missing among 500 by chance once in 10^12.
            assert!(digits.iter().eq(expected), "{digits:?} at {place}");
        }
    }

    #[test]
    fn only_short_visible_ids_are_kept() {
        let kept = |text: &str| RequestId::checked(&HeaderValue::from_bytes(text.as_bytes()).expect("valid")).is_some();
        assert!(kept("abc-123"));
        assert!(kept(&"x".repeat(128)));
        assert!(!kept(&"x".repeat(129)));
        assert!(!kept(""));
        assert!(!kept("two words"));
        assert!(!kept("ümlaut"));
    }
}
