//! Which services there are, and how they are set up.

use axum::{Router, middleware::map_response, response::Response};
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tonic_health::pb::health_server::HealthServer;
use tonic_reflection::server::Builder;

use super::{
    health::HealthService,
    message_broker::MessageBroker,
    proto::{self, message_broker_service_server::MessageBrokerServiceServer, v1::broker_server::BrokerServer},
    status, v1,
};
use crate::broker::Broker;

/// What a request may hold beside the payload: the topic and reply_to, with room for what is over their limits, so that
/// it can be said which one.
const REQUEST_OVERHEAD_BYTES: usize = 64 << 10;

/// What a request of `campanile.v1` may hold beside a payload of the largest size: attributes, names, the fields of a batch. As
/// in REST.
const BATCH_OVERHEAD_BYTES: usize = 1 << 20;

/// How the services are set up.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// The broker's longest payload, in bytes. A request may have 64 KiB more.
    pub message_bytes_max: usize,
}

/// The calls that belong behind the concurrency limit and the breaker. Unknown calls are answered here, too, as
/// UNIMPLEMENTED.
pub fn routes(broker: Broker, options: Options) -> Router {
    let request_bytes_max = options.message_bytes_max.saturating_add(REQUEST_OVERHEAD_BYTES);
    let service = MessageBrokerServiceServer::new(MessageBroker::new(broker.clone()))
        .max_decoding_message_size(request_bytes_max);
    let v1 = BrokerServer::new(v1::Service::new(broker))
        .max_decoding_message_size(options.message_bytes_max.saturating_add(BATCH_OVERHEAD_BYTES));
    Routes::new(service).add_service(v1).into_axum_router().layer(map_response(with_marks))
}

/// Health (`grpc.health.v1`) and reflection, which must be answered under overload and with an open breaker, too. It has
/// no fallback, so that it can be merged with [`routes`]. Watches of the health end when `stopping` is cancelled.
///
/// # Panics
/// When the descriptors that were compiled in cannot be read, which no run of a build that passed its tests does.
pub fn health_routes(broker: Broker, stopping: CancellationToken) -> Router {
    let descriptors = || {
        Builder::configure()
            .register_encoded_file_descriptor_set(proto::DESCRIPTORS)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    let reflection = descriptors().build_v1().expect("the descriptors are well formed");
    // What older clients ask for, and Python's.
    let reflection_alpha = descriptors().build_v1alpha().expect("the descriptors are well formed");
    Routes::new(HealthServer::new(HealthService::new(broker, stopping)))
        .add_service(reflection)
        .add_service(reflection_alpha)
        .into_axum_router()
        .reset_fallback()
}

async fn with_marks(mut response: Response) -> Response {
    status::mark(&mut response);
    v1::held_until_written(response)
}

#[cfg(test)]
mod tests {
    use axum::{body::Body, http::Request};
    use campanile_middleware::Verdict;
    use tonic::Code;
    use tower::ServiceExt as _;

    use super::*;
    use crate::broker::Limits;

    async fn status_of(path: &str, message: &[u8]) -> (Code, Response) {
        let broker = Broker::standby(Limits::default());
        let router = routes(broker.clone(), Options { message_bytes_max: 100 })
            .merge(health_routes(broker, CancellationToken::new()));
        let mut frame = vec![0];
        frame.extend_from_slice(&u32::try_from(message.len()).expect("short").to_be_bytes());
        frame.extend_from_slice(message);
        let request = Request::post(path)
            .header("content-type", "application/grpc")
            .body(Body::from(frame))
            .expect("a valid request");
        let response = router.oneshot(request).await.expect("infallible");
        let code = response.headers().get("grpc-status").map(|v| Code::from_bytes(v.as_bytes()));
        (code.unwrap_or(Code::Ok), response)
    }

    #[tokio::test]
    async fn unknown_calls_are_unimplemented() {
        for path in ["/MessageBrokerService/Nothing", "/Nothing/SendMessage", "/grpc.health.v1.Health/Nothing"] {
            assert_eq!(status_of(path, b"").await.0, Code::Unimplemented, "{path}");
        }
    }

    #[tokio::test]
    async fn health_and_reflection_are_served_beside_the_calls() {
        assert_eq!(status_of("/grpc.health.v1.Health/Check", b"").await.0, Code::Ok);
        for version in ["v1", "v1alpha"] {
            let path = format!("/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo");
            assert_eq!(status_of(&path, b"").await.0, Code::Ok, "{version}");
        }
    }

    #[tokio::test]
    async fn a_refusal_is_a_trailers_only_answer_with_its_code() {
        // topic "t"
        let (code, response) = status_of("/MessageBrokerService/ReceiveMessage", b"\x0a\x01t").await;
        assert_eq!(code, Code::Unavailable);
        assert_eq!(response.headers()["campanile-code"], "not_active");
        assert_eq!(response.headers()["campanile-refusal"], "not_active");
        assert_eq!(response.extensions().get(), Some(&Verdict::Ignore));
    }

    #[tokio::test]
    async fn a_request_that_cannot_be_read_is_the_clients_fault() {
        let mut message = b"\x12".to_vec();
        prost::encoding::encode_varint(100_000, &mut message);
        message.resize(message.len() + 100_000, b'1');
        let (code, response) = status_of("/MessageBrokerService/SendMessage", &message).await;
        assert_eq!(code, Code::OutOfRange);
        assert_eq!(response.headers()["campanile-code"], "too_large");
        for garbage in [&b"\xff\xff\xff"[..], b"\x0a\x05t", b"\x0a\x01\xff"] {
            let (code, response) = status_of("/MessageBrokerService/SendMessage", garbage).await;
            assert_eq!(code, Code::InvalidArgument, "{garbage:?}");
            assert_eq!(response.headers()["campanile-code"], "invalid_argument");
            assert_eq!(response.extensions().get(), Some(&Verdict::Ignore));
        }
    }
}
