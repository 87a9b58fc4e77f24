//! Writing one checkpoint. Runs on a thread of its own, on a copy of what it needs.

use std::{collections::BTreeSet, io, path::PathBuf, sync::Arc};

use uuid::Uuid;

use super::{
    Block, BlockError, DedupEntry, IdsEntry, LoadedBlock, Manifest, Place, SegmentEntry, SegmentId, load_block,
    manifest::Bound,
    paths,
    segment::{Keeping, Writer},
    store,
};
use crate::{
    engine::{
        disk::Disk,
        journal::Position,
        state::{Piece, Source},
    },
    model::KeyHash,
};

/// What one checkpoint has to write.
#[derive(Debug)]
pub(in crate::engine) struct Job {
    pub(super) disk: Arc<dyn Disk>,
    pub(super) data_dir: PathBuf,
    pub(super) store: Uuid,
    pub(super) position: Position,
    pub(super) next_segment: SegmentId,
    /// A segment is closed when it has reached this size.
    pub(super) segment_bytes: u64,
    /// Without the segments that are being written.
    pub(super) manifest: Manifest,
    pub(super) pieces: Vec<Piece>,
    /// Dedup ids that came since the last checkpoint.
    pub(super) ids: Vec<DedupEntry>,
    /// Files of dedup ids whose window is over.
    pub(super) ids_over: Vec<SegmentId>,
    /// Segments that the new manifest does without.
    pub(super) unneeded: Vec<SegmentId>,
    /// Those of them that are set aside instead of being removed.
    pub(super) damaged: BTreeSet<SegmentId>,
    /// What an earlier checkpoint, which failed, has left.
    pub(super) orphans: Vec<SegmentId>,
}

/// A checkpoint that is durable.
#[derive(Debug)]
pub(in crate::engine) struct Written {
    /// What came before this position in the journal is not needed any more.
    pub(in crate::engine) position: Position,
    pub(in crate::engine) next_segment: SegmentId,
    /// The new segments, and what stands in each.
    pub(in crate::engine) segments: Vec<(SegmentEntry, Vec<Block>)>,
    /// The files of dedup ids that there are now.
    pub(in crate::engine) ids: Vec<IdsEntry>,
    /// Segments that no one needs once this is known.
    pub(in crate::engine) removed: Vec<SegmentId>,
    /// Messages that were to be moved on and are damaged.
    pub(in crate::engine) lost: u64,
    removal: Removal,
}

impl Written {
    /// What is to be done once nobody looks for a message in the segments that are not needed.
    pub(super) fn into_removal(self) -> Removal {
        self.removal
    }
}

/// The files that a durable checkpoint does without.
#[derive(Debug)]
pub(in crate::engine) struct Removal {
    disk: Arc<dyn Disk>,
    /// Each with where it is set aside, if it is not removed.
    gone: Vec<(PathBuf, Option<PathBuf>)>,
}

impl Removal {
    /// Removes them. What cannot be removed now does no harm: the next start removes it.
    pub(in crate::engine) fn run(self) {
        for (path, aside) in self.gone {
            let _ = match aside {
                Some(aside) => self.disk.rename(&path, &aside),
                None => self.disk.remove(&path),
            };
        }
    }
}

/// A checkpoint that failed. Its manifest may have been written or not, so the journal keeps what it covers.
#[derive(Debug)]
pub(in crate::engine) struct Failed {
    pub(in crate::engine) error: io::Error,
    /// The first id that it has not used: its manifest, if it was written, names those before.
    pub(super) next_segment: SegmentId,
    /// The segments that it has made, and those that an earlier one had.
    pub(super) orphans: Vec<SegmentId>,
}

impl Job {
    /// Writes it; everything is durable when it returns.
    ///
    /// # Errors
    /// The system's answer, and what has to be done about it.
    pub(in crate::engine) fn run(mut self) -> Result<Written, Failed> {
        // Side by side per topic: what is read together stands together.
        self.pieces.sort_by_key(|piece| (piece.topic, piece.kind, piece.messages.first().map(|(seq, _)| *seq)));
        let first_new = self.next_segment;
        let mut lost = 0;
        let segments = self.write_segments(&mut lost).and_then(|segments| {
            self.write_ids()?;
            let ids = self.manifest.dedup.clone();
            self.write_manifest(segments.iter().map(|(segment, _)| *segment))?;
            Ok((segments, ids))
        });
        let (segments, ids) = match segments {
            Ok(written) => written,
            Err(error) => {
                self.orphans.extend((first_new.0..self.next_segment.0).map(SegmentId));
                return Err(Failed { error, next_segment: self.next_segment, orphans: self.orphans });
            }
        };
        let mut gone = Vec::new();
        for id in self.unneeded.iter().chain(&self.orphans) {
            let path = paths::segment_path(&self.data_dir, *id);
            let aside = self.damaged.contains(id).then(|| paths::damaged_path(&self.data_dir, *id));
            gone.push((path, aside));
        }
        // What failed may have been a segment or a file of ids.
        let ids_gone = self.ids_over.iter().chain(&self.orphans);
        gone.extend(ids_gone.map(|id| (paths::ids_path(&self.data_dir, *id), None)));
        let removal = Removal { disk: Arc::clone(&self.disk), gone };
        let (position, next_segment) = (self.position, self.next_segment);
        Ok(Written { position, next_segment, segments, ids, removed: self.unneeded, lost, removal })
    }

    /// Answers the segments, each with its blocks.
    fn write_segments(&mut self, lost: &mut u64) -> io::Result<Vec<(SegmentEntry, Vec<Block>)>> {
        let mut segments = Vec::new();
        let mut reader = Reader { disk: Arc::clone(&self.disk), data_dir: self.data_dir.clone(), last: None };
        let mut writer: Option<(SegmentId, Writer)> = None;
        for piece in std::mem::take(&mut self.pieces) {
            for (seq, source) in piece.messages {
                let (id, open) = match &mut writer {
                    Some((id, open)) => (*id, open),
                    None => {
                        let id = self.take_id();
                        let file = store::create(&*self.disk, &paths::segment_path(&self.data_dir, id))?;
                        let (_, open) = writer.insert((id, Writer::new(file, self.store, id)));
                        (id, open)
                    }
                };
                let place = Place { topic: piece.topic, kind: piece.kind, seq };
                if let Err(Lost(segment)) = reader.copy(place, &source, open)? {
                    *lost += 1;
                    self.damaged.insert(segment);
                }
                if open.bytes() >= self.segment_bytes
                    && let Some((_, full)) = writer.take()
                {
                    segments.push(finish(id, full)?);
                }
            }
            if let Some((_, open)) = &mut writer {
                open.end_block();
            }
        }
        if let Some((id, open)) = writer {
            segments.push(finish(id, open)?);
        }
        if !segments.is_empty() {
            self.disk.sync_dir(&paths::segments_dir(&self.data_dir))?;
        }
        Ok(segments)
    }

    /// An id that no segment has had.
    fn take_id(&mut self) -> SegmentId {
        let id = self.next_segment;
        self.next_segment = SegmentId(id.0.checked_add(1).expect("segments are far fewer than 2^32"));
        id
    }

    fn write_ids(&mut self) -> io::Result<()> {
        if !self.ids.is_empty() {
            let (id, entries) = (self.take_id(), std::mem::take(&mut self.ids));
            self.manifest.dedup.push(store::write_ids(&*self.disk, &self.data_dir, self.store, id, &entries)?);
        }
        Ok(())
    }

    fn write_manifest(&mut self, segments: impl Iterator<Item = SegmentEntry>) -> io::Result<()> {
        let mut manifest = std::mem::take(&mut self.manifest);
        manifest.segments.extend(segments);
        let (store, position, next_segment) = (self.store, self.position, self.next_segment);
        let bound = Bound { store, position, next_segment, manifest, ids: Vec::new() };
        store::replace_manifest(&*self.disk, &self.data_dir, &bound)
    }
}

fn finish(id: SegmentId, writer: Writer) -> io::Result<(SegmentEntry, Vec<Block>)> {
    let (bytes, blocks) = writer.finish()?;
    Ok((SegmentEntry { id, bytes }, blocks))
}

/// Gets messages from where they are; keeps the block that was read last, since its messages come one after the other.
struct Reader {
    disk: Arc<dyn Disk>,
    data_dir: PathBuf,
    last: Option<(Arc<Block>, LoadedBlock)>,
}

/// A message that is damaged, or whose segment is gone.
struct Lost(SegmentId);

impl Reader {
    /// Writes the message of `source` to `place`, if it is there to be written.
    fn copy(&mut self, place: Place, source: &Source, writer: &mut Writer) -> io::Result<Result<(), Lost>> {
        let (block, seq) = match source {
            Source::Recent(kept) => {
                let key = kept.message.properties.ordering_key.as_deref().map(KeyHash::of);
                writer.push(place, &kept.body(), Keeping { expires_at: kept.message.expires_at, key })?;
                return Ok(Ok(()));
            }
            Source::Saved(block, seq) => (block, *seq),
        };
        if self.last.as_ref().is_none_or(|(last, _)| last != block) {
            let loaded = match load_block(&*self.disk, &self.data_dir, block) {
                Ok(loaded) => loaded,
                Err(BlockError::Io(error)) => return Err(error),
                Err(BlockError::NotThere) => return Ok(Err(Lost(block.segment))),
            };
            self.last = Some((Arc::clone(block), loaded));
        }
        let lost = Lost(block.segment);
        let Some((_, loaded)) = &self.last else { return Ok(Err(lost)) };
        let Some(body) = loaded.body(seq) else { return Ok(Err(lost)) };
        writer.push(place, &body, loaded.keeping(seq)).map(Ok)
    }
}
