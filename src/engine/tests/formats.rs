//! Data directories as earlier versions wrote them, in `tests/fixtures/format-*`: each still opens, with everything in it.
//!
//! `CAMPANILE_WRITE_FIXTURE=<folder>` makes one as today's code writes it, and prints what goes into [`FIXTURES`]. What
//! is expected stands here word by word, so that no change of the code changes it along.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use super::{AckMode, Bench, Clock, Engine, EngineError, Options, Settled, draft, texts};
use crate::{
    engine::diagnose,
    model::{Attempt, Delivery, Draft, Due, Properties, Timestamp},
};

/// What cannot be known before a fixture is made.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Fixture<'a> {
    /// Its folder in `tests/fixtures`.
    folder: &'a str,
    /// The sealed ack id of "order 5" on `order.audit`, which stands in the checkpoint.
    held_in_checkpoint: &'a str,
    /// The same for "order 4" on `order.billing`, which stands in the journal behind it.
    held_in_journal: &'a str,
    /// The ids of the messages with the dedup ids `invoice-17` and `invoice-18`.
    invoices: [&'a str; 2],
}

const FIXTURES: [Fixture<'static>; 3] = [
    Fixture {
        folder: "format-1",
        held_in_checkpoint: "AwAAAAQAAAAAAAAAAQAAAFDGNw5EwFcFUvQTFh1jgCk",
        held_in_journal: "AQAAAAMAAAAAAAAAAQAAAAciug1zjI8YZzzWl60YjpI",
        invoices: ["01a20a3a-c6ff-75f2-a08c-812d1e87baf4", "01a20a3a-c70c-77fe-bf6c-456500d9baf4"],
    },
    Fixture {
        folder: "format-2",
        held_in_checkpoint: "AwAAAAQAAAAAAAAAAQAAANi_HK6hsF5jlw1WfS-cfbc",
        held_in_journal: "AQAAAAMAAAAAAAAAAQAAAP2RfUdNGJk1ua62qV_X5tE",
        invoices: ["01a210b0-2be7-707a-b908-07bccdd8cc68", "01a210b0-2bee-7747-9afe-497937866316"],
    },
    Fixture {
        folder: "format-3",
        held_in_checkpoint: "AwAAAAQAAAAAAAAAAQAAAP0y18Vscje8lWl6W_5Fbkw",
        held_in_journal: "AQAAAAMAAAAAAAAAAQAAAMzAq5dqVD-wz5s-RDLw-pI",
        invoices: ["01a3185c-5000-708d-8994-607092501cb3", "01a3185d-3a60-722c-97b0-094cad5e5433"],
    },
];

/// The least that holds the largest message here.
const FILE_BYTES: u64 = 48 << 10;
const BEGUN_AT_MS: u64 = 1_800_000_000_000;
const OPENED_AT_MS: u64 = BEGUN_AT_MS + 120_000;
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);

/// What each queue has ready when it is opened: payload and number of the delivery. Two of the messages of `order` are
/// held. Messages that are more than a text are in [`particular`].
const READY: [(&str, &[(&str, u32)]); 12] = [
    (
        "order.billing",
        &[
            ("order 3", 3),
            ("order 5", 1),
            ("order 6", 1),
            ("order 7", 1),
            ("order 8", 1),
            ("order 9", 1),
            ("order 10", 1),
        ],
    ),
    ("order.audit", &[("order 6", 1), ("order 7", 1), ("order 8", 1), ("order 9", 1), ("order 10", 1)]),
    ("order.ship", &[("order 7", 1), ("order 8", 1), ("order 9", 1), ("order 10", 1)]),
    ("billing", &[("for billing", 1), ("for billing, behind the checkpoint", 1)]),
    ("audit", &[]),
    ("ship", &[]),
    ("kept", &[("nobody has read from here", 1)]),
    ("timer", &[("soon", 1)]),
    ("expiring", &[("within an hour", 1)]),
    ("invoice", &[("invoice 18", 1)]),
    ("legacy", &[(r#"{"n": 1, "s": "\u00e4"}"#, 1), ("[2]", 1)]),
    ("late", &[("", 1), ("behind the checkpoint", 1)]),
];

/// What becomes visible on `timer`, and how long after the opening.
const DELAYED: [(&str, Duration); 2] =
    [("ten minutes after the begin", Duration::from_secs(480)), ("twenty", Duration::from_secs(1080))];

/// A file of the original broker that is taken over as the fixture is made.
const LEGACY: &str = concat!(
    r#"{"id": "3f2b0c6e-8a44-4d0e-9d43-0b6f2c1d9e11", "topic": "legacy", "payload": {"n": 1, "s": "\u00e4"}}"#,
    "\n",
    r#"{"id": "3f2b0c6e-8a44-4d0e-9d43-0b6f2c1d9e12", "topic": "legacy", "payload": [2], "reply_to": "me"}"#,
    "\n",
);

/// One on `particular`, with all that can travel beside a payload; and one that fills five pages of the journal.
fn particular() -> [(Vec<u8>, Properties); 2] {
    let properties = Properties {
        content_type: Some("application/octet-stream".into()),
        attributes: vec![("colour".into(), "grün".into()), ("empty".into(), String::new())],
        ordering_key: Some("key".into()),
        reply_to: Some("billing".into()),
        correlation_id: Some("c-1".into()),
        ..Properties::default()
    };
    [((0..=255).collect(), properties), ((0..20_000_u32).map(|n| (n % 251) as u8).collect(), Properties::default())]
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

/// A bench over a new folder that holds what `fill` puts there.
fn bench(now_ms: u64, fill: impl FnOnce(&Path) -> io::Result<()>) -> Bench {
    let dir = tempfile::tempdir().expect("a folder for the test");
    let mut options = Options::new(dir.path().join("store"));
    options.journal_file_bytes = FILE_BYTES;
    options.dedup_window = HOUR;
    options.clock = Clock::standing_at(Timestamp::from_millis(now_ms));
    fs::create_dir(&options.data_dir).and_then(|()| fill(&options.data_dir)).expect("filled");
    let engine = Some(Engine::open(options.clone()).expect("the store opens"));
    Bench { _dir: dir, options, engine, memory: None }
}

/// Copies a data directory, without what only matters while it is open.
fn copy(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (path, name) = (entry.path(), entry.file_name());
        if path.is_dir() {
            copy(&path, &to.join(name))?;
        } else if name != "LOCK" && path.extension().is_none_or(|ending| ending != "tmp") {
            fs::copy(&path, to.join(name))?;
        }
    }
    Ok(())
}

/// Publishes and consumes until a checkpoint has replaced the manifest.
async fn until_next_checkpoint(bench: &Bench) {
    let manifest = || fs::read(bench.options.data_dir.join("MANIFEST")).unwrap_or_default();
    let (before, text) = (manifest(), "x".repeat(3000));
    for _ in 0..1000 {
        bench.publish("busy", &[&text]).await;
        bench.pop("busy", 1).await;
        if manifest() != before {
            return;
        }
    }
    panic!("a thousand frames, and no checkpoint");
}

async fn lease(bench: &Bench, queue: &str, length: Duration) -> Delivery {
    bench.receive(queue, 1, Duration::ZERO, AckMode::Lease(length)).await.pop().expect("there is a message")
}

fn invoice(number: u32) -> Draft {
    Draft { dedup_id: Some(format!("invoice-{number}")), ..draft(&format!("invoice {number}")) }
}

/// Makes a data directory; answers it with what is only known now: two ack ids and two message ids.
async fn make() -> (Bench, [String; 4]) {
    let mut bench = bench(BEGUN_AT_MS, |dir| fs::write(dir.join("legacy.jsonl"), LEGACY));
    let sealed = |bench: &Bench, delivery: &Delivery| {
        bench.engine().ack_key().seal(delivery.lease.as_ref().expect("leased").ack_id)
    };
    bench.register("billing", &["order"]).await.expect("registered");
    bench.register("audit", &["order"]).await.expect("registered");
    for number in 1..=6 {
        bench.publish("order", &[&format!("order {number}")]).await;
    }
    // A name that gives way to a service: a topic id, and a queue id, with nothing behind it.
    assert!(bench.pop("order.ship", 1).await.is_empty());
    bench.register("ship", &["order"]).await.expect("registered");
    assert_eq!(bench.pop("order.billing", 2).await, ["order 1", "order 2"]);
    assert_eq!(bench.pop("order.audit", 4).await.len(), 4);
    lease(&bench, "order.billing", MINUTE).await;
    let held_in_checkpoint = sealed(&bench, &lease(&bench, "order.audit", HOUR).await);
    bench.publish("billing", &["for billing"]).await;
    bench.publish("kept", &["nobody has read from here"]).await;
    for (payload, properties) in particular() {
        let draft = Draft { payload: payload.into(), properties, ..Draft::default() };
        bench.publish_one("particular", draft).await.expect("stored");
    }
    for (text, seconds) in [("soon", 5), ("ten minutes after the begin", 600)] {
        let later = Draft { due: Due::After(Duration::from_secs(seconds)), ..draft(text) };
        bench.publish_one("timer", later).await.expect("stored");
    }
    for (text, ttl) in [("within a minute", MINUTE), ("within an hour", HOUR)] {
        bench.publish_one("expiring", Draft { ttl: Some(ttl), ..draft(text) }).await.expect("stored");
    }
    let first = bench.publish_one("invoice", invoice(17)).await.expect("stored").messages[0].id;
    assert_eq!(bench.pop("invoice", 1).await, ["invoice 17"]);
    bench.advance(MINUTE);
    until_next_checkpoint(&bench).await;

    bench.publish("order", &["order 7", "order 8"]).await;
    let at = Timestamp::from_millis(BEGUN_AT_MS + 1_200_000);
    bench.publish_one("timer", Draft { due: Due::At(at), ..draft("twenty") }).await.expect("stored");
    until_next_checkpoint(&bench).await;

    assert_eq!(texts(&[lease(&bench, "order.billing", Duration::from_secs(1)).await]), ["order 3"]);
    let held_in_journal = sealed(&bench, &lease(&bench, "order.billing", HOUR).await);
    bench.publish("order", &["order 9", "order 10"]).await;
    bench.publish("billing", &["for billing, behind the checkpoint"]).await;
    bench.publish("late", &["", "behind the checkpoint"]).await;
    let second = bench.publish_one("invoice", invoice(18)).await.expect("stored").messages[0].id;
    bench.engine.take().expect("open").close().await;
    (bench, [held_in_checkpoint, held_in_journal, first.to_string(), second.to_string()])
}

/// Copies a data directory for a bench, as if its broker had ended just before it renamed the file that it took over.
fn fill_from(fixture: &Path, dir: &Path) -> io::Result<()> {
    copy(fixture, dir)?;
    fs::rename(dir.join("legacy.jsonl.imported"), dir.join("legacy.jsonl"))
}

/// Everything that must be there is, once.
async fn check(bench: &mut Bench, fixture: &Fixture<'_>) {
    let folder = fixture.folder;
    for (number, id) in [17, 18].into_iter().zip(fixture.invoices) {
        let again = bench.publish_one("invoice", invoice(number)).await.expect("answered").messages[0];
        assert_eq!((again.id.to_string().as_str(), again.duplicate), (id, true), "{folder}");
        let other = Draft { payload: "another".into(), ..invoice(number) };
        let refused = bench.publish_one("invoice", other).await;
        assert!(matches!(refused, Err(EngineError::DedupMismatch { .. })), "{folder}: {refused:?}");
    }
    let key = bench.engine().ack_key();
    let held_in_journal = key.open(fixture.held_in_journal).expect("an ack id of this store");
    let held_in_checkpoint = key.open(fixture.held_in_checkpoint).expect("an ack id of this store");
    assert_eq!(bench.ack("order.audit", held_in_checkpoint).await, Settled::Done, "{folder}");

    check_particular(bench, folder).await;
    for (queue, ready) in READY {
        let deliveries = bench.receive(queue, 99, Duration::ZERO, AckMode::AtOnce).await;
        let attempts = deliveries.iter().map(|delivery| delivery.attempt);
        let found: Vec<_> = texts(&deliveries).into_iter().zip(attempts).collect();
        let expected: Vec<_> = ready.iter().map(|(text, attempt)| ((*text).to_owned(), Attempt(*attempt))).collect();
        assert_eq!(found, expected, "{folder}: {queue}");
    }
    let mut passed = Duration::ZERO;
    for (text, after) in DELAYED {
        bench.advance(after - passed - Duration::from_millis(1));
        assert!(bench.pop("timer", 9).await.is_empty(), "{folder}: {text}");
        bench.advance(Duration::from_millis(1));
        assert_eq!(bench.pop("timer", 9).await, [text], "{folder}");
        passed = after;
    }
    bench.advance(HOUR);
    let back = lease(bench, "order.billing", MINUTE).await;
    assert_eq!(
        (texts(std::slice::from_ref(&back)), back.attempt),
        (vec!["order 4".to_owned()], Attempt(2)),
        "{folder}"
    );
    assert_eq!(bench.ack("order.billing", held_in_journal).await, Settled::Stale, "{folder}");
    assert_eq!(bench.ack("order.billing", super::ack_id(&back)).await, Settled::Done, "{folder}");
    let fresh = bench.publish_one("invoice", invoice(17)).await.expect("stored").messages[0];
    assert!(!fresh.duplicate, "{folder}: its window is over");
    assert_eq!(bench.pop("invoice", 9).await, ["invoice 17"], "{folder}");

    bench.restart().await;
    let left = bench.engine().statistics().await.expect("counted");
    assert_eq!((left.messages, left.delayed), (0, 0), "{folder}: all was consumed");
    assert!(left.queues.iter().all(|queue| queue.ready + queue.leased == 0), "{folder}: {left:?}");
    let registered = bench.register("ship", &["order"]).await.expect("registered");
    assert!(registered.is_empty(), "{folder}: {registered:?}");
}

async fn check_particular(bench: &Bench, folder: &str) {
    let deliveries = bench.receive("particular", 9, Duration::ZERO, AckMode::AtOnce).await;
    assert_eq!(deliveries.len(), particular().len(), "{folder}");
    for (delivery, (payload, properties)) in deliveries.iter().zip(particular()) {
        let message = &delivery.message;
        assert!(message.payload == payload, "{folder}: {} bytes", message.payload.len());
        assert_eq!(message.properties, properties, "{folder}");
        assert_eq!((message.topic.as_str(), message.expires_at), ("particular", None), "{folder}");
        assert_eq!(message.published_at, Timestamp::from_millis(BEGUN_AT_MS), "{folder}");
        assert_eq!(delivery.attempt, Attempt(1), "{folder}");
    }
}

/// Checks a fixture as it is, and again when checkpoints of today's code have come over it.
async fn check_twice(fixture: &Fixture<'_>, dir: &Path) {
    let folder = fixture.folder;
    let diagnosis = diagnose(&Options::new(dir));
    assert!(diagnosis.is_healthy(), "{folder}: {:?}", diagnosis.problems);
    assert!(diagnosis.checkpoint.is_some_and(|checkpoint| checkpoint.segments >= 2), "{folder}");
    let mut bench = bench(OPENED_AT_MS, |target| fill_from(dir, target));
    assert!(bench.engine().recovery().frames > 0, "{folder}: nothing stands behind the checkpoint");
    check(&mut bench, fixture).await;

    let mut bench = self::bench(OPENED_AT_MS, |target| fill_from(dir, target));
    for _ in 0..2 {
        until_next_checkpoint(&bench).await;
        bench.restart().await;
    }
    check(&mut bench, fixture).await;
}

#[tokio::test]
async fn every_format_that_there_was_still_opens_with_everything_in_it() {
    let mut folders = Vec::new();
    for entry in fs::read_dir(root()).expect("there are fixtures") {
        let entry = entry.expect("readable");
        if entry.path().is_dir() {
            folders.push(entry.file_name().into_string().expect("a plain name"));
        }
    }
    folders.sort();
    assert_eq!(folders, FIXTURES.map(|fixture| fixture.folder), "every fixture has its line, and the reverse");
    for fixture in &FIXTURES {
        check_twice(fixture, &root().join(fixture.folder)).await;
    }
}

#[tokio::test]
async fn what_todays_code_writes_is_fit_for_a_fixture() {
    let (made, [held_in_checkpoint, held_in_journal, first, second]) = make().await;
    let wanted = std::env::var_os("CAMPANILE_WRITE_FIXTURE").map(PathBuf::from);
    let dir = wanted.clone().unwrap_or_else(|| made.options.data_dir.with_file_name("copy"));
    copy(&made.options.data_dir, &dir).expect("copied");
    let fixture = Fixture {
        folder: dir.file_name().and_then(|name| name.to_str()).expect("a plain name"),
        held_in_checkpoint: &held_in_checkpoint,
        held_in_journal: &held_in_journal,
        invoices: [&first, &second],
    };
    if wanted.is_some() {
        println!("{fixture:#?}");
    }
    check_twice(&fixture, &dir).await;
}
