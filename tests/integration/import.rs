//! `campanile import`: what it says, and to whom.

use std::{
    fs::{self, File, OpenOptions},
    io::Read as _,
    os::unix::fs::OpenOptionsExt as _,
    path::PathBuf,
    process::Stdio,
};

use rustix::{
    fs::OFlags,
    pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt},
};

use crate::stage::Stage;

/// A file of the original broker beside the data directory, and its path.
fn file(stage: &Stage, name: &str, count: usize) -> String {
    let line = |n| format!("{{\"id\": \"3f2b0c6e-8a44-4d0e-9d43-{n:012}\", \"topic\": \"t\", \"payload\": {n}}}\n");
    let path = stage.folder().join(name);
    fs::write(&path, (0..count).map(line).collect::<String>()).expect("written");
    path.display().to_string()
}

#[tokio::test]
async fn each_file_has_its_line_as_soon_as_it_is_taken_over_also_if_a_later_one_is_refused() {
    let stage = Stage::shared().await;
    let (first, second) = (file(&stage, "first.jsonl", 3), file(&stage, "second.jsonl", 2));
    let damaged = file(&stage, "damaged.jsonl", 1);
    fs::write(&damaged, "{").expect("written");
    let refusal = stage.broker().args(&["import", &first, &second, &damaged]).refused().await;
    assert_eq!(refusal.code, Some(1), "{}", refusal.text);
    let lines: Vec<_> = refusal.text.lines().filter(|line| !line.starts_with('{')).collect();
    assert_eq!(lines.len(), 3, "no more than the log and this, and no bar: {}", refusal.text);
    for part in [format!("{first}: 3 messages taken over"), format!("{second}: 2 messages taken over")] {
        assert!(lines.iter().any(|line| line.starts_with(&part)), "{part:?} is not in: {}", refusal.text);
    }
    assert!(refusal.text.contains(&format!("{damaged}, line 1: is no message")), "{}", refusal.text);

    let mut again = stage.broker().args(&["import", "--skip-damaged", &damaged]).spawn();
    assert!(again.ended().await.success(), "{}", again.output());
    let expected = format!("{damaged}: 0 messages taken over, 1 damaged lines left out");
    assert!(again.output().contains(&expected), "{}", again.output());
}

/// The two ends of a terminal.
fn terminal() -> (File, File) {
    let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("there are terminals");
    grantpt(&ours).and_then(|()| unlockpt(&ours)).expect("ours");
    let name = ptsname(&ours, Vec::new()).expect("it has a name").into_string().expect("a plain one");
    let theirs = OpenOptions::new().read(true).write(true).custom_flags(OFlags::NOCTTY.bits() as i32).open(name);
    (File::from(ours), theirs.expect("unlocked"))
}

#[tokio::test]
async fn on_a_terminal_a_bar_shows_how_far_it_is_and_leaves_nothing_behind() {
    let stage = Stage::shared().await;
    let path = file(&stage, "orders.jsonl", 20_000);
    let (mut ours, theirs) = terminal();
    let mut command = stage.broker().set("TERM", "xterm").args(&["import", &path]).command();
    command.stderr(Stdio::from(theirs));
    let mut process = crate::process::Process::spawn(command);
    let shown = tokio::task::spawn_blocking(move || {
        let mut shown = Vec::new();
        // A terminal that nobody else has open any more ends with an error.
        let _ = ours.read_to_end(&mut shown);
        String::from_utf8(shown).expect("text")
    });
    assert!(process.ended().await.success(), "{}", process.output());
    assert_eq!(process.output(), format!("{path}: 20000 messages taken over, 0 damaged lines left out"));
    let shown = shown.await.expect("read");
    for part in ["checking orders.jsonl", "storing orders.jsonl", "messages", "MiB/s", "left"] {
        assert!(shown.contains(part), "{part:?} is not in {shown:?}");
    }
    let last = shown.rsplit("\x1b[2K").next().expect("there is a last part");
    assert!(!last.contains("orders.jsonl ") && last.contains("taken over"), "the bar is still there: {last:?}");
    assert!(PathBuf::from(format!("{path}.imported")).exists());
}
