//! The file `STORE`: which store this is, and the secret that signs its ack ids.
//!
//! ```text
//! 0        8         12     16     32       64       68
//! | magic  | version | 0    | uuid | secret | crc32c |
//! | 8 × u8 | u32     | u32  |      | 32 × u8| u32    |
//! ```
//!
//! Little-endian; the checksum covers everything in front of it. Written once and never again. It is the last thing that
//! is made when a store comes into being, so where it stands, the folder of the journal does too.

use std::{
    fmt, io,
    path::{Path, PathBuf},
};

use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use super::{super::super::disk::Disk, error::OpenError, file_id::FileId};
use crate::engine::disk::{DiskFile, RealDisk};

const MAGIC: [u8; 8] = *b"CAMPSTOR";
const VERSION: u32 = 1;
const SECRET_BYTES: usize = 32;
const COVERED_BYTES: usize = 64;
const STORE_BYTES: usize = COVERED_BYTES + 4;

const STORE_NAME: &str = "STORE";
const STORE_TMP_NAME: &str = "STORE.tmp";
const JOURNAL_NAME: &str = "journal";

/// Which store this is.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Store {
    pub(super) uuid: Uuid,
    pub(super) secret: [u8; SECRET_BYTES],
}

/// The file `STORE` in a data directory.
pub(super) fn store_path(data_dir: &Path) -> PathBuf {
    data_dir.join(STORE_NAME)
}

/// The folder of the journal's files in a data directory.
pub(in crate::engine) fn journal_dir(data_dir: &Path) -> PathBuf {
    data_dir.join(JOURNAL_NAME)
}

/// The id of the store in a data directory, without opening it; `None` when there is none yet.
///
/// # Errors
/// The system's answer; `InvalidData` when the file is damaged or of another version.
pub fn store_uuid(data_dir: &Path) -> io::Result<Option<Uuid>> {
    match Store::load(&RealDisk, data_dir) {
        Ok(store) => Ok(store.map(|store| store.uuid)),
        Err(OpenError::Io { source, .. }) => Err(source),
        Err(error) => Err(io::Error::new(io::ErrorKind::InvalidData, error)),
    }
}

impl Store {
    /// The store in `data_dir`, made now if there is none. What stands in that folder is durable when it returns: whoever
    /// put it there may have been killed before it was.
    pub(super) fn open_or_create(disk: &dyn Disk, data_dir: &Path) -> Result<Self, OpenError> {
        match Self::load(disk, data_dir)? {
            Some(store) => {
                disk.sync_dir(data_dir).map_err(OpenError::io("sync", data_dir))?;
                Ok(store)
            }
            None => Self::create(disk, data_dir),
        }
    }

    /// The store in `data_dir`, if there is one.
    pub(super) fn load(disk: &dyn Disk, data_dir: &Path) -> Result<Option<Self>, OpenError> {
        let path = store_path(data_dir);
        let file = match disk.open_read(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(OpenError::io("open", &path)(error)),
        };
        let mut bytes = [0; STORE_BYTES];
        file.read_exact_at(&mut bytes, 0).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => OpenError::Damaged { path: path.clone(), problem: "it is too short" },
            _ => OpenError::io("read", &path)(error),
        })?;
        Self::decode(&bytes, &path).map(Some)
    }

    fn create(disk: &dyn Disk, data_dir: &Path) -> Result<Self, OpenError> {
        let (path, tmp, journal) = (store_path(data_dir), data_dir.join(STORE_TMP_NAME), journal_dir(data_dir));
        let store = Self { uuid: Uuid::new_v4(), secret: new_secret() };
        match disk.create_dir(&journal) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => refuse_journal_of_another(disk, data_dir)?,
            made => made.map_err(OpenError::io("make", &journal))?,
        }
        disk.sync_dir(data_dir).map_err(OpenError::io("sync", data_dir))?;
        match disk.remove(&tmp) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(OpenError::io("remove", &tmp)(error)),
            _ => {}
        }
        let file = disk.create(&tmp).map_err(OpenError::io("make", &tmp))?;
        write_and_sync(&*file, &store.encode()).map_err(OpenError::io("write", &tmp))?;
        disk.rename(&tmp, &path).map_err(OpenError::io("rename", &tmp))?;
        disk.sync_dir(data_dir).map_err(OpenError::io("sync", data_dir))?;
        Ok(store)
    }

    fn encode(&self) -> [u8; STORE_BYTES] {
        let mut bytes = [0; STORE_BYTES];
        bytes[..8].copy_from_slice(&MAGIC);
        bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
        bytes[16..32].copy_from_slice(self.uuid.as_bytes());
        bytes[32..COVERED_BYTES].copy_from_slice(&self.secret);
        let crc = crc32c::crc32c(&bytes[..COVERED_BYTES]);
        bytes[COVERED_BYTES..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    fn decode(bytes: &[u8; STORE_BYTES], path: &Path) -> Result<Self, OpenError> {
        let damaged = |problem| OpenError::Damaged { path: path.to_path_buf(), problem };
        let u32_at = |at: usize| bytes[at..at + 4].try_into().map(u32::from_le_bytes).expect("4 bytes");
        if bytes[..8] != MAGIC {
            return Err(damaged("it does not begin as one"));
        }
        match u32_at(8) {
            VERSION => {}
            found => return Err(OpenError::Version { path: path.to_path_buf(), found, known: VERSION }),
        }
        if u32_at(COVERED_BYTES) != crc32c::crc32c(&bytes[..COVERED_BYTES]) {
            return Err(damaged("its checksum does not match"));
        }
        let uuid = bytes[16..32].try_into().map(Uuid::from_bytes).expect("16 bytes");
        Ok(Self { uuid, secret: bytes[32..COVERED_BYTES].try_into().expect("32 bytes") })
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").field("uuid", &self.uuid).finish_non_exhaustive()
    }
}

/// Journal files without the `STORE` they were made for must not be taken for a new store's.
fn refuse_journal_of_another(disk: &dyn Disk, data_dir: &Path) -> Result<(), OpenError> {
    let journal = journal_dir(data_dir);
    for name in disk.list(&journal).map_err(OpenError::io("list", &journal))? {
        if FileId::parse(&name).is_some() {
            return Err(OpenError::Missing { path: store_path(data_dir), needed_by: journal.join(name) });
        }
    }
    Ok(())
}

fn write_and_sync(file: &dyn DiskFile, bytes: &[u8]) -> io::Result<()> {
    file.write_all_at(bytes, 0)?;
    file.sync_data()
}

/// 32 bytes that nobody can guess: three random UUIDs hold 366 random bits.
fn new_secret() -> [u8; SECRET_BYTES] {
    (0..3).fold(Sha256::new(), |hash, _| hash.chain_update(Uuid::new_v4().as_bytes())).finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    type TestResult = Result<(), Box<dyn std::error::Error>>;

    #[test]
    fn a_store_is_made_once_and_found_ever_after() -> TestResult {
        let dir = tempfile::tempdir()?;
        assert_eq!(store_uuid(dir.path())?, None);
        std::fs::write(dir.path().join(STORE_TMP_NAME), "left by a crash")?;
        let made = Store::open_or_create(&RealDisk, dir.path())?;
        assert_eq!(Store::open_or_create(&RealDisk, dir.path())?, made);
        assert_eq!(store_uuid(dir.path())?, Some(made.uuid));
        assert!(!format!("{made:?}").contains("secret"));
        assert_ne!(new_secret(), new_secret());
        Ok(())
    }

    #[test]
    fn the_format_is_the_one_that_was_written_before() {
        let store = Store { uuid: Uuid::from_u128(1), secret: [7; SECRET_BYTES] };
        let bytes = store.encode();
        assert_eq!(&bytes[..16], b"CAMPSTOR\x01\0\0\0\0\0\0\0");
        assert_eq!(bytes[31..33], [1, 7]);
        assert_eq!(bytes[64..], [14, 159, 22, 58]);
    }

    #[test]
    fn damage_another_version_and_a_lost_file_are_refused() -> TestResult {
        let dir = tempfile::tempdir()?;
        let path = store_path(dir.path());
        Store::open_or_create(&RealDisk, dir.path())?;
        let good = std::fs::read(&path)?;
        for byte in 0..good.len() {
            let mut bytes = good.clone();
            bytes[byte] ^= 0x10;
            std::fs::write(&path, &bytes)?;
            match Store::open_or_create(&RealDisk, dir.path()) {
                Err(OpenError::Version { .. }) => assert!((8..12).contains(&byte)),
                Err(OpenError::Damaged { .. }) => {}
                other => panic!("byte {byte}: {other:?}"),
            }
        }
        std::fs::write(&path, &good[..STORE_BYTES - 1])?;
        assert_eq!(store_uuid(dir.path()).expect_err("short").kind(), io::ErrorKind::InvalidData);
        std::fs::remove_file(&path)?;
        assert!(Store::open_or_create(&RealDisk, dir.path()).is_ok(), "an empty journal is nobody's");
        std::fs::remove_file(&path)?;
        std::fs::write(FileId::FIRST.path(&journal_dir(dir.path()), super::super::file_id::Role::Journal), "")?;
        assert!(matches!(Store::open_or_create(&RealDisk, dir.path()), Err(OpenError::Missing { .. })));
        Ok(())
    }
}
