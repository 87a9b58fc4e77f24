//! What every transport reads from a request in the same way.

use std::{borrow::Cow, time::Duration};

use serde_json::value::RawValue;
use uuid::Uuid;

use super::BrokerError;
use crate::model::{MessageId, Name};

/// How much of a client's user agent names it as a consumer, in characters.
const AGENT_CHARS: usize = 64;

/// A name.
///
/// # Errors
/// [`BrokerError::InvalidArgument`] says which rule of names is broken.
pub fn name(field: impl Into<Cow<'static, str>>, text: &str) -> Result<Name, BrokerError> {
    Name::parse(text).map_err(|e| BrokerError::invalid(field, e.to_string()))
}

/// The id of a message.
///
/// # Errors
/// [`BrokerError::InvalidArgument`]: it is no UUID.
pub fn message_id(field: impl Into<Cow<'static, str>>, text: &str) -> Result<MessageId, BrokerError> {
    let id = Uuid::try_parse(text).map(MessageId);
    id.map_err(|_| BrokerError::invalid(field, format!("is {text:?}; it must be the UUID of a message")))
}

/// A time to live: more than none.
///
/// # Errors
/// [`BrokerError::InvalidArgument`]: it is none.
pub fn ttl(ttl: Duration) -> Result<Duration, BrokerError> {
    if ttl.is_zero() {
        return Err(BrokerError::invalid("ttl_seconds", "is 0; it must be more"));
    }
    Ok(ttl)
}

/// The content type as it is kept: that of JSON is none, and then the payload has to be JSON.
///
/// # Errors
/// Why the payload is not JSON.
pub fn kept_content_type(content_type: Option<String>, payload: &[u8]) -> Result<Option<String>, serde_json::Error> {
    let kept = content_type.filter(|text| !text.eq_ignore_ascii_case("application/json"));
    if kept.is_none() {
        serde_json::from_slice::<&RawValue>(payload)?;
    }
    Ok(kept)
}

/// What a consumer is called: as it says, or else as its user agent begins.
#[must_use]
pub fn consumer_name(said: Option<&str>, agent: Option<&str>) -> Option<String> {
    let said = said.filter(|name| !name.is_empty()).map(str::to_owned);
    let agent =
        || agent.map(|agent| agent.chars().take(AGENT_CHARS).collect()).filter(|name: &String| !name.is_empty());
    said.or_else(agent)
}
