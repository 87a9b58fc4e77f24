//! The future of an HTTP request on its way through the instances.

use std::{
    convert::Infallible,
    error::Error,
    fmt,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use pin_project_lite::pin_project;
use tower_service::Service;

use super::{
    drive::Drive,
    exchange::Reach,
    replayed::{Answer, Replayed},
    service::RoundRobin,
};
use crate::ReplayBody;

pin_project! {
    /// The response of an instance, or the rejection when none could answer.
    ///
    /// # Cancel safety
    ///
    /// Dropping it abandons the attempt under way, which tells its instance's breaker nothing.
    pub struct RoundRobinFuture<R, F, E, ReqB, ResB>
    where
        R: Reach,
        ReqB: Body<Data = Bytes>,
        ReqB: Unpin,
        ReqB::Error: Into<Box<dyn Error + Send + Sync>>,
        ResB: Body<Data = Bytes>,
    {
        #[pin]
        drive: Drive<R, F, Replayed<E, ReqB, ResB>>,
    }
}

impl<R, F, E, ReqB, ResB> RoundRobinFuture<R, F, E, ReqB, ResB>
where
    R: Reach,
    ReqB: Body<Data = Bytes> + Unpin,
    ReqB::Error: Into<Box<dyn Error + Send + Sync>>,
    ResB: Body<Data = Bytes>,
{
    pub(super) fn new(round: &RoundRobin<R::Target, E, ResB>, reach: R, request: Request<ReqB>) -> Self {
        let (request, ledger) = Replayed::new(round.policy.clone(), request);
        let drive = Drive::new(round.rotation.clone(), round.policy.rules.clone(), reach, request, ledger);
        Self { drive }
    }
}

impl<R, F, E, ReqB, ResB> Future for RoundRobinFuture<R, F, E, ReqB, ResB>
where
    R: Reach,
    R::Target: Clone,
    R::Service: Service<Request<ReplayBody<ReqB>>, Response = Response<ResB>, Error = E, Future = F>,
    F: Future<Output = Result<Response<ResB>, E>>,
    ReqB: Body<Data = Bytes> + Unpin,
    ReqB::Error: Into<Box<dyn Error + Send + Sync>>,
    ResB: Body<Data = Bytes>,
{
    type Output = Result<Answer<ResB>, Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.project().drive.poll(cx)
    }
}

impl<R, F, E, ReqB, ResB> fmt::Debug for RoundRobinFuture<R, F, E, ReqB, ResB>
where
    R: Reach,
    ReqB: Body<Data = Bytes> + Unpin,
    ReqB::Error: Into<Box<dyn Error + Send + Sync>>,
    ResB: Body<Data = Bytes>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RoundRobinFuture").finish_non_exhaustive()
    }
}
