//! Repairs of directories that a real engine made. Whatever is damaged: afterwards a broker starts, everything that is not
//! in the damaged parts is delivered, in order and once, and nothing that was there is gone.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use super::{
    tests::{Bench, Image, codes, image_of, name, operate, publish},
    *,
};
use crate::engine::{
    AckMode, Engine, Options, Receive,
    checkpoint::{self, load_block},
    disk::{
        Disk as _, Fault, FaultDisk, Op, Outcome, RealDisk, Times,
        sim::{Dice, Lies, SimDisk},
    },
    journal::{
        Record, RecordIter,
        file::{self, LockError, Sighting, StoreId},
    },
};

const PAGE: usize = 4096;
/// What of a journal file's header counts.
const HEADER_BYTES: usize = 76;

/// A store with messages in segments and behind the checkpoint, and where each stands.
struct Patient {
    bench: Bench,
    image: BTreeMap<PathBuf, Vec<u8>>,
    /// The messages on `q`, by segment.
    segments: Vec<(PathBuf, Vec<String>)>,
    frames: Vec<Frame>,
}

/// A frame behind the checkpoint, and what it brings to `q`.
struct Frame {
    path: PathBuf,
    offset: usize,
    /// Without padding.
    bytes: usize,
    messages: Vec<String>,
}

impl Patient {
    async fn new() -> Self {
        let mut bench = Bench::empty();
        bench.options.journal_file_bytes = 32 << 10;
        let mut patient = Self { bench, image: BTreeMap::new(), segments: Vec::new(), frames: Vec::new() };
        let mut count = 0;
        // When a checkpoint is taken is up to the engine.
        while patient.segments.len() < 2 || patient.frames.len() < 10 {
            let engine = patient.bench.open();
            for n in count..count + 19 {
                publish(&engine, "q", &format!("{n} {}", "x".repeat(3000))).await;
                publish(&engine, "busy", &n.to_string()).await;
                pop(&engine, "busy").await;
            }
            count += 19;
            engine.close().await;
            drop(engine);
            patient.find_messages();
        }
        patient.image = bytes_of(&image_of(&patient.bench.options.data_dir));
        assert_eq!(patient.all().len(), count, "every message stands somewhere");
        patient
    }

    fn find_messages(&mut self) {
        let dir = &self.bench.options.data_dir;
        let store = file::store_uuid(dir).expect("readable").expect("there is one");
        let loaded = checkpoint::salvage(&RealDisk, dir, store).expect("it is whole").loaded;
        let queue = |topic| loaded.state.topic(topic).is_some_and(|topic| topic.name.as_str() == "q");
        let mut segments = BTreeMap::<PathBuf, Vec<String>>::new();
        for block in loaded.state.segments.blocks().filter(|block| queue(block.first.topic)) {
            let read = load_block(&RealDisk, dir, &block).expect("it is whole");
            let bodies = (block.first.seq.0..=block.last.0).filter_map(|seq| read.body(crate::model::Seq(seq)));
            let texts = bodies.map(|body| first_word(body.payload));
            segments.entry(checkpoint::segment_path(dir, block.segment)).or_default().extend(texts);
        }
        self.segments = segments.into_iter().collect();
        self.frames.clear();
        file::survey(&RealDisk, dir, Some(loaded.position), &mut |sighting| match sighting {
            Sighting::Defect(defect) => panic!("{defect}"),
            Sighting::Frame { path, offset, records, .. } => {
                let published = RecordIter::new(records).filter_map(|record| match record.expect("whole").1 {
                    Record::Published { topic, message, .. } if queue(topic) => Some(first_word(&message.payload)),
                    _ => None,
                });
                let (messages, bytes) = (published.collect(), 64 + records.len());
                let offset = usize::try_from(offset).expect("small");
                self.frames.push(Frame { path: path.to_path_buf(), offset, bytes, messages });
            }
        });
    }

    /// Puts everything back as it was.
    fn restore(&self) {
        let dir = &self.bench.options.data_dir;
        fs::remove_dir_all(dir).expect("removed");
        for (path, bytes) in &self.image {
            fs::create_dir_all(path.parent().expect("a folder")).expect("made");
            fs::write(path, bytes).expect("written");
        }
    }

    /// The messages in what is not damaged: segments that can be used, and the journal up to the first damaged frame.
    fn expected(&self) -> Vec<String> {
        let segments = self.segments.iter().filter(|(path, _)| {
            let is_same = |now: Vec<u8>| now.len() == self.image[path].len() && now[..64] == self.image[path][..64];
            fs::read(path).is_ok_and(is_same)
        });
        let is_whole = |frame: &&Frame| {
            let before = &self.image[&frame.path];
            let is_same = |now: Vec<u8>| {
                let range = frame.offset..frame.offset + frame.bytes;
                now.len() >= before.len()
                    && now[..HEADER_BYTES] == before[..HEADER_BYTES]
                    && now[range.clone()] == before[range]
            };
            fs::read(&frame.path).is_ok_and(is_same)
        };
        let frames = self.frames.iter().take_while(is_whole);
        sorted(segments.flat_map(|(_, texts)| texts.clone()).chain(frames.flat_map(|frame| frame.messages.clone())))
    }

    fn all(&self) -> Vec<String> {
        let frames = self.frames.iter().flat_map(|frame| frame.messages.clone());
        sorted(self.segments.iter().flat_map(|(_, texts)| texts.clone()).chain(frames))
    }

    /// Damages something at random.
    fn damage(&self, random: &mut fastrand::Rng) {
        let path = if random.u8(..4) == 0 {
            self.segments[random.usize(..self.segments.len())].0.clone()
        } else {
            let files = self.bench.wal_files();
            let Some(path) = files.get(random.usize(..files.len().max(1))) else { return };
            path.clone()
        };
        let is_segment = path.extension().is_some_and(|ending| ending == "seg");
        let Ok(length) = fs::metadata(&path).map(|file| usize::try_from(file.len()).expect("small")) else { return };
        if length < 2 * PAGE {
            return;
        }
        match random.u8(..8) {
            0 => fs::remove_file(&path).expect("removed"),
            1 => operate(&path, |bytes| bytes.truncate(random.usize(..length))),
            // Another version number is not taken for damage.
            2 => operate(&path, |bytes| bytes[random.choice([0, 5, 12, 20, 33]).expect("some")] ^= 1 << random.u8(..8)),
            // What is damaged further on in a segment costs nobody else anything: that is tested elsewhere.
            _ if is_segment => {}
            3 => {
                let page = random.usize(1..length / PAGE);
                operate(&path, |bytes| bytes[page * PAGE..(page + 1) * PAGE].fill(0));
            }
            _ => operate(&path, |bytes| bytes[random.usize(PAGE..length)] ^= 1 << random.u8(..8)),
        }
    }

    fn repair(&self) -> Result<Repair, RepairError> {
        repair(&self.bench.options)
    }

    /// A broker starts, delivers exactly these messages of `q`, and goes on as ever.
    async fn assert_delivers(&self, expected: &[String], case: &str) {
        let engine = Engine::open(self.bench.options.clone()).unwrap_or_else(|error| panic!("{case}: {error}"));
        assert_eq!(pop_all(&engine, "q").await, expected, "{case}");
        for n in 0..40 {
            publish(&engine, "q", &format!("new{n} {}", "y".repeat(3000))).await;
        }
        engine.close().await;
        drop(engine);
        let engine = Engine::open(self.bench.options.clone()).unwrap_or_else(|error| panic!("{case}: {error}"));
        let new: Vec<_> = (0..40).map(|n| format!("new{n}")).collect();
        assert_eq!(pop_all(&engine, "q").await, new, "{case}");
        engine.close().await;
        drop(engine);
        assert!(diagnose(&self.bench.options).is_healthy(), "{case}");
    }

    /// Every file of `before` is where it was, or set aside under its name, byte for byte.
    fn assert_nothing_is_gone(&self, before: &BTreeMap<PathBuf, Vec<u8>>, case: &str) {
        let dir = &self.bench.options.data_dir;
        let now = bytes_of(&image_of(dir));
        for (path, bytes) in before {
            let inside = path.strip_prefix(dir).expect("below it");
            if inside == Path::new("LOCK") {
                continue;
            }
            let is_there = now.get(path) == Some(bytes);
            let aside = now
                .iter()
                .any(|(found, b)| found.starts_with(dir.join("set-aside")) && found.ends_with(inside) && b == bytes);
            assert!(is_there || aside, "{case}: {} is gone", inside.display());
        }
    }
}

fn sorted(texts: impl Iterator<Item = String>) -> Vec<String> {
    let mut texts: Vec<_> = texts.collect();
    texts.sort_by_key(|text| text.parse::<u64>().expect("a number"));
    texts
}

fn bytes_of(image: &Image) -> BTreeMap<PathBuf, Vec<u8>> {
    image.iter().map(|(path, bytes, _)| (path.clone(), bytes.clone())).collect()
}

fn first_word(payload: &[u8]) -> String {
    String::from_utf8_lossy(payload).split(' ').next().unwrap_or_default().to_owned()
}

async fn pop(engine: &Engine, queue: &str) -> Vec<String> {
    let (wait, mode) = (Duration::ZERO, AckMode::AtOnce);
    let receive =
        Receive { queue: name(queue), service: None, max_messages: 100, max_bytes: Receive::BYTES_MAX, wait, mode };
    let deliveries = engine.receive(receive).await.expect("received");
    deliveries.iter().map(|delivery| first_word(&delivery.message.payload)).collect()
}

async fn pop_all(engine: &Engine, queue: &str) -> Vec<String> {
    let mut all = Vec::new();
    loop {
        let some = pop(engine, queue).await;
        if some.is_empty() {
            return all;
        }
        all.extend(some);
    }
}

#[tokio::test]
async fn whatever_is_damaged_a_repaired_store_delivers_everything_else_and_nothing_is_gone() {
    let patient = Patient::new().await;
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let (mut repaired, mut lossless) = (0, 0);
    for round in 0..60 {
        patient.restore();
        for _ in 0..random.usize(1..4) {
            patient.damage(&mut random);
        }
        let case = format!("seed {seed}, round {round}");
        let expected = patient.expected();
        let before = bytes_of(&image_of(&patient.bench.options.data_dir));
        let found = diagnose(&patient.bench.options);
        let outcome = patient.repair().unwrap_or_else(|error| panic!("{case}: {error:?}"));
        assert!(outcome.after.is_healthy(), "{case}: {:#?}", outcome.after.problems);
        assert_eq!(outcome.set_aside.is_some(), found.stops_a_start(), "{case}");
        assert_eq!(outcome.set_aside.as_ref().map(|(_, plan)| plan), found.plan.as_ref(), "{case}: as was announced");
        patient.assert_nothing_is_gone(&before, &case);
        if let Some((aside, plan)) = &outcome.set_aside {
            let report = fs::read_to_string(aside.join("REPORT")).expect("there is a report");
            assert!(report.ends_with(report::FINISHED), "{case}: {report}");
            assert!(plan.losses().iter().all(|loss| report.contains(loss)), "{case}: {report}");
            repaired += 1;
        }
        lossless += u32::from(expected == patient.all());
        let again = patient.repair().expect("there is nothing to do");
        assert_eq!(again.set_aside, None, "{case}");
        patient.assert_delivers(&expected, &case).await;
    }
    assert!(repaired > 20 && lossless < 50, "{repaired} repaired, {lossless} without a loss");
}

#[tokio::test]
async fn a_repair_that_is_broken_off_anywhere_is_finished_by_the_next_one() {
    let mut patient = Patient::new().await;
    let disk = FaultDisk::new(RealDisk);
    patient.bench.options.disk = Arc::new(disk.clone());
    let frame = patient.frames.iter().position(|frame| !frame.messages.is_empty()).expect("there is one") + 3;
    let (file, place) = (patient.frames[frame].path.clone(), patient.frames[frame].offset + 70);
    let segment = patient.segments[0].0.clone();
    let mut broken_off = 0;
    for op in [Op::CreateDir, Op::Create, Op::Open, Op::Read, Op::Write, Op::Sync, Op::SyncDir, Op::Rename, Op::SetLen]
    {
        for nth in 1.. {
            let case = format!("{op:?} {nth}");
            patient.restore();
            operate(&file, |bytes| bytes[place] ^= 1);
            operate(&segment, |bytes| bytes[3] ^= 1);
            let expected = patient.expected();
            let before = bytes_of(&image_of(&patient.bench.options.data_dir));
            let outcome = Outcome::Error(io::ErrorKind::Other);
            disk.set(Fault { op, name_end: "", nth, outcome, times: Times::Once });
            let first = patient.repair();
            disk.heal();
            patient.assert_nothing_is_gone(&before, &case);
            match &first {
                Ok(done) => assert!(done.after.is_healthy(), "{case}"),
                Err(RepairError::Io(_)) => broken_off += 1,
                Err(other) => panic!("{case}: {other:?}"),
            }
            let second = patient.repair().unwrap_or_else(|error| panic!("{case}: {error:?}"));
            assert!(second.after.is_healthy(), "{case}: {:#?}", second.after.problems);
            patient.assert_nothing_is_gone(&before, &case);
            patient.assert_delivers(&expected, &case).await;
            if first.is_ok() {
                break;
            }
        }
    }
    assert!(broken_off > 30, "{broken_off}");
}

/// A disk in memory that holds, durably, what is in the data directory.
fn in_memory(patient: &Patient) -> SimDisk {
    let dir = &patient.bench.options.data_dir;
    let disk = SimDisk::with_folder(dir);
    for folder in ["journal", "segments"] {
        disk.create_dir(&dir.join(folder)).and_then(|()| disk.sync_dir(dir)).expect("made");
    }
    for (path, bytes, _) in image_of(dir) {
        let file = disk.create(&path).expect("made");
        file.write_all_at(&bytes, 0).and_then(|()| file.sync_data()).expect("written");
        disk.sync_dir(path.parent().expect("a folder")).expect("synced");
    }
    disk.take_moments();
    disk
}

/// Puts what such a disk holds in these folders into the data directory.
fn put_back(patient: &Patient, disk: &SimDisk, folders: &[PathBuf]) {
    fs::remove_dir_all(&patient.bench.options.data_dir).expect("removed");
    for folder in folders {
        let Ok(names) = disk.list(folder) else { continue };
        fs::create_dir_all(folder).expect("made");
        for path in names.into_iter().map(|name| folder.join(name)) {
            let file = disk.open_read(&path).expect("there");
            let mut bytes = vec![0; usize::try_from(file.length().expect("known")).expect("small")];
            file.read_exact_at(&mut bytes, 0).expect("read");
            fs::write(path, bytes).expect("written");
        }
    }
}

#[tokio::test]
async fn a_repair_that_loses_its_power_anywhere_loses_nothing_else_and_is_finished_by_the_next_one() {
    let patient = Patient::new().await;
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut dice = Dice::new(seed);
    let frame = &patient.frames[4];
    operate(&frame.path, |bytes| bytes[frame.offset + 70] ^= 1);
    operate(&patient.segments[0].0, |bytes| bytes[3] ^= 1);
    let expected = patient.expected();
    let dir = patient.bench.options.data_dir.clone();
    let before = bytes_of(&image_of(&dir));
    let found = diagnose(&patient.bench.options);
    let plan = found.plan.expect("it can be repaired");
    let StoreId::Named(store) = found.journal.store else { panic!("{:?}", found.journal) };

    let disk = in_memory(&patient);
    let surgery = surgery::Surgery::begin(Arc::new(disk.clone()), &dir, store, "now").expect("begun");
    surgery.carry_out(&plan, "report").expect("carried out");
    let aside = surgery.aside().to_path_buf();
    let folders =
        [dir.clone(), dir.join("journal"), dir.join("segments"), aside.join("journal"), aside.join("segments"), aside];
    let moments = disk.take_moments();
    assert!(moments.len() > 40, "{} moments", moments.len());
    for (moment, (world, _)) in moments.iter().enumerate() {
        let case = format!("seed {seed}, moment {moment} of {}", moments.len());
        put_back(&patient, &SimDisk::new(world.crash(&mut dice), Lies::default()), &folders);
        patient.assert_nothing_is_gone(&before, &case);
        // Either it is refused still, or the repair is done.
        if let Ok(engine) = Engine::open(patient.bench.options.clone()) {
            assert_eq!(pop_all(&engine, "q").await, expected, "{case}");
            engine.close().await;
            continue;
        }
        let next = patient.repair().unwrap_or_else(|error| panic!("{case}: {error:?}"));
        assert!(next.after.is_healthy(), "{case}: {:#?}", next.after.problems);
        patient.assert_nothing_is_gone(&before, &case);
        let engine = Engine::open(patient.bench.options.clone()).unwrap_or_else(|error| panic!("{case}: {error}"));
        assert_eq!(pop_all(&engine, "q").await, expected, "{case}");
        engine.close().await;
    }
}

#[tokio::test]
async fn what_cannot_be_repaired_is_left_as_it_is() {
    let patient = Patient::new().await;
    for (file, place, code) in [("MANIFEST", 20, "damaged_checkpoint"), ("STORE", 20, "damaged_file")] {
        patient.restore();
        operate(&patient.bench.path(file), |bytes| bytes[place] ^= 1);
        // Also if there is something else that could be.
        operate(&patient.segments[0].0, |bytes| bytes[3] ^= 1);
        let before = bytes_of(&image_of(&patient.bench.options.data_dir));
        match patient.repair() {
            Err(RepairError::Hopeless { diagnosis }) => {
                assert!(codes(&diagnosis).contains(&code), "{:?}", diagnosis.problems);
                assert_eq!(diagnosis.plan, None);
            }
            other => panic!("{file}: {other:?}"),
        }
        let mut now = bytes_of(&image_of(&patient.bench.options.data_dir));
        let lock = patient.bench.path("LOCK");
        now.insert(lock.clone(), before[&lock].clone());
        assert!(now == before, "{file}: something was changed");
    }
}

#[tokio::test]
async fn a_store_in_use_is_not_repaired() {
    let bench = Bench::empty();
    let engine = bench.open();
    publish(&engine, "q", "stays").await;
    assert!(matches!(repair(&bench.options), Err(RepairError::Lock(LockError::Held { .. }))));
    assert_eq!(pop(&engine, "q").await, ["stays"]);
    engine.close().await;
}

#[test]
fn what_is_no_store_is_not_made_one() {
    let bench = Bench::empty();
    assert!(matches!(repair(&bench.options), Err(RepairError::Hopeless { .. })));
    fs::write(bench.path("holiday.jpg"), "beach").expect("written");
    assert!(matches!(repair(&bench.options), Err(RepairError::Hopeless { .. })));
    assert_eq!(image_of(&bench.options.data_dir).len(), 1);
    let nowhere = Options { data_dir: bench.path("nowhere"), ..bench.options.clone() };
    assert!(matches!(repair(&nowhere), Err(RepairError::Hopeless { .. })));
    assert!(!nowhere.data_dir.exists());
}

#[tokio::test]
async fn foreign_files_stay_and_a_repair_says_what_it_set_aside() {
    let patient = Patient::new().await;
    for name in ["notes.txt", "journal/notes.txt"] {
        fs::write(patient.bench.path(name), "mine").expect("written");
    }
    fs::remove_file(&patient.segments[0].0).expect("removed");
    operate(&patient.segments[1].0, |bytes| bytes.truncate(100));
    let outcome = patient.repair().expect("repaired");
    let (aside, plan) = outcome.set_aside.expect("there was something to do");
    let lost = patient.segments[0].1.len() + patient.segments[1].1.len();
    assert_eq!((plan.lost, plan.behind), (Some(lost as u64), None));
    let inside = patient.segments[1].0.strip_prefix(&patient.bench.options.data_dir).expect("below it");
    assert_eq!(fs::metadata(aside.join(inside)).expect("there").len(), 100);
    let manifest = patient.bench.path("MANIFEST");
    assert_eq!(fs::read(aside.join("MANIFEST")).expect("there"), patient.image[&manifest]);
    for name in ["notes.txt", "journal/notes.txt"] {
        assert_eq!(fs::read_to_string(patient.bench.path(name)).expect("there"), "mine");
    }
    assert!(outcome.after.others.iter().all(|path| !path.ends_with("set-aside")), "{:?}", outcome.after.others);
}

#[tokio::test]
async fn the_history_is_counted_that_is_given_up() {
    let patient = Patient::new().await;
    let damaged = patient.frames.len() - 4;
    let frame = &patient.frames[damaged];
    operate(&frame.path, |bytes| bytes[frame.offset + 64] ^= 1);
    let (_, plan) = patient.repair().expect("repaired").set_aside.expect("there was something to do");
    let messages: usize = patient.frames[damaged + 1..].iter().map(|frame| frame.messages.len()).sum();
    let behind = plan.behind.expect("the history ends earlier");
    assert_eq!(behind.frames, 3);
    assert!(behind.messages >= messages as u64, "{behind:?}, those on other topics included");
    assert_eq!(plan.lost, None);
}

#[tokio::test]
async fn a_journal_that_is_gone_altogether_costs_what_came_behind_the_checkpoint() {
    let patient = Patient::new().await;
    fs::write(patient.bench.path("journal/0000000000000001.spare"), "").expect("written");
    let files: Vec<_> = image_of(&patient.bench.path("journal")).into_iter().map(|(path, ..)| path).collect();
    for spares_too in [false, true] {
        patient.restore();
        fs::write(patient.bench.path("journal/0000000000000001.spare"), "").expect("written");
        let is_gone = |path: &&PathBuf| spares_too || path.extension().is_some_and(|ending| ending == "wal");
        files.iter().filter(is_gone).for_each(|path| fs::remove_file(path).expect("removed"));
        let expected = sorted(patient.segments.iter().flat_map(|(_, texts)| texts.clone()));
        let outcome = patient.repair().expect("repaired");
        assert!(outcome.after.is_healthy(), "{:#?}", outcome.after.problems);
        // With a spare a start takes it for a journal that was given up for the checkpoint.
        assert_eq!(outcome.set_aside.is_some(), spares_too);
        patient.assert_delivers(&expected, "no journal").await;
    }
}

#[tokio::test]
async fn a_damaged_file_of_dedup_ids_costs_these_ids_alone() {
    let mut bench = Bench::empty();
    bench.options.journal_file_bytes = 32 << 10;
    let once = || crate::model::Draft { payload: "1".into(), dedup_id: Some("id".into()), ..Default::default() };
    let engine = bench.open();
    engine.publish(name("q"), vec![once()]).await.expect("stored");
    for n in 0..60 {
        publish(&engine, "q", &format!("{} {}", n + 2, "x".repeat(3000))).await;
    }
    engine.close().await;
    drop(engine);
    let files = image_of(&bench.path("segments")).into_iter().map(|(path, ..)| path);
    let files: Vec<_> = files.filter(|path| path.extension().is_some_and(|ending| ending == "ids")).collect();
    assert!(!files.is_empty());
    operate(&files[0], |bytes| bytes[20] ^= 1);
    assert_eq!(codes(&diagnose(&bench.options)), ["damaged_checkpoint"]);
    let outcome = repair(&bench.options).expect("repaired");
    let (aside, plan) = outcome.set_aside.expect("there was something to do");
    assert!(outcome.after.is_healthy() && aside.join("segments").join(files[0].file_name().expect("named")).exists());
    assert!(plan.losses().iter().any(|loss| loss.starts_with("dedup ids")), "{:?}", plan.losses());
    assert_eq!(plan.lost, Some(0));
    let engine = bench.open();
    assert!(!engine.publish(name("q"), vec![once()]).await.expect("stored").messages[0].duplicate);
    assert_eq!(pop_all(&engine, "q").await.len(), 62);
}
