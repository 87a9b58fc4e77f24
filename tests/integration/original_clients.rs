//! The Python clients of the original's README, unchanged, on the original's ports.

use std::{
    env,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use crate::{process::Process, stage::Stage};

/// What `run.py` ends with when it cannot run here.
const SKIPPED: i32 = 77;

#[tokio::test]
async fn the_original_python_clients_pass() {
    // With no other test: the ports are the ones that everybody knows.
    let stage = Stage::alone().await;
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut command = Command::new(python(root));
    command.arg(root.join("tests/python/run.py"));
    command.arg(env!("CARGO_BIN_EXE_campanile")).arg(root.join("proto/message.proto")).arg(stage.folder());
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut process = Process::spawn(command);
    let status = process.ended().await;
    if status.code() == Some(SKIPPED) && env::var_os("CI").is_none() {
        println!("{}", process.output());
        return;
    }
    assert!(status.success(), "{status}\n{}", process.output());
}

/// The one that `.ci/run` prepared, or else the system's.
fn python(root: &Path) -> PathBuf {
    let prepared = root.join("target/python/bin/python");
    if prepared.exists() { prepared } else { PathBuf::from("python3") }
}
