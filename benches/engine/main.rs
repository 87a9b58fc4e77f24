//! The engine against its targets, without REST or gRPC around it. Each line compares two things measured in this run, in
//! turns where they are rates, so that a busy or slow machine hits both.
//!
//! ```text
//! cargo bench --bench engine                                   all, small: about two minutes
//! cargo bench --bench engine -- topics                         one of them
//! cargo bench --bench engine -- backlog --messages 10000000    the large one: 12 GB, a minute or two
//!   --dir DIR   where the data goes (removed at the end); a temporary folder in `target` unless set
//! ```
//!
//! - `journal`: frames appended to the journal, beside writing and syncing the same bytes to a file that is there already;
//!   and, for what it is worth, the whole engine beside that.
//! - `fsyncs`: calls of fsync and fdatasync, of the whole engine, for a million publishes and a million acks.
//! - `topics`: the rate of publishing to 10,000 topics in turn, beside that to one; and how long a publish takes while a
//!   checkpoint is written.
//! - `backlog`: what a process takes in memory that fills a queue, is killed, and starts again; and how long that takes.
//! - `disk`: what the data directory takes beside the bytes of the messages that wait in it.
//! - `large`: small publishes while one of 16 MiB comes every second, beside without.
//! - `manage`: small publishes while a backlog (`--messages`) is purged and deleted, beside without.
//! - `deletions`: what topics (`--messages`) leave behind that come and go.
//! - `drain`: receiving from a long backlog, beside receiving what was published just before.
//!
//! A line without a target is there to be known: it compares with what no broker can reach.

mod backlog;
mod counting;
mod disk;
mod journal;
mod load;
mod manage;

use std::{env, error::Error, fs, path::PathBuf};

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

/// What was asked for.
struct Asked {
    only: Option<String>,
    /// Messages of the backlog; small unless it is asked for by name.
    messages: usize,
    dir: PathBuf,
}

impl Asked {
    fn parse(args: &[String]) -> Result<Self> {
        let dir = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("bench-engine");
        let mut asked = Self { only: None, messages: 200_000, dir };
        let mut args = args.iter();
        while let Some(arg) = args.next() {
            match arg.as_str() {
                "--bench" => {}
                "--messages" => asked.messages = args.next().ok_or("--messages takes a number")?.parse()?,
                "--dir" => asked.dir = args.next().ok_or("--dir takes a folder")?.into(),
                name if !name.starts_with('-') => asked.only = Some(name.to_owned()),
                other => return Err(format!("unknown argument {other}").into()),
            }
        }
        Ok(asked)
    }

    /// An empty folder for one measurement.
    fn fresh(&self, name: &str) -> Result<PathBuf> {
        let dir = self.dir.join(name);
        if dir.exists() {
            fs::remove_dir_all(&dir)?;
        }
        fs::create_dir_all(&dir)?;
        Ok(dir.join("store"))
    }
}

/// One line: what was measured, its target, and whether that is met.
fn line(what: &str, figure: &str, target: &str, is_met: bool) {
    println!("{what:<58} {figure:<34} {target:<12} {}", if is_met { "met" } else { "NOT MET" });
}

fn ratio(what: &str, ratio: f64, detail: &str, at_least: f64) {
    line(what, &format!("{ratio:.2} ({detail})"), &format!(">= {at_least:.2}"), ratio >= at_least);
}

/// One line without a target.
fn aside(what: &str, ratio: f64, detail: &str) {
    println!("{what:<58} {:<34} -", format!("{ratio:.2} ({detail})"));
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

fn main() -> Result<()> {
    let args: Vec<String> = env::args().skip(1).collect();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    if let Some(child) = backlog::Child::parse(&args) {
        return runtime.block_on(child.run());
    }
    if !args.iter().any(|arg| arg == "--bench") {
        println!("not measured: run `cargo bench --bench engine`");
        return Ok(());
    }
    let asked = Asked::parse(&args)?;
    let wanted = |name: &str| asked.only.as_deref().is_none_or(|only| only == name);
    println!("{:<58} {:<34} {:<12}", "what", "figure", "target");
    if wanted("journal") {
        journal::run(&asked)?;
        runtime.block_on(journal::run_engine(&asked))?;
    }
    if wanted("fsyncs") {
        runtime.block_on(load::fsyncs(&asked))?;
    }
    if wanted("topics") {
        runtime.block_on(load::topics(&asked))?;
    }
    if wanted("backlog") {
        backlog::run(&asked)?;
    }
    if wanted("disk") {
        runtime.block_on(disk::run(&asked))?;
    }
    if wanted("large") {
        runtime.block_on(load::large(&asked))?;
    }
    if wanted("manage") {
        runtime.block_on(manage::run(&asked))?;
    }
    if wanted("deletions") {
        runtime.block_on(manage::deletions(&asked))?;
    }
    if wanted("drain") {
        runtime.block_on(load::drain(&asked))?;
    }
    fs::remove_dir_all(&asked.dir)?;
    Ok(())
}
