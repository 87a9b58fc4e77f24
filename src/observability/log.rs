//! The log: `tracing` events as text for people or as JSON, one object a line, for machines.

use std::{fmt, io};

use tracing_subscriber::EnvFilter;

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogFormat {
    /// For people: time, level, module, message, fields.
    #[default]
    Text,
    /// For machines: one JSON object a line, the fields beside `timestamp`, `level`, `target` and `message`.
    Json,
}

impl LogFormat {
    /// The format of this name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        match name {
            "text" => Some(Self::Text),
            "json" => Some(Self::Json),
            _ => None,
        }
    }
}

/// Which events are logged: a level, or levels by module, such as `info,campanile::engine=debug`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogFilter(String);

/// A text that is no filter.
#[derive(Debug, thiserror::Error)]
#[error("is no log filter: {source}; write a level (error, warn, info, debug, trace, off) or module=level, …")]
pub struct BadFilter {
    #[source]
    source: tracing_subscriber::filter::ParseError,
}

impl LogFilter {
    /// Takes the syntax of `tracing_subscriber::EnvFilter`.
    ///
    /// # Errors
    /// [`BadFilter`] when it is none.
    pub fn parse(text: &str) -> Result<Self, BadFilter> {
        EnvFilter::try_new(text).map(|_| Self(text.to_owned())).map_err(|source| BadFilter { source })
    }

    fn to_env_filter(&self) -> EnvFilter {
        EnvFilter::try_new(&self.0).expect("it was parsed when it was made")
    }
}

impl Default for LogFilter {
    /// Life cycle and above.
    fn default() -> Self {
        Self("info".to_owned())
    }
}

impl fmt::Display for LogFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// How the process logs.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Options {
    /// How log lines look. Default: text.
    pub format: LogFormat,
    /// Which events are logged. Default: `info`.
    pub filter: LogFilter,
}

/// Starts logging to standard error. The first call of a process decides, a later one changes nothing.
pub fn start(options: &Options) {
    let builder = tracing_subscriber::fmt().with_env_filter(options.filter.to_env_filter()).with_writer(io::stderr);
    // An error says that a subscriber is set already: then the process logs as its first caller wanted.
    let _ = match options.format {
        LogFormat::Text => builder.with_ansi(io::IsTerminal::is_terminal(&io::stderr())).try_init(),
        LogFormat::Json => builder.json().flatten_event(true).with_current_span(false).with_span_list(false).try_init(),
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_is_checked_when_it_is_made() {
        for good in ["info", "off", "info,campanile::engine=debug", "warn,campanile::server=trace"] {
            assert!(LogFilter::parse(good).is_ok(), "{good}");
        }
        for bad in ["campanile=loud", "a=b=c", "info,=[="] {
            assert!(LogFilter::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_format_has_one_spelling() {
        assert_eq!(LogFormat::parse("text"), Some(LogFormat::Text));
        assert_eq!(LogFormat::parse("json"), Some(LogFormat::Json));
        assert_eq!(LogFormat::parse("JSON"), None);
    }
}
