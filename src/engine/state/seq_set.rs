//! A set of places of a topic.
//!
//! Not an index of messages: it knows nothing but places. Few of them are kept one by one, many in compressed bitmaps, so
//! that a million neighbours take less than 130 KiB, and a million that stand far from each other 2 MiB and a little for
//! each stretch of 65,536 places.

use std::{
    collections::BTreeSet,
    hash::{Hash, Hasher},
    ops::Range,
};

use roaring::RoaringTreemap;

use crate::model::Seq;

/// So many are kept one by one: bitmaps take about half a kilobyte, however little is in them.
const FEW_MAX: usize = 32;

/// What one that is kept by itself takes, in bytes.
const ONE_BYTES: usize = 24;

/// What bitmaps take beside their containers, in bytes.
const BITMAPS_BYTES: usize = 512;

/// Places that share a container of a bitmap, as a power of two; what the container takes at most, and beside its places.
const CONTAINER_BITS: u32 = 16;
const CONTAINER_BYTES_MAX: usize = 8 << 10;
const CONTAINER_BYTES: usize = 48;

#[derive(Debug, Clone)]
enum Places {
    Few(BTreeSet<u64>),
    Many { bitmaps: RoaringTreemap, count: u64 },
}

/// Places, in order.
#[derive(Debug, Clone)]
pub(in crate::engine) struct SeqSet(Places);

impl Default for SeqSet {
    fn default() -> Self {
        Self(Places::Few(BTreeSet::new()))
    }
}

impl SeqSet {
    pub(in crate::engine) fn len(&self) -> usize {
        match &self.0 {
            Places::Few(few) => few.len(),
            Places::Many { count, .. } => usize::try_from(*count).unwrap_or(usize::MAX),
        }
    }

    pub(in crate::engine) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(in crate::engine) fn contains(&self, seq: Seq) -> bool {
        match &self.0 {
            Places::Few(few) => few.contains(&seq.0),
            Places::Many { bitmaps, .. } => bitmaps.contains(seq.0),
        }
    }

    pub(in crate::engine) fn first(&self) -> Option<Seq> {
        match &self.0 {
            Places::Few(few) => few.first().copied().map(Seq),
            Places::Many { bitmaps, .. } => bitmaps.min().map(Seq),
        }
    }

    pub(in crate::engine) fn last(&self) -> Option<Seq> {
        match &self.0 {
            Places::Few(few) => few.last().copied().map(Seq),
            Places::Many { bitmaps, .. } => bitmaps.max().map(Seq),
        }
    }

    pub(in crate::engine) fn iter(&self) -> impl Iterator<Item = Seq> + '_ {
        self.from(Seq(0))
    }

    /// Those from `begin` on.
    pub(in crate::engine) fn from(&self, begin: Seq) -> impl Iterator<Item = Seq> + '_ {
        let (few, many) = match &self.0 {
            Places::Few(few) => (Some(few.range(begin.0..).copied()), None),
            Places::Many { bitmaps, .. } => {
                let mut all = bitmaps.iter();
                all.advance_to(begin.0);
                (None, Some(all))
            }
        };
        few.into_iter().flatten().chain(many.into_iter().flatten()).map(Seq)
    }

    /// How many there are of a range.
    pub(in crate::engine) fn count(&self, range: Range<Seq>) -> u64 {
        if range.is_empty() {
            return 0;
        }
        match &self.0 {
            Places::Few(few) => few.range(range.start.0..range.end.0).count() as u64,
            Places::Many { bitmaps, .. } => bitmaps.range_cardinality(range.start.0..range.end.0),
        }
    }

    /// Into how many stretches of neighbours they fall.
    pub(in crate::engine) fn stretches(&self) -> u64 {
        match &self.0 {
            Places::Few(few) => few.iter().filter(|place| **place == 0 || !few.contains(&(**place - 1))).count() as u64,
            Places::Many { bitmaps, .. } => {
                // One that reaches over a border between bitmaps, each of 2^32 places, counts twice.
                let of_each = bitmaps.bitmaps().map(|(_, bitmap)| {
                    let mut all = bitmap.iter();
                    std::iter::from_fn(|| all.next_range()).count() as u64
                });
                of_each.sum()
            }
        }
    }

    /// About what it takes in memory, at most.
    pub(in crate::engine) fn bytes(&self) -> usize {
        let Places::Many { bitmaps, .. } = &self.0 else { return self.len() * ONE_BYTES };
        let (first, last) = (bitmaps.min().unwrap_or(0), bitmaps.max().unwrap_or(0));
        let spanned = usize::try_from((last >> CONTAINER_BITS) - (first >> CONTAINER_BITS) + 1).unwrap_or(usize::MAX);
        let sparse = 2 * self.len() + CONTAINER_BYTES * self.len().min(spanned);
        BITMAPS_BYTES + sparse.min(spanned.saturating_mul(CONTAINER_BYTES_MAX))
    }

    pub(in crate::engine) fn insert(&mut self, seq: Seq) {
        self.insert_all(seq..seq.next());
    }

    /// Adds a whole range.
    pub(in crate::engine) fn insert_all(&mut self, range: Range<Seq>) {
        let more = usize::try_from(range.end.0.saturating_sub(range.start.0)).unwrap_or(usize::MAX);
        if let Places::Few(few) = &mut self.0 {
            if few.len().saturating_add(more) <= FEW_MAX {
                return few.extend(range.start.0..range.end.0);
            }
            let bitmaps: RoaringTreemap = few.iter().copied().collect();
            self.0 = Places::Many { count: bitmaps.len(), bitmaps };
        }
        if let Places::Many { bitmaps, count } = &mut self.0 {
            *count += bitmaps.insert_range(range.start.0..range.end.0);
        }
    }

    /// Adds all of another one.
    pub(in crate::engine) fn insert_set(&mut self, other: &Self) {
        match (&mut self.0, &other.0) {
            (Places::Many { bitmaps, count }, Places::Many { bitmaps: others, .. }) => {
                *bitmaps |= others;
                *count = bitmaps.len();
            }
            (Places::Few(few), Places::Many { bitmaps: others, .. }) => {
                let mut bitmaps = others.clone();
                bitmaps.extend(few.iter().copied());
                self.0 = Places::Many { count: bitmaps.len(), bitmaps };
            }
            (_, Places::Few(others)) => others.iter().for_each(|place| self.insert(Seq(*place))),
        }
    }

    /// Answers whether it was there.
    pub(in crate::engine) fn remove(&mut self, seq: Seq) -> bool {
        let is_removed = match &mut self.0 {
            Places::Few(few) => few.remove(&seq.0),
            Places::Many { bitmaps, count } => {
                let is_removed = bitmaps.remove(seq.0);
                *count -= u64::from(is_removed);
                is_removed
            }
        };
        self.shrink();
        is_removed
    }

    /// Takes out those before `end`.
    pub(in crate::engine) fn remove_before(&mut self, end: Seq) {
        match &mut self.0 {
            Places::Few(few) => *few = few.split_off(&end.0),
            Places::Many { bitmaps, count } => *count -= bitmaps.remove_range(..end.0),
        }
        self.shrink();
    }

    /// Takes out those from `begin` on.
    pub(in crate::engine) fn remove_from(&mut self, begin: Seq) {
        match &mut self.0 {
            Places::Few(few) => drop(few.split_off(&begin.0)),
            Places::Many { bitmaps, count } => *count -= bitmaps.remove_range(begin.0..),
        }
        self.shrink();
    }

    /// What is left of many is kept one by one again once it is clearly few.
    fn shrink(&mut self) {
        if let Places::Many { bitmaps, count } = &self.0
            && *count <= FEW_MAX as u64 / 2
        {
            self.0 = Places::Few(bitmaps.iter().collect());
        }
    }

    /// As it is written: the portable format of 64-bit Roaring bitmaps.
    pub(in crate::engine) fn encode(&self, out: &mut Vec<u8>) {
        let written = match &self.0 {
            Places::Few(few) => few.iter().copied().collect::<RoaringTreemap>().serialize_into(out),
            Places::Many { bitmaps, .. } => bitmaps.serialize_into(out),
        };
        written.expect("a vector takes what is written to it");
    }

    /// # Errors
    /// What does not hold.
    pub(in crate::engine) fn decode(bytes: &[u8]) -> Result<Self, &'static str> {
        let mut rest = bytes;
        let bitmaps = RoaringTreemap::deserialize_from(&mut rest).map_err(|_| "it has places that are no set")?;
        if !rest.is_empty() {
            return Err("it has something behind a set of places");
        }
        let mut set = Self(Places::Many { count: bitmaps.len(), bitmaps });
        set.shrink();
        Ok(set)
    }
}

impl FromIterator<Seq> for SeqSet {
    fn from_iter<I: IntoIterator<Item = Seq>>(seqs: I) -> Self {
        let mut set = Self::default();
        seqs.into_iter().for_each(|seq| set.insert(seq));
        set
    }
}

impl PartialEq for SeqSet {
    fn eq(&self, other: &Self) -> bool {
        self.len() == other.len() && self.iter().eq(other.iter())
    }
}

impl Eq for SeqSet {}

impl Hash for SeqSet {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.len().hash(state);
        self.iter().for_each(|seq| seq.hash(state));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Debug, Clone)]
    enum Change {
        Insert(Range<u64>),
        Remove(u64),
        RemoveBefore(u64),
        RemoveFrom(u64),
        InsertSet(Vec<Range<u64>>),
    }

    /// Near each other, around where one bitmap ends and the next one begins.
    fn place() -> impl Strategy<Value = u64> {
        prop_oneof![0..80_u64, (1 << 16) - 20..(1 << 16) + 20_u64, (1 << 32) - 5..(1 << 32) + 5_u64]
    }

    fn range() -> impl Strategy<Value = Range<u64>> {
        (place(), prop_oneof![0..3_u64, 0..50_u64]).prop_map(|(begin, length)| begin..begin + length)
    }

    fn change() -> impl Strategy<Value = Change> {
        prop_oneof![
            3 => range().prop_map(Change::Insert),
            3 => place().prop_map(Change::Remove),
            1 => place().prop_map(Change::RemoveBefore),
            1 => place().prop_map(Change::RemoveFrom),
            1 => proptest::collection::vec(range(), 0..4).prop_map(Change::InsertSet),
        ]
    }

    fn range_of(range: Range<u64>) -> SeqSet {
        let mut set = SeqSet::default();
        set.insert_all(Seq(range.start)..Seq(range.end));
        set
    }

    fn set_of(ranges: &[Range<u64>]) -> SeqSet {
        let mut set = SeqSet::default();
        ranges.iter().for_each(|range| set.insert_all(Seq(range.start)..Seq(range.end)));
        set
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(300) })]

        #[test]
        fn it_has_what_a_plain_set_has(
            changes in proptest::collection::vec(change(), 0..30), begin in place(), end in place(),
        ) {
            let (mut set, mut plain) = (SeqSet::default(), BTreeSet::new());
            for change in changes {
                match change {
                    Change::Insert(range) => {
                        set.insert_all(Seq(range.start)..Seq(range.end));
                        plain.extend(range);
                    }
                    Change::Remove(place) => prop_assert_eq!(set.remove(Seq(place)), plain.remove(&place)),
                    Change::RemoveBefore(end) => {
                        set.remove_before(Seq(end));
                        plain.retain(|place| *place >= end);
                    }
                    Change::RemoveFrom(begin) => {
                        set.remove_from(Seq(begin));
                        plain.retain(|place| *place < begin);
                    }
                    Change::InsertSet(ranges) => {
                        set.insert_set(&set_of(&ranges));
                        plain.extend(ranges.into_iter().flatten());
                    }
                }
                prop_assert_eq!(set.iter().map(|seq| seq.0).collect::<Vec<_>>(), Vec::from_iter(plain.iter().copied()));
                prop_assert_eq!((set.len(), set.is_empty()), (plain.len(), plain.is_empty()));
            }
            prop_assert!(set.from(Seq(begin)).map(|seq| seq.0).eq(plain.range(begin..).copied()));
            let counted = plain.iter().filter(|place| (begin..end).contains(place)).count() as u64;
            prop_assert_eq!(set.count(Seq(begin)..Seq(end)), counted);
            prop_assert_eq!(set.contains(Seq(begin)), plain.contains(&begin));
            prop_assert_eq!(set.first().map(|seq| seq.0), plain.first().copied());
            prop_assert_eq!(set.last().map(|seq| seq.0), plain.last().copied());
            let over_a_border = plain.contains(&(1 << 32)) && plain.contains(&((1 << 32) - 1)) && plain.len() > FEW_MAX;
            let begins = |place: &&u64| **place == 0 || !plain.contains(&(**place - 1));
            let stretches = plain.iter().filter(begins).count() as u64;
            prop_assert!((stretches..=stretches + u64::from(over_a_border) + 1).contains(&set.stretches()));
            let mut bytes = Vec::new();
            set.encode(&mut bytes);
            prop_assert_eq!(SeqSet::decode(&bytes), Ok(set));
            prop_assert!(SeqSet::decode(&bytes[..bytes.len() - 1]).is_err());
            bytes.push(0);
            prop_assert!(SeqSet::decode(&bytes).is_err());
        }
    }

    #[test]
    fn a_million_places_take_little_whether_neighbours_or_not() {
        let neighbours = range_of(5..1_000_005);
        let every_other: SeqSet = (0..1_000_000).map(|n| Seq(2 * n)).collect();
        let far: SeqSet = (0..1000).map(|n| Seq(n << 20)).collect();
        // In 16 and in 31 containers, and in a thousand with one place each.
        assert_eq!(neighbours.bytes(), BITMAPS_BYTES + 16 * CONTAINER_BYTES_MAX);
        assert_eq!(every_other.bytes(), BITMAPS_BYTES + 31 * CONTAINER_BYTES_MAX);
        assert_eq!(far.bytes(), BITMAPS_BYTES + 1000 * (2 + CONTAINER_BYTES));
        assert_eq!((neighbours.stretches(), every_other.stretches(), far.stretches()), (1, 1_000_000, 1000));
        assert_eq!(set_of(&[3..3, 7..9]).bytes(), 2 * ONE_BYTES);
    }

    #[test]
    fn what_shrinks_to_few_is_what_it_would_be_had_it_never_been_many() {
        let mut set = range_of(0..100);
        set.remove_before(Seq(90));
        assert!(matches!(set.0, Places::Few(_)));
        assert_eq!(set, range_of(90..100));
        assert_ne!(set, range_of(91..101));
        assert_ne!(set, range_of(90..101));
    }
}
