//! The sizes of the journal's files, and how they hang together.

/// The unit in which frames are laid out, in bytes: the page of the cache and the largest sector in use, so that writing
/// a frame never rewrites a sector that holds an acknowledged one.
pub(super) const PAGE_BYTES: u64 = 4 << 10;

/// A file's header has a page of its own, for the same reason.
pub(super) const FILE_HEADER_BYTES: u64 = PAGE_BYTES;

/// The default length of a journal file: long enough that a switch is rare (one in 250 frames of 256 KiB), short enough
/// that four of them are no burden.
const FILE_BYTES_DEFAULT: u64 = 64 << 20;

/// The least that still shows every behaviour: a header and room for three frames of a page.
const FILE_BYTES_MIN: u64 = 4 * PAGE_BYTES;

/// The largest frame, with its header and padding: a body of 16 MiB, the largest that goes inline, and what goes with it.
pub(super) const FRAME_BYTES_MAX: u64 = 17 << 20;

const _: () = assert!(
    FILE_BYTES_DEFAULT - FILE_HEADER_BYTES >= 3 * FRAME_BYTES_MAX,
    "a frame that does not fit any more must not waste more than about a quarter of a file"
);
const _: () = assert!(FRAME_BYTES_MAX.is_multiple_of(PAGE_BYTES) && FILE_BYTES_DEFAULT.is_multiple_of(PAGE_BYTES));
const _: () = assert!(FRAME_BYTES_MAX <= u32::MAX as u64, "a frame's length is a u32 on disk");

/// How the files of a journal are made. Files that exist already keep the length they have.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// The length of a new file, in bytes: a multiple of 4 KiB, at least 16 KiB, 64 MiB by default. No frame can be
    /// longer than what a file holds.
    pub file_bytes: u64,
}

impl Options {
    pub(super) fn are_valid(self) -> bool {
        self.file_bytes >= FILE_BYTES_MIN && self.file_bytes.is_multiple_of(PAGE_BYTES)
    }
}

impl Default for Options {
    fn default() -> Self {
        Self { file_bytes: FILE_BYTES_DEFAULT }
    }
}
