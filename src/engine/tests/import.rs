//! Taking over the files of the broker that this one replaces.

use std::{fs, sync::Arc};

use super::Bench;
use crate::engine::{
    DamagedLines, Engine, ImportObserver, ImportPass, ImportProgress, ImportReport, OpenError, Options,
    disk::{Fault, FaultDisk, Op, Outcome, RealDisk, Times},
    journal::file::{DirLock, LockError},
};

const GOOD: &str = concat!(
    r#"{"id": "3f2b0c6e-8a44-4d0e-9d43-0b6f2c1d9e11", "topic": "order.created", "payload": {"n": 1, "s": "\u00e4"}}"#,
    "\n",
    r#"{"id": "3f2b0c6e-8a44-4d0e-9d43-0b6f2c1d9e12", "topic": "order.created", "payload": [2],  "reply_to": "me"}"#,
    "\n",
    r#"{"id": "3f2b0c6e-8a44-4d0e-9d43-0b6f2c1d9e13", "topic": "order.created", "payload": null, "reply_to": null}"#,
);

async fn reopen_with(bench: &mut Bench, file: &str, text: &str) -> Result<Engine, OpenError> {
    if let Some(engine) = bench.engine.take() {
        engine.close().await;
    }
    fs::write(bench.options.data_dir.join(file), text).expect("written");
    Engine::open(bench.options.clone())
}

#[tokio::test]
async fn a_file_is_taken_over_once_byte_for_byte_with_its_ids() {
    let mut bench = Bench::new();
    bench.engine = Some(reopen_with(&mut bench, "order.created.jsonl", GOOD).await.expect("opens"));
    assert!(!bench.options.data_dir.join("order.created.jsonl").exists());
    assert!(bench.options.data_dir.join("order.created.jsonl.imported").exists());
    bench.restart().await;
    let deliveries = bench.receive("order.created", 9, std::time::Duration::ZERO, crate::engine::AckMode::AtOnce).await;
    assert_eq!(super::texts(&deliveries), [r#"{"n": 1, "s": "\u00e4"}"#, "[2]", "null"]);
    assert_eq!(deliveries[0].message.id.to_string(), "3f2b0c6e-8a44-4d0e-9d43-0b6f2c1d9e11");
    assert_eq!(deliveries[1].message.properties.reply_to.as_deref(), Some("me"));
    assert_eq!(deliveries[2].message.properties.reply_to, None);
}

#[tokio::test]
async fn the_same_file_found_again_is_not_taken_over_twice_and_another_one_is() {
    let mut bench = Bench::new();
    bench.engine = Some(reopen_with(&mut bench, "q.jsonl", GOOD).await.expect("opens"));
    // As if the crash had come between the last record and the renaming.
    bench.engine = Some(reopen_with(&mut bench, "q.jsonl", GOOD).await.expect("opens"));
    assert_eq!(bench.pop("order.created", 9).await.len(), 3);
    bench.engine = Some(reopen_with(&mut bench, "q.jsonl", &format!("{GOOD}\n\n")).await.expect("opens"));
    assert_eq!(bench.pop("order.created", 9).await.len(), 3);
    assert!(bench.options.data_dir.join("q.jsonl.imported.3").exists());
}

#[tokio::test]
async fn a_damaged_line_stops_the_start_with_file_and_line_and_nothing_is_written() {
    let mut bench = Bench::new();
    for (line, damage) in [
        (1, r#"{"id": "3f2b0c6e-8a44-4d0e-9d43-0b6f2c1d9e11", "topic": "t", "payl"#),
        (1, r#"{"id": "no-uuid", "topic": "t", "payload": 1}"#),
        (1, r#"{"id": "3f2b0c6e-8a44-4d0e-9d43-0b6f2c1d9e11", "payload": 1}"#),
    ] {
        let text = format!("{damage}\n{GOOD}");
        match reopen_with(&mut bench, "q.jsonl", &text).await {
            Err(OpenError::Import { path, line: found, .. }) => {
                assert!(path.ends_with("q.jsonl"));
                assert_eq!(found, line);
            }
            other => panic!("{damage}: {other:?}"),
        }
    }
    let text = format!("{GOOD}\n{{");
    let error = reopen_with(&mut bench, "q.jsonl", &text).await.expect_err("damaged").to_string();
    assert!(error.contains("q.jsonl, line 4"), "{error}");

    let file = bench.options.data_dir.join("q.jsonl");
    let reports = Engine::import(bench.options.clone(), &[file], DamagedLines::LeaveOut, &mut ()).expect("goes on");
    assert_eq!((reports[0].messages, reports[0].skipped), (3, 1));
    bench.restart().await;
    assert_eq!(bench.pop("order.created", 9).await.len(), 3);
}

#[tokio::test]
async fn a_topic_that_cannot_be_a_name_any_more_goes_by_the_name_of_its_file() {
    let mut bench = Bench::new();
    let text = GOOD.replace("order.created", "order/created");
    bench.engine = Some(reopen_with(&mut bench, "order_created.jsonl", &text).await.expect("opens"));
    assert_eq!(bench.pop("order_created", 9).await.len(), 3);
}

#[derive(Default)]
struct Watcher {
    seen: Vec<(ImportPass, u64, usize)>,
    reports: Vec<ImportReport>,
}

impl ImportObserver for Watcher {
    fn progress(&mut self, progress: ImportProgress<'_>) {
        assert_eq!(progress.bytes_total, GOOD.len() as u64 + 4);
        self.seen.push((progress.pass, progress.bytes, progress.messages));
    }

    fn taken_over(&mut self, report: &ImportReport) {
        assert!(!report.path.exists(), "it has been renamed");
        self.reports.push(report.clone());
    }
}

#[tokio::test]
async fn who_watches_an_import_learns_of_every_line_and_of_every_file_as_it_is_taken_over() {
    let mut bench = Bench::new();
    bench.engine.take().expect("open").close().await;
    let files = ["a.jsonl", "b.jsonl"].map(|name| bench.options.data_dir.join(name));
    fs::write(&files[0], format!("{GOOD}\n{{}}\n")).expect("written");
    let mut watcher = Watcher::default();
    let imported = Engine::import(bench.options.clone(), &files, DamagedLines::LeaveOut, &mut watcher);
    assert!(matches!(imported, Err(OpenError::Io { .. })), "there is no second file: {imported:?}");
    let breaks = GOOD.match_indices('\n').map(|(at, _)| at as u64 + 1);
    let ends: Vec<u64> = breaks.chain([GOOD.len() as u64 + 1, GOOD.len() as u64 + 4]).collect();
    let messages = [0, 1, 2, 3, 3];
    let told = |pass| [0].into_iter().chain(ends.clone()).zip(messages).map(move |(bytes, count)| (pass, bytes, count));
    let expected: Vec<_> = told(ImportPass::Checking).chain(told(ImportPass::Storing)).collect();
    assert_eq!(watcher.seen, expected);
    assert_eq!(watcher.reports, [ImportReport { path: files[0].clone(), messages: 3, skipped: 1 }]);
}

/// A file of `count` messages of about a kilobyte.
fn long_file(count: usize) -> String {
    let text = "x".repeat(1000);
    let line = |n| {
        let id = uuid::Uuid::from_u128(n as u128 + 1);
        format!("{{\"id\": \"{id}\", \"topic\": \"t\", \"payload\": \"{n} {text}\"}}\n")
    };
    (0..count).map(line).collect()
}

#[tokio::test]
async fn an_import_that_was_interrupted_anywhere_goes_on_where_it_was() {
    const COUNT: usize = 6000;
    for nth in 1..12 {
        let mut bench = Bench::new();
        bench.engine.take().expect("open").close().await;
        fs::write(bench.options.data_dir.join("t.jsonl"), long_file(COUNT)).expect("written");
        let disk = FaultDisk::new(RealDisk);
        let outcome = Outcome::Error(std::io::ErrorKind::Other);
        disk.set(Fault { op: Op::Sync, name_end: ".wal", nth, outcome, times: Times::Once });
        let failing = Options { disk: Arc::new(disk), ..bench.options.clone() };
        let interrupted = Engine::open(failing);
        bench.restart().await;
        assert!(interrupted.is_err() || nth > 6, "the {nth}. sync of the journal was not hit");
        drop(interrupted);
        let mut next = 0;
        while next < COUNT {
            for text in bench.pop("t", 500).await {
                assert!(text.starts_with(&format!("\"{next} ")), "{} instead of {next}", &text[..9]);
                next += 1;
            }
        }
        assert!(bench.pop("t", 1).await.is_empty(), "nothing comes twice");
    }
}

#[tokio::test]
async fn a_start_that_fails_lets_nobody_in_before_its_checkpoint_has_ended() {
    let mut bench = Bench::new();
    bench.engine.take().expect("open").close().await;
    fs::write(bench.options.data_dir.join("t.jsonl"), long_file(6000)).expect("written");
    let slow = FaultDisk::new(RealDisk);
    slow.set(Fault { op: Op::Write, name_end: ".seg", nth: 1, outcome: Outcome::Wait, times: Times::Always });
    let failing = FaultDisk::new(slow.clone());
    let outcome = Outcome::Error(std::io::ErrorKind::Other);
    failing.set(Fault { op: Op::Sync, name_end: ".wal", nth: 4, outcome, times: Times::Once });
    let options = Options { disk: Arc::new(failing.clone()), ..bench.options.clone() };
    let (sender, ended) = std::sync::mpsc::channel();
    let opening = std::thread::spawn(move || {
        let opened = Engine::open(options).map(drop);
        sender.send(()).expect("somebody waits for it");
        opened
    });
    while failing.is_pending() {
        tokio::task::yield_now().await;
    }
    let early = ended.recv_timeout(std::time::Duration::from_millis(300));
    assert_eq!(early, Err(std::sync::mpsc::RecvTimeoutError::Timeout), "its checkpoint is being written");
    assert!(matches!(DirLock::acquire(&bench.options.data_dir), Err(LockError::Held { .. })));
    slow.heal();
    assert!(opening.join().expect("no panic").is_err());
    assert!(bench.options.data_dir.join("MANIFEST").exists(), "there was a checkpoint under way");
    bench.restart().await;
    assert_eq!(bench.pop("t", 500).await.len(), 500);
}

#[tokio::test]
async fn a_long_file_is_written_to_segments_on_the_way() {
    let mut bench = Bench::new();
    bench.engine = Some(reopen_with(&mut bench, "t.jsonl", &long_file(20_000)).await.expect("opens"));
    let segments = fs::read_dir(bench.options.data_dir.join("segments")).expect("listed");
    let bytes: u64 = segments.map(|entry| entry.and_then(|e| e.metadata()).expect("readable").len()).sum();
    assert!(bytes > 15 << 20, "of 20 MB {bytes} bytes are in segments");
    bench.restart().await;
    assert!(bench.engine().recovery().records < 5000, "{:?}", bench.engine().recovery());
    assert_eq!(bench.pop("t", 1000).await.len(), 1000);
}
