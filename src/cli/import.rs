//! `campanile import`: takes over files of the broker that this one replaces, while it does not run.

use std::{path::PathBuf, process::ExitCode};

use clap::ArgMatches;

use super::{answer, args, complain};
use crate::{
    config::ConfigError,
    engine::{self, Engine, ImportReport, OpenError},
    observability,
};

#[derive(Debug, thiserror::Error)]
enum Refused {
    #[error(transparent)]
    Settings(#[from] ConfigError),
    #[error(transparent)]
    Import(#[from] OpenError),
}

pub(super) fn run(matches: &ArgMatches) -> ExitCode {
    match import(matches) {
        Ok(reports) => {
            for ImportReport { path, messages, skipped } in reports {
                let path = path.display();
                answer(&format!("{path}: {messages} messages taken over, {skipped} damaged lines left out"));
            }
            ExitCode::SUCCESS
        }
        Err(error) => {
            complain(&error);
            ExitCode::FAILURE
        }
    }
}

fn import(matches: &ArgMatches) -> Result<Vec<ImportReport>, Refused> {
    let config = args::raw(matches)?.validate()?;
    observability::start(&config.log);
    let files: Vec<PathBuf> = matches.get_many(args::FILES).into_iter().flatten().cloned().collect();
    let options = engine::Options {
        journal_file_bytes: config.journal_file_bytes,
        topics_max: config.topics_max,
        ..engine::Options::new(&config.data_dir)
    };
    Ok(Engine::import(options, &files, matches.get_flag(args::SKIP_DAMAGED))?)
}
