//! The bounds of a request, checked before the engine sees it.

use std::{ops::RangeInclusive, time::Duration};

use super::{AckWhen, BrokerError, Credit, Receive};
use crate::{
    engine::{AckMode, NackOutcome, Receive as EngineReceive, Settlement},
    model::{
        AckId, AckKey, Draft, Name, QueueLimitsPatch, QueuePolicy, QueuePolicyPatch, RetryPolicy, TopicPolicy,
        TopicPolicyPatch,
    },
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
    pub const ACK_DEADLINE_SECONDS: RangeInclusive<f64> = 10.0..=43_200.0;
    /// Longest delay of a nack: 12 h, as of a policy's backoff.
    pub const NACK_DELAY_MAX: Duration = RetryPolicy::BACKOFF_MAX;
    /// Longest reason of a nack, in bytes.
    pub const REASON_BYTES_MAX: usize = 1024;
    /// Longest name that a consumer gives itself, in bytes.
    pub const CONSUMER_BYTES_MAX: usize = 255;
    /// Most entries of a page.
    pub const PAGE_MAX: usize = 1000;
    /// Entries of a page unless the request says otherwise.
    pub const PAGE_DEFAULT: usize = 100;
    /// Most messages that a stream's consumer may hold. Default 1,000.
    pub const OUTSTANDING_MAX: u64 = 10_000;

    /// A number of seconds as a time, of at most 366 days.
    ///
    /// # Errors
    /// [`BrokerError::InvalidArgument`] when it is negative, no number, or more.
    pub fn duration(field: &'static str, seconds: f64) -> Result<Duration, BrokerError> {
        self::seconds(field, seconds, 0.0..=Draft::DELAY_MAX.as_secs_f64())
    }

    pub(super) fn check_topics(&self, topics: &[Name]) -> Result<(), BrokerError> {
        check_count("topics", topics.len(), 0, Self::TOPICS_MAX)
    }

    pub(super) fn check_drafts(&self, drafts: &[Draft]) -> Result<(), BrokerError> {
        check_count("messages", drafts.len(), 1, Self::BATCH_MAX)?;
        let check = |(at, draft)| self.check_draft(draft).map_err(|error| error.at("messages", at));
        drafts.iter().enumerate().try_for_each(check)
    }

    pub(super) fn check_draft(&self, draft: &Draft) -> Result<(), BrokerError> {
        draft.check().map_err(|e| BrokerError::invalid(e.field, e.problem))?;
        let (bytes, max) = (draft.payload.len(), self.message_bytes_max);
        if bytes > max {
            return Err(BrokerError::TooLarge { field: "message".into(), bytes, max });
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
        let mode = match request.ack {
            AckWhen::AtOnce => AckMode::AtOnce,
            AckWhen::Later(deadline) => ack_mode(deadline)?,
        };
        check_consumer(request.consumer.as_deref())?;
        let Receive { queue, service, max_bytes, .. } = request;
        Ok(EngineReceive { queue, service, max_messages, max_bytes, wait: wait.min(self.wait_max), mode })
    }

    pub(super) fn check_settlements(
        &self,
        settlements: Vec<(String, Settlement)>,
        min: usize,
        key: &AckKey,
    ) -> Result<Vec<SettleItem>, BrokerError> {
        check_count("settlements", settlements.len(), min, Self::BATCH_MAX)?;
        let item = |(at, (text, settlement)): (usize, (String, Settlement))| {
            let settlement = check_settlement(settlement).map_err(|error| error.at("settlements", at))?;
            Ok((key.open(&text).ok(), settlement))
        };
        settlements.into_iter().enumerate().map(item).collect()
    }

    pub(super) fn check_page(page_size: Option<i64>) -> Result<usize, BrokerError> {
        let Some(size) = page_size else { return Ok(Self::PAGE_DEFAULT) };
        let in_range = usize::try_from(size).ok().filter(|size| (1..=Self::PAGE_MAX).contains(size));
        in_range
            .ok_or_else(|| BrokerError::invalid("page_size", format!("is {size}; it must be 1 to {}", Self::PAGE_MAX)))
    }

    pub(super) fn check_credit(credit: Credit) -> Result<(), BrokerError> {
        if !(1..=Self::OUTSTANDING_MAX).contains(&credit.messages_max) {
            let problem = format!("is {}; it must be 1 to {}", credit.messages_max, Self::OUTSTANDING_MAX);
            return Err(BrokerError::invalid("max_outstanding_messages", problem));
        }
        if credit.bytes_max == 0 {
            return Err(BrokerError::invalid("max_outstanding_bytes", "is 0; it must be at least 1"));
        }
        Ok(())
    }
}

/// A settlement whose ack id has been read; `None`: it could not be.
type SettleItem = (Option<AckId>, Settlement);

/// The lease that a receive asks for.
pub(super) fn ack_mode(deadline_seconds: Option<f64>) -> Result<AckMode, BrokerError> {
    let Some(deadline) = deadline_seconds else { return Ok(AckMode::LeaseByPolicy) };
    Ok(AckMode::Lease(seconds("ack_deadline_seconds", deadline, Limits::ACK_DEADLINE_SECONDS)?))
}

pub(super) fn check_consumer(consumer: Option<&str>) -> Result<(), BrokerError> {
    let bytes = consumer.map_or(0, str::len);
    if bytes > Limits::CONSUMER_BYTES_MAX {
        let problem = format!("has {bytes} bytes; at most {} are allowed", Limits::CONSUMER_BYTES_MAX);
        return Err(BrokerError::invalid("consumer", problem));
    }
    Ok(())
}

pub(super) fn check_queue_policy(policy: &QueuePolicyPatch) -> Result<(), BrokerError> {
    let deadlines = QueuePolicy::ACK_DEADLINE_MIN..=QueuePolicy::ACK_DEADLINE_MAX;
    check_duration("ack_deadline_seconds", policy.ack_deadline, deadlines)?;
    let attempts = policy.max_delivery_attempts.flatten().map_or(1, std::num::NonZeroU32::get);
    if attempts > QueuePolicy::DELIVERY_ATTEMPTS_MAX {
        let problem = format!("is {attempts}; it must be 1 to {}, or 0", QueuePolicy::DELIVERY_ATTEMPTS_MAX);
        return Err(BrokerError::invalid("max_delivery_attempts", problem));
    }
    let backoffs = Duration::ZERO..=RetryPolicy::BACKOFF_MAX;
    check_duration("minimum_backoff_seconds", policy.minimum_backoff, backoffs.clone())?;
    check_duration("maximum_backoff_seconds", policy.maximum_backoff, backoffs)?;
    if let (Some(minimum), Some(maximum)) = (policy.minimum_backoff, policy.maximum_backoff)
        && minimum > maximum
    {
        let problem = format!("is {}; it must be at least minimum_backoff_seconds", maximum.as_secs_f64());
        return Err(BrokerError::invalid("maximum_backoff_seconds", problem));
    }
    check_limits(&policy.limits)
}

pub(super) fn check_topic_policy(policy: &TopicPolicyPatch) -> Result<(), BrokerError> {
    let windows = Duration::from_secs(1)..=TopicPolicy::DEDUP_WINDOW_MAX;
    check_duration("dedup_window_seconds", policy.dedup_window.flatten(), windows)?;
    check_limits(&policy.limits)
}

fn check_limits(limits: &QueueLimitsPatch) -> Result<(), BrokerError> {
    for (field, value) in [("limits.max_messages", limits.messages_max), ("limits.max_bytes", limits.bytes_max)] {
        if value.flatten() == Some(0) {
            return Err(BrokerError::invalid(field, "is 0; it must be at least 1"));
        }
    }
    let ages = Duration::from_secs(1)..=Draft::DELAY_MAX;
    check_duration("limits.max_age_seconds", limits.age_max.flatten(), ages)
}

fn check_duration(
    field: &'static str,
    value: Option<Duration>,
    range: RangeInclusive<Duration>,
) -> Result<(), BrokerError> {
    let Some(value) = value.filter(|value| !range.contains(value)) else { return Ok(()) };
    let (value, min, max) = (value.as_secs_f64(), range.start().as_secs_f64(), range.end().as_secs_f64());
    Err(BrokerError::invalid(field, format!("is {value}; it must be {min} to {max}")))
}

fn check_settlement(settlement: Settlement) -> Result<Settlement, BrokerError> {
    match &settlement {
        Settlement::Ack => {}
        Settlement::Nack(nack) => {
            check_duration("nack.delay_seconds", nack.delay, Duration::ZERO..=Limits::NACK_DELAY_MAX)?;
            if nack.delay.is_some() && nack.outcome != NackOutcome::Retry {
                return Err(BrokerError::invalid("nack.delay_seconds", "goes with the outcome RETRY only"));
            }
            let bytes = nack.reason.len();
            if bytes > Limits::REASON_BYTES_MAX {
                let problem = format!("has {bytes} bytes; at most {} are allowed", Limits::REASON_BYTES_MAX);
                return Err(BrokerError::invalid("nack.reason", problem));
            }
        }
        Settlement::Extend(by) if by.is_zero() => {
            let nack = crate::engine::Nack { outcome: NackOutcome::Release, delay: None, reason: String::new() };
            return Ok(Settlement::Nack(nack));
        }
        Settlement::Extend(by) => {
            seconds("extend", by.as_secs_f64(), Limits::ACK_DEADLINE_SECONDS)?;
        }
    }
    Ok(settlement)
}

pub(super) fn check_count(field: &'static str, count: usize, min: usize, max: usize) -> Result<(), BrokerError> {
    if (min..=max).contains(&count) {
        return Ok(());
    }
    Err(BrokerError::invalid(field, format!("has {count} entries; {min} to {max} are allowed")))
}

pub(super) fn seconds(field: &'static str, value: f64, range: RangeInclusive<f64>) -> Result<Duration, BrokerError> {
    // Not a number is in no range.
    if range.contains(&value) {
        return Ok(Duration::from_secs_f64(value));
    }
    // One that is far out has hundreds of digits.
    let value = if value.abs() < 1e15 { value.to_string() } else { format!("{value:e}") };
    Err(BrokerError::invalid(field, format!("is {value}; it must be {} to {}", range.start(), range.end())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Nack;

    fn receive(change: impl FnOnce(&mut Receive)) -> Result<EngineReceive, BrokerError> {
        let mut request = Receive::now(Name::parse("q").expect("valid"));
        change(&mut request);
        Limits::default().check_receive(request)
    }

    fn refused_field<T>(result: Result<T, BrokerError>) -> Option<String> {
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
            let field = refused_field(receive(|r| r.ack = AckWhen::Later(Some(s))));
            assert_eq!(field.as_deref(), Some("ack_deadline_seconds"), "{s}");
        }
        let field = refused_field(receive(|r| r.consumer = Some("x".repeat(256))));
        assert_eq!(field.as_deref(), Some("consumer"));
    }

    #[test]
    fn a_payload_over_the_limit_is_too_large() {
        let limits = Limits { message_bytes_max: 3, ..Limits::default() };
        let draft = |n: usize| Draft { payload: vec![b'x'; n].into(), ..Draft::default() };
        assert_eq!(limits.check_drafts(&[draft(3)]), Ok(()));
        let too_large = BrokerError::TooLarge { field: "messages[1]".into(), bytes: 4, max: 3 };
        assert_eq!(limits.check_drafts(&[draft(3), draft(4)]), Err(too_large));
        assert!(limits.check_drafts(&[]).is_err());
    }

    #[test]
    fn it_is_said_which_message_is_wrong() {
        let bad = Draft { dedup_id: Some("x".repeat(256)), ..Draft::default() };
        let limits = Limits::default();
        assert_eq!(
            refused_field(limits.check_drafts(&[Draft::default(), bad.clone()])).as_deref(),
            Some("messages[1].dedup_id")
        );
        let only = limits.check_drafts(&[bad]).map_err(BrokerError::of_the_message);
        assert_eq!(refused_field(only).as_deref(), Some("dedup_id"));
    }

    #[test]
    fn a_settlement_out_of_range_is_refused_by_its_field() {
        let nack = |nack: Nack| refused_field(check_settlement(Settlement::Nack(nack)));
        let hours = |h: u64| Some(Duration::from_secs(h * 3600));
        assert_eq!(nack(Nack { delay: hours(12), ..Nack::default() }), None);
        assert_eq!(nack(Nack { delay: hours(13), ..Nack::default() }).as_deref(), Some("nack.delay_seconds"));
        let outcome = NackOutcome::Release;
        assert_eq!(nack(Nack { delay: hours(1), outcome, ..Nack::default() }).as_deref(), Some("nack.delay_seconds"));
        assert_eq!(nack(Nack { reason: "x".repeat(1025), ..Nack::default() }).as_deref(), Some("nack.reason"));
        let extend = |s: f64| check_settlement(Settlement::Extend(Duration::from_secs_f64(s)));
        assert_eq!(refused_field(extend(9.0)).as_deref(), Some("extend"));
        assert_eq!(extend(10.0), Ok(Settlement::Extend(Duration::from_secs(10))));
        let release = Nack { outcome: NackOutcome::Release, ..Nack::default() };
        assert_eq!(extend(0.0), Ok(Settlement::Nack(release)), "no time at all gives it back");
    }

    #[test]
    fn a_policy_out_of_range_is_refused_by_its_field() {
        let queue = |change: &dyn Fn(&mut QueuePolicyPatch)| {
            let mut policy = QueuePolicyPatch::default();
            change(&mut policy);
            refused_field(check_queue_policy(&policy))
        };
        let seconds = |s: u64| Some(Duration::from_secs(s));
        assert_eq!(queue(&|_| ()), None);
        assert_eq!(queue(&|p| p.ack_deadline = seconds(9)).as_deref(), Some("ack_deadline_seconds"));
        let attempts = |n: u32| Some(std::num::NonZeroU32::new(n));
        assert_eq!(queue(&|p| p.max_delivery_attempts = attempts(0)), None);
        assert_eq!(queue(&|p| p.max_delivery_attempts = attempts(1001)).as_deref(), Some("max_delivery_attempts"));
        assert_eq!(queue(&|p| p.minimum_backoff = seconds(43_201)).as_deref(), Some("minimum_backoff_seconds"));
        let crossed = queue(&|p| (p.minimum_backoff, p.maximum_backoff) = (seconds(2), seconds(1)));
        assert_eq!(crossed.as_deref(), Some("maximum_backoff_seconds"));
        assert_eq!(queue(&|p| p.limits.messages_max = Some(Some(0))).as_deref(), Some("limits.max_messages"));
        assert_eq!(queue(&|p| p.limits.age_max = Some(seconds(0))).as_deref(), Some("limits.max_age_seconds"));
        let window = TopicPolicyPatch { dedup_window: Some(seconds(86_401)), ..TopicPolicyPatch::default() };
        assert_eq!(refused_field(check_topic_policy(&window)).as_deref(), Some("dedup_window_seconds"));
    }

    #[test]
    fn a_page_and_a_credit_out_of_range_are_refused_by_their_fields() {
        assert_eq!(Limits::check_page(None), Ok(100));
        assert_eq!(Limits::check_page(Some(1000)), Ok(1000));
        for size in [0, -1, 1001] {
            assert_eq!(refused_field(Limits::check_page(Some(size))).as_deref(), Some("page_size"));
        }
        let credit = |messages_max, bytes_max| refused_field(Limits::check_credit(Credit { messages_max, bytes_max }));
        assert_eq!(credit(10_000, 1), None);
        assert_eq!(credit(10_001, 1).as_deref(), Some("max_outstanding_messages"));
        assert_eq!(credit(0, 1).as_deref(), Some("max_outstanding_messages"));
        assert_eq!(credit(1, 0).as_deref(), Some("max_outstanding_bytes"));
    }
}
