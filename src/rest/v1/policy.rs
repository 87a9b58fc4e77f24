//! Policies as they are set: what a body says of a topic or a queue.

use std::num::NonZeroU32;

use serde::Deserialize;
use utoipa::ToSchema;

use super::{
    queue_view::Overflow,
    read::{self, Object},
};
use crate::{
    broker::{BrokerError, Limits},
    model::{self, QueueLimitsPatch, QueuePolicyPatch, TopicPolicyPatch},
};

/// What is set of a topic.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewTopicPolicy {
    /// How long a dedup id is remembered, 1 s to 24 h. Default: as the broker is set up, by default 2 min.
    #[schema(minimum = 1, maximum = 86_400)]
    dedup_window_seconds: Option<f64>,
    /// What holds for each of its queues that does not say so itself, and for the topic while it has none.
    #[schema(value_type = Option<NewLimits>)]
    limits: Option<Object<NewLimits>>,
}

/// What is set of a queue.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewQueuePolicy {
    /// How long a consumer may take to settle unless its pull says otherwise, 10 s to 12 h. Default 30 s.
    #[schema(minimum = 10, maximum = 43_200)]
    ack_deadline_seconds: Option<f64>,
    /// After how many failed deliveries a message is dead, 1 to 1000; 0: never. Default 5.
    #[schema(format = "uint32", maximum = 1000)]
    max_delivery_attempts: Option<u32>,
    /// How long a message waits after its first failure, 0 to 12 h; twice as long after each further one. Default 0.
    #[schema(minimum = 0, maximum = 43_200)]
    minimum_backoff_seconds: Option<f64>,
    /// How long it waits at most, 0 to 12 h. Default 10 min.
    #[schema(minimum = 0, maximum = 43_200)]
    maximum_backoff_seconds: Option<f64>,
    /// How much may wait in it.
    #[schema(value_type = Option<NewLimits>)]
    limits: Option<Object<NewLimits>>,
}

/// How much may wait in a queue. `null` takes a limit away.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewLimits {
    /// Most messages, at least 1.
    #[serde(default, deserialize_with = "read::given")]
    #[schema(value_type = Option<u64>, format = "uint64", minimum = 1)]
    max_messages: Option<Option<u64>>,
    /// Most bytes of messages as they are stored, at least 1.
    #[serde(default, deserialize_with = "read::given")]
    #[schema(value_type = Option<u64>, format = "uint64", minimum = 1)]
    max_bytes: Option<Option<u64>>,
    /// How long a message may wait after its publish, 1 s to 366 days; what is older is dropped.
    #[serde(default, deserialize_with = "read::given")]
    #[schema(value_type = Option<f64>, minimum = 1, maximum = 31_622_400)]
    max_age_seconds: Option<Option<f64>>,
    /// What is done with a publish that would be too much. Default: as the topic says, else REJECT.
    #[serde(default, deserialize_with = "read::given")]
    #[schema(value_type = Option<Overflow>)]
    overflow: Option<Option<Overflow>>,
}

impl NewTopicPolicy {
    pub(super) fn patch(self) -> Result<TopicPolicyPatch, BrokerError> {
        let dedup_window = optional_duration("dedup_window_seconds", self.dedup_window_seconds)?;
        Ok(TopicPolicyPatch { dedup_window: dedup_window.map(Some), limits: limits_of(self.limits)? })
    }
}

impl NewQueuePolicy {
    pub(super) fn patch(self) -> Result<QueuePolicyPatch, BrokerError> {
        Ok(QueuePolicyPatch {
            ack_deadline: optional_duration("ack_deadline_seconds", self.ack_deadline_seconds)?,
            max_delivery_attempts: self.max_delivery_attempts.map(NonZeroU32::new),
            minimum_backoff: optional_duration("minimum_backoff_seconds", self.minimum_backoff_seconds)?,
            maximum_backoff: optional_duration("maximum_backoff_seconds", self.maximum_backoff_seconds)?,
            limits: limits_of(self.limits)?,
        })
    }
}

fn limits_of(limits: Option<Object<NewLimits>>) -> Result<QueueLimitsPatch, BrokerError> {
    let NewLimits { max_messages, max_bytes, max_age_seconds, overflow } =
        limits.map_or_else(NewLimits::default, |l| l.0);
    let age = |age: Option<f64>| optional_duration("limits.max_age_seconds", age);
    let overflow_of = |overflow| match overflow {
        Overflow::Reject => model::Overflow::Reject,
        Overflow::DropOldest => model::Overflow::DropOldest,
    };
    Ok(QueueLimitsPatch {
        messages_max: max_messages,
        bytes_max: max_bytes,
        age_max: max_age_seconds.map(age).transpose()?,
        overflow: overflow.map(|overflow| overflow.map(overflow_of)),
    })
}

fn optional_duration(field: &'static str, seconds: Option<f64>) -> Result<Option<std::time::Duration>, BrokerError> {
    seconds.map(|seconds| Limits::duration(field, seconds)).transpose()
}
