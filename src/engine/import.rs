//! Taking over the files of the broker that this one replaces: `<queue>.jsonl`, one message per line.
//!
//! A file is read twice: first to find any damage before anything is written, then to journal its messages. They stay
//! invisible until the last record of the import is durable, so a crash in the middle leaves nothing behind, and a
//! crash between that and the renaming of the file does not take it over twice.

use std::{
    fs::File,
    io::{BufRead as _, BufReader, Read as _},
    path::{Path, PathBuf},
};

use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;
use tracing::info;
use uuid::Uuid;

use super::{
    OpenError, Options, Sealed,
    commit::Committer,
    journal::{AppendError, Record},
    state::{Meaning, State},
};
use crate::model::{Draft, MessageId, Name, Properties};

/// A file that has been taken over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImportReport {
    /// The file, under its old name.
    pub path: PathBuf,
    /// Messages that are in the store now.
    pub messages: usize,
    /// Damaged lines that were left out.
    pub skipped: usize,
}

/// What is wrong with a line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{problem}")]
pub struct ImportError {
    problem: String,
}

/// A line of the file, as the original broker wrote it.
#[derive(Deserialize)]
struct Line<'a> {
    id: String,
    topic: String,
    #[serde(borrow)]
    payload: &'a RawValue,
    #[serde(default)]
    reply_to: Option<String>,
}

/// The ending of the files.
pub(super) const ENDING: &str = "jsonl";
/// Longest line that is read: the largest message, and what stands around it.
const LINE_BYTES_MAX: u64 = 17 << 20;
/// How many bytes of messages are put into one frame.
const FRAME_BYTES: usize = 1 << 20;

impl Committer {
    /// Takes over every such file in the data directory, in the order of their names.
    pub(super) fn import_data_dir(&mut self) -> Result<Vec<ImportReport>, OpenError> {
        let dir = self.options.data_dir.clone();
        let failed =
            |source| OpenError::Io { what: format!("cannot read the data directory {}", dir.display()), source };
        let mut files = Vec::new();
        for entry in std::fs::read_dir(&dir).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            if path.extension().is_some_and(|ending| ending == ENDING) {
                files.push(path);
            }
        }
        files.sort();
        files.iter().map(|file| self.import_file(file, false)).collect()
    }

    /// Takes over one file, and renames it.
    pub(super) fn import_file(&mut self, path: &Path, skip_damaged: bool) -> Result<ImportReport, OpenError> {
        let (mut length, mut crc, mut skipped) = (0, 0, 0);
        read_lines(path, |number, line| {
            (length, crc) = (length + line.len() as u64, crc32c::crc32c_append(crc, line));
            match self.parse(path, line) {
                Ok(_) => Ok(()),
                Err(_) if skip_damaged => {
                    skipped += 1;
                    Ok(())
                }
                Err(e) => Err(OpenError::Import { path: path.into(), line: number, problem: e.problem }),
            }
        })?;
        let source = source_of(path, length, crc);
        let messages = if self.state.imported.contains(&source) { 0 } else { self.journal_file(path, source)? };
        rename(path)?;
        info!(file = %path.display(), messages, skipped, "file of the original broker taken over");
        Ok(ImportReport { path: path.into(), messages, skipped })
    }

    fn journal_file(&mut self, path: &Path, source: String) -> Result<usize, OpenError> {
        let now = self.clock.now().max(self.state.time);
        self.step(now).begin_import(source.clone());
        let mut messages = 0;
        read_lines(path, |number, line| {
            let Ok(Some((topic, message))) = self.parse(path, line) else { return Ok(()) };
            self.step(now).import(topic, message).map_err(|e| OpenError::Import {
                path: path.into(),
                line: number,
                problem: e.to_string(),
            })?;
            messages += 1;
            if self.frame.records().len() >= FRAME_BYTES { self.commit().map_err(unwritten) } else { Ok(()) }
        })?;
        self.step(now).end_import(source);
        self.commit().map_err(unwritten)?;
        Ok(messages)
    }

    fn parse(&self, path: &Path, line: &[u8]) -> Result<Option<(Name, Sealed)>, ImportError> {
        parse(&self.state, &self.options, path, line)
    }
}

/// What taking over a file would find.
#[derive(Debug, Default)]
pub(super) struct Check {
    pub(super) messages: usize,
    /// Lines that cannot be read.
    pub(super) damaged: usize,
    /// The first of these, from 1, and what is wrong with it.
    pub(super) first_damage: Option<(usize, String)>,
    /// Its messages are in the store already: only the renaming is missing.
    pub(super) is_stored: bool,
}

/// Reads a file as [`Committer::import_file`] does, and leaves everything as it is. Lines after one that is too long are
/// not read.
pub(super) fn check(state: &State, options: &Options, path: &Path) -> Result<Check, OpenError> {
    let (mut check, mut length, mut crc) = (Check::default(), 0, 0);
    let read = read_lines(path, |number, line| {
        (length, crc) = (length + line.len() as u64, crc32c::crc32c_append(crc, line));
        match parse(state, options, path, line) {
            Ok(Some(_)) => check.messages += 1,
            Ok(None) => {}
            Err(error) => {
                check.damaged += 1;
                check.first_damage.get_or_insert((number, error.problem));
            }
        }
        Ok(())
    });
    match read {
        Err(OpenError::Import { line, problem, .. }) => {
            check.damaged += 1;
            check.first_damage.get_or_insert((line, problem));
        }
        read => read?,
    }
    check.is_stored = state.imported.contains(&source_of(path, length, crc));
    Ok(check)
}

/// How the journal names a file that is taken over.
fn source_of(path: &Path, length: u64, crc: u32) -> String {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    format!("{name}, {length} bytes, crc32c {crc:08x}")
}

/// The message of a line; none of a blank one.
fn parse(state: &State, options: &Options, path: &Path, line: &[u8]) -> Result<Option<(Name, Sealed)>, ImportError> {
    let bad = |problem: String| ImportError { problem };
    if line.trim_ascii().is_empty() {
        return Ok(None);
    }
    let line: Line<'_> = serde_json::from_slice(line).map_err(|e| bad(format!("is no message: {e}")))?;
    let id = Uuid::parse_str(&line.id).map_err(|e| bad(format!("id: {e}")))?;
    // The original put "_" for "/" in file names, so the file's name is one that can always be used.
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    let topic = Name::parse(&line.topic).or_else(|e| Name::parse(&stem).map_err(|_| bad(format!("topic: {e}"))))?;
    if matches!(state.meaning(&topic), Some(Meaning::Subscription(_))) {
        return Err(bad(format!("topic: '{topic}' is the queue of a service")));
    }
    let properties = Properties { reply_to: line.reply_to.filter(|text| !text.is_empty()), ..Properties::default() };
    let payload = Bytes::copy_from_slice(line.payload.get().as_bytes());
    let draft = Draft { payload, properties, ..Draft::default() };
    draft.check().map_err(|e| bad(e.to_string()))?;
    let message = Sealed::with_id(MessageId(id), draft, options.dedup_window);
    if message.body_bytes() > options.frame_bytes_max() {
        return Err(bad("is larger than a message may be".into()));
    }
    Ok(Some((topic, message)))
}

fn read_lines(path: &Path, mut each: impl FnMut(usize, &[u8]) -> Result<(), OpenError>) -> Result<(), OpenError> {
    let failed = |source| OpenError::Io { what: format!("cannot read {}", path.display()), source };
    let mut reader = BufReader::new(File::open(path).map_err(failed)?);
    let mut line = Vec::new();
    for number in 1.. {
        line.clear();
        let bytes = (&mut reader).take(LINE_BYTES_MAX).read_until(b'\n', &mut line).map_err(failed)?;
        if bytes == 0 {
            break;
        }
        if bytes as u64 == LINE_BYTES_MAX {
            let problem = format!("is longer than {LINE_BYTES_MAX} bytes");
            return Err(OpenError::Import { path: path.into(), line: number, problem });
        }
        each(number, &line)?;
    }
    Ok(())
}

/// Marks the file as taken over, under a name that is still free.
fn rename(path: &Path) -> Result<(), OpenError> {
    let with_ending = |ending: String| {
        let mut name = path.as_os_str().to_owned();
        name.push(ending);
        PathBuf::from(name)
    };
    let mut target = with_ending(".imported".into());
    for number in 2.. {
        if !target.exists() {
            break;
        }
        target = with_ending(format!(".imported.{number}"));
    }
    let failed = |source| OpenError::Io { what: format!("cannot rename {}", path.display()), source };
    std::fs::rename(path, &target).map_err(failed)?;
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed)
}

fn unwritten(error: AppendError) -> OpenError {
    OpenError::Io { what: "cannot write to the journal".into(), source: std::io::Error::other(error) }
}

impl super::verbs::Step<'_> {
    fn begin_import(&mut self, source: String) {
        self.emit(Record::ImportBegun { source });
    }

    fn import(&mut self, name: Name, message: Sealed) -> Result<(), super::EngineError> {
        let topic = match self.topic_named(&name)? {
            Some(topic) => topic,
            None => {
                self.check_room(1)?;
                self.create_topic(name)
            }
        };
        self.emit(Record::Imported { topic, message });
        Ok(())
    }

    fn end_import(&mut self, source: String) {
        self.emit(Record::ImportEnded { source });
    }
}
