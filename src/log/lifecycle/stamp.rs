//! A number that stands for the files of a log as a close left them, so that the next life need
//! not open a folder to know that nobody was there since.
//!
//! It is made of what the file system keeps of the folder and of each segment's file, which
//! whatever changes one of them changes too, and of what is recorded of the log. So it proves
//! itself: where it is found again, all is as it was, whoever wrote it down and whenever. A copy
//! of a directory has other numbers, and is opened as ever.

use crate::log::LogIdentity;
use crate::log::files::names::{FileKind, file_name};
use crate::log::load::folder::Folder;
use crate::log::segment::state::LogState;
use crate::storage::{FileIdentity, Storage};
use crate::topic::TopicPartition;
use siphasher::sip::SipHasher13;
use std::hash::Hasher;

/// The stamp of a log, and the time of the latest change that it tells of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FolderStamp {
    /// Not negative, as checkpoint files want their numbers.
    pub value: i64,
    /// In milliseconds since 1970. A change within the same tick of the file system's clock would
    /// not be seen.
    pub changed_ms: i64,
}

/// The stamp of the files that stand in a log's folder; `None` where one of those that are
/// recorded is missing, of another length, a link, or cannot be looked at.
pub(in crate::log) fn stamp_of(
    storage: &dyn Storage,
    id: &LogIdentity,
    state: &LogState,
) -> Option<FolderStamp> {
    let mut hasher = SipHasher13::new();
    hasher.write(&id.topic_id.0);
    hasher.write_i32(id.partition);
    hasher.write_i64(state.log_start_offset);
    hasher.write_i64(state.log_end_offset);
    let mut changed_ns = i64::MIN;
    let mut add = |found: FileIdentity| {
        hasher.write_u64(found.inode);
        hasher.write_i64(found.changed_ns);
        changed_ns = changed_ns.max(found.changed_ns);
    };
    add(storage.identity(&id.dir).filter(|found| found.is_dir)?);
    for segment in &state.segments {
        let path = id.dir.join(file_name(segment.extent.base_offset, FileKind::Log));
        let is_whole =
            |found: &FileIdentity| !found.is_dir && found.len == segment.extent.size_bytes;
        add(storage.identity(&path).filter(is_whole)?);
    }
    for segment in &state.segments {
        hasher.write_i64(segment.extent.base_offset);
        hasher.write_u64(segment.extent.size_bytes);
    }
    if let Some(last) = &state.last_batch {
        hasher.write_u64(last.position);
        hasher.write_u32(last.crc);
    }
    let value = i64::try_from(hasher.finish() >> 1).ok()?;
    Some(FolderStamp { value, changed_ms: changed_ns / 1_000_000 })
}

/// Whether the folder holds the recorded segments, and nothing that opening would ask about.
pub(in crate::log) fn is_as_recorded(
    storage: &dyn Storage,
    id: &LogIdentity,
    state: &LogState,
) -> bool {
    let partition = TopicPartition::new(id.topic.clone(), id.partition);
    let Ok(folder) = Folder::list(storage, &id.dir, &partition) else { return false };
    let recorded = state.segments.iter().map(|segment| {
        let extent = segment.extent;
        (extent.base_offset, extent.size_bytes)
    });
    folder.link.is_none()
        && !folder.is_half_done()
        && folder.logs().map(|file| (file.name.offset, file.len)).eq(recorded)
}
