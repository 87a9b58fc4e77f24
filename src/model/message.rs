//! A message, before it is published ([`Draft`]) and after ([`Message`]).

use std::time::Duration;

use bytes::Bytes;

use super::{MessageId, Name, Timestamp};

/// What travels beside a payload. Every field is optional; an empty text counts as absent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Properties {
    /// Media type of the payload; `None` means JSON, the only type of the original contract.
    pub content_type: Option<String>,
    /// Free key-value pairs, in the publisher's order.
    pub attributes: Vec<(String, String)>,
    /// Messages of one key belong together, in order.
    pub ordering_key: Option<String>,
    /// Where an answer is expected.
    pub reply_to: Option<String>,
    /// What an answer has to repeat.
    pub correlation_id: Option<String>,
    /// Of which trace the publish was a part: the header `traceparent` of W3C Trace Context.
    pub traceparent: Option<String>,
    /// What the header `tracestate` said beside that.
    pub tracestate: Option<String>,
}

/// When a message becomes visible to consumers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Due {
    /// With its publish.
    #[default]
    Now,
    /// That long after its publish.
    After(Duration),
    /// At that moment; at once if it is past.
    At(Timestamp),
}

/// A message as a publisher hands it in.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Draft {
    /// Kept byte for byte.
    pub payload: Bytes,
    /// What travels beside it.
    pub properties: Properties,
    /// The publisher's own id: within the topic's window a second one is the same message.
    pub dedup_id: Option<String>,
    /// When it becomes visible.
    pub due: Due,
    /// How long after its publish it may still be delivered; `None`: for ever.
    pub ttl: Option<Duration>,
}

/// A published message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Its id, unique in the store.
    pub id: MessageId,
    /// The topic it was published to.
    pub topic: Name,
    /// The publisher's exact bytes.
    pub payload: Bytes,
    /// What travels beside it.
    pub properties: Properties,
    /// When it was published.
    pub published_at: Timestamp,
    /// After this moment it is not delivered any more.
    pub expires_at: Option<Timestamp>,
}

impl Message {
    /// How many bytes it has on its way to a consumer, within a few per cent: the payload, what travels beside it, and 200
    /// for ids, times and the syntax of the answer.
    #[must_use]
    pub fn bytes(&self) -> usize {
        const ANSWER_BYTES: usize = 200;
        let p = &self.properties;
        let texts = [&p.content_type, &p.ordering_key, &p.reply_to, &p.correlation_id, &p.traceparent, &p.tracestate];
        let texts: usize = texts.into_iter().flatten().map(String::len).sum();
        let attributes: usize = p.attributes.iter().map(|(name, value)| name.len() + value.len() + 8).sum();
        self.payload.len() + texts + attributes + self.topic.as_str().len() + ANSWER_BYTES
    }
}

/// A draft over one of the limits.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field} {problem}")]
pub struct DraftError {
    /// The field, as the API names it.
    pub field: &'static str,
    /// What is wrong with it.
    pub problem: String,
}

impl Draft {
    /// Most attributes of a message. As in Google Pub/Sub, like the three limits that follow.
    pub const ATTRIBUTES_MAX: usize = 100;
    /// Longest attribute name, in bytes.
    pub const ATTRIBUTE_NAME_BYTES_MAX: usize = 256;
    /// Longest attribute value, in bytes.
    pub const ATTRIBUTE_VALUE_BYTES_MAX: usize = 1024;
    /// Longest `ordering_key`, `reply_to`, `correlation_id` and `tracestate`, in bytes.
    pub const TEXT_BYTES_MAX: usize = 1024;
    /// Longest `dedup_id`, `content_type` and `traceparent`, in bytes.
    pub const SHORT_TEXT_BYTES_MAX: usize = 255;
    /// Longest delay and time to live: 366 days.
    pub const DELAY_MAX: Duration = Duration::from_secs(366 * 24 * 3600);

    /// Checks every limit but that of the payload, which is the store's to set.
    ///
    /// # Errors
    /// [`DraftError`] names the first field that is over its limit.
    pub fn check(&self) -> Result<(), DraftError> {
        let p = &self.properties;
        for (field, text, max) in [
            ("content_type", &p.content_type, Self::SHORT_TEXT_BYTES_MAX),
            ("ordering_key", &p.ordering_key, Self::TEXT_BYTES_MAX),
            ("reply_to", &p.reply_to, Self::TEXT_BYTES_MAX),
            ("correlation_id", &p.correlation_id, Self::TEXT_BYTES_MAX),
            ("traceparent", &p.traceparent, Self::SHORT_TEXT_BYTES_MAX),
            ("tracestate", &p.tracestate, Self::TEXT_BYTES_MAX),
            ("dedup_id", &self.dedup_id, Self::SHORT_TEXT_BYTES_MAX),
        ] {
            check_length(field, text.as_deref().unwrap_or_default(), max)?;
        }
        if p.attributes.len() > Self::ATTRIBUTES_MAX {
            let problem = format!("has {} entries; at most {} are allowed", p.attributes.len(), Self::ATTRIBUTES_MAX);
            return Err(DraftError { field: "attributes", problem });
        }
        for (name, value) in &p.attributes {
            check_length("attributes", name, Self::ATTRIBUTE_NAME_BYTES_MAX)?;
            check_length("attributes", value, Self::ATTRIBUTE_VALUE_BYTES_MAX)?;
        }
        if p.content_type.as_ref().is_some_and(|t| !t.bytes().all(|b| (b' '..=b'~').contains(&b))) {
            return Err(DraftError { field: "content_type", problem: "must be visible ASCII".into() });
        }
        if matches!(self.due, Due::After(delay) if delay > Self::DELAY_MAX) {
            return Err(over_the_longest("delay_seconds"));
        }
        if self.ttl.is_some_and(|ttl| ttl > Self::DELAY_MAX) {
            return Err(over_the_longest("ttl_seconds"));
        }
        Ok(())
    }
}

fn check_length(field: &'static str, text: &str, max: usize) -> Result<(), DraftError> {
    if text.len() <= max {
        return Ok(());
    }
    Err(DraftError { field, problem: format!("has a text of {} bytes; at most {max} are allowed", text.len()) })
}

fn over_the_longest(field: &'static str) -> DraftError {
    DraftError { field, problem: format!("must be at most {} seconds", Draft::DELAY_MAX.as_secs()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_limit_is_refused_by_the_name_of_its_field() {
        let with = |change: &dyn Fn(&mut Draft)| {
            let mut draft = Draft::default();
            change(&mut draft);
            draft.check().map_err(|e| e.field)
        };
        assert_eq!(with(&|_| ()), Ok(()));
        assert_eq!(with(&|d| d.dedup_id = Some("x".repeat(255))), Ok(()));
        assert_eq!(with(&|d| d.dedup_id = Some("x".repeat(256))), Err("dedup_id"));
        assert_eq!(with(&|d| d.properties.reply_to = Some("x".repeat(1025))), Err("reply_to"));
        assert_eq!(with(&|d| d.properties.content_type = Some("a\nb".into())), Err("content_type"));
        assert_eq!(with(&|d| d.properties.attributes = vec![("a".into(), "b".into()); 101]), Err("attributes"));
        assert_eq!(with(&|d| d.properties.attributes = vec![("a".into(), "b".repeat(1025))]), Err("attributes"));
        assert_eq!(with(&|d| d.due = Due::After(Draft::DELAY_MAX * 2)), Err("delay_seconds"));
        assert_eq!(with(&|d| d.ttl = Some(Draft::DELAY_MAX * 2)), Err("ttl_seconds"));
    }
}
