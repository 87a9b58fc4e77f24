//! The settings file: TOML to typed text, with the line that each value stands on.

use std::path::Path;

use toml::de::{DeTable, DeValue};

use super::{Allowed, ConfigError, KEYS, Key};

/// A value of the file.
pub(super) struct Entry {
    pub(super) key: &'static Key,
    /// As it would be typed in the environment.
    pub(super) text: String,
    /// From 1.
    pub(super) line: usize,
}

/// Reads the file's text.
pub(super) fn parse(path: &Path, text: &str) -> Result<Vec<Entry>, ConfigError> {
    static TABLE: [Key; KEYS.len()] = KEYS;
    let table = DeTable::parse(text).map_err(|error| ConfigError::Syntax {
        path: path.to_owned(),
        line: error.span().map_or(1, |span| line_of(text, span.start)),
        problem: error.message().to_owned(),
    })?;
    let mut entries = Vec::new();
    for (name, value) in table.get_ref() {
        let line = line_of(text, name.span().start);
        let Some(key) = TABLE.iter().find(|key| key.name == name.get_ref().as_ref()) else {
            let key = name.get_ref().clone().into_owned();
            return Err(ConfigError::UnknownKey { path: path.to_owned(), line, key });
        };
        let typed = as_typed(key, value.get_ref()).ok_or_else(|| ConfigError::BadValue {
            key: key.name,
            origin: super::Origin::File { path: path.to_owned(), line },
            value: text.get(value.span()).unwrap_or_default().to_owned(),
            problem: format!("is a TOML {}; allowed is {}", value.get_ref().type_str(), key.allowed),
        })?;
        entries.push(Entry { key, text: typed, line });
    }
    Ok(entries)
}

fn as_typed(key: &Key, value: &DeValue<'_>) -> Option<String> {
    match value {
        DeValue::String(text) => Some(text.clone().into_owned()),
        DeValue::Integer(number) if number.radix() == 10 => Some(number.as_str().to_owned()),
        DeValue::Float(number) => Some(number.as_str().to_owned()),
        DeValue::Boolean(value) if key.allowed == Allowed::Switch => Some(value.to_string()),
        DeValue::Array(items) => {
            let texts: Option<Vec<_>> = items.iter().map(|item| item.get_ref().as_str()).collect();
            texts.map(|texts| texts.join(","))
        }
        _ => None,
    }
}

fn line_of(text: &str, offset: usize) -> usize {
    1 + text.bytes().take(offset).filter(|b| *b == b'\n').count()
}
