//! The doctor over directories that a real engine made, operated on; and each time: nothing in them has changed, and it
//! finds something wrong exactly where a start is refused.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, SystemTime},
};

use tempfile::TempDir;

use super::*;
use crate::{
    engine::{
        AckMode, Engine, Options, Receive,
        journal::file::{Defect, Holder, StoreId, Tail},
    },
    model::{Draft, Due, Name},
};

const PAGE: u64 = 4096;

/// A data directory.
pub(super) struct Bench {
    pub(super) dir: TempDir,
    pub(super) options: Options,
}

/// Every file with its bytes and times.
pub(super) type Image = Vec<(PathBuf, Vec<u8>, SystemTime)>;

impl Bench {
    /// A folder in which there is nothing.
    pub(super) fn empty() -> Self {
        let dir = tempfile::tempdir().expect("a folder for the test");
        let data_dir = dir.path().join("store");
        fs::create_dir(&data_dir).expect("made");
        let options = Options { journal_file_bytes: 64 << 10, ..Options::new(data_dir) };
        Self { dir, options }
    }

    /// A store with some frames in each of some files, closed in order.
    async fn filled() -> Self {
        let bench = Self::empty();
        let engine = bench.open();
        engine.register(name("billing"), vec![name("orders")]).await.expect("registered");
        for n in 0..6 {
            publish(&engine, "orders", &"x".repeat(20_000 + n)).await;
        }
        let later = Draft { due: Due::After(Duration::from_secs(3600)), ..draft("later") };
        engine.publish(name("orders"), vec![later]).await.expect("stored");
        let mode = AckMode::Lease(Duration::from_secs(3600));
        let receive = Receive {
            queue: name("orders.billing"),
            service: None,
            max_messages: 2,
            max_bytes: Receive::BYTES_MAX,
            wait: Duration::ZERO,
            mode,
        };
        assert_eq!(engine.receive(receive).await.expect("received").len(), 2);
        publish(&engine, "orders", &"y".repeat(3000)).await;
        engine.close().await;
        bench
    }

    pub(super) fn open(&self) -> Engine {
        Engine::open(self.options.clone()).expect("opens")
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.options.data_dir.join(name)
    }

    /// The files of the journal, in order.
    pub(super) fn wal_files(&self) -> Vec<PathBuf> {
        let image = image_of(&self.path("journal"));
        image.into_iter().map(|(path, ..)| path).filter(|path| path.extension().is_some_and(|e| e == "wal")).collect()
    }

    /// The only segment.
    fn segment(&self) -> PathBuf {
        let image = image_of(&self.path("segments"));
        image.into_iter().map(|(path, ..)| path).next().expect("there is one")
    }

    /// Looks, and sees to it that nothing has changed, and that a start judges alike.
    fn diagnose(&self) -> Diagnosis {
        let before = image_of(&self.options.data_dir);
        let diagnosis = diagnose(&self.options);
        assert!(image_of(&self.options.data_dir) == before, "something was changed");
        let started = self.start_of_a_copy();
        let is_stopped = diagnosis.problems.iter().any(Problem::stops_a_start);
        assert_eq!(!is_stopped, started.is_ok(), "{started:?}\n{diagnosis:#?}");
        diagnosis
    }

    /// What becomes of a start in a directory like this one.
    fn start_of_a_copy(&self) -> Result<(), String> {
        let copy = self.dir.path().join("copy");
        fs::create_dir(&copy).expect("made");
        for (path, bytes, _) in image_of(&self.options.data_dir) {
            let path = copy.join(path.strip_prefix(&self.options.data_dir).expect("below it"));
            fs::create_dir_all(path.parent().expect("a folder")).expect("made");
            fs::write(path, bytes).expect("written");
        }
        let started = Engine::open(Options { data_dir: copy.clone(), ..self.options.clone() });
        let started = started.map(drop).map_err(|error| error.to_string());
        fs::remove_dir_all(copy).expect("removed");
        started
    }
}

struct SetOnDrop<'a>(&'a AtomicBool);

impl Drop for SetOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

pub(super) fn image_of(dir: &Path) -> Image {
    let mut image = Image::new();
    for entry in fs::read_dir(dir).expect("listed") {
        let path = entry.expect("readable").path();
        let written_at = fs::metadata(&path).and_then(|file| file.modified()).expect("readable");
        if path.is_dir() {
            image.extend(image_of(&path));
        } else {
            let bytes = fs::read(&path).expect("readable");
            image.push((path, bytes, written_at));
        }
    }
    image.sort();
    image
}

pub(super) fn operate(path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = fs::read(path).expect("readable");
    change(&mut bytes);
    fs::write(path, bytes).expect("written");
}

pub(super) fn name(text: &str) -> Name {
    Name::parse(text).expect("valid")
}

fn draft(text: &str) -> Draft {
    Draft { payload: text.to_owned().into(), ..Draft::default() }
}

pub(super) async fn publish(engine: &Engine, topic: &str, text: &str) {
    engine.publish(name(topic), vec![draft(text)]).await.expect("stored");
}

pub(super) fn codes(diagnosis: &Diagnosis) -> Vec<&'static str> {
    diagnosis.problems.iter().map(Problem::code).collect()
}

fn range(begin: u64, end: u64) -> std::ops::Range<usize> {
    usize::try_from(begin).expect("small")..usize::try_from(end).expect("small")
}

#[tokio::test]
async fn a_healthy_store_is_told_file_by_file_and_queue_by_queue() {
    let bench = Bench::filled().await;
    let found = bench.diagnose();
    assert!(found.is_healthy());
    assert_eq!(found.directory, Directory::Ours);
    assert!(matches!(found.journal.store, StoreId::Named(_)));
    let paths: Vec<_> = found.journal.files.iter().map(|file| file.path.clone()).collect();
    assert_eq!(paths, bench.wal_files());
    let first = &found.journal.files[0];
    assert_eq!((first.first.0, first.file_bytes, first.frames), (0, 64 << 10, 3), "{first:?}");
    let end = found.journal.end.as_ref().expect("there are frames");
    let last = found.journal.files.iter().find(|file| file.path == end.path).expect("one of them");
    assert_eq!((last.used_bytes, last.tail), (end.offset, Tail::Marked));
    assert_eq!(end.position.0, last.first.0 + end.offset - PAGE);

    assert_eq!(found.readable.frames, found.journal.files.iter().map(|file| file.frames).sum::<u64>());
    assert_eq!(
        (found.readable.messages, found.readable.records["published"], found.readable.records["delayed"]),
        (8, 7, 1)
    );
    assert_eq!(found.behind, History::default());
    let (begin, end) = found.readable.times.expect("there are records");
    assert!(begin <= end && end == found.contents.as_of);

    let contents = &found.contents;
    assert_eq!((contents.topics, contents.messages, contents.delayed, contents.without_queue), (2, 8, 1, 0));
    assert_eq!((contents.queues, contents.ready, contents.leased), (2, 5, 2));
    let expected = QueueContents { name: name("orders.billing"), ready: 5, leased: 2, delayed: 1 };
    assert_eq!(contents.largest[0], expected);
}

#[tokio::test]
async fn messages_that_no_queue_wants_yet_are_counted() {
    let bench = Bench::empty();
    let engine = bench.open();
    publish(&engine, "waiting", "for somebody").await;
    engine.close().await;
    let contents = bench.diagnose().contents;
    let own_queue = contents.queues;
    assert_eq!((contents.messages, contents.ready + contents.without_queue), (1, 1), "{own_queue} queues");
}

#[tokio::test]
async fn a_torn_tail_is_told_with_its_place_and_harmless() {
    let bench = Bench::filled().await;
    let end = bench.diagnose().journal.end.expect("there are frames");
    // The mark behind the last frame, which would show that it was synced, and the last of the frame itself.
    operate(&end.path, |file| file[range(end.offset - PAGE / 2, end.offset + PAGE)].fill(0));
    let found = bench.diagnose();
    assert!(found.is_healthy());
    let now = found.journal.end.expect("there are frames");
    assert_eq!((&now.path, now.offset), (&end.path, end.offset - PAGE));
    let file = found.journal.files.iter().find(|file| file.path == end.path).expect("one of them");
    assert_eq!(file.tail, Tail::Torn { offset: now.offset, bytes: PAGE });
    assert_eq!(found.readable.messages, 7);

    operate(&end.path, |file| file[range(now.offset, now.offset + 512)].fill(0));
    let found = bench.diagnose();
    let file = found.journal.files.iter().find(|file| file.path == end.path).expect("one of them");
    assert_eq!(file.tail, Tail::Leftovers { offset: now.offset, bytes: PAGE });
}

#[tokio::test]
async fn a_flipped_bit_in_a_synced_frame_is_named_with_what_is_readable_on_both_sides() {
    let bench = Bench::filled().await;
    let whole = bench.diagnose();
    let path = bench.wal_files()[0].clone();
    // The third of three frames, of which the first takes one page and the others five.
    operate(&path, |file| file[PAGE as usize * 7 + 300] ^= 8);
    let found = bench.diagnose();
    match &found.problems[..] {
        [Problem::Store(Defect::Lost { path: at, offset, proof, proof_offset })] => {
            assert_eq!((at, *offset, *proof_offset), (&path, PAGE * 7, PAGE));
            assert_eq!(proof, &bench.wal_files()[1]);
        }
        other => panic!("{other:?}"),
    }
    assert_eq!((found.readable.frames, found.readable.messages), (2, 1));
    assert_eq!(found.behind.frames, whole.readable.frames - 3);
    assert_eq!(found.journal.files[0].tail, Tail::Lost { offset: PAGE * 7 });
    assert_eq!(found.contents.messages, 1);

    // One in the middle of the file too: both are told.
    operate(&path, |file| file[PAGE as usize * 2 + 300] ^= 8);
    let found = bench.diagnose();
    let offsets: Vec<_> = found.problems.iter().map(Problem::offset).collect();
    assert_eq!(offsets, [Some(PAGE * 2), Some(PAGE * 7)], "{:?}", found.problems);
    assert_eq!((found.readable.frames, found.behind.frames), (1, whole.readable.frames - 3));
}

#[tokio::test]
async fn a_missing_file_is_named_and_the_rest_is_read() {
    let bench = Bench::filled().await;
    let whole = bench.diagnose();
    for missing in [0, 1] {
        let path = bench.wal_files()[missing].clone();
        let aside = bench.dir.path().join("aside");
        fs::rename(&path, &aside).expect("moved");
        let found = bench.diagnose();
        match &found.problems[..] {
            [Problem::Store(Defect::Missing { path: named, .. })] => assert_eq!(named, &path),
            other => panic!("{other:?}"),
        }
        let lost = whole.journal.files[missing].frames;
        assert_eq!(found.readable.frames + found.behind.frames, whole.readable.frames - lost);
        assert_eq!(found.readable.frames, if missing == 0 { 0 } else { 3 });
        fs::rename(&aside, &path).expect("moved");
    }
}

#[tokio::test]
async fn damaged_headers_and_unknown_versions_are_named_all_at_once() {
    let bench = Bench::filled().await;
    let files = bench.wal_files();
    operate(&files[0], |file| file[50] ^= 1);
    operate(&files[1], |file| file[8] = 9);
    let found = bench.diagnose();
    assert_eq!(codes(&found), ["damaged_file", "unknown_version"], "{:?}", found.problems);
    assert_eq!(found.problems[1].path(), files[1]);
    assert_eq!((found.readable.frames, found.journal.files.len()), (0, files.len() - 2));
    assert!(found.behind.frames > 0);
    operate(&files[2], |file| file.truncate(100));
    assert_eq!(codes(&bench.diagnose()), ["damaged_file", "unknown_version", "damaged_file"]);
}

#[tokio::test]
async fn a_file_of_another_store_is_named_and_left_out() {
    let (bench, other) = (Bench::filled().await, Bench::filled().await);
    let whole = bench.diagnose();
    fs::copy(&other.wal_files()[0], bench.path("journal/00000000000000ff.wal")).expect("copied");
    let found = bench.diagnose();
    assert_eq!(codes(&found), ["other_store"], "{:?}", found.problems);
    assert_eq!(found.readable, whole.readable);
    fs::copy(other.path("STORE"), bench.path("STORE")).expect("copied");
    let strangers = codes(&bench.diagnose()).iter().filter(|code| **code == "other_store").count();
    assert_eq!(strangers, whole.journal.files.len());
}

#[tokio::test]
async fn without_a_good_store_file_the_journal_is_read_all_the_same() {
    let bench = Bench::filled().await;
    let whole = bench.diagnose();
    let StoreId::Named(uuid) = whole.journal.store else { panic!("{whole:?}") };
    operate(&bench.path("STORE"), |file| file[20] ^= 1);
    let found = bench.diagnose();
    assert_eq!(codes(&found), ["damaged_file"]);
    assert_eq!((found.journal.store, &found.readable), (StoreId::Guessed(uuid), &whole.readable));
    fs::remove_file(bench.path("STORE")).expect("removed");
    let found = bench.diagnose();
    assert_eq!(codes(&found), ["missing_file"]);
    assert_eq!((found.journal.store, &found.readable), (StoreId::Guessed(uuid), &whole.readable));

    let bench = Bench::filled().await;
    fs::remove_dir_all(bench.path("journal")).expect("removed");
    let found = bench.diagnose();
    assert_eq!(codes(&found), ["missing_file"]);
    assert_eq!(found.problems[0].path(), bench.path("journal"));
}

#[tokio::test]
async fn without_the_store_file_it_is_not_known_where_the_journal_behind_a_checkpoint_begins() {
    let bench = with_a_checkpoint().await;
    fs::remove_file(bench.path("STORE")).expect("removed");
    let found = bench.diagnose();
    assert_eq!(codes(&found), ["missing_file"], "{:?}", found.problems);
    assert_eq!(found.problems[0].path(), bench.path("STORE"));
    assert!(found.readable.frames == 0 && found.behind.frames > 0, "{found:?}");
}

#[tokio::test]
async fn a_directory_in_use_is_told_and_read_beside_the_broker_without_false_alarm() {
    let mut bench = Bench::empty();
    // Files that are not cut off faster than they are read.
    bench.options.journal_file_bytes = 2 << 20;
    let engine = bench.open();
    publish(&engine, "t", "first").await;
    let found = diagnose(&bench.options);
    if Path::new("/proc/locks").exists() {
        assert_eq!(found.holder, Holder::Process { pid: std::process::id() });
    }
    assert!(found.is_healthy() && found.contents.messages == 1, "{found:?}");

    let is_over = AtomicBool::new(false);
    let mut seen = 0;
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
            runtime.block_on(async {
                let (queue, wait, mode) = (name("busy"), Duration::ZERO, AckMode::AtOnce);
                let receive =
                    Receive { queue, service: None, max_messages: 9, max_bytes: Receive::BYTES_MAX, wait, mode };
                let mut count = 0;
                while !is_over.load(Ordering::Relaxed) {
                    // Not more and more: each look reads all of them.
                    let topic = if count < 200 { "t" } else { "busy" };
                    publish(&engine, topic, &"z".repeat(fastrand::usize(0..15_000))).await;
                    engine.receive(receive.clone()).await.expect("received");
                    count += 1;
                }
            });
        });
        // Also when an assertion fails: else the scope would wait for the publisher for ever.
        let _end = SetOnDrop(&is_over);
        for _ in 0..40 {
            let found = diagnose(&bench.options);
            // What was made while it looked is missed, not damaged.
            assert!(found.is_healthy(), "{found:#?}");
            if !found.is_inconclusive {
                assert!(found.contents.without_queue >= seen);
                seen = found.contents.without_queue;
            }
        }
        assert!(seen > 0, "some look was conclusive");
    });
    engine.close().await;
    drop(engine);
    let found = bench.diagnose();
    assert!(found.contents.without_queue >= seen);
    assert!(matches!(found.holder, Holder::NoneSeen { .. } | Holder::Untold { .. }));
}

#[test]
fn folders_that_are_no_store_are_told_apart() {
    let bench = Bench::empty();
    assert_eq!(bench.diagnose().directory, Directory::Empty);
    fs::write(bench.path("holiday.jpg"), "beach").expect("written");
    let found = bench.diagnose();
    assert_eq!((found.directory, codes(&found)), (Directory::Foreign, vec!["foreign"]));
    assert!(found.problems[0].to_string().ends_with("it holds holiday.jpg"));
    // A file in its place.
    let found = diagnose(&Options::new(bench.path("holiday.jpg")));
    assert_eq!((found.directory, codes(&found)), (Directory::Unreadable, vec!["unreadable"]));
    let nowhere = bench.path("nowhere");
    let found = diagnose(&Options::new(&nowhere));
    assert_eq!((found.directory, codes(&found)), (Directory::Missing, vec!["no_directory"]));
    assert!(!nowhere.exists());
}

#[tokio::test]
async fn files_of_the_original_broker_are_read_to_the_first_damaged_line_and_on() {
    let line = |n: u8| format!(r#"{{"id": "3f2b0c6e-8a44-4d0e-9d43-0b6f2c1d9e{n:02}", "topic": "t", "payload": {n}}}"#);
    let bench = Bench::empty();
    fs::write(bench.path("a.jsonl"), format!("{}\n{}\n", line(1), line(2))).expect("written");
    let found = bench.diagnose();
    assert_eq!(found.directory, Directory::Empty);
    let waiting =
        |file: &str, messages, damaged, is_stored| WaitingFile { path: bench.path(file), messages, damaged, is_stored };
    assert_eq!(found.waiting, [waiting("a.jsonl", 2, 0, false)]);
    fs::copy(bench.path("a.jsonl"), bench.dir.path().join("aside")).expect("copied");
    drop(bench.open());
    fs::rename(bench.dir.path().join("aside"), bench.path("a.jsonl")).expect("moved");
    fs::write(bench.path("b.jsonl"), format!("{}\n\n{{\nno\n{}", line(3), line(4))).expect("written");
    let found = bench.diagnose();
    assert_eq!(found.waiting, [waiting("a.jsonl", 2, 0, true), waiting("b.jsonl", 2, 2, false)]);
    assert_eq!(found.taken_over, [bench.path("a.jsonl.imported")]);
    match &found.problems[..] {
        [Problem::Line { path, line, .. }] => assert_eq!((path, *line), (&bench.path("b.jsonl"), 3)),
        other => panic!("{other:?}"),
    }
    assert_eq!((found.contents.messages, found.readable.messages), (2, 2));
}

#[tokio::test]
async fn what_means_nothing_is_listed_and_left_where_it_is() {
    let bench = Bench::filled().await;
    for other in ["notes.txt", "journal/notes.txt", "journal/00000000000000aa.tmp", "journal/00000000000000ab.spare"] {
        fs::write(bench.path(other), "?").expect("written");
    }
    let found = bench.diagnose();
    assert!(found.is_healthy());
    assert_eq!(found.others, [bench.path("notes.txt")]);
    assert_eq!(found.journal.others, [bench.path("journal/notes.txt")]);
    assert!(found.journal.unfinished.contains(&bench.path("journal/00000000000000aa.tmp")));
    assert!(found.journal.spares.contains(&bench.path("journal/00000000000000ab.spare")));
}

#[tokio::test]
async fn the_list_of_problems_is_bounded() {
    let bench = Bench::empty();
    let engine = Engine::open(Options { journal_file_bytes: 4 << 20, ..bench.options.clone() }).expect("opens");
    for _ in 0..2 * Diagnosis::PROBLEMS_MAX + 20 {
        publish(&engine, "t", "m").await;
    }
    engine.close().await;
    drop(engine);
    operate(&bench.wal_files()[0], |file| {
        for page in (1..2 * Diagnosis::PROBLEMS_MAX + 20).step_by(2) {
            file[page * PAGE as usize + 64] ^= 1;
        }
    });
    let found = bench.diagnose();
    assert_eq!((found.problems.len(), found.problems_left_out), (Diagnosis::PROBLEMS_MAX, 10));
}

/// Whatever is damaged: the doctor and a start agree, and the doctor ends. (`Bench::diagnose` compares them.)
#[tokio::test]
async fn it_finds_something_wrong_exactly_where_a_start_is_refused() {
    let bench = Bench::filled().await;
    let image = image_of(&bench.options.data_dir);
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let (mut healthy, mut ill) = (0, 0);
    for _ in 0..150 {
        for (path, bytes, _) in &image {
            fs::write(path, bytes).expect("written");
        }
        let files = bench.wal_files();
        for _ in 0..random.usize(1..4) {
            let file = &files[random.usize(..files.len())];
            let Ok(length) = fs::metadata(file).map(|file| file.len()) else { continue };
            let page = random.u64(..length.max(PAGE) / PAGE) * PAGE;
            match random.u8(..12) {
                0 => drop(fs::remove_file(file)),
                1 => operate(file, |bytes| bytes.truncate(range(0, page).end)),
                2..6 if page < length => operate(file, |bytes| bytes[range(page, page + PAGE)].fill(0)),
                6..9 if page < length => operate(file, |bytes| bytes[range(page, page + 64)].fill_with(|| 7)),
                _ if length > 0 => {
                    let at = random.usize(..range(0, length).end);
                    operate(file, |bytes| bytes[at] ^= 1 << random.u8(..8));
                }
                _ => {}
            }
        }
        let found = bench.diagnose();
        if found.is_healthy() { healthy += 1 } else { ill += 1 }
    }
    assert!(healthy > 0 && ill > 0, "{healthy} and {ill}");
}

/// A store with one message in a segment, and a journal that was cut off.
async fn with_a_checkpoint() -> Bench {
    let mut bench = Bench::empty();
    bench.options.journal_file_bytes = 32 << 10;
    let engine = bench.open();
    publish(&engine, "quiet", "stays").await;
    let (queue, wait, mode) = (name("busy"), Duration::ZERO, AckMode::AtOnce);
    let receive = Receive { queue, service: None, max_messages: 9, max_bytes: Receive::BYTES_MAX, wait, mode };
    for _ in 0..120 {
        publish(&engine, "busy", &"x".repeat(3000)).await;
        engine.receive(receive.clone()).await.expect("received");
    }
    engine.close().await;
    bench
}

#[tokio::test]
async fn a_checkpoint_is_told_with_what_comes_behind_it() {
    let bench = with_a_checkpoint().await;
    let found = bench.diagnose();
    let checkpoint = found.checkpoint.expect("there is one");
    assert_eq!(checkpoint.segments, 1);
    assert!(checkpoint.messages >= 1 && checkpoint.position.0 > 0);
    assert_eq!((found.contents.messages, found.contents.topics), (1, 2));
    assert!(found.readable.frames < 240, "the journal was cut off: {}", found.readable.frames);
    assert!(found.others.is_empty(), "{:?}", found.others);
}

#[tokio::test]
async fn a_damaged_checkpoint_is_named_and_the_journal_is_counted_all_the_same() {
    let bench = with_a_checkpoint().await;
    let manifest = bench.options.data_dir.join("MANIFEST");
    let segment = bench.segment();
    for (path, places) in [(&manifest, [3, 40, 55]), (&segment, [3, 14, 40])] {
        let whole = fs::read(path).expect("readable");
        for at in places {
            operate(path, |bytes| bytes[at] ^= 1);
            let found = bench.diagnose();
            assert_eq!(codes(&found), ["damaged_checkpoint"], "byte {at}: {found:#?}");
            assert_eq!(found.problems[0].path(), path);
            // Without the manifest it is not known where the journal begins; without a segment it is.
            let (known, unknown) = (found.readable.frames, found.behind.frames);
            assert_eq!(path == &manifest, known == 0 && unknown > 0, "{known} and {unknown}");
            fs::write(path, &whole).expect("written");
        }
        fs::remove_file(path).expect("removed");
        assert!(!bench.diagnose().is_healthy(), "{} is gone", path.display());
        fs::write(path, &whole).expect("written");
    }
    assert!(bench.diagnose().is_healthy());
}

#[tokio::test]
async fn damaged_messages_of_a_segment_are_counted_with_their_place() {
    let bench = with_a_checkpoint().await;
    let segment = bench.segment();
    let whole = fs::read(&segment).expect("readable");
    operate(&segment, |bytes| bytes[64 + 41] ^= 1);
    let found = bench.diagnose();
    assert_eq!(codes(&found), ["damaged_messages"], "{found:#?}");
    assert_eq!((found.problems[0].path(), found.problems[0].offset()), (segment.as_path(), Some(64)));
    assert!(found.problems[0].to_string().contains("1 messages"), "{}", found.problems[0]);
    fs::write(&segment, &whole).expect("written");
    operate(&segment, |bytes| bytes[whole.len() - 1] ^= 1);
    let found = bench.diagnose();
    assert_eq!(codes(&found), ["damaged_index"], "{found:#?}");
    assert_eq!(found.contents.messages, 1, "what is in it is found without");
}

#[tokio::test]
async fn frames_that_a_checkpoint_counts_on_are_missed() {
    let bench = with_a_checkpoint().await;
    let files = bench.wal_files();
    for file in &files {
        let whole = fs::read(file).expect("readable");
        fs::remove_file(file).expect("removed");
        bench.diagnose();
        fs::write(file, whole).expect("written");
    }
    for file in &files {
        fs::remove_file(file).expect("removed");
    }
    bench.diagnose();
    for spare in fs::read_dir(bench.options.data_dir.join("journal")).expect("listed") {
        fs::remove_file(spare.expect("readable").path()).expect("removed");
    }
    assert_eq!(codes(&bench.diagnose()), ["missing_frames"]);
}

#[tokio::test]
async fn a_journal_of_which_only_the_prepared_file_is_left_is_no_new_one() {
    let bench = Bench::filled().await;
    let files = bench.wal_files();
    for file in &files[..files.len() - 1] {
        fs::remove_file(file).expect("removed");
    }
    // What is left has no frames: it was being prepared.
    assert_eq!(codes(&bench.diagnose()), ["missing_file"]);
}
