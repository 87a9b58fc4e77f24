//! The number of a journal file, and the names that files have in the journal's folder.

use std::{
    ffi::OsStr,
    fmt,
    path::{Path, PathBuf},
};

/// Counts the journal files of a store. Never used again, also when the file itself is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct FileId(u64);

/// What the end of a name says about a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// `.wal`: a part of the journal.
    Journal,
    /// `.spare`: was a part of the journal, waits to become one again. What it holds means nothing.
    Spare,
    /// `.tmp`: in the making, worthless after a crash.
    Unfinished,
}

impl FileId {
    pub(super) const FIRST: Self = Self(1);

    /// `None` for 0, which stands for "no file" on disk.
    pub(super) fn new(id: u64) -> Option<Self> {
        (id > 0).then_some(Self(id))
    }

    pub(super) fn get(self) -> u64 {
        self.0
    }

    pub(super) fn next(self) -> Self {
        Self(self.0.checked_add(1).expect("file ids are not used up in a store's life"))
    }

    pub(super) fn path(self, dir: &Path, role: Role) -> PathBuf {
        dir.join(format!("{self}.{}", role.extension()))
    }

    /// Reads a name that [`FileId::path`] made; `None` for every other.
    pub(super) fn parse(name: &OsStr) -> Option<(Self, Role)> {
        let (digits, extension) = name.to_str()?.split_once('.')?;
        let role = [Role::Journal, Role::Spare, Role::Unfinished].into_iter().find(|r| r.extension() == extension)?;
        let id = Self::new(u64::from_str_radix(digits, 16).ok()?)?;
        (id.to_string() == digits).then_some((id, role))
    }
}

impl fmt::Display for FileId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl Role {
    fn extension(self) -> &'static str {
        match self {
            Self::Journal => "wal",
            Self::Spare => "spare",
            Self::Unfinished => "tmp",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_reads_back_as_what_made_it_and_no_other_name_does() {
        let id = FileId(0xab);
        assert_eq!(id.path(Path::new("j"), Role::Spare), Path::new("j/00000000000000ab.spare"));
        assert_eq!(FileId::parse(OsStr::new("00000000000000ab.wal")), Some((id, Role::Journal)));
        for name in [
            "00000000000000AB.wal",
            "ab.wal",
            "0000000000000000.wal",
            "00000000000000ab.wal.tmp",
            "+0000000000000ab.wal",
        ] {
            assert_eq!(FileId::parse(OsStr::new(name)), None, "{name}");
        }
    }
}
