//! How one client for all instances is told which of them a request is for.

use std::{
    marker::PhantomData,
    task::{Context, Poll},
};

use http::{
    Request, Uri,
    header::HOST,
    uri::{PathAndQuery, Scheme},
};
use tower_service::Service;

use super::exchange::Reach;

/// Tells the client behind a round robin which instance a request is for. Closures do: from the request and what stands
/// for the instance they make what the client takes.
pub trait Direct<T, Req> {
    /// What the client takes.
    type Directed;

    /// `request`, to be sent to `target`.
    fn direct(&self, request: Req, target: &T) -> Self::Directed;
}

impl<F: Fn(Req, &T) -> Out, T, Req, Out> Direct<T, Req> for F {
    type Directed = Out;

    fn direct(&self, request: Req, target: &T) -> Out {
        self(request, target)
    }
}

/// How HTTP requests are directed: the scheme and authority of the request are those of the instance's address, and the
/// path of that, if it has one, stands before the request's own. `http` where the address names no scheme. A `Host` header
/// is taken out, so that the client writes the one that fits.
#[derive(Debug, Clone, Copy, Default)]
pub struct ToAddress;

impl<B> Direct<Uri, Request<B>> for ToAddress {
    type Directed = Request<B>;

    fn direct(&self, mut request: Request<B>, address: &Uri) -> Request<B> {
        *request.uri_mut() = addressed(request.uri(), address);
        request.headers_mut().remove(HOST);
        request
    }
}

/// `uri` at `address`; an address without an authority changes nothing.
fn addressed(uri: &Uri, address: &Uri) -> Uri {
    let Some(authority) = address.authority() else { return uri.clone() };
    let path = uri.path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
    let prefix = address.path().trim_end_matches('/');
    let path = if prefix.is_empty() {
        path
    } else {
        // Both were parts of URIs, so together they are one.
        PathAndQuery::try_from(format!("{prefix}{path}")).unwrap_or(path)
    };
    let mut parts = http::uri::Parts::default();
    parts.scheme = Some(address.scheme().cloned().unwrap_or(Scheme::HTTP));
    parts.authority = Some(authority.clone());
    parts.path_and_query = Some(path);
    Uri::from_parts(parts).expect("scheme, authority and path make a URI")
}

/// An instance is reached through a client that all of them share.
#[derive(Debug, Clone)]
pub struct Through<S, T, D> {
    client: S,
    direct: D,
    targets: PhantomData<fn() -> T>,
}

impl<S: Clone, T, D: Clone> Through<S, T, D> {
    pub(super) fn new(client: &S, direct: &D) -> Self {
        Self { client: client.clone(), direct: direct.clone(), targets: PhantomData }
    }
}

impl<S: Clone, T: Clone, D: Clone> Reach for Through<S, T, D> {
    type Target = T;
    type Service = Directed<S, T, D>;

    fn reach(&self, target: &T) -> Directed<S, T, D> {
        Directed { client: self.client.clone(), direct: self.direct.clone(), target: target.clone() }
    }
}

/// The client, for one attempt at one instance.
#[derive(Debug, Clone)]
pub struct Directed<S, T, D> {
    client: S,
    direct: D,
    target: T,
}

impl<S, T, D, Req> Service<Req> for Directed<S, T, D>
where
    D: Direct<T, Req>,
    S: Service<D::Directed>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.client.poll_ready(cx)
    }

    fn call(&mut self, request: Req) -> S::Future {
        self.client.call(self.direct.direct(request, &self.target))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_goes_to_the_authority_of_its_instance_and_keeps_its_path() {
        for (uri, address, expected) in [
            ("/a?b=c", "http://x:1", "http://x:1/a?b=c"),
            ("https://old/a", "http://x:1/", "http://x:1/a"),
            ("/a", "https://x", "https://x/a"),
            ("/a%20b", "x:1", "http://x:1/a%20b"),
            ("/a?b", "http://x/base/", "http://x/base/a?b"),
            ("*", "http://x", "http://x*"),
            ("/a", "/nowhere", "/a"),
        ] {
            let addressed = addressed(&Uri::from_static(uri), &Uri::from_static(address));
            assert_eq!(addressed, expected, "{uri} at {address}");
        }
    }

    #[test]
    fn the_name_of_the_host_that_was_asked_before_does_not_go_along() {
        let request = Request::get("/").header("host", "old").header("accept", "*/*").body(()).expect("valid");
        let request = ToAddress.direct(request, &Uri::from_static("http://x"));
        assert_eq!(request.headers().keys().collect::<Vec<_>>(), ["accept"]);
    }
}
