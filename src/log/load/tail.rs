//! The end of a log, as a reading pass found it: what is behind it goes, and is told.

use crate::error::{Error, Result};
use crate::log::files::names::{FileKind, FileStage};
use crate::log::finding::FindingKind;
use crate::log::load::folder::FolderFile;
use crate::log::load::reader::{Pass, SegmentEnd};
use crate::log::load::repair::Step;
use crate::log::scan::{SCAN_WINDOW_BYTES, Stop, is_zero};
use crate::storage::planted::{Planted, planted};

impl Pass<'_> {
    /// The log of our own ends at `end`: what is behind it goes before the first append, so that
    /// it cannot come back when new batches fill the hole exactly (rule R2).
    ///
    /// Cutting and allocating anew does what zeroing would: the bytes read as zeros afterwards,
    /// and the sync covers the length. It costs nothing per byte.
    pub fn end_own_tail(&mut self, file: &FolderFile, end: &SegmentEnd) -> Result<()> {
        self.tell_tail(file, end)?;
        if file.len > end.position && !planted(Planted::NoTailZero) {
            self.repairs.push(Step::Cut {
                path: file.settled_path(),
                len: end.position,
                copy: false,
            });
        }
        Ok(())
    }

    /// Says what lies behind the end. Returns how many bytes up to the last one that is not zero.
    pub fn tell_tail(&mut self, file: &FolderFile, end: &SegmentEnd) -> Result<u64> {
        if file.len <= end.position {
            return Ok(0);
        }
        let lost = match end.stop {
            // The reading has looked as far as this would.
            Stop::Zeros => 0,
            _ => self.bytes_behind(file, end.position)?,
        };
        if lost == 0 {
            let message = "zeros behind the last batch, as a kill leaves them";
            self.note(FindingKind::UncutTail, file, end.position, message);
        } else {
            let message = format!("{}: the log ends here, {lost} bytes are left out", end.stop);
            self.note(FindingKind::TornTail, file, end.position, &message);
            self.report.bytes_lost += lost;
        }
        Ok(lost)
    }

    /// How many bytes there are behind `position` up to the last one that is not zero.
    fn bytes_behind(&self, file: &FolderFile, position: u64) -> Result<u64> {
        let failed = |error| Error::io(error, "reading", &file.path);
        let open = self.storage.open(&file.path).map_err(failed)?;
        let end = file.len.min(position.saturating_add(self.zeros_max_bytes));
        let mut buffer = vec![0; SCAN_WINDOW_BYTES];
        let (mut at, mut last) = (position, position);
        while at < end {
            let want = usize::try_from(end - at).unwrap_or(usize::MAX).min(buffer.len());
            let read =
                open.read_at(at, buffer.get_mut(..want).unwrap_or_default()).map_err(failed)?;
            if read == 0 {
                break;
            }
            let chunk = buffer.get(..read).unwrap_or_default();
            if !is_zero(chunk)
                && let Some(found) = chunk.iter().rposition(|&byte| byte != 0)
            {
                last = at + found as u64 + 1;
            }
            at += read as u64;
        }
        Ok(last - position)
    }

    /// Files behind the end of our own log, as a power cut leaves them: they are removed before
    /// the first append, the last one first, so that what is left is always a prefix.
    pub fn lose_files(&mut self, files: &[&FolderFile]) {
        for file in files.iter().rev() {
            let message = format!(
                "{} bytes behind the end of the log, which a power cut moved to offset {}",
                file.len,
                self.log_end()
            );
            self.note(FindingKind::LostSegments, file, 0, &message);
            self.report.segments_lost += 1;
            if !planted(Planted::NoTailZero) {
                self.repairs.push(Step::Remove(file.settled_path()));
                self.remove_derived(file.name.offset);
            }
        }
        self.repairs.sync_folder(&self.folder.path);
    }

    /// Passes over files that a failed roll made and never used: the log went on in the file
    /// before, beyond where they begin. They are removed before the first append.
    pub fn skip_unused<'f>(
        &mut self,
        mut files: &'f [&'f FolderFile],
    ) -> Result<&'f [&'f FolderFile]> {
        while let Some((file, later)) = files.split_first() {
            if file.name.offset >= self.log_end() || self.bytes_behind(file, 0)? > 0 {
                break;
            }
            self.note(FindingKind::HalfDone, file, 0, "a segment that was made and never used");
            self.repairs.push(Step::Remove(file.settled_path()));
            self.remove_derived(file.name.offset);
            files = later;
        }
        self.repairs.sync_folder(&self.folder.path);
        Ok(files)
    }

    /// Removes the index files that are there for the segment at `offset`.
    pub fn remove_derived(&mut self, offset: i64) {
        for kind in [FileKind::OffsetIndex, FileKind::TimeIndex, FileKind::TransactionIndex] {
            if let Some(file) = self.folder.file(offset, kind) {
                self.repairs.push(Step::Remove(file.settled_path()));
            }
        }
    }

    /// Has snapshots of a producer state that the log does not reach removed: a later log end must
    /// not meet them.
    pub fn drop_snapshots(&mut self) {
        if self.read_only.is_some() {
            return;
        }
        let log_end = self.log_end();
        for file in &self.folder.files {
            let name = file.name;
            let live = name.kind == FileKind::Snapshot && name.stage == FileStage::Live;
            if live && name.offset > log_end {
                self.repairs.push(Step::Remove(file.settled_path()));
            }
        }
        self.repairs.sync_folder(&self.folder.path);
    }
}
