//! What checkpoints are for: disk and start do not grow with what has passed through.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use super::{AckMode, Bench, LEASE, ack_id, draft, name, texts};
use crate::{
    engine::{
        Engine, OpenError,
        checkpoint::CheckpointStore,
        disk::{Fault, FaultDisk, Op, Outcome, RealDisk, Times},
        journal::{
            FrameBuf, Journal as _, RecordIter,
            file::{self, FileJournal},
        },
        sealed::Sealed,
        state::State,
        verbs::Step,
    },
    model::{Draft, Due, Timestamp},
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
    let held = bench.lease("t.s").await.expect("the second");
    churn(&bench, "busy").await;
    bench.restart().await;

    let again = bench.publish_one("u", once).await.expect("answered").messages[0];
    assert_eq!((again.id, again.duplicate), (first, true));
    assert_eq!(bench.pop("t.s", 9).await, ["3"]);
    assert_eq!(bench.ack("t.s", ack_id(&held)).await, crate::engine::Acked::Acked);
    bench.advance(Duration::from_secs(60));
    assert_eq!(bench.pop("t.s", 9).await, ["later"]);
    assert_eq!(bench.pop("kept", 9).await, ["for the first queue"]);
    assert_eq!(bench.pop("u.s", 9).await, ["once"]);
}

#[tokio::test]
async fn a_damaged_checkpoint_is_refused_with_the_name_of_the_file() {
    let mut bench = bench().await;
    bench.publish("quiet", &["stays", "and this"]).await;
    churn(&bench, "busy").await;
    let engine = bench.engine.take().expect("open");
    engine.close().await;
    drop(engine);
    let manifest = bench.options.data_dir.join("MANIFEST");
    let segments = files(&bench, "segments");
    assert!(!segments.is_empty());
    for path in segments.iter().chain([&manifest]) {
        let whole = fs::read(path).expect("readable");
        for at in [0, 13, whole.len() / 2, whole.len() - 1] {
            let mut changed = whole.clone();
            changed[at] ^= 4;
            fs::write(path, changed).expect("written");
            let refused = Engine::open(bench.options.clone());
            assert!(matches!(refused, Err(OpenError::Checkpoint(_))), "byte {at}: {refused:?}");
            let text = refused.expect_err("refused").to_string();
            assert!(text.contains(&path.display().to_string()), "{text}");
        }
        fs::write(path, &whole[..whole.len() - 1]).expect("written");
        assert!(Engine::open(bench.options.clone()).is_err());
        fs::write(path, &whole).expect("written");
    }
    fs::remove_file(&segments[0]).expect("removed");
    let text = Engine::open(bench.options.clone()).expect_err("refused").to_string();
    assert!(text.contains("it is missing"), "{text}");
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

    fn publish(&mut self, texts: &[&str]) {
        let mut frame = FrameBuf::new();
        let now = Timestamp::from_millis(1_800_000_000_000);
        let mut step = Step { state: &mut self.state, frame: &mut frame, now, topics_max: 9, dedup_ids_max: 9 };
        let later = Draft { due: Due::After(Duration::from_secs(9)), ..draft("later") };
        let drafts = texts.iter().map(|text| draft(text)).chain([later]);
        step.publish(name("t"), drafts.map(|d| Sealed::new(d, Duration::ZERO)).collect()).expect("stored");
        let end = self.journal.end();
        self.journal.append(&mut frame, end).expect("appended");
    }

    fn checkpoint(&mut self) -> io::Result<()> {
        match self.checkpoints.begin(&mut self.state, self.journal.end()).run() {
            Ok(written) => {
                let position = self.checkpoints.finish(&mut self.state, written);
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
fn a_checkpoint_may_fail_at_any_call_and_the_next_one_makes_up_for_it() {
    let calls = [
        (Op::Create, ".seg"),
        (Op::Write, ".seg"),
        (Op::Sync, ".seg"),
        (Op::SyncDir, "segments"),
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
            bare.publish(&["a", "b"]);
            bare.checkpoint().expect("nothing fails yet");
            bare.publish(&["c"]);
            let outcome = Outcome::Error(io::ErrorKind::StorageFull);
            disk.set(Fault { op, name_end, nth: 1, outcome, times: Times::Once });
            assert!(bare.checkpoint().is_err(), "{case}");
            disk.heal();
            bare.publish(&["d"]);
            let digest = bare.state.digest();
            if restarts_before_the_next {
                drop(bare);
                bare = Bare::open(&dir, &disk);
                assert_eq!(bare.state.digest(), digest, "{case}");
            }
            bare.checkpoint().expect("nothing fails any more");
            drop(bare);
            let mut bare = Bare::open(&dir, &disk);
            assert_eq!(bare.state.digest(), digest, "{case}");
            bare.publish(&["e"]);
            bare.checkpoint().expect("nothing fails any more");
            let digest = bare.state.digest();
            drop(bare);
            assert_eq!(Bare::open(&dir, &disk).state.digest(), digest, "{case}");
        }
    }
}
