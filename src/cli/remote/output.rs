//! Standard output, buffered: where it is a pipe that is closed, the command ends quietly.

use std::io::{self, BufWriter, IsTerminal as _, Stdout, Write as _};

use serde_json::Value;

use super::{failure::Failure, lines::one_line, table::Table};

/// For whom the output is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    Text,
    Json,
}

#[derive(Debug)]
pub(super) struct Output {
    stdout: BufWriter<Stdout>,
}

impl Output {
    pub(super) fn stdout() -> Self {
        Self { stdout: BufWriter::new(io::stdout()) }
    }

    pub(super) fn is_terminal() -> bool {
        io::stdout().is_terminal()
    }

    /// One line of words of ours. What others wrote must not break it, nor steer the terminal.
    pub(super) fn line(&mut self, text: &str) -> Result<(), Failure> {
        Ok(writeln!(self.stdout, "{}", one_line(text))?)
    }

    /// One JSON object.
    pub(super) fn json(&mut self, value: &Value) -> Result<(), Failure> {
        Ok(writeln!(self.stdout, "{value}")?)
    }

    /// A payload as it is, and a line's end.
    pub(super) fn payload(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.stdout.write_all(bytes)?;
        Ok(self.stdout.write_all(b"\n")?)
    }

    pub(super) fn table(&mut self, table: &Table) -> Result<(), Failure> {
        for line in table.lines() {
            self.line(&line)?;
        }
        Ok(())
    }

    /// Clears the terminal, for what is shown again and again.
    pub(super) fn clear(&mut self) -> Result<(), Failure> {
        Ok(self.stdout.write_all(b"\x1b[H\x1b[2J")?)
    }

    /// Everything that was written is out.
    pub(super) fn flush(&mut self) -> Result<(), Failure> {
        Ok(self.stdout.flush()?)
    }
}
