//! The settings of a client.

use std::{sync::Arc, time::Duration};

use super::{
    budget::Budget,
    calls::Client,
    error::ClientError,
    stack::{self, Stack},
};
use crate::grpc::proto::v1::broker_client::BrokerClient;

/// Longer than the longest wait that the broker grants, as the broker's own default is.
const TIMEOUT: Duration = Duration::from_secs(65);

/// A standby takes over well within that.
const WAIT_FOR_INSTANCE: Duration = Duration::from_secs(5);

/// The largest call that the broker takes as it is set by default, and some more.
const REPLAY_BYTES_MAX: usize = 5 << 20;

/// Longest answer: the payloads that a pull hands out at most, several times over.
const ANSWER_BYTES_MAX: usize = 128 << 20;

/// Settings of a [`Client`] that is to be.
#[derive(Debug, Clone)]
pub struct ClientBuilder {
    pub(super) addresses: Vec<String>,
    pub(super) timeout: Duration,
    pub(super) attempts: u32,
    pub(super) wait_for_instance: Option<Duration>,
    pub(super) replay_bytes_max: usize,
}

impl ClientBuilder {
    pub(super) fn new(addresses: Vec<String>) -> Self {
        Self {
            addresses,
            timeout: TIMEOUT,
            attempts: 3,
            wait_for_instance: Some(WAIT_FOR_INSTANCE),
            replay_bytes_max: REPLAY_BYTES_MAX,
        }
    }

    /// How long a call may take with all its repetitions, streams excepted. Should be longer than the longest wait that is
    /// asked for. Default: 65 s.
    #[must_use]
    pub fn timeout(self, timeout: Duration) -> Self {
        Self { timeout, ..self }
    }

    /// How often a call is made, the first time included, when the broker did nothing and says when to come again. At
    /// least 1. Default: 3. Asking the other addresses is not counted; that is done for any call of which nothing was
    /// done.
    #[must_use]
    pub fn attempts(self, attempts: u32) -> Self {
        Self { attempts: attempts.max(1), ..self }
    }

    /// How long a call waits for an instance when none can be reached; none: not at all. Default: 5 s.
    #[must_use]
    pub fn wait_for_instance(self, wait: Option<Duration>) -> Self {
        Self { wait_for_instance: wait, ..self }
    }

    /// How much of a call is kept so that it can be sent again, in bytes. Default: 5 MiB.
    #[must_use]
    pub fn replay_bytes_max(self, bytes: usize) -> Self {
        Self { replay_bytes_max: bytes, ..self }
    }

    /// The client. Connections are opened when they are needed.
    ///
    /// # Errors
    /// There is no address, or something that is none.
    pub fn build(self) -> Result<Client, ClientError> {
        if self.addresses.is_empty() {
            return Err(ClientError::NoAddress);
        }
        let broker: BrokerClient<Stack> = BrokerClient::new(stack::stack(&self)?)
            .max_encoding_message_size(usize::MAX)
            .max_decoding_message_size(ANSWER_BYTES_MAX);
        Ok(Client { broker, budget: Arc::new(Budget::full()), timeout: self.timeout, attempts: self.attempts })
    }
}
