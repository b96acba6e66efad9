//! What groups lose where a partition of `__consumer_offsets` ends before its damage: the commits
//! that can still be read behind it.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use topiclite::record::{BATCH_OVERHEAD, RecordBatch};
use topiclite::{Error, GroupRecord, Result};

/// A group's topic and partition.
type Place = (Arc<str>, Arc<str>, i32);

/// What a group goes back by.
#[derive(Debug, PartialEq, Eq)]
pub struct LostCommit {
    pub place: Place,
    /// The last commit behind the damage; none where it was deleted there.
    pub lost: Option<i64>,
    /// The last commit before the damage.
    pub kept: Option<i64>,
}

/// What stands behind offset `end` in the segments of `folder`, and what stands before it.
///
/// # Errors
/// `Io`.
pub fn lost_commits(folder: &Path, end: i64) -> Result<Vec<LostCommit>> {
    let io = |error| Error::io(error, "reading", folder);
    let mut files = Vec::new();
    let entries = match std::fs::read_dir(folder) {
        // A partition that nobody appended to has no folder.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(io)?,
    };
    for entry in entries {
        let entry = entry.map_err(io)?;
        let path = entry.path();
        // What is no file may be one that never ends.
        let is_file = entry.file_type().is_ok_and(|kind| kind.is_file());
        if is_file && path.extension().is_some_and(|extension| extension == "log") {
            files.push(path);
        }
    }
    files.sort();
    let (mut kept, mut lost) = (BTreeMap::new(), BTreeMap::new());
    let mut scratch = Vec::new();
    for path in files {
        let bytes = std::fs::read(&path).map_err(io)?;
        let mut position = 0;
        while let Some(rest) = bytes.get(position..).filter(|rest| !rest.is_empty()) {
            // What does not parse hides what is behind it in its file.
            let Ok(batch) = RecordBatch::parse(rest) else { break };
            position += batch.header().size().max(BATCH_OVERHEAD);
            let side = if batch.header().base_offset < end { &mut kept } else { &mut lost };
            if batch.check_crc().is_ok() && !batch.header().is_control() {
                gather(&batch, &mut scratch, side);
            }
        }
    }
    let back = |(place, lost): (Place, Option<i64>)| {
        let kept = kept.get(&place).copied().flatten();
        (lost != kept).then_some(LostCommit { place, lost, kept })
    };
    Ok(lost.into_iter().filter_map(back).collect())
}

/// Keeps the last commit of each place.
fn gather(batch: &RecordBatch<'_>, scratch: &mut Vec<u8>, into: &mut BTreeMap<Place, Option<i64>>) {
    let Ok(records) = batch.records(scratch) else { return };
    for record in records.map_while(std::result::Result::ok) {
        let read = record.key().and_then(|key| GroupRecord::read(key, record.value()));
        if let Some(GroupRecord::Offset { group, topic, partition, value }) = read {
            into.insert((group, topic, partition), value.map(|value| value.offset));
        }
    }
}
