//! Power loss at every moment: whatever a crash may leave on the disk, what comes back is a state that the engine was
//! in, no older than the last acknowledged one.
//!
//! A run is a chain of lives of one store. In each life random requests are decided, journaled and acknowledged; for
//! every operation on the disk, images that a crash at that moment may leave are recovered and compared; then one of
//! them, sometimes one taken in the middle of a recovery, becomes the next life. Or it is the process alone that is killed
//! at such a moment: the next life begins with all that was written, synced or not, and loses its power later. The
//! comparison is exact: the digest of the recovered state has to be that of the state after some frame between the last
//! acknowledged and the last attempted one.
//!
//! `CAMPANILE_CRASH_IMAGES` sets how many images are looked at (20,000 unless set), `CAMPANILE_CRASH_SEED` where chance
//! begins. A failure prints the seed of its run.

use std::{path::Path, sync::Arc, time::Duration};

use super::{AckMode, Draft, contents, draft, name};
use crate::{
    engine::{
        Limits, Manage, Nack, NackOutcome, OpenError, PurgeScope, Redrive, Settlement,
        checkpoint::CheckpointStore,
        disk::{
            RealDisk,
            sim::{Dice, Lies, SimDisk, World},
        },
        journal::{
            FrameBuf, Journal as _, RecordIter,
            file::{
                self, FileJournal,
                seeded::{self, Mistake},
            },
        },
        reading::BlockCache,
        sealed::Sealed,
        state::State,
        verbs::{Fill, Next, Publication, Received, Step, Wanted},
        views::History,
    },
    model::{AckId, Due, Name, Overflow, Properties, QueueLimitsPatch, QueuePolicyPatch, Seq, Timestamp},
};

const DIR: &str = "store";
/// Files so small that every life fills some: a header and seven pages.
const FILE_BYTES: u64 = 32 << 10;
/// Segments so small that a checkpoint makes several.
const SEGMENT_BYTES: u64 = 8 << 10;
/// Frames of one life, at most; enough for checkpoints.
const FRAMES_PER_LIFE: usize = 30;
const LIVES_PER_RUN: usize = 4;
const WINDOW: Duration = Duration::from_secs(60);

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().map_or(default, |text| text.parse().expect("a number"))
}

/// An open store with the state that it came to.
struct Life {
    journal: FileJournal,
    checkpoints: CheckpointStore,
    state: State,
    blocks: BlockCache,
}

fn recover(disk: &SimDisk) -> Result<Life, String> {
    let options = file::Options { file_bytes: FILE_BYTES };
    let text = |error: OpenError| error.to_string();
    let opened = FileJournal::open(Path::new(DIR), options, Arc::new(disk.clone()));
    let mut journal = opened.map_err(|e| text(e.into()))?;
    let store = journal.store_uuid();
    let opened = CheckpointStore::open(Arc::new(disk.clone()), Path::new(DIR), store);
    let (checkpoints, mut state, position) = opened.map_err(|e| text(e.into()))?;
    let mut unfit = None;
    let read = journal.read(position, &mut |_, records| {
        for record in RecordIter::new(records) {
            let (time, record) = record.expect("the records of a whole frame can be read");
            unfit = unfit.take().or(state.apply(time, record).err());
        }
        Ok(())
    });
    read.map_err(|e| text(e.into()))?;
    if let Some(unfit) = unfit {
        return Err(unfit.to_string());
    }
    journal.settle();
    journal.hold();
    let checkpoints = checkpoints.with_segment_bytes(SEGMENT_BYTES);
    Ok(Life { journal, checkpoints, state, blocks: BlockCache::default() })
}

/// What is known of the store's past: the digest after each frame, and how many of them are acknowledged.
#[derive(Debug, Clone)]
struct Past {
    digests: Vec<u64>,
    acknowledged: usize,
}

struct Run {
    dice: Dice,
    past: Past,
    images: u64,
    checkpoints: u64,
    bug: Bug,
}

/// What is broken on purpose, to see that somebody notices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Bug {
    None,
    /// An answer does not wait for the sync.
    AckBeforeSync,
    /// Names are not made durable.
    NoFolderSync,
    /// The journal is cut off before the checkpoint that covers it is written.
    TrimBeforeCheckpoint,
    /// In the journal itself.
    Journal(Mistake),
}

impl Bug {
    fn mistake(self) -> Option<Mistake> {
        match self {
            Self::Journal(mistake) => Some(mistake),
            _ => None,
        }
    }

    fn lies(self) -> Lies {
        Lies { syncs: self == Self::AckBeforeSync, folder_syncs: self == Self::NoFolderSync }
    }
}

impl Run {
    fn new(seed: u64, bug: Bug) -> Self {
        let empty = contents::digest(&State::default(), &RealDisk, Path::new(DIR)).expect("nothing is missing");
        let past = Past { digests: vec![empty], acknowledged: 0 };
        Self { dice: Dice::new(seed), past, images: 0, checkpoints: 0, bug }
    }

    /// Lives the chain; what is wrong, if anything is.
    fn live(&mut self, images_per_moment: usize) -> Result<(), String> {
        let empty = SimDisk::with_folder(Path::new(DIR)).take_moments().pop().expect("now").0;
        let mut disk = SimDisk::new(empty, self.bug.lies());
        for life in 0..LIVES_PER_RUN {
            disk.note(self.past.acknowledged);
            let mut open = recover(&disk).map_err(|e| format!("life {life}: {e}"))?;
            let at = self.find(&disk, &open.state, self.past.acknowledged).map_err(|e| format!("life {life}: {e}"))?;
            // What was read is durable now, and what came after it never was.
            self.past.digests.truncate(at + 1);
            self.past.acknowledged = at;
            disk.note(at);
            self.work(&disk, &mut open)?;
            drop(open);
            let moments = disk.take_moments();
            for (world, acknowledged) in &moments {
                for _ in 0..images_per_moment {
                    self.check(world, *acknowledged)?;
                }
            }
            let (left, acknowledged) = self.end(&moments);
            self.past.acknowledged = acknowledged;
            disk = SimDisk::new(left, self.bug.lies());
        }
        Ok(())
    }

    /// How a life ends: with what the next one finds on the disk, and how much had been acknowledged.
    fn end(&mut self, moments: &[(World, usize)]) -> (World, usize) {
        if self.dice.below(2) == 0 {
            let (world, acknowledged) = &moments[self.dice.below(moments.len())];
            return (world.crash(&mut self.dice), *acknowledged);
        }
        // The process alone is killed: the next one sees all that was written, and may still lose it. Names that are not
        // durable are the most that it can stumble over.
        let unsure: Vec<_> = moments.iter().filter(|(world, _)| world.has_unsure_names()).collect();
        let (world, acknowledged) = match unsure.len() {
            0 => &moments[self.dice.below(moments.len())],
            count => unsure[self.dice.below(count)],
        };
        (world.clone(), *acknowledged)
    }

    /// Some frames of random requests.
    fn work(&mut self, disk: &SimDisk, open: &mut Life) -> Result<(), String> {
        let Life { journal, checkpoints, state, blocks } = open;
        let mut frame = FrameBuf::new();
        let mut leases = Vec::new();
        let mut now = state.time.max(Timestamp::from_millis(1_800_000_000_000));
        for _ in 0..1 + self.dice.below(FRAMES_PER_LIFE) {
            now = now.after(Duration::from_secs(self.dice.roll() % 20));
            for _ in 0..1 + self.dice.below(4) {
                self.request(disk, (state, &mut frame, blocks), now, &mut leases);
            }
            if frame.is_empty() {
                continue;
            }
            self.past.digests.push(contents::digest(state, disk, Path::new(DIR))?);
            let end = journal.end();
            journal.append(&mut frame, end).map_err(|e| e.to_string())?;
            journal.settle();
            frame.clear();
            self.past.acknowledged = self.past.digests.len() - 1;
            disk.note(self.past.acknowledged);
            if self.dice.below(3) == 0 {
                journal.idle();
            }
            if journal.is_long() && self.dice.below(2) == 0 {
                self.checkpoints += 1;
                let job = checkpoints.begin(state, journal.end());
                if self.bug == Bug::TrimBeforeCheckpoint {
                    journal.trim(journal.end()).map_err(|e| e.to_string())?;
                    journal.settle();
                }
                let written = job.run().map_err(|failed| failed.error.to_string())?;
                let (position, removal) = checkpoints.finish(state, written);
                removal.run();
                journal.trim(position).map_err(|e| e.to_string())?;
                journal.settle();
            }
        }
        Ok(())
    }

    fn request(
        &mut self,
        disk: &SimDisk,
        (state, frame, blocks): (&mut State, &mut FrameBuf, &mut BlockCache),
        now: Timestamp,
        leases: &mut Vec<AckId>,
    ) {
        let topic = name(["a", "b"][self.dice.below(2)]);
        let size = [10, 600, 5000][self.dice.below(3)];
        let text = "x".repeat(self.dice.below(size));
        let choice = self.dice.below(14);
        let key = || Some(format!("{}", text.len() % 3));
        let (limits, history) = (Limits::default(), &mut History::default());
        let mut step = Step { state, frame, blocks, now, limits, declares: true, history };
        step.tick();
        let publish = |topic, draft: Draft| {
            let messages = vec![Sealed::new(draft, now, WINDOW)];
            Publication { topic, messages }
        };
        match choice {
            0 | 1 => drop(step.publish(publish(topic, draft(&text)))),
            2 => {
                let due = Due::After(Duration::from_secs(30));
                drop(step.publish(publish(topic, Draft { due, ..draft(&text) })));
            }
            3 => {
                let dedup_id = Some(format!("{}", text.len() % 7));
                drop(step.publish(publish(topic, Draft { dedup_id, ..draft(&text) })));
            }
            4 => drop(step.register(&name("s"), vec![topic])),
            5 | 6 => {
                let mode = if choice == 5 { AckMode::AtOnce } else { AckMode::Lease(Duration::from_secs(30)) };
                let queue = step.queue_for(&topic, None).expect("there is room for two topics");
                let deliveries = loop {
                    match step.receive(queue, Wanted { messages_max: 2, bytes_max: usize::MAX, mode }, Fill::Whole) {
                        Received { deliveries, next: Next::Missing(blocks), .. } if deliveries.is_empty() => {
                            blocks.iter().for_each(|block| contents::load(step.blocks, block, disk, Path::new(DIR)));
                        }
                        received => break received.deliveries,
                    }
                };
                leases.extend(deliveries.iter().filter_map(|d| Some(d.lease.as_ref()?.ack_id)));
            }
            7 | 8 => {
                let properties = Properties { ordering_key: key(), ..Properties::default() };
                drop(step.publish(publish(topic, Draft { properties, ..draft(&text) })));
            }
            9 => {
                let outcome = [NackOutcome::Release, NackOutcome::Retry, NackOutcome::DeadLetter][text.len() % 3];
                let nack = Settlement::Nack(Nack { outcome, delay: None, reason: "so".to_owned() });
                drop(leases.pop().map(|id| step.settle_each(None, &[(Some(id), nack)])));
            }
            10 => {
                let extend = Settlement::Extend(Duration::from_secs(45));
                drop(leases.last().map(|id| step.settle_each(None, &[(Some(*id), extend)])));
            }
            11 => drop(step.manage(self.change(topic, text.len()))),
            _ => drop(leases.pop().map(|id| step.settle_each(Some(&topic), &[(Some(id), Settlement::Ack)]))),
        }
    }

    /// Something that an operator does.
    fn change(&mut self, topic: Name, number: usize) -> Manage {
        let dead = PurgeScope { dead: true, ..PurgeScope::default() };
        match number % 8 {
            0 => Manage::Redrive { queue: topic, which: Redrive::Oldest(3), pace: None },
            1 => Manage::Purge { queue: topic, scope: dead },
            2 => Manage::Purge { queue: topic, scope: PurgeScope { ready: true, ..dead } },
            3 => Manage::DeleteQueue { queue: topic },
            4 => Manage::DeleteMessage { queue: topic, seq: Seq(self.dice.roll() % 40) },
            5 => Manage::CancelDelayed { topic, seq: Seq(self.dice.roll() % 10) },
            6 => Manage::DeleteTopic { topic },
            _ => {
                let limits = QueueLimitsPatch {
                    messages_max: Some(Some(20)),
                    overflow: Some(Some(Overflow::DropOldest)),
                    ..QueueLimitsPatch::default()
                };
                let policy = QueuePolicyPatch { limits, ..QueuePolicyPatch::default() };
                Manage::SetQueuePolicy { queue: topic, policy }
            }
        }
    }

    /// Recovers an image of a crash, and an image of a crash within that recovery.
    fn check(&mut self, world: &World, acknowledged: usize) -> Result<(), String> {
        let disk = SimDisk::new(world.crash(&mut self.dice), Lies::default());
        self.images += 1;
        let recovered = self.recovered(&disk, acknowledged)?;
        if self.dice.below(4) > 0 {
            return Ok(());
        }
        let mut moments = disk.take_moments();
        let last = moments.len() - 1;
        let at = self.dice.below(moments.len());
        // Once everything is read, what was read has to stay.
        let least = if at == last { recovered } else { acknowledged };
        let again = SimDisk::new(moments.swap_remove(at).0.crash(&mut self.dice), Lies::default());
        self.images += 1;
        self.recovered(&again, least).map(drop).map_err(|e| format!("after a crash in the recovery: {e}"))
    }

    fn recovered(&self, disk: &SimDisk, at_least: usize) -> Result<usize, String> {
        let life = recover(disk).map_err(|e| format!("a crash is taken for damage: {e}"))?;
        self.find(disk, &life.state, at_least)
    }

    /// After which frame the state was like this; an error if that is before `at_least`, or never.
    fn find(&self, disk: &SimDisk, state: &State, at_least: usize) -> Result<usize, String> {
        let digest = contents::digest(state, disk, Path::new(DIR))?;
        let found = self.past.digests.iter().rposition(|d| *d == digest);
        let found = found.ok_or("the recovered state never was")?;
        if found < at_least {
            return Err(format!("the state after frame {found} came back, but frame {at_least} was acknowledged"));
        }
        Ok(found)
    }
}

/// Runs until that many images were looked at.
fn hunt(images: u64, bug: Bug) -> Result<(u64, u64), String> {
    let (first, mut seen, mut checkpoints) = (setting("CAMPANILE_CRASH_SEED", 1), 0, 0);
    seeded::make(bug.mistake());
    for seed in first.. {
        if seen >= images {
            break;
        }
        let mut run = Run::new(seed, bug);
        let lived = run.live(2);
        lived.map_err(|problem| format!("CAMPANILE_CRASH_SEED={seed}, image {}: {problem}", seen + run.images))?;
        seen += run.images;
        checkpoints += run.checkpoints;
    }
    Ok((seen, checkpoints))
}

#[test]
fn nothing_acknowledged_is_lost_whatever_a_power_loss_leaves_behind() {
    let images = setting("CAMPANILE_CRASH_IMAGES", 20_000);
    match hunt(images, Bug::None) {
        Ok((seen, checkpoints)) => {
            println!("{seen} images of crashes, {checkpoints} checkpoints, no violation");
            assert!(checkpoints > 0, "no checkpoint was hit");
        }
        Err(violation) => panic!("{violation}"),
    }
}

#[test]
fn an_ack_before_the_sync_is_caught() {
    let violation = hunt(2000, Bug::AckBeforeSync);
    assert!(violation.is_err(), "{violation:?}");
}

#[test]
fn a_folder_that_is_not_synced_is_caught() {
    let violation = hunt(2000, Bug::NoFolderSync);
    assert!(violation.is_err(), "{violation:?}");
}

#[test]
fn a_journal_that_is_cut_off_before_its_checkpoint_is_caught() {
    let violation = hunt(20_000, Bug::TrimBeforeCheckpoint);
    assert!(violation.is_err(), "{violation:?}");
}

#[test]
fn a_start_that_appends_behind_a_torn_frame_is_caught() {
    let violation = hunt(20_000, Bug::Journal(Mistake::AppendsBehindTear));
    assert!(violation.is_err(), "{violation:?}");
}

/// The position is a second tie of a frame to its place, so it is left out with the file's id and salt: with one of
/// them alone nothing goes wrong.
#[test]
fn a_checksum_without_the_files_id_is_caught() {
    let violation = hunt(20_000, Bug::Journal(Mistake::ForgetsLives));
    assert!(violation.is_err(), "{violation:?}");
}

#[test]
fn names_that_a_killed_process_left_are_made_durable_before_anything_is_built_on_them() {
    for seed in 1..=12 {
        let mut run = Run::new(seed, Bug::None);
        let disk = SimDisk::with_folder(Path::new(DIR));
        let mut open = recover(&disk).expect("an empty folder");
        run.work(&disk, &mut open).expect("nothing fails");
        // As if it was killed each time just before a folder was synced.
        disk.lie(Lies { folder_syncs: true, ..Lies::default() });
        run.work(&disk, &mut open).expect("nothing fails");
        drop(open);
        let (world, _) = disk.take_moments().pop().expect("now");
        assert!(world.has_unsure_names(), "seed {seed}");

        let disk = SimDisk::new(world, Lies::default());
        let mut open = recover(&disk).expect("all of it can be seen");
        let at = run.find(&disk, &open.state, run.past.acknowledged).expect("all of it can be seen");
        // From here on it can be relied on, whatever comes; what was seen while it was read could not.
        disk.take_moments();
        run.past.acknowledged = at;
        disk.note(at);
        run.work(&disk, &mut open).expect("nothing fails");
        drop(open);
        for (world, acknowledged) in disk.take_moments() {
            for _ in 0..2 {
                run.check(&world, acknowledged).unwrap_or_else(|violation| panic!("seed {seed}: {violation}"));
            }
        }
    }
}

#[test]
fn a_run_can_be_repeated_from_its_seed() {
    let images = |seed| {
        let mut run = Run::new(seed, Bug::None);
        run.live(2).map(|()| run.images)
    };
    assert_eq!(images(7), images(7));
}
