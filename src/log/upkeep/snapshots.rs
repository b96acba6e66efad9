//! Snapshots of the producers: learnt when a log is first written to, written behind a roll and at
//! a close.
//!
//! The bytes of one are taken where its segment begins, under the writer's lock; the file is
//! written once the segment before is durable, so that no snapshot is ahead of its log. As in
//! Kafka there is one for each segment, which goes with it, and one at the log end after a close.
//!
//! Departure: D66. A partition that never had a producer with an id has none; Kafka's are empty.

use crate::error::{Error, Result};
use crate::log::Log;
use crate::log::files::names::{FileKind, file_name};
use crate::log::lifecycle::close::UnsyncedSnapshots;
use crate::log::lifecycle::open::Upkeep;
use crate::log::load::producers::KnownLog;
use crate::log::producers::snapshot::{self, SnapshotRow};
use crate::log::segment::state::{EndSnapshot, FileProof};
use crate::log::segment::{BaseSnapshot, Segment, Stage};
use crate::sync::Arc;
use std::path::{Path, PathBuf};

impl Log {
    /// Reads what the log knows of producers, unless that is known.
    pub(in crate::log) fn learn_producers(&self, upkeep: &mut Upkeep) -> Result<()> {
        let end_snapshot = {
            let writer = self.writer.lock();
            if writer.producers.is_known() {
                return Ok(());
            }
            writer.end_snapshot
        };
        let segments = self.segments.all();
        let segments: Vec<_> = segments
            .iter()
            .map(|segment| (segment.state(None), segment.path().to_path_buf()))
            .collect();
        let (storage, folder) = (&*self.env.storage, self.id.dir.as_path());
        let known = KnownLog { storage, folder, segments: &segments, end_snapshot };
        let (entries, findings) = known.producers().map_err(|error| self.at_home(error))?;
        for finding in &findings {
            tracing::warn!("{finding}");
        }
        upkeep.findings.extend(findings);
        self.writer.lock().producers.learn(entries);
        Ok(())
    }

    /// Opens the log, and reads what it knows of producers.
    ///
    /// # Errors
    /// As [`Log::producers`].
    pub(in crate::log) fn know_producers(&self) -> Result<()> {
        let mut upkeep = self.upkeep.lock();
        self.open_locked(&mut upkeep)?;
        self.learn_producers(&mut upkeep)
    }

    /// Forgets producers that were not heard of for `producer.id.expiration.ms`. A log that did
    /// not learn of its producers does when it learns.
    pub fn expire_producers(&self, now_ms: i64) {
        let mut writer = self.writer.lock();
        if writer.producers.is_known() {
            writer.producers.expire(now_ms, self.env.producer_expiration_ms);
        }
    }

    /// The producers, by id, as a snapshot keeps them.
    ///
    /// # Errors
    /// Those of opening; [`CorruptRecord`](crate::ErrorKind::CorruptRecord) where a batch that
    /// would tell cannot be read.
    pub fn producers(&self, now_ms: i64) -> Result<Vec<SnapshotRow>> {
        let mut upkeep = self.upkeep.lock();
        self.open_locked(&mut upkeep)?;
        self.learn_producers(&mut upkeep)?;
        let mut writer = self.writer.lock();
        writer.producers.expire_learnt(now_ms, self.env.producer_expiration_ms);
        Ok(writer.producers.rows())
    }

    /// The oldest segment whose snapshot is still to be written, and may be.
    pub(in crate::log) fn next_snapshot(&self) -> Option<(Arc<Segment>, Arc<Vec<u8>>)> {
        let segments = self.segments.all();
        for (at, segment) in segments.iter().enumerate() {
            let BaseSnapshot::Taken(bytes) = segment.snapshot() else { continue };
            let before = at.checked_sub(1).and_then(|before| segments.get(before));
            if before.is_none_or(|before| matches!(before.stage(), Stage::Sealed)) {
                return Some((segment.clone(), bytes));
            }
        }
        None
    }

    /// Has the oldest segment tell of the producers whose batches lie before it, and are about to
    /// go, where no snapshot of its is vouched for. Those that sent since are told by what they
    /// sent.
    pub(in crate::log) fn take_first_snapshot(&self) {
        let Some(first) = self.segments.nth(0) else { return };
        let writer = self.writer.lock();
        let known = writer.producers.any() && writer.producers.is_known();
        if !known || !matches!(first.snapshot(), BaseSnapshot::Unproven) {
            return;
        }
        let mut rows = writer.producers.rows();
        rows.retain(|row| row.last_offset < first.base_offset);
        first.set_snapshot(BaseSnapshot::Taken(Arc::new(snapshot::to_bytes(&rows))));
    }

    /// Writes the snapshots that were taken, as far as the segments before them are durable.
    pub(in crate::log) fn write_snapshots(&self, _: &mut Upkeep) -> Result<()> {
        while let Some((segment, bytes)) = self.next_snapshot() {
            let mut snapshots = UnsyncedSnapshots::default();
            self.write_taken(segment, &bytes, &mut snapshots)?;
            self.sync_snapshots(&snapshots, true)?;
            self.vouch_for(snapshots)?;
        }
        Ok(())
    }

    /// Writes all snapshots that a close leaves, the one at the log end too, where there ever was
    /// a producer. They are durable with the segments: one that a crash leaves ahead of its log is
    /// removed when that is opened.
    pub(in crate::log) fn write_last_snapshots(&self, _: &mut Upkeep) -> Result<UnsyncedSnapshots> {
        let mut snapshots = UnsyncedSnapshots::default();
        if self.segments.len() == 0 {
            // A power cut took all there was, and the folder perhaps, too.
            return Ok(snapshots);
        }
        for segment in self.segments.all() {
            if let BaseSnapshot::Taken(bytes) = segment.snapshot() {
                self.write_taken(segment, &bytes, &mut snapshots)?;
            }
        }
        let (offset, bytes, before) = {
            let writer = self.writer.lock();
            let Some(bytes) = writer.producers.snapshot() else { return Ok(snapshots) };
            (writer.next_offset, bytes, writer.end_snapshot)
        };
        let end = EndSnapshot { offset, proof: FileProof::of(&bytes) };
        match self.segments.last().filter(|last| last.base_offset == offset) {
            // An empty last segment has it as its own.
            Some(last) if matches!(last.snapshot(), BaseSnapshot::Unproven) => {
                self.write_taken(last, &bytes, &mut snapshots)?;
            }
            None if before != Some(end) => {
                self.write_snapshot(&self.snapshot_path(offset), &bytes, &mut snapshots)?;
                snapshots.end = Some(end);
            }
            _ => {}
        }
        Ok(snapshots)
    }

    fn write_taken(
        &self,
        segment: Arc<Segment>,
        bytes: &[u8],
        snapshots: &mut UnsyncedSnapshots,
    ) -> Result<()> {
        let path = segment.path_of(FileKind::Snapshot);
        let proof = self.write_snapshot(&path, bytes, snapshots)?;
        snapshots.segments.push((segment, proof));
        Ok(())
    }

    fn write_snapshot(
        &self,
        path: &Path,
        bytes: &[u8],
        snapshots: &mut UnsyncedSnapshots,
    ) -> Result<FileProof> {
        let written = self.derived_files(&mut snapshots.files).write(path, bytes);
        written.map_err(|error| self.at_home(error))
    }

    /// Makes the bytes of snapshots durable, and if asked to their names.
    pub(in crate::log) fn sync_snapshots(
        &self,
        snapshots: &UnsyncedSnapshots,
        names: bool,
    ) -> Result<()> {
        for file in &snapshots.files {
            let synced = file.sync_data();
            let failed = |e| Error::io(e, "cannot sync a snapshot of", &self.id.dir);
            synced.map_err(|e| self.at_home(failed(e)))?;
        }
        match names && !snapshots.files.is_empty() {
            true => self.sync_folder(),
            false => Ok(()),
        }
    }

    /// Takes note of snapshots that are durable. One that an earlier close left goes.
    pub(in crate::log) fn vouch_for(&self, snapshots: UnsyncedSnapshots) -> Result<()> {
        let base_offset = snapshots.segments.iter().map(|(segment, _)| segment.base_offset).max();
        for (segment, proof) in snapshots.segments {
            segment.set_snapshot(BaseSnapshot::Written(proof));
        }
        let newest = base_offset.max(snapshots.end.map(|end| end.offset));
        if let Some(newest) = newest {
            self.drop_end_snapshot(newest)?;
        }
        if snapshots.end.is_some() {
            self.writer.lock().end_snapshot = snapshots.end;
        }
        Ok(())
    }

    /// Removes the snapshot of an earlier close, now that there is one at `newer`.
    fn drop_end_snapshot(&self, newer: i64) -> Result<()> {
        let end = self.writer.lock().end_snapshot.take_if(|end| end.offset <= newer);
        let Some(end) = end.filter(|end| end.offset < newer && !self.begins_at(end.offset)) else {
            return Ok(());
        };
        let path = self.snapshot_path(end.offset);
        match self.env.storage.remove(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(self.at_home(Error::io(error, "cannot remove", &path)))
            }
            _ => Ok(()),
        }
    }

    /// Whether a segment with a snapshot of its own begins there.
    fn begins_at(&self, offset: i64) -> bool {
        let segment = self.segments.floor(offset).filter(|found| found.base_offset == offset);
        segment.is_some_and(|segment| matches!(segment.snapshot(), BaseSnapshot::Written(_)))
    }

    fn snapshot_path(&self, offset: i64) -> PathBuf {
        self.id.dir.join(file_name(offset, FileKind::Snapshot))
    }
}
