//! What a repair is to do, step by step, and what is given up by it.
//!
//! The order is that in which a repair may be broken off after any step: what has been done by then leaves a directory that
//! is refused as before, or one that is repaired, and never one of which more is lost.

use std::{
    fmt, io,
    path::{Path, PathBuf},
};

use uuid::Uuid;

use super::{Diagnosis, History, Remedy};
use crate::engine::{
    checkpoint,
    disk::Disk,
    journal::{
        Position,
        file::{self, Cut},
    },
    state::{State, Whereabouts},
};

/// What a repair does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// In this order.
    pub actions: Vec<Action>,
    /// What is read of the journal behind the damage, if the history is to end before it.
    pub behind: Option<GivenUp>,
    /// Messages that some queue wants and that stand nowhere any more, if segments are given up.
    pub lost: Option<u64>,
}

/// The end of a history.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GivenUp {
    /// Frames that are whole.
    pub frames: u64,
    /// Messages that were published in them. Most of these may have been consumed.
    pub messages: u64,
}

/// One thing that a repair does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Moves a file to where things are set aside.
    SetAside {
        /// The file.
        path: PathBuf,
    },
    /// Copies the manifest to where things are set aside, and writes it again without some of the files that it names.
    Forget {
        /// The manifest.
        path: PathBuf,
        /// Segments, and files of dedup ids.
        files: Vec<PathBuf>,
    },
    /// Makes an empty file, by which the numbers of journal files that go are not used again.
    Mark {
        /// The file.
        path: PathBuf,
    },
    /// Copies a journal file to where things are set aside, and writes it again as far as it is whole.
    End {
        /// The file.
        path: PathBuf,
        /// Where its last frame ends.
        offset: u64,
    },
}

/// What a look has found out beside the problems.
#[derive(Debug, Default)]
pub(super) struct Damage {
    /// Where the last frame before the damage ends.
    pub(super) whole: Option<(PathBuf, u64)>,
    /// Segments and files of dedup ids that cannot be used.
    pub(super) unusable: Vec<PathBuf>,
}

impl Plan {
    /// # Errors
    /// The system's answer.
    pub(super) fn make(
        diagnosis: &Diagnosis,
        disk: &dyn Disk,
        store: Uuid,
        from: Position,
        damage: &Damage,
        state: &State,
    ) -> io::Result<Self> {
        let data_dir = &diagnosis.data_dir;
        let mut plan = Self { actions: Vec::new(), behind: None, lost: None };
        if !damage.unusable.is_empty() {
            plan.without(disk, data_dir, &damage.unusable);
            let lost = state.places().filter(|place| matches!(state.find(*place), Whereabouts::Nowhere)).count();
            plan.lost = Some(lost as u64);
        }
        if diagnosis.remedies.contains(&Remedy::EndHistory) {
            let Cut { marker, out, end } = file::cut(disk, data_dir, store, from, damage.whole.as_ref())?;
            plan.actions.extend(marker.map(|path| Action::Mark { path }));
            plan.actions.extend(out.into_iter().map(|path| Action::SetAside { path }));
            plan.actions.extend(end.map(|(path, offset)| Action::End { path, offset }));
            let History { frames, messages, .. } = diagnosis.behind;
            plan.behind = Some(GivenUp { frames, messages });
        }
        Ok(plan)
    }

    /// What is given up, in words.
    #[must_use]
    pub fn losses(&self) -> Vec<String> {
        let mut losses = Vec::new();
        if let Some(GivenUp { frames, messages }) = self.behind {
            losses.push(format!(
                "{frames} whole frames behind the damage, in which {messages} messages were published; and whatever stood \
                 where something is damaged or missing, of which nothing can be told"
            ));
            losses.push(
                "the acks and leases in them: what was consumed then is delivered once more, and an ack id of then may \
                 ack a message that is published from now on"
                    .to_owned(),
            );
        }
        if let Some(lost) = self.lost {
            losses.push(format!(
                "{lost} messages that are wanted and stand nowhere any more: a broker reports them as lost when their turn \
                 comes"
            ));
        }
        if self.forgets_dedup_ids() {
            losses.push("dedup ids: a message that was published with one of them may be stored once more".to_owned());
        }
        losses
    }

    fn forgets_dedup_ids(&self) -> bool {
        let is_of_ids = |path: &PathBuf| path.extension().is_some_and(|ending| ending == "ids");
        self.actions.iter().any(|action| matches!(action, Action::Forget { files, .. } if files.iter().any(is_of_ids)))
    }

    /// The files first: a start removes segments that the manifest does not name.
    fn without(&mut self, disk: &dyn Disk, data_dir: &Path, unusable: &[PathBuf]) {
        let there = unusable.iter().filter(|path| disk.open_read(path).is_ok()).cloned();
        self.actions.extend(there.map(|path| Action::SetAside { path }));
        let path = checkpoint::manifest_path(data_dir);
        self.actions.push(Action::Forget { path, files: unusable.to_vec() });
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SetAside { path } => write!(f, "set aside {}", path.display()),
            Self::Forget { path, files } => {
                let names = files.iter().filter_map(|path| path.file_name()).map(|name| name.to_string_lossy());
                let names: Vec<_> = names.collect();
                write!(f, "write {} without {}, after a copy of it was set aside", path.display(), names.join(", "))
            }
            Self::Mark { path } => {
                write!(f, "make the empty file {}, so that no file number comes twice", path.display())
            }
            Self::End { path, offset } => {
                write!(f, "end {} at offset {offset}, after a copy of it was set aside", path.display())
            }
        }
    }
}
