//! What the fuzz targets `indexes`, `checkpoint` and `segment_recover` do with their bytes.
//!
//! They reach parts of the crate that are not public, so they live inside it. Each panics where
//! a promise is broken, and is also run by the unit tests on random bytes.

use std::path::Path;

use crate::config::IsolationLevel;
use crate::log::attached::AttachedLog;
use crate::log::files::checkpoint::{
    format_offsets, format_proven_offsets, parse_offsets, parse_proven_offsets,
};
use crate::log::files::leader_epochs::EpochChain;
use crate::log::files::names::{FileKind, SegmentFileName, file_name};
use crate::log::files::partition_metadata::{
    MetaProperties, format_partition_metadata, parse_partition_metadata,
};
use crate::log::index::offset_index::OffsetIndex;
use crate::log::index::time_index::TimeIndex;
use crate::log::index::transaction_index;
use crate::log::load::{OpenOptions, OpenedPartition, open_partition};
use crate::log::producers::entries::ProducerEntries;
use crate::log::producers::snapshot;
use crate::log::read::cursor::Cursor;
use crate::log::read::plain::FetchLimits;
use crate::log::segment::state::{LogState, Trust};
use crate::record::{RecordBatch, RecordInput, Stamp, encode_single};
use crate::storage::{Heap, Storage};
use crate::sync::Arc;
use crate::topic::TopicPartition;

/// The bytes of a producer snapshot, and of one whose checksum holds: what is accepted is what is
/// written again, and what a log that goes on from it would write.
pub fn producer_snapshot(bytes: &[u8]) {
    let Some((&offset, file)) = bytes.split_first_chunk::<8>() else { return };
    let offset = i64::from_be_bytes(offset);
    let mut sealed = file.to_vec();
    if let Some(crc) = file.get(6..).map(crate::record::crc32c)
        && let Some(place) = sealed.get_mut(2..6)
    {
        place.copy_from_slice(&crc.to_be_bytes());
    }
    for file in [file, &sealed] {
        let Ok(rows) = snapshot::parse(file, offset) else { continue };
        assert!(rows.len() <= file.len() / 46);
        let again = snapshot::to_bytes(&rows);
        assert_eq!(again.len(), file.len());
        assert_eq!(snapshot::parse(&again, offset).as_ref(), Ok(&rows));
        let open = snapshot::open_transactions(&rows);
        let known = ProducerEntries::of(&rows).rows(&open);
        for (known, row) in known.iter().zip(&rows).filter(|(_, row)| row.last_offset >= 0) {
            assert_eq!(known, row);
        }
    }
}

/// The bytes of an index file: what is accepted is written back as it was, and a lookup finds
/// what a linear search finds, thinned or not.
pub fn indexes(bytes: &[u8]) {
    let Some((&[a, b, c, d], rest)) = bytes.split_first_chunk::<4>() else { return };
    let last = u32::from(u16::from_be_bytes([a, b])) << 8;
    let target = u32::from(u16::from_be_bytes([c, d])) << 8;
    if let Ok(index) = OffsetIndex::parse(rest, u64::from(last) + 1, last) {
        assert_eq!(index.to_bytes(), rest);
        let linear = |index: &OffsetIndex| {
            let below = index.entries().iter().take_while(|e| e.relative_offset <= target);
            below.last().map_or(0, |entry| entry.position)
        };
        assert_eq!(index.lookup(target), linear(&index));
        let mut thinned = index.clone();
        thinned.thin(index.entries().len() / 2 + 1);
        assert_eq!(thinned.lookup(target), linear(&thinned));
        assert!(thinned.lookup(target) <= index.lookup(target));
    }
    if let Ok(index) = TimeIndex::parse(rest, last, i64::MAX) {
        assert_eq!(index.to_bytes(), rest);
        let time = i64::from(target);
        let mut thinned = index.clone();
        thinned.thin(index.entries().len() / 2 + 1);
        assert_eq!(thinned.last(), index.last());
        assert!(thinned.lookup(time) <= index.lookup(time));
    }
    let (base, next) = (i64::from(target), i64::from(target) + i64::from(last));
    if let Ok(rows) = transaction_index::parse(rest, base, next) {
        assert_eq!(transaction_index::to_bytes(&rows), rest);
        assert!(rows.iter().all(|row| (base..next).contains(&row.last_offset)));
    }
}

/// The text of a checkpoint or a properties file: what is accepted is written to a text that is
/// read as the same.
pub fn checkpoint(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    if let Ok(offsets) = parse_offsets(&text) {
        let proven = format_proven_offsets(&offsets);
        assert_eq!(parse_proven_offsets(&proven).ok().as_ref(), Some(&offsets));
        assert_eq!(parse_offsets(&format_offsets(&offsets)).ok(), Some(offsets));
    }
    if let Ok(offsets) = parse_proven_offsets(&text) {
        assert_eq!(parse_proven_offsets(&format_proven_offsets(&offsets)).ok(), Some(offsets));
    }
    if let Ok(chain) = EpochChain::parse(&text) {
        assert_eq!(EpochChain::parse(&chain.to_text()).ok().as_ref(), Some(&chain));
        assert_eq!(EpochChain::from_starts(chain.starts()), chain);
    }
    if let Ok(id) = parse_partition_metadata(&text) {
        assert_eq!(parse_partition_metadata(&format_partition_metadata(id)).ok(), Some(id));
    }
    if let Ok(properties) = MetaProperties::parse(&text) {
        assert_eq!(properties.node_id.to_string().parse(), Ok(properties.node_id));
    }
    if let Some(name) = SegmentFileName::parse(&text) {
        assert_eq!(name.to_string(), text);
    }
}

/// A partition made of the bytes: opened, read whole, repaired, and opened again to the same.
pub fn segment_recover(bytes: &[u8]) {
    let (Some((&how, script)), storage) = (bytes.split_first(), Heap::new()) else { return };
    let trust = match how % 3 {
        0 => Trust::OtherBoot,
        1 => Trust::SameBoot,
        _ => Trust::Foreign,
    };
    let folder = Path::new("/t-0");
    assert!(storage.create_dir(folder).is_ok());
    build(&storage, folder, script);
    let open = |state: &LogState, trust| {
        let (partition, options) = (TopicPartition::new("t", 0), OpenOptions::default());
        open_partition(&storage, folder, &partition, state, trust, options)
    };
    let mut state = LogState::default();
    let Ok(mut opened) = open(&state, trust) else { panic!("memory does not fail") };
    let trust = if opened.report.foreign { Trust::Foreign } else { trust };
    let before = read_all(&storage, folder, &state, trust);
    assert_eq!(before.as_ref().map(|b| b.0), Some(opened.log_end_offset));
    check(&opened);
    if opened.swaps {
        state = opened.state();
    }
    if opened.finish(&storage).is_err() {
        assert!(opened.read_only.is_some());
        return;
    }
    let Ok(again) = open(&state, trust) else { panic!("memory does not fail") };
    assert!(again.read_only.is_none(), "{:?}", again.read_only);
    assert_eq!(again.log_end_offset, opened.log_end_offset);
    assert_eq!(read_all(&storage, folder, &state, trust), before);
}

/// What holds of every opening.
fn check(opened: &OpenedPartition) {
    assert!(opened.log_start_offset <= opened.last_stable_offset());
    assert!(opened.last_stable_offset() <= opened.log_end_offset);
    assert!(opened.recovery_point <= opened.log_end_offset);
    let mut end = i64::MIN;
    for segment in &opened.segments {
        assert!(segment.state.extent.base_offset >= end);
        assert!(segment.state.extent.size_bytes <= segment.file_bytes);
        assert!(segment.aborted.is_sorted_by_key(|row| row.last_offset));
        end = segment.state.extent.next_offset;
    }
}

/// The log end, and offset and checksum of every batch, by an attached reader.
fn read_all(
    storage: &Heap,
    folder: &Path,
    state: &LogState,
    trust: Trust,
) -> Option<(i64, Vec<(i64, u32)>)> {
    let partition = TopicPartition::new("t", 0);
    let storage = Arc::new(storage.clone());
    let state = state.clone();
    let log = AttachedLog::new(storage, folder.to_owned(), partition, state, trust, (None, None));
    let mut cursor = Cursor::new(log.log_start_offset().ok()?);
    let mut found = Vec::new();
    // Damage is an error at the end, once all before was read.
    let limits = FetchLimits::bytes(500);
    while let Ok(chunk) = log.fetch(&mut cursor, IsolationLevel::ReadUncommitted, limits) {
        if chunk.is_empty() {
            break;
        }
        let mut bytes = chunk.bytes();
        cursor.advance(bytes.len(), chunk.upto(), true);
        while let Ok(batch) = RecordBatch::parse(bytes) {
            assert!(batch.check_crc().is_ok());
            found.push((batch.header().base_offset, batch.header().crc));
            bytes = bytes.get(batch.bytes().len()..).unwrap_or_default();
        }
        assert!(bytes.is_empty());
    }
    let end = log.log_end_offset().ok()?;
    assert!(cursor.offset() == end, "reading stopped at {} of {end}", cursor.offset());
    let latest = log.max_timestamp(end).ok()?;
    if let Some(latest) = latest {
        let first = log.offset_for_time(latest.timestamp, end).ok()??;
        assert_eq!(first, latest, "nothing is later, and nothing earlier is as late");
    }
    Some((end, found))
}

/// Writes the files that a script asks for. A step is a byte and its arguments: so many valid
/// batches, raw bytes, zeros, the next file with its name.
fn build(storage: &Heap, folder: &Path, script: &[u8]) {
    let (mut offset, mut name) = (0i64, file_name(0, FileKind::Log));
    let mut content: Vec<u8> = Vec::new();
    let mut rest = script;
    let mut files = 0;
    while let Some((&[step, argument], tail)) = rest.split_first_chunk::<2>() {
        rest = tail;
        match step % 6 {
            0 | 1 => {
                for _ in 0..argument % 8 {
                    let value = [argument; 40];
                    let epoch = i32::from(step / 64);
                    let timestamp = i64::from(argument) * 10 - offset % 3;
                    let record =
                        RecordInput { timestamp, key: None, value: Some(&value), headers: &[] };
                    let mut stamp = Stamp::plain(offset, epoch);
                    if step % 6 == 1 {
                        stamp = stamp.producer(i64::from(argument % 3), 0, 0).transactional();
                    }
                    let mut batch = Vec::new();
                    encode_single(&mut batch, &record, &stamp);
                    content.extend_from_slice(&batch);
                    offset += 1;
                }
            }
            2 => {
                let (raw, tail) = rest.split_at(usize::from(argument).min(rest.len()));
                content.extend_from_slice(raw);
                rest = tail;
            }
            3 => content.resize(content.len() + usize::from(argument), 0),
            4 => offset += i64::from(argument.cast_signed()),
            _ => {
                put(storage, folder, &name, &content);
                content.clear();
                offset = offset.max(0);
                let kind = FileKind::ALL.get(usize::from(argument / 64)).copied();
                let kind = kind.filter(|_| argument % 4 == 3).unwrap_or(FileKind::Log);
                let stage = ["", "", "", ".swap", ".cleaned", ".deleted"];
                let stage = stage.get(usize::from(argument) % 7).unwrap_or(&"");
                name = format!("{}{stage}", file_name(offset, kind));
                files += 1;
                if files > 12 {
                    return;
                }
            }
        }
    }
    put(storage, folder, &name, &content);
}

fn put(storage: &Heap, folder: &Path, name: &str, content: &[u8]) {
    let file = storage.create_cold(&folder.join(name));
    assert!(file.is_ok_and(|file| file.write_at(0, content).is_ok()));
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(300))]

        #[test]
        fn random_bytes_break_no_promise(
            bytes in prop::collection::vec(any::<u8>(), 0..400),
            steps in prop::collection::vec((0u8..6, any::<u8>()), 0..40),
            how in any::<u8>(),
        ) {
            indexes(&bytes);
            checkpoint(&bytes);
            producer_snapshot(&bytes);
            segment_recover(&bytes);
            let mut script = vec![how];
            for (step, argument) in steps {
                script.extend([step, argument]);
                if step == 2 {
                    script.extend(bytes.iter().take(usize::from(argument)));
                }
            }
            segment_recover(&script);
        }

        #[test]
        fn texts_that_are_nearly_right_break_no_promise(
            text in "0\n[0-3]\n([a-z]{1,3} -?[0-9]{1,2} -?[0-9]{1,4}\n){0,3}",
            epochs in "0\n[0-3]\n(-?[0-9] -?[0-9]{1,2}\n){0,3}",
            properties in "(version=1|cluster.id=[a-z\\\\:=]{0,4}|node.id=[0-9x]{1,2}|#)\n{1,4}",
        ) {
            for text in [text, epochs, properties] {
                checkpoint(text.as_bytes());
            }
        }

        #[test]
        fn indexes_that_are_nearly_right_break_no_promise(
            offsets in prop::collection::vec((0u32..3, 0u32..300), 0..40),
            last in any::<u16>(), target in any::<u16>(),
        ) {
            let (mut bytes, mut at) = ([last.to_be_bytes(), target.to_be_bytes()].concat(), (0, 0));
            for (offset, position) in offsets {
                at = (at.0 + offset, at.1 + position);
                bytes.extend(at.0.to_be_bytes());
                bytes.extend(at.1.to_be_bytes());
            }
            indexes(&bytes);
        }
    }
}
