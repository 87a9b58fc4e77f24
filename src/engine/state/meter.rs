//! How often something has happened to the messages of a queue lately.
//!
//! An average whose weights fall by the factor *e* each minute, as in a load average: it needs no history, and a few bytes
//! per queue.

use std::time::Duration;

use crate::{
    engine::{Rate, Rates},
    model::Timestamp,
};

/// After this long something counts for 37 % of what it did.
const MEMORY: Duration = Duration::from_secs(60);

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Happening {
    Published,
    Delivered,
    Acked,
}

/// How much has happened, each weighted by how long ago.
#[derive(Debug, Clone, Copy, Default)]
pub(in crate::engine) struct Meter {
    at: Timestamp,
    sums: [f32; 3],
}

impl Meter {
    pub(super) fn note(&mut self, happening: Happening, now: Timestamp) {
        self.go_on_to(now);
        self.sums[happening as usize] += 1.0;
    }

    pub(in crate::engine) fn rates(mut self, now: Timestamp) -> Rates {
        self.go_on_to(now);
        let [published, delivered, acked] = self.sums.map(|sum| Rate::of(f64::from(sum) / MEMORY.as_secs_f64()));
        Rates { published, delivered, acked }
    }

    fn go_on_to(&mut self, now: Timestamp) {
        if now > self.at {
            let weight = (-now.since(self.at).as_secs_f32() / MEMORY.as_secs_f32()).exp();
            self.sums.iter_mut().for_each(|sum| *sum *= weight);
            self.at = now;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(s: u64) -> Timestamp {
        Timestamp::from_millis(s * 1000)
    }

    #[test]
    fn what_happens_at_a_steady_rate_is_shown_as_that_and_is_forgotten_when_it_ends() {
        let mut meter = Meter::default();
        for tenth in 0..6000 {
            let now = Timestamp::from_millis(tenth * 100);
            (0..5).for_each(|_| meter.note(Happening::Published, now));
            if tenth % 10 == 0 {
                meter.note(Happening::Acked, now);
            }
        }
        let rates = meter.rates(seconds(600));
        assert!((49.5..50.5).contains(&rates.published.per_second()), "{rates:?}");
        assert!((0.97..1.03).contains(&rates.acked.per_second()), "{rates:?}");
        assert_eq!(rates.delivered.per_second().to_bits(), 0.0_f64.to_bits());
        let later = meter.rates(seconds(660)).published.per_second();
        assert!((18.0..18.8).contains(&later), "{later}");
        assert_eq!(meter.rates(seconds(3600)), Rates::default());
        assert_eq!(meter.rates(seconds(1)), meter.rates(seconds(599)), "time does not run backwards");
    }
}
