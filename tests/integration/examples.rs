//! Each example of the repository against a broker of its own: it ends well and prints what it promises.

use std::{
    path::PathBuf,
    process::{Command, Stdio},
};

use crate::{process::Process, stage::Stage};

/// Where cargo puts the examples that it builds along with this test.
fn program(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("this program has a path");
    let folder = test.parent().and_then(|deps| deps.parent()).expect("a test lies in target/<profile>/deps");
    folder.join("examples").join(name)
}

async fn output_of(name: &str, args: &[&str]) -> String {
    let mut command = Command::new(program(name));
    command.args(args).env("RUST_BACKTRACE", "0").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut process = Process::spawn(command);
    let status = process.ended().await;
    assert!(status.success(), "{name} ended with {status}:\n{}", process.output());
    process.output()
}

#[track_caller]
fn assert_in_order(output: &str, parts: &[&str]) {
    let mut rest = output;
    for part in parts {
        let Some((_, after)) = rest.split_once(part) else { panic!("no {part:?} in its place in:\n{output}") };
        rest = after;
    }
}

#[tokio::test]
async fn rest_client_runs() {
    let stage = Stage::shared().await;
    let broker = stage.broker().start().await;
    let output = output_of("rest_client", &[&format!("http://{}", broker.rest)]).await;
    let parts = [
        "is \"healthy\"",
        "registered service billing",
        "published order 3 to 1 queue(s)",
        "consumed {\"order\":1,",
        "holding {\"order\":2,",
        "holding {\"order\":3,",
        "acked 2 message(s)",
    ];
    assert_in_order(&output, &parts);
}

#[tokio::test]
async fn grpc_client_runs() {
    let stage = Stage::shared().await;
    let broker = stage.broker().start().await;
    let output = output_of("grpc_client", &[&format!("http://{}", broker.grpc)]).await;
    let parts = ["sent ORD-1 as ", "sent ORD-1 as ", "sent ORD-2 as ", "ORD-1", "ORD-2", "no messages left after 2"];
    assert_in_order(&output, &parts);
}

#[tokio::test]
async fn request_response_runs() {
    let stage = Stage::shared().await;
    let broker = stage.broker().start().await;
    let output = output_of("request_response", &[&format!("http://{}", broker.rest)]).await;
    for line in ["shop: a bell costs 120", "shop: a rope costs 15", "shop: a clapper costs 40"] {
        assert_in_order(&output, &["shop: what does a bell cost?", line]);
    }
}

#[tokio::test]
async fn circuit_breaker_in_your_app_runs() {
    let _stage = Stage::shared().await;
    let output = output_of("circuit_breaker_in_your_app", &[]).await;
    let parts = [
        "GET /stock: 200",
        "circuit of inventory: closed -> open",
        "the inventory service was asked 4 times",
        "circuit of inventory: half_open -> closed",
        "GET /stock: 200",
        "GET /report: 500",
        "GET /report: 503 Service Unavailable, retry after",
        "GET /stock: 200",
    ];
    assert_in_order(&output, &parts);
}
