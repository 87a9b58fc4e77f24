//! What happened, and what holds messages back, in the words that every protocol uses for it.

use super::{EventKind, Obstacle, QueueObstacle, Reason, ReturnCause, Settled};
use crate::model::{Attempt, Timestamp};

impl EventKind {
    /// The name of it, as the API has it.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::Published => "published",
            Self::Delayed => "delayed",
            Self::BecameVisible => "became_visible",
            Self::Cancelled => "cancelled",
            Self::Delivered { .. } => "delivered",
            Self::Extended { .. } => "extended",
            Self::Received => "received",
            Self::Acked => "acked",
            Self::Returned { cause: ReturnCause::DeadlineOver, .. } => "deadline_exceeded",
            Self::Returned { cause: ReturnCause::Failed, .. } => "nacked",
            Self::Returned { cause: ReturnCause::Released, .. } => "released",
            Self::Returned { cause: ReturnCause::Unclaimed, .. } => "unclaimed",
            Self::DeadLettered { .. } => "dead_lettered",
            Self::Redriven => "redriven",
            Self::Dropped { reason } => reason.word(),
        }
    }
}

impl EventKind {
    /// What a consumer said; empty if it said nothing.
    #[must_use]
    pub fn reason(&self) -> &str {
        match self {
            Self::Returned { reason, .. } | Self::DeadLettered { reason, .. } => reason,
            _ => "",
        }
    }

    /// Of a delivery, which one.
    #[must_use]
    pub fn attempt(&self) -> Option<Attempt> {
        match self {
            Self::Delivered { attempt, .. } => Some(*attempt),
            _ => None,
        }
    }

    /// Of a delivery or an extension, until when; of what goes back, when it can be delivered again.
    #[must_use]
    pub fn until(&self) -> Option<Timestamp> {
        match self {
            Self::Delivered { deadline, .. } | Self::Extended { deadline } => Some(*deadline),
            Self::Returned { retry_at, .. } => *retry_at,
            _ => None,
        }
    }
}

impl Settled {
    /// The code of it, as the API has it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Done => "ok",
            Self::Stale => "stale_ack",
            Self::Unknown => "not_found",
        }
    }
}

impl Reason {
    /// The name of it, as the API has it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Received => "received",
            Self::Acked => "acked",
            Self::Expired => "expired",
            Self::TooOld => "too_old",
            Self::Dropped => "dropped",
            Self::Deleted => "deleted",
            Self::Damaged => "damaged",
        }
    }
}

impl Obstacle {
    /// The name of it, as the API has it.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::Queue(QueueObstacle::Paused) => "paused",
            Self::Queue(QueueObstacle::Empty) => "empty",
            Self::Queue(QueueObstacle::Leased { .. }) => "leased",
            Self::Queue(QueueObstacle::Retrying { .. }) => "retrying",
            Self::Queue(QueueObstacle::Delayed { .. }) => "delayed",
            Self::Queue(QueueObstacle::BehindKeys { .. }) => "behind_keys",
            Self::Queue(QueueObstacle::LookAheadFull { .. }) => "look_ahead_full",
            Self::Queue(QueueObstacle::NoConsumer) => "no_consumer",
            Self::NoCredit { .. } => "no_credit",
        }
    }

    /// How many messages it holds back.
    #[must_use]
    pub fn messages(&self) -> u64 {
        match self {
            Self::Queue(
                QueueObstacle::Leased { messages, .. }
                | QueueObstacle::Retrying { messages, .. }
                | QueueObstacle::Delayed { messages, .. }
                | QueueObstacle::BehindKeys { messages, .. }
                | QueueObstacle::LookAheadFull { messages },
            ) => *messages,
            Self::Queue(QueueObstacle::Paused | QueueObstacle::Empty | QueueObstacle::NoConsumer)
            | Self::NoCredit { .. } => 0,
        }
    }

    /// When the next of them is free, if that is known.
    #[must_use]
    pub fn until(&self) -> Option<Timestamp> {
        match self {
            Self::Queue(QueueObstacle::Leased { next_deadline, .. }) => Some(*next_deadline),
            Self::Queue(QueueObstacle::Retrying { next_at, .. } | QueueObstacle::Delayed { next_at, .. }) => {
                Some(*next_at)
            }
            _ => None,
        }
    }

    /// The same as a sentence.
    #[must_use]
    pub fn sentence(&self) -> String {
        let messages = |n: u64| if n == 1 { "1 message".to_owned() } else { format!("{n} messages") };
        match self {
            Self::Queue(QueueObstacle::Paused) => "the queue is paused: resume it".into(),
            Self::Queue(QueueObstacle::Empty) => "there is no message in the queue".into(),
            Self::Queue(QueueObstacle::Leased { messages: n, next_deadline }) => {
                let held = if *n == 1 { "is held" } else { "are held" };
                format!("{} {held} by consumers, the next until {next_deadline}", messages(*n))
            }
            Self::Queue(QueueObstacle::Retrying { messages: n, next_at }) => {
                let failed = if *n == 1 { "failed and waits for its retry" } else { "failed and wait for their retry" };
                format!("{} {failed}, the next until {next_at}", messages(*n))
            }
            Self::Queue(QueueObstacle::Delayed { messages: n, next_at }) => {
                let are = if *n == 1 { "is" } else { "are" };
                format!("{} {are} not visible yet, the next until {next_at}", messages(*n))
            }
            Self::Queue(QueueObstacle::BehindKeys { messages: n, .. }) => {
                let wait = if *n == 1 { "waits" } else { "wait" };
                format!("{} {wait} for others of their ordering key", messages(*n))
            }
            Self::Queue(QueueObstacle::LookAheadFull { messages: n }) => format!(
                "{} wait for others of their ordering key, so many that no further ones are looked at: settle some",
                messages(*n)
            ),
            Self::Queue(QueueObstacle::NoConsumer) => "nobody asks for messages".into(),
            Self::NoCredit { consumers: 1 } => "the consumer holds as much as its credit allows".into(),
            Self::NoCredit { consumers } => format!("all {consumers} consumers hold as much as their credit allows"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_obstacle_reads_as_a_sentence() {
        let next_at = Timestamp::from_millis(1_000);
        let sentence = |obstacle| Obstacle::Queue(obstacle).sentence();
        assert_eq!(
            sentence(QueueObstacle::Delayed { messages: 1, next_at }),
            "1 message is not visible yet, the next until 1970-01-01T00:00:01.000Z"
        );
        assert_eq!(
            sentence(QueueObstacle::Retrying { messages: 2, next_at }),
            "2 messages failed and wait for their retry, the next until 1970-01-01T00:00:01.000Z"
        );
        assert_eq!(
            Obstacle::NoCredit { consumers: 3 }.sentence(),
            "all 3 consumers hold as much as their credit allows"
        );
    }
}
