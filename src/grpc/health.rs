//! `grpc.health.v1.Health`: what the broker's health is at the moment of the question.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::time::{Interval, MissedTickBehavior, interval};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::{Request, Response, Status, codegen::tokio_stream::Stream, server::NamedService as _};
use tonic_health::pb::{
    HealthCheckRequest, HealthCheckResponse, health_check_response::ServingStatus, health_server::Health as HealthCalls,
};

use super::{message_broker::MessageBroker, proto::message_broker_service_server::MessageBrokerServiceServer};
use crate::broker::{Broker, Health};

/// How often a watch looks again. A look takes a lock for nanoseconds; a load balancer acts within seconds anyway.
const WATCH_PERIOD: Duration = Duration::from_secs(1);

/// Answers for the whole server (the empty name) and for `MessageBrokerService`, which are always in the same state.
#[derive(Debug, Clone)]
pub(super) struct HealthService {
    broker: Broker,
    stopping: CancellationToken,
}

impl HealthService {
    pub(super) fn new(broker: Broker, stopping: CancellationToken) -> Self {
        Self { broker, stopping }
    }
}

#[tonic::async_trait]
impl HealthCalls for HealthService {
    async fn check(&self, request: Request<HealthCheckRequest>) -> Result<Response<HealthCheckResponse>, Status> {
        match status_of(&self.broker, &request.get_ref().service) {
            ServingStatus::ServiceUnknown => Err(Status::not_found("there is no service of this name")),
            status => Ok(Response::new(HealthCheckResponse { status: status.into() })),
        }
    }

    type WatchStream = Watch;

    async fn watch(&self, request: Request<HealthCheckRequest>) -> Result<Response<Watch>, Status> {
        let mut period = interval(WATCH_PERIOD);
        period.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Ok(Response::new(Watch {
            broker: self.broker.clone(),
            service: request.into_inner().service,
            period,
            said: Said::Nothing,
            stopping: Box::pin(self.stopping.clone().cancelled_owned()),
        }))
    }
}

fn status_of(broker: &Broker, service: &str) -> ServingStatus {
    if !["", MessageBrokerServiceServer::<MessageBroker>::NAME].contains(&service) {
        return ServingStatus::ServiceUnknown;
    }
    match broker.health() {
        // A standby passes calls on to the active instance.
        Health::Healthy | Health::Standby => ServingStatus::Serving,
        // It serves consumers, and only they can help it.
        Health::StorageLow => ServingStatus::Serving,
        Health::Degraded(_) => ServingStatus::NotServing,
    }
}

/// The status now, then each change of it, until the server stops.
#[derive(Debug)]
pub(super) struct Watch {
    broker: Broker,
    service: String,
    period: Interval,
    said: Said,
    stopping: Pin<Box<WaitForCancellationFutureOwned>>,
}

/// What a watch has told its client last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Said {
    Nothing,
    Status(ServingStatus),
    /// That the server stops; nothing follows.
    Goodbye,
}

impl Stream for Watch {
    type Item = Result<HealthCheckResponse, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.said == Said::Goodbye {
            return Poll::Ready(None);
        }
        if self.stopping.as_mut().poll(cx).is_ready() {
            self.said = Said::Goodbye;
            return Poll::Ready(Some(Err(Status::unavailable("the broker is shutting down"))));
        }
        loop {
            // The first tick is at once.
            ready!(self.period.poll_tick(cx));
            let status = status_of(&self.broker, &self.service);
            if self.said != Said::Status(status) {
                self.said = Said::Status(status);
                return Poll::Ready(Some(Ok(HealthCheckResponse { status: status.into() })));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tonic::codegen::tokio_stream::StreamExt as _;

    use super::*;
    use crate::broker::Limits;

    fn service() -> (Broker, CancellationToken, HealthService) {
        let (broker, stopping) = (Broker::standby(Limits::default()), CancellationToken::new());
        (broker.clone(), stopping.clone(), HealthService::new(broker, stopping))
    }

    fn of(service: &str) -> Request<HealthCheckRequest> {
        Request::new(HealthCheckRequest { service: service.into() })
    }

    #[tokio::test]
    async fn a_check_tells_the_health_of_the_moment() {
        let (broker, _, service) = service();
        for name in ["", "MessageBrokerService"] {
            let response = service.check(of(name)).await.expect("known").into_inner();
            assert_eq!(response.status(), ServingStatus::Serving);
        }
        assert_eq!(service.check(of("Other")).await.expect_err("unknown").code(), tonic::Code::NotFound);
        broker.drain();
        let response = service.check(of("")).await.expect("known").into_inner();
        assert_eq!(response.status(), ServingStatus::NotServing);
    }

    #[tokio::test(start_paused = true)]
    async fn a_watch_tells_the_status_then_its_changes_and_ends_with_the_server() {
        let (broker, stopping, service) = service();
        let mut watch = service.watch(of("")).await.expect("always").into_inner();
        let mut next = async || watch.next().await.map(|r| r.map(|r| r.status()).map_err(|s| s.code()));
        assert_eq!(next().await, Some(Ok(ServingStatus::Serving)));
        assert!(tokio::time::timeout(WATCH_PERIOD * 5, next()).await.is_err(), "nothing changed");
        broker.drain();
        assert_eq!(next().await, Some(Ok(ServingStatus::NotServing)));
        stopping.cancel();
        assert_eq!(next().await, Some(Err(tonic::Code::Unavailable)));
        assert_eq!(next().await, None);
    }
}
