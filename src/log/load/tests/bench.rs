//! Handmade partitions for the tests of opening.

use super::*;
use crate::log::files::names::{FileKind, file_name};
use crate::log::finding::FindingKind;
use crate::log::segment::state::{SegmentLayout, SegmentOrigin};
use crate::record::{ControlType, RecordBatch, RecordInput, Stamp, encode_marker, encode_single};
use crate::storage::Heap;

/// One batch with one record whose value is `value`, at epoch 0 and time `offset * 10`.
pub(super) fn batch(offset: i64, value: &[u8]) -> Vec<u8> {
    batch_at(offset, value, offset * 10, &Stamp::plain(offset, 0))
}

pub(super) fn batch_at(_: i64, value: &[u8], timestamp: i64, stamp: &Stamp) -> Vec<u8> {
    let record = RecordInput { timestamp, key: None, value: Some(value), headers: &[] };
    let mut bytes = Vec::new();
    encode_single(&mut bytes, &record, stamp);
    bytes
}

/// A marker that ends the transaction of `producer`.
pub(super) fn marker(offset: i64, producer: i64, kind: ControlType) -> Vec<u8> {
    encode_marker(kind, 0, offset * 10, &Stamp::plain(offset, 0).producer(producer, 0, -1)).to_vec()
}

/// Batches of one record with the given offsets, each value of `len` bytes.
pub(super) fn run(offsets: std::ops::Range<i64>, len: usize) -> Vec<u8> {
    offsets.flat_map(|offset| batch(offset, &vec![b'a' + (offset % 26) as u8; len])).collect()
}

/// The size of one batch of [`run`].
pub(super) fn size_of(len: usize) -> usize {
    batch(0, &vec![0; len]).len()
}

/// A folder in memory.
#[derive(Debug)]
pub(super) struct Shelf<S: Storage = Heap> {
    pub storage: S,
    pub folder: PathBuf,
    pub partition: TopicPartition,
}

impl Shelf {
    pub fn new() -> Shelf {
        Shelf::on(Heap::new())
    }
}

impl<S: Storage> Shelf<S> {
    pub fn on(storage: S) -> Shelf<S> {
        let folder = PathBuf::from("/t-0");
        match storage.create_dir(&folder) {
            Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => panic!("{error}"),
            _ => {}
        }
        Shelf { storage, folder, partition: TopicPartition::new("t", 0) }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    pub fn log_path(&self, base: i64) -> PathBuf {
        self.path(&file_name(base, FileKind::Log))
    }

    pub fn put(&self, name: &str, bytes: &[u8]) {
        let file = self.storage.create_cold(&self.path(name)).unwrap();
        file.write_at(0, bytes).unwrap();
        file.sync_data().unwrap();
        self.storage.sync_dir(&self.folder).unwrap();
    }

    pub fn rename(&self, from: &str, to: &str) {
        self.storage.rename(&self.path(from), &self.path(to)).unwrap();
        self.storage.sync_dir(&self.folder).unwrap();
    }

    pub fn put_log(&self, base: i64, bytes: &[u8]) {
        self.put(&file_name(base, FileKind::Log), bytes);
    }

    pub fn get(&self, name: &str) -> Option<Vec<u8>> {
        self.storage.read_file(&self.path(name), 1 << 30).ok()
    }

    pub fn get_log(&self, base: i64) -> Option<Vec<u8>> {
        self.get(&file_name(base, FileKind::Log))
    }

    pub fn names(&self) -> Vec<String> {
        self.storage.list(&self.folder).unwrap().into_iter().map(|entry| entry.name).collect()
    }

    pub fn open(&self, state: &LogState, trust: Trust) -> OpenedPartition {
        let options = OpenOptions { epoch_max: 9, ..OpenOptions::default() };
        self.open_with(state, trust, options)
    }

    pub fn open_with(
        &self,
        state: &LogState,
        trust: Trust,
        options: OpenOptions<'_>,
    ) -> OpenedPartition {
        let (storage, folder) = (&self.storage, &self.folder);
        open_partition(storage, folder, &self.partition, state, trust, options).unwrap()
    }

    pub fn adopt(&self) -> OpenedPartition {
        self.open(&LogState::default(), Trust::Foreign)
    }

    /// The state of a partition of ours with these segments, all of it synced: what a read of
    /// everything shows.
    pub fn state(&self) -> LogState {
        let mut state = self.adopt().state();
        for segment in &mut state.segments {
            segment.layout = SegmentLayout::Dense;
            segment.origin = SegmentOrigin::Ours;
        }
        state.recovery_point = state.log_end_offset;
        state
    }

    /// Every record's offset and value, by what opening found.
    pub fn records(&self, opened: &OpenedPartition) -> Vec<(i64, Vec<u8>)> {
        let mut found = Vec::new();
        for segment in &opened.segments {
            let bytes = self.storage.read_file(&segment.path, 1 << 30).unwrap();
            let mut bytes = &bytes[..usize::try_from(segment.state.extent.size_bytes).unwrap()];
            while !bytes.is_empty() {
                let batch = RecordBatch::parse(bytes).unwrap();
                batch.check_crc().unwrap();
                bytes = &bytes[batch.bytes().len()..];
                let mut scratch = Vec::new();
                for record in batch.records(&mut scratch).unwrap() {
                    let record = record.unwrap();
                    found.push((record.offset(), record.value().unwrap_or_default().to_vec()));
                }
            }
        }
        found
    }

    pub fn offsets(&self, opened: &OpenedPartition) -> Vec<i64> {
        self.records(opened).into_iter().map(|record| record.0).collect()
    }
}

pub(super) fn kinds(opened: &OpenedPartition) -> Vec<FindingKind> {
    opened.findings.iter().map(|finding| finding.kind).collect()
}

/// The damage that made the partition read-only: kind, offset, position.
pub(super) fn damage(opened: &OpenedPartition) -> Option<(crate::ErrorKind, i64, u64)> {
    let error = opened.read_only.as_ref()?;
    assert!(error.path().is_some(), "{error}");
    Some((error.kind(), error.offset().unwrap(), error.position().unwrap_or(0)))
}
