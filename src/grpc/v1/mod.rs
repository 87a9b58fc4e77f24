//! `campanile.v1.Broker`: every call of the broker, as `proto/campanile/v1/broker.proto` declares them.
//!
//! | file | what |
//! |---|---|
//! | `service` | the calls |
//! | `read` | requests as the broker's commands |
//! | `write`, `shown` | the broker's answers as responses |
//! | `held` | leases whose answer is not written yet |
//! | `publish_stream`, `streaming_pull` | the two calls that go on |

mod held;
mod publish_stream;
mod read;
mod service;
mod shown;
mod streaming_pull;
mod write;

pub(super) use self::{held::held_until_written, service::Service};
