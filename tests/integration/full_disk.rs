//! A file system that fills up: publishes are refused in time, consumers go on and make room, nothing is lost.

use std::{
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use reqwest::Method;
use serde_json::{Value, json};
use tonic::Code;

use crate::{
    clients::{Rest, message, metadata},
    process::{Broker, Launch},
    stage::{Stage, eventually},
};

const DISK_BYTES: u64 = 256 << 20;
const RESERVE_BYTES: u64 = 48 << 20;
/// Of one message.
const PAYLOAD_BYTES: usize = 64 << 10;

/// A small file system in memory. It is gone with this value.
struct SmallDisk(PathBuf);

impl SmallDisk {
    /// `None` where nobody may mount one.
    fn mount(path: &Path) -> Option<Self> {
        std::fs::create_dir(path).expect("made");
        let size = format!("size={DISK_BYTES}");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "none"]).arg(path).output();
        match mounted {
            Ok(output) if output.status.success() => Some(Self(path.to_owned())),
            Ok(output) => {
                println!("skipped: no file system can be mounted: {}", String::from_utf8_lossy(&output.stderr).trim());
                None
            }
            Err(error) => {
                println!("skipped: mount cannot be run: {error}");
                None
            }
        }
    }

    fn free_bytes(&self) -> u64 {
        let found = rustix::fs::statvfs(&self.0).expect("it is there");
        found.f_bavail * found.f_frsize
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: whoever still has a file open there keeps it until the end.
        let _ = Command::new("umount").arg("-l").arg(&self.0).output();
    }
}

fn payload(n: usize) -> Value {
    json!({"n": n, "text": "x".repeat(PAYLOAD_BYTES)})
}

fn launch(stage: &Stage) -> Launch {
    let launch = stage.broker().set("BROKER_JOURNAL_FILE_BYTES", "4 MiB").set("BROKER_MESSAGE_BYTES_MAX", "256 KiB");
    launch.set("BROKER_FREE_BYTES_MIN", RESERVE_BYTES)
}

/// Publishes the `n`th message of each protocol's topic; answers whether it was stored, over both.
async fn publish(broker: &Broker, n: usize) -> (bool, bool) {
    let body = json!({"topic": "rest", "message": payload(n)});
    let answer = broker.rest().post("/publish", &body).await;
    let by_rest = answer.status == 200;
    if !by_rest {
        assert_eq!(answer.problem(), (507, "storage_full", ""), "{}", answer.text);
        assert_eq!(answer.header("retry-after"), "1");
        assert!(answer.text.contains("the disk is nearly full"), "{}", answer.text);
    }
    let sent = broker.grpc().ask_send(message("grpc", &payload(n).to_string()), None).await;
    let by_grpc = match sent {
        Ok(sent) => {
            assert!(sent.success, "{sent:?}");
            true
        }
        Err(status) => {
            assert_eq!((status.code(), metadata(&status, "campanile-code")), (Code::ResourceExhausted, "storage_full"));
            false
        }
    };
    (by_rest, by_grpc)
}

async fn consume_rest(broker: &Broker, from: usize, count: usize) {
    for n in from..from + count {
        let messages = broker.rest().consume("rest").await;
        assert_eq!(messages[0]["payload"]["n"], n, "in order, none missing");
    }
}

async fn consume_grpc(broker: &Broker, from: usize, count: usize) {
    for n in from..from + count {
        let received = broker.grpc().receive("grpc").await.expect("there is one");
        let payload: Value = serde_json::from_str(&received.payload).expect("JSON");
        assert_eq!(payload["n"], n, "in order, none missing");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_fills_up_stops_publishers_and_not_consumers_and_nothing_is_lost() {
    let stage = Stage::alone().await;
    let Some(disk) = SmallDisk::mount(&stage.data_dir()) else { return };
    let mut broker = launch(&stage).start().await;
    assert_eq!(broker.rest().get("/health").await.ok()["status"], "healthy");

    let (mut stored, mut low_since) = ((0, 0), None);
    loop {
        let (by_rest, by_grpc) = publish(&broker, stored.0).await;
        stored = (stored.0 + usize::from(by_rest), stored.1 + usize::from(by_grpc));
        if disk.free_bytes() < RESERVE_BYTES {
            low_since.get_or_insert_with(Instant::now);
        }
        if !by_rest || !by_grpc {
            break;
        }
    }
    let took = low_since.map(|since| since.elapsed()).unwrap_or_default();
    println!("refused {took:?} after the reserve was touched, with {} bytes free", disk.free_bytes());
    assert!(took < Duration::from_secs(1), "{took:?}");
    assert!(disk.free_bytes() > RESERVE_BYTES / 2, "the reserve is not used up: {}", disk.free_bytes());

    let health = Rest::ask(broker.rest().request(Method::GET, "/health")).await.expect("answered");
    assert_eq!((health.status, &health.json["status"]), (200, &json!("degraded")));
    assert!(health.json["reason"].as_str().is_some_and(|reason| reason.contains("nearly full")), "{}", health.text);
    // Refused as long as nobody makes room, and what is not a publish goes on.
    assert_eq!(publish(&broker, 0).await, (false, false));
    broker.rest().register("late", &["rest.other"]).await;

    let half = (stored.0 / 2, stored.1 / 2);
    tokio::join!(consume_rest(&broker, 0, half.0), consume_grpc(&broker, 0, half.1));
    let again = eventually("publishing goes on by itself", async || {
        let (by_rest, by_grpc) = publish(&broker, stored.0).await;
        (by_rest && by_grpc).then_some(()).or_else(|| {
            assert!(!by_rest && !by_grpc, "both ports judge alike");
            None
        })
    });
    again.await;
    assert_eq!(broker.rest().get("/health").await.ok()["status"], "healthy");

    broker.process.kill();
    let broker = launch(&stage).start().await;
    let left = (stored.0 + 1 - half.0, stored.1 - half.1);
    tokio::join!(consume_rest(&broker, half.0, left.0), consume_grpc(&broker, half.1, left.1));
    let last = broker.grpc().receive("grpc").await.expect("the one that was sent when there was room again");
    assert!(last.payload.contains(&format!("\"n\":{}", stored.0)), "{}", &last.payload[..20]);
    assert!(broker.rest().drain("rest").await.is_empty() && broker.grpc().receive("grpc").await.is_none());
}
