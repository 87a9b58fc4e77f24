//! A limit that follows the latency of the service: settings, and the arithmetic. Pure: `now` comes in.
//!
//! It looks at windows of at least [`WINDOW`] and [`WINDOW_CALLS`] answered calls. At the end of one:
//!
//! ```text
//! short    = mean latency of the window, to the head of the response
//! long     = moving average of `short` over the last 600 windows (a plain mean of the first 10);
//!            × 0.9 when it is more than twice `short`, so that a bad hour is soon forgotten
//! if a call took `overload_after` or longer, or the service said it is overloaded:
//!     limit × 0.9                                                         (multiplicative decrease)
//! else if at least half of the limit was in use:
//!     gradient = clamp(tolerance × long / short, 0.5, 1)
//!     limit    = 0.8 × limit + 0.2 × (gradient × limit + headroom)        (additive increase)
//! limit = clamp(limit, min, max)
//! ```
//!
//! Numbers and shape are those of `Gradient2Limit`, `WindowedLimit` and `AIMDLimit` in Netflix's `concurrency-limits`;
//! `tolerance` is that of its earlier `GradientLimit`. Unlike there, one window decreases once, however many of its calls
//! were slow: they tell of the same moment.

use std::time::Duration;

use tokio::time::Instant;

use super::word::LIMIT_MAX;

/// The shortest window (`WindowedLimit`: 1 s).
const WINDOW: Duration = Duration::from_secs(1);
/// The fewest calls that say something (`WindowedLimit`: 10).
const WINDOW_CALLS: u32 = 10;
/// Windows in the long average (`Gradient2Limit`: 600).
const LONG_WINDOWS: f64 = 600.0;
/// Windows that are averaged plainly, to begin with (`Gradient2Limit`: 10).
const WARM_UP_WINDOWS: u32 = 10;
/// What the long average is multiplied with while it is far off (`Gradient2Limit`: 0.9).
const DECAY: f64 = 0.9;
/// The part of the new limit in the next one (`Gradient2Limit`: 0.2).
const SMOOTHING: f64 = 0.2;
/// What the limit is multiplied with after an overload (`AIMDLimit`: 0.9).
const BACKOFF: f64 = 0.9;

/// The settings of a limit that follows the latency of the service.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdaptiveLimit {
    /// The lowest limit, at least 1. Default: 20.
    pub min: usize,
    /// The highest limit, at least `min`. Default: 200.
    pub max: usize,
    /// The first limit, `min` to `max`. Default: 20.
    pub initial: usize,
    /// How much slower than usual is still as usual, 1 to 10. Default: 1.5.
    pub tolerance: f64,
    /// By how many (a fifth of it each window) the limit grows while latency is as usual, 1 to 1000. Default: 4.
    pub headroom: u32,
    /// A call that takes this long, answered or given up, means overload. At least 1 ms. Default: 5 s.
    pub overload_after: Duration,
}

impl Default for AdaptiveLimit {
    fn default() -> Self {
        let overload_after = Duration::from_secs(5);
        Self { min: 20, max: 200, initial: 20, tolerance: 1.5, headroom: 4, overload_after }
    }
}

impl AdaptiveLimit {
    fn within_bounds(self) -> Self {
        let min = self.min.clamp(1, LIMIT_MAX);
        let max = self.max.clamp(min, LIMIT_MAX);
        Self {
            min,
            max,
            initial: self.initial.clamp(min, max),
            // What is no number tolerates nothing.
            tolerance: if self.tolerance.is_nan() { 1.0 } else { self.tolerance.clamp(1.0, 10.0) },
            headroom: self.headroom.clamp(1, 1000),
            overload_after: self.overload_after.max(Duration::from_millis(1)),
        }
    }
}

/// What one call told of the service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sample {
    /// It was answered.
    Answered,
    /// It was answered by "overloaded".
    Refused,
    /// Nobody waited for the answer any more. Says something only if it took long.
    Abandoned,
}

#[derive(Debug)]
pub(super) struct Gradient {
    settings: AdaptiveLimit,
    limit: f64,
    long_s: f64,
    /// Up to [`WARM_UP_WINDOWS`].
    windows: u32,
    window: Window,
}

#[derive(Debug, Clone, Copy, Default)]
struct Window {
    /// When its first sample came.
    begun: Option<Instant>,
    calls: u32,
    total: Duration,
    in_flight_max: usize,
    overloaded: bool,
}

impl Gradient {
    pub(super) fn new(settings: AdaptiveLimit) -> Self {
        let settings = settings.within_bounds();
        let limit = settings.initial as f64;
        Self { settings, limit, long_s: 0.0, windows: 0, window: Window::default() }
    }

    pub(super) fn limit(&self) -> usize {
        self.limit as usize
    }

    /// Goes on from this limit, kept within the bounds.
    pub(super) fn set_limit(&mut self, limit: usize) {
        self.limit = limit.clamp(self.settings.min, self.settings.max) as f64;
        self.window = Window::default();
    }

    /// Takes in a call that took `latency`, with `in_flight` calls at its end. The new limit, when a window ends.
    pub(super) fn sample(
        &mut self,
        sample: Sample,
        latency: Duration,
        in_flight: usize,
        now: Instant,
    ) -> Option<usize> {
        let is_slow = latency >= self.settings.overload_after;
        if sample == Sample::Abandoned && !is_slow {
            return None;
        }
        let window = &mut self.window;
        let begun = *window.begun.get_or_insert(now);
        window.calls = window.calls.saturating_add(1);
        window.total = window.total.saturating_add(latency);
        window.in_flight_max = window.in_flight_max.max(in_flight);
        window.overloaded |= is_slow || sample == Sample::Refused;
        let is_over = window.calls >= WINDOW_CALLS && now.saturating_duration_since(begun) >= WINDOW;
        is_over.then(|| {
            let window = std::mem::take(&mut self.window);
            self.end(window);
            self.limit()
        })
    }

    fn end(&mut self, window: Window) {
        // No latency is nothing: a window of instant answers must not divide by zero.
        let short_s = (window.total.as_secs_f64() / f64::from(window.calls)).max(1e-9);
        self.average(short_s);
        let limit = if window.overloaded {
            self.limit * BACKOFF
        } else if (window.in_flight_max as f64) < self.limit / 2.0 {
            // Nobody asked for more: that latency is good says nothing about a higher limit.
            return;
        } else {
            let gradient = (self.settings.tolerance * self.long_s / short_s).clamp(0.5, 1.0);
            let wanted = gradient * self.limit + f64::from(self.settings.headroom);
            self.limit * (1.0 - SMOOTHING) + wanted * SMOOTHING
        };
        self.limit = limit.clamp(self.settings.min as f64, self.settings.max as f64);
    }

    fn average(&mut self, short_s: f64) {
        let weight = if self.windows < WARM_UP_WINDOWS {
            self.windows += 1;
            1.0 / f64::from(self.windows)
        } else {
            2.0 / (LONG_WINDOWS + 1.0)
        };
        self.long_s += (short_s - self.long_s) * weight;
        if self.long_s / short_s > 2.0 {
            self.long_s *= DECAY;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const USUAL: Duration = Duration::from_millis(10);

    struct Run {
        gradient: Gradient,
        now: Instant,
    }

    impl Run {
        fn new(settings: AdaptiveLimit) -> Self {
            Self { gradient: Gradient::new(settings), now: Instant::now() }
        }

        /// A window of calls of this latency, with the limit in use.
        fn window(&mut self, sample: Sample, latency: Duration) -> usize {
            let in_flight = self.gradient.limit();
            self.window_with(sample, latency, in_flight)
        }

        fn window_with(&mut self, sample: Sample, latency: Duration, in_flight: usize) -> usize {
            for n in 0..WINDOW_CALLS {
                let last = n + 1 == WINDOW_CALLS;
                self.now += if last { WINDOW } else { Duration::ZERO };
                let limit = self.gradient.sample(sample, latency, in_flight, self.now);
                assert_eq!(limit.is_some(), last, "call {n}");
            }
            self.gradient.limit()
        }
    }

    #[test]
    fn it_grows_by_a_fifth_of_the_headroom_while_latency_is_as_usual() {
        let mut run = Run::new(AdaptiveLimit { headroom: 10, ..AdaptiveLimit::default() });
        let limits: Vec<_> = (0..3).map(|_| run.window(Sample::Answered, USUAL)).collect();
        assert_eq!(limits, [22, 24, 26]);
        for _ in 0..200 {
            run.window(Sample::Answered, USUAL);
        }
        assert_eq!(run.gradient.limit(), 200, "no further than the bound");
    }

    #[test]
    fn it_shrinks_when_latency_rises_beyond_what_is_tolerated() {
        let mut run = Run::new(AdaptiveLimit { initial: 100, ..AdaptiveLimit::default() });
        for _ in 0..10 {
            run.window(Sample::Answered, USUAL);
        }
        let before = run.gradient.limit();
        assert!(run.window(Sample::Answered, USUAL * 14 / 10) > before - 1, "40 % slower is as usual");
        let before = run.gradient.limit;
        run.window(Sample::Answered, USUAL * 100);
        let expected = before * 0.8 + 0.2 * (before * 0.5 + 4.0);
        assert!((run.gradient.limit - expected).abs() < 1e-9, "{} is not {expected}", run.gradient.limit);
        for _ in 0..100 {
            run.window(Sample::Answered, USUAL * 100);
        }
        assert!(run.gradient.limit() >= 20, "no further than the bound");
    }

    #[test]
    fn an_overload_takes_a_tenth_once_a_window() {
        for (sample, latency) in [(Sample::Refused, USUAL), (Sample::Abandoned, Duration::from_secs(5))] {
            let mut run = Run::new(AdaptiveLimit { initial: 100, ..AdaptiveLimit::default() });
            assert_eq!(run.window(sample, latency), 90, "{sample:?}");
            assert_eq!(run.window_with(sample, latency, 0), 81, "in use or not");
        }
    }

    #[test]
    fn a_call_that_was_given_up_early_says_nothing() {
        let mut gradient = Gradient::new(AdaptiveLimit::default());
        for _ in 0..100 {
            let long = Duration::from_millis(4999);
            assert_eq!(gradient.sample(Sample::Abandoned, long, 20, Instant::now()), None);
        }
        assert_eq!(gradient.window.calls, 0);
    }

    #[test]
    fn what_nobody_uses_does_not_grow() {
        let mut run = Run::new(AdaptiveLimit::default());
        assert_eq!(run.window_with(Sample::Answered, USUAL, 9), 20);
        assert_eq!(run.window_with(Sample::Answered, USUAL, 10), 20, "20.8");
        assert_eq!(run.window_with(Sample::Answered, USUAL, 11), 21);
    }

    #[test]
    fn a_bad_time_is_soon_forgotten() {
        let mut run = Run::new(AdaptiveLimit::default());
        run.window(Sample::Answered, USUAL * 100);
        for _ in 0..60 {
            run.window(Sample::Answered, USUAL);
        }
        assert!(run.gradient.long_s <= 2.0 * USUAL.as_secs_f64(), "{} s", run.gradient.long_s);
    }

    #[test]
    fn settings_are_kept_within_their_bounds() {
        let odd = AdaptiveLimit {
            min: 0,
            max: 0,
            initial: 7,
            tolerance: f64::NAN,
            headroom: 0,
            overload_after: Duration::ZERO,
        };
        let settings = Gradient::new(odd).settings;
        assert_eq!((settings.min, settings.max, settings.initial, settings.headroom), (1, 1, 1, 1));
        assert!((settings.tolerance - 1.0).abs() < f64::EPSILON);
        let mut gradient = Gradient::new(AdaptiveLimit::default());
        gradient.set_limit(1);
        assert_eq!(gradient.limit(), 20);
        gradient.set_limit(1000);
        assert_eq!(gradient.limit(), 200);
    }

    #[test]
    fn what_is_usual_is_the_mean_of_ten_windows_and_then_follows_slowly() {
        let mut run = Run::new(AdaptiveLimit::default());
        for ms in 10..20 {
            run.window(Sample::Answered, Duration::from_millis(ms));
        }
        assert!((run.gradient.long_s - 0.0145).abs() < 1e-12, "{} s", run.gradient.long_s);
        run.window(Sample::Answered, Duration::from_millis(20));
        let expected = 0.0145 + (0.020 - 0.0145) * 2.0 / 601.0;
        assert!((run.gradient.long_s - expected).abs() < 1e-12, "{} s is not {expected} s", run.gradient.long_s);
    }

    #[test]
    fn twice_as_long_as_now_is_not_forgotten_and_more_is() {
        // Parts of a second that floating point knows exactly.
        for (first_ms, long_s) in [(750, 0.5), (1250, 0.75 * DECAY)] {
            let mut run = Run::new(AdaptiveLimit::default());
            run.window(Sample::Answered, Duration::from_millis(first_ms));
            run.window(Sample::Answered, Duration::from_millis(250));
            assert!((run.gradient.long_s - long_s).abs() < 1e-12, "{} s after {first_ms} ms", run.gradient.long_s);
        }
    }
}
