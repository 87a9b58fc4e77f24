//! What a request asks for, by its path: the same word for a REST route and the gRPC method that means the same.

/// The kinds of work that fail for reasons of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Operation {
    /// Stores messages.
    Publish,
    /// Hands messages out.
    Receive,
    /// Ends deliveries.
    Settle,
    /// Everything else: topics, services, queues, pages.
    Manage,
}

impl Operation {
    /// The operation that a path stands for.
    pub(super) fn of_path(path: &str) -> Self {
        let mut segments = [""; 4];
        let mut count = 0;
        for segment in path.trim_start_matches('/').split('/') {
            let Some(slot) = segments.get_mut(count) else { return Self::Manage };
            *slot = segment;
            count += 1;
        }
        match &segments[..count] {
            ["publish"]
            | ["v1", "topics", _, "publish" | "messages"]
            | ["v1", "request", _]
            | ["MessageBrokerService", "SendMessage"]
            | ["campanile.v1.Broker", "Publish" | "PublishStream" | "Request"] => Self::Publish,
            ["consume", _]
            | ["v1", "queues", _, "pull" | "stream"]
            | ["MessageBrokerService", "ReceiveMessage"]
            | ["campanile.v1.Broker", "Pull" | "Receive" | "StreamingPull"] => Self::Receive,
            ["v1", "settle"]
            | ["ack", _]
            | ["v1", "queues", _, "ack" | "nack" | "modify-ack-deadline"]
            | ["campanile.v1.Broker", "Ack" | "Settle" | "ModifyAckDeadline"] => Self::Settle,
            _ => Self::Manage,
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Publish => "publish",
            Self::Receive => "receive",
            Self::Settle => "settle",
            Self::Manage => "manage",
        }
    }
}

/// Whether the body of a request goes on for as long as its client wants.
pub(super) fn is_stream(path: &str) -> bool {
    matches!(path, "/campanile.v1.Broker/PublishStream" | "/campanile.v1.Broker/StreamingPull")
}

/// Whether a path shows the state of the process rather than uses the broker.
pub(super) fn is_observability(path: &str) -> bool {
    let first = path.trim_start_matches('/').split('/').next().unwrap_or_default();
    matches!(first, "health" | "metrics")
        || first.starts_with("grpc.health.v1.")
        || first.starts_with("grpc.reflection.v1")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_route_and_a_method_that_mean_the_same_are_one_operation() {
        use Operation::{Manage, Publish, Receive, Settle};
        let cases = [
            ("/publish", Publish),
            ("/v1/topics/orders/messages", Publish),
            ("/v1/topics/orders/publish", Publish),
            ("/MessageBrokerService/SendMessage", Publish),
            ("/campanile.v1.Broker/Publish", Publish),
            ("/consume/orders", Receive),
            ("/consume/publish", Receive),
            ("/v1/queues/ack/pull", Receive),
            ("/MessageBrokerService/ReceiveMessage", Receive),
            ("/v1/queues/orders/nack", Settle),
            ("/v1/settle", Settle),
            ("/register", Manage),
            ("/v1/topics/publish", Manage),
            ("/v1/topics/a/subscriptions/publish", Manage),
            ("/v1/a/b/c/d/publish", Manage),
            ("/", Manage),
            ("", Manage),
        ];
        for (path, operation) in cases {
            assert_eq!(Operation::of_path(path), operation, "{path}");
        }
    }

    #[test]
    fn health_and_reflection_are_no_use_of_the_broker() {
        for path in ["/health", "/health/ready", "/health/instance", "/metrics", "/grpc.health.v1.Health/Check"] {
            assert!(is_observability(path), "{path}");
        }
        assert!(is_observability("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"));
        for path in ["/healthy", "/consume/health", "/publish", "/", "/MessageBrokerService/SendMessage"] {
            assert!(!is_observability(path), "{path}");
        }
    }
}
