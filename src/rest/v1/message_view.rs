//! What is up with messages, as JSON objects.

use serde::Serialize;
use utoipa::ToSchema;

use super::{message::Message, queue_view::Queue};
use crate::broker::{self, DeadCause, Explanation as Explained, MessageState, QueueObstacle};

/// A message of a queue, and what is up with it.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct BrowsedMessage<'a> {
    /// Not there if it is damaged.
    #[serde(flatten)]
    message: Option<Message<'a>>,
    #[serde(flatten)]
    whereabouts: Whereabouts,
}

/// What is up with a message in a queue.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Whereabouts {
    state: State,
    /// Deliveries so far that count, the one under way included.
    delivery_attempts: u32,
    /// `ready`: when it can be delivered again, if it waits for that.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(format = "date-time")]
    retry_at: Option<String>,
    /// `leased`: until when.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(format = "date-time")]
    ack_deadline: Option<String>,
    /// `delayed`: when it becomes visible.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(format = "date-time")]
    deliver_at: Option<String>,
    /// `dead`: what happened.
    #[serde(skip_serializing_if = "Option::is_none")]
    dead_letter: Option<DeadLetter>,
}

/// Where a message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, serde::Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = MessageState)]
pub(super) enum State {
    /// It waits to be handed out, now or after its backoff.
    Ready,
    /// A consumer holds it.
    Leased,
    /// It is not visible yet.
    Delayed,
    /// It is a dead letter.
    Dead,
}

#[derive(Debug, Serialize, ToSchema)]
pub(super) struct DeadLetter {
    cause: Cause,
    /// What the last consumer said.
    reason: String,
    #[schema(format = "date-time")]
    first_failed_at: String,
    #[schema(format = "date-time")]
    dead_lettered_at: String,
}

/// Why a message is dead.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = DeadLetterCause)]
pub(super) enum Cause {
    /// Delivered as often as the policy lets it, and the last ack deadline passed.
    AckDeadlineExceeded,
    /// Delivered as often as the policy lets it, and the last consumer nacked it.
    Failed,
    /// Its consumer said that it should be.
    Rejected,
}

/// What has happened to a message, and what is up with it.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Story<'a> {
    /// Absent if every queue is done with it.
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<Message<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    topic: Option<String>,
    /// When it becomes visible, if it is not.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(format = "date-time")]
    deliver_at: Option<String>,
    /// What is up with it in each queue of the topic.
    queues: Vec<QueueState>,
    /// What happened to it, as far as this instance remembers, the first first.
    events: Vec<Event>,
}

#[derive(Debug, Serialize, ToSchema)]
pub(super) struct QueueState {
    queue: String,
    /// Absent if the queue is done with it, or never got it.
    #[serde(skip_serializing_if = "Option::is_none")]
    state: Option<Whereabouts>,
}

#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Event {
    #[schema(format = "date-time")]
    at: String,
    /// In which queue, if it is about one.
    #[serde(skip_serializing_if = "Option::is_none")]
    queue: Option<String>,
    /// `published`, `delayed`, `became_visible`, `cancelled`, `delivered`, `extended`, `received` (acked at once), `acked`,
    /// `deadline_exceeded`, `nacked`, `released`, `unclaimed`, `dead_lettered`, `redriven`, `expired`, `too_old`,
    /// `dropped`, `deleted`, `damaged`.
    kind: &'static str,
    /// What a consumer said.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    /// Of a delivery, which one.
    #[serde(skip_serializing_if = "Option::is_none")]
    delivery_attempt: Option<u32>,
    /// Of a delivery or an extension, until when; of what goes back, when it can be delivered again.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(format = "date-time")]
    until: Option<String>,
}

/// Why a queue hands nothing out, or that it would.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Explanation {
    queue: Queue,
    /// Messages that can be handed out now, as far as is known without reading them.
    deliverable: u64,
    /// What holds messages back; empty if nothing does.
    obstacles: Vec<Obstacle>,
}

#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Obstacle {
    /// `paused`, `empty`, `leased`, `retrying`, `delayed`, `behind_keys`, `look_ahead_full`, `no_consumer`, `no_credit`.
    kind: &'static str,
    /// The same as a sentence.
    detail: String,
    /// How many messages it holds back.
    messages: u64,
    /// When the next of them is free, if that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(format = "date-time")]
    until: Option<String>,
    /// Of `behind_keys`: some of the keys.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    keys: Vec<HeldKey>,
}

#[derive(Debug, Serialize, ToSchema)]
pub(super) struct HeldKey {
    /// Absent if the message that holds it up cannot be read, like its id.
    #[serde(skip_serializing_if = "Option::is_none")]
    ordering_key: Option<String>,
    /// The message that holds the key up.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(format = "uuid")]
    message_id: Option<String>,
    /// Which delivery of it.
    delivery_attempt: u32,
    /// Its ack deadline, or when it is retried.
    #[schema(format = "date-time")]
    until: String,
    /// Messages of the key that wait behind it.
    behind: u64,
}

impl<'a> BrowsedMessage<'a> {
    pub(super) fn of(browsed: &'a broker::Browsed) -> Self {
        let message = browsed.message.as_deref().map(Message::of);
        Self { message, whereabouts: Whereabouts::of(&browsed.state) }
    }
}

impl Whereabouts {
    fn of(state: &MessageState) -> Self {
        let shown = |state: State, delivery_attempts: u32| Self {
            state,
            delivery_attempts,
            retry_at: None,
            ack_deadline: None,
            deliver_at: None,
            dead_letter: None,
        };
        match state {
            MessageState::Ready { attempts } => shown(State::Ready, attempts.0),
            MessageState::Retrying { attempts, retry_at } => {
                Self { retry_at: Some(retry_at.to_string()), ..shown(State::Ready, attempts.0) }
            }
            MessageState::Leased { attempt, deadline } => {
                Self { ack_deadline: Some(deadline.to_string()), ..shown(State::Leased, attempt.0) }
            }
            MessageState::Delayed { due } => Self { deliver_at: Some(due.to_string()), ..shown(State::Delayed, 0) },
            MessageState::Dead { attempts, cause, reason, first_failed, at } => {
                let dead_letter = DeadLetter {
                    cause: match cause {
                        DeadCause::DeadlineOver => Cause::AckDeadlineExceeded,
                        DeadCause::Failed => Cause::Failed,
                        DeadCause::Rejected => Cause::Rejected,
                    },
                    reason: reason.to_string(),
                    first_failed_at: first_failed.to_string(),
                    dead_lettered_at: at.to_string(),
                };
                Self { dead_letter: Some(dead_letter), ..shown(State::Dead, attempts.0) }
            }
        }
    }
}

impl<'a> Story<'a> {
    pub(super) fn of(story: &'a broker::Story) -> Self {
        let queues = story.queues.iter().map(|queue| QueueState {
            queue: queue.queue.to_string(),
            state: queue.state.as_ref().map(Whereabouts::of),
        });
        Self {
            message: story.message.as_deref().map(Message::of),
            topic: story.topic.as_ref().map(ToString::to_string),
            deliver_at: story.due.map(|due| due.to_string()),
            queues: queues.collect(),
            events: story.events.iter().map(Event::of).collect(),
        }
    }
}

impl Event {
    fn of(event: &broker::Event) -> Self {
        let reason = event.kind.reason();
        Self {
            at: event.at.to_string(),
            queue: event.queue.as_ref().map(ToString::to_string),
            kind: event.kind.word(),
            reason: (!reason.is_empty()).then(|| reason.to_owned()),
            delivery_attempt: event.kind.attempt().map(|attempt| attempt.0),
            until: event.kind.until().map(|until| until.to_string()),
        }
    }
}

impl From<Explained> for Explanation {
    fn from(explained: Explained) -> Self {
        Self {
            deliverable: explained.deliverable,
            obstacles: explained.obstacles.iter().map(Obstacle::of).collect(),
            queue: explained.queue.into(),
        }
    }
}

impl Obstacle {
    fn of(obstacle: &broker::Obstacle) -> Self {
        let keys = match obstacle {
            broker::Obstacle::Queue(QueueObstacle::BehindKeys { keys, .. }) => keys.iter().map(HeldKey::of).collect(),
            _ => Vec::new(),
        };
        Self {
            kind: obstacle.word(),
            detail: obstacle.sentence(),
            messages: obstacle.messages(),
            until: obstacle.until().map(|until| until.to_string()),
            keys,
        }
    }
}

impl HeldKey {
    fn of(key: &broker::HeldKey) -> Self {
        Self {
            ordering_key: key.key.clone(),
            message_id: key.message.map(|id| id.to_string()),
            delivery_attempt: key.attempt.0,
            until: key.until.to_string(),
            behind: key.behind,
        }
    }
}
