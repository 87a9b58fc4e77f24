//! Requests as the broker's commands. Whatever cannot be read is said by the name of its field.

use std::{borrow::Cow, num::NonZeroU32, time::Duration};

use prost_types::{Duration as ProtoDuration, Timestamp as ProtoTimestamp};
use tonic::metadata::MetadataMap;

use crate::{
    broker::{
        AckWhen, BrokerError, Credit, Limits, List, Nack, NackOutcome, Page, Publish, Receive, Settlement, StateFilter,
        Subscribe,
        reading::{self, consumer_name, kept_content_type, name},
    },
    grpc::proto::v1::{self as proto, new_message::Due as ProtoDue, settlement::Outcome},
    model::{Draft, Due, Name, Overflow, Properties, QueueLimitsPatch, QueuePolicyPatch, Timestamp, TopicPolicyPatch},
};

type Result<T> = std::result::Result<T, BrokerError>;

/// Most bytes of an answer with messages: less than the 4 MiB that a client takes unless told otherwise, by enough for what
/// a last message of a thousand brings.
const ANSWER_BYTES_MAX: usize = 3 << 20;
/// The metadata of W3C Trace Context.
const TRACEPARENT: &str = "traceparent";
const TRACESTATE: &str = "tracestate";

fn optional_name(field: &'static str, text: &str) -> Result<Option<Name>> {
    if text.is_empty() { Ok(None) } else { name(field, text).map(Some) }
}

/// Seconds, as the broker's commands have them.
pub(super) fn seconds(duration: ProtoDuration) -> f64 {
    duration.seconds as f64 + f64::from(duration.nanos) / 1e9
}

pub(super) fn duration(field: &'static str, duration: ProtoDuration) -> Result<Duration> {
    Limits::duration(field, seconds(duration))
}

fn optional_duration(field: &'static str, value: Option<ProtoDuration>) -> Result<Option<Duration>> {
    value.map(|value| duration(field, value)).transpose()
}

/// A moment before 1970 is as good as 1970: past.
fn timestamp(at: ProtoTimestamp) -> Timestamp {
    let (seconds, nanos) = (u64::try_from(at.seconds).unwrap_or(0), u64::try_from(at.nanos).unwrap_or(0));
    Timestamp::from_millis(seconds.saturating_mul(1000).saturating_add(nanos / 1_000_000))
}

fn text(text: String) -> Option<String> {
    Some(text).filter(|text| !text.is_empty())
}

/// What a call's metadata says of its trace.
#[derive(Debug, Clone, Default)]
pub(super) struct Trace {
    parent: Option<String>,
    state: Option<String>,
}

impl Trace {
    pub(super) fn of(metadata: &MetadataMap) -> Self {
        let text = |name| metadata.get(name)?.to_str().ok().filter(|text| !text.is_empty()).map(str::to_owned);
        Self { parent: text(TRACEPARENT), state: text(TRACESTATE) }
    }
}

/// What a consumer is called: as it says, or else as its client does.
pub(super) fn consumer(name: String, metadata: &MetadataMap) -> Option<String> {
    consumer_name(Some(&name), metadata.get("user-agent").and_then(|agent| agent.to_str().ok()))
}

pub(super) fn publish(request: proto::PublishRequest, trace: &Trace) -> Result<Publish> {
    let topic = name("topic", &request.topic)?;
    let draft = |(at, message)| draft(message, trace).map_err(|error| error.at("messages", at));
    let drafts = request.messages.into_iter().enumerate().map(draft).collect::<Result<_>>()?;
    Ok(Publish { topic, drafts })
}

pub(super) fn draft(message: proto::NewMessage, trace: &Trace) -> Result<Draft> {
    let content_type = kept_content_type(text(message.content_type), &message.data)
        .map_err(|e| BrokerError::invalid("data", format!("is not JSON: {e}")))?;
    let due = match message.due {
        None => Due::Now,
        Some(ProtoDue::Delay(delay)) => Due::After(duration("delay_seconds", delay)?),
        Some(ProtoDue::DeliverAt(at)) => Due::At(timestamp(at)),
    };
    let ttl = optional_duration("ttl_seconds", message.ttl)?.map(reading::ttl).transpose()?;
    // Both or none: a state belongs to its parent.
    let (traceparent, tracestate) = match text(message.traceparent) {
        Some(parent) => (Some(parent), text(message.tracestate)),
        None => (trace.parent.clone(), trace.state.clone()),
    };
    let properties = Properties {
        content_type,
        attributes: message.attributes.into_iter().collect(),
        ordering_key: text(message.ordering_key),
        reply_to: text(message.reply_to),
        correlation_id: text(message.correlation_id),
        traceparent,
        tracestate,
    };
    Ok(Draft { payload: message.data, properties, dedup_id: text(message.dedup_id), due, ttl })
}

pub(super) fn receive(request: proto::PullRequest, metadata: &MetadataMap) -> Result<Receive> {
    let ack = match (request.auto_ack, request.ack_deadline) {
        (true, None) => AckWhen::AtOnce,
        (true, Some(_)) => {
            return Err(BrokerError::invalid("ack_deadline_seconds", "cannot be given together with auto_ack"));
        }
        (false, deadline) => AckWhen::Later(deadline.map(seconds)),
    };
    Ok(Receive {
        queue: name("queue", &request.queue)?,
        service: optional_name("service", &request.service)?,
        max_messages: request.max_messages.map_or(1, i64::from),
        max_bytes: ANSWER_BYTES_MAX,
        wait_seconds: request.wait.map_or(0.0, seconds),
        ack,
        consumer: consumer(request.consumer, metadata),
    })
}

pub(super) fn subscribe(start: proto::StreamingPullStart, metadata: &MetadataMap) -> Result<Subscribe> {
    Ok(Subscribe {
        queue: name("queue", &start.queue)?,
        service: optional_name("service", &start.service)?,
        ack_deadline_seconds: start.ack_deadline.map(seconds),
        consumer: consumer(start.consumer, metadata),
        credit: start.credit.map_or_else(Credit::default, credit),
        max_bytes: ANSWER_BYTES_MAX,
    })
}

pub(super) fn credit(credit: proto::Credit) -> Credit {
    let default = Credit::default();
    Credit {
        messages_max: credit.max_outstanding_messages.map_or(default.messages_max, u64::from),
        bytes_max: credit.max_outstanding_bytes.unwrap_or(default.bytes_max),
    }
}

pub(super) fn settlements(settlements: Vec<proto::Settlement>) -> Result<Vec<(String, Settlement)>> {
    let read = |(at, proto::Settlement { ack_id, outcome })| {
        settlement(outcome).map(|settlement| (ack_id, settlement)).map_err(|error| error.at("settlements", at))
    };
    settlements.into_iter().enumerate().map(read).collect()
}

fn settlement(outcome: Option<Outcome>) -> Result<Settlement> {
    Ok(match outcome {
        None => return Err(BrokerError::invalid("outcome", "is missing")),
        Some(Outcome::Ack(proto::Ack {})) => Settlement::Ack,
        Some(Outcome::Extend(by)) => Settlement::Extend(duration("extend", by)?),
        Some(Outcome::Nack(nack)) => {
            use proto::nack::Outcome::{DeadLetter, Release, Retry, Unspecified};
            let outcome = match proto::nack::Outcome::try_from(nack.outcome) {
                Ok(Unspecified | Retry) => NackOutcome::Retry,
                Ok(Release) => NackOutcome::Release,
                Ok(DeadLetter) => NackOutcome::DeadLetter,
                Err(_) => return Err(unknown("nack.outcome", nack.outcome)),
            };
            let delay = optional_duration("nack.delay_seconds", nack.delay)?;
            Settlement::Nack(Nack { outcome, delay, reason: nack.reason })
        }
    })
}

fn unknown(field: impl Into<Cow<'static, str>>, number: i32) -> BrokerError {
    BrokerError::invalid(field, format!("is {number}, which is none of its values"))
}

pub(super) fn state(field: impl Into<Cow<'static, str>>, number: i32) -> Result<StateFilter> {
    use proto::MessageState::{Dead, Delayed, Leased, Ready, Unspecified};
    match proto::MessageState::try_from(number) {
        Ok(Unspecified | Ready) => Ok(StateFilter::Ready),
        Ok(Leased) => Ok(StateFilter::Leased),
        Ok(Delayed) => Ok(StateFilter::Delayed),
        Ok(Dead) => Ok(StateFilter::Dead),
        Err(_) => Err(unknown(field, number)),
    }
}

pub(super) fn page(size: Option<u32>, token: String) -> Page {
    Page { size: size.map(i64::from), token }
}

pub(super) fn list(size: Option<u32>, token: String, prefix: String) -> List {
    List { prefix, page: page(size, token) }
}

pub(super) fn topic_policy(policy: Option<proto::TopicPolicy>) -> Result<TopicPolicyPatch> {
    let policy = policy.unwrap_or_default();
    let dedup_window = optional_duration("dedup_window_seconds", policy.dedup_window)?;
    Ok(TopicPolicyPatch { dedup_window: dedup_window.map(Some), limits: limits(policy.limits)? })
}

pub(super) fn queue_policy(policy: Option<proto::QueuePolicy>) -> Result<QueuePolicyPatch> {
    let policy = policy.unwrap_or_default();
    Ok(QueuePolicyPatch {
        ack_deadline: optional_duration("ack_deadline_seconds", policy.ack_deadline)?,
        max_delivery_attempts: policy.max_delivery_attempts.map(NonZeroU32::new),
        minimum_backoff: optional_duration("minimum_backoff_seconds", policy.minimum_backoff)?,
        maximum_backoff: optional_duration("maximum_backoff_seconds", policy.maximum_backoff)?,
        limits: limits(policy.limits)?,
    })
}

fn limits(limits: Option<proto::Limits>) -> Result<QueueLimitsPatch> {
    use proto::limits::Overflow as Proto;
    let limits = limits.unwrap_or_default();
    let overflow = match Proto::try_from(limits.overflow) {
        Ok(Proto::Unspecified) => None,
        Ok(Proto::Reject) => Some(Overflow::Reject),
        Ok(Proto::DropOldest) => Some(Overflow::DropOldest),
        Err(_) => return Err(unknown("limits.overflow", limits.overflow)),
    };
    Ok(QueueLimitsPatch {
        messages_max: limits.max_messages.map(Some),
        bytes_max: limits.max_bytes.map(Some),
        age_max: optional_duration("limits.max_age_seconds", limits.max_age)?.map(Some),
        overflow: overflow.map(Some),
    })
}

/// Takes away the limits that are named.
pub(super) fn cleared(mut policy: QueuePolicyPatch, names: &[String]) -> Result<QueuePolicyPatch> {
    for (at, name) in names.iter().enumerate() {
        let limits = &mut policy.limits;
        let is_set = match name.as_str() {
            "max_messages" => limits.messages_max.replace(None).is_some(),
            "max_bytes" => limits.bytes_max.replace(None).is_some(),
            "max_age" => limits.age_max.replace(None).is_some(),
            "overflow" => limits.overflow.replace(None).is_some(),
            _ => {
                let problem = format!("is {name:?}; it must be max_messages, max_bytes, max_age or overflow");
                return Err(BrokerError::invalid(format!("clear_limits[{at}]"), problem));
            }
        };
        if is_set {
            return Err(BrokerError::invalid(format!("clear_limits[{at}]"), "is set in the policy, too"));
        }
    }
    Ok(policy)
}
