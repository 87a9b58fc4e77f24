//! Times for people: how long something takes, how long ago it was.

use std::time::Duration;

use crate::model::Timestamp;

/// The two largest units at most: `340ms`, `12s`, `3m`, `2h 5m`, `5d 3h`.
pub(super) fn span(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    let two = |large: u64, small: u64, units: [&str; 2]| match small {
        0 => format!("{large}{}", units[0]),
        _ => format!("{large}{} {small}{}", units[0], units[1]),
    };
    match () {
        () if days > 0 => two(days, hours, ["d", "h"]),
        () if hours > 0 => two(hours, minutes, ["h", "m"]),
        () if minutes > 0 => format!("{minutes}m"),
        () if seconds > 0 => format!("{seconds}s"),
        () => format!("{}ms", duration.as_millis()),
    }
}

/// A time as the contract has it; none if it is not set, or before 1970.
pub(super) fn timestamp(time: Option<prost_types::Timestamp>) -> Option<Timestamp> {
    let time = time?;
    let ms = u64::try_from(time.seconds).ok()?.checked_mul(1000)? + u64::try_from(time.nanos).ok()? / 1_000_000;
    Some(Timestamp::from_millis(ms))
}

/// `3m ago`, `in 5s`; nothing if it is not set.
pub(super) fn from_now(time: Option<prost_types::Timestamp>, now: Timestamp) -> String {
    match timestamp(time) {
        None => String::new(),
        Some(time) if time > now => format!("in {}", span(time.since(now))),
        Some(time) => format!("{} ago", span(now.since(time))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_have_two_units_at_most() {
        let cases = [
            (0, "0ms"),
            (340, "340ms"),
            (12_999, "12s"),
            (3 * 60_000 + 59_000, "3m"),
            (7_200_000, "2h"),
            (7_500_000, "2h 5m"),
            (86_400_000 * 5 + 3_600_000 * 3 + 60_000, "5d 3h"),
        ];
        for (ms, text) in cases {
            assert_eq!(span(Duration::from_millis(ms)), text);
        }
    }

    #[test]
    fn a_time_is_told_from_now() {
        let at = |seconds| Some(prost_types::Timestamp { seconds, nanos: 500_000_000 });
        let now = Timestamp::from_millis(100_500);
        assert_eq!(from_now(at(40), now), "1m ago");
        assert_eq!(from_now(at(100), now), "0ms ago");
        assert_eq!(from_now(at(105), now), "in 5s");
        assert_eq!(from_now(None, now), "");
        assert_eq!(from_now(at(-5), now), "");
    }
}
