//! Policies on disk: one field after the other, as the head of a message has them.
//!
//! ```text
//! 0     1        5
//! | tag | length | value …      numbers are u64, durations in milliseconds
//! ```
//!
//! A field that is not set is not written. An unknown tag is damage, since new tags come with a new format version.

use std::{num::NonZeroU32, time::Duration};

use crate::{
    engine::journal::wire::Reader,
    model::{Overflow, QueueLimits, QueuePolicy, TopicPolicy},
};

mod tag {
    pub(super) const ACK_DEADLINE_MS: u8 = 1;
    pub(super) const DELIVERY_ATTEMPTS_MAX: u8 = 2;
    pub(super) const BACKOFF_MIN_MS: u8 = 3;
    pub(super) const BACKOFF_MAX_MS: u8 = 4;
    pub(super) const MESSAGES_MAX: u8 = 5;
    pub(super) const BYTES_MAX: u8 = 6;
    pub(super) const AGE_MAX_MS: u8 = 7;
    pub(super) const OVERFLOW: u8 = 8;
    pub(super) const DEDUP_WINDOW_MS: u8 = 9;
}

const REJECT: u64 = 1;
const DROP_OLDEST: u64 = 2;

pub(in crate::engine) fn encode_queue_policy(out: &mut Vec<u8>, policy: &QueuePolicy) {
    put(out, tag::ACK_DEADLINE_MS, Some(millis(policy.ack_deadline)));
    // 0 is for ever, so that what is not written is the default of the version that reads it.
    let attempts = policy.max_delivery_attempts.map_or(0, NonZeroU32::get);
    put(out, tag::DELIVERY_ATTEMPTS_MAX, Some(u64::from(attempts)));
    put(out, tag::BACKOFF_MIN_MS, Some(millis(policy.retry.minimum_backoff)));
    put(out, tag::BACKOFF_MAX_MS, Some(millis(policy.retry.maximum_backoff)));
    encode_limits(out, &policy.limits);
}

pub(in crate::engine) fn encode_topic_policy(out: &mut Vec<u8>, policy: &TopicPolicy) {
    put(out, tag::DEDUP_WINDOW_MS, policy.dedup_window.map(millis));
    encode_limits(out, &policy.limits);
}

fn encode_limits(out: &mut Vec<u8>, limits: &QueueLimits) {
    put(out, tag::MESSAGES_MAX, limits.messages_max);
    put(out, tag::BYTES_MAX, limits.bytes_max);
    put(out, tag::AGE_MAX_MS, limits.age_max.map(millis));
    let overflow = limits.overflow.map(|overflow| match overflow {
        Overflow::Reject => REJECT,
        Overflow::DropOldest => DROP_OLDEST,
    });
    put(out, tag::OVERFLOW, overflow);
}

pub(in crate::engine) fn decode_queue_policy(reader: &mut Reader<'_>) -> Result<QueuePolicy, &'static str> {
    let mut policy = QueuePolicy::default();
    while reader.remaining() > 0 {
        let (tag, value) = take(reader)?;
        let time = Duration::from_millis(value);
        match tag {
            tag::ACK_DEADLINE_MS => policy.ack_deadline = time,
            tag::DELIVERY_ATTEMPTS_MAX => {
                let attempts = u32::try_from(value).map_err(|_| "has too large a number of attempts")?;
                policy.max_delivery_attempts = NonZeroU32::new(attempts);
            }
            tag::BACKOFF_MIN_MS => policy.retry.minimum_backoff = time,
            tag::BACKOFF_MAX_MS => policy.retry.maximum_backoff = time,
            _ => decode_limit(&mut policy.limits, tag, value)?,
        }
    }
    Ok(policy)
}

pub(in crate::engine) fn decode_topic_policy(reader: &mut Reader<'_>) -> Result<TopicPolicy, &'static str> {
    let mut policy = TopicPolicy::default();
    while reader.remaining() > 0 {
        match take(reader)? {
            (tag::DEDUP_WINDOW_MS, value) => policy.dedup_window = Some(Duration::from_millis(value)),
            (tag, value) => decode_limit(&mut policy.limits, tag, value)?,
        }
    }
    Ok(policy)
}

fn decode_limit(limits: &mut QueueLimits, tag: u8, value: u64) -> Result<(), &'static str> {
    match (tag, value) {
        (tag::MESSAGES_MAX, _) => limits.messages_max = Some(value),
        (tag::BYTES_MAX, _) => limits.bytes_max = Some(value),
        (tag::AGE_MAX_MS, _) => limits.age_max = Some(Duration::from_millis(value)),
        (tag::OVERFLOW, REJECT) => limits.overflow = Some(Overflow::Reject),
        (tag::OVERFLOW, DROP_OLDEST) => limits.overflow = Some(Overflow::DropOldest),
        _ => return Err("has a policy with an unknown field"),
    }
    Ok(())
}

fn put(out: &mut Vec<u8>, tag: u8, value: Option<u64>) {
    let Some(value) = value else { return };
    out.push(tag);
    out.extend_from_slice(&8_u32.to_le_bytes());
    out.extend_from_slice(&value.to_le_bytes());
}

fn take(reader: &mut Reader<'_>) -> Result<(u8, u64), &'static str> {
    let (tag, length) = (reader.u8()?, reader.u32()?);
    if length != 8 {
        return Err("has a policy with a field of another length");
    }
    Ok((tag, reader.u64()?))
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
