//! The share of an instance that has come back: it grows from a tenth to the whole in the time of the slow start.
//!
//! Pure: `now` comes in. Invariant: an instance that was never seen out has its whole share.

use std::time::Duration;

use tokio::time::Instant;

/// Where one instance stands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum WarmUp {
    #[default]
    Warm,
    /// It takes no requests, as far as is known.
    Out,
    /// It came back then.
    Warming { since: Instant },
}

/// The part of its share that an instance begins with.
const COLD_DIVISOR: u32 = 10;

impl WarmUp {
    /// Of an instance that is new at `now`; warm when there is no slow start.
    pub(super) fn new_at(now: Option<Instant>) -> Self {
        now.map_or(Self::Warm, |since| Self::Warming { since })
    }

    /// How much of `whole` it may have now, at least 1.
    pub(super) fn share(&mut self, whole: u32, is_available: bool, now: Instant, time: Duration) -> u32 {
        *self = match *self {
            _ if !is_available => Self::Out,
            Self::Out => Self::Warming { since: now },
            Self::Warming { since } if now.duration_since(since) >= time => Self::Warm,
            state => state,
        };
        let cold = (whole / COLD_DIVISOR).max(1);
        match *self {
            Self::Warm => whole,
            // It is passed over or probed, and then its share is a cold one.
            Self::Out => cold,
            Self::Warming { since } => {
                let part = now.duration_since(since).as_secs_f64() / time.as_secs_f64();
                (f64::from(whole) * part.min(1.0)).max(f64::from(cold)) as u32
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_grows_from_a_tenth_to_the_whole() {
        let (start, time) = (Instant::now(), Duration::from_secs(10));
        let mut state = WarmUp::default();
        let mut at = |seconds, available| state.share(64, available, start + Duration::from_secs(seconds), time);
        assert_eq!(at(0, true), 64, "it was never out");
        assert_eq!(at(1, false), 6);
        assert_eq!([at(2, true), at(3, true), at(7, true), at(11, true), at(12, true)], [6, 6, 32, 57, 64]);
        assert_eq!(at(13, false), 6);
        assert_eq!(at(14, true), 6, "from the beginning");
    }

    #[test]
    fn one_that_is_warm_stays_so_when_the_slow_start_becomes_longer() {
        let (start, time) = (Instant::now(), Duration::from_secs(10));
        let mut state = WarmUp::new_at(Some(start));
        assert_eq!(state.share(64, true, start + time / 2, time), 32);
        assert_eq!(state.share(64, true, start + time, time), 64);
        assert_eq!(state.share(64, true, start + time, time * 10), 64);
    }

    #[test]
    fn a_new_one_is_cold_only_with_a_slow_start() {
        let now = Instant::now();
        let second = Duration::from_secs(1);
        assert_eq!(WarmUp::new_at(None).share(64, true, now, second), 64);
        assert_eq!(WarmUp::new_at(Some(now)).share(64, true, now, second), 6);
        assert_eq!(WarmUp::new_at(Some(now)).share(5, true, now, second), 1);
    }
}
