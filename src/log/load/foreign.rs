//! Opening a partition that another program wrote, or that is not as we left it.
//!
//! Everything is read and every CRC checked; nothing derived is believed. Half-done compactions
//! and deletions are finished as Apache Kafka finishes them. Damage that valid batches follow
//! ends the log and makes it read-only; bytes behind the last good batch are set aside and cut
//! before the first append. Appends go to a new segment, and no record is ever deleted.
//!
//! Departure: D13. Kafka leaves a torn batch where it is after a clean stop, and appends behind it:
//! what is appended must be readable.
//! Departure: D16. Kafka cuts at an invalid batch and deletes every later segment: valid batches
//! behind it say that it was no torn tail.

use crate::error::{Error, ErrorKind, Result};
use crate::log::files::names::FileKind;
use crate::log::finding::{Finding, FindingKind};
use crate::log::load::folder::{Folder, FolderFile};
use crate::log::load::lost_markers::LostMarkers;
use crate::log::load::producers;
use crate::log::load::reader::{Begin, Pass, SegmentEnd};
use crate::log::load::repair::{Repairs, Step};
use crate::log::load::{OpenOptions, OpenedPartition};
use crate::log::scan::{BatchExpectations, Invalid, Stop};
use crate::log::segment::state::{LogState, SegmentState};
use crate::storage::Storage;

/// The part of our own knowledge that stands, although the files contradict the rest.
pub(in crate::log) struct Vouched<'a> {
    /// A log that ends below it lost records that a sync, or the page cache, ought to have kept
    /// (rule R1).
    pub proven_end: i64,
    /// Segments as a clean stop left them: another program that compacted them would have left a
    /// trace, so each hole is damage. Offsets in those that we wrote are dense.
    pub segments: &'a [SegmentState],
    /// The first offset in them that a reader may ask for.
    pub start: i64,
}

impl Vouched<'_> {
    /// Whether records that were there once are missing from `end` up to `base`.
    fn misses(&self, end: i64, base: i64) -> bool {
        self.segments.iter().any(|known| {
            known.extent.size_bytes > 0
                && known.extent.base_offset < base
                && known.extent.next_offset > end
        })
    }

    /// A segment of these many bytes stands for offsets up to where it is known to, although
    /// compaction may have taken the last ones.
    fn reach(&self, pass: &mut Pass<'_>, base: i64, size_bytes: u64) {
        let sparse =
            |known: &&SegmentState| !known.layout.is_dense() && known.extent.base_offset == base;
        let known = self.segments.iter().find(sparse);
        if let Some(known) = known.filter(|known| known.extent.size_bytes == size_bytes) {
            pass.reach(known.extent.next_offset);
        }
    }

    fn is_dense(&self, base: i64) -> bool {
        self.segments
            .iter()
            .any(|segment| segment.layout.is_dense() && segment.extent.base_offset == base)
    }
}

/// Opens the partition. Of what we knew of it, only what is `vouched` for counts.
pub(in crate::log) fn open(
    storage: &dyn Storage,
    folder: &Folder,
    state: &LogState,
    vouched: &Vouched<'_>,
    options: &mut OpenOptions<'_>,
) -> Result<OpenedPartition> {
    let proven_end = vouched.proven_end;
    let mut repairs = Repairs::default();
    let mut findings = Vec::new();
    let folder = folder.clone().resolve(storage, &mut repairs, &mut findings, &[])?;
    let mut silent = |_| {};
    let progress: &mut dyn FnMut(u64) = match &mut options.progress {
        Some(progress) => &mut **progress,
        None => &mut silent,
    };
    let mut pass = Pass::new(storage, &folder, options.index_interval_bytes);
    pass.repairs = repairs;
    pass.findings = findings;
    pass.report.foreign = true;
    pass.far_upto = proven_end.max(options.recovery_checkpoint.unwrap_or(0));
    pass.known_last = state.last_batch;
    pass.lost_markers = Some(LostMarkers::default());
    pass.progress = Some(progress);
    let files: Vec<&FolderFile> = folder.logs().collect();
    pass.rules =
        BatchExpectations::foreign(0, files.first().map_or(0, |file| file.name.offset), true);
    if let Some(first) = vouched.segments.first() {
        let start = vouched.start.max(first.extent.base_offset);
        pass.rules.next_offset = pass.rules.next_offset.min(start);
    }
    let (producers, open) = producers::before(storage, &folder, pass.rules.next_offset)?;
    (pass.producers, pass.transactions) = (Some(producers), open);
    pass.report.producer_id_max = producers::highest_id(storage, &folder)?;
    read_all(&mut pass, &files, vouched, options.recovery_checkpoint)?;
    if pass.read_only.is_none() && pass.log_end() < proven_end {
        let end = pass.log_end();
        lost(&mut pass, format!("the log ends at offset {end}, but it had reached {proven_end}"));
    }
    folder.remove_orphans((pass.log_end(), None), &mut pass.repairs);
    pass.drop_snapshots();
    let log_start = options.log_start_checkpoint.unwrap_or(0).max(state.log_start_offset);
    let mut opened = pass.into_opened(log_start);
    if let Some(producers) = &opened.producers {
        let rows = producers.rows(&opened.transactions.open());
        let end = opened.log_end_offset;
        opened.end_snapshot = producers::agreeing(storage, &folder, end, &rows)?;
    }
    settle(&mut opened, &folder);
    Ok(opened)
}

fn read_all(
    pass: &mut Pass<'_>,
    files: &[&FolderFile],
    vouched: &Vouched<'_>,
    recovery_checkpoint: Option<i64>,
) -> Result<()> {
    let proven_end = vouched.proven_end;
    for (number, file) in files.iter().enumerate() {
        let later = files.get(number + 1..).unwrap_or_default();
        let base = file.name.offset;
        if number > 0 && base < pass.log_end() {
            if pass.skip_unused(std::slice::from_ref(file))?.is_empty() {
                continue;
            }
            let message =
                format!("the file begins below offset {}, where the log ends", pass.log_end());
            pass.corrupt(file, 0, &message);
            return Ok(());
        }
        if pass.log_end() < base && vouched.misses(pass.log_end(), base) {
            let message = format!("no file holds offsets {} to {}", pass.log_end(), base - 1);
            let position = pass.segments.last().map_or(0, |before| before.state.extent.size_bytes);
            let before = number.checked_sub(1).and_then(|before| files.get(before));
            pass.corrupt(before.unwrap_or(file), position, &message);
            return Ok(());
        }
        if number > 0 {
            tell_hole(pass, base);
        }
        let dense = vouched.is_dense(base);
        let end = pass.read_segment(file, Begin::Contradicted { dense })?;
        let why = end.stop.to_string();
        match &end.stop {
            Stop::End => vouched.reach(pass, base, end.position),
            Stop::Invalid(Invalid::OldFormat(_)) => {
                let (kind, finding) = (ErrorKind::UnsupportedFormat, FindingKind::OldFormat);
                pass.refuse(kind, finding, file, end.position, &why);
                return Ok(());
            }
            // Retired and not cut: no offset is missing before the next file.
            Stop::Zeros if later.first().is_some_and(|next| next.name.offset == pass.log_end()) => {
                cut_zeros(pass, file, end.position);
            }
            // Not the remains of a batch, but one that was written: nothing may take its place.
            Stop::Invalid(invalid) if invalid.is_of_place() && pass.is_batch(file, &end)? => {
                pass.corrupt(file, end.position, &format!("{why}, in a batch that is whole"));
                return Ok(());
            }
            _ if pass.goes_on(file, &end, u64::MAX)? || any_batch(pass, later)? => {
                pass.corrupt(file, end.position, &format!("{why}, but the log goes on behind it"));
                return Ok(());
            }
            _ if pass.log_end() < proven_end => {
                let message = format!("{why}, but the log had reached offset {proven_end}");
                pass.corrupt(file, end.position, &message);
                return Ok(());
            }
            _ => return end_tail(pass, file, &end, later, recovery_checkpoint),
        }
    }
    // The log ends behind a whole batch.
    if let Some(message) = lost_below(pass, recovery_checkpoint) {
        tell_missing(pass, message);
    }
    // An empty last segment is named by the log end, also where compaction took what was before.
    Ok(())
}

/// Has the zeros behind a retired segment's last batch cut off.
fn cut_zeros(pass: &mut Pass<'_>, file: &FolderFile, position: u64) {
    pass.note(FindingKind::UncutTail, file, position, "zeros behind the last batch");
    pass.repairs.push(Step::Cut { path: file.settled_path(), len: position, copy: false });
}

/// Whether any of the files has a valid batch from where the log ends on.
fn any_batch(pass: &Pass<'_>, files: &[&FolderFile]) -> Result<bool> {
    for file in files {
        let failed = |error| Error::io(error, "reading", &file.path);
        let open = pass.storage.open(&file.path).map_err(failed)?;
        let rules = BatchExpectations { segment: file.name.offset, ..pass.rules };
        let mut cursor = crate::log::scan::BatchCursor::new(
            &*open,
            file.len,
            crate::log::scan::SCAN_WINDOW_BYTES,
        );
        if cursor.batch_at(0, &rules).map_err(failed)?.found().is_some() {
            return Ok(true);
        }
        let end = SegmentEnd { position: 0, stop: Stop::Torn };
        if pass.goes_on(file, &end, u64::MAX)? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The log ends in `file`; nothing valid is behind the end.
fn end_tail(
    pass: &mut Pass<'_>,
    file: &FolderFile,
    end: &SegmentEnd,
    later: &[&FolderFile],
    recovery_checkpoint: Option<i64>,
) -> Result<()> {
    let lost = pass.tell_tail(file, end)?;
    if let Some(message) = lost_below(pass, recovery_checkpoint) {
        pass.note(FindingKind::TornTail, file, end.position, &message);
    }
    for file in later.iter().rev() {
        let message = format!("a file without a valid batch behind offset {}", pass.log_end());
        pass.note(FindingKind::LostSegments, file, 0, &message);
        pass.report.segments_lost += 1;
        if file.len == 0 {
            pass.repairs.push(Step::Remove(file.settled_path()));
        } else {
            let from = file.settled_path();
            let mut aside = from.clone().into_os_string();
            aside.push(".cut");
            pass.repairs.push(Step::Rename { from, to: aside.into() });
        }
        pass.remove_derived(file.name.offset);
    }
    pass.repairs.sync_folder(&pass.folder.path);
    pass.repairs.push(Step::Cut { path: file.settled_path(), len: end.position, copy: lost > 0 });
    Ok(())
}

/// Compaction leaves offsets that no file holds, but no index of a segment that began at them.
fn tell_hole(pass: &mut Pass<'_>, next_base: i64) {
    let (folder, end) = (pass.folder, pass.log_end());
    let is_here = |file: &&FolderFile| (end..next_base).contains(&file.name.offset);
    let mut left = folder.orphan_indexes().filter(is_here);
    if let Some(file) = left.next() {
        let message = format!("an index of a segment that is not there, before offset {next_base}");
        pass.note(FindingKind::MissingSegment, file, 0, &message);
    }
}

/// What to say where the log ends below what the other program had synced.
fn lost_below(pass: &Pass<'_>, recovery_checkpoint: Option<i64>) -> Option<String> {
    let point = recovery_checkpoint.filter(|point| *point > pass.log_end())?;
    Some(format!("records up to offset {point} were synced, and are lost"))
}

/// Records that were synced are gone, with the files that held them.
fn lost(pass: &mut Pass<'_>, message: String) {
    let partition = &pass.folder.partition;
    let error = Error::new(ErrorKind::CorruptRecord, message.clone())
        .with_partition(partition.topic(), partition.partition())
        .with_offset(pass.log_end())
        .with_path(&pass.folder.path);
    tell_missing(pass, message);
    pass.read_only = Some(error);
}

fn tell_missing(pass: &mut Pass<'_>, message: String) {
    pass.findings.push(Finding {
        kind: FindingKind::MissingSegment,
        path: pass.folder.path.clone(),
        position: None,
        offset: Some(pass.log_end()),
        message,
    });
}

/// Decides where appends go, and what is written before the first one.
pub(in crate::log) fn settle(opened: &mut OpenedPartition, folder: &Folder) {
    if opened.read_only.is_some() {
        return;
    }
    let last_is_empty = opened.segments.last().is_some_and(|last| {
        last.state.extent.size_bytes == 0 && last.state.extent.base_offset == opened.log_end_offset
    });
    if let Some(last) = opened.segments.last_mut().filter(|_| last_is_empty) {
        // A file of that name without a byte is as good as a new one, and a crash between its
        // removal and the making of the new one would lose the log end.
        last.state = SegmentState::empty(last.state.extent.base_offset);
        opened.resumable = true;
        for kind in [FileKind::OffsetIndex, FileKind::TimeIndex, FileKind::TransactionIndex] {
            if let Some(file) = folder.file(last.state.extent.base_offset, kind) {
                opened.repairs.push(Step::Remove(file.settled_path()));
            }
        }
    }
    let written = opened.segments.len() - usize::from(last_is_empty);
    for segment in opened.segments.iter().take(written) {
        opened.repairs.push(Step::WriteDerived {
            folder: folder.path.clone(),
            base_offset: segment.state.extent.base_offset,
        });
    }
    opened.repairs.sync_folder(&folder.path);
}
