//! Each key from each place, which place wins, and that each wrong value names its key and its place.

use std::{ffi::OsString, path::Path};

use super::*;
use crate::config::{KEYS, Origin};

/// Settings from a file, variables and flags.
fn config(file: &str, variables: &[(&str, &str)], flags: &[(&str, &str)]) -> Result<Config, ConfigError> {
    let mut raw = Raw::default();
    raw.add_file(Path::new("campanile.toml"), file)?;
    raw.add_environment(|name| variables.iter().find(|(n, _)| *n == name).map(|(_, value)| OsString::from(value)))?;
    raw.add_flags(flags.iter().map(|(name, value)| (*name, (*value).to_owned())));
    raw.validate()
}

/// For each key a good value other than the default, and a wrong one.
const VALUES: [(&str, &str, &str); 20] = [
    ("data_dir", "/var/lib/campanile", ""),
    ("rest_addr", "localhost:9001", "localhost"),
    ("grpc_addr", "[::1]:9051", "localhost:port"),
    ("backend_targets", "a:1, b:2,", "a:1,b"),
    ("backend_circuit_max_failures", "3", "0"),
    ("backend_circuit_reset_secs", "0.5", "-1"),
    ("log_format", "json", "xml"),
    ("log_filter", "debug", "campanile=loud"),
    ("concurrency_limit", "7", "many"),
    ("request_timeout_secs", "10", "0"),
    ("message_bytes_max", "1 MiB", "17 MiB"),
    ("topics_max", "9", "0"),
    ("dedup_window_secs", "60", "100000"),
    ("drain_timeout_secs", "0", "1h"),
    ("connections_max", "11", "1.5"),
    ("journal_file_bytes", "33554432", "4194305"),
    ("free_bytes_min", "0", "2048 GiB"),
    ("auto_declare", "false", "no"),
    ("waiting_receives_max", "5", "0"),
    ("dev", "true", "yes"),
];

fn key(name: &str) -> &'static str {
    KEYS.iter().find(|key| key.name == name).map(|key| key.variable).expect("a key")
}

fn flag(name: &str) -> String {
    name.replace('_', "-")
}

#[test]
fn nothing_set_gives_the_defaults() {
    let config = config("", &[], &[]).expect("the defaults are valid");
    assert_eq!(config.data_dir, Path::new("broker_data"));
    assert_eq!(config.rest_addr.to_string(), "127.0.0.1:8001");
    assert_eq!(config.grpc_addr.to_string(), "127.0.0.1:50051");
    assert_eq!(config.backend_targets.len(), 1);
    assert_eq!(config.backend_targets[0].to_string(), "localhost:50051");
    assert!(config.is_alone());
    assert_eq!(config.backend_circuit_max_failures, 5);
    assert_eq!(config.backend_circuit_reset, Duration::from_secs(30));
    assert_eq!(config.log, observability::Options::default());
    assert_eq!(config.concurrency_limit, 4096);
    assert_eq!(config.request_timeout, Duration::from_secs(65));
    assert_eq!(config.message_bytes_max, crate::broker::Limits::default().message_bytes_max);
    assert_eq!(config.topics_max, 100_000);
    assert_eq!(config.dedup_window, Duration::from_secs(120));
    assert_eq!(config.drain_timeout, Duration::from_secs(20));
    assert_eq!(config.connections_max, 10_000);
    assert_eq!(config.journal_file_bytes, 64 << 20);
    assert_eq!(config.free_bytes_min, crate::engine::Options::new("x").free_bytes_min);
}

#[test]
fn every_key_can_be_set_in_every_place() {
    let defaults = config("", &[], &[]).expect("valid");
    assert_eq!(VALUES.map(|(name, ..)| name), KEYS.map(|key| key.name), "the table names every key");
    for (name, good, _) in VALUES {
        let file = config(&format!("{name} = \"{good}\""), &[], &[]).expect(name);
        let variable = config("", &[(key(name), good)], &[]).expect(name);
        let flag = config("", &[], &[(&flag(name), good)]).expect(name);
        assert_ne!(file, defaults, "{name} in the file");
        assert_eq!(file, variable, "{name} as a variable");
        assert_eq!(file, flag, "{name} as a flag");
    }
}

#[test]
fn flags_beat_variables_and_variables_beat_the_file() {
    let file = "topics_max = 1";
    let topics = |variables: &[(&str, &str)], flags: &[(&str, &str)]| {
        config(file, variables, flags).map(|config| config.topics_max).expect("valid")
    };
    assert_eq!(topics(&[], &[]), 1);
    assert_eq!(topics(&[("BROKER_TOPICS_MAX", "2")], &[]), 2);
    assert_eq!(topics(&[("BROKER_TOPICS_MAX", "2")], &[("topics-max", "3")]), 3);
    assert_eq!(topics(&[("BROKER_TOPICS_MAX", "")], &[]), 1, "a variable set to nothing is not set");
}

#[test]
fn a_wrong_value_names_its_key_and_its_place() {
    for (name, _, bad) in VALUES {
        let refused = |result: Result<Config, ConfigError>| match result {
            Err(ConfigError::BadValue { key, origin, value, .. }) => {
                assert_eq!((key, value.as_str()), (name, bad));
                origin
            }
            other => panic!("{name} = {bad}: {other:?}"),
        };
        let file = format!("# a comment\n\n{name} = \"{bad}\"");
        let origin = Origin::File { path: "campanile.toml".into(), line: 3 };
        assert_eq!(refused(config(&file, &[], &[])), origin);
        if !bad.is_empty() {
            let variable = key(name);
            assert_eq!(refused(config("", &[(variable, bad)], &[])), Origin::Variable(variable));
        }
        assert_eq!(refused(config("", &[], &[(&flag(name), bad)])).to_string(), format!("flag --{}", flag(name)));
    }
}

#[test]
fn the_file_takes_the_types_of_toml() {
    let text = "backend_targets = [\"a:1\", \"b:2\"]\nbackend_circuit_reset_secs = 0.5\ntopics_max = 7\ndev = true\n";
    let config = config(text, &[], &[]).expect("valid");
    assert_eq!(config.backend_targets.iter().map(ToString::to_string).collect::<Vec<_>>(), ["a:1", "b:2"]);
    assert!(!config.is_alone());
    assert_eq!(config.backend_circuit_reset, Duration::from_millis(500));
    assert_eq!(config.topics_max, 7);
    assert!(config.dev);
}

#[test]
fn a_wrong_file_names_the_line() {
    let message = |text: &str| config(text, &[], &[]).expect_err(text).to_string();
    let unknown = message("topics_max = 1\ntopic_max = 2\n");
    assert!(unknown.starts_with("campanile.toml, line 2: there is no key `topic_max`"), "{unknown}");
    let table = message("[server]\nrest_addr = \"a:1\"\n");
    assert!(table.starts_with("campanile.toml, line 1: there is no key `server`"), "{table}");
    let boolean = message("topics_max = true");
    assert!(boolean.starts_with("topics_max (campanile.toml, line 1): `true` is a TOML boolean"), "{boolean}");
    let syntax = message("topics_max = 1\nrest_addr = \n");
    assert!(syntax.starts_with("campanile.toml, line 2: "), "{syntax}");
}

#[test]
fn targets_have_rules_of_their_own() {
    let targets = |text: &str| config("", &[("BACKEND_TARGETS", text)], &[]);
    assert!(targets("a:1").expect("one").is_alone());
    assert!(targets(",").expect("none").is_alone());
    let many: Vec<String> = (0..65).map(|n| format!("host{n}:1")).collect();
    for bad in ["a:1,a:1", "a:0,b:1", "a:1 b:2", &many.join(",")] {
        let refused = targets(bad).expect_err(bad).to_string();
        assert!(refused.starts_with("backend_targets (variable BACKEND_TARGETS)"), "{refused}");
    }
}

#[test]
fn values_that_contradict_each_other_are_both_named() {
    let same = config("rest_addr = \"a:1\"", &[], &[("grpc-addr", "a:1")]).expect_err("same address").to_string();
    assert!(same.contains("grpc_addr (flag --grpc-addr)") && same.contains("rest_addr (campanile.toml, line 1)"));
    assert!(config("", &[], &[("grpc-addr", "a:0"), ("rest-addr", "a:0")]).is_ok(), "free ports differ");
    let small = config("", &[("BROKER_JOURNAL_FILE_BYTES", "4 MiB")], &[]).expect_err("too small").to_string();
    assert!(small.contains("journal_file_bytes (variable BROKER_JOURNAL_FILE_BYTES)"), "{small}");
    assert!(small.contains("message_bytes_max (default)"), "{small}");
}
