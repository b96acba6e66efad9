//! Opening a partition that the state file knows: after a clean stop, a kill, or a power cut.
//!
//! A kill leaves the page cache, so only the last batch can be torn; a power cut loses any pages
//! above the recovery point. In both cases offsets are dense where this crate wrote, so a batch
//! that does not begin at the log end does not belong there. Segments that another program wrote
//! may have gaps, and nobody has written to them since they were recorded: they are as recorded,
//! or the state is contradicted. What contradicts the state file is not recovered here: the
//! caller then reads the partition as a foreign one.
//!
//! Departure: D11. An index that the state file does not vouch for is rebuilt, after a clean stop
//! too: Kafka believes it, and misses records silently.
//! Departure: D33. A batch far from its segment's base is read where its neighbour or the recovery
//! point agrees with its offset, not by its own word.

use crate::error::{Error, Result};
use crate::log::files::checkpoint::is_of_content;
use crate::log::files::leader_epochs::{EpochChain, LEADER_EPOCH_CHECKPOINT};
use crate::log::finding::{Finding, FindingKind};
use crate::log::load::folder::{Folder, FolderFile};
use crate::log::load::plan::{Matched, Plan, contradiction, plan};
use crate::log::load::reader::{Begin, Pass, SegmentEnd};
use crate::log::load::repair::Repairs;
use crate::log::load::swaps::{self, Finished, Swapped};
use crate::log::load::{OpenOptions, OpenedPartition, OpenedSegment};
use crate::log::producers::transactions::{AbortedTransaction, TransactionTracker};
use crate::log::scan::{BatchCursor, BatchExpectations, LOOKUP_WINDOW_BYTES, Stop};
use crate::log::segment::indexes::{ProvenFile, proven_aborted, walk_sound_markers};
use crate::log::segment::state::{
    LastBatch, LogState, SegmentLayout, SegmentOrigin, SegmentState, Trust,
};
use crate::storage::Storage;
use crate::storage::planted::{Planted, planted};

/// How far recovery looks behind the end of the log for zeros, and for batches that go on, where
/// the page cache survived. A damaged batch hides the next one by its own size, and the largest
/// that a broker accepts by default has 1 MiB. Looking through all of a preallocated file would
/// cost more than opening may take.
const LOOK_AHEAD_BYTES: u64 = 2 << 20;

/// A partition that the state file knows, opened.
pub(in crate::log) enum Opened {
    /// As it was recorded, or as a kill or a power cut leaves that.
    AsRecorded(Box<OpenedPartition>),
    /// The files contradict what is recorded.
    Contradicted(Finding),
}

/// Opens the partition.
///
/// # Errors
/// [`crate::ErrorKind::Io`].
pub(in crate::log) fn open(
    storage: &dyn Storage,
    folder: &Folder,
    state: &LogState,
    trust: Trust,
    options: &OpenOptions<'_>,
) -> Result<Opened> {
    if trust == Trust::Clean && folder.has_half_done_swap() {
        let message = "there are files of a compaction that did not finish".to_owned();
        return Ok(Opened::Contradicted(contradiction(&folder.path, message)));
    }
    if trust == Trust::Clean || !folder.is_half_done() {
        return open_listed(storage, folder, state, trust, options, Swaps::default());
    }
    match swaps::finish(storage, folder, state, options.index_interval_bytes)? {
        Swapped::Finished(done) => {
            let Finished { folder, state, unrecorded, aborted, repairs, findings } = *done;
            let swaps = Swaps { unrecorded: &unrecorded, aborted: &aborted, repairs, findings };
            let mut opened = open_listed(storage, &folder, &state, trust, options, swaps)?;
            if let Opened::AsRecorded(opened) = &mut opened {
                opened.swaps = true;
            }
            Ok(opened)
        }
        Swapped::NotOurs(file) => {
            let message = "it is not what a compaction of ours leaves".to_owned();
            Ok(Opened::Contradicted(contradiction(&file.path, message)))
        }
    }
}

/// The results of an interrupted compaction, beside what is listed and recorded.
#[derive(Default)]
struct Swaps<'a> {
    unrecorded: &'a [SegmentState],
    aborted: &'a [AbortedTransaction],
    repairs: Repairs,
    findings: Vec<Finding>,
}

/// Opens the partition with these files, of which none is half done any more.
fn open_listed(
    storage: &dyn Storage,
    folder: &Folder,
    state: &LogState,
    trust: Trust,
    options: &OpenOptions<'_>,
    swaps: Swaps<'_>,
) -> Result<Opened> {
    let (kept, deleted) = folder.without_deleted(state, trust);
    let folder = kept.as_ref().unwrap_or(folder);
    // What was appended behind the recovery point may be lost, and the recorded border with it.
    let border_holds = trust != Trust::OtherBoot || state.log_end_offset <= state.recovery_point;
    let plan = match plan(folder, state, trust, border_holds, swaps.unrecorded) {
        Ok(plan) => plan,
        Err(finding) => return Ok(Opened::Contradicted(finding)),
    };
    if let Some(last) = state.last_batch.filter(|_| border_holds)
        && let Some(finding) = check_last_batch(storage, folder, state, last)?
    {
        return Ok(Opened::Contradicted(finding));
    }
    let mut pass = Pass::new(storage, folder, options.index_interval_bytes);
    pass.repairs = swaps.repairs;
    pass.findings = swaps.findings;
    deleted.finish(&folder.path, &mut pass.repairs, &mut pass.findings);
    pass.epochs = EpochChain::from_starts(&state.epochs);
    pass.recorded_epochs = recorded_epochs(&mut pass, trust)?;
    pass.recovery_point = state.recovery_point;
    if border_holds {
        pass.transactions = TransactionTracker::resume(&state.open_transactions);
        pass.last_batch = state.last_batch;
    }
    let listed = [&state.aborted[..], swaps.aborted].concat();
    let segments = plan.settled.iter().chain(&plan.border).copied().collect();
    let mut aborted = Aborted { listed: &listed, segments, rebuilt: None };
    for (file, segment) in &plan.settled {
        match aborted.of(&mut pass, segment, file)? {
            Ok(rows) => pass.segments.push(settled(file, segment, rows)),
            Err(damage) => return Ok(Opened::Contradicted(damage)),
        }
    }
    pass.rules = BatchExpectations {
        segment: 0,
        next_offset: plan.expected,
        exact: true,
        epoch: 0,
        epochs_fall: false,
        // A partition that another program wrote to may have higher epochs than our lives.
        epoch_max: options.epoch_max.max(pass.recorded_epochs.latest().unwrap_or(0)),
        crc: trust != Trust::SameBoot || options.beside_owner,
        far: false,
    };
    pass.far_upto = state.log_end_offset;
    if !border_holds && let Some(damage) = rewind(&mut pass, &plan, state)? {
        return Ok(Opened::Contradicted(damage));
    }
    pass.rules.epoch = pass.epochs.latest().unwrap_or(0);
    if trust != Trust::Clean
        && let Some(finding) = read_tail(&mut pass, &plan, trust, &mut aborted)?
    {
        return Ok(Opened::Contradicted(finding));
    }
    let end_snapshot = state.end_snapshot.map(|end| end.offset);
    folder.remove_orphans((pass.log_end(), end_snapshot), &mut pass.repairs);
    let mut opened = end(pass, trust, state.log_start_offset);
    opened.resumable = opened.read_only.is_none() && opened.ends_resumable();
    Ok(Opened::AsRecorded(Box::new(opened)))
}

/// Closes the pass. Snapshots that a clean stop left are all below the end.
fn end(mut pass: Pass<'_>, trust: Trust, log_start_offset: i64) -> OpenedPartition {
    if trust != Trust::Clean {
        pass.drop_snapshots();
    }
    pass.into_opened(log_start_offset)
}

/// Which epoch wrote which offsets (rule R3). Each life writes the partition's own file, durably,
/// before its first batch, so that file is the last word where it can be read; the state lags
/// behind it by one flush.
fn recorded_epochs(pass: &mut Pass<'_>, trust: Trust) -> Result<EpochChain> {
    if trust == Trust::Clean {
        return Ok(pass.epochs.clone());
    }
    let folder = &pass.folder.path;
    let found = match EpochChain::read(pass.storage, folder) {
        Ok(found) => found,
        Err(error) if !is_of_content(&error) => return Err(error),
        Err(error) => {
            pass.findings.push(Finding {
                kind: FindingKind::DerivedFile,
                message: format!("it is ignored: {}", error.message()),
                ..contradiction(&folder.join(LEADER_EPOCH_CHECKPOINT), String::new())
            });
            EpochChain::default()
        }
    };
    if found.latest() < pass.epochs.latest() {
        return Ok(pass.epochs.clone());
    }
    Ok(found)
}

/// Whether the last recorded batch is still there: the cheapest sign that nobody else wrote.
fn check_last_batch(
    storage: &dyn Storage,
    folder: &Folder,
    state: &LogState,
    last: LastBatch,
) -> Result<Option<Finding>> {
    let Some(file) = folder.logs().find(|file| file.name.offset == last.segment) else {
        // Retention removed it with its segment.
        return Ok(None);
    };
    let failed = |error| Error::io(error, "reading", &file.path);
    let open = storage.open(&file.path).map_err(failed)?;
    let mut cursor = BatchCursor::new(&*open, file.len, LOOKUP_WINDOW_BYTES);
    cursor.zeros_max_bytes = 0;
    let rules = BatchExpectations {
        far: true,
        ..BatchExpectations::foreign(last.segment, last.base_offset, true)
    };
    let fits =
        cursor.batch_at(last.position, &rules).map_err(failed)?.found().is_some_and(|batch| {
            batch.header.base_offset == last.base_offset
                && batch.header.crc == last.crc
                && batch.header.next_offset() <= state.log_end_offset
        });
    Ok((!fits).then(|| Finding {
        position: Some(last.position),
        offset: Some(last.base_offset),
        ..contradiction(&file.path, "the last batch is not the one that was recorded".to_owned())
    }))
}

/// Goes back to the end of the segments that need no reading: what lies behind is found anew.
/// Returns the damage that hides which transactions are open there.
fn rewind(pass: &mut Pass<'_>, plan: &Plan<'_>, state: &LogState) -> Result<Option<Finding>> {
    pass.epochs.truncate_end(plan.expected);
    if !state.transactional {
        return Ok(None);
    }
    // Which transactions were open here is not recorded: the markers before tell. One that began
    // before the first segment, and is open at the end that is recorded, was open all the way. What
    // lies behind may be lost, up to a file that the log does not reach any more.
    let first = plan.settled.first().map_or(plan.expected, |(file, _)| file.name.offset);
    let mut removed = state.open_transactions.clone();
    removed.retain(|open| open.first_offset < first);
    pass.transactions = TransactionTracker::resume(&removed);
    for (file, segment) in &plan.settled {
        let transactions = &mut pass.transactions;
        let damage = walk_sound_markers(pass.storage, &file.path, segment, |batch| {
            transactions.observe(&batch.header, batch.marker());
        })?;
        if let Some(position) = damage {
            return Ok(Some(hidden(file, position)));
        }
    }
    Ok(None)
}

/// The damage in a settled segment, where batches are all that tells of transactions.
fn hidden(file: &FolderFile, position: u64) -> Finding {
    let message = "no batch that is due begins here, and transactions behind it are not known";
    Finding { position: Some(position), ..contradiction(&file.path, message.to_owned()) }
}

/// Reads from the border on: to the end of the last file, or to what ends the log. Returns what
/// contradicts the state.
fn read_tail(
    pass: &mut Pass<'_>,
    plan: &Plan<'_>,
    trust: Trust,
    aborted: &mut Aborted<'_>,
) -> Result<Option<Finding>> {
    if trust == Trust::SameBoot {
        pass.zeros_max_bytes = LOOK_AHEAD_BYTES;
    }
    let mut rest = plan.rest.as_slice();
    if let Some((file, segment)) = plan.border {
        let rows = match aborted.of(pass, segment, file)? {
            Ok(rows) => rows,
            Err(damage) => return Ok(Some(damage)),
        };
        let end = pass.read_segment(file, Begin::Border(*segment, rows))?;
        rest = pass.skip_unused(rest)?;
        if !continues(pass, &end, file, rest, trust)? {
            return Ok(None);
        }
    }
    while let Some((file, later)) = rest.split_first() {
        if let Some(segment) = plan.sparse_at(file) {
            if let Some(finding) = read_sparse(pass, file, segment)? {
                return Ok(Some(finding));
            }
            rest = later;
            continue;
        }
        if file.name.offset != pass.log_end() {
            hole(pass, file, rest, trust)?;
            return Ok(None);
        }
        let end =
            pass.read_segment(file, Begin::FirstByte(SegmentLayout::Dense, SegmentOrigin::Ours))?;
        let later = pass.skip_unused(later)?;
        if !continues(pass, &end, file, later, trust)? {
            return Ok(None);
        }
        rest = later;
    }
    Ok(None)
}

/// Reads a segment that may have gaps. Returns in what it is not what was recorded of it.
/// Nobody has written to it since.
fn read_sparse(
    pass: &mut Pass<'_>,
    file: &FolderFile,
    segment: &SegmentState,
) -> Result<Option<Finding>> {
    if segment.extent.base_offset < pass.log_end() {
        let message = format!("the file begins below offset {}", pass.log_end());
        return Ok(Some(contradiction(&file.path, message)));
    }
    let end = pass.read_segment(file, Begin::FirstByte(segment.layout, segment.origin))?;
    let recorded = (segment.extent.size_bytes, segment.extent.next_offset);
    let whole = matches!(end.stop, Stop::End | Stop::Zeros);
    let held = (end.position, pass.log_end());
    if !whole || held.0 != recorded.0 || held.1 > recorded.1 {
        let message = format!(
            "{} bytes up to offset {} were recorded, {} bytes up to {} are there",
            segment.extent.size_bytes,
            segment.extent.next_offset,
            end.position,
            pass.log_end()
        );
        return Ok(Some(contradiction(&file.path, message)));
    }
    pass.end_own_tail(file, &end)?;
    pass.reach(segment.extent.next_offset);
    Ok(None)
}

/// Decides what the end of one file's batches means. Returns whether the next file is read.
fn continues(
    pass: &mut Pass<'_>,
    end: &SegmentEnd,
    file: &FolderFile,
    later: &[&FolderFile],
    trust: Trust,
) -> Result<bool> {
    let next = later.first().map(|next| next.name.offset);
    let contiguous = next == Some(pass.log_end());
    if contiguous && end.stop == Stop::End {
        return Ok(true);
    }
    if contiguous && !planted(Planted::LaterSegmentsDeleted) {
        // The file was retired and not cut yet: no record is missing before the next one.
        let message = "the file is longer than its batches, and the next one goes on";
        pass.note(FindingKind::UncutTail, file, end.position, message);
        return Ok(true);
    }
    if next.is_some_and(|next| next < pass.log_end()) {
        pass.corrupt(file, end.position, "the next file begins below the end of this one");
    } else if pass.log_end() < pass.recovery_point {
        pass.corrupt(file, end.position, &format!("{}, although it was synced", end.stop));
    } else if trust == Trust::SameBoot
        && (next.is_some() || pass.goes_on(file, end, LOOK_AHEAD_BYTES)?)
    {
        pass.corrupt(file, end.position, &format!("{}, but the log goes on behind it", end.stop));
    } else {
        // In this order: as long as the file is not cut, it tells that the log ended here.
        pass.lose_files(later);
        pass.end_own_tail(file, end)?;
    }
    Ok(false)
}

/// A file that does not begin where the log ends, and no file before it to blame.
fn hole(pass: &mut Pass<'_>, file: &FolderFile, rest: &[&FolderFile], trust: Trust) -> Result<()> {
    let log_end = pass.log_end();
    if file.name.offset < log_end {
        let message = format!("the file begins below offset {log_end}, where the log ends");
        pass.corrupt(file, 0, &message);
    } else if trust == Trust::SameBoot || log_end < pass.recovery_point {
        let message = format!("no file holds offsets {log_end} to {}", file.name.offset - 1);
        pass.corrupt(file, 0, &message);
    } else {
        pass.lose_files(rest);
    }
    Ok(())
}

fn settled(
    file: &FolderFile,
    segment: &SegmentState,
    aborted: Vec<AbortedTransaction>,
) -> OpenedSegment {
    OpenedSegment {
        state: *segment,
        path: file.path.clone(),
        file_bytes: file.len,
        indexes: None,
        aborted,
    }
}

/// The aborted transactions of segments that are not read.
struct Aborted<'a> {
    /// Those of segments without a vouched file.
    listed: &'a [AbortedTransaction],
    /// The segments, ascending.
    segments: Vec<Matched<'a>>,
    /// Those of all segments, read again because a vouched file did not hold.
    rebuilt: Option<Rebuilt>,
}

/// What the batches themselves say.
struct Rebuilt {
    rows: Vec<AbortedTransaction>,
    /// The base offset of the segment whose damage ends them, and the damage. A marker that it
    /// hides decided over records before it.
    damage: Option<(i64, Finding)>,
}

impl Aborted<'_> {
    /// The rows of a segment, or the damage because of which nothing tells them.
    fn of(
        &mut self,
        pass: &mut Pass<'_>,
        segment: &SegmentState,
        file: &FolderFile,
    ) -> Result<Result<Vec<AbortedTransaction>, Finding>> {
        let inside = |rows: &[AbortedTransaction]| -> Vec<AbortedTransaction> {
            let range = segment.extent.base_offset..segment.extent.next_offset;
            rows.iter().filter(|row| range.contains(&row.last_offset)).copied().collect()
        };
        let Some(proof) = segment.proofs.transaction_index else {
            return Ok(Ok(inside(self.listed)));
        };
        let fault = match proven_aborted(pass.storage, segment, &file.path, proof)? {
            ProvenFile::Believed(rows) => return Ok(Ok(rows)),
            ProvenFile::Doubted(fault) => fault,
        };
        let message = format!("its transaction index is read again from the batches: {fault}");
        pass.note(FindingKind::DerivedFile, file, 0, &message);
        let rebuilt = match self.rebuilt.take() {
            Some(rebuilt) => rebuilt,
            None => self.read_again(pass.storage)?,
        };
        let rebuilt = self.rebuilt.insert(rebuilt);
        Ok(match &rebuilt.damage {
            Some((base, damage)) if *base <= segment.extent.base_offset => Err(damage.clone()),
            _ => Ok(inside(&rebuilt.rows)),
        })
    }

    /// Reads every batch header and every marker of the segments.
    fn read_again(&self, storage: &dyn Storage) -> Result<Rebuilt> {
        let mut transactions = TransactionTracker::default();
        let mut rows = Vec::new();
        for (file, segment) in &self.segments {
            let damage = walk_sound_markers(storage, &file.path, segment, |batch| {
                rows.extend(transactions.observe(&batch.header, batch.marker()));
            })?;
            if let Some(position) = damage {
                let damage = Some((segment.extent.base_offset, hidden(file, position)));
                return Ok(Rebuilt { rows, damage });
            }
        }
        Ok(Rebuilt { rows, damage: None })
    }
}
