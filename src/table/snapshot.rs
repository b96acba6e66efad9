//! A table's snapshot: written whole under another name, and believed only once it is proven.
//!
//! Three things tie it to its log. The topic's id, which no other topic of any directory has. The
//! leader epoch of the last offset that was read: an epoch is begun, durably, before anything is
//! written behind an end that a crash moved back, so that other records at the same offsets have
//! another one. And the newest record of each partition, as it stands in the log, for what copies
//! of directories can make of the other two. Besides, no tombstone that was not read may be gone
//! (`lapse`). Whatever does not fit means that the topic is read anew.

use super::entries::{Entries, HeldPartition};
use super::format::{Head, Part, Writer, read};
use super::lapse::is_fresh;
use super::{Begun, TableOptions};
use crate::broker::{BrokerInner, Topic};
use crate::config::IsolationLevel;
use crate::consumer::{ReadFrom, Reader};
use crate::error::{Error, ErrorKind, Result};
use crate::storage::planted::{Planted, planted};
use crate::storage::{NotBegun, Storage};
use crate::sync::Arc;
use crate::topic::TopicPartition;
use bytes::Bytes;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The least that an entry takes in a file.
const ENTRY_BYTES_MIN: u64 = 24;

/// Writes the file, durably, in place of the one before.
///
/// # Errors
/// Those of [`Table::save`](super::Table::save).
pub(super) fn save(
    broker: &BrokerInner,
    topic: &Topic,
    options: &TableOptions,
    path: &Path,
    parts: &[(&HeldPartition, &Reader, i64)],
) -> Result<()> {
    let mut head = Head {
        topic_id: topic.id().0,
        isolation: options.isolation,
        topic: topic.name().to_string(),
        parts: Vec::with_capacity(parts.len()),
    };
    for (held, reader, fresh_ms) in parts {
        let position = reader.position();
        let epoch = match position {
            0 => None,
            position => reader.partition().leader_epoch_of(position - 1)?,
        };
        head.parts.push(Part {
            number: held.place.partition(),
            position,
            epoch: epoch.unwrap_or(-1),
            entries: held.read(Entries::len) as u64,
            fresh_ms: *fresh_ms,
        });
    }
    let storage = broker.storage();
    let temporary = temporary_path(path);
    let held: Vec<&HeldPartition> = parts.iter().map(|(held, ..)| *held).collect();
    let written = write(storage, &temporary, &head, &held).and_then(|()| {
        storage
            .rename(&temporary, path)
            .map_err(|e| Error::io(e, "cannot rename the snapshot", &temporary))
    });
    if let Err(error) = written {
        // What is left of it is in nobody's way: the next one begins it anew.
        drop(storage.remove(&temporary));
        return Err(error);
    }
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    storage.sync_dir(folder).map_err(|e| sync_failed(e, folder))
}

fn write(storage: &dyn Storage, path: &Path, head: &Head, parts: &[&HeldPartition]) -> Result<()> {
    let failed = |what: &'static str| move |e| Error::io(e, what, path);
    let file = storage.create_cold(path).map_err(failed("cannot create the snapshot"))?;
    let mut writer = Writer::begin(&*file, head).map_err(failed("cannot write the snapshot"))?;
    for part in parts {
        let number = part.place.partition();
        part.read(|entries| {
            entries.iter().try_for_each(|(key, latest)| writer.entry(number, key, latest))
        })
        .map_err(failed("cannot write the snapshot"))?;
    }
    writer.end().map_err(failed("cannot write the snapshot"))?;
    file.sync_data().map_err(|e| sync_failed(e, path))
}

fn sync_failed(error: std::io::Error, path: &Path) -> Error {
    if NotBegun::is_in(&error) {
        return Error::io(error, "cannot sync", path);
    }
    Error::new(ErrorKind::StorageFailed, format!("cannot sync the snapshot: {error}"))
        .with_path(path)
        .with_source(error)
}

fn temporary_path(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".tmp");
    PathBuf::from(name)
}

/// What the file gives each partition to begin with; None where there is no file.
///
/// # Errors
/// Why it cannot be used.
pub(super) fn load(
    broker: &Arc<BrokerInner>,
    topic: &Topic,
    options: &TableOptions,
    path: &Path,
) -> Result<Option<BTreeMap<i32, Begun>>, String> {
    let file = match broker.storage().open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(format!("it cannot be opened: {error}")),
    };
    let wanted = |number: i32| match &options.partitions {
        Some(chosen) => chosen.contains(&number),
        None => true,
    };
    // Both closures below fill it, one after the other.
    let begun: RefCell<BTreeMap<i32, Begun>> = RefCell::default();
    read(
        &*file,
        |head, len| {
            check_head(topic, options, head)?;
            for part in head.parts.iter().filter(|part| wanted(part.number)) {
                check_part(topic, options.isolation, part)?;
                check_fresh(broker, topic, part)?;
                let room = usize::try_from(part.entries.min(len / ENTRY_BYTES_MIN)).unwrap_or(0);
                let entries = Entries::with_capacity(room);
                let (position, fresh_ms) = (part.position, part.fresh_ms);
                begun.borrow_mut().insert(part.number, Begun { position, entries, fresh_ms });
            }
            Ok(())
        },
        |number, key, latest| match begun.borrow_mut().get_mut(&number) {
            // One that is not followed any more.
            None => Ok(()),
            Some(part) => match part.entries.insert(Bytes::copy_from_slice(key), latest) {
                None => Ok(()),
                Some(_) => Err("it has a key twice".to_owned()),
            },
        },
    )?;
    let begun = begun.into_inner();
    let to_prove = begun.iter().filter(|_| !planted(Planted::TableSnapshotTrusted));
    for (number, part) in to_prove {
        let place = TopicPartition::new(topic.name().clone(), *number);
        check_newest(broker, topic, options.isolation, &place, &part.entries)?;
    }
    Ok(Some(begun))
}

/// Whether the newest record of a partition is in the log as it is in the file. Where compaction
/// removed it, a later one of its key is there.
fn check_newest(
    broker: &Arc<BrokerInner>,
    topic: &Topic,
    isolation: IsolationLevel,
    place: &TopicPartition,
    entries: &Entries,
) -> Result<(), String> {
    let newest = entries.iter().max_by_key(|(_, latest)| latest.offset);
    let Some((key, latest)) = newest else { return Ok(()) };
    let told = |error: Error| format!("partition {}: {error}", place.partition());
    let log = topic.partition(place.partition()).map_err(told)?;
    let from = ReadFrom::Offset(latest.offset);
    let reader = Reader::of(broker.clone(), place.clone(), log, from).map_err(told)?;
    let mut reader = reader.isolation_level(isolation);
    let found = reader.next(Duration::ZERO).map_err(told)?;
    let Some(found) = found.filter(|found| found.offset() == latest.offset) else { return Ok(()) };
    let same = found.key() == Some(&key[..])
        && found.value() == Some(&latest.value[..])
        && found.timestamp() == latest.timestamp;
    match same {
        true => Ok(()),
        false => Err(format!(
            "partition {}: the log has another record at {}",
            place.partition(),
            latest.offset
        )),
    }
}

fn check_head(topic: &Topic, options: &TableOptions, head: &Head) -> Result<(), String> {
    if head.topic != **topic.name() {
        return Err(format!("it is of the topic {:?}", head.topic));
    }
    if head.topic_id != topic.id().0 {
        return Err("it is of an earlier topic of this name".to_owned());
    }
    if head.isolation != options.isolation {
        return Err("it was made under another isolation level".to_owned());
    }
    Ok(())
}

/// Whether the log still has what was read of it.
fn check_part(topic: &Topic, isolation: IsolationLevel, part: &Part) -> Result<(), String> {
    let Part { number, position, .. } = *part;
    if planted(Planted::TableSnapshotTrusted) {
        return Ok(());
    }
    let told = |error: Error| format!("partition {number}: {error}");
    if position == 0 {
        return Ok(());
    }
    let log = topic.partition(number).map_err(told)?;
    let end = log.end_for(isolation).map_err(told)?;
    if position > end {
        return Err(format!("partition {number} ends at {end}, and was read up to {position}"));
    }
    let start = log.log_start_offset().map_err(told)?;
    if position <= start {
        return Err(format!("partition {number} begins at {start}, behind all that was read"));
    }
    match log.leader_epoch_of(position - 1).map_err(told)? {
        Some(epoch) if epoch == part.epoch => Ok(()),
        found => Err(format!(
            "partition {number}: the offset before {position} was of leader epoch {}, and is of \
             {}",
            part.epoch,
            found.unwrap_or(-1)
        )),
    }
}

/// Whether each tombstone that was not read is still in the log.
fn check_fresh(broker: &BrokerInner, topic: &Topic, part: &Part) -> Result<(), String> {
    if planted(Planted::TableSnapshotTrusted) || part.position == 0 {
        return Ok(());
    }
    let config = topic.log_config(broker.config());
    let place = TopicPartition::new(topic.name().clone(), part.number);
    // What is known of cleanings may be lost, or late: the segments tell of one that a kill cut
    // off.
    let cleaned = broker.cleaned_up_to(&place);
    let shown = topic.partition(part.number).and_then(|of| of.cleaned_end(part.position));
    let is_cleaned = cleaned.map_or(config.cleanup_compact, |upto| upto > part.position)
        || !matches!(shown, Ok(None));
    let now_ms = broker.clock().now().wall_ms;
    match is_cleaned && !is_fresh(part.fresh_ms, now_ms, config.delete_retention_ms) {
        false => Ok(()),
        true => Err(format!(
            "partition {}: what lies behind {} was cleaned, and its tombstones may be gone",
            part.number, part.position
        )),
    }
}
