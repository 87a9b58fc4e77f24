//! The bounds of a request, checked before the engine sees it.

use std::time::Duration;

use super::{Ack, BrokerError, Receive};
use crate::{
    engine::{AckMode, Receive as EngineReceive},
    model::{AckId, AckKey, Draft, Name},
};

/// How large a request may be.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Longest payload, in bytes. Default 4 MiB less 64 KiB: a gRPC client refuses answers over 4 MiB unless told
    /// otherwise, and what travels beside the payload needs room in them too.
    pub message_bytes_max: usize,
    /// Longest wait of a receive. Default 60 s.
    pub wait_max: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { message_bytes_max: (4 << 20) - (64 << 10), wait_max: Duration::from_secs(60) }
    }
}

impl Limits {
    /// Most messages of one publish, and of one receive. As in Google Pub/Sub.
    pub const BATCH_MAX: usize = 1000;
    /// Most topics of one registration.
    pub const TOPICS_MAX: usize = 1000;
    /// Longest `wait_seconds`.
    pub const WAIT_SECONDS_MAX: f64 = 60.0;
    /// Shortest and longest `ack_deadline_seconds`: 10 s and 12 h.
    pub const ACK_DEADLINE_SECONDS: std::ops::RangeInclusive<f64> = 10.0..=43_200.0;

    pub(super) fn check_topics(&self, topics: &[Name]) -> Result<(), BrokerError> {
        check_count("topics", topics.len(), 0, Self::TOPICS_MAX)
    }

    pub(super) fn check_drafts(&self, drafts: &[Draft]) -> Result<(), BrokerError> {
        check_count("messages", drafts.len(), 1, Self::BATCH_MAX)?;
        for draft in drafts {
            draft.check().map_err(|e| BrokerError::invalid(e.field, e.problem))?;
            let (bytes, max) = (draft.payload.len(), self.message_bytes_max);
            if bytes > max {
                return Err(BrokerError::TooLarge { field: "message", bytes, max });
            }
        }
        Ok(())
    }

    pub(super) fn check_receive(&self, request: Receive) -> Result<EngineReceive, BrokerError> {
        let max_messages = usize::try_from(request.max_messages)
            .ok()
            .filter(|n| (1..=Self::BATCH_MAX).contains(n))
            .ok_or_else(|| {
                let problem = format!("is {}; it must be 1 to {}", request.max_messages, Self::BATCH_MAX);
                BrokerError::invalid("max_messages", problem)
            })?;
        let wait = seconds("wait_seconds", request.wait_seconds, 0.0..=Self::WAIT_SECONDS_MAX)?;
        let mode = match request.ack_deadline_seconds {
            None => AckMode::AtOnce,
            Some(s) => AckMode::Lease(seconds("ack_deadline_seconds", s, Self::ACK_DEADLINE_SECONDS)?),
        };
        let Receive { queue, service, .. } = request;
        Ok(EngineReceive { queue, service, max_messages, wait: wait.min(self.wait_max), mode })
    }

    pub(super) fn check_ack(&self, request: &Ack, key: &AckKey) -> Result<Vec<Option<AckId>>, BrokerError> {
        check_count("ack_ids", request.ack_ids.len(), 1, Self::BATCH_MAX)?;
        Ok(request.ack_ids.iter().map(|text| key.open(text).ok()).collect())
    }
}

fn check_count(field: &'static str, count: usize, min: usize, max: usize) -> Result<(), BrokerError> {
    if (min..=max).contains(&count) {
        return Ok(());
    }
    Err(BrokerError::invalid(field, format!("has {count} entries; {min} to {max} are allowed")))
}

fn seconds(field: &'static str, value: f64, range: std::ops::RangeInclusive<f64>) -> Result<Duration, BrokerError> {
    // Not a number is in no range.
    if range.contains(&value) {
        return Ok(Duration::from_secs_f64(value));
    }
    Err(BrokerError::invalid(field, format!("is {value}; it must be {} to {}", range.start(), range.end())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn receive(change: impl FnOnce(&mut Receive)) -> Result<EngineReceive, BrokerError> {
        let queue = Name::parse("q").expect("valid");
        let mut request =
            Receive { queue, service: None, max_messages: 1, wait_seconds: 0.0, ack_deadline_seconds: None };
        change(&mut request);
        Limits::default().check_receive(request)
    }

    fn refused_field(result: Result<EngineReceive, BrokerError>) -> Option<String> {
        match result {
            Err(BrokerError::InvalidArgument { field, .. }) => Some(field.into_owned()),
            _ => None,
        }
    }

    #[test]
    fn a_receive_out_of_range_is_refused_by_its_field() {
        assert!(receive(|_| ()).is_ok());
        assert!(receive(|r| r.max_messages = 1000).is_ok());
        for n in [0, -1, 1001, 1_000_000_000, i64::MIN, i64::MAX] {
            assert_eq!(refused_field(receive(|r| r.max_messages = n)).as_deref(), Some("max_messages"), "{n}");
        }
        for s in [-1.0, 60.1, f64::NAN, f64::INFINITY] {
            assert_eq!(refused_field(receive(|r| r.wait_seconds = s)).as_deref(), Some("wait_seconds"), "{s}");
        }
        for s in [0.0, 9.9, 43_200.1, f64::NAN] {
            let field = refused_field(receive(|r| r.ack_deadline_seconds = Some(s)));
            assert_eq!(field.as_deref(), Some("ack_deadline_seconds"), "{s}");
        }
    }

    #[test]
    fn a_payload_over_the_limit_is_too_large() {
        let limits = Limits { message_bytes_max: 3, ..Limits::default() };
        let draft = |n: usize| Draft { payload: vec![b'x'; n].into(), ..Draft::default() };
        assert_eq!(limits.check_drafts(&[draft(3)]), Ok(()));
        let too_large = BrokerError::TooLarge { field: "message", bytes: 4, max: 3 };
        assert_eq!(limits.check_drafts(&[draft(3), draft(4)]), Err(too_large));
        assert!(limits.check_drafts(&[]).is_err());
    }
}
