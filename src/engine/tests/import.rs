//! Taking over the files of the broker that this one replaces.

use std::fs;

use super::Bench;
use crate::engine::{Engine, OpenError};

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
    let reports = Engine::import(bench.options.clone(), &[file], true).expect("goes on");
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
