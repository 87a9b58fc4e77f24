//! The default journal: a ring of files on the local disk.
//!
//! One write and one fdatasync per frame, into files that were written from end to end before. It is no database: it
//! knows frames, not what they hold. The invariant: what `append` has answered is read again after any crash, and
//! nothing that it has not been given is. Damage that no crash explains stops the start; it is never skipped.
//!
//! ```text
//!   <data_dir>/LOCK                   lock          who writes here
//!              STORE                  store         which store this is, and its secret
//!              journal/<id>.wal       file_header   4 KiB: store, id, salt, first position
//!                                     frame_header  64 bytes, then records, padded to 4 KiB; and so on
//!              journal/<id>.spare     ring          waits to be used again
//!              journal/<id>.tmp       ring          being made
//! ```
//!
//! Ids are 16 hexadecimal digits and rise, with gaps. Each format has its ruler in the file named beside it.

mod cut;
mod data_dir;
mod defect;
mod error;
mod file_header;
mod file_id;
mod file_journal;
mod frame_header;
mod holder;
mod journal_file;
mod layout;
mod lock;
mod preparer;
mod recovery;
mod ring;
mod scan;
#[cfg(test)]
pub(in crate::engine) mod seeded;
mod store;
mod survey;
#[cfg(test)]
mod survey_tests;
mod tail;
#[cfg(test)]
mod testing;
mod walk;
mod writer;

pub(in crate::engine) use cut::{Cut, cut};
pub use data_dir::{DataDir, InspectError, inspect};
pub(in crate::engine) use data_dir::{Found, SET_ASIDE_NAME, classify, is_ours};
pub use defect::Defect;
pub use error::OpenError;
pub use file_journal::FileJournal;
pub use holder::Holder;
pub use layout::Options;
pub use lock::{DirLock, LockError, has_lock};
pub(in crate::engine) use store::journal_dir;
pub use store::store_uuid;
pub(in crate::engine) use survey::survey;
pub use survey::{HistoryEnd, JournalReport, StoreId, SurveyedFile};
pub use tail::Tail;
pub(in crate::engine) use walk::{Reach, Sighting};
