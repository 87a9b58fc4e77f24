//! Page tokens: where the next page begins, as a text that clients need not understand.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};

use super::BrokerError;

/// What a list is made of. A token of one kind is none of another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Listed {
    Topics = 1,
    Queues = 2,
    Services = 3,
    Messages = 4,
}

/// The token of the page that begins at, or behind, `position`.
pub(super) fn token(listed: Listed, position: u64) -> String {
    let mut bytes = [listed as u8; 9];
    bytes[1..].copy_from_slice(&position.to_le_bytes());
    URL_SAFE_NO_PAD.encode(bytes)
}

/// The position in a token; `None` of an empty one.
pub(super) fn position(listed: Listed, token: &str) -> Result<Option<u64>, BrokerError> {
    if token.is_empty() {
        return Ok(None);
    }
    let refused = || BrokerError::invalid("page_token", "is not what a page of this list ended with");
    let mut bytes = [0; 9];
    match URL_SAFE_NO_PAD.decode_slice(token, &mut bytes) {
        Ok(9) if bytes[0] == listed as u8 => {
            let [_, position @ ..] = bytes;
            Ok(Some(u64::from_le_bytes(position)))
        }
        _ => Err(refused()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_of_its_own_list_and_nothing_else_is_one() {
        let text = token(Listed::Queues, 77);
        assert_eq!(position(Listed::Queues, &text), Ok(Some(77)));
        assert_eq!(position(Listed::Queues, ""), Ok(None));
        assert!(position(Listed::Topics, &text).is_err());
        for text in ["x", "AAAA", &text[1..], &format!("{text}AAAA"), "ä"] {
            assert!(position(Listed::Queues, text).is_err(), "{text}");
        }
    }
}
