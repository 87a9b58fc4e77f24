//! Deliveries whose consumer has not got the answer yet.

use axum::http::HeaderMap;
use campanile_middleware::BodyGuard;

use crate::broker::Hold;

/// Gives the messages back at once when their answer is dropped before it is written to its end.
#[derive(Debug)]
pub(super) struct Held(pub(super) Hold);

impl BodyGuard for Held {
    fn end(self, _: Option<&HeaderMap>) {
        self.0.release();
    }

    /// An answer that is in memory does not fail; if it did, its messages would go back.
    fn error(self) {}
}
