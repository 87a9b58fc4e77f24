//! Taking over the files of the broker that this one replaces: `<queue>.jsonl`, one message per line.
//!
//! A file is read twice: first to find any damage before anything is written, then to store its messages. How far that
//! is stands in the same frames as the messages themselves, so a start after a crash in the middle goes on where it was,
//! and a crash between the last frame and the renaming of the file does not take it over twice. Neither the memory nor
//! the start depends on the size of a file: checkpoints are written on the way.

use std::{
    fs::File,
    io::{BufRead as _, BufReader, Read as _},
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;
use tracing::info;
use uuid::Uuid;

use super::{
    OpenError, Options, Sealed,
    commit::Committer,
    inbox::Inbox,
    journal::{AppendError, Record},
    request,
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

/// What is done with a line that cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DamagedLines {
    /// Its file is not taken over.
    Refuse,
    /// It is left out, and counted.
    LeaveOut,
}

/// A file is read twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ImportPass {
    /// To find any damage before anything is written.
    Checking,
    /// To write its messages down.
    Storing,
}

/// How far one reading of a file has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ImportProgress<'a> {
    /// The file.
    pub path: &'a Path,
    /// Which reading of it.
    pub pass: ImportPass,
    /// Bytes read so far.
    pub bytes: u64,
    /// The length of the file.
    pub bytes_total: u64,
    /// Messages found so far.
    pub messages: usize,
}

/// Who is told how far an import has come, on the thread that carries it out.
pub trait ImportObserver {
    /// A line has been read, or a pass begins.
    fn progress(&mut self, progress: ImportProgress<'_>);
    /// A file has been taken over, and renamed.
    fn taken_over(&mut self, report: &ImportReport);
}

/// Nobody looks.
impl ImportObserver for () {
    fn progress(&mut self, _: ImportProgress<'_>) {}
    fn taken_over(&mut self, _: &ImportReport) {}
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
/// How many bytes of messages are put into one frame, unless one alone has more.
const FRAME_BYTES: usize = 1 << 20;
/// What the records beside them take at most: a name of a topic, that of the file.
const NAMES_BYTES: usize = 8 << 10;

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
        files.iter().map(|file| self.import_file(file, DamagedLines::Refuse, &mut ())).collect()
    }

    /// Takes over one file, and renames it.
    pub(super) fn import_file(
        &mut self,
        path: &Path,
        damaged_lines: DamagedLines,
        observer: &mut dyn ImportObserver,
    ) -> Result<ImportReport, OpenError> {
        let (mut length, mut crc, mut skipped) = (0, 0, 0);
        let mut told = Told::begin(path, ImportPass::Checking, observer)?;
        read_lines(path, |number, line| {
            (length, crc) = (length + line.len() as u64, crc32c::crc32c_append(crc, line));
            let messages = match (self.parse(path, line), damaged_lines) {
                (Ok(message), _) => usize::from(message.is_some()),
                (Err(_), DamagedLines::LeaveOut) => {
                    skipped += 1;
                    0
                }
                (Err(e), DamagedLines::Refuse) => {
                    return Err(OpenError::Import { path: path.into(), line: number, problem: e.problem });
                }
            };
            told.line(line, messages);
            Ok(())
        })?;
        let source = source_of(path, length, crc);
        let is_stored = self.state.imported.contains(&source);
        let messages = if is_stored { 0 } else { self.journal_file(path, source, observer)? };
        rename(path)?;
        let report = ImportReport { path: path.into(), messages, skipped };
        observer.taken_over(&report);
        info!(file = %path.display(), messages, skipped, "file of the original broker taken over");
        Ok(report)
    }

    fn journal_file(
        &mut self,
        path: &Path,
        source: String,
        observer: &mut dyn ImportObserver,
    ) -> Result<usize, OpenError> {
        let now = self.clock.now().max(self.state.time);
        let done = self.state.importing.get(&source).copied().unwrap_or(0);
        let mut told = Told::begin(path, ImportPass::Storing, observer)?;
        let mut lines = 0;
        read_lines(path, |number, line| {
            lines = number as u64;
            let message = if lines > done { self.parse(path, line).ok().flatten() } else { None };
            told.line(line, usize::from(message.is_some()));
            let Some((topic, message)) = message else { return Ok(()) };
            let bytes = self.frame.records().len() + request::frame_bytes_of(std::slice::from_ref(&message));
            if !self.frame.is_empty() && bytes + NAMES_BYTES > FRAME_BYTES.min(self.options.frame_bytes_max()) {
                self.step(now).emit(Record::ImportAdvanced { source: source.clone(), lines: lines - 1 });
                self.commit().map_err(unwritten)?;
                self.make_room()?;
            }
            self.step(now).import(topic, message).map_err(|e| OpenError::Import {
                path: path.into(),
                line: number,
                problem: e.to_string(),
            })
        })?;
        let messages = told.progress.messages;
        self.step(now).emit(Record::ImportAdvanced { source: source.clone(), lines });
        self.step(now).emit(Record::ImportEnded { source });
        self.commit().map_err(unwritten)?;
        if let Some(checkpoints) = &mut self.checkpoints {
            checkpoints.finish(&mut self.state, self.journal.as_mut());
        }
        Ok(messages)
    }

    /// Has a checkpoint written if one is due, and waits for it if no more messages fit before.
    fn make_room(&mut self) -> Result<(), OpenError> {
        let Some(checkpoints) = &mut self.checkpoints else { return Ok(()) };
        // Nobody waits to be woken: this is the thread that would be.
        let nobody = Arc::new(Inbox::new(0));
        checkpoints.tend(&mut self.state, self.journal.as_mut(), &nobody);
        while checkpoints.hold_back(&self.state, self.journal.as_ref()) {
            checkpoints.finish(&mut self.state, self.journal.as_mut());
            if checkpoints.are_stuck() {
                let source = std::io::Error::other("the checkpoint failed; the log has the reason");
                return Err(OpenError::Io { what: "cannot make room for more messages".into(), source });
            }
            checkpoints.tend(&mut self.state, self.journal.as_mut(), &nobody);
        }
        Ok(())
    }

    fn parse(&self, path: &Path, line: &[u8]) -> Result<Option<(Name, Sealed)>, ImportError> {
        parse(&self.state, &self.options, path, line)
    }
}

/// One pass over a file, and who is told of it.
struct Told<'a> {
    progress: ImportProgress<'a>,
    observer: &'a mut dyn ImportObserver,
}

impl<'a> Told<'a> {
    fn begin(path: &'a Path, pass: ImportPass, observer: &'a mut dyn ImportObserver) -> Result<Self, OpenError> {
        let bytes_total = std::fs::metadata(path).map_err(unreadable(path))?.len();
        let progress = ImportProgress { path, pass, bytes: 0, bytes_total, messages: 0 };
        observer.progress(progress);
        Ok(Self { progress, observer })
    }

    fn line(&mut self, line: &[u8], messages: usize) {
        self.progress.bytes += line.len() as u64;
        self.progress.messages += messages;
        self.observer.progress(self.progress);
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

/// Whatever stands in a line of a file that is taken over: refused by its field, or a message.
#[cfg(any(test, fuzzing))]
pub fn fuzz_line(bytes: &[u8]) {
    let read = parse(&State::default(), &Options::new("data"), Path::new("topic.jsonl"), bytes);
    if let Err(ImportError { problem }) = read {
        assert!(!problem.is_empty());
    }
}

fn read_lines(path: &Path, mut each: impl FnMut(usize, &[u8]) -> Result<(), OpenError>) -> Result<(), OpenError> {
    let mut reader = BufReader::new(File::open(path).map_err(unreadable(path))?);
    let mut line = Vec::new();
    for number in 1.. {
        line.clear();
        let bytes = (&mut reader).take(LINE_BYTES_MAX).read_until(b'\n', &mut line).map_err(unreadable(path))?;
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

fn unreadable(path: &Path) -> impl FnOnce(std::io::Error) -> OpenError + '_ {
    |source| OpenError::Io { what: format!("cannot read {}", path.display()), source }
}

fn unwritten(error: AppendError) -> OpenError {
    OpenError::Io { what: "cannot write to the journal".into(), source: std::io::Error::other(error) }
}

impl super::verbs::Step<'_> {
    fn import(&mut self, name: Name, message: Sealed) -> Result<(), super::EngineError> {
        let topic = match self.topic_named(&name)? {
            Some(topic) => topic,
            None => {
                self.check_room(1, 0)?;
                self.create_topic(name)
            }
        };
        let seq = self.state.topic(topic).map(|topic| topic.log.next).unwrap_or_default();
        self.emit(Record::Published { topic, seq, message });
        Ok(())
    }
}
