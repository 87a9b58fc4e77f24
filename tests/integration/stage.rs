//! Where a test plays: a temporary folder, and its share of the machine.

use std::{
    net::{Ipv4Addr, TcpListener},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU16, Ordering::Relaxed},
    time::{Duration, Instant},
};

use tempfile::TempDir;
use tokio::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::process::{Broker, Launch};

/// Tests that measure time or kill processes by the dozen have the machine to themselves.
static MACHINE: RwLock<()> = RwLock::const_new(());

/// Long enough for anything that is not stuck, on a machine that does three other things.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// The place of one test. Everything in it is gone with it.
#[derive(Debug)]
pub(crate) struct Stage {
    folder: TempDir,
    _share: Share,
}

#[derive(Debug)]
#[expect(dead_code, reason = "held for what their drop does")]
enum Share {
    Some(RwLockReadGuard<'static, ()>),
    All(RwLockWriteGuard<'static, ()>),
}

impl Stage {
    /// Beside other tests.
    pub(crate) async fn shared() -> Self {
        Self::with(Share::Some(MACHINE.read().await))
    }

    /// With no other test at the same time.
    pub(crate) async fn alone() -> Self {
        Self::with(Share::All(MACHINE.write().await))
    }

    fn with(share: Share) -> Self {
        Self { folder: tempfile::tempdir().expect("a temporary folder"), _share: share }
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The data directory of this place's broker.
    pub(crate) fn data_dir(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// A broker on this place's data directory, with free ports.
    pub(crate) fn broker(&self) -> Launch {
        Launch::new(&self.data_dir(), self.folder.path())
    }

    /// Two instances of this place's broker, once the second one has found the first.
    pub(crate) async fn active_and_standby(&self) -> [Broker; 2] {
        let ports = [free_port(), free_port()];
        let targets = ports.map(|port| format!("127.0.0.1:{port}")).join(",");
        let launch = |port: u16| {
            self.broker().set("BROKER_GRPC_ADDR", format!("127.0.0.1:{port}")).set("BACKEND_TARGETS", &targets)
        };
        let active = launch(ports[0]).start().await;
        let standby = launch(ports[1]).start().await;
        standby.process.logged("instance is active").await;
        [active, standby]
    }
}

/// A port that nobody listens on, and that the system gives to no client: from below the range of ephemeral ports.
pub(crate) fn free_port() -> u16 {
    static OFFSET: AtomicU16 = AtomicU16::new(0);
    const FIRST: u16 = 20_000;
    const COUNT: u16 = 12_000;
    let start = u16::try_from(std::process::id() % u32::from(COUNT)).expect("below a count that fits");
    for _ in 0..COUNT {
        let port = FIRST + (start + OFFSET.fetch_add(1, Relaxed)) % COUNT;
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
    panic!("no port is free")
}

/// Asks again and again until there is an answer.
pub(crate) async fn eventually<T>(what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(Instant::now() < deadline, "{what}: not within {PATIENCE:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
