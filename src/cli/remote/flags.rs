//! The flags that the commands share, and what they mean.

use std::time::Duration;

use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};

use super::{args, failure::EXIT_CODES, failure::Failure, output::Form};
use crate::client::Client;

pub(super) const QUEUE: &str = "queue";
pub(super) const MAX: &str = "max";
pub(super) const FOLLOW: &str = "follow";

/// How long a command waits for an instance when none can be reached: a standby takes over within that, as a rule.
const WAIT_FOR_INSTANCE: Duration = Duration::from_secs(1);

/// Adds what all commands have.
pub(super) fn of_all(command: Command) -> Command {
    let addr = Arg::new(args::ADDR)
        .long(args::ADDR)
        .value_name("HOST:PORT[,…]")
        .value_delimiter(',')
        .help("The broker's gRPC port, or those of its instances [default: grpc_addr of the settings]");
    let json = Arg::new(args::JSON)
        .long(args::JSON)
        .action(ArgAction::SetTrue)
        .help("Print JSON for scripts, one object a line");
    let more_help = command.get_after_help().map(|help| format!("{help}\n\n")).unwrap_or_default();
    command
        .arg(addr)
        .arg(json)
        .args(args::settings().map(|arg| arg.hide(true)))
        .after_help(format!("{more_help}{EXIT_CODES}"))
}

/// The client that the flags ask for. It says at once that nobody is there, rather than wait for somebody.
pub(super) fn client(matches: &ArgMatches) -> Result<Client, Failure> {
    let addresses = match matches.get_many::<String>(args::ADDR) {
        Some(addresses) => addresses.cloned().collect(),
        None => vec![reachable(&args::raw(matches)?.validate()?.grpc_addr.to_string())],
    };
    let builder = Client::builder(addresses).attempts(1).wait_for_instance(Some(WAIT_FOR_INSTANCE));
    Ok(builder.build()?)
}

/// One can listen on "every address", but not connect to it.
fn reachable(addr: &str) -> String {
    match addr.rsplit_once(':') {
        Some(("0.0.0.0", port)) => format!("127.0.0.1:{port}"),
        Some(("[::]", port)) => format!("[::1]:{port}"),
        _ => addr.to_owned(),
    }
}

pub(super) fn form(matches: &ArgMatches) -> Form {
    if matches.get_flag(args::JSON) { Form::Json } else { Form::Text }
}

/// The queue that a command is about.
pub(super) fn queue() -> Arg {
    Arg::new(QUEUE)
        .value_name("QUEUE")
        .required(true)
        .help("A topic's own queue by the topic's name, a service's as TOPIC.SERVICE")
}

/// A flag that is there or not.
pub(super) fn switch(name: &'static str, help: &'static str) -> Arg {
    Arg::new(name).long(name).action(ArgAction::SetTrue).help(help)
}

/// A flag with a text.
pub(super) fn option(name: &'static str, value_name: &'static str, help: &'static str) -> Arg {
    Arg::new(name).long(name).value_name(value_name).help(help)
}

/// A flag with a number of at least 1.
pub(super) fn count(name: &'static str, help: &'static str) -> Arg {
    option(name, "N", help).value_parser(value_parser!(u64).range(1..))
}

/// A flag with a time.
pub(super) fn time(name: &'static str, help: &'static str) -> Arg {
    option(name, "TIME", help).value_parser(parse_time)
}

/// The text of a flag or an argument; empty when it is not there.
pub(super) fn text(matches: &ArgMatches, name: &str) -> String {
    matches.get_one::<String>(name).cloned().unwrap_or_default()
}

pub(super) fn number(matches: &ArgMatches, name: &str) -> Option<u64> {
    matches.get_one::<u64>(name).copied()
}

/// As the contract has it.
pub(super) fn duration(matches: &ArgMatches, name: &str) -> Option<prost_types::Duration> {
    let duration = *matches.get_one::<Duration>(name)?;
    // Parsed from a number of at most 13 digits.
    prost_types::Duration::try_from(duration).ok()
}

/// `90s`, `500ms`, `2m`, `1h`, `7d`; without a unit seconds.
fn parse_time(text: &str) -> Result<Duration, String> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let factor_ms = match unit {
        "ms" => 1,
        "" | "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err("it is no time like 500ms, 90s, 2m, 1h or 7d".to_owned()),
    };
    let number: u64 = number.parse().map_err(|_| "it does not begin with a number".to_owned())?;
    number
        .checked_mul(factor_ms)
        // Ten thousand years; the broker has narrower bounds for each.
        .filter(|ms| *ms <= 315_576_000_000_000)
        .map(Duration::from_millis)
        .ok_or_else(|| "it is too long".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_units() {
        let cases =
            [("500ms", 500), ("90s", 90_000), ("90", 90_000), ("2m", 120_000), ("1h", 3_600_000), ("1d", 86_400_000)];
        for (text, ms) in cases {
            assert_eq!(parse_time(text), Ok(Duration::from_millis(ms)), "{text}");
        }
        for bad in ["", "s", "-1s", "1.5s", "1 s", "1w", "99999999999999999999s", "18446744073709551615d"] {
            assert!(parse_time(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn every_address_is_asked_at_loopback() {
        assert_eq!(reachable("0.0.0.0:50051"), "127.0.0.1:50051");
        assert_eq!(reachable("[::]:50051"), "[::1]:50051");
        assert_eq!(reachable("10.0.0.0:1"), "10.0.0.0:1");
    }
}
