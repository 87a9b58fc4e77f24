//! What the broker shows of topics, queues and messages, as responses.

use super::write::{duration, message, timestamp};
use crate::{
    broker::{
        Browsed, Consumer, ConsumerKind, Counters, DeadCause, Event, Explanation, HeldKey, MessageState, Obstacle,
        Queue, QueueObstacle, ServiceView, Story, TopicView,
    },
    grpc::proto::v1 as proto,
    model::{Overflow, QueueLimits, QueuePolicy, TopicPolicy},
};

pub(super) fn topic(topic: TopicView) -> proto::Topic {
    proto::Topic {
        name: topic.name.to_string(),
        policy: Some(topic_policy(topic.policy)),
        queues: topic.queues.iter().map(ToString::to_string).collect(),
        messages: topic.messages,
        delayed: topic.delayed,
        is_inbox: topic.is_inbox,
    }
}

fn topic_policy(policy: TopicPolicy) -> proto::TopicPolicy {
    proto::TopicPolicy { dedup_window: policy.dedup_window.map(duration), limits: Some(limits(policy.limits)) }
}

fn queue_policy(policy: &QueuePolicy) -> proto::QueuePolicy {
    proto::QueuePolicy {
        ack_deadline: Some(duration(policy.ack_deadline)),
        max_delivery_attempts: Some(policy.max_delivery_attempts.map_or(0, std::num::NonZeroU32::get)),
        minimum_backoff: Some(duration(policy.retry.minimum_backoff)),
        maximum_backoff: Some(duration(policy.retry.maximum_backoff)),
        limits: Some(limits(policy.limits)),
    }
}

fn limits(limits: QueueLimits) -> proto::Limits {
    use proto::limits::Overflow as Proto;
    let overflow = match limits.overflow {
        None => Proto::Unspecified,
        Some(Overflow::Reject) => Proto::Reject,
        Some(Overflow::DropOldest) => Proto::DropOldest,
    };
    proto::Limits {
        max_messages: limits.messages_max,
        max_bytes: limits.bytes_max,
        max_age: limits.age_max.map(duration),
        overflow: overflow.into(),
    }
}

pub(super) fn queue(queue: Queue) -> proto::Queue {
    let Queue { view, consumers } = queue;
    let Counters { published, delivered, acked, failed, dead_lettered, dropped } = view.counters;
    proto::Queue {
        name: view.name.to_string(),
        topic: view.topic.to_string(),
        service: view.service.map(|service| service.to_string()).unwrap_or_default(),
        policy: Some(queue_policy(&view.policy)),
        paused: view.is_paused,
        ready: view.ready,
        retrying: view.retrying,
        leased: view.leased,
        delayed: view.delayed,
        dead: view.dead,
        bytes: view.bytes,
        oldest_published_at: view.oldest_published_at.map(timestamp),
        counters: Some(proto::Counters { published, delivered, acked, failed, dead_lettered, dropped }),
        rates: Some(proto::Rates {
            published_per_second: view.rates.published.per_second(),
            delivered_per_second: view.rates.delivered.per_second(),
            acked_per_second: view.rates.acked.per_second(),
        }),
        consumers: consumers.into_iter().map(consumer).collect(),
    }
}

fn consumer(consumer: Consumer) -> proto::Consumer {
    let kind = match consumer.kind {
        ConsumerKind::Pull => "pull",
        ConsumerKind::Stream => "stream",
    };
    proto::Consumer {
        name: consumer.name,
        kind: kind.into(),
        last_seen_at: Some(timestamp(consumer.last_seen_at)),
        outstanding_messages: consumer.outstanding_messages,
        outstanding_bytes: consumer.outstanding_bytes,
        has_credit: consumer.has_credit,
        is_waiting: consumer.is_waiting,
    }
}

pub(super) fn service(service: ServiceView) -> proto::Service {
    proto::Service { name: service.name.to_string(), topics: service.topics.iter().map(ToString::to_string).collect() }
}

pub(super) fn browsed(browsed: Browsed) -> proto::BrowsedMessage {
    let shown = state(&browsed.state);
    proto::BrowsedMessage { message: browsed.message.as_deref().map(message), ..shown }
}

/// What is up with a message, without the message.
fn state(state: &MessageState) -> proto::BrowsedMessage {
    use proto::MessageState as Proto;
    let shown = |state: Proto, attempts: u32| proto::BrowsedMessage {
        state: state.into(),
        delivery_attempts: attempts,
        ..proto::BrowsedMessage::default()
    };
    match state {
        MessageState::Ready { attempts } => shown(Proto::Ready, attempts.0),
        MessageState::Retrying { attempts, retry_at } => {
            proto::BrowsedMessage { retry_at: Some(timestamp(*retry_at)), ..shown(Proto::Ready, attempts.0) }
        }
        MessageState::Leased { attempt, deadline } => {
            proto::BrowsedMessage { ack_deadline: Some(timestamp(*deadline)), ..shown(Proto::Leased, attempt.0) }
        }
        MessageState::Delayed { due } => {
            proto::BrowsedMessage { deliver_at: Some(timestamp(*due)), ..shown(Proto::Delayed, 0) }
        }
        MessageState::Dead { attempts, cause, reason, first_failed, at } => {
            use proto::dead_letter::Cause;
            let cause = match cause {
                DeadCause::DeadlineOver => Cause::AckDeadlineExceeded,
                DeadCause::Failed => Cause::Failed,
                DeadCause::Rejected => Cause::Rejected,
            };
            let dead_letter = proto::DeadLetter {
                cause: cause.into(),
                reason: reason.to_string(),
                first_failed_at: Some(timestamp(*first_failed)),
                dead_lettered_at: Some(timestamp(*at)),
            };
            proto::BrowsedMessage { dead_letter: Some(dead_letter), ..shown(Proto::Dead, attempts.0) }
        }
    }
}

pub(super) fn story(story: Story) -> proto::Story {
    let queue = |queue: crate::engine::QueueState| proto::QueueState {
        queue: queue.queue.to_string(),
        state: queue.state.as_ref().map(state),
    };
    proto::Story {
        message: story.message.as_deref().map(message),
        topic: story.topic.map(|topic| topic.to_string()).unwrap_or_default(),
        deliver_at: story.due.map(timestamp),
        queues: story.queues.into_iter().map(queue).collect(),
        events: story.events.into_iter().map(event).collect(),
    }
}

fn event(event: Event) -> proto::Event {
    proto::Event {
        at: Some(timestamp(event.at)),
        queue: event.queue.map(|queue| queue.to_string()).unwrap_or_default(),
        kind: event.kind.word().into(),
        reason: event.kind.reason().to_owned(),
        delivery_attempt: event.kind.attempt().map_or(0, |attempt| attempt.0),
        until: event.kind.until().map(timestamp),
    }
}

pub(super) fn explanation(explanation: Explanation) -> proto::Explanation {
    proto::Explanation {
        queue: Some(queue(explanation.queue)),
        deliverable: explanation.deliverable,
        obstacles: explanation.obstacles.iter().map(obstacle).collect(),
    }
}

fn obstacle(obstacle: &Obstacle) -> proto::Obstacle {
    let keys = match obstacle {
        Obstacle::Queue(QueueObstacle::BehindKeys { keys, .. }) => keys.iter().map(held_key).collect(),
        _ => Vec::new(),
    };
    proto::Obstacle {
        kind: obstacle.word().into(),
        detail: obstacle.sentence(),
        messages: obstacle.messages(),
        until: obstacle.until().map(timestamp),
        keys,
    }
}

fn held_key(key: &HeldKey) -> proto::HeldKey {
    proto::HeldKey {
        ordering_key: key.key.clone().unwrap_or_default(),
        message_id: key.message.map(|id| id.to_string()).unwrap_or_default(),
        delivery_attempt: key.attempt.0,
        until: Some(timestamp(key.until)),
        behind: key.behind,
    }
}
