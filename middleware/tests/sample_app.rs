//! An application outside the workspace, which knows nothing of this repository but the crate, builds and behaves.
//!
//! It is built offline, with the versions that the workspace is locked to, into the workspace's target folder. Where the
//! sources of its dependencies are missing the test says so and is over.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

fn cargo(app: &Path, arguments: &[&str]) -> Output {
    // The folder that this test was built into: most dependencies are there already.
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("it is in the target folder");
    Command::new(env!("CARGO"))
        .args(arguments)
        .arg("--offline")
        .current_dir(app)
        .env("CARGO_TARGET_DIR", target)
        .output()
        .expect("cargo ran this test")
}

/// A copy of the application, so that no lock file is left among the sources.
fn copy() -> PathBuf {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (from, to) = (package.join("tests/sample-app"), Path::new(env!("CARGO_TARGET_TMPDIR")).join("sample-app"));
    fs::create_dir_all(to.join("src")).expect("a folder");
    let manifest = fs::read_to_string(from.join("Cargo.toml")).expect("its manifest");
    let path = format!("path = {:?}", package.to_str().expect("a path in UTF-8"));
    fs::write(to.join("Cargo.toml"), manifest.replace(r#"path = "../..""#, &path)).expect("a manifest");
    fs::copy(from.join("src/main.rs"), to.join("src/main.rs")).expect("its source");
    // Absent where the crate is built alone; then cargo chooses the versions.
    let _ = fs::copy(package.join("../Cargo.lock"), to.join("Cargo.lock"));
    to
}

#[test]
fn an_application_that_knows_only_this_crate_builds_and_behaves() {
    let app = copy();
    let resolved = cargo(&app, &["metadata", "--format-version=1"]);
    if !resolved.status.success() {
        println!("skipped, as cargo cannot resolve it: {}", String::from_utf8_lossy(&resolved.stderr));
        return;
    }
    let ran = cargo(&app, &["run", "--quiet"]);
    let (stdout, stderr) = (String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
    assert!(ran.status.success(), "{stderr}");
    let said: Vec<_> = stdout.lines().collect();
    let expected = [
        "well: 200 by north after 1, 200 by south after 1",
        "north breaks: 200 by south after 2",
        "north is left alone: asked 3 times",
        "south breaks too: 502 by south after 1",
        "south again: 502 by south after 1",
        "nobody is asked: 503, come back in 60 s",
    ];
    assert_eq!(said, expected, "{stderr}");
}
