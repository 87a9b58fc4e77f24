//! The name of a topic, a queue or a service: one alphabet, checked once.

use std::{borrow::Borrow, fmt, sync::Arc};

/// A valid name: 1 to 255 bytes of `A-Z a-z 0-9 . _ -`, in parts that are separated by dots, none of them empty.
///
/// Topics, queues and services share one name space, and so one type. Cloning is cheap.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Name(Arc<str>);

/// Why a text is no [`Name`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NameError {
    /// Nothing was given.
    #[error("must not be empty")]
    Empty,
    /// More than [`Name::BYTES_MAX`] bytes.
    #[error("has {bytes} bytes; at most {max} are allowed", max = Name::BYTES_MAX)]
    TooLong {
        /// The length of what was given.
        bytes: usize,
    },
    /// A character outside the alphabet.
    #[error("contains {found:?}; only A-Z a-z 0-9 . _ - are allowed")]
    Character {
        /// The first such character.
        found: char,
    },
    /// A leading or trailing dot, or two dots in a row.
    #[error("has an empty part; it must not begin or end with a dot, or have two in a row")]
    EmptyPart,
}

impl Name {
    /// The longest name, in bytes. The limit of a file name on common file systems.
    pub const BYTES_MAX: usize = 255;

    /// Checks `text` against the rules of names.
    ///
    /// # Errors
    /// [`NameError`] says which rule is broken.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        if text.is_empty() {
            return Err(NameError::Empty);
        }
        if text.len() > Self::BYTES_MAX {
            return Err(NameError::TooLong { bytes: text.len() });
        }
        if let Some(found) = text.chars().find(|c| !is_allowed(*c)) {
            return Err(NameError::Character { found });
        }
        if text.split('.').any(str::is_empty) {
            return Err(NameError::EmptyPart);
        }
        Ok(Self(text.into()))
    }

    /// The name of the queue that `service` has on the topic of this name: `topic.service`.
    ///
    /// # Errors
    /// [`NameError::TooLong`] when both together are over the limit.
    pub fn subscription(&self, service: &Self) -> Result<Self, NameError> {
        Self::parse(&format!("{self}.{service}"))
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn is_allowed(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-')
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl Borrow<str> for Name {
    fn borrow(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ordinary_names_are_accepted() {
        for text in ["a", "order.created", "user-service", "A_1.b-2.C", &"x".repeat(255)] {
            assert_eq!(Name::parse(text).map(|n| n.to_string()), Ok(text.to_owned()));
        }
    }

    #[test]
    fn everything_else_is_refused_with_the_rule_it_breaks() {
        assert_eq!(Name::parse(""), Err(NameError::Empty));
        assert_eq!(Name::parse(&"x".repeat(256)), Err(NameError::TooLong { bytes: 256 }));
        for text in [".a", "a.", "a..b", "..", "."] {
            assert_eq!(Name::parse(text), Err(NameError::EmptyPart), "{text}");
        }
        for (text, found) in [("../x", '/'), ("a b", ' '), ("naïve", 'ï'), ("a\0", '\0')] {
            assert_eq!(Name::parse(text), Err(NameError::Character { found }), "{text}");
        }
    }

    #[test]
    fn a_subscription_is_topic_dot_service() {
        let topic = Name::parse("order.created").expect("valid");
        let service = Name::parse("billing").expect("valid");
        assert_eq!(topic.subscription(&service).expect("short").as_str(), "order.created.billing");
        let long = Name::parse(&"x".repeat(250)).expect("valid");
        assert_eq!(long.subscription(&service), Err(NameError::TooLong { bytes: 258 }));
    }
}
