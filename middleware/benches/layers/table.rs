//! The targets of this crate beside what was measured, from the files that criterion leaves.
//!
//! It measures nothing. A line that a filter left out is from an earlier run, or missing.

use std::{fs, path::Path};

pub(crate) const CLOSED: &str = "closed, consecutive failures";
pub(crate) const RATE: &str = "closed, failure rate";
pub(crate) const LIMIT: &str = "concurrency limit";
pub(crate) const HTTP: &str = "HTTP, a clone per request";
pub(crate) const STACK: &str = "server stack, axum route";
pub(crate) const THREADS: &str = "threads on one breaker";

/// What is promised of one line: at most so much over another line of its group.
struct Target {
    name: &'static str,
    group: &'static str,
    ours: &'static str,
    /// What ours is more than.
    bare: &'static str,
    /// The best of the others, for which `bare` is the same.
    others: &'static str,
    most: Most,
}

enum Most {
    /// Nanoseconds more than `bare`.
    Over(f64),
    /// Nanoseconds and one read of the clock more than `bare`.
    OverAndClock(f64),
    /// So many times `bare`.
    Times(f64),
}

const BARE: &str = "bare service";

const TARGETS: [Target; 10] = [
    Target {
        name: "breaker closed, consecutive failures",
        group: CLOSED,
        ours: "ours",
        bare: BARE,
        others: "tower-resilience",
        most: Most::Over(20.0),
    },
    Target {
        name: "breaker closed, failure rate over 30 s",
        group: RATE,
        ours: "ours, 30 s",
        bare: BARE,
        others: "tower-resilience, 100 calls",
        most: Most::OverAndClock(30.0),
    },
    Target {
        name: "breaker closed, consecutive failures, a clone per call",
        group: CLOSED,
        ours: "ours, a clone per call",
        bare: "bare service, a clone per call",
        others: "tower-resilience, a clone per call",
        most: Most::Over(45.0),
    },
    Target {
        name: "breaker closed, consecutive failures, HTTP",
        group: HTTP,
        ours: "ours, closed",
        bare: BARE,
        others: "tower-resilience, closed",
        most: Most::Over(45.0),
    },
    Target {
        name: "two threads on one breaker",
        group: THREADS,
        ours: "consecutive failures, 2",
        bare: "consecutive failures, 1",
        others: "",
        most: Most::Times(2.0),
    },
    Target {
        name: "breaker open: the whole rejection, HTTP",
        group: HTTP,
        ours: "ours, open",
        bare: BARE,
        others: "",
        most: Most::Over(150.0),
    },
    Target {
        name: "breaker open: the whole rejection, gRPC",
        group: HTTP,
        ours: "ours, open, gRPC",
        bare: "bare service, gRPC",
        others: "",
        most: Most::Over(150.0),
    },
    Target {
        name: "concurrency limit, rejecting",
        group: LIMIT,
        ours: "ours",
        bare: BARE,
        others: "tower, load shed and concurrency limit",
        most: Most::Over(25.0),
    },
    Target {
        name: "access log, nobody listens, HTTP",
        group: HTTP,
        ours: "ours, access log",
        bare: BARE,
        others: "tower-http, trace",
        most: Most::Over(40.0),
    },
    Target {
        name: "the stack of a server, route of axum",
        group: STACK,
        ours: "ours",
        bare: "bare route",
        others: "tower and tower-http",
        most: Most::Over(1000.0),
    },
];

/// The median of a line in nanoseconds, if it was measured.
fn median(results: &Path, group: &str, line: &str) -> Option<f64> {
    // Criterion's own names of files: what is not allowed in one becomes an underscore.
    let estimates = results.join(group).join(line).join("new/estimates.json");
    let text = fs::read_to_string(estimates).ok()?;
    let (_, median) = text.split_once(r#""median":"#)?;
    let (_, estimate) = median.split_once(r#""point_estimate":"#)?;
    estimate.split([',', '}']).next()?.parse().ok()
}

/// Prints the table in Markdown, as it stands in `README.md`.
pub(crate) fn print(results: &Path) {
    println!("\n| per call, in ns | bare | others | ours | others over bare | ours over bare | at most | |");
    println!("|---|--:|--:|--:|--:|--:|--:|---|");
    for target in &TARGETS {
        let of = |line| median(results, target.group, line);
        let (Some(ours), Some(bare)) = (of(target.ours), of(target.bare)) else { continue };
        let most = match target.most {
            Most::Over(most) => most,
            Most::OverAndClock(most) => most + median(results, RATE, "one clock read").unwrap_or_default(),
            Most::Times(times) => bare * (times - 1.0),
        };
        let others = of(target.others).filter(|_| !target.others.is_empty());
        let cell = |value: Option<f64>| value.map_or_else(String::new, |value| format!("{value:.1}"));
        println!(
            "| {} | {bare:.1} | {} | {ours:.1} | {} | {:.1} | {most:.1} | {} |",
            target.name,
            cell(others),
            cell(others.map(|others| others - bare)),
            ours - bare,
            if ours - bare <= most { "kept" } else { "missed" },
        );
    }
}
