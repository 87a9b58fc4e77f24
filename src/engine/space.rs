//! Room on the disk: publishes are refused while there is little left, so that there is always room for what consumers
//! do, for the journal files that this takes, and for the checkpoints that free what was consumed.
//!
//! ```text
//!   free:   0 ──────────── reserve ─── reserve + a tenth ───────►
//!                low ◄───────┘               └───────► ample
//! ```
//!
//! Nothing here refuses or frees anything. Invariant: whoever asks gets the answer of the last look, without waiting.

use std::{
    path::PathBuf,
    sync::{
        Arc, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use tracing::{info, warn};

use super::{
    disk::{Disk, DiskSpace},
    inbox::Inbox,
    sync::{Condvar, JoinHandle, Mutex, thread},
};

/// How often it is looked. A broker that writes 250 MiB/s takes 63 MiB meanwhile, a fraction of any sensible reserve.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// The part of a file system that a reserve is at most, so that a small one can be used at all.
const RESERVE_PART_MAX: u64 = 4;

/// Whether there is room, as of the last look.
#[derive(Debug)]
pub(super) struct Space {
    disk: Arc<dyn Disk>,
    data_dir: PathBuf,
    /// What is asked for, in bytes.
    reserve_wanted: u64,
    is_low: AtomicBool,
    free: AtomicU64,
    reserve: AtomicU64,
}

/// How much room is missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StorageLow {
    /// Bytes that are free.
    pub free_bytes: u64,
    /// Bytes that are kept free for consumers and checkpoints.
    pub reserve_bytes: u64,
}

/// Whether room counts as low from now on.
fn judge(was_low: bool, space: DiskSpace, reserve: u64) -> bool {
    let enough = if was_low { reserve.saturating_add(reserve / 10) } else { reserve };
    space.free < enough
}

impl Space {
    pub(super) fn new(disk: Arc<dyn Disk>, data_dir: PathBuf, reserve_wanted: u64) -> Self {
        let (is_low, free, reserve) = (AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(reserve_wanted));
        Self { disk, data_dir, reserve_wanted, is_low, free, reserve }
    }

    /// What is missing, if anything is.
    pub(super) fn low(&self) -> Option<StorageLow> {
        self.is_low.load(Ordering::Acquire).then(|| StorageLow {
            free_bytes: self.free.load(Ordering::Relaxed),
            reserve_bytes: self.reserve.load(Ordering::Relaxed),
        })
    }

    /// Whether there is little room.
    pub(super) fn is_low(&self) -> bool {
        self.is_low.load(Ordering::Acquire)
    }

    /// Looks; answers whether that could be done.
    pub(super) fn look(&self) -> bool {
        let Ok(space) = self.disk.space(&self.data_dir) else { return false };
        let reserve = self.reserve_wanted.min(space.total / RESERVE_PART_MAX);
        self.free.store(space.free, Ordering::Relaxed);
        self.reserve.store(reserve, Ordering::Relaxed);
        let was_low = self.is_low();
        let is_low = judge(was_low, space, reserve);
        self.is_low.store(is_low, Ordering::Release);
        let (free_bytes, reserve_bytes) = (space.free, reserve);
        match (was_low, is_low) {
            (false, true) => warn!(free_bytes, reserve_bytes, "the disk is nearly full: publishes are refused"),
            (true, false) => info!(free_bytes, reserve_bytes, "there is room on the disk again: publishes are taken"),
            _ => {}
        }
        true
    }
}

/// The thread that looks; dropping it ends the thread, and waits for that.
#[derive(Debug)]
pub(super) struct SpaceWatch {
    is_over: Arc<(Mutex<bool>, Condvar)>,
    thread: Option<JoinHandle<()>>,
}

impl SpaceWatch {
    /// Looks at once, and then again and again. `inbox` is told when there is little room, so that what can be freed is.
    pub(super) fn start(space: Arc<Space>, inbox: Arc<Inbox>) -> Self {
        space.look();
        let is_over = Arc::new((Mutex::new(false), Condvar::new()));
        let end = Arc::clone(&is_over);
        let watch = move || {
            let mut could_look = true;
            loop {
                let (lock, changed) = &*end;
                let guard = lock.lock().unwrap_or_else(PoisonError::into_inner);
                let waited = changed.wait_timeout_while(guard, LOOK_EVERY, |is_over| !*is_over);
                if *waited.unwrap_or_else(PoisonError::into_inner).0 {
                    return;
                }
                let can_look = space.look();
                if could_look && !can_look {
                    warn!(path = %space.data_dir.display(), "cannot tell how much room the disk has");
                }
                could_look = can_look;
                if space.is_low() {
                    inbox.wake();
                }
            }
        };
        let builder = thread::Builder::new().name("space".to_owned());
        let thread = builder.spawn(watch).expect("the system has a thread for the engine");
        Self { is_over, thread: Some(thread) }
    }
}

impl Drop for SpaceWatch {
    fn drop(&mut self) {
        *self.is_over.0.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.is_over.1.notify_all();
        if let Some(thread) = self.thread.take() {
            // A thread that panicked has said so.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::disk::{Fault, FaultDisk, Op, Outcome, RealDisk, Times};

    #[test]
    fn room_is_low_below_the_reserve_and_ample_only_a_tenth_above_it() {
        let space = |free| DiskSpace { free, total: 10_000 };
        assert!(!judge(false, space(1000), 1000));
        assert!(judge(false, space(999), 1000));
        assert!(judge(true, space(1099), 1000));
        assert!(!judge(true, space(1100), 1000));
        assert!(!judge(false, space(0), 0) && !judge(true, space(0), 0), "no reserve, no protection");
    }

    #[test]
    fn the_reserve_is_a_quarter_of_a_small_disk_at_most_and_a_look_that_fails_changes_nothing() {
        let disk = FaultDisk::new(RealDisk);
        let space = Space::new(Arc::new(disk.clone()), PathBuf::from("."), 1000);
        disk.pretend(Some(DiskSpace { free: 249, total: 1000 }));
        assert!(space.look());
        assert_eq!(space.low(), Some(StorageLow { free_bytes: 249, reserve_bytes: 250 }));
        let outcome = Outcome::Error(std::io::ErrorKind::Other);
        disk.set(Fault { op: Op::Space, name_end: "", nth: 1, outcome, times: Times::Once });
        disk.pretend(Some(DiskSpace { free: 999, total: 1000 }));
        assert!(!space.look() && space.is_low());
        assert!(space.look() && !space.is_low());
    }
}
