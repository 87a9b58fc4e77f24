//! A process that fills a queue and is killed, and one that starts in its place.

use std::{
    env,
    io::{BufRead as _, BufReader, Write as _},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use bytes::Bytes;
use campanile::engine::{AckMode, Engine, Options};
use tokio::task::JoinSet;

use crate::{
    Asked, Result, disk, line,
    load::{drafts, name, receive, receive_from},
};

/// The argument that makes this program one of those processes.
const CHILD: &str = "--backlog-child";
const PAYLOAD_BYTES: usize = 1024;

/// What the process is to do.
pub(crate) struct Child {
    task: String,
    dir: PathBuf,
    messages: usize,
}

impl Child {
    pub(crate) fn parse(args: &[String]) -> Option<Self> {
        let [first, task, dir, messages] = args else { return None };
        let messages = messages.parse().ok()?;
        (first == CHILD).then(|| Self { task: task.clone(), dir: dir.into(), messages })
    }

    /// Says what it has to say in lines of its output, and waits to be killed.
    pub(crate) async fn run(self) -> Result<()> {
        let engine = Engine::open(Options::new(&self.dir))?;
        match self.task.as_str() {
            "fill" => fill(&engine, self.messages, PAYLOAD_BYTES).await?,
            "settle" => settle(&engine).await?,
            _ => {
                say(&format!("ready {}", memory("VmRSS")?))?;
                for _ in 0..100 {
                    receive(&engine, 1000, AckMode::AtOnce).await?;
                }
            }
        }
        say(&format!("done {} {}", memory("VmRSS")?, memory("VmHWM")?))?;
        std::future::pending().await
    }
}

fn say(text: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{text}")?;
    Ok(out.flush()?)
}

/// Publishes to `t`.
pub(crate) async fn fill(engine: &Engine, messages: usize, payload_bytes: usize) -> Result<()> {
    const TASKS: usize = 64;
    const BATCH: usize = 16;
    let mut tasks = JoinSet::new();
    for _ in 0..TASKS {
        let engine = engine.clone();
        tasks.spawn(async move {
            let payload = Bytes::from(vec![b'x'; payload_bytes]);
            for _ in 0..messages / TASKS / BATCH {
                engine.publish(name("t"), drafts(BATCH, &payload)).await?;
            }
            Result::Ok(())
        });
    }
    while let Some(done) = tasks.join_next().await {
        done??;
    }
    Ok(())
}

/// Has so much pass through another queue that a checkpoint is written: what waits is on the disk then.
async fn settle(engine: &Engine) -> Result<()> {
    let payload = Bytes::from(vec![b'x'; PAYLOAD_BYTES]);
    for _ in 0..600 {
        engine.publish(name("other"), drafts(500, &payload)).await?;
        receive_from(engine, "other", 500, AckMode::AtOnce).await?;
    }
    Ok(())
}

/// A line of what the system says of this process, in MiB.
pub(crate) fn memory(field: &str) -> Result<f64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let found = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':')?.split_whitespace().next());
    Ok(found.ok_or("the system does not tell what memory a process takes")?.parse::<f64>()? / 1024.0)
}

/// What the processes said.
struct Seen {
    filled_per_second: f64,
    fill_peak: f64,
    ready: Duration,
    ready_memory: f64,
    drained_peak: f64,
    /// With all that waits on the disk, before anything is asked.
    at_rest: f64,
}

fn child(task: &str, dir: &Path, messages: usize) -> Result<(Instant, std::process::Child)> {
    let mut command = Command::new(env::current_exe()?);
    command.args([CHILD, task]).arg(dir).arg(messages.to_string()).stdout(Stdio::piped());
    Ok((Instant::now(), command.spawn()?))
}

/// The numbers of the next line, which begins with that word.
fn heard(lines: &mut impl Iterator<Item = std::io::Result<String>>, word: &str) -> Result<Vec<f64>> {
    let line = lines.next().ok_or("the process has ended too early")??;
    let numbers = line.strip_prefix(word).ok_or_else(|| format!("the process said {line}"))?;
    Ok(numbers.split_whitespace().map(str::parse).collect::<std::result::Result<_, _>>()?)
}

fn measure(dir: &Path, messages: usize) -> Result<Seen> {
    let (begun, mut filling) = child("fill", dir, messages)?;
    let mut lines = BufReader::new(filling.stdout.take().ok_or("no output")?).lines();
    let fill = heard(&mut lines, "done")?;
    let filled_per_second = messages as f64 / begun.elapsed().as_secs_f64();
    filling.kill()?;
    filling.wait()?;
    let (begun, mut opening) = child("open", dir, messages)?;
    let mut lines = BufReader::new(opening.stdout.take().ok_or("no output")?).lines();
    let ready = heard(&mut lines, "ready")?;
    let took = begun.elapsed();
    let drained = heard(&mut lines, "done")?;
    opening.kill()?;
    opening.wait()?;
    let (_, mut settling) = child("settle", dir, messages)?;
    let mut lines = BufReader::new(settling.stdout.take().ok_or("no output")?).lines();
    heard(&mut lines, "done")?;
    settling.kill()?;
    settling.wait()?;
    let (_, mut resting) = child("open", dir, messages)?;
    let mut lines = BufReader::new(resting.stdout.take().ok_or("no output")?).lines();
    let at_rest = heard(&mut lines, "ready")?[0];
    resting.kill()?;
    resting.wait()?;
    let (fill_peak, ready_memory, drained_peak) = (fill[1], ready[0], drained[1]);
    Ok(Seen { filled_per_second, fill_peak, ready: took, ready_memory, drained_peak, at_rest })
}

pub(crate) fn run(asked: &Asked) -> Result<()> {
    let mut seen = Vec::new();
    for messages in [asked.messages / 10, asked.messages] {
        let dir = asked.fresh("backlog")?;
        let found = measure(&dir, messages)?;
        let of = format!("{messages} x 1 KiB");
        let took = found.ready.as_secs_f64();
        let figure = format!("{took:.2} s ({:.0} MiB resident)", found.ready_memory);
        line(&format!("ready after kill -9, {of}"), &figure, "<= 1 s", took <= 1.0);
        let peak = found.fill_peak.max(found.drained_peak);
        let figure = format!("{:.0} / {:.0} MiB", found.fill_peak, found.drained_peak);
        line(&format!("peak memory filling / opening and draining, {of}"), &figure, "<= 256 MiB", peak <= 256.0);
        let segments = disk::bytes_of(&dir.join("segments"))? as f64;
        let journal = disk::bytes_of(&dir.join("journal"))? >> 20;
        let live = (messages * PAYLOAD_BYTES) as f64;
        let figure = format!("{:.2} (+ {journal} MiB journal)", segments / live);
        line(&format!("segments / payload bytes, {of}"), &figure, "<= 1.20", segments / live <= 1.2);
        println!("  filled with {:.0}k/s", found.filled_per_second / 1000.0);
        seen.push(found.at_rest);
    }
    let (less, more) = (seen[0], seen[1]);
    let figure = format!("{less:.0} -> {more:.0} MiB");
    line("memory at rest, ten times the messages", &figure, "+ <= 16 MiB", more - less <= 16.0);
    Ok(())
}
