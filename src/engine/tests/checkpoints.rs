//! What checkpoints are for: disk and start do not grow with what has passed through.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use super::{AckMode, Bench, LEASE, ack_id, contents, draft, name, texts};
use crate::{
    engine::{
        Engine, EngineError, Limits, LoadError, Manage, OpenError, PurgeScope,
        checkpoint::CheckpointStore,
        disk::{Fault, FaultDisk, Op, Outcome, RealDisk, Times},
        journal::{
            FrameBuf, Journal as _, Record, RecordIter,
            file::{self, FileJournal},
        },
        reading::BlockCache,
        sealed::Sealed,
        state::State,
        verbs::{Fill, Next, Publication, Step, Wanted},
        views::History,
    },
    model::{Draft, Due, Seq, Timestamp},
};

/// Journal files of eight pages.
const FILE_BYTES: u64 = 32 << 10;

async fn bench() -> Bench {
    let mut bench = Bench::new();
    bench.options.journal_file_bytes = FILE_BYTES;
    bench.restart().await;
    bench
}

fn files(bench: &Bench, folder: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(bench.options.data_dir.join(folder)).expect("there is the folder");
    let mut paths: Vec<_> = entries.map(|entry| entry.expect("readable").path()).collect();
    paths.sort();
    paths
}

fn disk_bytes(bench: &Bench) -> u64 {
    let all = files(bench, "journal").into_iter().chain(files(bench, "segments"));
    // A file may go between the listing and the question.
    all.filter_map(|path| Some(fs::metadata(path).ok()?.len())).sum()
}

/// Publishes and consumes until the journal has been cut off, several times over.
async fn churn(bench: &Bench, topic: &str) {
    let text = "x".repeat(3000);
    for _ in 0..150 {
        bench.publish(topic, &[&text]).await;
        bench.pop(topic, 1).await;
    }
}

#[tokio::test]
async fn what_was_consumed_takes_no_room_however_much_it_was() {
    let mut bench = bench().await;
    bench.publish("quiet", &["stays"]).await;
    churn(&bench, "busy").await;
    bench.restart().await;
    let before = disk_bytes(&bench);
    for _ in 0..4 {
        churn(&bench, "busy").await;
    }
    bench.restart().await;
    let after = disk_bytes(&bench);
    // 600 frames would be 75 files.
    assert!(after <= before + 4 * FILE_BYTES, "{before} bytes have become {after}");
    assert!(after <= 14 * FILE_BYTES, "{after} bytes");
    assert!(bench.engine().recovery().frames < 60, "{:?}", bench.engine().recovery());
    assert_eq!(bench.pop("quiet", 9).await, ["stays"]);
    assert!(bench.pop("busy", 9).await.is_empty());
}

#[tokio::test]
async fn one_straggler_holds_up_no_more_than_itself() {
    let bench = bench().await;
    let text = "x".repeat(3000);
    for n in 0..200 {
        bench.publish("t", &[&format!("{n} {text}")]).await;
        // One in fifty stays, under a lease.
        let delivery = bench.lease("t").await.expect("there is one");
        if n % 50 > 0 {
            bench.ack("t", ack_id(&delivery)).await;
        }
    }
    churn(&bench, "busy").await;
    churn(&bench, "busy").await;
    let segments: u64 = files(&bench, "segments").iter().filter_map(|path| Some(fs::metadata(path).ok()?.len())).sum();
    assert!(segments < 30_000, "four messages of 3 KB hold {segments} bytes");
    bench.advance(LEASE);
    let left = bench.receive("t", 9, Duration::ZERO, AckMode::AtOnce).await;
    let numbers: Vec<_> = texts(&left).iter().filter_map(|text| text.split(' ').next().map(str::to_owned)).collect();
    assert_eq!(numbers, ["0", "50", "100", "150"]);
    assert!(left.iter().all(|delivery| delivery.attempt.0 == 2), "attempts are kept");
}

#[tokio::test]
async fn what_a_purge_or_a_deleted_queue_leaves_gives_its_room_back() {
    let bench = bench().await;
    let text = "x".repeat(3000);
    let segments =
        || -> u64 { files(&bench, "segments").iter().filter_map(|path| Some(fs::metadata(path).ok()?.len())).sum() };
    for service in ["purged", "deleted"] {
        bench.register(service, &["t"]).await.expect("registered");
        for _ in 0..50 {
            bench.publish("t", &[&text]).await;
        }
        churn(&bench, "busy").await;
        assert!(segments() > 100_000, "{service}: all of it stands in segments");
        let queue = name(&format!("t.{service}"));
        let manage = match service {
            "purged" => Manage::Purge { queue, scope: PurgeScope { ready: true, ..PurgeScope::default() } },
            _ => Manage::DeleteQueue { queue },
        };
        bench.engine().manage(manage).await.expect("done");
        if service == "deleted" {
            let ready = PurgeScope { ready: true, ..PurgeScope::default() };
            bench.engine().manage(Manage::Purge { queue: name("t.purged"), scope: ready }).await.expect("done");
        }
        churn(&bench, "busy").await;
        assert!(segments() < 30_000, "{service}: {} bytes are held for nobody", segments());
    }
}

#[tokio::test]
async fn the_files_of_dedup_ids_go_when_their_window_is_over() {
    let mut bench = bench().await;
    let ids =
        |bench: &Bench| files(bench, "segments").iter().filter(|p| p.extension().is_some_and(|e| e == "ids")).count();
    let once = Draft { dedup_id: Some("id".into()), ..draft("once") };
    let first = bench.publish_one("u", once.clone()).await.expect("stored").messages[0].id;
    churn(&bench, "busy").await;
    bench.restart().await;
    assert_eq!(ids(&bench), 1);
    churn(&bench, "busy").await;
    bench.restart().await;
    assert_eq!(ids(&bench), 1, "each id is written once");
    assert_eq!(bench.publish_one("u", once.clone()).await.expect("answered").messages[0].id, first);
    bench.advance(bench.options.dedup_window);
    churn(&bench, "busy").await;
    bench.engine.take().expect("open").close().await;
    assert_eq!(ids(&bench), 0);
    bench.restart().await;
    assert_ne!(bench.publish_one("u", once).await.expect("stored").messages[0].id, first);
}

#[tokio::test]
async fn everything_comes_back_from_a_checkpoint() {
    let mut bench = bench().await;
    bench.register("s", &["t", "u"]).await.expect("registered");
    bench.publish("t", &["1", "2", "3"]).await;
    bench.publish("kept", &["for the first queue"]).await;
    let later = Draft { due: Due::After(Duration::from_secs(60)), ..draft("later") };
    bench.publish_one("t", later).await.expect("stored");
    let once = Draft { dedup_id: Some("id".into()), ..draft("once") };
    let first = bench.publish_one("u", once.clone()).await.expect("stored").messages[0].id;
    assert_eq!(bench.pop("t.s", 1).await, ["1"]);
    bench.publish("returned", &["given back"]).await;
    bench.lease("returned").await.expect("leased");
    bench.advance(LEASE);
    let held = bench.lease("t.s").await.expect("the second");
    churn(&bench, "busy").await;
    bench.restart().await;

    assert_eq!(bench.lease("returned").await.map(|delivery| delivery.attempt.0), Some(2));

    let again = bench.publish_one("u", once).await.expect("answered").messages[0];
    assert_eq!((again.id, again.duplicate), (first, true));
    assert_eq!(bench.pop("t.s", 9).await, ["3"]);
    assert_eq!(bench.ack("t.s", ack_id(&held)).await, crate::engine::Settled::Done);
    bench.advance(Duration::from_secs(30));
    assert_eq!(bench.pop("t.s", 9).await, ["later"]);
    assert_eq!(bench.pop("kept", 9).await, ["for the first queue"]);
    assert_eq!(bench.pop("u.s", 9).await, ["once"]);
}

/// A store that is closed, with a checkpoint that holds `texts`, as messages of `quiet`.
async fn with_a_checkpoint(texts: &[&str]) -> Bench {
    let mut bench = bench().await;
    bench.publish("quiet", texts).await;
    let once = Draft { dedup_id: Some("id".into()), ..draft("once") };
    bench.publish_one("other", once).await.expect("stored");
    churn(&bench, "busy").await;
    bench.engine.take().expect("open").close().await;
    bench
}

#[tokio::test]
async fn a_checkpoint_that_cannot_be_read_is_refused_with_the_name_of_the_file() {
    let bench = with_a_checkpoint(&["stays", "and this"]).await;
    let manifest = bench.options.data_dir.join("MANIFEST");
    let segments = files(&bench, "segments");
    assert!(!segments.is_empty());
    for path in segments.iter().chain([&manifest]) {
        let whole = fs::read(path).expect("readable");
        // What stands in a segment behind its header is another matter.
        let is_segment = path.extension().is_some_and(|ending| ending == "seg");
        for at in (0..36).chain((36..whole.len()).filter(|_| !is_segment)) {
            let mut changed = whole.clone();
            changed[at] ^= 4;
            fs::write(path, changed).expect("written");
            let refused = Engine::open(bench.options.clone());
            assert!(matches!(refused, Err(OpenError::Checkpoint(_))), "byte {at}: {refused:?}");
            let text = refused.expect_err("refused").to_string();
            assert!(text.contains(&path.display().to_string()), "{text}");
        }
        for length in (0..whole.len()).step_by(7) {
            fs::write(path, &whole[..length]).expect("written");
            assert!(Engine::open(bench.options.clone()).is_err(), "cut at {length}");
        }
        fs::write(path, &whole).expect("written");
    }
    fs::remove_file(&segments[0]).expect("removed");
    let text = Engine::open(bench.options.clone()).expect_err("refused").to_string();
    assert!(text.contains("it is missing"), "{text}");
}

#[tokio::test]
async fn a_damaged_byte_of_a_segment_costs_the_message_that_it_is_in_and_no_other() {
    let texts: Vec<String> = (0..12).map(|n| format!("{n} {}", "y".repeat(n * 13))).collect();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let mut bench = with_a_checkpoint(&texts).await;
    let image = image_of(&bench.options.data_dir);
    let segment = files(&bench, "segments").into_iter().find(|path| path.extension().is_some_and(|e| e == "seg"));
    let segment = segment.expect("there is one");
    let whole = fs::read(&segment).expect("readable");
    let mut lost = 0;
    for at in (64..whole.len()).step_by(11) {
        restore(&bench.options.data_dir, &image);
        let mut changed = whole.clone();
        changed[at] ^= 1 << (at % 8);
        fs::write(&segment, changed).expect("written");
        bench.restart().await;
        let mut left: Vec<_> = bench.pop("quiet", 5).await;
        left.extend(bench.pop("quiet", 99).await);
        assert!(texts.len() - left.len() <= 1, "byte {at}: {} of {} came", left.len(), texts.len());
        assert!(left.iter().is_sorted_by_key(|text| texts.iter().position(|whole| whole == text)), "byte {at}");
        assert!(left.iter().all(|text| texts.contains(&text.as_str())), "byte {at}: {left:?}");
        lost += texts.len() - left.len();
        // What was lost is lost once, and nothing else stops.
        bench.publish("quiet", &["after"]).await;
        assert_eq!(bench.pop("quiet", 9).await, ["after"], "byte {at}");
        bench.engine.take().expect("open").close().await;
    }
    assert!(lost > 100, "{lost} messages were hit");
}

#[tokio::test]
async fn a_segment_in_which_something_was_damaged_is_set_aside_when_it_is_not_needed_any_more() {
    let mut bench = with_a_checkpoint(&["first", "second"]).await;
    let segment = files(&bench, "segments").into_iter().find(|path| path.extension().is_some_and(|e| e == "seg"));
    let segment = segment.expect("there is one");
    let mut changed = fs::read(&segment).expect("readable");
    changed[64 + 41] ^= 1;
    fs::write(&segment, &changed).expect("written");
    bench.restart().await;
    assert_eq!(bench.pop("quiet", 9).await, ["second"]);
    churn(&bench, "busy").await;
    bench.engine.take().expect("open").close().await;
    assert!(!segment.exists());
    assert_eq!(fs::read(segment.with_extension("damaged")).expect("set aside"), changed);
}

#[tokio::test]
async fn a_backlog_that_is_not_in_memory_is_delivered_in_order_whatever_the_batch() {
    let mut bench = bench().await;
    bench.register("s", &["t"]).await.expect("registered");
    let text = "x".repeat(2000);
    for n in 0..3000 {
        bench.publish("t", &[&format!("{n} {text}")]).await;
    }
    bench.restart().await;
    assert!(disk_bytes(&bench) > 6_000_000, "it is on the disk");
    let mut next = [0, 0];
    for max in [1, 7, 64, 500].into_iter().cycle() {
        for (queue, next) in ["t", "t.s"].into_iter().zip(&mut next) {
            let mode = if max == 7 { AckMode::Lease(LEASE) } else { AckMode::AtOnce };
            let got = bench.receive(queue, max, Duration::ZERO, mode).await;
            let is_done = *next == 3000;
            assert_eq!(got.is_empty(), is_done, "{next}");
            assert!(got.len() == max.min(3000 - *next) || max > 64, "{} of {max} at {next}", got.len());
            for (text, n) in texts(&got).iter().zip(*next..) {
                assert!(text.starts_with(&format!("{n} ")), "{} instead of {n}", &text[..9]);
            }
            *next += got.len();
        }
        if next == [3000, 3000] {
            break;
        }
    }
    // Those that were leased come again, from all over the disk.
    bench.advance(LEASE);
    let again = bench.receive("t", 999, Duration::ZERO, AckMode::AtOnce).await;
    assert!(!again.is_empty() && again.iter().all(|delivery| delivery.attempt.0 == 2));
}

#[tokio::test]
async fn a_receive_that_waits_for_the_disk_and_one_that_waits_for_a_message_are_both_served() {
    let mut bench = with_a_checkpoint(&["1", "2", "3"]).await;
    bench.restart().await;
    let receive = |wait| bench.receive("quiet", 1, wait, AckMode::AtOnce);
    let long = Duration::from_secs(3600);
    let (a, b, c, d) = tokio::join!(receive(Duration::ZERO), receive(long), receive(long), receive(Duration::ZERO));
    let got: Vec<_> = [a, b, c, d].iter().flat_map(|deliveries| texts(deliveries)).collect();
    assert_eq!(got, ["1", "2", "3"]);
}

/// Every file of a directory with its bytes.
fn image_of(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut image = Vec::new();
    for entry in fs::read_dir(dir).expect("listed") {
        let path = entry.expect("readable").path();
        if path.is_dir() {
            image.extend(image_of(&path));
        } else {
            let bytes = fs::read(&path).expect("readable");
            image.push((path, bytes));
        }
    }
    image
}

/// Makes the directory what it was.
fn restore(dir: &Path, image: &[(PathBuf, Vec<u8>)]) {
    for (path, _) in image_of(dir) {
        fs::remove_file(path).expect("removed");
    }
    for (path, bytes) in image {
        fs::write(path, bytes).expect("written");
    }
}

#[tokio::test]
async fn what_an_unfinished_checkpoint_left_is_removed() {
    let mut bench = bench().await;
    bench.publish("quiet", &["stays"]).await;
    bench.restart().await;
    let orphan = bench.options.data_dir.join("segments/000000ff.seg");
    fs::write(&orphan, "half of one").expect("written");
    fs::write(bench.options.data_dir.join("MANIFEST.tmp"), "half of one").expect("written");
    bench.restart().await;
    assert!(!orphan.exists());
    churn(&bench, "busy").await;
    bench.restart().await;
    assert_eq!(bench.pop("quiet", 9).await, ["stays"]);
    // A checkpoint that is under way has a file of that name; none is under way when the engine has ended.
    bench.engine.take().expect("open").close().await;
    assert!(!bench.options.data_dir.join("MANIFEST.tmp").exists());
}

#[tokio::test]
async fn delayed_messages_of_many_blocks_are_found_when_they_are_due() {
    let mut bench = bench().await;
    let text = |n: usize| format!("{n} {}", "x".repeat(9000));
    for n in 0..40 {
        let later = Draft { due: Due::After(LEASE), ..draft(&text(n)) };
        bench.publish_one("t", later).await.expect("stored");
    }
    churn(&bench, "busy").await;
    bench.restart().await;
    // They are moved among the others by the next checkpoint.
    bench.advance(LEASE);
    churn(&bench, "busy").await;
    for n in 0..40 {
        let got = bench.pop("t", 1).await;
        assert!(got.len() == 1 && got[0].starts_with(&format!("{n} ")), "{n}: {} messages", got.len());
    }
}

#[tokio::test]
async fn the_bound_of_topics_counts_those_of_the_checkpoint() {
    let mut bench = bench().await;
    bench.options.limits.topics_max = 2;
    bench.restart().await;
    bench.publish("quiet", &["stays"]).await;
    churn(&bench, "busy").await;
    bench.restart().await;
    assert!(matches!(bench.publish_one("third", draft("x")).await, Err(EngineError::Full { .. })));
    bench.publish("quiet", &["stays, too"]).await;
}

/// A store without a commit thread.
struct Bare {
    journal: FileJournal,
    checkpoints: CheckpointStore,
    state: State,
}

impl Bare {
    fn open(dir: &Path, disk: &FaultDisk) -> Self {
        let disk = Arc::new(disk.clone());
        let options = file::Options { file_bytes: FILE_BYTES };
        let mut journal = FileJournal::open(dir, options, disk.clone()).expect("opens");
        let (checkpoints, mut state, from) = CheckpointStore::open(disk, dir, journal.store_uuid()).expect("opens");
        let replayed = journal.read(from, &mut |_, records| {
            for record in RecordIter::new(records) {
                let (time, record) = record.expect("whole");
                state.apply(time, record).expect("fits");
            }
            Ok(())
        });
        replayed.expect("readable");
        Self { journal, checkpoints, state }
    }

    fn publish(&mut self, topic: &str, texts: &[&str]) {
        let mut frame = FrameBuf::new();
        let now = Timestamp::from_millis(1_800_000_000_000);
        let mut blocks = BlockCache::default();
        let (state, frame, blocks) = (&mut self.state, &mut frame, &mut blocks);
        let (limits, history) = (Limits::default(), &mut History::default());
        let mut step = Step { state, frame, blocks, now, limits, declares: true, history };
        let later = Draft { due: Due::After(Duration::from_secs(9)), ..draft("later") };
        let once = Draft { dedup_id: Some(texts.concat()), ..draft("once") };
        let drafts = texts.iter().map(|text| draft(text)).chain([later, once]);
        let messages = drafts.map(|d| Sealed::new(d, now, Duration::from_secs(60))).collect();
        step.publish(Publication { topic: name(topic), messages }).expect("stored");
        let end = self.journal.end();
        self.journal.append(frame, end).expect("appended");
    }

    /// The own queue of a topic, which comes into being, is done with its first messages.
    fn drop_first(&mut self, topic: &str, count: u64) {
        let (state, frame, blocks) = (&mut self.state, &mut FrameBuf::new(), &mut BlockCache::default());
        let (limits, history) = (Limits::default(), &mut History::default());
        let now = Timestamp::from_millis(1_800_000_000_000);
        let mut step = Step { state, frame, blocks, now, limits, declares: true, history };
        let queue = step.queue_for(&name(topic), None).expect("declared");
        let purged =
            Record::Purged { queue, scope: PurgeScope { ready: true, ..PurgeScope::default() }, end: Seq(count) };
        step.emit(purged);
        let end = self.journal.end();
        self.journal.append(frame, end).expect("appended");
    }

    /// A topic goes.
    fn delete(&mut self, topic: &str) {
        let (state, frame, blocks) = (&mut self.state, &mut FrameBuf::new(), &mut BlockCache::default());
        let (limits, history) = (Limits::default(), &mut History::default());
        let now = Timestamp::from_millis(1_800_000_000_000);
        let mut step = Step { state, frame, blocks, now, limits, declares: true, history };
        step.manage(Manage::DeleteTopic { topic: name(topic) }).expect("there is one");
        let end = self.journal.end();
        self.journal.append(frame, end).expect("appended");
    }

    /// What stands behind the messages that a receive of so many gets, with nothing in memory.
    fn next_of(&mut self, queue: &str, messages_max: usize) -> Next {
        let (state, frame, blocks) = (&mut self.state, &mut FrameBuf::new(), &mut BlockCache::default());
        let (limits, history) = (Limits::default(), &mut History::default());
        let now = Timestamp::from_millis(1_800_000_000_000);
        let mut step = Step { state, frame, blocks, now, limits, declares: true, history };
        let queue = step.queue_for(&name(queue), None).expect("declared");
        let wanted = Wanted { messages_max, bytes_max: usize::MAX, mode: AckMode::AtOnce };
        step.receive(queue, wanted, Fill::Whole).next
    }

    fn checkpoint(&mut self) -> io::Result<()> {
        match self.checkpoints.begin(&mut self.state, self.journal.end()).run() {
            Ok(written) => {
                let (position, removal) = self.checkpoints.finish(&mut self.state, written);
                removal.run();
                assert_eq!(self.state.recent_bytes(), 0, "all of it stands in segments");
                self.journal.trim(position)
            }
            Err(failed) => {
                self.checkpoints.give_up(&mut self.state, &failed);
                Err(failed.error)
            }
        }
    }
}

#[test]
fn after_a_checkpoint_that_failed_the_next_one_writes_each_message_once() {
    let folder = tempfile::tempdir().expect("a folder");
    let dir = folder.path().join("store");
    fs::create_dir(&dir).expect("made");
    let disk = FaultDisk::new(RealDisk);
    let mut bare = Bare::open(&dir, &disk);
    bare.publish("t", &["a", "b"]);
    let outcome = Outcome::Error(io::ErrorKind::StorageFull);
    disk.set(Fault { op: Op::Create, name_end: ".seg", nth: 1, outcome, times: Times::Once });
    assert!(bare.checkpoint().is_err());
    // The same topic again: it is named by both checkpoints.
    bare.publish("t", &["c"]);
    let plan = bare.state.plan_checkpoint(u64::MAX);
    let mut planned: Vec<_> = plan
        .pieces
        .iter()
        .flat_map(|piece| piece.messages.iter().map(|(seq, _)| (piece.topic, piece.kind, *seq)))
        .collect();
    let all = planned.len();
    planned.sort_unstable();
    planned.dedup();
    assert_eq!((planned.len(), all), (7, 7), "{planned:?}");
    assert_eq!(plan.ids.len(), 2);
}

#[test]
fn dedup_ids_of_a_topic_that_is_gone_do_not_come_back_with_the_file_that_they_are_in() {
    let folder = tempfile::tempdir().expect("a folder");
    let dir = folder.path().join("store");
    fs::create_dir(&dir).expect("made");
    let disk = FaultDisk::new(RealDisk);
    let mut bare = Bare::open(&dir, &disk);
    bare.publish("t", &["a"]);
    bare.publish("u", &["b"]);
    bare.checkpoint().expect("written");
    bare.delete("t");
    bare.checkpoint().expect("written");
    let (digest, ids) = (bare.state.digest(), bare.state.dedup.fingerprint().count());
    drop(bare);
    let bare = Bare::open(&dir, &disk);
    assert_eq!((bare.state.digest(), bare.state.dedup.fingerprint().count()), (digest, ids));
    assert_eq!(ids, 1, "that of the other topic");
}

/// A store whose messages three checkpoints have written, and where it is.
fn three_blocks() -> (tempfile::TempDir, Bare) {
    let folder = tempfile::tempdir().expect("a folder");
    let dir = folder.path().join("store");
    fs::create_dir(&dir).expect("made");
    let mut bare = Bare::open(&dir, &FaultDisk::new(RealDisk));
    for texts in [["a", "b"], ["c", "d"], ["e", "f"]] {
        bare.publish("t", &texts);
        bare.checkpoint().expect("written");
    }
    (folder, bare)
}

#[test]
fn the_sizes_of_messages_in_segments_add_up_to_what_their_blocks_take() {
    let (_folder, bare) = three_blocks();
    let sizes: Vec<u64> = bare.state.places().map(|place| bare.state.size_of(place)).collect();
    let blocks: u64 = bare.state.segments.blocks().map(|block| u64::from(block.bytes)).sum();
    assert_eq!((sizes.len(), sizes.iter().sum::<u64>()), (12, blocks));
}

#[test]
fn a_receive_asks_for_no_more_blocks_than_it_wants_messages_of() {
    let (_folder, mut bare) = three_blocks();
    // Each block has three visible messages.
    for (messages_max, blocks) in [(1, 1), (3, 1), (4, 2), (9, 3), (99, 3)] {
        let next = bare.next_of("t", messages_max);
        assert!(matches!(&next, Next::Missing(missing) if missing.len() == blocks), "{messages_max}: {next:?}");
    }
}

#[test]
fn what_is_lost_when_messages_are_moved_on_is_counted_and_its_segment_is_set_aside() {
    let folder = tempfile::tempdir().expect("a folder");
    let dir = folder.path().join("store");
    fs::create_dir(&dir).expect("made");
    let mut bare = Bare::open(&dir, &FaultDisk::new(RealDisk));
    let texts: Vec<String> = (0..8).map(|n| format!("text {n}")).collect();
    bare.publish("t", &texts.iter().map(String::as_str).collect::<Vec<_>>());
    bare.checkpoint().expect("written");
    let segment = fs::read_dir(dir.join("segments"))
        .expect("there")
        .map(|entry| entry.expect("readable").path())
        .find(|path| path.extension().is_some_and(|ending| ending == "seg"))
        .expect("one");
    let mut bytes = fs::read(&segment).expect("readable");
    for text in ["text 6", "text 7"] {
        let at = bytes.windows(text.len()).position(|window| window == text.as_bytes()).expect("it is there");
        bytes[at] ^= 1;
    }
    fs::write(&segment, bytes).expect("damaged");
    bare.drop_first("t", 6);
    let job = bare.checkpoints.begin(&mut bare.state, bare.journal.end());
    let written = job.run().expect("written, but for what is lost");
    assert_eq!(written.lost, 2);
    let (_, removal) = bare.checkpoints.finish(&mut bare.state, written);
    removal.run();
    assert!(!segment.exists() && segment.with_extension("damaged").exists());
}

#[test]
fn a_segment_that_was_damaged_is_set_aside_however_long_it_was_still_needed() {
    let folder = tempfile::tempdir().expect("a folder");
    let dir = folder.path().join("store");
    fs::create_dir(&dir).expect("made");
    let mut bare = Bare::open(&dir, &FaultDisk::new(RealDisk));
    bare.publish("t", &["a", "b"]);
    bare.checkpoint().expect("written");
    let damaged = bare.state.segments.ids().into_iter().next().expect("one");
    bare.checkpoints.is_damaged(damaged);
    bare.publish("u", &["c"]);
    bare.checkpoint().expect("written");
    assert!(bare.state.segments.has(damaged), "it is still needed");
    bare.drop_first("t", 3);
    // One message of it is delayed: it is moved on.
    bare.checkpoint().expect("written");
    assert!(!bare.state.segments.has(damaged));
    let aside = fs::read_dir(dir.join("segments"))
        .expect("there")
        .filter(|entry| entry.as_ref().expect("readable").path().extension().is_some_and(|ending| ending == "damaged"));
    assert_eq!(aside.count(), 1);
}

#[test]
fn a_segment_that_cannot_be_opened_is_not_called_missing() {
    let folder = tempfile::tempdir().expect("a folder");
    let dir = folder.path().join("store");
    fs::create_dir(&dir).expect("made");
    let disk = FaultDisk::new(RealDisk);
    let mut bare = Bare::open(&dir, &disk);
    bare.publish("t", &["a"]);
    bare.checkpoint().expect("written");
    let store = bare.journal.store_uuid();
    drop(bare);
    let outcome = Outcome::Error(io::ErrorKind::PermissionDenied);
    disk.set(Fault { op: Op::Open, name_end: ".seg", nth: 1, outcome, times: Times::Once });
    let refused = CheckpointStore::open(Arc::new(disk), &dir, store).map(drop);
    assert!(matches!(refused, Err(LoadError::Io { .. })), "{refused:?}");
}

#[test]
fn a_checkpoint_may_fail_at_any_call_and_the_next_one_makes_up_for_it() {
    let calls = [
        (Op::Create, ".seg"),
        (Op::Write, ".seg"),
        (Op::Sync, ".seg"),
        (Op::SyncDir, "segments"),
        (Op::Create, ".ids"),
        (Op::Write, ".ids"),
        (Op::Sync, ".ids"),
        (Op::Create, "MANIFEST.tmp"),
        (Op::Write, "MANIFEST.tmp"),
        (Op::Sync, "MANIFEST.tmp"),
        (Op::Rename, "MANIFEST.tmp"),
        (Op::SyncDir, "store"),
    ];
    for (op, name_end) in calls {
        for restarts_before_the_next in [false, true] {
            let folder = tempfile::tempdir().expect("a folder");
            let dir = folder.path().join("store");
            fs::create_dir(&dir).expect("made");
            let disk = FaultDisk::new(RealDisk);
            let case = format!("{op:?} {name_end}");
            let mut bare = Bare::open(&dir, &disk);
            bare.publish("t", &["a", "b"]);
            bare.checkpoint().expect("nothing fails yet");
            // Most of what it wrote is not wanted any more: the next one has the rest to move on.
            bare.drop_first("t", 2);
            assert!(bare.state.segments.reclaimable_bytes() > 0, "{case}");
            bare.publish("t", &["c"]);
            let outcome = Outcome::Error(io::ErrorKind::StorageFull);
            disk.set(Fault { op, name_end, nth: 1, outcome, times: Times::Once });
            assert!(bare.checkpoint().is_err(), "{case}");
            disk.heal();
            // Elsewhere, so that nothing but the failure makes the next one write what this one did not.
            bare.publish("u", &["d"]);
            let digest = bare.state.digest();
            let contents = |bare: &Bare| contents::digest(&bare.state, &RealDisk, &dir).expect("all of it, once");
            let whole = contents(&bare);
            if restarts_before_the_next {
                drop(bare);
                bare = Bare::open(&dir, &disk);
                assert_eq!((bare.state.digest(), contents(&bare)), (digest, whole), "{case}");
            }
            bare.checkpoint().expect("nothing fails any more");
            assert_eq!(contents(&bare), whole, "{case}");
            drop(bare);
            let mut bare = Bare::open(&dir, &disk);
            assert_eq!((bare.state.digest(), contents(&bare)), (digest, whole), "{case}");
            bare.publish("t", &["e"]);
            bare.checkpoint().expect("nothing fails any more");
            let digest = bare.state.digest();
            drop(bare);
            assert_eq!(Bare::open(&dir, &disk).state.digest(), digest, "{case}");
        }
    }
}
