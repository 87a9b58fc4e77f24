//! What producers attempted and were told, and what a queue may hold after that.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Mutex, PoisonError},
};

use serde_json::{Value, json};

/// A message of a test: who made it, and its place among those.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Mark {
    pub(crate) producer: u32,
    pub(crate) number: u64,
}

impl Mark {
    /// As a payload with `padding` more bytes.
    pub(crate) fn payload(self, padding: usize) -> Value {
        json!({"producer": self.producer, "number": self.number, "padding": "x".repeat(padding)})
    }

    pub(crate) fn of(payload: &Value) -> Self {
        let number = |field: &str| payload[field].as_u64().unwrap_or_else(|| panic!("no mark in {payload}"));
        Self { producer: u32::try_from(number("producer")).expect("as it was made"), number: number("number") }
    }

    /// The same for every attempt at this message.
    pub(crate) fn key(self) -> String {
        format!("{}-{}", self.producer, self.number)
    }
}

/// What was attempted, and what was acknowledged of it.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    entries: Mutex<Entries>,
}

#[derive(Debug, Default, Clone)]
struct Entries {
    attempted: BTreeSet<Mark>,
    acknowledged: BTreeSet<Mark>,
}

impl Ledger {
    /// A message is about to be published.
    pub(crate) fn attempt(&self, mark: Mark) {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner).attempted.insert(mark);
    }

    /// The broker said that it is stored.
    pub(crate) fn acknowledge(&self, mark: Mark) {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner).acknowledged.insert(mark);
    }

    pub(crate) fn acknowledged_count(&self) -> usize {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner).acknowledged.len()
    }

    pub(crate) fn attempted_count(&self) -> usize {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner).attempted.len()
    }

    /// Fails unless what came out of a queue is what went in: nothing twice, nothing invented, and of what was
    /// acknowledged at most `lost_max` missing, those that were handed out in an answer that nobody got.
    pub(crate) fn check(&self, queue: &str, came_out: &[Mark], lost_max: usize) {
        let entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let set: BTreeSet<Mark> = came_out.iter().copied().collect();
        assert_eq!(set.len(), came_out.len(), "{queue}: twice: {:?}", repeated(came_out));
        let invented: Vec<&Mark> = set.difference(&entries.attempted).collect();
        assert!(invented.is_empty(), "{queue}: never published: {invented:?}");
        let missing: Vec<&Mark> = entries.acknowledged.difference(&set).collect();
        assert!(
            missing.len() <= lost_max,
            "{queue}: {} acknowledged messages are lost, {lost_max} may be: {:?}",
            missing.len(),
            &missing[..missing.len().min(10)]
        );
    }
}

/// Fails unless the messages of each producer came in the order that it published them.
pub(crate) fn check_order(queue: &str, came_out: &[Mark]) {
    let mut last = BTreeMap::new();
    for mark in came_out {
        if let Some(before) = last.insert(mark.producer, mark.number) {
            assert!(before < mark.number, "{queue}: {mark:?} came after number {before}");
        }
    }
}

fn repeated(marks: &[Mark]) -> Vec<Mark> {
    let mut seen = BTreeSet::new();
    marks.iter().copied().filter(|mark| !seen.insert(*mark)).take(10).collect()
}
