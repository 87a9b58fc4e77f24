//! The opaque ack id: names one delivery so that any connection and any instance can settle it, and nobody else.

use std::fmt;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use hmac::{Hmac, Mac as _};
use sha2::Sha256;

use super::{LeaseNumber, QueueId, Seq};

/// Queue, position and lease of a delivery.
///
/// As text it is base64url of
///
/// ```text
/// 0       4            12        16                       32
/// | queue | position   | lease   | HMAC-SHA256, truncated |
/// ```
///
/// The MAC keeps clients from acking what they were never given; the number of the lease keeps a late ack from removing a
/// message that somebody else holds by now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct AckId {
    /// The queue that delivered it.
    pub queue: QueueId,
    /// The message's place in its topic.
    pub seq: Seq,
    /// Which lease of the message this was.
    pub lease: LeaseNumber,
}

/// The text is no ack id of this store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("is not an ack id of this broker")]
pub struct AckIdError;

/// The store's secret, which signs its ack ids.
#[derive(Clone)]
pub struct AckKey([u8; 32]);

const BODY_BYTES: usize = 16;
const MAC_BYTES: usize = 16;

impl AckKey {
    /// Wraps the secret.
    #[must_use]
    pub fn new(secret: [u8; 32]) -> Self {
        Self(secret)
    }

    /// The ack id as the text that a consumer is given.
    #[must_use]
    pub fn seal(&self, id: AckId) -> String {
        let mut bytes = [0; BODY_BYTES + MAC_BYTES];
        bytes[..4].copy_from_slice(&id.queue.0.to_le_bytes());
        bytes[4..12].copy_from_slice(&id.seq.0.to_le_bytes());
        bytes[12..16].copy_from_slice(&id.lease.0.to_le_bytes());
        let mac = self.mac(&bytes[..BODY_BYTES]).finalize().into_bytes();
        bytes[BODY_BYTES..].copy_from_slice(&mac[..MAC_BYTES]);
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// Reads the text that a consumer gave back.
    ///
    /// # Errors
    /// [`AckIdError`] when this store never made it.
    pub fn open(&self, text: &str) -> Result<AckId, AckIdError> {
        let mut bytes = [0; BODY_BYTES + MAC_BYTES];
        let length = URL_SAFE_NO_PAD.decode_slice(text, &mut bytes).map_err(|_| AckIdError)?;
        if length != bytes.len() {
            return Err(AckIdError);
        }
        let (body, mac) = bytes.split_at(BODY_BYTES);
        self.mac(body).verify_truncated_left(mac).map_err(|_| AckIdError)?;
        let u32_at = |at: usize| body[at..at + 4].try_into().map(u32::from_le_bytes).map_err(|_| AckIdError);
        Ok(AckId {
            queue: QueueId(u32_at(0)?),
            seq: Seq(u64::from(u32_at(4)?) | u64::from(u32_at(8)?) << 32),
            lease: LeaseNumber(u32_at(12)?),
        })
    }

    fn mac(&self, body: &[u8]) -> Hmac<Sha256> {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).expect("HMAC takes a key of any length");
        mac.update(body);
        mac
    }
}

impl fmt::Debug for AckKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AckKey(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ack_id_survives_the_round_trip_and_no_forgery_does() {
        let key = AckKey::new([7; 32]);
        let id = AckId { queue: QueueId(3), seq: Seq(u64::MAX - 5), lease: LeaseNumber(2) };
        let text = key.seal(id);
        assert_eq!(key.open(&text), Ok(id));
        assert_eq!(AckKey::new([8; 32]).open(&text), Err(AckIdError));
        let mut forged = text.clone().into_bytes();
        forged[6] = if forged[6] == b'A' { b'B' } else { b'A' };
        assert_eq!(key.open(&String::from_utf8(forged).expect("ASCII")), Err(AckIdError));
        for text in ["", "x", &text[1..], &format!("{text}AAAA")] {
            assert_eq!(key.open(text), Err(AckIdError), "{text}");
        }
    }
}
