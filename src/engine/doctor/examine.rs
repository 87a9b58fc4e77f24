//! The examination: everything is looked at once, in the order in which a start would.

use std::{
    collections::BTreeSet,
    io,
    path::{Path, PathBuf},
    time::SystemTime,
};

use uuid::Uuid;

use super::{
    Checkpoint, Contents, Diagnosis, Directory, History, Plan, Problem, Remedy, WaitingFile,
    plan::Damage,
    read_only::{Cache, ReadOnly},
    replay::Replay,
};
use crate::engine::{
    OpenError, Options,
    checkpoint::{self, BlockError, Salvaged},
    disk::{Disk, RealDisk},
    import,
    journal::{
        Position,
        file::{self, DataDir, Found, Holder, JournalReport, Reach, Sighting, StoreId},
    },
    state::State,
};

/// What the names of files that have been taken over have in them; there may be a number behind it.
const TAKEN_OVER: &str = ".jsonl.imported";

/// How often a directory that a broker writes to is looked at until nothing in it has moved meanwhile.
const LOOKS_MAX: usize = 8;

/// Looks into the data directory of `options`, and changes nothing in it. Reads the last checkpoint and the journal behind
/// it, and takes as much memory as an engine that opens them.
#[must_use]
pub fn diagnose(options: &Options) -> Diagnosis {
    let mut looks = 1;
    loop {
        let before = files_of(&options.data_dir);
        let mut diagnosis = look(options, Beside::Anybody);
        // A checkpoint may have made one file do without another between the looks at both.
        let is_conclusive = diagnosis.is_healthy() || before == files_of(&options.data_dir);
        if is_conclusive {
            return diagnosis;
        }
        if looks == LOOKS_MAX {
            diagnosis.is_inconclusive = true;
            diagnosis.problems.clear();
            diagnosis.plan = None;
            diagnosis.problems_left_out = 0;
            return diagnosis;
        }
        looks += 1;
    }
}

/// The files that a broker replaces as it goes on: those of the journal, the segments and the manifest, by name and time.
fn files_of(data_dir: &Path) -> Vec<(PathBuf, Option<SystemTime>)> {
    let folders = [file::journal_dir(data_dir), checkpoint::segments_dir(data_dir)];
    let entries = folders.iter().filter_map(|folder| std::fs::read_dir(folder).ok()).flatten();
    let mut files: Vec<_> = entries.filter_map(|entry| Some((entry.ok()?.path(), None))).collect();
    let manifest = checkpoint::manifest_path(data_dir);
    let written_at = std::fs::metadata(&manifest).and_then(|file| file.modified()).ok();
    files.push((manifest, written_at));
    files.sort();
    files
}

/// Who may write to the directory while it is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Beside {
    Anybody,
    /// Whoever looks holds the lock.
    Nobody,
}

/// Looks once.
pub(super) fn look(options: &Options, beside: Beside) -> Diagnosis {
    let mut diagnosis = Diagnosis {
        data_dir: options.data_dir.clone(),
        directory: Directory::Empty,
        holder: Holder::Never,
        checkpoint: None,
        journal: JournalReport::default(),
        readable: History::default(),
        behind: History::default(),
        contents: Contents::default(),
        waiting: Vec::new(),
        taken_over: Vec::new(),
        others: Vec::new(),
        problems: Vec::new(),
        problems_left_out: 0,
        plan: None,
        remedies: BTreeSet::new(),
        is_inconclusive: false,
    };
    diagnosis.directory = look_at_names(&mut diagnosis);
    let state = match diagnosis.directory {
        Directory::Missing | Directory::Unreadable | Directory::Foreign => return diagnosis,
        Directory::Empty => State::default(),
        Directory::Ours => {
            if beside == Beside::Anybody {
                look_at_holder(&mut diagnosis);
            }
            look_at_journal(&mut diagnosis, beside)
        }
    };
    look_at_other_files(&mut diagnosis, options, &state);
    diagnosis
}

fn look_at_names(diagnosis: &mut Diagnosis) -> Directory {
    let path = diagnosis.data_dir.clone();
    match file::classify(&path) {
        Ok(Found::Usable(DataDir::Ours)) => Directory::Ours,
        Ok(Found::Usable(DataDir::Empty)) => Directory::Empty,
        Ok(Found::Foreign(found)) => {
            diagnosis.add(Problem::Foreign { path, found });
            Directory::Foreign
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            diagnosis.add(Problem::NoDirectory { path });
            Directory::Missing
        }
        Err(source) => {
            diagnosis.add(Problem::Unreadable { path, source });
            Directory::Unreadable
        }
    }
}

fn look_at_holder(diagnosis: &mut Diagnosis) {
    match Holder::look(&diagnosis.data_dir) {
        Ok(holder) => diagnosis.holder = holder,
        Err((path, source)) => diagnosis.add(Problem::Unreadable { path, source }),
    }
}

fn look_at_journal(diagnosis: &mut Diagnosis, beside: Beside) -> State {
    let cache = match (beside, &diagnosis.holder) {
        (Beside::Nobody, _) => Cache::WrittenOut,
        (Beside::Anybody, Holder::Process { .. } | Holder::Untold { .. }) => Cache::Kept,
        (Beside::Anybody, Holder::Never | Holder::NoneSeen { .. }) => Cache::Dropped,
    };
    let disk = ReadOnly::new(RealDisk, cache);
    let data_dir = diagnosis.data_dir.clone();
    let mut damage = Damage::default();
    let (mut replay, from) = match look_at_checkpoint(diagnosis, &disk, &mut damage) {
        Some((state, position)) => (Replay::on(state), Some(position)),
        None => (Replay::default(), None),
    };
    let journal = file::survey(&disk, &data_dir, from, &mut |sighting| match sighting {
        Sighting::Defect(defect) => diagnosis.add(defect.into()),
        Sighting::Frame { path, offset, end, reach, records } => {
            match (replay.frame(path, offset, reach, records), reach) {
                (Ok(()), _) => {}
                (Err(problem), Reach::Whole) => diagnosis.add(problem),
                (Err(problem), Reach::Behind) => diagnosis.add_behind(problem),
            }
            if reach == Reach::Whole {
                damage.whole = Some((path.to_path_buf(), end));
            }
        }
    });
    diagnosis.journal = journal;
    diagnosis.contents = Contents::of(&replay.state);
    (diagnosis.readable, diagnosis.behind) = (replay.readable, replay.behind);
    if let (Some(from), StoreId::Named(store)) = (from, diagnosis.journal.store) {
        look_for_a_remedy(diagnosis, &disk, store, from, &damage, &replay.state);
    }
    replay.state
}

/// Works out what a repair would do, if it could do all that is needed.
fn look_for_a_remedy(
    diagnosis: &mut Diagnosis,
    disk: &dyn Disk,
    store: Uuid,
    from: Position,
    damage: &Damage,
    state: &State,
) {
    let is_asked_for = |remedy| diagnosis.remedies.contains(&remedy);
    let needs_one = is_asked_for(Remedy::EndHistory) || is_asked_for(Remedy::Without);
    if !needs_one || is_asked_for(Remedy::None) {
        return;
    }
    match Plan::make(diagnosis, disk, store, from, damage, state) {
        Ok(plan) => diagnosis.plan = Some(plan),
        Err(source) => diagnosis.add(Problem::Unreadable { path: file::journal_dir(&diagnosis.data_dir), source }),
    }
}

/// The state of the last checkpoint, and from where the journal is read; `None` if it cannot be used.
fn look_at_checkpoint(diagnosis: &mut Diagnosis, disk: &dyn Disk, damage: &mut Damage) -> Option<(State, Position)> {
    let data_dir = diagnosis.data_dir.clone();
    let Ok(Some(store)) = file::store_uuid(&data_dir) else {
        // That STORE cannot be read is told with the journal. Without it a checkpoint cannot be judged.
        return (!checkpoint::is_there(disk, &data_dir)).then(|| (State::default(), Position::START));
    };
    match checkpoint::salvage(disk, &data_dir, store) {
        Ok(Salvaged { loaded, unusable }) => {
            for (_, error) in unusable {
                let problem = Problem::from(error);
                damage.unusable.push(problem.path().to_path_buf());
                diagnosis.add(problem);
            }
            let (segments, messages) = (loaded.state.segments.ids().len(), loaded.state.message_count());
            for segment in &loaded.mended {
                diagnosis.add(Problem::DamagedIndex { path: checkpoint::segment_path(&data_dir, *segment) });
            }
            look_at_blocks(diagnosis, disk, &loaded.state);
            if loaded.position > Position::START {
                diagnosis.checkpoint = Some(Checkpoint { position: loaded.position, segments, messages });
            }
            Some((loaded.state, loaded.position))
        }
        Err(error) => {
            diagnosis.add(error.into());
            None
        }
    }
}

/// Reads every message that stands in a segment.
fn look_at_blocks(diagnosis: &mut Diagnosis, disk: &dyn Disk, state: &State) {
    let data_dir = diagnosis.data_dir.clone();
    for block in state.segments.blocks() {
        let path = checkpoint::segment_path(&data_dir, block.segment);
        match checkpoint::load_block(disk, &data_dir, &block) {
            Ok(loaded) if loaded.damaged == 0 => {}
            Ok(loaded) => {
                let (offset, messages) = (block.offset, loaded.damaged);
                diagnosis.add(Problem::DamagedMessages { path, offset, messages });
            }
            Err(BlockError::Io(source)) => diagnosis.add(Problem::Unreadable { path, source }),
            Err(BlockError::NotThere) => {
                diagnosis.add(Problem::Unreadable { path, source: io::ErrorKind::NotFound.into() });
            }
        }
    }
}

fn look_at_other_files(diagnosis: &mut Diagnosis, options: &Options, state: &State) {
    let dir = diagnosis.data_dir.clone();
    let mut names = match ReadOnly::new(RealDisk, Cache::Kept).list(&dir) {
        Ok(names) => names,
        Err(source) => return diagnosis.add(Problem::Unreadable { path: dir, source }),
    };
    names.sort();
    for name in names {
        let path = dir.join(&name);
        if path.extension().is_some_and(|ending| ending == import::ENDING) {
            look_at_waiting_file(diagnosis, options, state, &path);
        } else if name.as_encoded_bytes().windows(TAKEN_OVER.len()).any(|part| part == TAKEN_OVER.as_bytes()) {
            diagnosis.taken_over.push(path);
        } else if !file::is_ours(&dir, &name) && !checkpoint::is_ours(&name) {
            diagnosis.others.push(path);
        }
    }
}

fn look_at_waiting_file(diagnosis: &mut Diagnosis, options: &Options, state: &State, path: &Path) {
    match import::check(state, options, path) {
        Ok(check) => {
            let (messages, damaged, is_stored) = (check.messages, check.damaged, check.is_stored);
            diagnosis.waiting.push(WaitingFile { path: path.to_path_buf(), messages, damaged, is_stored });
            if let Some((line, problem)) = check.first_damage {
                diagnosis.add(Problem::Line { path: path.to_path_buf(), line, problem });
            }
        }
        Err(OpenError::Io { source, .. }) => diagnosis.add(Problem::Unreadable { path: path.to_path_buf(), source }),
        Err(error) => {
            let source = io::Error::other(error);
            diagnosis.add(Problem::Unreadable { path: path.to_path_buf(), source });
        }
    }
}
