//! The broker under measurement: started, and asked of the system what it takes.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    net::SocketAddr,
    process::{Child, Command, Stdio},
    time::Duration,
};

use tempfile::TempDir;

use super::Result;

/// A broker on free ports, in a folder that goes with it.
#[derive(Debug)]
pub(super) struct Broker {
    process: Child,
    pub(super) rest: SocketAddr,
    pub(super) grpc: SocketAddr,
    _folder: TempDir,
}

/// What the process takes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Usage {
    /// What is resident.
    pub(super) memory_bytes: u64,
    /// Of all processors, since it was started.
    pub(super) processor: Duration,
}

impl Broker {
    pub(super) fn start() -> Result<Self> {
        let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
        let mut process = Command::new(env!("CARGO_BIN_EXE_campanile"))
            .args(["serve", "--rest-addr", "127.0.0.1:0", "--grpc-addr", "127.0.0.1:0", "--free-bytes-min", "0"])
            .arg("--data-dir")
            .arg(folder.path().join("data"))
            // Those who publish come beside those who wait.
            .args(["--connections-max", "12000", "--waiting-receives-max", "12000"])
            .current_dir(folder.path())
            .stderr(Stdio::piped())
            .spawn()?;
        let mut lines = BufReader::new(process.stderr.take().ok_or("no log")?).lines();
        let listening = lines.find_map(|line| line.ok().filter(|line| line.contains("listening")));
        let listening = listening.ok_or("the broker has ended")?;
        let addr = |name: &str| -> Result<SocketAddr> {
            let (_, rest) = listening.split_once(name).ok_or("no address in the log")?;
            Ok(rest.split_whitespace().next().unwrap_or_default().parse()?)
        };
        let (rest, grpc) = (addr("rest=")?, addr("grpc=")?);
        // So that it never waits for somebody to read it.
        std::thread::spawn(move || lines.for_each(drop));
        Ok(Self { process, rest, grpc, _folder: folder })
    }

    pub(super) fn usage(&self) -> Result<Usage> {
        /// The system counts in these (USER_HZ).
        const TICKS_PER_SECOND: u64 = 100;
        let of = |file: &str| fs::read_to_string(format!("/proc/{}/{file}", self.process.id()));
        let (status, stat) = (of("status")?, of("stat")?);
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).ok_or("no VmRSS")?;
        let kibibytes: u64 = resident.trim().trim_end_matches(" kB").parse()?;
        // Behind the name, which may have anything in it: utime and stime are the 12th and 13th.
        let fields: Vec<_> = stat.rsplit(") ").next().unwrap_or_default().split_whitespace().collect();
        let ticks =
            fields.get(11).ok_or("no utime")?.parse::<u64>()? + fields.get(12).ok_or("no stime")?.parse::<u64>()?;
        let processor = Duration::from_millis(ticks * 1000 / TICKS_PER_SECOND);
        Ok(Usage { memory_bytes: kibibytes * 1024, processor })
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        // It is of no use any more; its folder goes.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
