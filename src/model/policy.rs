//! How a topic and a queue behave: what may be set of them, and what counts when nothing is.

use std::{num::NonZeroU32, time::Duration};

/// How a queue delivers.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct QueuePolicy {
    /// How long a consumer may take to ack, unless its receive says otherwise: 10 s to 12 h. Default 30 s.
    pub ack_deadline: Duration,
    /// After how many deliveries that failed a message goes to the dead letters, 1 to 1,000; `None`: never. Receives that
    /// ack at once don't count. Default 5.
    pub max_delivery_attempts: Option<NonZeroU32>,
    /// How long a message that failed waits for its next delivery.
    pub retry: RetryPolicy,
    /// How much may wait in it. What is not set is the topic's to set.
    pub limits: QueueLimits,
}

/// How long a message that failed waits: the minimum after the first failure, twice as long after each further one, up to
/// the maximum; of that, chance takes up to a half, so that what failed together does not come back together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RetryPolicy {
    /// At most [`RetryPolicy::BACKOFF_MAX`]. Default 0: it is back in its place at once.
    pub minimum_backoff: Duration,
    /// At least the minimum, and at most [`RetryPolicy::BACKOFF_MAX`]. Default 10 min.
    pub maximum_backoff: Duration,
}

/// How much may wait in a queue.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct QueueLimits {
    /// Most messages, at least 1. Those that are not visible yet and dead letters don't count.
    pub messages_max: Option<u64>,
    /// Most bytes of messages, as they are stored, at least 1.
    pub bytes_max: Option<u64>,
    /// How long a message may wait after its publish; what is older is dropped.
    pub age_max: Option<Duration>,
    /// What is done with a publish that would be too much.
    pub overflow: Option<Overflow>,
}

/// What is done with a publish that is more than a queue may hold.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Overflow {
    /// It is refused, as `queue_full`, and stored for no queue.
    #[default]
    Reject,
    /// The oldest messages of the queue that no consumer holds make room.
    DropOldest,
}

/// How a topic takes messages, and what counts for its queues where they set nothing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct TopicPolicy {
    /// How long a dedup id is remembered, at most 24 h; `None`: as long as the broker is set up to.
    pub dedup_window: Option<Duration>,
    /// How much may wait in each queue that does not say so itself; and in the topic while it has no queue.
    pub limits: QueueLimits,
}

/// What is to change of a [`QueuePolicy`]; `None` leaves a setting as it is, and of those that need not be set, `Some(None)`
/// takes it away.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct QueuePolicyPatch {
    /// See [`QueuePolicy::ack_deadline`].
    pub ack_deadline: Option<Duration>,
    /// See [`QueuePolicy::max_delivery_attempts`].
    pub max_delivery_attempts: Option<Option<NonZeroU32>>,
    /// See [`RetryPolicy::minimum_backoff`].
    pub minimum_backoff: Option<Duration>,
    /// See [`RetryPolicy::maximum_backoff`].
    pub maximum_backoff: Option<Duration>,
    /// See [`QueuePolicy::limits`].
    pub limits: QueueLimitsPatch,
}

/// What is to change of [`QueueLimits`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct QueueLimitsPatch {
    /// See [`QueueLimits::messages_max`].
    pub messages_max: Option<Option<u64>>,
    /// See [`QueueLimits::bytes_max`].
    pub bytes_max: Option<Option<u64>>,
    /// See [`QueueLimits::age_max`].
    pub age_max: Option<Option<Duration>>,
    /// See [`QueueLimits::overflow`].
    pub overflow: Option<Option<Overflow>>,
}

/// What is to change of a [`TopicPolicy`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TopicPolicyPatch {
    /// See [`TopicPolicy::dedup_window`].
    pub dedup_window: Option<Option<Duration>>,
    /// See [`TopicPolicy::limits`].
    pub limits: QueueLimitsPatch,
}

impl QueuePolicyPatch {
    /// The policy with the changes.
    #[must_use]
    pub fn applied_to(&self, policy: &QueuePolicy) -> QueuePolicy {
        QueuePolicy {
            ack_deadline: self.ack_deadline.unwrap_or(policy.ack_deadline),
            max_delivery_attempts: self.max_delivery_attempts.unwrap_or(policy.max_delivery_attempts),
            retry: RetryPolicy {
                minimum_backoff: self.minimum_backoff.unwrap_or(policy.retry.minimum_backoff),
                maximum_backoff: self.maximum_backoff.unwrap_or(policy.retry.maximum_backoff),
            },
            limits: self.limits.applied_to(policy.limits),
        }
    }
}

impl QueueLimitsPatch {
    /// The limits with the changes.
    #[must_use]
    pub fn applied_to(&self, limits: QueueLimits) -> QueueLimits {
        QueueLimits {
            messages_max: self.messages_max.unwrap_or(limits.messages_max),
            bytes_max: self.bytes_max.unwrap_or(limits.bytes_max),
            age_max: self.age_max.unwrap_or(limits.age_max),
            overflow: self.overflow.unwrap_or(limits.overflow),
        }
    }
}

impl TopicPolicyPatch {
    /// The policy with the changes.
    #[must_use]
    pub fn applied_to(&self, policy: TopicPolicy) -> TopicPolicy {
        TopicPolicy {
            dedup_window: self.dedup_window.unwrap_or(policy.dedup_window),
            limits: self.limits.applied_to(policy.limits),
        }
    }
}

impl QueuePolicy {
    /// The shortest ack deadline. As in Google Pub/Sub.
    pub const ACK_DEADLINE_MIN: Duration = Duration::from_secs(10);
    /// The longest ack deadline. As in SQS.
    pub const ACK_DEADLINE_MAX: Duration = Duration::from_secs(12 * 3600);
    /// Most deliveries that may be asked for before a message is dead.
    pub const DELIVERY_ATTEMPTS_MAX: u32 = 1000;
}

impl Default for QueuePolicy {
    fn default() -> Self {
        Self {
            ack_deadline: Duration::from_secs(30),
            max_delivery_attempts: NonZeroU32::new(5),
            retry: RetryPolicy::default(),
            limits: QueueLimits::default(),
        }
    }
}

impl RetryPolicy {
    /// The longest backoff: 12 h.
    pub const BACKOFF_MAX: Duration = Duration::from_secs(12 * 3600);

    /// How long a message waits that was delivered `attempts` times; `chance` is from 0 to 1.
    #[must_use]
    pub fn backoff(&self, attempts: u32, chance: f64) -> Duration {
        let doublings = attempts.saturating_sub(1).min(31);
        let most = self.maximum_backoff.max(self.minimum_backoff);
        let whole = self.minimum_backoff.checked_mul(1 << doublings).unwrap_or(most).min(most);
        whole.mul_f64(1.0 - 0.5 * chance.clamp(0.0, 1.0))
    }
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self { minimum_backoff: Duration::ZERO, maximum_backoff: Duration::from_secs(600) }
    }
}

impl QueueLimits {
    /// These, and where they set nothing, `others`.
    #[must_use]
    pub fn or(self, others: Self) -> Self {
        Self {
            messages_max: self.messages_max.or(others.messages_max),
            bytes_max: self.bytes_max.or(others.bytes_max),
            age_max: self.age_max.or(others.age_max),
            overflow: self.overflow.or(others.overflow),
        }
    }

    /// Whether a publish may be too much.
    #[must_use]
    pub fn are_set(&self) -> bool {
        self.messages_max.is_some() || self.bytes_max.is_some()
    }
}

impl TopicPolicy {
    /// The longest dedup window: a day.
    pub const DEDUP_WINDOW_MAX: Duration = Duration::from_secs(24 * 3600);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_backoff_doubles_up_to_the_maximum_and_chance_takes_up_to_a_half() {
        let retry = RetryPolicy { minimum_backoff: Duration::from_secs(10), maximum_backoff: Duration::from_secs(60) };
        let seconds =
            |chance| (1..=5).map(move |attempts| retry.backoff(attempts, chance).as_secs()).collect::<Vec<_>>();
        assert_eq!(seconds(0.0), [10, 20, 40, 60, 60]);
        assert_eq!(seconds(1.0), [5, 10, 20, 30, 30]);
        assert_eq!(retry.backoff(u32::MAX, 0.0), Duration::from_secs(60));
        assert_eq!(RetryPolicy::default().backoff(9, 0.5), Duration::ZERO);
        let odd = RetryPolicy { minimum_backoff: Duration::from_secs(9), maximum_backoff: Duration::from_secs(1) };
        assert_eq!(odd.backoff(3, 0.0), Duration::from_secs(9), "the minimum counts");
    }

    #[test]
    fn a_queue_says_what_counts_and_the_topic_what_it_leaves_open() {
        let queue = QueueLimits { messages_max: Some(1), ..QueueLimits::default() };
        let topic = QueueLimits { messages_max: Some(9), bytes_max: Some(2), ..QueueLimits::default() };
        let both = queue.or(topic);
        assert_eq!((both.messages_max, both.bytes_max, both.age_max), (Some(1), Some(2), None));
        assert!(both.are_set() && !QueueLimits::default().are_set());
    }
}
