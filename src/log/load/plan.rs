//! The segments that the state file knows beside the files that are there: what has to be read, and
//! what contradicts what is recorded.

use std::path::Path;

use crate::log::finding::{Finding, FindingKind};
use crate::log::load::folder::{Folder, FolderFile};
use crate::log::segment::state::{LogState, SegmentState, Trust};

/// A segment's file beside what is recorded of it.
pub(super) type Matched<'a> = (&'a FolderFile, &'a SegmentState);

/// The state's segments beside the files.
#[derive(Default)]
pub(super) struct Plan<'a> {
    /// Segments that need no reading.
    pub settled: Vec<Matched<'a>>,
    /// The segment that is read from behind its recorded batches on.
    pub border: Option<Matched<'a>>,
    /// Files that are read from their first byte on.
    pub rest: Vec<&'a FolderFile>,
    /// Those of `rest` that may have gaps, by what is recorded of them: all of each was durable
    /// when it was recorded.
    pub sparse: Vec<&'a SegmentState>,
    /// Where the log ends before `rest`, and without `border`.
    pub expected: i64,
}

/// Finds each recorded segment's file, and what has to be read.
pub(super) fn plan<'a>(
    folder: &'a Folder,
    state: &'a LogState,
    trust: Trust,
    border_holds: bool,
    unrecorded: &'a [SegmentState],
) -> Result<Plan<'a>, Finding> {
    let mut files = folder.logs().peekable();
    let mut segments = still_due(folder, state, trust).iter().peekable();
    let mut plan = Plan { expected: state.log_end_offset, ..Plan::default() };
    if trust != Trust::Clean {
        // Retention removes whole segments from the front, below a log start that it has had
        // kept before. Others that are missing there were lost.
        let first = files.peek().map_or(0, |file| file.name.offset);
        let mut gone = false;
        let removed = |segment: &&SegmentState| {
            segment.extent.base_offset < first
                && segment.extent.next_offset <= state.log_start_offset
        };
        while segments.next_if(removed).is_some() {
            gone = true;
        }
        if gone && segments.peek().is_none() {
            plan.expected = first;
        }
    }
    if !border_holds && let Some(segment) = segments.peek() {
        plan.expected = segment.extent.base_offset;
    }
    let unread = |segment: &&SegmentState| {
        border_holds || segment.extent.next_offset <= state.recovery_point
    };
    while let Some(segment) = segments.next_if(unread) {
        let base = segment.extent.base_offset;
        let Some(file) = files.next_if(|file| file.name.offset == base) else {
            let message = format!("segment {base} is recorded and missing");
            return Err(contradiction(&folder.path, message));
        };
        let was = segment.extent.size_bytes;
        // A sealed file was cut, durably, before it was recorded as that.
        let cut = trust == Trust::Clean || segment.sealed;
        if file.len < was || (cut && file.len > was) {
            let message = format!("{} bytes, but {was} were recorded", file.len);
            return Err(contradiction(&file.path, message));
        }
        plan.settled.push((file, segment));
        if !border_holds {
            plan.expected = segment.extent.next_offset;
        }
    }
    plan.rest = files.collect();
    let sparse = segments.filter(|segment| !segment.layout.is_dense());
    plan.sparse = sparse.chain(unrecorded).collect();
    if let Some(lost) = plan.sparse.iter().find(|segment| !plan.reads(segment)) {
        let message = format!("segment {} is recorded and missing", lost.extent.base_offset);
        return Err(contradiction(&folder.path, message));
    }
    match (trust, plan.rest.first()) {
        (Trust::Clean, Some(file)) => {
            return Err(contradiction(&file.path, "a segment that was not there".to_owned()));
        }
        (Trust::Clean, None) => {}
        _ if border_holds => plan.border = plan.settled.pop(),
        _ => {}
    }
    Ok(plan)
}

/// The recorded segments that have to be there. A power cut takes the name of an active segment
/// that was recorded when it had nothing, and nothing with it.
fn still_due<'a>(folder: &Folder, state: &'a LogState, trust: Trust) -> &'a [SegmentState] {
    match state.segments.split_last() {
        Some((active, others))
            if trust == Trust::OtherBoot
                && active.extent.size_bytes == 0
                && active.extent.base_offset == active.extent.next_offset
                && folder.logs().all(|file| file.name.offset < active.extent.base_offset) =>
        {
            others
        }
        _ => &state.segments,
    }
}

impl Plan<'_> {
    pub fn sparse_at(&self, file: &FolderFile) -> Option<&SegmentState> {
        self.sparse.iter().find(|segment| segment.extent.base_offset == file.name.offset).copied()
    }

    fn reads(&self, segment: &SegmentState) -> bool {
        self.rest.iter().any(|file| file.name.offset == segment.extent.base_offset)
    }
}

/// The finding that the files are not as they were recorded.
pub(super) fn contradiction(path: &Path, message: String) -> Finding {
    Finding {
        kind: FindingKind::StateContradicted,
        path: path.to_owned(),
        position: None,
        offset: None,
        message,
    }
}
