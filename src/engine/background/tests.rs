//! When a checkpoint is due, who is told when it is done, and what one that fails changes.

use std::{io, path::Path};

use super::*;
use crate::{
    engine::{
        disk::{DiskSpace, Fault, FaultDisk, Op, Outcome as DiskOutcome, RealDisk, Times},
        journal::{
            PurgeScope, Record,
            file::{self, FileJournal},
        },
        sealed::Sealed,
    },
    model::{Draft, Name, QueueId, Seq, Timestamp, TopicId},
};

const PATIENCE: Duration = Duration::from_secs(20);
/// A checkpoint is due at half of it, and messages are held back at twice it.
const SEGMENT_BYTES: u64 = 100_000;
const TOPIC: TopicId = TopicId(0);
const QUEUE: QueueId = QueueId(0);

/// A store without a commit thread.
struct Bare {
    dir: tempfile::TempDir,
    disk: FaultDisk,
    journal: FileJournal,
    state: State,
    inbox: Arc<Inbox>,
    checkpoints: Checkpoints,
    next: Seq,
}

impl Bare {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let disk = FaultDisk::new(RealDisk);
        let shared: Arc<dyn Disk> = Arc::new(disk.clone());
        let options = file::Options { file_bytes: 1 << 20 };
        let journal = FileJournal::open(dir.path(), options, Arc::clone(&shared)).expect("opens");
        let (store, mut state, _) =
            CheckpointStore::open(Arc::clone(&shared), dir.path(), journal.store_uuid()).expect("opens");
        let space = Arc::new(Space::new(shared, dir.path().to_path_buf(), 1000));
        let checkpoints = Checkpoints::new(store.with_segment_bytes(SEGMENT_BYTES), space);
        for record in [
            Record::TopicCreated { topic: TOPIC, name: Name::parse("t").expect("valid") },
            Record::QueueCreated { queue: QUEUE, topic: TOPIC, service: None, start: Seq(0) },
        ] {
            state.apply(Timestamp::EPOCH, record).expect("fits");
        }
        let inbox = Arc::new(Inbox::new(1 << 20));
        Self { dir, disk, journal, state, inbox, checkpoints, next: Seq(0) }
    }

    /// Publishes messages until as many bytes are in memory only.
    fn publish_until(&mut self, bytes: u64) {
        while self.state.recent_bytes() < bytes {
            let draft = Draft { payload: vec![b'x'; 1000].into(), ..Draft::default() };
            let message = Sealed::new(draft, Timestamp::EPOCH, Duration::ZERO);
            let record = Record::Published { topic: TOPIC, seq: self.next, message };
            self.state.apply(Timestamp::EPOCH, record).expect("fits");
            self.next = self.next.next();
        }
    }

    fn purge(&mut self) {
        let scope = PurgeScope { ready: true, ..PurgeScope::default() };
        let record = Record::Purged { queue: QUEUE, scope, end: self.next };
        self.state.apply(Timestamp::EPOCH, record).expect("fits");
    }

    fn tend(&mut self) {
        self.checkpoints.tend(&mut self.state, &mut self.journal, &self.inbox);
    }

    fn finish(&mut self) {
        self.checkpoints.finish(&mut self.state, &mut self.journal);
    }

    fn next_try(&self) -> Option<Duration> {
        self.checkpoints.next_try(&self.state, &self.journal)
    }

    fn holds_back(&self) -> bool {
        self.checkpoints.hold_back(&self.state, &self.journal)
    }
}

#[test]
fn one_is_due_when_enough_is_in_memory_only_and_messages_wait_at_four_times_that() {
    let mut bare = Bare::new();
    bare.tend();
    assert!(bare.checkpoints.running.is_none() && !bare.checkpoints.are_stuck() && !bare.holds_back());
    bare.publish_until(SEGMENT_BYTES / 2 - 2000);
    assert_eq!(bare.next_try(), None);
    bare.publish_until(SEGMENT_BYTES / 2);
    assert_eq!((bare.next_try(), bare.holds_back()), (Some(Duration::ZERO), false));
    bare.publish_until(SEGMENT_BYTES * 2 - 2000);
    assert!(!bare.holds_back());
    bare.publish_until(SEGMENT_BYTES * 2);
    assert!(bare.holds_back() && !bare.checkpoints.are_stuck());
    bare.tend();
    assert!(bare.checkpoints.running.is_some() && !bare.checkpoints.are_stuck());
    assert_eq!(bare.next_try(), None, "one at a time");
    bare.finish();
    assert_eq!((bare.state.recent_bytes(), bare.next_try(), bare.holds_back()), (0, None, false));
}

#[test]
fn the_commit_thread_is_woken_when_one_is_done() {
    let mut bare = Bare::new();
    bare.publish_until(SEGMENT_BYTES / 2);
    bare.tend();
    let begun = Instant::now();
    bare.inbox.take(&mut Vec::new(), &mut Vec::new(), Some(PATIENCE));
    assert!(begun.elapsed() < PATIENCE, "nobody woke it");
    bare.tend();
    assert_eq!(bare.state.recent_bytes(), 0, "its outcome is there");
}

#[test]
fn after_one_that_failed_the_next_is_tried_when_its_time_has_come() {
    let mut bare = Bare::new();
    let outcome = DiskOutcome::Error(io::ErrorKind::StorageFull);
    bare.disk.set(Fault { op: Op::Create, name_end: ".seg", nth: 1, outcome, times: Times::Once });
    bare.publish_until(SEGMENT_BYTES / 2);
    bare.tend();
    bare.finish();
    // Set by hand, so that nothing here depends on how fast this runs.
    bare.checkpoints.retry_at = Some(Instant::now() + PATIENCE);
    assert!(bare.checkpoints.are_stuck() && bare.state.recent_bytes() > 0);
    assert!(bare.next_try().is_some_and(|after| after > PATIENCE / 2 && after <= PATIENCE));
    bare.tend();
    assert!(bare.checkpoints.running.is_none(), "not yet");
    bare.checkpoints.retry_at = Some(Instant::now());
    assert_eq!((bare.next_try(), bare.checkpoints.are_stuck()), (Some(Duration::ZERO), false));
    bare.tend();
    assert!(bare.checkpoints.running.is_some());
    bare.finish();
    assert_eq!((bare.state.recent_bytes(), bare.checkpoints.retry_at), (0, None));
}

#[test]
fn the_time_of_the_next_try_is_set_by_the_failure_itself() {
    let mut bare = Bare::new();
    let outcome = DiskOutcome::Error(io::ErrorKind::StorageFull);
    bare.disk.set(Fault { op: Op::Create, name_end: ".seg", nth: 1, outcome, times: Times::Once });
    bare.publish_until(SEGMENT_BYTES / 2);
    let before = Instant::now();
    bare.tend();
    bare.finish();
    let retry_at = bare.checkpoints.retry_at.expect("it failed");
    assert!((before + RETRY_AFTER..=Instant::now() + RETRY_AFTER).contains(&retry_at));
}

#[test]
fn room_that_can_be_freed_makes_one_due_and_sooner_while_there_is_little() {
    let mut bare = Bare::new();
    bare.publish_until(SEGMENT_BYTES / 2);
    bare.tend();
    bare.finish();
    bare.purge();
    let reclaimable = bare.state.segments.reclaimable_bytes();
    assert!((SEGMENT_BYTES / RECLAIM_LOW_DIVISOR..SEGMENT_BYTES).contains(&reclaimable), "{reclaimable}");
    assert_eq!(bare.next_try(), None, "less than a segment");
    bare.disk.pretend(Some(DiskSpace { free: 999, total: 1 << 30 }));
    assert!(bare.checkpoints.space().look());
    assert_eq!(bare.next_try(), Some(Duration::ZERO), "but there is little room");
    bare.tend();
    bare.finish();
    assert_eq!((bare.state.segments.reclaimable_bytes(), bare.next_try()), (0, None));
}

#[test]
fn one_that_panicked_is_the_last_one() {
    let mut bare = Bare::new();
    bare.checkpoints.take_note(None, &mut bare.state, &mut bare.journal);
    bare.publish_until(SEGMENT_BYTES);
    bare.tend();
    assert!(bare.checkpoints.running.is_none() && bare.checkpoints.are_stuck());
    assert_eq!(bare.next_try(), None);
}

/// The segments, and what was set aside of them.
fn segments(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir.join("segments")).expect("listed");
    let mut names: Vec<_> =
        entries.map(|entry| entry.expect("readable").file_name().into_string().expect("ASCII")).collect();
    names.sort();
    names
}

#[test]
fn what_a_checkpoint_does_without_is_gone_when_the_store_is_closed_and_what_was_damaged_is_set_aside() {
    for (is_damaged, left) in [(false, &[][..]), (true, &["00000001.damaged"])] {
        let mut bare = Bare::new();
        bare.disk.pretend(Some(DiskSpace { free: 999, total: 1 << 30 }));
        assert!(bare.checkpoints.space().look());
        bare.publish_until(SEGMENT_BYTES / 2);
        bare.tend();
        bare.finish();
        assert_eq!(segments(bare.dir.path()), ["00000001.seg"]);
        if is_damaged {
            bare.checkpoints.is_damaged(SegmentId(1));
        }
        bare.purge();
        bare.tend();
        bare.finish();
        drop(bare.checkpoints);
        assert_eq!(segments(bare.dir.path()), left);
    }
}
