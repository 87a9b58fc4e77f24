//! Writing one checkpoint. Runs on a thread of its own, on a copy of what it needs.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use uuid::Uuid;

use super::{Manifest, SegmentEntry, SegmentId, manifest::Bound, segment::Writer, store};
use crate::engine::{
    disk::{Disk, DiskFile},
    journal::Position,
    state::Piece,
};

/// A segment is closed when it has reached this size: large enough that there are few, small enough that moving the
/// last messages of one on costs little.
const SEGMENT_BYTES_TARGET: u64 = 64 << 20;

/// What one checkpoint has to write.
#[derive(Debug)]
pub(in crate::engine) struct Job {
    pub(super) disk: Arc<dyn Disk>,
    pub(super) data_dir: PathBuf,
    pub(super) store: Uuid,
    pub(super) position: Position,
    pub(super) next_segment: SegmentId,
    /// Without the segments that are being written.
    pub(super) manifest: Manifest,
    pub(super) pieces: Vec<Piece>,
    /// Segments that the new manifest does without.
    pub(super) unneeded: Vec<SegmentId>,
}

/// A checkpoint that is durable.
#[derive(Debug)]
pub(in crate::engine) struct Written {
    /// What came before this position in the journal is not needed any more.
    pub(in crate::engine) position: Position,
    pub(in crate::engine) next_segment: SegmentId,
    /// The new segments, and what stands in each.
    pub(in crate::engine) segments: Vec<(SegmentEntry, Vec<Piece>)>,
    /// Segments that are gone.
    pub(in crate::engine) removed: Vec<SegmentId>,
}

/// A checkpoint that failed. Its manifest may have been written or not, so the journal keeps what it covers.
#[derive(Debug)]
pub(in crate::engine) struct Failed {
    pub(in crate::engine) error: io::Error,
    /// What the next one has to write.
    pub(super) pieces: Vec<Piece>,
    /// The first id that it has not used: its manifest, if it was written, names those before.
    pub(super) next_segment: SegmentId,
}

impl Job {
    /// Writes it; everything is durable when it returns.
    ///
    /// # Errors
    /// The system's answer, and what has to be done about it.
    pub(in crate::engine) fn run(mut self) -> Result<Written, Failed> {
        // Side by side per topic: what is read together stands together.
        self.pieces.sort_by_key(|piece| (piece.topic, piece.kind, piece.messages.first().map(|(seq, _)| *seq)));
        let segments = self.write_segments().and_then(|segments| {
            self.write_manifest(segments.iter().map(|(segment, _)| *segment))?;
            Ok(segments)
        });
        let segments = match segments {
            Ok(segments) => segments,
            Err(error) => return Err(Failed { error, pieces: self.pieces, next_segment: self.next_segment }),
        };
        // What cannot be removed now does no harm: the next start removes it.
        for id in &self.unneeded {
            let _ = self.disk.remove(&store::segment_path(&self.data_dir, *id));
        }
        let mut pieces = self.pieces.into_iter();
        let segments = segments.into_iter().map(|(segment, count)| (segment, pieces.by_ref().take(count).collect()));
        Ok(Written {
            position: self.position,
            next_segment: self.next_segment,
            segments: segments.collect(),
            removed: self.unneeded,
        })
    }

    /// Answers the segments, each with how many of the pieces stand in it.
    fn write_segments(&mut self) -> io::Result<Vec<(SegmentEntry, usize)>> {
        let mut segments = Vec::new();
        let mut pieces = self.pieces.iter().peekable();
        while pieces.peek().is_some() {
            let id = self.next_segment;
            self.next_segment = SegmentId(id.0.checked_add(1).expect("segments are far fewer than 2^32"));
            let file = create(&*self.disk, &store::segment_path(&self.data_dir, id))?;
            let mut writer = Writer::new(file, self.store, id);
            let mut count = 0;
            while let Some(piece) = pieces.next_if(|_| writer.bytes() < SEGMENT_BYTES_TARGET) {
                for (seq, kept) in &piece.messages {
                    writer.push(piece.topic, piece.kind, *seq, kept)?;
                }
                count += 1;
            }
            segments.push((SegmentEntry { id, bytes: writer.finish()? }, count));
        }
        if !segments.is_empty() {
            self.disk.sync_dir(&store::segments_dir(&self.data_dir))?;
        }
        Ok(segments)
    }

    fn write_manifest(&mut self, segments: impl Iterator<Item = SegmentEntry>) -> io::Result<()> {
        let mut manifest = std::mem::take(&mut self.manifest);
        manifest.segments.extend(segments);
        let (store, position, next_segment) = (self.store, self.position, self.next_segment);
        let bound = Bound { store, position, next_segment, manifest };
        let (path, tmp) = (store::manifest_path(&self.data_dir), store::manifest_tmp_path(&self.data_dir));
        let file = create(&*self.disk, &tmp)?;
        file.write_all_at(&bound.encode(), 0)?;
        file.sync_data()?;
        self.disk.rename(&tmp, &path)?;
        self.disk.sync_dir(&self.data_dir)
    }
}

/// A new file, in place of what a checkpoint that failed may have left.
fn create(disk: &dyn Disk, path: &Path) -> io::Result<Box<dyn DiskFile>> {
    match disk.remove(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    disk.create(path)
}
