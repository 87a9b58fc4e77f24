//! What was typed, and where: the file, under the environment, under the flags.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    fs, io,
    path::{Path, PathBuf},
};

use super::{
    Config, ConfigError, KEYS, Key, Origin, file,
    keys::{Allowed, Unit},
};

/// Values as they were typed, each with its place. Later layers replace earlier ones, key by key.
#[derive(Debug, Clone, Default)]
pub struct Raw {
    values: BTreeMap<&'static str, Typed>,
}

#[derive(Debug, Clone)]
struct Typed {
    text: String,
    origin: Origin,
}

impl Raw {
    /// The file that is read when none is named, if it is there.
    pub const FILE_DEFAULT: &str = "campanile.toml";

    /// Reads the file, then the environment of this process, then `flags` (name without dashes, value).
    ///
    /// # Errors
    /// [`ConfigError`] for a named file that cannot be read, a file that is no TOML or has a key that does not exist, or a
    /// variable that is no text. Values are checked by [`Raw::validate`].
    pub fn collect<'a>(
        file: Option<&Path>,
        flags: impl IntoIterator<Item = (&'a str, String)>,
    ) -> Result<Self, ConfigError> {
        let mut raw = Self::default();
        match file {
            Some(path) => raw.add_file(path, &read(path)?)?,
            None => raw.add_default_file(Path::new(Self::FILE_DEFAULT))?,
        }
        raw.add_environment(|name| std::env::var_os(name))?;
        raw.add_flags(flags);
        Ok(raw)
    }

    /// Checks every value, and what they are together.
    ///
    /// # Errors
    /// [`ConfigError`], naming the key and where its value was typed.
    pub fn validate(&self) -> Result<Config, ConfigError> {
        Config::from_raw(self)
    }

    fn add_default_file(&mut self, path: &Path) -> Result<(), ConfigError> {
        match fs::read_to_string(path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(source) => Err(ConfigError::Unreadable { path: path.to_owned(), source }),
            Ok(text) => self.add_file(path, &text),
        }
    }

    pub(super) fn add_file(&mut self, path: &Path, text: &str) -> Result<(), ConfigError> {
        for file::Entry { key, text, line } in file::parse(path, text)? {
            self.set(key, text, Origin::File { path: path.to_owned(), line });
        }
        Ok(())
    }

    /// A variable that is set to nothing counts as not set: that is how compose files pass on what is unset.
    pub(super) fn add_environment(&mut self, variable: impl Fn(&str) -> Option<OsString>) -> Result<(), ConfigError> {
        for key in &KEYS {
            let Some(value) = variable(key.variable).filter(|v| !v.is_empty()) else { continue };
            let origin = Origin::Variable(key.variable);
            match value.into_string() {
                Ok(text) => self.set(key, text, origin),
                Err(bytes) => {
                    let value = bytes.to_string_lossy().into_owned();
                    return Err(ConfigError::BadValue { key: key.name, origin, value, problem: "is not UTF-8".into() });
                }
            }
        }
        Ok(())
    }

    pub(super) fn add_flags<'a>(&mut self, flags: impl IntoIterator<Item = (&'a str, String)>) {
        for (flag, text) in flags {
            if let Some(key) = KEYS.iter().find(|key| key.flag == flag) {
                self.set(key, text, Origin::Flag(key.flag));
            }
        }
    }

    fn set(&mut self, key: &Key, text: String, origin: Origin) {
        self.values.insert(key.name, Typed { text, origin });
    }

    pub(super) fn text(&self, key: &Key) -> &str {
        self.values.get(key.name).map_or(key.default, |typed| &typed.text)
    }

    pub(super) fn origin(&self, key: &Key) -> Origin {
        self.values.get(key.name).map_or(Origin::Default, |typed| typed.origin.clone())
    }

    pub(super) fn bad(&self, key: &Key, problem: impl ToString) -> ConfigError {
        let (value, origin) = (self.text(key).to_owned(), self.origin(key));
        ConfigError::BadValue { key: key.name, origin, value, problem: problem.to_string() }
    }

    /// The number, in the base of its unit.
    pub(super) fn number(&self, key: &Key) -> Result<u64, ConfigError> {
        let text = self.text(key).trim();
        let (parsed, min, max) = match key.allowed {
            Allowed::Number { unit: Unit::Count, min, max } => (parse_count(text), min, max),
            Allowed::Number { unit: Unit::Seconds, min, max } => (parse_seconds(text), min, max),
            Allowed::Number { unit: Unit::Bytes, min, max } => (parse_bytes(text), min, max),
            Allowed::Text(_) | Allowed::Switch => (None, 0, 0),
        };
        let number = parsed.filter(|n| (min..=max).contains(n));
        number.ok_or_else(|| self.bad(key, format_args!("is not allowed; allowed is {}", key.allowed)))
    }
}

fn read(path: &Path) -> Result<String, ConfigError> {
    fs::read_to_string(path).map_err(|source| ConfigError::Unreadable { path: PathBuf::from(path), source })
}

fn parse_count(text: &str) -> Option<u64> {
    // `parse` alone would take a sign.
    Some(text).filter(|t| t.bytes().all(|b| b.is_ascii_digit()))?.parse().ok()
}

/// To milliseconds.
fn parse_seconds(text: &str) -> Option<u64> {
    let (whole, decimals) = text.split_once('.').unwrap_or((text, "0"));
    if decimals.is_empty() || decimals.len() > 3 {
        return None;
    }
    let ms = parse_count(&format!("{decimals:0<3}"))?;
    parse_count(whole)?.checked_mul(1000)?.checked_add(ms)
}

fn parse_bytes(text: &str) -> Option<u64> {
    let units = [("KiB", 10), ("MiB", 20), ("GiB", 30)];
    let found = units.iter().find_map(|(unit, shift)| Some((text.strip_suffix(unit)?, shift)));
    let (number, shift) = found.unwrap_or((text, &0));
    parse_count(number.trim_end())?.checked_mul(1 << shift)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_exactly() {
        assert_eq!(parse_count("007"), Some(7));
        for bad in ["", "-1", "+1", "1e3", "1_000", "99999999999999999999"] {
            assert_eq!(parse_count(bad), None, "{bad}");
        }
        let seconds = [("30", 30_000), ("0.5", 500), ("0.001", 1), ("1.250", 1250)];
        for (text, ms) in seconds {
            assert_eq!(parse_seconds(text), Some(ms), "{text}");
        }
        for bad in ["", ".5", "5.", "0.0001", "-1", "1.-1", "18446744073709551615"] {
            assert_eq!(parse_seconds(bad), None, "{bad}");
        }
        let bytes = [("4096", 4096), ("4 KiB", 4096), ("64MiB", 64 << 20), ("1 GiB", 1 << 30)];
        for (text, n) in bytes {
            assert_eq!(parse_bytes(text), Some(n), "{text}");
        }
        for bad in ["", "MiB", "4 MB", "4M", "1.5 MiB", "18446744073709551615 KiB"] {
            assert_eq!(parse_bytes(bad), None, "{bad}");
        }
    }
}
