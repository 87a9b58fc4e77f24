//! `campanile doctor` and its repair, over a store that the real program made.

use std::{fs, path::PathBuf};

use serde_json::{Value, json};

use crate::{process::Launch, stage::Stage};

/// A store with three messages, the second of which is damaged.
async fn damaged(stage: &Stage) -> PathBuf {
    let broker = stage.broker().start().await;
    for n in [1, 2, 3] {
        broker.rest().publish("orders", json!(n)).await;
    }
    assert!(broker.stop().await.success());
    let file = stage.data_dir().join("journal/0000000000000001.wal");
    let mut bytes = fs::read(&file).expect("readable");
    // Behind the file's header each has a frame of one page.
    bytes[4096 * 2 + 100] ^= 1;
    fs::write(&file, bytes).expect("written");
    file
}

async fn run(launch: Launch) -> (bool, String) {
    let mut process = launch.spawn();
    let status = process.ended().await;
    (status.success(), process.output())
}

#[tokio::test]
async fn a_damaged_store_is_told_repaired_and_served_again() {
    let stage = Stage::shared().await;
    let file = damaged(&stage).await;
    assert_eq!(stage.broker().refused().await.code, Some(1), "it does not start");

    let (is_healthy, text) = run(stage.broker().args(&["doctor"])).await;
    assert!(!is_healthy);
    let end = format!("1. end {} at offset 8192", file.display());
    for part in ["A broker does not start here", "`campanile doctor --repair` would", &end, "1 whole frames behind"] {
        assert!(text.contains(part), "{part:?} is not in:\n{text}");
    }
    assert!(!stage.data_dir().join("set-aside").exists(), "nothing was changed");

    let (is_healthy, text) = run(stage.broker().args(&["doctor", "--repair", "--json"])).await;
    assert!(is_healthy, "{text}");
    let object: Value = serde_json::from_str(&text).expect("one object");
    assert_eq!((&object["healthy"], &object["plan"]), (&json!(true), &Value::Null));
    let done = &object["repair"]["done"];
    assert_eq!(done["behind"], json!({ "frames": 1, "messages": 1 }));
    let aside = PathBuf::from(object["repair"]["set_aside"].as_str().expect("a folder"));
    let report = fs::read_to_string(aside.join("REPORT")).expect("there is one");
    assert!(report.contains("no valid frame begins here") && report.ends_with("All of this was done.\n"), "{report}");
    assert!(aside.join("journal/0000000000000001.wal").exists());

    let (is_healthy, text) = run(stage.broker().args(&["doctor", "--repair"])).await;
    assert!(is_healthy && text.contains("Nothing has to be repaired"), "{text}");
    let broker = stage.broker().start().await;
    assert_eq!(broker.rest().drain("orders").await, [1], "what came before the damage");
    assert!(broker.stop().await.success());
}

#[tokio::test]
async fn a_store_that_is_served_is_not_repaired_and_what_cannot_be_is_named() {
    let stage = Stage::shared().await;
    let broker = stage.broker().start().await;
    let (is_done, text) = run(stage.broker().args(&["doctor", "--repair"])).await;
    assert!(!is_done && text.contains("nothing was repaired: the data directory is in use by pid"), "{text}");
    assert!(broker.stop().await.success());

    fs::write(stage.data_dir().join("STORE"), "short").expect("written");
    let (is_done, text) = run(stage.broker().args(&["doctor", "--repair"])).await;
    assert!(!is_done && text.contains("nothing was repaired: what is wrong here cannot be"), "{text}");
    assert!(text.contains("STORE is damaged: it is too short"), "{text}");
    assert!(!stage.data_dir().join("set-aside").exists());
}
