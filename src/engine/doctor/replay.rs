//! Counting the records of a journal, and applying them for as long as they are a whole.

use std::{collections::BTreeMap, path::Path};

use super::Problem;
use crate::{
    engine::{
        journal::{Record, RecordIter, file::Reach},
        state::State,
    },
    model::Timestamp,
};

/// What frames hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct History {
    /// How many frames there are.
    pub frames: u64,
    /// How many records of each kind. The names are those of the records, in small letters.
    pub records: BTreeMap<&'static str, u64>,
    /// Messages that were published, delayed or taken over. Most of them may be long gone.
    pub messages: u64,
    /// The times of the earliest and of the latest record.
    pub times: Option<(Timestamp, Timestamp)>,
}

impl History {
    /// How many records there are.
    #[must_use]
    pub fn record_count(&self) -> u64 {
        self.records.values().sum()
    }

    fn count(&mut self, time: Timestamp, record: &Record) {
        *self.records.entry(kind_of(record)).or_default() += 1;
        if matches!(record, Record::Published { .. } | Record::Delayed { .. } | Record::Imported { .. }) {
            self.messages += 1;
        }
        let (first, last) = self.times.unwrap_or((time, time));
        self.times = Some((first.min(time), last.max(time)));
    }
}

/// What has been read so far.
#[derive(Debug, Default)]
pub(super) struct Replay {
    pub(super) state: State,
    pub(super) readable: History,
    pub(super) behind: History,
    course: Course,
}

/// Whether records are still applied.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Course {
    #[default]
    Applying,
    /// Something before is missing or makes no sense, so the state would be none that ever was.
    Counting,
}

impl Replay {
    /// What is read comes after this state.
    pub(super) fn on(state: State) -> Self {
        Self { state, ..Self::default() }
    }

    /// Reads the records of a frame.
    ///
    /// # Errors
    /// The first thing that is wrong with them. What follows is counted only.
    pub(super) fn frame(&mut self, path: &Path, offset: u64, reach: Reach, records: &[u8]) -> Result<(), Problem> {
        if reach == Reach::Behind {
            self.course = Course::Counting;
        }
        self.history().frames += 1;
        for record in RecordIter::new(records) {
            let (time, record) = record.map_err(|error| {
                self.course = Course::Counting;
                Problem::Undecodable { path: path.to_path_buf(), offset, at: error.at, problem: error.problem }
            })?;
            self.history().count(time, &record);
            if self.course == Course::Applying
                && let Err(error) = self.state.apply(time, record)
            {
                self.course = Course::Counting;
                return Err(Problem::Unfit { path: path.to_path_buf(), offset, problem: error.to_string() });
            }
        }
        Ok(())
    }

    fn history(&mut self) -> &mut History {
        match self.course {
            Course::Applying => &mut self.readable,
            Course::Counting => &mut self.behind,
        }
    }
}

fn kind_of(record: &Record) -> &'static str {
    match record {
        Record::TopicCreated { .. } => "topic_created",
        Record::TopicDeleted { .. } => "topic_deleted",
        Record::QueueCreated { .. } => "queue_created",
        Record::ServiceRegistered { .. } => "service_registered",
        Record::Published { .. } => "published",
        Record::Delayed { .. } => "delayed",
        Record::Matured { .. } => "matured",
        Record::Done { .. } => "done",
        Record::TopicPolicySet { .. } => "topic_policy_set",
        Record::TopicTrimmed { .. } => "topic_trimmed",
        Record::QueuePolicySet { .. } => "queue_policy_set",
        Record::QueuePaused { .. } => "queue_paused",
        Record::QueueResumed { .. } => "queue_resumed",
        Record::QueueDeleted { .. } => "queue_deleted",
        Record::DelayedCancelled { .. } => "delayed_cancelled",
        Record::PassedOver { .. } => "passed_over",
        Record::Leased { .. } => "leased",
        Record::Extended { .. } => "extended",
        Record::Returned { .. } => "returned",
        Record::Released { .. } => "released",
        Record::Buried { .. } => "buried",
        Record::Revived { .. } => "revived",
        Record::Purged { .. } => "purged",
        Record::ImportBegun { .. } => "import_begun",
        Record::Imported { .. } => "imported",
        Record::ImportEnded { .. } => "import_ended",
        Record::ImportAdvanced { .. } => "import_advanced",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        engine::journal::FrameBuf,
        model::{Name, Seq, TopicId},
    };

    fn created(topic: u32, name: &str) -> Record {
        Record::TopicCreated { topic: TopicId(topic), name: Name::parse(name).expect("valid") }
    }

    fn frame(records: &[Record]) -> Vec<u8> {
        let mut frame = FrameBuf::new();
        for (record, ms) in records.iter().zip(1000..) {
            frame.push(record, Timestamp::from_millis(ms));
        }
        frame.records().to_vec()
    }

    fn read(replay: &mut Replay, reach: Reach, records: &[u8]) -> Result<(), Problem> {
        replay.frame(Path::new("f"), 4096, reach, records)
    }

    #[test]
    fn records_are_applied_until_one_does_not_fit_and_counted_from_there() {
        let mut replay = Replay::default();
        assert!(read(&mut replay, Reach::Whole, &frame(&[created(0, "a"), created(1, "b")])).is_ok());
        let unknown = Record::Matured { topic: TopicId(9), first: Seq(0), delayed: vec![Seq(0)] };
        let unfit = read(&mut replay, Reach::Whole, &frame(&[unknown, created(2, "c")]));
        assert!(matches!(unfit, Err(Problem::Unfit { offset: 4096, .. })), "{unfit:?}");
        assert!(read(&mut replay, Reach::Whole, &frame(&[created(2, "c")])).is_ok());
        assert_eq!(replay.state.topic_count(), 2);
        assert_eq!((replay.readable.frames, replay.behind.frames), (2, 1));
        assert_eq!(replay.readable.records, BTreeMap::from([("topic_created", 2), ("matured", 1)]));
        assert_eq!(replay.readable.times.map(|(a, b)| (a.as_millis(), b.as_millis())), Some((1000, 1001)));
    }

    #[test]
    fn bytes_that_are_no_record_are_named_with_their_place() {
        let mut replay = Replay::default();
        let mut records = frame(&[created(0, "a"), created(1, "b")]);
        let second = records.len() / 2;
        records[second + 1] ^= 1;
        match read(&mut replay, Reach::Whole, &records) {
            Err(Problem::Undecodable { at, .. }) => assert_eq!(at, second),
            other => panic!("{other:?}"),
        }
        assert_eq!(replay.state.topic_count(), 1);
    }

    #[test]
    fn what_stands_behind_a_gap_is_not_applied() {
        let mut replay = Replay::default();
        assert!(read(&mut replay, Reach::Behind, &frame(&[created(0, "a")])).is_ok());
        assert_eq!((replay.state.topic_count(), replay.behind.record_count()), (0, 1));
    }
}
