//! Starts that must be refused: exit code 1, and a message that names the setting or the path.

use std::{fs, net::TcpListener, os::unix::fs::PermissionsExt as _};

use serde_json::json;

use crate::{process::Refusal, stage::Stage};

#[track_caller]
fn assert_refused(refusal: &Refusal, parts: &[&str]) {
    assert_eq!(refusal.code, Some(1), "{}", refusal.text);
    for part in parts {
        assert!(refusal.text.contains(part), "{part:?} is not in: {}", refusal.text);
    }
    assert!(!refusal.text.contains("panicked"), "{}", refusal.text);
}

#[tokio::test]
async fn a_port_in_use_is_named() {
    let stage = Stage::shared().await;
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let addr = taken.local_addr().expect("bound").to_string();
    for (variable, key) in [("BROKER_REST_ADDR", "rest_addr"), ("BROKER_GRPC_ADDR", "grpc_addr")] {
        assert_refused(&stage.broker().set(variable, &addr).refused().await, &[key, &addr, "in use"]);
    }
    assert!(!stage.data_dir().exists(), "the ports come first: no store was made");
}

#[tokio::test]
async fn an_unusable_data_directory_is_named() {
    let stage = Stage::shared().await;
    let file = stage.folder().join("file");
    fs::write(&file, "").expect("written");
    let unusable = [file.display().to_string(), "/proc/campanile".to_owned(), file.join("below").display().to_string()];
    for path in unusable {
        assert_refused(&stage.broker().set("BROKER_DATA_DIR", &path).refused().await, &["data_dir", &path]);
    }
    assert_refused(&stage.broker().args(&["--data-dir", ""]).refused().await, &["data_dir"]);

    let read_only = stage.folder().join("read-only");
    fs::create_dir(&read_only).expect("a folder");
    fs::set_permissions(&read_only, fs::Permissions::from_mode(0o500)).expect("ours");
    if fs::write(read_only.join("x"), "").is_ok() {
        println!("skipped the folder without write permission: this user may write everywhere");
        return;
    }
    let path = read_only.display().to_string();
    assert_refused(&stage.broker().set("BROKER_DATA_DIR", &path).refused().await, &["data_dir", &path]);
}

#[tokio::test]
async fn somebody_elses_folder_is_refused_and_left_alone() {
    let stage = Stage::shared().await;
    fs::create_dir(stage.data_dir()).expect("a folder");
    fs::write(stage.data_dir().join("holiday.jpg"), "beach").expect("written");
    let path = stage.data_dir().display().to_string();
    assert_refused(&stage.broker().refused().await, &["data_dir", &path, "holiday.jpg"]);
    let names: Vec<_> = fs::read_dir(stage.data_dir()).expect("readable").flatten().map(|e| e.file_name()).collect();
    assert_eq!(names, ["holiday.jpg"]);
}

#[tokio::test]
async fn a_data_directory_has_one_broker_and_the_second_learns_which() {
    let stage = Stage::shared().await;
    let broker = stage.broker().start().await;
    broker.rest().publish("t", json!(1)).await;
    let holder = format!("pid {}", broker.process.id());
    let path = stage.data_dir().display().to_string();
    assert_refused(&stage.broker().refused().await, &["data_dir", &path, "in use", &holder]);
    assert_eq!(broker.rest().drain("t").await, [json!(1)], "the first one is not disturbed");
}

#[tokio::test]
async fn a_damaged_store_is_refused_and_left_alone() {
    let stage = Stage::shared().await;
    let broker = stage.broker().start().await;
    broker.rest().publish("t", json!("x".repeat(5000))).await;
    broker.rest().publish("t", json!("after it")).await;
    broker.stop().await;
    let journal = stage.data_dir().join("journal");
    let mut files: Vec<_> = fs::read_dir(&journal).expect("a journal").flatten().map(|e| e.path()).collect();
    files.sort();
    let damaged = files.iter().find_map(|file| {
        let mut bytes = fs::read(file).expect("readable");
        let at = bytes.windows(100).position(|window| window.iter().all(|b| *b == b'x'))?;
        bytes[at] = b'y';
        fs::write(file, &bytes).expect("writable");
        Some((file.clone(), bytes))
    });
    let (file, bytes) = damaged.expect("the payload is in a journal file");
    let name = file.file_name().expect("a file").to_string_lossy().into_owned();
    assert_refused(&stage.broker().refused().await, &[&name]);
    assert_eq!(fs::read(&file).expect("readable"), bytes, "left as it was");
}

#[tokio::test]
async fn a_wrong_setting_is_named_with_the_place_it_stands_at() {
    let stage = Stage::shared().await;
    let wrong = [
        ("rest_addr", "BROKER_REST_ADDR", "localhost"),
        ("grpc_addr", "BROKER_GRPC_ADDR", "127.0.0.1:99999"),
        ("backend_targets", "BACKEND_TARGETS", "a:1,b"),
        ("backend_circuit_max_failures", "BACKEND_CIRCUIT_MAX_FAILURES", "0"),
        ("backend_circuit_reset_secs", "BACKEND_CIRCUIT_RESET_SECS", "soon"),
        ("log_format", "BROKER_LOG_FORMAT", "xml"),
        ("log_filter", "BROKER_LOG", "campanile=loud"),
        ("concurrency_limit", "BROKER_CONCURRENCY_LIMIT", "-1"),
        ("request_timeout_secs", "BROKER_REQUEST_TIMEOUT_SECS", "0"),
        ("message_bytes_max", "BROKER_MESSAGE_BYTES_MAX", "1 TB"),
        ("topics_max", "BROKER_TOPICS_MAX", "1e3"),
        ("dedup_window_secs", "BROKER_DEDUP_WINDOW_SECS", "1 s"),
        ("drain_timeout_secs", "BROKER_DRAIN_TIMEOUT_SECS", "99999999"),
        ("connections_max", "BROKER_CONNECTIONS_MAX", "0"),
        ("journal_file_bytes", "BROKER_JOURNAL_FILE_BYTES", "1000001"),
        ("free_bytes_min", "BROKER_FREE_BYTES_MIN", "much"),
    ];
    for (key, variable, value) in wrong {
        let refusal = stage.broker().set(variable, value).refused().await;
        assert_refused(&refusal, &[key, &format!("variable {variable}"), value]);

        let flag = format!("--{}", key.replace('_', "-"));
        let refusal = stage.broker().args(&["serve", &flag, value]).refused().await;
        assert_refused(&refusal, &[key, &format!("flag {flag}"), value]);

        let file = stage.folder().join("settings.toml");
        fs::write(&file, format!("# a comment\n{key} = \"{value}\"\n")).expect("written");
        let path = file.display().to_string();
        let refusal = stage.broker().unset(variable).args(&["--config", &path]).refused().await;
        assert_refused(&refusal, &[key, &format!("{path}, line 2"), value]);
    }
    assert!(!stage.data_dir().exists(), "nothing was made");
}

#[tokio::test]
async fn a_settings_file_that_cannot_be_used_is_named() {
    let stage = Stage::shared().await;
    let file = stage.folder().join("settings.toml");
    let path = file.display().to_string();
    assert_refused(&stage.broker().args(&["--config", &path]).refused().await, &[&path]);
    fs::write(&file, "topics_max = 5\ntopic_max = 5\n").expect("written");
    assert_refused(&stage.broker().args(&["--config", &path]).refused().await, &[&path, "line 2", "topic_max"]);
    fs::write(&file, "topics_max = \n").expect("written");
    assert_refused(&stage.broker().args(&["--config", &path]).refused().await, &[&path, "line 1"]);
}

#[tokio::test]
async fn settings_that_contradict_each_other_are_both_named() {
    let stage = Stage::shared().await;
    let launch = stage.broker().set("BROKER_REST_ADDR", "127.0.0.1:1").args(&["--grpc-addr", "127.0.0.1:1"]);
    assert_refused(&launch.refused().await, &["rest_addr", "grpc_addr", "variable BROKER_REST_ADDR", "--grpc-addr"]);
    let launch = stage.broker().set("BROKER_MESSAGE_BYTES_MAX", "16 MiB").set("BROKER_JOURNAL_FILE_BYTES", "1 MiB");
    assert_refused(&launch.refused().await, &["message_bytes_max", "journal_file_bytes"]);
}

#[tokio::test]
async fn flags_are_stronger_than_the_environment_and_that_than_the_file() {
    let stage = Stage::shared().await;
    // Found without being named, where the broker is started.
    fs::write(stage.folder().join("campanile.toml"), "topics_max = 1\nmessage_bytes_max = \"1 KiB\"\n")
        .expect("written");
    let topics = async |launch: crate::process::Launch| {
        let broker = launch.start().await;
        let mut count = 0;
        while count < 5
            && broker.rest().post("/publish", &json!({"topic": format!("t{count}"), "message": 1})).await.status == 200
        {
            count += 1;
        }
        let too_large = broker.rest().post("/publish", &json!({"topic": "t0", "message": "x".repeat(2000)})).await;
        assert_eq!(too_large.problem(), (413, "too_large", "message"), "the file's value is in force");
        fs::remove_dir_all(stage.data_dir()).expect("ours");
        count
    };
    assert_eq!(topics(stage.broker()).await, 1);
    assert_eq!(topics(stage.broker().set("BROKER_TOPICS_MAX", 2)).await, 2);
    assert_eq!(topics(stage.broker().set("BROKER_TOPICS_MAX", 2).args(&["--topics-max", "3"])).await, 3);
}

#[tokio::test]
async fn a_wrong_command_line_is_answered_with_its_own_exit_code() {
    let stage = Stage::shared().await;
    for args in [&["dance"][..], &["serve", "--no-such-flag"], &["serve", "--topics-max"]] {
        let refusal = stage.broker().args(args).refused().await;
        assert_eq!(refusal.code, Some(2), "{args:?}: {}", refusal.text);
    }
    for args in [&["--help"][..], &["serve", "--help"], &["--version"]] {
        assert_eq!(stage.broker().args(args).refused().await.code, Some(0), "{args:?}");
    }
}
