//! Who holds the lock on a data directory, told without asking for the lock: even a short hold could make a broker that
//! starts at that moment believe that somebody else is there.
//!
//! Linux lists the locks of all processes that one can see in `/proc/locks`. Processes in other containers and on other
//! machines are not among them, so nobody seen is no proof of nobody there.

use std::{
    fs::File,
    io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use super::lock::{LOCK_NAME, holder};

/// Where the system lists them: `1: FLOCK  ADVISORY  WRITE <pid> <major>:<minor>:<inode> 0 EOF`.
const LOCKS_PATH: &str = "/proc/locks";

/// Who holds the lock on a data directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Holder {
    /// It was never locked.
    Never,
    /// A process.
    Process {
        /// Its number.
        pid: u32,
    },
    /// No process that can be seen from here.
    NoneSeen {
        /// Who held it last.
        last: String,
    },
    /// The system does not tell.
    Untold {
        /// Who held it last, or holds it now.
        last: String,
    },
}

impl Holder {
    /// Looks who holds the lock on the folder `data_dir`.
    ///
    /// # Errors
    /// The path that cannot be read, with the system's answer.
    pub(in crate::engine) fn look(data_dir: &Path) -> Result<Self, (PathBuf, io::Error)> {
        let path = data_dir.join(LOCK_NAME);
        let look = || -> io::Result<Self> {
            let file = File::open(&path)?;
            let last = holder(&file)?;
            let Ok(locks) = std::fs::read_to_string(LOCKS_PATH) else { return Ok(Self::Untold { last }) };
            let file = file.metadata()?;
            let device = (rustix::fs::major(file.dev()), rustix::fs::minor(file.dev()));
            let pid = held_by(&locks, device, file.ino(), &last);
            Ok(pid.map_or(Self::NoneSeen { last }, |pid| Self::Process { pid }))
        };
        match look() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self::Never),
            looked => looked.map_err(|error| (path, error)),
        }
    }
}

/// Who, by a list of locks, holds the one on a file into which its last holder wrote `last`.
fn held_by(locks: &str, device: (u32, u32), inode: u64, last: &str) -> Option<u32> {
    let is_on_the_file = |lock: &Lock| {
        // Some file systems list another device than they answer for the file; then what the holder wrote counts.
        lock.inode == inode && (lock.device == device || last == format!("pid {}", lock.pid))
    };
    locks.lines().filter_map(parse).find(is_on_the_file).map(|lock| lock.pid)
}

struct Lock {
    pid: u32,
    device: (u32, u32),
    inode: u64,
}

/// A line about a lock of the kind that [`DirLock`](super::DirLock) takes, and that was granted.
fn parse(line: &str) -> Option<Lock> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let ["FLOCK", _, "WRITE", pid, place, ..] = fields.get(1..)? else { return None };
    let mut place = place.split(':');
    let major = u32::from_str_radix(place.next()?, 16).ok()?;
    let minor = u32::from_str_radix(place.next()?, 16).ok()?;
    Some(Lock { pid: pid.parse().ok()?, device: (major, minor), inode: place.next()?.parse().ok()? })
}

#[cfg(test)]
mod tests {
    use super::{super::DirLock, *};

    type TestResult = Result<(), Box<dyn std::error::Error>>;

    fn look(dir: &Path) -> io::Result<Holder> {
        Holder::look(dir).map_err(|(_, error)| error)
    }

    #[test]
    fn the_holder_is_seen_without_being_disturbed() -> TestResult {
        let dir = tempfile::tempdir()?;
        assert_eq!(look(dir.path())?, Holder::Never);
        let lock = DirLock::acquire(dir.path())?;
        let pid = std::process::id();
        match look(dir.path())? {
            Holder::Process { pid: seen } => assert_eq!(seen, pid),
            other => assert!(!Path::new(LOCKS_PATH).exists(), "{other:?}"),
        }
        drop(lock);
        let last = format!("pid {pid}");
        let free = look(dir.path())?;
        assert!(free == Holder::NoneSeen { last: last.clone() } || free == Holder::Untold { last }, "{free:?}");
        Ok(())
    }

    #[test]
    fn a_lock_counts_that_is_on_the_file_or_on_its_number_by_who_wrote_into_it() {
        let seen = |place: &str, last: &str| {
            let locks =
                format!("1: FLOCK  ADVISORY  WRITE 7 00:2d:4331 0 EOF\n2: FLOCK  ADVISORY  WRITE 8 {place} 0 EOF\n");
            held_by(&locks, (0xfe, 1), 99, last)
        };
        assert_eq!(seen("fe:01:99", "pid 7"), Some(8));
        assert_eq!(seen("00:2e:99", "pid 8"), Some(8), "another device than the file says");
        assert_eq!(seen("00:2e:99", "pid 7"), None, "the same number on another device");
        assert_eq!(seen("fe:01:98", "pid 8"), None, "another file");
    }

    #[test]
    fn a_lock_that_cannot_be_read_is_none_that_never_was() -> TestResult {
        let dir = tempfile::tempdir()?;
        std::fs::create_dir(dir.path().join(LOCK_NAME))?;
        let (path, _) = Holder::look(dir.path()).expect_err("a folder in its place");
        assert_eq!(path, dir.path().join(LOCK_NAME));
        Ok(())
    }

    #[test]
    fn only_granted_locks_of_the_kind_in_use_count() {
        let lock = parse("3: FLOCK  ADVISORY  WRITE 22185 fe:0a:10010644 0 EOF").expect("a lock");
        assert_eq!((lock.pid, lock.device, lock.inode), (22185, (0xfe, 10), 10_010_644));
        for other in [
            "3: -> FLOCK  ADVISORY  WRITE 22185 fe:00:10010644 0 EOF",
            "1: POSIX  ADVISORY  WRITE 3548 00:2d:4331 0 EOF",
            "9: OFDLCK ADVISORY  READ -1 00:06:3 0 EOF",
            "3: FLOCK  ADVISORY  WRITE",
            "",
        ] {
            assert!(parse(other).is_none(), "{other}");
        }
    }
}
