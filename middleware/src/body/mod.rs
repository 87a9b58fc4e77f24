//! The two bodies that the layers put around those of others.

mod guarded;
mod replay;

pub use guarded::{BodyGuard, GuardedBody};
pub(crate) use replay::Replay;
pub use replay::{ReplayBody, ReplayError};
