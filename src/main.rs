//! The `campanile` program. Everything it can do is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    campanile::cli::run(std::env::args_os())
}
