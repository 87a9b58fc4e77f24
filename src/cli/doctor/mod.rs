//! `campanile doctor`: what is in a data directory, and what is wrong with it, in words or as JSON; and its repair.
//!
//! It only renders what the engine found and did. Exit code 0 when nothing is wrong (any more), else 1.

mod json;
mod text;

use std::process::ExitCode;

use clap::ArgMatches;

use super::{answer, args, complain};
use crate::{
    config::ConfigError,
    engine::{self, Diagnosis, Repair, RepairError},
};

pub(super) fn run(matches: &ArgMatches) -> ExitCode {
    let options = match options(matches) {
        Ok(options) => options,
        Err(error) => {
            complain(&error);
            return ExitCode::FAILURE;
        }
    };
    let is_json = matches.get_flag(args::JSON);
    if !matches.get_flag(args::REPAIR) {
        let diagnosis = engine::diagnose(&options);
        answer(&if is_json { json::render(&diagnosis).to_string() } else { text::render(&diagnosis) });
        return exit_code(&diagnosis);
    }
    match engine::repair(&options) {
        Ok(repair) => {
            let Repair { after, .. } = &repair;
            answer(&if is_json { json::render_repair(&repair).to_string() } else { text::render_repair(&repair) });
            exit_code(after)
        }
        Err(error) => {
            if let RepairError::Hopeless { diagnosis } = &error {
                answer(&if is_json { json::render(diagnosis).to_string() } else { text::render(diagnosis) });
            }
            complain(&error);
            ExitCode::FAILURE
        }
    }
}

fn exit_code(diagnosis: &Diagnosis) -> ExitCode {
    if diagnosis.is_healthy() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn options(matches: &ArgMatches) -> Result<engine::Options, ConfigError> {
    let config = args::raw(matches)?.validate()?;
    Ok(engine::Options { journal_file_bytes: config.journal_file_bytes, ..engine::Options::new(&config.data_dir) })
}
