//! Bytes that change and files that are cut off, of every kind of file that a store has: refused, or at most the one message
//! lost that stood there; never a wrong one.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use super::{AckMode, Bench, Clock, Draft, Due, Timestamp, draft, name, texts};
use crate::engine::{Engine, Options};

/// Of each file, so many bytes are flipped and so many lengths tried; of headers more.
const SAMPLES: usize = 16;
const HEADER_BYTES: usize = 80;
const MINUTE: Duration = Duration::from_secs(60);

/// A store that is closed, with something in every kind of file, and its bytes.
struct Whole {
    bench: Bench,
    files: BTreeMap<PathBuf, Vec<u8>>,
    /// What is on `t`, in order.
    texts: Vec<String>,
}

fn files_of(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(dir).expect("listed") {
        let path = entry.expect("readable").path();
        if path.is_dir() {
            files.extend(files_of(&path));
        } else {
            let bytes = fs::read(&path).expect("readable");
            files.insert(path, bytes);
        }
    }
    files
}

fn kind_of(path: &Path) -> String {
    let named = path.extension().or(path.file_name()).expect("a file has a name");
    named.to_string_lossy().into_owned()
}

impl Whole {
    async fn new() -> Self {
        let mut bench = Bench::new();
        bench.options.journal_file_bytes = 32 << 10;
        bench.options.dedup_window = MINUTE;
        bench.restart().await;
        let mut texts = Vec::new();
        let long = "x".repeat(3000);
        for n in 0..50 {
            let text = format!("{n} {}", "y".repeat(n * 7));
            let dedup_id = n.is_multiple_of(3).then(|| n.to_string());
            bench.publish_one("t", Draft { dedup_id, ..draft(&text) }).await.expect("stored");
            texts.push(text);
            if n == 5 {
                let later = Draft { due: Due::After(MINUTE), ..draft("later") };
                bench.publish_one("timer", later).await.expect("stored");
            }
            // So that there are checkpoints, and something behind the last one.
            for _ in 0..if n < 40 { 3 } else { 0 } {
                bench.publish("busy", &[&long]).await;
                bench.pop("busy", 1).await;
            }
        }
        bench.engine.take().expect("open").close().await;
        let files = files_of(&bench.options.data_dir);
        let kinds: BTreeSet<_> = files.keys().map(|path| kind_of(path)).collect();
        let expected = ["LOCK", "MANIFEST", "STORE", "ids", "seg", "spare", "wal"].map(str::to_owned);
        assert!(expected.iter().all(|kind| kinds.contains(kind)), "{kinds:?}");
        Self { bench, files, texts }
    }

    /// Opens the store with these bytes in place of a file's. Answers how many messages are missing, or `None` if it is
    /// refused, which names the file.
    async fn missing_with(&self, path: &Path, bytes: &[u8], case: &str) -> Option<usize> {
        let options = Options {
            clock: Clock::standing_at(Timestamp::from_millis(1_800_000_000_000)),
            ..self.bench.options.clone()
        };
        let dir = &options.data_dir;
        fs::remove_dir_all(dir).expect("removed");
        for (path, bytes) in &self.files {
            fs::create_dir_all(path.parent().expect("a folder")).expect("made");
            fs::write(path, bytes).expect("written");
        }
        fs::write(path, bytes).expect("written");
        let engine = match Engine::open(options) {
            Ok(engine) => engine,
            Err(refused) => {
                let mut text = refused.to_string();
                let mut cause = std::error::Error::source(&refused);
                while let Some(found) = cause {
                    text = format!("{text}: {found}");
                    cause = found.source();
                }
                assert!(text.contains(&path.display().to_string()), "{case}: {text}");
                return None;
            }
        };
        let mut left = Vec::new();
        loop {
            let receive = super::Receive { max_messages: 7, ..super::one_of("t", AckMode::AtOnce) };
            let got = engine.receive(receive).await.expect("readable");
            if got.is_empty() {
                break;
            }
            left.extend(texts(&got));
        }
        engine.advance_clock(MINUTE);
        let later = texts(&engine.receive(super::one_of("timer", AckMode::AtOnce)).await.expect("readable"));
        assert!(later.is_empty() || later == ["later"], "{case}: {later:?}");
        // A message that is lost stays so, and what comes after it does not.
        engine.publish(name("t"), vec![draft("after")]).await.expect("stored");
        let after = engine.receive(super::one_of("t", AckMode::AtOnce)).await.expect("readable");
        assert_eq!(texts(&after), ["after"], "{case}");
        engine.close().await;
        let places: Vec<_> = left.iter().map(|text| self.texts.iter().position(|whole| whole == text)).collect();
        assert!(places.iter().all(Option::is_some), "{case}: a message that never was: {left:?}");
        assert!(places.is_sorted() && places.windows(2).all(|two| two[0] != two[1]), "{case}: {places:?}");
        Some(self.texts.len() - left.len() + 1 - later.len())
    }
}

#[tokio::test]
async fn a_flipped_bit_in_any_kind_of_file_is_refused_or_costs_the_one_message_that_it_is_in() {
    let whole = Whole::new().await;
    let mut dice = fastrand::Rng::with_seed(7);
    let (mut refused, mut lost) = (BTreeMap::<String, usize>::new(), 0);
    for (path, bytes) in &whole.files {
        let kind = kind_of(path);
        let mut places: Vec<usize> = (0..HEADER_BYTES.min(bytes.len())).step_by(5).collect();
        places.extend((0..SAMPLES).filter(|_| !bytes.is_empty()).map(|_| dice.usize(0..bytes.len())));
        for at in places {
            let mut changed = bytes.clone();
            changed[at] ^= 1 << dice.u32(0..8);
            let case = format!("byte {at} of {}", path.display());
            match whole.missing_with(path, &changed, &case).await {
                None => *refused.entry(kind.clone()).or_default() += 1,
                Some(0) => {}
                Some(missing) => {
                    assert_eq!((missing, kind.as_str()), (1, "seg"), "{case}");
                    lost += 1;
                }
            }
        }
    }
    println!("{lost} messages lost, refused: {refused:?}");
    let kinds: Vec<_> = refused.keys().map(String::as_str).collect();
    assert_eq!(kinds, ["MANIFEST", "STORE", "ids", "seg", "wal"]);
    assert!(lost > 5, "{lost}");
}

#[tokio::test]
async fn a_file_of_any_kind_that_is_cut_off_anywhere_is_refused_or_costs_nothing() {
    let whole = Whole::new().await;
    let mut dice = fastrand::Rng::with_seed(11);
    let mut refused = BTreeMap::<String, usize>::new();
    for (path, bytes) in whole.files.iter().filter(|(_, bytes)| !bytes.is_empty()) {
        let mut lengths: Vec<usize> = (0..SAMPLES).map(|_| dice.usize(0..bytes.len())).collect();
        lengths.extend([0, 64, bytes.len() - 1].iter().filter(|length| **length < bytes.len()));
        for length in lengths {
            let case = format!("{} cut off at {length}", path.display());
            match whole.missing_with(path, &bytes[..length], &case).await {
                None => *refused.entry(kind_of(path)).or_default() += 1,
                Some(missing) => assert_eq!(missing, 0, "{case}"),
            }
        }
    }
    println!("refused: {refused:?}");
    let kinds: Vec<_> = refused.keys().map(String::as_str).collect();
    assert_eq!(kinds, ["MANIFEST", "STORE", "ids", "seg", "wal"]);
}
