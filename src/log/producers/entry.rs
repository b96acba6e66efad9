//! What the log knows of one producer id, as Kafka's `ProducerStateEntry`: its epoch, its last
//! batches, and which batch may come next.

use super::{LastRecord, Marker, sequence};
use crate::error::{Error, ErrorKind, Result};
use crate::log::producers::snapshot::SnapshotRow;
use crate::record::{BatchHeader, Stamp};

/// Batches that are remembered for each producer: as many as the Java client has in flight.
const BATCHES_MAX: usize = 5;

/// In place of a base sequence: the next one of the producer, which the log gives under its lock.
/// It is for batches that are sent once, so that none of them can be a duplicate.
///
/// Departure: D97. A topic that is deleted and made again goes on from what the new log knows, and
/// a producer that expired begins at 0; Kafka's client counts by the topic's name, and is refused
/// in the first case.
pub(crate) const NEXT_SEQUENCE: i32 = -2;

/// The sender of a batch, and its place among the sender's: the log checks it, and stamps it on
/// the batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ProducerStamp {
    pub producer_id: i64,
    pub producer_epoch: i16,
    /// The sequence of the first record, from 0, or [`NEXT_SEQUENCE`].
    pub base_sequence: i32,
    pub transactional: bool,
}

impl ProducerStamp {
    /// What a finished batch says of its producer; `None` for a batch without one, and for a
    /// marker, which has no sequence.
    pub fn of(header: &BatchHeader) -> Option<ProducerStamp> {
        (header.has_producer_id() && !header.is_control()).then_some(ProducerStamp {
            producer_id: header.producer_id,
            producer_epoch: header.producer_epoch,
            base_sequence: header.base_sequence,
            transactional: header.is_transactional(),
        })
    }

    /// Id and epoch.
    pub fn producer(&self) -> (i64, i16) {
        (self.producer_id, self.producer_epoch)
    }

    /// The stamp of what follows `count` records.
    pub fn behind(self, count: usize) -> ProducerStamp {
        // A batch has less than 2^31 records.
        let count = i32::try_from(count).unwrap_or(i32::MAX);
        ProducerStamp { base_sequence: sequence::after(self.base_sequence, count), ..self }
    }

    /// The stamp of a batch of this producer.
    pub fn on(&self, stamp: Stamp) -> Stamp {
        let stamp = stamp.producer(self.producer_id, self.producer_epoch, self.base_sequence);
        if self.transactional { stamp.transactional() } else { stamp }
    }
}

/// A batch that was stored.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct StoredBatch {
    /// Of its last record; -1 for a batch without sequences.
    last_sequence: i32,
    pub last_offset: i64,
    /// How many offsets lie between its first record and its last.
    offset_delta: i32,
    pub timestamp: i64,
}

impl StoredBatch {
    pub fn base_offset(&self) -> i64 {
        self.last_offset - i64::from(self.offset_delta)
    }

    fn base_sequence(&self) -> i32 {
        sequence::before(self.last_sequence, self.offset_delta)
    }
}

/// The last batches of one producer, in a place that never moves: an append reserves nothing.
#[derive(Debug, Clone, Copy, Default)]
struct RecentBatches {
    ring: [StoredBatch; BATCHES_MAX],
    /// The place of the last one; below `BATCHES_MAX`.
    newest: usize,
    count: usize,
}

impl RecentBatches {
    #[inline]
    fn push(&mut self, batch: StoredBatch) {
        // No division: each batch passes here.
        self.newest = if self.newest + 1 < BATCHES_MAX { self.newest + 1 } else { 0 };
        self.ring[self.newest] = batch;
        self.count = BATCHES_MAX.min(self.count + 1);
    }

    /// The oldest first.
    fn iter(&self) -> impl Iterator<Item = &StoredBatch> {
        let place = |behind| (self.newest + BATCHES_MAX - behind) % BATCHES_MAX;
        (0..self.count).rev().map(move |behind| &self.ring[place(behind)])
    }

    #[inline]
    fn last(&self) -> Option<&StoredBatch> {
        self.ring.get(self.newest).filter(|_| self.count > 0)
    }
}

impl PartialEq for RecentBatches {
    fn eq(&self, other: &RecentBatches) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Eq for RecentBatches {}

/// The verdict on a batch that is to be stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Admission {
    /// It is stored.
    Next,
    /// It was stored, and is answered with where.
    Duplicate(StoredBatch),
}

/// The state of one producer id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ProducerEntry {
    epoch: i16,
    /// -1 before the first marker.
    coordinator_epoch: i32,
    last_timestamp: i64,
    batches: RecentBatches,
}

impl ProducerEntry {
    /// A producer that was not heard of before.
    pub fn new(epoch: i16) -> ProducerEntry {
        let batches = RecentBatches::default();
        ProducerEntry { epoch, coordinator_epoch: -1, last_timestamp: -1, batches }
    }

    /// A producer as a snapshot has it, which keeps its last batch only.
    pub fn of(row: &SnapshotRow) -> ProducerEntry {
        let mut entry = ProducerEntry::new(row.producer_epoch);
        entry.coordinator_epoch = row.coordinator_epoch;
        entry.last_timestamp = row.timestamp;
        if row.last_offset >= 0 {
            entry.batches.push(StoredBatch {
                last_sequence: row.last_sequence,
                last_offset: row.last_offset,
                offset_delta: row.offset_delta,
                timestamp: row.timestamp,
            });
        }
        entry
    }

    /// The producer as a snapshot keeps it, with the first offset of its open transaction.
    pub fn row(&self, producer_id: i64, transaction_start: Option<i64>) -> SnapshotRow {
        let none = StoredBatch { last_sequence: -1, last_offset: -1, ..StoredBatch::default() };
        let last = self.batches.last().copied().unwrap_or(none);
        SnapshotRow {
            producer_id,
            producer_epoch: self.epoch,
            last_sequence: last.last_sequence,
            last_offset: last.last_offset,
            offset_delta: last.offset_delta,
            timestamp: self.last_timestamp,
            coordinator_epoch: self.coordinator_epoch,
            transaction_start: transaction_start.unwrap_or(-1),
        }
    }

    /// The largest timestamp of its last batch, or that of the marker behind it.
    pub fn last_timestamp(&self) -> i64 {
        self.last_timestamp
    }

    /// Whether the batch may be stored.
    ///
    /// # Errors
    /// `InvalidProducerEpoch` for an epoch that was replaced, `OutOfOrderSequence` for a sequence
    /// that does not follow.
    #[inline]
    pub fn check(&self, stamp: &ProducerStamp, last_offset_delta: i32) -> Result<Admission> {
        // Behind a batch with sequences each of the others is before it: the next one is not among
        // them.
        let is_numbered = self.batches.last().is_some_and(|last| last.last_sequence >= 0);
        if is_numbered
            && stamp.producer_epoch == self.epoch
            && self.next_sequence(stamp)? == stamp.base_sequence
        {
            return Ok(Admission::Next);
        }
        self.look_through(stamp, last_offset_delta)
    }

    /// [`ProducerEntry::check`] of any batch.
    #[cold]
    fn look_through(&self, stamp: &ProducerStamp, last_offset_delta: i32) -> Result<Admission> {
        let last_sequence = sequence::after(stamp.base_sequence, last_offset_delta);
        if stamp.producer_epoch == self.epoch {
            let same = |batch: &&StoredBatch| {
                batch.base_sequence() == stamp.base_sequence && batch.last_sequence == last_sequence
            };
            if let Some(found) = self.batches.iter().find(same) {
                return Ok(Admission::Duplicate(*found));
            }
        }
        let expected = self.next_sequence(stamp)?;
        if stamp.base_sequence == expected {
            return Ok(Admission::Next);
        }
        let why = format!(
            "producer {} sent sequence {} where {expected} is next",
            stamp.producer_id, stamp.base_sequence
        );
        Err(Error::new(ErrorKind::OutOfOrderSequence, why))
    }

    /// The sequence that a batch of this producer and epoch has to begin with.
    ///
    /// # Errors
    /// `InvalidProducerEpoch` for an epoch that was replaced.
    #[inline]
    pub fn next_sequence(&self, stamp: &ProducerStamp) -> Result<i32> {
        self.check_epoch(stamp.producer_id, stamp.producer_epoch)?;
        Ok(self.next_of_epoch(stamp.producer_epoch).unwrap_or(0))
    }

    /// The sequence behind that of the last batch, if that is known, and of this epoch.
    #[inline(always)]
    pub fn next_of_epoch(&self, epoch: i16) -> Option<i32> {
        let last = self.batches.last().filter(|_| epoch == self.epoch)?;
        Some(sequence::after(last.last_sequence, 1))
    }

    /// The sequence of the last record that is known of the present epoch.
    pub fn last_sequence(&self) -> Option<i32> {
        self.batches.last().map(|last| last.last_sequence)
    }

    /// Whether a batch of this epoch may be stored.
    ///
    /// # Errors
    /// `InvalidProducerEpoch`.
    #[inline]
    pub fn check_epoch(&self, producer_id: i64, epoch: i16) -> Result<()> {
        match epoch >= self.epoch {
            true => Ok(()),
            false => Err(self.replaced(producer_id, epoch)),
        }
    }

    #[cold]
    fn replaced(&self, producer_id: i64, epoch: i16) -> Error {
        let why = format!(
            "producer {producer_id} with epoch {epoch} was replaced by one with epoch {}",
            self.epoch
        );
        Error::new(ErrorKind::InvalidProducerEpoch, why)
    }

    /// Whether the marker of a transaction may be stored. `is_open` says whether the producer has a
    /// transaction open here.
    ///
    /// # Errors
    /// `InvalidProducerEpoch`, and `TransactionCoordinatorFenced` for a coordinator that was
    /// replaced.
    pub fn check_marker(&self, marker: &Marker, is_open: bool) -> Result<()> {
        self.check_epoch(marker.producer_id, marker.producer_epoch)?;
        // The marker of a version 2 is above the epoch of its transaction. What is open under its
        // own epoch is a later transaction, which it would end.
        if is_open && marker.transaction_version >= 2 && marker.producer_epoch == self.epoch {
            let why = format!(
                "the transaction that producer {} has open has epoch {}, and a marker of that \
                 epoch ended the one before",
                marker.producer_id, self.epoch
            );
            return Err(Error::new(ErrorKind::InvalidProducerEpoch, why));
        }
        if marker.coordinator_epoch >= self.coordinator_epoch {
            return Ok(());
        }
        let why = format!(
            "a coordinator with epoch {} was replaced by one with epoch {}",
            marker.coordinator_epoch, self.coordinator_epoch
        );
        Err(Error::new(ErrorKind::TransactionCoordinatorFenced, why))
    }

    /// Whether the last that was stored of it is the marker of this epoch. Each transaction has an
    /// epoch of its own, which its marker raises: behind it the first batch has a sequence.
    pub fn ends_with_marker(&self, epoch: i16) -> bool {
        self.epoch == epoch && self.coordinator_epoch >= 0 && self.batches.last().is_none()
    }

    /// Its epoch.
    pub fn epoch(&self) -> i16 {
        self.epoch
    }

    /// The epoch of the coordinator that last ended a transaction; -1 before.
    pub fn coordinator_epoch(&self) -> i32 {
        self.coordinator_epoch
    }

    /// The last record of this producer.
    pub fn last_record(&self) -> LastRecord {
        let data_offset = self.batches.last().map(|batch| batch.last_offset);
        LastRecord { data_offset, epoch: self.epoch }
    }

    /// The batch was stored.
    #[inline]
    pub fn observe(
        &mut self,
        stamp: &ProducerStamp,
        last_offset: i64,
        last_offset_delta: i32,
        timestamp: i64,
    ) {
        self.enter(stamp.producer_epoch);
        self.batches.push(StoredBatch {
            last_sequence: match stamp.base_sequence {
                base if base < 0 => -1,
                base => sequence::after(base, last_offset_delta),
            },
            last_offset,
            offset_delta: last_offset_delta,
            timestamp,
        });
        self.last_timestamp = timestamp;
    }

    /// The marker of a transaction was stored.
    pub fn observe_marker(&mut self, epoch: i16, coordinator_epoch: i32, timestamp: i64) {
        self.enter(epoch);
        self.coordinator_epoch = coordinator_epoch;
        self.last_timestamp = timestamp;
    }

    /// What a cleaning left of a marker lies in the log: which coordinator stored it is not known
    /// any more.
    pub fn observe_emptied_marker(&mut self, epoch: i16, timestamp: i64) {
        self.enter(epoch);
        self.last_timestamp = timestamp;
    }

    /// A newer epoch begins its sequences anew, so batches of the former one are nobody's.
    #[inline]
    fn enter(&mut self, epoch: i16) {
        if epoch != self.epoch {
            self.epoch = epoch;
            self.batches = RecentBatches::default();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamp(producer_epoch: i16, base_sequence: i32) -> ProducerStamp {
        ProducerStamp { producer_id: 7, producer_epoch, base_sequence, transactional: false }
    }

    fn marker(producer_epoch: i16, coordinator_epoch: i32, transaction_version: i16) -> Marker {
        let kind = crate::record::ControlType::Commit;
        Marker { producer_id: 7, producer_epoch, kind, coordinator_epoch, transaction_version }
    }

    /// A producer of epoch 1 that stored batches of two records, the first at sequence `from`.
    fn entry(from: i32, batches: i32) -> ProducerEntry {
        let mut entry = ProducerEntry::new(1);
        for number in 0..batches {
            let next = stamp(1, sequence::after(from, 2 * number));
            entry.observe(&next, i64::from(2 * number + 1), 1, 1000);
        }
        entry
    }

    fn kind(outcome: Result<Admission>) -> Option<ErrorKind> {
        outcome.err().map(|error| error.kind())
    }

    #[test]
    fn the_next_sequence_follows_the_last_one_also_behind_the_largest() {
        assert_eq!(entry(0, 1).check(&stamp(1, 2), 0).unwrap(), Admission::Next);
        assert_eq!(entry(i32::MAX - 1, 1).check(&stamp(1, 0), 0).unwrap(), Admission::Next);
        assert_eq!(entry(i32::MAX, 1).check(&stamp(1, 1), 0).unwrap(), Admission::Next);
        let gap = entry(0, 1).check(&stamp(1, 3), 0);
        assert_eq!(kind(gap), Some(ErrorKind::OutOfOrderSequence));
        let back = entry(0, 1).check(&stamp(1, 1), 0);
        assert_eq!(kind(back), Some(ErrorKind::OutOfOrderSequence));
    }

    #[test]
    fn each_of_the_last_five_batches_is_known_again_and_an_overlap_is_not() {
        let entry = entry(0, 6);
        for number in 1..6 {
            let Admission::Duplicate(found) = entry.check(&stamp(1, 2 * number), 1).unwrap() else {
                panic!("batch {number} is new")
            };
            assert_eq!(found.base_offset(), i64::from(2 * number));
        }
        let first = entry.check(&stamp(1, 0), 1);
        assert_eq!(kind(first), Some(ErrorKind::OutOfOrderSequence));
        let overlap = entry.check(&stamp(1, 10), 2);
        assert_eq!(kind(overlap), Some(ErrorKind::OutOfOrderSequence));
    }

    #[test]
    fn a_newer_epoch_begins_at_0_and_fences_the_older_one() {
        let mut entry = entry(0, 2);
        let early = entry.check(&stamp(2, 4), 0);
        assert_eq!(kind(early), Some(ErrorKind::OutOfOrderSequence));
        assert_eq!(entry.check(&stamp(2, 0), 0).unwrap(), Admission::Next);
        entry.observe(&stamp(2, 0), 9, 0, 1000);
        let fenced = entry.check(&stamp(1, 4), 0);
        assert_eq!(kind(fenced), Some(ErrorKind::InvalidProducerEpoch));
    }

    #[test]
    fn a_marker_takes_over_its_epoch_and_an_older_coordinator_is_refused() {
        let mut entry = entry(0, 1);
        entry.check_marker(&marker(2, 5, 2), true).unwrap();
        entry.observe_marker(2, 5, 2000);
        assert_eq!(entry.check(&stamp(2, 0), 0).unwrap(), Admission::Next);
        let old = entry.check_marker(&marker(2, 4, 2), false).unwrap_err();
        assert_eq!(old.kind(), ErrorKind::TransactionCoordinatorFenced);
        let stale = entry.check_marker(&marker(1, 5, 2), false).unwrap_err();
        assert_eq!(stale.kind(), ErrorKind::InvalidProducerEpoch);
    }

    #[test]
    fn a_marker_of_version_2_ends_no_transaction_of_its_own_epoch() {
        let entry = entry(0, 1);
        let late = entry.check_marker(&marker(1, 5, 2), true).unwrap_err();
        assert_eq!(late.kind(), ErrorKind::InvalidProducerEpoch);
        entry.check_marker(&marker(1, 5, 2), false).expect("written again");
        for version in [0, 1] {
            entry.check_marker(&marker(1, 5, version), true).expect("they raise no epoch");
        }
    }
}
