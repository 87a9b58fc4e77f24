//! The journal: ordered, durable frames of records, and nothing else.
//!
//! [`Journal`] is the seam between the state machine and whatever keeps its history. Everything above it works with
//! opaque [`Position`]s and the bytes of whole frames, so it cannot know where they are kept.
//!
//! ```text
//!   records ──► FrameBuf ──► Journal::append ──► durable at a Position
//!                                               │
//!   State::apply ◄── records ◄── Journal::read ◄┘   (at start)
//! ```

pub mod file;
mod frame;
#[cfg(any(test, fuzzing))]
pub(super) mod fuzzing;
mod memory;
mod message_record;
mod record;
mod record_iter;
pub(super) mod wire;

use std::{fmt, io};

pub use frame::FrameBuf;
pub use memory::{MemoryJournal, NextAppend};
pub(super) use message_record::{MessageBody, MessageHeader};
pub use record::{
    DeadCause, HEADER_BYTES as RECORD_HEADER_BYTES, LeaseItem, Pace, PassedItem, PurgeScope, Reason, Record,
    ReturnCause, ReturnItem,
};
pub(super) use record::{decode_queue_policy, decode_topic_policy, encode_queue_policy, encode_topic_policy};
pub use record_iter::{DecodeError, RecordIter};

/// A place between two frames. Opaque: greater means later, and nothing more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Position(pub u64);

impl Position {
    /// Before the first frame ever.
    pub const START: Self = Self(0);
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Why a frame was not appended.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AppendError {
    /// Another writer has appended at the expected position. Nothing of this frame was stored, or ever will be.
    #[error("another writer owns the journal from position {at}")]
    Fenced {
        /// Where this writer expected the end to be.
        at: Position,
    },
    /// The frame may or may not be stored; only reading the journal again can tell. The journal takes no more frames.
    #[error("the outcome of an append at position {at} is unknown")]
    Unknown {
        /// Where the frame was to stand.
        at: Position,
        /// What went wrong.
        #[source]
        source: io::Error,
    },
}

/// Why the journal could not be read to its end.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// A call to the operating system failed.
    #[error("{what}")]
    Io {
        /// What was being done, with the path.
        what: String,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// Bytes that had been synced are not what was written. Never skipped silently.
    #[error("{place}, offset {offset}: {problem}")]
    Corrupt {
        /// The file, or the frame of a journal that has no files.
        place: String,
        /// Byte offset in it.
        offset: u64,
        /// What does not hold.
        problem: String,
    },
}

/// What is called with every frame: the position after it, and its records.
pub type Visit<'a> = dyn FnMut(Position, &[u8]) -> Result<(), ReadError> + 'a;

/// Ordered, durable frames.
///
/// One writer owns a journal at a time; an implementation notices a second one and answers
/// [`AppendError::Fenced`]. Calls block, so they belong on the engine's own threads.
pub trait Journal: fmt::Debug + Send {
    /// Hands every frame from `from` on, in order, to `visit`: the position after the frame, and its records.
    ///
    /// To be called before the first append. The frames that were handed out are durable when it returns.
    ///
    /// # Errors
    /// [`ReadError`]; also whatever `visit` answers, which stops the reading.
    fn read(&mut self, from: Position, visit: &mut Visit<'_>) -> Result<(), ReadError>;

    /// The position after the last frame.
    fn end(&self) -> Position;

    /// Stores `frame` at `expected` and makes it durable; answers the position after it.
    ///
    /// # Errors
    /// [`AppendError`]. After [`AppendError::Unknown`] every further append fails too.
    fn append(&mut self, frame: &mut FrameBuf, expected: Position) -> Result<Position, AppendError>;

    /// Nothing has been appended for a while: a chance to do what no one waits for.
    fn idle(&mut self);

    /// It holds so much that a checkpoint, and then [`Journal::trim`], is due.
    fn is_long(&self) -> bool;

    /// It holds so much that nothing should be added, but for what consumers do, until it is trimmed.
    fn is_full(&self) -> bool;

    /// Frames before `before` are not needed any more.
    ///
    /// # Errors
    /// The system's answer. What was not freed is tried again with the next call.
    fn trim(&mut self, before: Position) -> io::Result<()>;
}
