//! The producers of one partition, by id: made by appends, by the reading of a log, or from a
//! snapshot, and all three the same.

use crate::log::producers::entry::{ProducerEntry, ProducerStamp};
use crate::log::producers::snapshot::SnapshotRow;
use crate::log::producers::transactions::{OpenTransaction, TransactionTracker};
use crate::log::producers::{LastRecord, Marker};
use crate::record::{BatchHeader, ControlRecord};
use std::collections::BTreeMap;

/// The producers of one partition. Most batches come from the producer of the batch before, whose
/// entry takes no search.
#[derive(Debug, Clone, Default)]
pub(crate) struct ProducerEntries {
    /// In the order of their first batches.
    list: Vec<(i64, ProducerEntry)>,
    /// The place in the list, by producer id.
    places: BTreeMap<i64, usize>,
    /// The place of the entry that was changed last.
    last: usize,
}

impl PartialEq for ProducerEntries {
    fn eq(&self, other: &ProducerEntries) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Eq for ProducerEntries {}

impl ProducerEntries {
    /// What a snapshot knows.
    pub fn of(rows: &[SnapshotRow]) -> ProducerEntries {
        let mut entries = ProducerEntries::default();
        for row in rows {
            *entries.entry(row.producer_id, row.producer_epoch) = ProducerEntry::of(row);
        }
        entries
    }

    #[inline]
    pub fn get(&self, producer_id: i64) -> Option<&ProducerEntry> {
        self.latest(producer_id).or_else(|| self.search(producer_id))
    }

    /// The entry that was changed last, if it is this producer's.
    #[inline(always)]
    pub fn latest(&self, producer_id: i64) -> Option<&ProducerEntry> {
        let (id, entry) = self.list.get(self.last)?;
        (*id == producer_id).then_some(entry)
    }

    #[cold]
    fn search(&self, producer_id: i64) -> Option<&ProducerEntry> {
        let place = *self.places.get(&producer_id)?;
        self.list.get(place).map(|(_, entry)| entry)
    }

    /// All of them, by producer id.
    fn iter(&self) -> impl Iterator<Item = (i64, &ProducerEntry)> {
        let entry = |(id, place): (&i64, &usize)| Some((*id, &self.list.get(*place)?.1));
        self.places.iter().filter_map(entry)
    }

    /// A batch was stored at `base_offset`.
    #[inline]
    pub fn observe(
        &mut self,
        stamp: &ProducerStamp,
        base_offset: i64,
        last_offset_delta: i32,
        timestamp: i64,
    ) {
        let last_offset = base_offset + i64::from(last_offset_delta);
        self.entry(stamp.producer_id, stamp.producer_epoch).observe(
            stamp,
            last_offset,
            last_offset_delta,
            timestamp,
        );
    }

    /// A marker was stored.
    pub fn observe_marker(&mut self, marker: &Marker, timestamp: i64) {
        self.entry(marker.producer_id, marker.producer_epoch).observe_marker(
            marker.producer_epoch,
            marker.coordinator_epoch,
            timestamp,
        );
    }

    /// A batch lies in the log: it was checked when it was appended. `control` is its control
    /// record, if it has one.
    #[inline]
    pub fn replay(&mut self, header: &BatchHeader, control: Option<ControlRecord>) {
        if header.has_producer_id() {
            self.replay_producer(header, control);
        }
    }

    fn replay_producer(&mut self, header: &BatchHeader, control: Option<ControlRecord>) {
        if let Some(stamp) = ProducerStamp::of(header) {
            let delta = header.last_offset_delta;
            self.observe(&stamp, header.base_offset, delta, header.max_timestamp);
        } else if let Some(control) = control.filter(|control| control.kind.is_marker()) {
            let marker = Marker {
                producer_id: header.producer_id,
                producer_epoch: header.producer_epoch,
                kind: control.kind,
                coordinator_epoch: control.coordinator_epoch.unwrap_or(-1),
                transaction_version: 0,
            };
            self.observe_marker(&marker, header.max_timestamp);
        } else if header.records_count == 0 {
            // Departure: D107. A cleaning took the marker's record, and left the header for the
            // epoch in it. To Kafka it says nothing when the log is read again.
            let (id, epoch) = (header.producer_id, header.producer_epoch);
            self.entry(id, epoch).observe_emptied_marker(epoch, header.max_timestamp);
        }
    }

    /// Forgets producers that were not heard of for `expiration_ms`, unless a transaction of
    /// theirs is open. Record times count, as in Kafka.
    pub fn expire(&mut self, now_ms: i64, expiration_ms: i64, open: &TransactionTracker) {
        self.list.retain(|(id, entry)| {
            open.is_open(*id) || now_ms.saturating_sub(entry.last_timestamp()) < expiration_ms
        });
        if self.list.len() < self.places.len() {
            let place = |(place, (id, _)): (usize, &(i64, ProducerEntry))| (*id, place);
            self.places = self.list.iter().enumerate().map(place).collect();
            self.last = 0;
        }
    }

    /// All of them, as a snapshot keeps them, by producer id.
    pub fn rows(&self, open: &[OpenTransaction]) -> Vec<SnapshotRow> {
        let start = |id: i64| {
            let at = open.binary_search_by_key(&id, |open| open.producer_id).ok()?;
            open.get(at).map(|open| open.first_offset)
        };
        self.iter().map(|(id, entry)| entry.row(id, start(id))).collect()
    }

    /// The last record of each.
    pub fn last_records(&self) -> BTreeMap<i64, LastRecord> {
        self.iter().map(|(id, entry)| (id, entry.last_record())).collect()
    }

    /// The entry of a producer, to be changed; a new one of this epoch where there is none.
    #[inline]
    fn entry(&mut self, producer_id: i64, epoch: i16) -> &mut ProducerEntry {
        if self.list.get(self.last).is_none_or(|(id, _)| *id != producer_id) {
            self.turn_to(producer_id, epoch);
        }
        &mut self.list[self.last].1
    }

    #[cold]
    fn turn_to(&mut self, producer_id: i64, epoch: i16) {
        let next = self.list.len();
        self.last = *self.places.entry(producer_id).or_insert(next);
        if self.last == next {
            self.list.push((producer_id, ProducerEntry::new(epoch)));
        }
    }
}
