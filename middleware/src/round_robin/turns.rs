//! Whose turn it is: smooth weighted round robin.
//!
//! Pure: no locks, no clock, no instances, only weights by index. Every step credits each candidate with its weight,
//! takes the one with the highest credit, and charges it the sum of all weights; so a heavy one comes often, but never in
//! a bunch. Invariant: over as many steps as the sum of the weights, each candidate is taken as often as its weight says.

/// What one candidate is owed; negative after it had more than its share.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Turns {
    credits: Vec<i64>,
}

/// What a candidate may do in one step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    /// It is owed nothing, and not taken.
    Out,
    /// It is owed its turn, but not taken: this request had it already.
    Had(u32),
    /// It may be taken.
    In(u32),
}

impl Turns {
    /// Nobody is owed anything.
    pub(super) fn new(count: usize) -> Self {
        Self { credits: vec![0; count] }
    }

    /// With what those are owed who were there before, `None` for new ones.
    pub(super) fn carried(owed: impl IntoIterator<Item = Option<i64>>) -> Self {
        Self { credits: owed.into_iter().map(Option::unwrap_or_default).collect() }
    }

    pub(super) fn owed(&self, index: usize) -> Option<i64> {
        self.credits.get(index).copied()
    }

    /// Takes the next one; `None` if there is none that may be taken. Of several with the same credit, the first.
    pub(super) fn take(&mut self, part: impl Fn(usize) -> Part) -> Option<usize> {
        let mut total = 0;
        let mut taken: Option<usize> = None;
        for index in 0..self.credits.len() {
            let (weight, is_in) = match part(index) {
                Part::Out => continue,
                Part::Had(weight) => (i64::from(weight), false),
                Part::In(weight) => (i64::from(weight), true),
            };
            self.credits[index] += weight;
            total += weight;
            if is_in && taken.is_none_or(|best| self.credits[index] > self.credits[best]) {
                taken = Some(index);
            }
        }
        if let Some(index) = taken {
            self.credits[index] -= total;
        }
        taken
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn order(weights: &[u32], steps: usize) -> Vec<usize> {
        let mut turns = Turns::new(weights.len());
        (0..steps).filter_map(|_| turns.take(|index| Part::In(weights[index]))).collect()
    }

    #[test]
    fn a_heavy_one_comes_often_but_not_in_a_bunch() {
        assert_eq!(order(&[5, 1, 1], 7), [0, 0, 1, 0, 2, 0, 0]);
    }

    #[test]
    fn one_that_was_had_is_owed_its_turn_all_the_same() {
        // b is had at every request: its turns go to the next in turn, not always to the same neighbour.
        let mut turns = Turns::new(3);
        let mut firsts = Vec::new();
        while firsts.len() < 6 {
            let first = turns.take(|_| Part::In(1)).expect("all are in");
            let answers = if first == 1 {
                turns.take(|index| if index == 1 { Part::Had(1) } else { Part::In(1) }).expect("two are in")
            } else {
                first
            };
            firsts.push(answers);
        }
        assert_eq!(firsts, [0, 2, 0, 2, 0, 2]);
    }

    #[test]
    fn nobody_is_taken_who_is_out() {
        assert_eq!(Turns::new(2).take(|_| Part::Out), None);
        assert_eq!(Turns::new(0).take(|_| Part::In(1)), None);
        assert_eq!(Turns::new(2).take(|index| if index == 0 { Part::Out } else { Part::In(1) }), Some(1));
    }

    proptest! {
        /// The model: whatever happened before, a full cycle gives to each exactly its weight; and no one falls behind
        /// its share by a whole turn or more.
        #[test]
        fn every_cycle_gives_to_each_what_its_weight_says(weights in prop::collection::vec(1_u32..20, 1..8), cycles in 1_usize..4) {
            let total: u32 = weights.iter().sum();
            let mut turns = Turns::new(weights.len());
            for _ in 0..cycles {
                let mut had = vec![0_u32; weights.len()];
                for step in 1..=total {
                    let taken = turns.take(|index| Part::In(weights[index])).expect("all are in");
                    had[taken] += 1;
                    for (index, &weight) in weights.iter().enumerate() {
                        let due = f64::from(weight) * f64::from(step) / f64::from(total);
                        let lag = due - f64::from(had[index]);
                        prop_assert!(lag < weights.len() as f64, "{index} lags by {lag} after {step} steps");
                    }
                }
                prop_assert_eq!(&had, &weights);
            }
        }

        /// With members that come and go, credits stay bounded: nobody comes back to a burst.
        #[test]
        fn credits_are_bounded_whoever_comes_and_goes(
            weights in prop::collection::vec(1_u32..20, 1..6),
            parts in prop::collection::vec(prop::collection::vec(0_u8..3, 6), 1..200),
        ) {
            let total: u32 = weights.iter().sum();
            let mut turns = Turns::new(weights.len());
            for step in parts {
                let part = |index: usize| match step[index] {
                    0 => Part::Out,
                    _ => Part::In(weights[index]),
                };
                if let Some(taken) = turns.take(part) {
                    prop_assert!(part(taken) != Part::Out);
                }
                for index in 0..weights.len() {
                    let owed = turns.owed(index).expect("there");
                    prop_assert!(owed.unsigned_abs() <= u64::from(total) * weights.len() as u64, "{owed}");
                }
            }
        }
    }
}
