//! The names of a checkpoint's files.

use std::{
    ffi::OsStr,
    path::{Path, PathBuf},
};

use super::SegmentId;

const MANIFEST_NAME: &str = "MANIFEST";
const MANIFEST_TMP_NAME: &str = "MANIFEST.tmp";
const SEGMENTS_NAME: &str = "segments";
pub(super) const SEGMENT_ENDING: &str = "seg";
pub(super) const IDS_ENDING: &str = "ids";

pub(in crate::engine) fn manifest_path(data_dir: &Path) -> PathBuf {
    data_dir.join(MANIFEST_NAME)
}

pub(super) fn manifest_tmp_path(data_dir: &Path) -> PathBuf {
    data_dir.join(MANIFEST_TMP_NAME)
}

pub(in crate::engine) fn segments_dir(data_dir: &Path) -> PathBuf {
    data_dir.join(SEGMENTS_NAME)
}

pub(in crate::engine) fn segment_path(data_dir: &Path, id: SegmentId) -> PathBuf {
    segments_dir(data_dir).join(format!("{id}.{SEGMENT_ENDING}"))
}

/// The segment that has a file of this name, whatever the name ends with.
pub(in crate::engine) fn segment_id(path: &Path) -> Option<SegmentId> {
    let stem = path.file_stem().and_then(|stem| stem.to_str());
    stem.and_then(|stem| u32::from_str_radix(stem, 16).ok()).map(SegmentId)
}

/// Where dedup ids are.
pub(super) fn ids_path(data_dir: &Path, id: SegmentId) -> PathBuf {
    segments_dir(data_dir).join(format!("{id}.{IDS_ENDING}"))
}

/// Where a damaged segment is set aside.
pub(super) fn damaged_path(data_dir: &Path, id: SegmentId) -> PathBuf {
    segments_dir(data_dir).join(format!("{id}.damaged"))
}

/// Whether a name in a data directory belongs to its checkpoints.
pub(in crate::engine) fn is_ours(name: &OsStr) -> bool {
    [MANIFEST_NAME, MANIFEST_TMP_NAME, SEGMENTS_NAME].iter().any(|ours| name == *ours)
}
