//! The command line: what can be asked of the program, and what it answers with its exit code.
//!
//! Not here: what the commands do beyond reading their arguments and printing. Exit codes: 0 done, 1 refused or failed,
//! 2 the command line is wrong, 3 no broker could be reached, 74 (`EX_IOERR`) the store failed while it served.

mod args;
mod doctor;
mod health;
mod import;
mod remote;
mod serve;

use std::{
    error::Error,
    ffi::OsString,
    io::{self, Write as _},
    process::ExitCode,
};

/// Carries out a command line, the name of the program first.
#[must_use]
pub fn run(line: impl IntoIterator<Item = OsString>) -> ExitCode {
    let matches = match args::command().try_get_matches_from(line) {
        Ok(matches) => matches,
        // Also how clap says `--help` and `--version`.
        Err(answer) => return show(&answer),
    };
    match matches.subcommand() {
        None => serve::run(&matches),
        Some(("serve", matches)) => serve::run(matches),
        Some(("health", matches)) => health::run(matches),
        Some(("import", matches)) => import::run(matches),
        Some(("doctor", matches)) => doctor::run(matches),
        Some((name, matches)) => remote::run(name, matches),
    }
}

fn show(answer: &clap::Error) -> ExitCode {
    // When even this cannot be printed there is nobody left to tell.
    let _ = answer.print();
    u8::try_from(answer.exit_code()).map_or(ExitCode::FAILURE, ExitCode::from)
}

/// Prints what a command was asked for.
fn answer(text: &str) {
    // Whoever does not listen has the exit code.
    let _ = writeln!(io::stdout(), "{text}");
}

/// Says on standard error why a command failed, with everything behind it. Not a log event: the log's filter must not
/// hide it, and there may be no log yet.
fn complain(error: &dyn Error) {
    let mut text = format!("campanile: {error}");
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    // As in `show`.
    let _ = writeln!(io::stderr(), "{text}");
}
