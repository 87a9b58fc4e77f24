//! `campanile.v1.Broker`: every call of the broker, as `proto/campanile/v1/broker.proto` declares them.
//!
//! | file | what |
//! |---|---|
//! | `service` | the calls |
//! | `read` | requests as the broker's commands |
//! | `write`, `shown` | the broker's answers as responses |
//! | `publish_stream`, `streaming_pull` | the two calls that go on |

mod publish_stream;
mod read;
mod service;
mod shown;
mod streaming_pull;
mod write;

pub(super) use self::service::Service;
