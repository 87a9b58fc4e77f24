//! The program as a process: started with settings, read by its log, killed or asked to end.

use std::{
    collections::BTreeMap,
    io::{BufRead as _, BufReader, Read},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex, PoisonError},
    thread::JoinHandle,
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::{
    clients::{Grpc, Rest},
    stage::eventually,
};

const PROGRAM: &str = env!("CARGO_BIN_EXE_campanile");

/// What a broker is started with.
#[derive(Debug, Clone)]
pub(crate) struct Launch {
    variables: BTreeMap<String, String>,
    args: Vec<String>,
    /// Where it is started, so that it finds no settings file that is none of the test's.
    folder: PathBuf,
}

impl Launch {
    pub(crate) fn new(data_dir: &Path, folder: &Path) -> Self {
        let launch = Self { variables: BTreeMap::new(), args: Vec::new(), folder: folder.to_owned() };
        launch
            .set("BROKER_DATA_DIR", data_dir.display())
            .set("BROKER_REST_ADDR", "127.0.0.1:0")
            .set("BROKER_GRPC_ADDR", "127.0.0.1:0")
            .set("BROKER_LOG_FORMAT", "json")
            // Small, so that tests go through several of them.
            .set("BROKER_JOURNAL_FILE_BYTES", "20 MiB")
            // However full the machine is that they run on.
            .set("BROKER_FREE_BYTES_MIN", 0)
    }

    /// Sets an environment variable.
    pub(crate) fn set(mut self, variable: &str, value: impl ToString) -> Self {
        self.variables.insert(variable.to_owned(), value.to_string());
        self
    }

    /// Takes an environment variable away.
    pub(crate) fn unset(mut self, variable: &str) -> Self {
        self.variables.remove(variable);
        self
    }

    /// Adds to the command line.
    pub(crate) fn args(mut self, args: &[&str]) -> Self {
        self.args.extend(args.iter().map(|arg| (*arg).to_owned()));
        self
    }

    /// What starts it, with its outputs piped.
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(PROGRAM);
        command.args(&self.args).current_dir(&self.folder).env_clear().envs(&self.variables);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Starts it and waits for nothing.
    pub(crate) fn spawn(&self) -> Process {
        Process::spawn(self.command())
    }

    /// Starts it and waits until it listens.
    pub(crate) async fn start(&self) -> Broker {
        let mut process = self.spawn();
        let listening = eventually("a broker that listens", async || {
            if let Some(status) = process.exited() {
                panic!("the broker ended with {status} instead of serving:\n{}", process.output());
            }
            process.event("listening")
        });
        let listening = listening.await;
        let addr = |field: &str| -> SocketAddr {
            listening[field].as_str().and_then(|addr| addr.parse().ok()).expect("a bound address in the log")
        };
        let (rest, grpc) = (addr("rest"), addr("grpc"));
        Broker { process, rest, grpc }
    }

    /// Starts it and waits until it has given up.
    pub(crate) async fn refused(&self) -> Refusal {
        let mut process = self.spawn();
        let status = process.ended().await;
        Refusal { code: status.code(), text: process.output() }
    }
}

/// A start that was refused.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) code: Option<i32>,
    /// All that was said.
    pub(crate) text: String,
}

/// A running process. It does not outlive this value.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    lines: Arc<Mutex<Vec<String>>>,
    readers: Vec<JoinHandle<()>>,
}

impl Process {
    /// Starts a command whose outputs are piped.
    pub(crate) fn spawn(mut command: Command) -> Self {
        let mut child = command.spawn().expect("the program can be started");
        let lines = Arc::default();
        let mut readers = Vec::new();
        if let Some(pipe) = child.stdout.take() {
            readers.push(read(pipe, Arc::clone(&lines)));
        }
        if let Some(pipe) = child.stderr.take() {
            readers.push(read(pipe, Arc::clone(&lines)));
        }
        Self { child, lines, readers }
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Ends it as `kill -9` does, at once.
    pub(crate) fn kill(&mut self) {
        // Both fail only if it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Asks it to end, as a supervisor does.
    pub(crate) fn terminate(&self) {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).expect("a process id");
        kill_process(pid, Signal::TERM).expect("the process is there");
    }

    /// How it ended, if it has.
    pub(crate) fn exited(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("a child can be waited for")
    }

    /// Waits for its end, and for all it said.
    pub(crate) async fn ended(&mut self) -> ExitStatus {
        let status = eventually("the end of a process", async || self.exited()).await;
        for reader in self.readers.drain(..) {
            reader.join().expect("reading does not panic");
        }
        status
    }

    /// All it said so far.
    pub(crate) fn output(&self) -> String {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner).join("\n")
    }

    fn last_words(&self) -> String {
        let lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        lines[lines.len().saturating_sub(10)..].join("\n")
    }

    /// The events of its JSON log with that message.
    pub(crate) fn events(&self, message: &str) -> Vec<Value> {
        let lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        let events = lines.iter().filter(|line| line.contains(message));
        events.filter_map(|line| serde_json::from_str(line).ok()).filter(|e: &Value| e["message"] == message).collect()
    }

    /// The first event of its JSON log with that message.
    pub(crate) fn event(&self, message: &str) -> Option<Value> {
        self.events(message).into_iter().next()
    }

    /// Waits for an event of its JSON log.
    pub(crate) async fn logged(&self, message: &str) -> Value {
        let event = eventually(message, async || self.event(message));
        event.await
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
        if !std::thread::panicking() {
            assert!(!self.output().contains("panicked at"), "the process panicked:\n{}", self.output());
        } else {
            eprintln!("what the process said last:\n{}", self.last_words());
        }
    }
}

fn read(pipe: impl Read + Send + 'static, lines: Arc<Mutex<Vec<String>>>) -> JoinHandle<()> {
    std::thread::spawn(move || {
        for line in BufReader::new(pipe).lines() {
            // What is no text is of no use to a test.
            let Ok(line) = line else { continue };
            lines.lock().unwrap_or_else(PoisonError::into_inner).push(line);
        }
    })
}

/// A broker that serves.
#[derive(Debug)]
pub(crate) struct Broker {
    pub(crate) process: Process,
    pub(crate) rest: SocketAddr,
    pub(crate) grpc: SocketAddr,
}

impl Broker {
    /// A REST client of the REST port.
    pub(crate) fn rest(&self) -> Rest {
        Rest::new(self.rest)
    }

    /// A gRPC client of the gRPC port.
    pub(crate) fn grpc(&self) -> Grpc {
        Grpc::new(self.grpc)
    }

    /// Asks it to end and waits until it has.
    pub(crate) async fn stop(mut self) -> ExitStatus {
        self.process.terminate();
        self.process.ended().await
    }
}
