//! Opening an engine: lock, read the journal into a state, take over old files, start the commit thread.

use std::{
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::sync::watch;
use uuid::Uuid;

use super::{
    DamagedLines, Engine, ImportObserver, ImportReport, OpenError, Options, Shared,
    background::Checkpoints,
    checkpoint::CheckpointStore,
    commit::Committer,
    inbox::Inbox,
    journal::{
        Journal, Position, ReadError, RecordIter,
        file::{self, DirLock, FileJournal},
    },
    space::{Space, SpaceWatch},
    state::State,
    sync::{Mutex, thread},
};
use crate::model::AckKey;

/// What a start found in the journal, behind the last checkpoint.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Recovery {
    /// Frames read.
    pub frames: u64,
    /// Records applied.
    pub records: u64,
    /// Messages that are kept.
    pub messages: usize,
    /// Topics that are kept.
    pub topics: usize,
    /// How long it took.
    pub took: Duration,
    /// Files of the broker that this one replaces, taken over at this start.
    pub imported: Vec<ImportReport>,
}

/// A store that is open but not yet served.
struct Store {
    committer: Committer,
    /// Given back after the committer has ended, which may have a checkpoint under way.
    lock: DirLock,
    uuid: Uuid,
    key: AckKey,
    recovery: Recovery,
}

impl Engine {
    /// Opens the store in the data directory, making one if there is none; blocks until it can serve.
    ///
    /// # Errors
    /// [`OpenError`]; [`OpenError::is_held`] when another process has it open.
    pub fn open(options: Options) -> Result<Self, OpenError> {
        let mut store = open_store(options)?;
        store.recovery.imported = store.committer.import_data_dir()?;
        Ok(Self::start(store.committer, store.uuid, store.key, store.recovery, Some(store.lock)))
    }

    /// Takes over files of the broker that this one replaces, without serving; each is renamed when its messages are
    /// durable.
    ///
    /// # Errors
    /// [`OpenError`]; the files before the one that it names have been taken over.
    pub fn import(
        options: Options,
        files: &[PathBuf],
        damaged_lines: DamagedLines,
        observer: &mut dyn ImportObserver,
    ) -> Result<Vec<ImportReport>, OpenError> {
        let mut store = open_store(options)?;
        files.iter().map(|file| store.committer.import_file(file, damaged_lines, observer)).collect()
    }

    /// An engine over any journal, which nobody else has open.
    ///
    /// # Errors
    /// [`OpenError::Journal`] when the journal cannot be read.
    pub fn over(mut journal: Box<dyn Journal>, options: Options) -> Result<Self, OpenError> {
        let (state, recovery) = recover(journal.as_mut(), State::default(), Position::START)?;
        let committer = Committer::new(state, journal, options);
        Ok(Self::start(committer, Uuid::nil(), AckKey::new([0; 32]), recovery, None))
    }

    fn start(committer: Committer, uuid: Uuid, key: AckKey, recovery: Recovery, lock: Option<DirLock>) -> Self {
        let options = committer.options.clone();
        let inbox = Arc::new(Inbox::new(options.inbox_bytes));
        let space = committer.checkpoints.as_ref().map(Checkpoints::space);
        let (failing, failed) = watch::channel(false);
        let thread = {
            let inbox = Arc::clone(&inbox);
            let run = move || committer.run(&inbox, &failing);
            thread::Builder::new().name("commit".into()).spawn(run).expect("the system has a thread for the engine")
        };
        let thread = Mutex::new(Some(thread));
        let watch = space.as_ref().map(|space| SpaceWatch::start(Arc::clone(space), Arc::clone(&inbox)));
        let shared = Shared {
            inbox,
            failed,
            thread,
            options,
            store_uuid: uuid,
            ack_key: key,
            recovery,
            space,
            _watch: watch,
            _lock: lock,
        };
        Self { shared: Arc::new(shared) }
    }
}

fn open_store(options: Options) -> Result<Store, OpenError> {
    let lock = lock(&options)?;
    let disk = Arc::clone(&options.disk);
    let files = file::Options { file_bytes: options.journal_file_bytes };
    let mut journal = FileJournal::open(&options.data_dir, files, Arc::clone(&disk))?;
    let (uuid, key) = (journal.store_uuid(), AckKey::new(*journal.secret()));
    let (checkpoints, state, position) = CheckpointStore::open(disk, &options.data_dir, uuid)?;
    let (state, recovery) = recover(&mut journal, state, position)?;
    let checkpoints = checkpoints.with_segment_bytes(options.segment_bytes());
    let space = Space::new(Arc::clone(&options.disk), options.data_dir.clone(), options.free_bytes_min);
    let committer = Committer::new(state, Box::new(journal), options).with_checkpoints(checkpoints, Arc::new(space));
    Ok(Store { committer, lock, uuid, key, recovery })
}

/// Takes the lock. A directory that has one already is not looked at first, so that a standby can ask often.
fn lock(options: &Options) -> Result<DirLock, OpenError> {
    if !file::has_lock(&options.data_dir) {
        file::inspect(&*options.disk, &options.data_dir)?;
        return Ok(DirLock::acquire(&options.data_dir)?);
    }
    let lock = DirLock::acquire(&options.data_dir)?;
    file::inspect(&*options.disk, &options.data_dir)?;
    Ok(lock)
}

/// Applies every record that the journal has from `position` on to `state`.
fn recover(journal: &mut dyn Journal, mut state: State, position: Position) -> Result<(State, Recovery), OpenError> {
    let begun = Instant::now();
    let mut recovery = Recovery::default();
    journal.read(position, &mut |after, records| {
        recovery.frames += 1;
        let corrupt = |problem: String| ReadError::Corrupt {
            place: format!("the frame that ends at position {after}"),
            offset: after.0,
            problem,
        };
        for record in RecordIter::new(records) {
            let (time, record) = record.map_err(|e| corrupt(e.to_string()))?;
            state.apply(time, record).map_err(|e| corrupt(e.to_string()))?;
            recovery.records += 1;
        }
        Ok(())
    })?;
    state.take_stirred();
    state.forget_counts();
    state.forget_unfinished_import();
    recovery.messages = state.message_count();
    recovery.topics = state.topic_count();
    recovery.took = begun.elapsed();
    Ok((state, recovery))
}
