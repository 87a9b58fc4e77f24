//! Answers that a layer gives instead of the service: what they say ([`Rejection`]) and how they are written
//! ([`RejectResponse`]).

mod encode;
mod rejection;
mod respond;

pub(crate) use rejection::rejected;
pub use rejection::{Rejection, RejectionCode};
pub use respond::{AutoReject, RejectResponse};
