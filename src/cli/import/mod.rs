//! `campanile import`: takes over files of the broker that this one replaces, while it does not run.
//!
//! What is asked for goes to standard output, one line for each file as soon as it is taken over; how far it has come is
//! for people, on a terminal (see `bar`).

mod bar;

use std::{path::PathBuf, process::ExitCode};

use clap::ArgMatches;

use self::bar::Bar;
use super::{answer, args, complain};
use crate::{
    config::ConfigError,
    engine::{self, DamagedLines, Engine, ImportObserver, ImportProgress, ImportReport, OpenError},
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
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&error);
            ExitCode::FAILURE
        }
    }
}

fn import(matches: &ArgMatches) -> Result<(), Refused> {
    let config = args::raw(matches)?.validate()?;
    observability::start(&config.log);
    let files: Vec<PathBuf> = matches.get_many(args::FILES).into_iter().flatten().cloned().collect();
    let options = engine::Options {
        journal_file_bytes: config.journal_file_bytes,
        limits: engine::Limits { topics_max: config.topics_max, ..engine::Limits::default() },
        ..engine::Options::new(&config.data_dir)
    };
    let damaged_lines =
        if matches.get_flag(args::SKIP_DAMAGED) { DamagedLines::LeaveOut } else { DamagedLines::Refuse };
    // Whatever is said of a failure comes after the bar is gone.
    Engine::import(options, &files, damaged_lines, &mut Screen { bar: None })?;
    Ok(())
}

/// Who waits for the import.
struct Screen {
    /// Of the pass under way.
    bar: Option<Bar>,
}

impl ImportObserver for Screen {
    fn progress(&mut self, progress: ImportProgress<'_>) {
        if self.bar.as_ref().is_none_or(|bar| !bar.is_of(&progress)) {
            // The last one clears its line before the next one takes it.
            self.bar = None;
        }
        self.bar.get_or_insert_with(|| Bar::new(&progress)).show(&progress);
    }

    fn taken_over(&mut self, ImportReport { path, messages, skipped }: &ImportReport) {
        self.bar = None;
        answer(&format!(
            "{path}: {messages} messages taken over, {skipped} damaged lines left out",
            path = path.display()
        ));
    }
}
