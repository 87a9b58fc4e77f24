//! Start, shutdown, and what is said of it.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::{
    clients::{Answer, Rest},
    process::Broker,
    stage::{PATIENCE, Stage, eventually, free_port},
};

#[tokio::test]
async fn asked_to_end_it_finishes_what_is_under_way_and_exits_with_0() {
    let stage = Stage::shared().await;
    let mut broker = stage
        .broker()
        .set("BROKER_DRAIN_TIMEOUT_SECS", 15)
        .set("BROKER_CONCURRENCY_LIMIT", 1)
        .set("BROKER_WAITING_RECEIVES_MAX", 1)
        .start()
        .await;
    broker.rest().publish("before", json!(1)).await;
    let body = br#"{"topic": "slow", "message": "sent in two parts"}"#;
    let mut slow = publish_under_way(broker.rest, body.len()).await;
    slow.write_all(&body[..20]).await.expect("taken");
    let poll = tokio::spawn(long_poll(broker.rest(), 2));
    until_full(&broker).await;

    broker.process.terminate();
    let asked = Instant::now();
    broker.process.logged("draining").await;
    eventually("a port that takes no more connections", async || {
        TcpStream::connect(broker.rest).await.is_err().then_some(())
    })
    .await;
    slow.write_all(&body[20..]).await.expect("taken");
    let mut answer = String::new();
    slow.read_to_string(&mut answer).await.expect("an answer, and the end of the connection");
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.contains("\"delivered_to\":1"), "{answer}");
    let poll = poll.await.expect("no panic").ok();
    assert_eq!(poll["messages"], json!([]), "in order, and not broken off");
    assert_eq!(broker.process.ended().await.code(), Some(0));
    assert!(asked.elapsed() < Duration::from_secs(15), "{:?}", asked.elapsed());
    broker.process.logged("ended").await;

    let broker = stage.broker().start().await;
    assert_eq!(broker.rest().drain("slow").await, [json!("sent in two parts")]);
    assert_eq!(broker.rest().drain("before").await, [json!(1)]);
}

#[tokio::test]
async fn who_does_not_finish_is_left_behind_at_the_deadline() {
    let stage = Stage::shared().await;
    let mut broker = stage
        .broker()
        .set("BROKER_DRAIN_TIMEOUT_SECS", 1)
        .set("BROKER_CONCURRENCY_LIMIT", 1)
        .set("BROKER_WAITING_RECEIVES_MAX", 1)
        .start()
        .await;
    let mut stuck = publish_under_way(broker.rest, 100).await;
    stuck.write_all(b"{").await.expect("taken");
    let poll = tokio::spawn(long_poll(broker.rest(), 60));
    until_full(&broker).await;
    broker.process.terminate();
    let asked = Instant::now();
    assert_eq!(broker.process.ended().await.code(), Some(0));
    assert!(asked.elapsed() < PATIENCE / 2, "{:?}", asked.elapsed());
    // The store's end answers who waits: with nothing, or as a refusal that can be retried.
    let poll = poll.await.expect("no panic");
    assert!(poll.status == 200 || poll.problem().0 == 503, "{}", poll.text);
}

/// A publish whose body the broker has begun to wait for.
async fn publish_under_way(addr: SocketAddr, body_bytes: usize) -> TcpStream {
    const GO_ON: &str = "HTTP/1.1 100 Continue\r\n\r\n";
    let mut stream = TcpStream::connect(addr).await.expect("listening");
    let head = "POST /publish HTTP/1.1\r\nhost: b\r\nexpect: 100-continue\r\ncontent-length: ";
    stream.write_all(format!("{head}{body_bytes}\r\n\r\n").as_bytes()).await.expect("taken");
    let mut answer = [0; GO_ON.len()];
    stream.read_exact(&mut answer).await.expect("an answer");
    assert_eq!(String::from_utf8_lossy(&answer), GO_ON);
    stream
}

/// Polls, once there is room for it.
async fn long_poll(rest: Rest, wait_seconds: u32) -> Answer {
    loop {
        let answer = rest.get(&format!("/consume/nothing?wait_seconds={wait_seconds}")).await;
        if answer.json["code"] != "overloaded" {
            return answer;
        }
    }
}

/// A publish and a receive are under way once another one of each is refused.
async fn until_full(broker: &Broker) {
    eventually("a publish and a receive under way", async || {
        let [receive, publish] = [
            broker.rest().get("/consume/t").await,
            broker.rest().post("/publish", &json!({"topic": "t", "message": 1})).await,
        ];
        (receive.status == 503 && publish.status == 503).then_some(())
    })
    .await;
}

#[tokio::test]
async fn it_serves_without_a_word_on_the_command_line() {
    let stage = Stage::shared().await;
    for args in [&[][..], &["serve"]] {
        let broker = stage.broker().args(args).start().await;
        broker.rest().get("/health").await.ok();
        assert_eq!(broker.stop().await.code(), Some(0));
    }
}

#[tokio::test]
async fn the_log_is_text_unless_json_is_wanted() {
    let stage = Stage::shared().await;
    let process = stage.broker().unset("BROKER_LOG_FORMAT").spawn();
    let line = eventually("the line that says where it listens", async || {
        process.output().lines().find(|line| line.contains("listening")).map(str::to_owned)
    });
    let line = line.await;
    assert!(line.contains("rest=127.0.0.1:") && line.contains("grpc=127.0.0.1:"), "{line}");
    assert!(serde_json::from_str::<Value>(&line).is_err(), "{line}");
}

#[tokio::test]
async fn health_can_be_asked_on_the_command_line() {
    let stage = Stage::shared().await;
    let broker = stage.broker().start().await;
    let addr = broker.rest.to_string();
    let asked = stage.broker().args(&["health", "--addr", &addr]).refused().await;
    assert_eq!(asked.code, Some(0), "{}", asked.text);
    assert!(asked.text.contains("healthy"), "{}", asked.text);
    broker.stop().await;
    let asked = stage.broker().args(&["health", "--addr", &addr]).refused().await;
    assert_eq!(asked.code, Some(1), "{}", asked.text);
}

#[tokio::test]
async fn an_instance_that_is_dead_is_skipped_with_the_log_line_of_the_original() {
    let stage = Stage::shared().await;
    let ports = [free_port(), free_port()];
    let launch = |port: u16| {
        let targets = ports.map(|port| format!("127.0.0.1:{port}")).join(",");
        let launch = stage.broker().set("BROKER_GRPC_ADDR", format!("127.0.0.1:{port}"));
        launch.set("BACKEND_TARGETS", targets).set("BACKEND_CIRCUIT_MAX_FAILURES", 2)
    };
    let mut active = launch(ports[0]).start().await;
    let standby = launch(ports[1]).start().await;
    standby.process.logged("instance is active").await;
    active.process.kill();
    let skipped = format!("Instance 127.0.0.1:{} circuit OPEN; skipping", ports[0]);
    eventually(&skipped, async || {
        standby.rest().publish("t", json!(1)).await;
        standby.process.output().contains(&skipped).then_some(())
    })
    .await;
}

/// A process that is killed leaves a lock that holds nobody up.
#[tokio::test]
async fn a_broker_that_was_killed_can_be_started_again_at_once() {
    let stage = Stage::shared().await;
    let mut broker = stage.broker().start().await;
    broker.rest().publish("t", json!(1)).await;
    broker.process.kill();
    let broker = stage.broker().start().await;
    assert_eq!(broker.rest().drain("t").await, [json!(1)]);
}
