//! `campanile publish --lines`: each line of the input as a message, confirmed one by one while the next ones are on their way.
//!
//! How far it has come is shown on standard error, where that is a terminal. Invariant: what is counted as stored was
//! confirmed.

use std::io::{self, Write as _};

use bytes::Bytes;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::json;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader};

use super::{
    Failure, Remote,
    lines::{messages, one_line},
    output::Form,
    publish::Draft,
};
use crate::{
    client::{Confirmations, Publisher},
    grpc::proto::v1::{Confirmation, confirmation::Outcome},
};

/// As long as the longest message that a broker can be set to take.
const LINE_BYTES_MAX: u64 = 16 << 20;

/// What became of the lines so far.
struct Tally {
    stored: u64,
    refused: u64,
    bar: ProgressBar,
}

pub(super) async fn run(topic: &str, draft: Draft, remote: &mut Remote) -> Result<(), Failure> {
    let (publisher, mut confirmations) = remote.client.publish_stream(topic).await?;
    // Which line each message is, as the confirmations come in the messages' order.
    let (line_numbers, mut numbers) = tokio::sync::mpsc::unbounded_channel();
    let mut tally = Tally { stored: 0, refused: 0, bar: bar() };
    let (sent, confirmed) = tokio::join!(send_lines(publisher, &draft, line_numbers), async {
        while let Some(confirmation) = next(&mut confirmations, tally.stored).await? {
            let line: u64 = numbers.recv().await.unwrap_or_default();
            tally.count(line, &confirmation, remote)?;
        }
        Ok::<_, Failure>(())
    });
    tally.bar.finish_and_clear();
    // Why the stream broke is said by the confirmations; that nothing could be sent any more follows from it.
    confirmed?;
    sent?;
    if remote.form == Form::Text {
        remote.output.line(&format!("{} stored", messages(tally.stored)))?;
    }
    match tally.refused {
        0 => Ok(()),
        refused => Err(Failure::SomeRefused { refused, all: tally.stored + refused }),
    }
}

async fn next(confirmations: &mut Confirmations, confirmed: u64) -> Result<Option<Confirmation>, Failure> {
    confirmations.next().await.map_err(|source| Failure::StreamBroke { confirmed, source })
}

/// Sends the lines of standard input. The publisher is dropped at their end, so that the confirmations end.
async fn send_lines(
    publisher: Publisher,
    draft: &Draft,
    line_numbers: tokio::sync::mpsc::UnboundedSender<u64>,
) -> Result<(), Failure> {
    let mut stdin = BufReader::new(tokio::io::stdin());
    for line in 1.. {
        let mut text = Vec::new();
        if (&mut stdin).take(LINE_BYTES_MAX + 1).read_until(b'\n', &mut text).await? == 0 {
            break;
        }
        if text.len() as u64 > LINE_BYTES_MAX {
            return Err(Failure::LongLine { line, max: LINE_BYTES_MAX });
        }
        let end = text.trim_ascii_end().len();
        text.truncate(end);
        if text.is_empty() {
            continue;
        }
        // Before it is sent, so that it is there when the confirmation comes. The receiver outlives this.
        let _ = line_numbers.send(line);
        publisher.send(draft.message(Bytes::from(text))).await?;
    }
    Ok(())
}

impl Tally {
    fn count(&mut self, line: u64, confirmation: &Confirmation, remote: &mut Remote) -> Result<(), Failure> {
        match &confirmation.outcome {
            Some(Outcome::Stored(message)) => {
                self.stored += 1;
                self.bar.inc(1);
                if remote.form == Form::Json {
                    let object =
                        json!({ "line": line, "message_id": message.message_id, "duplicate": message.duplicate });
                    remote.output.json(&object)?;
                }
            }
            Some(Outcome::Refused(problem)) => {
                self.refused += 1;
                let text = one_line(&format!("campanile: line {line}: {} ({})", problem.detail, problem.code));
                // Who does not listen has the exit code.
                self.bar.suspend(|| drop(writeln!(io::stderr(), "{text}")));
            }
            // Of a later version: neither stored nor refused, as far as is known here.
            None => self.refused += 1,
        }
        Ok(())
    }
}

fn bar() -> ProgressBar {
    let style = ProgressStyle::with_template("{spinner} {human_pos} messages stored, {per_sec}");
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
    bar.with_style(style.expect("the template is a valid one"))
}
