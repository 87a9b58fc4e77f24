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
    /// The last look could be had.
    is_known: AtomicBool,
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
        let (is_low, is_known) = (AtomicBool::new(false), AtomicBool::new(true));
        let (free, reserve) = (AtomicU64::new(0), AtomicU64::new(reserve_wanted));
        Self { disk, data_dir, reserve_wanted, is_low, is_known, free, reserve }
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
        let looked = self.disk.space(&self.data_dir);
        let was_known = self.is_known.swap(looked.is_ok(), Ordering::Relaxed);
        let space = match looked {
            Ok(space) => space,
            Err(error) => {
                if was_known {
                    let (path, error) = (self.data_dir.display(), &error as &dyn std::error::Error);
                    warn!(%path, error, "cannot tell how much room the disk has");
                }
                return false;
            }
        };
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
            loop {
                let (lock, changed) = &*end;
                let guard = lock.lock().unwrap_or_else(PoisonError::into_inner);
                let waited = changed.wait_timeout_while(guard, LOOK_EVERY, |is_over| !*is_over);
                if *waited.unwrap_or_else(PoisonError::into_inner).0 {
                    return;
                }
                space.look();
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
    /// What is logged, without the fields.
    #[derive(Clone, Default)]
    struct Log(Arc<std::sync::Mutex<Vec<String>>>);

    impl tracing::field::Visit for Log {
        fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn std::fmt::Debug) {
            if field.name() == "message" {
                self.0.lock().expect("nobody panics with it in hand").push(format!("{value:?}"));
            }
        }
    }

    impl tracing::Subscriber for Log {
        fn enabled(&self, _: &tracing::Metadata<'_>) -> bool {
            true
        }

        fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
            tracing::span::Id::from_u64(1)
        }

        fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}

        fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}

        fn event(&self, event: &tracing::Event<'_>) {
            event.record(&mut self.clone());
        }

        fn enter(&self, _: &tracing::span::Id) {}

        fn exit(&self, _: &tracing::span::Id) {}
    }

    #[test]
    fn an_operator_is_told_once_of_each_change() {
        let disk = FaultDisk::new(RealDisk);
        let space = Space::new(Arc::new(disk.clone()), PathBuf::from("."), 1000);
        let log = Log::default();
        tracing::subscriber::with_default(log.clone(), || {
            for free in [2000, 2000, 999, 999, 1050, 2000, 2000, 999] {
                disk.pretend(Some(DiskSpace { free, total: 10_000 }));
                space.look();
            }
            for _ in 0..2 {
                let outcome = Outcome::Error(std::io::ErrorKind::Other);
                disk.set(Fault { op: Op::Space, name_end: "", nth: 1, outcome, times: Times::Always });
                assert!(!space.look() && !space.look());
                disk.heal();
                space.look();
            }
        });
        let told: Vec<_> = log.0.lock().expect("nobody panics with it in hand").drain(..).collect();
        let kinds = ["nearly full", "there is room", "nearly full", "cannot tell", "cannot tell"];
        assert!(told.len() == 5 && told.iter().zip(kinds).all(|(line, kind)| line.contains(kind)), "{told:?}");
    }

    #[test]
    fn nobody_looks_any_more_when_the_watch_has_ended() {
        let space = Arc::new(Space::new(Arc::new(RealDisk), PathBuf::from("."), 1000));
        let watch = SpaceWatch::start(Arc::clone(&space), Arc::new(Inbox::new(1 << 20)));
        assert_eq!(Arc::strong_count(&space), 2);
        drop(watch);
        assert_eq!(Arc::strong_count(&space), 1);
    }
}
