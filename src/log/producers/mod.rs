//! What one partition knows of producers: their last batches, their open transactions, and the
//! border that these hold back.
//!
//! [`ProducerStates`] lies under the partition's lock. An append asks [`ProducerStates::check`]
//! before it stores anything, and tells [`ProducerStates::observe`] after; a batch that is known
//! already is answered with where it is. What a log knew before is learnt when it is first written
//! to, from the newest snapshot that is vouched for and the batches behind it
//! (`load/producers.rs`). The last stable offset moves with the borders: a
//! transaction that begins holds it back before the end moves over its first batch, and one that
//! ends lets it go after the end moved over its marker, so that no reader ever sees a record of an
//! open transaction below it.
//!
//! Departure: D7. What a dead process left open is held until the coordinator aborts it, before the
//! first append of the next life; Kafka waits for its timeout.

pub(in crate::log) mod entries;
pub(in crate::log) mod entry;
pub(in crate::log) mod sequence;
pub(crate) mod snapshot;
pub(crate) mod transactions;

use crate::error::{Error, ErrorKind, Result};
use crate::record::ControlType;
use entries::ProducerEntries;
use entry::{Admission, ProducerEntry, ProducerStamp};
use snapshot::SnapshotRow;
use std::collections::BTreeMap;
use transactions::{AbortedTransaction, OpenTransaction, TransactionTracker};

/// The producers of one partition, with their transactions.
#[derive(Debug, Clone, Default)]
pub(crate) struct ProducerStates {
    entries: ProducerEntries,
    transactions: TransactionTracker,
    /// Transactions were seen here, in this life or before.
    transactional: bool,
    /// A batch with a producer id was seen here, in this life or before.
    any: bool,
    /// `entries` lacks what lies in the log: [`ProducerStates::learn`] is still to come.
    unread: bool,
    /// Nobody looked yet which of those that were read have expired.
    unaged: bool,
}

/// The last record of a producer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LastRecord {
    /// Of its last batch of records; `None` where a marker was all that came under its epoch.
    pub data_offset: Option<i64>,
    pub epoch: i16,
}

/// A decision of the coordinator about one transaction, to be stored as its marker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Marker {
    pub producer_id: i64,
    pub producer_epoch: i16,
    pub kind: ControlType,
    pub coordinator_epoch: i32,
    /// Kafka's `transaction.version`: from 2 on each transaction has an epoch of its own, which its
    /// marker raises. It is not stored; 0 where it is not known.
    pub transaction_version: i16,
}

impl ProducerStates {
    /// Goes on from what opening found. `any` says whether a batch with a producer id was ever
    /// seen: its producers are then to be learnt before the first append.
    pub fn resume(open: &[OpenTransaction], transactional: bool, any: bool) -> ProducerStates {
        ProducerStates {
            transactions: TransactionTracker::resume(open),
            transactional,
            any,
            unread: any,
            ..ProducerStates::default()
        }
    }

    /// Takes over the producers that the log, or a snapshot, has.
    pub fn learn(&mut self, entries: ProducerEntries) {
        self.entries = entries;
        self.unread = false;
        self.unaged = true;
    }

    /// Whether the producers are known: there never was one, or they were learnt.
    pub fn is_known(&self) -> bool {
        !self.unread
    }

    /// Whether a batch with a producer id was ever seen.
    pub fn any(&self) -> bool {
        self.any
    }

    /// Whether a producer's batch may be stored. Any sequence is the first one of a producer that
    /// nothing is known of, unless it is in a transaction: those begin at 0 (KIP-890).
    ///
    /// # Errors
    /// `InvalidProducerEpoch`, `OutOfOrderSequence`; `InvalidTxnState` for a batch outside a
    /// transaction while the producer has one open.
    #[inline]
    pub fn check(&self, stamp: &ProducerStamp, last_offset_delta: i32) -> Result<Admission> {
        let admission = match self.entries.get(stamp.producer_id) {
            Some(entry) => entry.check(stamp, last_offset_delta)?,
            None if stamp.transactional && stamp.base_sequence != 0 => {
                return Err(begins_late(stamp));
            }
            None => Admission::Next,
        };
        if admission == Admission::Next {
            self.check_transaction(stamp)?;
        }
        Ok(admission)
    }

    /// The sequence of a batch that is sent for the first time, and only once.
    ///
    /// # Errors
    /// As [`ProducerStates::check`], but for those of the sequence.
    #[inline]
    pub fn next_sequence(&self, stamp: &ProducerStamp) -> Result<i32> {
        let entry = self.entries.get(stamp.producer_id);
        let next = entry.map_or(Ok(0), |entry| entry.next_sequence(stamp))?;
        self.check_transaction(stamp)?;
        Ok(next)
    }

    /// As [`ProducerStates::next_sequence`], where the producer of the latest batch sends the next
    /// one, under the same epoch; `None` where that is to be asked.
    #[inline(always)]
    pub fn next_of_latest(&self, stamp: &ProducerStamp) -> Option<i32> {
        let entry = self.entries.latest(stamp.producer_id)?;
        let is_free = stamp.transactional || self.transactions.is_empty();
        entry.next_of_epoch(stamp.producer_epoch).filter(|_| is_free)
    }

    /// The sequence of the last record of a producer, where one is known.
    pub fn last_sequence(&self, producer_id: i64) -> Option<i32> {
        self.entries.get(producer_id).and_then(ProducerEntry::last_sequence)
    }

    #[inline]
    fn check_transaction(&self, stamp: &ProducerStamp) -> Result<()> {
        let id = stamp.producer_id;
        if stamp.transactional || !self.transactions.is_open(id) {
            return Ok(());
        }
        Err(outside_transaction(id))
    }

    /// Whether a coordinator may store a batch in the producer's name: it numbers none.
    ///
    /// # Errors
    /// `InvalidProducerEpoch`.
    pub fn check_epoch(&self, stamp: &ProducerStamp) -> Result<()> {
        let entry = self.entries.get(stamp.producer_id);
        entry.map_or(Ok(()), |entry| entry.check_epoch(stamp.producer_id, stamp.producer_epoch))
    }

    /// The epoch of a producer that has a transaction open; `None` where it has none. Of one that
    /// nothing more is known of, the lowest.
    pub fn open_epoch(&self, producer_id: i64) -> Option<i16> {
        let known = self.entries.get(producer_id).map(ProducerEntry::epoch);
        self.transactions.is_open(producer_id).then(|| known.unwrap_or(0))
    }

    /// The epoch of a producer that is known, or has a transaction open.
    pub fn epoch(&self, producer_id: i64) -> Option<i16> {
        let known = self.entries.get(producer_id).map(ProducerEntry::epoch);
        known.or(self.open_epoch(producer_id))
    }

    /// The epoch of the coordinator that last ended a transaction of the producer; -1 before.
    pub fn coordinator_epoch(&self, producer_id: i64) -> i32 {
        self.entries.get(producer_id).map_or(-1, ProducerEntry::coordinator_epoch)
    }

    /// A producer's batch was stored at `base_offset`.
    #[inline]
    pub fn observe(
        &mut self,
        stamp: &ProducerStamp,
        base_offset: i64,
        last_offset_delta: i32,
        timestamp: i64,
    ) {
        self.any = true;
        self.entries.observe(stamp, base_offset, last_offset_delta, timestamp);
        if stamp.transactional {
            self.transactional = true;
            self.transactions.begin(stamp.producer_id, base_offset);
        }
    }

    /// Whether a marker may be stored.
    ///
    /// # Errors
    /// `InvalidProducerEpoch`, `TransactionCoordinatorFenced`.
    pub fn check_marker(&self, marker: &Marker) -> Result<()> {
        let is_open = self.transactions.is_open(marker.producer_id);
        let entry = self.entries.get(marker.producer_id);
        entry.map_or(Ok(()), |entry| entry.check_marker(marker, is_open))
    }

    /// Whether the transaction that this marker ends has it already.
    pub fn has_marker(&self, marker: &Marker) -> bool {
        let entry = self.entries.get(marker.producer_id);
        !self.transactions.is_open(marker.producer_id)
            && entry.is_some_and(|entry| entry.ends_with_marker(marker.producer_epoch))
    }

    /// A marker was stored at `offset`. Returns the transaction that it aborted, if there was one.
    pub fn observe_marker(
        &mut self,
        marker: &Marker,
        offset: i64,
        timestamp: i64,
    ) -> Option<AbortedTransaction> {
        self.any = true;
        self.entries.observe_marker(marker, timestamp);
        self.transactional = true;
        self.transactions.end(marker.producer_id, marker.kind, offset)
    }

    /// Forgets the producers that were not heard of for `expiration_ms`.
    pub fn expire(&mut self, now_ms: i64, expiration_ms: i64) {
        self.entries.expire(now_ms, expiration_ms, &self.transactions);
        self.unaged = false;
    }

    /// As [`ProducerStates::expire`], once for what was learnt.
    pub fn expire_learnt(&mut self, now_ms: i64, expiration_ms: i64) {
        if self.unaged && self.is_known() {
            self.expire(now_ms, expiration_ms);
        }
    }

    /// The first offset of the earliest open transaction.
    pub fn first_unstable_offset(&self) -> Option<i64> {
        self.transactions.first_unstable_offset()
    }

    /// The last record of each producer, which compaction may not forget.
    pub fn last_records(&self) -> BTreeMap<i64, LastRecord> {
        self.entries.last_records()
    }

    /// The open transactions, by producer id.
    pub fn open(&self) -> Vec<OpenTransaction> {
        self.transactions.open()
    }

    /// The producers, by id, as a snapshot keeps them.
    pub fn rows(&self) -> Vec<SnapshotRow> {
        self.entries.rows(&self.transactions.open())
    }

    /// The bytes of a snapshot; `None` where there never was a producer.
    pub fn snapshot(&self) -> Option<Vec<u8>> {
        assert!(self.is_known(), "a snapshot tells of every producer");
        self.any.then(|| snapshot::to_bytes(&self.rows()))
    }

    /// Whether there ever was a transaction here.
    pub fn is_transactional(&self) -> bool {
        self.transactional
    }
}

#[cold]
fn outside_transaction(producer_id: i64) -> Error {
    let why = format!("producer {producer_id} has a transaction open, and this batch is not in it");
    Error::new(ErrorKind::InvalidTxnState, why)
}

#[cold]
fn begins_late(stamp: &ProducerStamp) -> Error {
    let (id, sequence) = (stamp.producer_id, stamp.base_sequence);
    let why = format!("producer {id} began its transaction with sequence {sequence}, not 0");
    Error::new(ErrorKind::OutOfOrderSequence, why)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamp(producer_id: i64, base_sequence: i32, transactional: bool) -> ProducerStamp {
        ProducerStamp { producer_id, producer_epoch: 0, base_sequence, transactional }
    }

    fn marker(producer_id: i64, kind: ControlType) -> Marker {
        let (producer_epoch, coordinator_epoch) = (1, 0);
        Marker { producer_id, producer_epoch, kind, coordinator_epoch, transaction_version: 2 }
    }

    #[test]
    fn the_earliest_open_transaction_holds_the_border_back() {
        let mut states = ProducerStates::default();
        states.observe(&stamp(1, 0, true), 10, 1, 5);
        states.observe(&stamp(2, 0, true), 12, 0, 5);
        states.observe(&stamp(1, 2, true), 13, 0, 5);
        assert_eq!(states.first_unstable_offset(), Some(10));
        assert_eq!(states.observe_marker(&marker(1, ControlType::Commit), 14, 6), None);
        assert_eq!(states.first_unstable_offset(), Some(12));
        let aborted = states.observe_marker(&marker(2, ControlType::Abort), 15, 6).unwrap();
        assert_eq!((aborted.first_offset, aborted.last_offset), (12, 15));
        assert_eq!(aborted.last_stable_offset, 16);
        assert_eq!((states.first_unstable_offset(), states.is_transactional()), (None, true));
    }

    #[test]
    fn producers_that_take_turns_are_each_known() {
        let mut states = ProducerStates::default();
        for turn in 0..7 {
            for id in [5, 1, 9] {
                let next = stamp(id, turn, false);
                assert_eq!(states.check(&next, 0).unwrap(), Admission::Next);
                assert_eq!(states.next_sequence(&next).unwrap(), turn);
                states.observe(&next, i64::from(turn) * 10 + id, 0, 5 + id);
            }
        }
        let known_again = |states: &ProducerStates, id| {
            let Admission::Duplicate(known) = states.check(&stamp(id, 2, false), 0).unwrap() else {
                panic!("a batch of producer {id} is new")
            };
            assert_eq!(known.base_offset(), 20 + id);
            let forgotten = states.check(&stamp(id, 1, false), 0).unwrap_err();
            assert_eq!(forgotten.kind(), ErrorKind::OutOfOrderSequence);
            assert_eq!(states.last_sequence(id), Some(6));
        };
        for id in [9, 5, 1] {
            known_again(&states, id);
        }
        let last: Vec<_> = states.last_records().into_iter().collect();
        let of = |id| (id, LastRecord { data_offset: Some(60 + id), epoch: 0 });
        assert_eq!(last, [of(1), of(5), of(9)]);
        states.expire(1010, 1000);
        assert_eq!(states.last_sequence(5), None);
        assert_eq!(states.last_sequence(1), None);
        known_again(&states, 9);
        states.observe(&stamp(2, 0, false), 70, 0, 1010);
        assert_eq!(states.last_sequence(2), Some(0));
        known_again(&states, 9);
    }

    #[test]
    fn a_marker_without_a_transaction_ends_none() {
        let mut states = ProducerStates::default();
        assert_eq!(states.observe_marker(&marker(1, ControlType::Abort), 3, 6), None);
        assert_eq!(
            states.check(&stamp(1, 4, true), 0).unwrap_err().kind(),
            ErrorKind::InvalidProducerEpoch
        );
    }

    #[test]
    fn a_transaction_of_an_unknown_producer_begins_at_sequence_0() {
        let states = ProducerStates::default();
        let refused = states.check(&stamp(1, 4, true), 0).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::OutOfOrderSequence);
        assert_eq!(states.check(&stamp(1, 0, true), 0).unwrap(), Admission::Next);
        assert_eq!(states.check(&stamp(1, 4, false), 0).unwrap(), Admission::Next);
    }

    #[test]
    fn a_coordinator_writes_for_a_producer_whatever_its_sequence_is() {
        let mut states = ProducerStates::default();
        states.observe(&stamp(1, 0, true), 0, 0, 5);
        states.check_epoch(&stamp(1, 0, true)).unwrap();
        states.observe_marker(&marker(1, ControlType::Commit), 1, 6);
        let fenced = states.check_epoch(&stamp(1, 0, true)).unwrap_err();
        assert_eq!(fenced.kind(), ErrorKind::InvalidProducerEpoch);
    }

    #[test]
    fn a_producer_expires_by_the_times_of_its_records_unless_its_transaction_is_open() {
        let mut states = ProducerStates::default();
        states.observe(&stamp(1, 0, false), 0, 0, 1000);
        states.observe(&stamp(2, 0, true), 1, 0, 1000);
        states.observe(&stamp(3, 0, false), 2, 0, 1001);
        states.expire(2000, 1000);
        let left: Vec<i64> = states.rows().iter().map(|row| row.producer_id).collect();
        assert_eq!(left, [2, 3]);
        assert_eq!(states.check(&stamp(1, 40, false), 0).unwrap(), Admission::Next);
    }

    #[test]
    fn a_snapshot_goes_on_with_the_last_batch_of_each_producer() {
        let mut states = ProducerStates::default();
        states.observe(&stamp(1, 0, false), 0, 4, 5);
        states.observe(&stamp(1, 5, false), 5, 1, 6);
        states.observe(&stamp(2, 0, true), 7, 0, 7);
        states.observe_marker(&marker(3, ControlType::Commit), 8, 8);
        let bytes = states.snapshot().unwrap();
        let rows = snapshot::parse(&bytes, 9).unwrap();
        assert_eq!(rows, states.rows());
        assert_eq!(rows[1].transaction_start, 7);
        assert_eq!((rows[2].last_sequence, rows[2].last_offset), (-1, -1));
        let mut again = ProducerStates::resume(&states.open(), true, true);
        again.learn(ProducerEntries::of(&rows));
        assert_eq!(again.snapshot().unwrap(), bytes);
        let Admission::Duplicate(known) = again.check(&stamp(1, 5, false), 1).unwrap() else {
            panic!("it is the last batch")
        };
        assert_eq!(known.base_offset(), 5);
        assert!(again.check(&stamp(1, 0, false), 4).is_err(), "an older one");
        assert_eq!(again.check(&stamp(1, 7, false), 0).unwrap(), Admission::Next);
        let next = ProducerStamp { producer_epoch: 1, ..stamp(3, 0, false) };
        assert_eq!(again.check(&next, 0).unwrap(), Admission::Next);
        assert!(ProducerStates::default().snapshot().is_none());
    }

    #[test]
    fn a_batch_outside_a_transaction_is_refused_while_one_is_open() {
        let mut states = ProducerStates::default();
        assert_eq!(states.check(&stamp(1, 77, false), 0).unwrap(), Admission::Next);
        states.observe(&stamp(1, 0, true), 0, 0, 5);
        let refused = states.check(&stamp(1, 1, false), 0).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::InvalidTxnState);
        assert_eq!(states.check(&stamp(1, 1, true), 0).unwrap(), Admission::Next);
    }

    /// As in Kafka: that it was replaced, then its sequence, then the transaction.
    #[test]
    fn a_batch_is_refused_for_its_epoch_then_its_sequence_then_its_transaction() {
        let mut states = ProducerStates::default();
        let of = |epoch, sequence, transactional| ProducerStamp {
            producer_epoch: epoch,
            ..stamp(1, sequence, transactional)
        };
        states.observe(&of(4, 0, true), 0, 0, 5);
        for (epoch, sequence, transactional, expected) in [
            (3, 0, false, Some(ErrorKind::InvalidProducerEpoch)),
            (3, 7, true, Some(ErrorKind::InvalidProducerEpoch)),
            (4, 7, false, Some(ErrorKind::OutOfOrderSequence)),
            (4, 7, true, Some(ErrorKind::OutOfOrderSequence)),
            (5, 7, false, Some(ErrorKind::OutOfOrderSequence)),
            (5, 0, false, Some(ErrorKind::InvalidTxnState)),
            (4, 1, false, Some(ErrorKind::InvalidTxnState)),
            (4, 1, true, None),
            (5, 0, true, None),
        ] {
            let batch = of(epoch, sequence, transactional);
            let checked = states.check(&batch, 0).err().map(|error| error.kind());
            assert_eq!(checked, expected, "{batch:?}");
            // What the log numbers has no sequence to be wrong.
            let expected = match expected {
                Some(ErrorKind::OutOfOrderSequence) if !transactional => {
                    Some(ErrorKind::InvalidTxnState)
                }
                Some(ErrorKind::OutOfOrderSequence) => None,
                other => other,
            };
            let numbered = states.next_sequence(&batch).err().map(|error| error.kind());
            assert_eq!(numbered, expected, "{batch:?}, numbered by the log");
        }
        // A duplicate is one of its own epoch alone, and is answered also while one is open.
        assert!(matches!(states.check(&of(4, 0, true), 0), Ok(Admission::Duplicate(_))));
        assert!(matches!(states.check(&of(4, 0, false), 0), Ok(Admission::Duplicate(_))));
    }
}
