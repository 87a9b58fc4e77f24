//! The commands and their flags. The settings' flags come from the table of keys.

use std::path::PathBuf;

use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};

use super::remote;
use crate::config::{Allowed, ConfigError, KEYS, Raw, table};

const CONFIG: &str = "config";
pub(super) const ADDR: &str = "addr";
pub(super) const FILES: &str = "files";
pub(super) const SKIP_DAMAGED: &str = "skip-damaged";
pub(super) const JSON: &str = "json";
pub(super) const REPAIR: &str = "repair";

/// Everything that can be typed.
pub(super) fn command() -> Command {
    Command::new("campanile")
        // However the file is called.
        .bin_name("campanile")
        .about("A durable message broker: REST and gRPC over one file-backed engine")
        .version(env!("CARGO_PKG_VERSION"))
        .after_help("Without a command it serves. `campanile serve --help` shows every setting.")
        .args(settings().map(|arg| arg.hide(true)))
        .args_conflicts_with_subcommands(true)
        .subcommand(serve())
        .subcommand(health())
        .subcommand(import())
        .subcommand(doctor())
        .subcommands(remote::commands())
}

fn serve() -> Command {
    Command::new("serve").about("Serve REST and gRPC until SIGTERM or SIGINT").args(settings()).after_help(format!(
        "Settings come from the file, then the environment, then the flags; the later wins.\n\n{}\n\
             Exit codes: 0 asked to end, 1 refused to start, 2 wrong command line, 74 the store failed.",
        table()
    ))
}

fn health() -> Command {
    let addr = Arg::new(ADDR).long(ADDR).value_name("HOST:PORT").help("Ask there [default: rest_addr of the settings]");
    Command::new("health")
        .about("Ask a running broker whether it is healthy: exit code 0 if it is, 1 if not")
        .arg(addr)
        .args(settings().map(|arg| arg.hide(true)))
}

fn import() -> Command {
    let files = Arg::new(FILES)
        .value_name("FILE")
        .value_parser(value_parser!(PathBuf))
        .required(true)
        .num_args(1..)
        .help("Files named QUEUE.jsonl; each is renamed when its messages are stored");
    let skip_damaged = Arg::new(SKIP_DAMAGED)
        .long(SKIP_DAMAGED)
        .action(ArgAction::SetTrue)
        .help("Leave out lines that cannot be read, instead of taking over nothing");
    Command::new("import")
        .about("Take over queues of the original broker, while no broker has the data directory open")
        .arg(files)
        .arg(skip_damaged)
        .args(settings_of_a_store())
}

fn doctor() -> Command {
    let json = Arg::new(JSON).long(JSON).action(ArgAction::SetTrue).help("Print one JSON object, for scripts");
    let repair = Arg::new(REPAIR)
        .long(REPAIR)
        .action(ArgAction::SetTrue)
        .help("Set aside what is damaged, so that a broker starts; only while none has the directory open");
    Command::new("doctor")
        .about("Report what is in a data directory and what is wrong with it, and change nothing unless asked to")
        .arg(json)
        .arg(repair)
        .args(settings_of_a_store())
        .after_help(
            "Without --repair it only reads, so it can be used on a read-only copy, and while a broker has the directory \
             open, and it says what a repair would do and what is given up by it. It reads the whole journal and every \
             message that waits, and takes as much memory as a broker that starts on it.\n\n\
             With --repair the history ends before the first damage in the journal, and a damaged segment is done \
             without. Nothing is removed: what is taken out goes to the folder set-aside/<time> in the data directory, \
             with a file REPORT that says why. Keep a copy of the directory before.\n\n\
             Exit codes: 0 nothing is wrong (any more), 1 something is, 2 wrong command line.",
        )
}

/// The settings, of which those that say where the store is are shown.
fn settings_of_a_store() -> impl Iterator<Item = Arg> {
    settings().map(|arg| {
        let is_shown = arg.get_id() == "data-dir" || arg.get_id() == CONFIG;
        arg.hide(!is_shown)
    })
}

pub(super) fn settings() -> impl Iterator<Item = Arg> {
    let file = Arg::new(CONFIG)
        .long(CONFIG)
        .value_name("FILE")
        .value_parser(value_parser!(PathBuf))
        .help("The settings file [default: campanile.toml, if there is one]");
    let keys = KEYS.into_iter().map(|key| {
        let flag = Arg::new(key.flag).long(key.flag).value_name("VALUE").help(key.help).action(ArgAction::Set);
        match key.allowed {
            Allowed::Switch => flag.num_args(0..=1).default_missing_value("true"),
            // A negative number is a wrong value of this key, not an unknown flag.
            Allowed::Text(_) | Allowed::Number { .. } => flag.allow_hyphen_values(true),
        }
    });
    std::iter::once(file).chain(keys)
}

/// The settings of a command line, over the environment and the file.
pub(super) fn raw(matches: &ArgMatches) -> Result<Raw, ConfigError> {
    let file = matches.get_one::<PathBuf>(CONFIG);
    let flags = KEYS.into_iter().filter_map(|key| {
        let value = matches.get_one::<String>(key.flag)?;
        Some((key.flag, value.clone()))
    });
    Raw::collect(file.map(PathBuf::as_path), flags)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_commands_are_sound() {
        command().debug_assert();
    }

    #[test]
    fn settings_are_flags_with_and_without_the_command() {
        for line in [vec!["campanile", "--topics-max", "-1"], vec!["campanile", "serve", "--topics-max", "-1"]] {
            let matches = command().try_get_matches_from(&line).expect("a valid line");
            let matches = matches.subcommand_matches("serve").unwrap_or(&matches);
            assert_eq!(matches.get_one::<String>("topics-max").map(String::as_str), Some("-1"), "{line:?}");
        }
    }

    #[test]
    fn the_help_shows_every_key() {
        let help = serve().render_long_help().to_string();
        for key in KEYS {
            for word in [key.name, key.variable, key.default, key.help, &format!("--{}", key.flag)] {
                assert!(help.contains(word), "{word}");
            }
        }
    }
}
