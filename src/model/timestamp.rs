//! A point in time as the store keeps it.

use std::{
    fmt,
    time::{Duration, SystemTime},
};

use time::{OffsetDateTime, format_description::well_known::Rfc3339};

/// Milliseconds since 1970-01-01T00:00:00Z. Shown as RFC 3339 in UTC.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Timestamp(u64);

impl Timestamp {
    /// The beginning of 1970.
    pub const EPOCH: Self = Self(0);

    /// The last moment that RFC 3339 can write: the end of the year 9999.
    pub const MAX: Self = Self(253_402_300_799_999);

    /// From milliseconds since 1970; later ones than [`Timestamp::MAX`] become it.
    #[must_use]
    pub fn from_millis(ms: u64) -> Self {
        Self(ms).min(Self::MAX)
    }

    /// Now, by the system's clock.
    #[must_use]
    pub fn now() -> Self {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Self::from_millis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }

    /// Milliseconds since 1970.
    #[must_use]
    pub fn as_millis(self) -> u64 {
        self.0
    }

    /// This moment and `by`, at most [`Timestamp::MAX`].
    #[must_use]
    pub fn after(self, by: Duration) -> Self {
        Self::from_millis(self.0.saturating_add(u64::try_from(by.as_millis()).unwrap_or(u64::MAX)))
    }

    /// How long it is from `earlier` to this moment; zero if it is not earlier.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }

    /// Reads an RFC 3339 text, such as `2026-11-23T17:12:48Z`; finer than a millisecond is cut off.
    #[must_use]
    pub fn parse_rfc3339(text: &str) -> Option<Self> {
        let nanos = OffsetDateTime::parse(text, &Rfc3339).ok()?.unix_timestamp_nanos();
        u64::try_from(nanos / 1_000_000).ok().map(Self::from_millis)
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = OffsetDateTime::from_unix_timestamp_nanos(i128::from(self.0) * 1_000_000)
            .expect("every timestamp up to MAX is one of these");
        let (year, month, day) = at.to_calendar_date();
        let (hour, minute, second, ms) = at.to_hms_milli();
        // Always as long, so that texts sort as times do.
        write!(f, "{year:04}-{:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{ms:03}Z", u8::from(month))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc3339_goes_both_ways() {
        let moment = Timestamp::from_millis(1_795_713_168_250);
        assert_eq!(Timestamp::parse_rfc3339(&moment.to_string()), Some(moment));
        assert_eq!(Timestamp::parse_rfc3339("1970-01-01T01:00:01+01:00"), Some(Timestamp(1000)));
        assert_eq!(Timestamp::parse_rfc3339("yesterday"), None);
        assert_eq!(Timestamp::from_millis(1_795_713_168_000).to_string(), "2026-11-26T17:12:48.000Z");
        assert_eq!(Timestamp::from_millis(u64::MAX).to_string(), "9999-12-31T23:59:59.999Z");
    }
}
