//! The threads that load blocks. Their queue is bounded by who asks: the receives that may wait, and what is read ahead.

use std::{
    collections::VecDeque,
    path::PathBuf,
    sync::{Arc, PoisonError},
};

use crate::engine::{
    checkpoint::{Block, BlockError, LoadedBlock, load_block},
    disk::Disk,
    inbox::Inbox,
    sync::{Condvar, JoinHandle, Mutex, MutexGuard, thread},
};

/// Enough to keep a disk busy while one block is verified.
const THREAD_COUNT: usize = 2;

type Loaded = (Block, Result<LoadedBlock, BlockError>);

/// The owner of the threads; dropping it ends them, and waits for that.
#[derive(Debug)]
pub(super) struct Threads {
    desk: Arc<Desk>,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Debug)]
struct Desk {
    disk: Arc<dyn Disk>,
    data_dir: PathBuf,
    inbox: Arc<Inbox>,
    papers: Mutex<Papers>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Papers {
    wanted: VecDeque<Block>,
    loaded: Vec<Loaded>,
    is_closed: bool,
}

impl Threads {
    pub(super) fn start(disk: Arc<dyn Disk>, data_dir: PathBuf, inbox: Arc<Inbox>) -> Self {
        let (papers, changed) = (Mutex::default(), Condvar::new());
        let desk = Arc::new(Desk { disk, data_dir, inbox, papers, changed });
        let thread = |_| {
            let desk = Arc::clone(&desk);
            let builder = thread::Builder::new().name("read".to_owned());
            builder.spawn(move || desk.work()).expect("the system has a thread for the engine")
        };
        let threads = (0..THREAD_COUNT).map(thread).collect();
        Self { desk, threads }
    }

    pub(super) fn load(&self, block: Block) {
        self.desk.papers().wanted.push_back(block);
        self.desk.changed.notify_one();
    }

    pub(super) fn collect(&self) -> Vec<Loaded> {
        std::mem::take(&mut self.desk.papers().loaded)
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        self.desk.papers().is_closed = true;
        self.desk.changed.notify_all();
        for thread in self.threads.drain(..) {
            // A thread that panicked has said so.
            let _ = thread.join();
        }
    }
}

impl Desk {
    fn work(&self) {
        loop {
            let mut papers = self.papers();
            let block = loop {
                if papers.is_closed {
                    return;
                }
                match papers.wanted.pop_front() {
                    Some(block) => break block,
                    None => papers = self.changed.wait(papers).unwrap_or_else(PoisonError::into_inner),
                }
            };
            drop(papers);
            let loaded = load_block(&*self.disk, &self.data_dir, &block);
            self.papers().loaded.push((block, loaded));
            self.inbox.wake();
        }
    }

    fn papers(&self) -> MutexGuard<'_, Papers> {
        self.papers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
