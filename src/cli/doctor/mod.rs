//! `campanile doctor`: what is in a data directory, and what is wrong with it, in words or as JSON.
//!
//! It only renders what the engine found. Exit code 0 when nothing is wrong, else 1.

mod json;
mod text;

use std::process::ExitCode;

use clap::ArgMatches;

use super::{answer, args, complain};
use crate::{
    config::ConfigError,
    engine::{self, Problem},
};

pub(super) fn run(matches: &ArgMatches) -> ExitCode {
    let diagnosis = match options(matches) {
        Ok(options) => engine::diagnose(&options),
        Err(error) => {
            complain(&error);
            return ExitCode::FAILURE;
        }
    };
    if matches.get_flag(args::JSON) {
        answer(&json::render(&diagnosis).to_string());
    } else {
        answer(text::render(&diagnosis).trim_end());
    }
    if diagnosis.is_healthy() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn options(matches: &ArgMatches) -> Result<engine::Options, ConfigError> {
    let config = args::raw(matches)?.validate()?;
    Ok(engine::Options { journal_file_bytes: config.journal_file_bytes, ..engine::Options::new(&config.data_dir) })
}

/// A problem with everything behind it.
fn with_causes(problem: &Problem) -> String {
    let mut text = problem.to_string();
    let mut source = std::error::Error::source(problem);
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}
