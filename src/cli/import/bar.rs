//! How far an import has come, in one line of a terminal that is drawn again and again.
//!
//! Drawn on standard error, at most 20 times a second, and not at all where that is no terminal. The invariant: a bar that
//! is dropped leaves nothing behind, so that what is printed next has the line for itself.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use indicatif::{HumanCount, ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};

use crate::engine::{ImportPass, ImportProgress};

const TEMPLATE: &str =
    "{prefix} {wide_bar} {binary_bytes}/{binary_total_bytes} {messages} messages, {binary_bytes_per_sec}, {eta} left";

/// The bar of one pass over one file.
pub(super) struct Bar {
    path: PathBuf,
    pass: ImportPass,
    messages: Arc<AtomicUsize>,
    bar: ProgressBar,
}

impl Bar {
    pub(super) fn new(progress: &ImportProgress<'_>) -> Self {
        let messages = Arc::new(AtomicUsize::new(0));
        let shown = Arc::clone(&messages);
        let style = ProgressStyle::with_template(TEMPLATE).expect("the template is a valid one").with_key(
            "messages",
            move |_: &ProgressState, out: &mut dyn std::fmt::Write| {
                // A bar that cannot be written is not shown: there is nothing else to it.
                let _ = write!(out, "{}", HumanCount(shown.load(Ordering::Relaxed) as u64));
            },
        );
        let doing = match progress.pass {
            ImportPass::Checking => "checking",
            ImportPass::Storing => "storing",
        };
        let bar = ProgressBar::with_draw_target(Some(progress.bytes_total), ProgressDrawTarget::stderr());
        bar.set_style(style);
        let name = progress.path.file_name().unwrap_or_default();
        bar.set_prefix(format!("{doing} {}", name.display()));
        Self { path: progress.path.to_path_buf(), pass: progress.pass, messages, bar }
    }

    /// Whether it is the bar of this pass over this file.
    pub(super) fn is_of(&self, progress: &ImportProgress<'_>) -> bool {
        self.path == progress.path && self.pass == progress.pass
    }

    pub(super) fn show(&self, progress: &ImportProgress<'_>) {
        self.messages.store(progress.messages, Ordering::Relaxed);
        self.bar.set_position(progress.bytes);
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
