//! `campanile serve`.

use std::{process::ExitCode, time::Duration};

use clap::ArgMatches;

use super::{args, complain};
use crate::{
    config::{Config, ConfigError},
    observability,
    server::{self, End},
};

/// `EX_IOERR` of sysexits.h: a supervisor can tell a failed disk from a wrong setting.
const STORE_FAILED: u8 = 74;

/// How long the runtime may take to end its last tasks. What matters has ended before.
const RUNTIME_TIMEOUT: Duration = Duration::from_millis(500);

pub(super) fn run(matches: &ArgMatches) -> ExitCode {
    let config = match config(matches) {
        Ok(config) => config,
        Err(error) => return refuse(&error),
    };
    observability::start(&config.log);
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return refuse(&error),
    };
    let ended = runtime.block_on(server::run(config));
    runtime.shutdown_timeout(RUNTIME_TIMEOUT);
    match ended {
        Ok(End::Asked) => ExitCode::SUCCESS,
        Ok(End::StoreFailed) => ExitCode::from(STORE_FAILED),
        Err(error) => refuse(&error),
    }
}

fn config(matches: &ArgMatches) -> Result<Config, ConfigError> {
    args::raw(matches)?.validate()
}

fn refuse(error: &dyn std::error::Error) -> ExitCode {
    complain(error);
    ExitCode::FAILURE
}
