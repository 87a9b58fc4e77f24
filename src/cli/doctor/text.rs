//! A diagnosis in words, for a terminal.

use std::{
    fmt::{self, Write as _},
    path::{Path, PathBuf},
};

use crate::engine::{
    Diagnosis, Directory, History, Plan, Problem, Repair,
    journal::file::{Holder, StoreId, SurveyedFile, Tail},
};

/// Most names of files that are shown of a list on which nothing depends.
const NAMES_MAX: usize = 10;

/// The whole report.
pub(super) fn render(diagnosis: &Diagnosis) -> String {
    let mut text = String::new();
    write_report(diagnosis, &mut text).expect("a String takes every text");
    text.truncate(text.trim_end().len());
    text
}

/// What a repair did, and the report as of after it.
pub(super) fn render_repair(repair: &Repair) -> String {
    let mut text = String::new();
    write_repair(repair, &mut text).expect("a String takes every text");
    text + &render(&repair.after)
}

fn write_repair(repair: &Repair, out: &mut String) -> fmt::Result {
    let Some((folder, plan)) = &repair.set_aside else {
        return writeln!(out, "Nothing has to be repaired.\n");
    };
    writeln!(out, "Repaired. What was taken out is in {}, with a file REPORT.", shown(folder))?;
    writeln!(out, "What was done, in this order:")?;
    write_actions(plan, out)?;
    writeln!(out)
}

fn write_report(diagnosis: &Diagnosis, out: &mut String) -> fmt::Result {
    let what = match diagnosis.directory {
        Directory::Missing => "does not exist",
        Directory::Unreadable => "cannot be read",
        Directory::Foreign => "is no data directory of campanile",
        Directory::Empty => "is empty: a broker that starts here makes a new store",
        Directory::Ours => "is a data directory of campanile",
    };
    writeln!(out, "{} {what}.", shown(&diagnosis.data_dir))?;
    if diagnosis.directory == Directory::Ours {
        writeln!(out, "{}", holder_text(&diagnosis.holder))?;
        write_journal(diagnosis, out)?;
        write_history(diagnosis, out)?;
        write_contents(diagnosis, out)?;
    }
    write_other_files(diagnosis, out)?;
    write_problems(diagnosis, out)
}

fn holder_text(holder: &Holder) -> String {
    match holder {
        Holder::Never => "Nobody has ever locked it.".to_owned(),
        Holder::Process { pid } => {
            format!("It is in use by pid {pid}. What is shown here may have changed while it was read.")
        }
        Holder::NoneSeen { last } => format!(
            "It is not in use, as far as can be seen: other machines and other containers cannot. The last one was {last}."
        ),
        Holder::Untold { last } => format!("Whether it is in use the system does not tell. The last one was {last}."),
    }
}

fn write_journal(diagnosis: &Diagnosis, out: &mut String) -> fmt::Result {
    let journal = &diagnosis.journal;
    match journal.store {
        StoreId::Named(uuid) => writeln!(out, "\nStore {uuid}")?,
        StoreId::Guessed(uuid) => writeln!(out, "\nStore {uuid}, by its journal; STORE itself cannot be used")?,
        StoreId::None => writeln!(out, "\nThere is no store in it yet, or none that can be told.")?,
    }
    if let Some(checkpoint) = &diagnosis.checkpoint {
        let (messages, segments) = (checkpoint.messages as u64, checkpoint.segments as u64);
        let (messages, segments) = (counted(messages, "message"), counted(segments, "segment"));
        writeln!(out, "Checkpoint up to position {}: {messages} in {segments}", checkpoint.position)?;
    }
    let counts = [
        counted(journal.files.len() as u64, "journal file"),
        counted(journal.spares.len() as u64, "spare"),
        format!("{} unfinished", journal.unfinished.len()),
    ];
    writeln!(out, "{}", counts.join(", "))?;
    if journal.files.is_empty() {
        return Ok(());
    }
    writeln!(
        out,
        "\n  {:<20} {:>16} {:>8} {:>24}  behind the last frame",
        "file", "first position", "frames", "bytes"
    )?;
    for file in &journal.files {
        let bytes = format!("{} of {}", file.used_bytes, file.file_bytes);
        let name = file.path.file_name().map(Path::new).map(shown).unwrap_or_default();
        writeln!(out, "  {name:<20} {:>16} {:>8} {bytes:>24}  {}", file.first, file.frames, tail_text(file.tail))?;
    }
    Ok(())
}

fn tail_text(tail: Tail) -> String {
    match tail {
        Tail::Blank => "nothing".to_owned(),
        Tail::Marked => "a mark: everything was synced".to_owned(),
        Tail::Torn { bytes, .. } => format!("a write of {bytes} bytes that was cut off"),
        Tail::Leftovers { bytes, .. } => format!("{bytes} bytes that are no frame"),
        Tail::Lost { .. } => "DAMAGE: frames are gone".to_owned(),
        Tail::Unread => "not read".to_owned(),
    }
}

fn write_history(diagnosis: &Diagnosis, out: &mut String) -> fmt::Result {
    let (readable, behind) = (&diagnosis.readable, &diagnosis.behind);
    let before = if behind.frames > 0 { "Before the damage: " } else { "" };
    writeln!(out, "\n{before}{}", history_text(readable))?;
    if !readable.records.is_empty() {
        let kinds: Vec<_> = readable.records.iter().map(|(kind, count)| format!("{kind} {count}")).collect();
        writeln!(out, "  {}", kinds.join(", "))?;
    }
    if behind.frames > 0 {
        writeln!(out, "Behind the damage: {}. A broker does not use them.", history_text(behind))?;
    }
    let Some(end) = &diagnosis.journal.end else { return Ok(()) };
    write!(out, "History ends at position {}, offset {} of {}", end.position, end.offset, shown(&end.path))?;
    let is_damaged = diagnosis.problems.iter().any(|problem| !matches!(problem, Problem::Line { .. }));
    if is_damaged {
        return writeln!(out, ", as far as can be told.");
    }
    writeln!(out, ": a clean end.")?;
    for SurveyedFile { path, tail, .. } in &diagnosis.journal.files {
        if let Tail::Torn { offset, bytes } | Tail::Leftovers { offset, bytes } = tail {
            let file = shown(path);
            writeln!(out, "  {bytes} bytes at offset {offset} of {file} {}", harmless_text(*tail))?;
        }
    }
    Ok(())
}

fn harmless_text(tail: Tail) -> &'static str {
    match tail {
        Tail::Torn { .. } => "are a write that a crash cut off. It was never acknowledged: harmless.",
        _ => "belong to no frame: the file's earlier use, or a write that a crash cut off: harmless.",
    }
}

fn history_text(history: &History) -> String {
    let counts = [
        counted(history.frames, "frame"),
        counted(history.record_count(), "record"),
        counted(history.messages, "message"),
    ];
    let times = history.times.map(|(first, last)| format!(", from {first} to {last}")).unwrap_or_default();
    format!("{}{times}", counts.join(", "))
}

fn write_contents(diagnosis: &Diagnosis, out: &mut String) -> fmt::Result {
    let contents = &diagnosis.contents;
    let (topics, queues) = (counted(contents.topics as u64, "topic"), counted(contents.queues as u64, "queue"));
    let messages = counted(contents.messages as u64, "message");
    let as_of = if contents.topics > 0 { format!(", as of {}", contents.as_of) } else { String::new() };
    writeln!(out, "\n{topics}, {queues}, {messages} kept{as_of}")?;
    if diagnosis.behind.frames > 0 {
        writeln!(out, "  This is what there was before the damage, and older than what the broker had.")?;
    }
    if contents.without_queue > 0 {
        writeln!(out, "  {} on topics that have no queue yet", counted(contents.without_queue as u64, "message"))?;
    }
    if contents.largest.is_empty() {
        return Ok(());
    }
    let width = contents.largest.iter().map(|queue| queue.name.as_str().len()).max().unwrap_or(0).max(14);
    writeln!(out, "\n  {:<width$} {:>10} {:>10} {:>10}", "queue", "ready", "leased", "delayed")?;
    for queue in &contents.largest {
        let name = queue.name.as_str();
        writeln!(out, "  {name:<width$} {:>10} {:>10} {:>10}", queue.ready, queue.leased, queue.delayed)?;
    }
    let left_out = contents.queues - contents.largest.len();
    if left_out > 0 {
        writeln!(out, "  and {} with less", counted(left_out as u64, "queue"))?;
    }
    let sum = "sum of all";
    writeln!(out, "  {sum:<width$} {:>10} {:>10} {:>10}", contents.ready, contents.leased, contents.delayed)
}

fn write_other_files(diagnosis: &Diagnosis, out: &mut String) -> fmt::Result {
    if !diagnosis.waiting.is_empty() {
        writeln!(out, "\nFiles of the original broker that the next start takes over:")?;
    }
    for file in &diagnosis.waiting {
        let (path, messages) = (shown(&file.path), counted(file.messages as u64, "message"));
        let stored = if file.is_stored { "; they are in the store already, so it will only be renamed" } else { "" };
        writeln!(out, "  {path}: {messages}, {}{stored}", counted(file.damaged as u64, "damaged line"))?;
    }
    let others: Vec<_> = diagnosis.others.iter().chain(&diagnosis.journal.others).cloned().collect();
    write_names("Files of the original broker that have been taken over", &diagnosis.taken_over, out)?;
    write_names("Other files, which mean nothing to a broker", &others, out)
}

fn write_names(what: &str, paths: &[PathBuf], out: &mut String) -> fmt::Result {
    if paths.is_empty() {
        return Ok(());
    }
    let mut names: Vec<_> = paths.iter().take(NAMES_MAX).map(|path| shown(path)).collect();
    if paths.len() > NAMES_MAX {
        names.push(format!("and {} more", paths.len() - NAMES_MAX));
    }
    writeln!(out, "\n{what}: {}", names.join(", "))
}

fn write_problems(diagnosis: &Diagnosis, out: &mut String) -> fmt::Result {
    if diagnosis.is_inconclusive {
        return writeln!(
            out,
            "\nThe broker replaced files during every look: nothing can be said. Try again, or end it."
        );
    }
    if diagnosis.is_healthy() {
        return writeln!(out, "\nHealthy: nothing is wrong.");
    }
    let count = diagnosis.problems.len() as u64 + diagnosis.problems_left_out;
    let start = match diagnosis.directory {
        Directory::Missing => "",
        _ if diagnosis.stops_a_start() => " A broker does not start here.",
        _ => " A broker starts here all the same.",
    };
    writeln!(out, "\nNOT HEALTHY: {}.{start}", counted(count, "problem"))?;
    for (number, problem) in (1..).zip(&diagnosis.problems) {
        writeln!(out, "  {number}. {}", plain(&problem.with_causes()))?;
        writeln!(out, "     What to do: {}.", problem.advice())?;
    }
    if diagnosis.problems_left_out > 0 {
        writeln!(out, "  And {} more.", diagnosis.problems_left_out)?;
    }
    write_plan(diagnosis, out)
}

fn write_plan(diagnosis: &Diagnosis, out: &mut String) -> fmt::Result {
    match &diagnosis.plan {
        Some(plan) => {
            writeln!(out, "\n`campanile doctor --repair` would, in this order:")?;
            write_actions(plan, out)
        }
        None if diagnosis.directory == Directory::Ours && diagnosis.is_beyond_repair() => {
            writeln!(out, "\n`campanile doctor --repair` does nothing here: not all of this can be repaired.")
        }
        None => Ok(()),
    }
}

fn write_actions(plan: &Plan, out: &mut String) -> fmt::Result {
    for (number, action) in (1..).zip(&plan.actions) {
        writeln!(out, "  {number}. {}", plain(&action.to_string()))?;
    }
    writeln!(out, "What is given up by it:")?;
    for loss in plan.losses() {
        writeln!(out, "  - {loss}")?;
    }
    Ok(())
}

fn counted(count: u64, what: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {what}{plural}")
}

fn shown(path: &Path) -> String {
    plain(&path.to_string_lossy())
}

/// Without what a terminal would obey. Names of files may hold anything.
fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        engine::{Engine, Options, diagnose},
        model::{Draft, Name},
    };

    async fn filled() -> (tempfile::TempDir, Options) {
        let dir = tempfile::tempdir().expect("a folder for the test");
        let options = Options { journal_file_bytes: 64 << 10, ..Options::new(dir.path()) };
        let engine = Engine::open(options.clone()).expect("opens");
        engine.register(name("billing"), vec![name("orders")]).await.expect("registered");
        for length in [3000, 4000, 20] {
            let draft = Draft { payload: vec![b'x'; length].into(), ..Draft::default() };
            engine.publish(name("orders"), vec![draft]).await.expect("stored");
        }
        engine.close().await;
        drop(engine);
        (dir, options)
    }

    fn name(text: &str) -> Name {
        Name::parse(text).expect("valid")
    }

    fn assert_says(text: &str, parts: &[&str]) {
        for part in parts {
            assert!(text.contains(part), "{part:?} is not in:\n{text}");
        }
    }

    #[tokio::test]
    async fn a_healthy_store_is_described() {
        let (_dir, options) = filled().await;
        let text = render(&diagnose(&options));
        let parts = ["Store ", "0000000000000001.wal", "3 messages", "orders.billing", "a clean end", "Healthy"];
        assert_says(&text, &parts);
        assert!(!text.contains("repair"), "{text}");
    }

    #[tokio::test]
    async fn damage_is_described_with_its_place_and_what_to_do() {
        let (dir, options) = filled().await;
        let file = dir.path().join("journal/0000000000000001.wal");
        let mut bytes = std::fs::read(&file).expect("readable");
        bytes[4096 * 2 + 100] ^= 1;
        std::fs::write(&file, bytes).expect("written");
        std::fs::write(dir.path().join("q.jsonl"), "{\n").expect("written");
        let text = render(&diagnose(&options));
        let place = format!("1. {}, offset 8192: no valid frame begins here", file.display());
        let parts =
            ["NOT HEALTHY: 2 problems", &place, "What to do: restore", "q.jsonl, line 1", "Before the damage: 1 frame"];
        assert_says(&text, &parts);
    }

    #[tokio::test]
    async fn what_a_repair_would_do_is_told_and_where_it_can_do_nothing() {
        let (dir, options) = filled().await;
        let file = dir.path().join("journal/0000000000000001.wal");
        let mut bytes = std::fs::read(&file).expect("readable");
        bytes[50] ^= 1;
        std::fs::write(&file, bytes).expect("written");
        // The next file may have been prepared by then, or not.
        let next = dir.path().join("journal/0000000000000002.wal");
        let newest = if next.exists() { next } else { file };
        let spare = newest.with_extension("spare");
        let text = render(&diagnose(&options));
        assert_says(&text, &["1. make the empty file", &spare.display().to_string(), "2. set aside", "given up"]);
        std::fs::write(dir.path().join("STORE"), "short").expect("written");
        let text = render(&diagnose(&options));
        assert_says(&text, &["STORE is damaged", "`campanile doctor --repair` does nothing here"]);
    }

    #[tokio::test]
    async fn damaged_messages_are_no_reason_not_to_start() {
        let dir = tempfile::tempdir().expect("a folder for the test");
        let options = Options { journal_file_bytes: 32 << 10, ..Options::new(dir.path()) };
        let engine = Engine::open(options.clone()).expect("opens");
        for _ in 0..60 {
            let draft = Draft { payload: vec![b'x'; 3000].into(), ..Draft::default() };
            engine.publish(name("orders"), vec![draft]).await.expect("stored");
        }
        engine.close().await;
        drop(engine);
        let segment = dir.path().join("segments/00000001.seg");
        let mut bytes = std::fs::read(&segment).expect("readable");
        bytes[1000] ^= 1;
        std::fs::write(&segment, bytes).expect("written");
        let text = render(&diagnose(&options));
        assert_says(&text, &["NOT HEALTHY: 1 problem. A broker starts here all the same", "1 messages of the block"]);
        assert!(!text.contains("repair"), "{text}");
    }

    #[test]
    fn a_folder_of_somebody_else_is_named_and_its_names_cannot_command_the_terminal() {
        let dir = tempfile::tempdir().expect("a folder for the test");
        std::fs::write(dir.path().join("\u{1b}[31mred"), "").expect("written");
        let text = render(&diagnose(&Options::new(dir.path())));
        assert_says(&text, &["is no data directory", "[31mred", "What to do: point data_dir"]);
        assert!(!text.contains('\u{1b}'));
    }
}
