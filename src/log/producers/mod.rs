//! What one partition knows of producers: their last batches, their open transactions, and the
//! border that these hold back.
//!
//! [`ProducerStates`] lies under the partition's lock. An append asks [`ProducerStates::check`]
//! before it stores anything, and tells [`ProducerStates::observe`] after; a batch that is known
//! already is answered with where it is. The last stable offset moves with the borders: a
//! transaction that begins holds it back before the end moves over its first batch, and one that
//! ends lets it go after the end moved over its marker, so that no reader ever sees a record of an
//! open transaction below it.
//!
//! Departure: D7. What a dead process left open is held until the coordinator aborts it, before the
//! first append of the next life; Kafka waits for its timeout.

pub(in crate::log) mod entry;
pub(in crate::log) mod sequence;
pub(crate) mod transactions;

use crate::error::{Error, ErrorKind, Result};
use crate::record::ControlType;
use entry::{Admission, ProducerEntry, ProducerStamp};
use std::collections::BTreeMap;
use transactions::{AbortedTransaction, OpenTransaction, TransactionTracker};

/// See the module.
#[derive(Debug, Clone, Default)]
pub(crate) struct ProducerStates {
    entries: BTreeMap<i64, ProducerEntry>,
    transactions: TransactionTracker,
    /// Transactions were seen here, in this life or before.
    transactional: bool,
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
}

impl ProducerStates {
    /// Goes on from what opening found.
    pub fn resume(open: &[OpenTransaction], transactional: bool) -> ProducerStates {
        ProducerStates {
            entries: BTreeMap::new(),
            transactions: TransactionTracker::resume(open),
            transactional,
        }
    }

    /// Whether a producer's batch may be stored. Any sequence is the first one of a producer that
    /// nothing is known of.
    ///
    /// # Errors
    /// `InvalidProducerEpoch`, `OutOfOrderSequence`; `InvalidTxnState` for a batch outside a
    /// transaction while the producer has one open.
    pub fn check(&self, stamp: &ProducerStamp, last_offset_delta: i32) -> Result<Admission> {
        let admission = match self.entries.get(&stamp.producer_id) {
            Some(entry) => entry.check(stamp, last_offset_delta)?,
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
        self.check_transaction(stamp)?;
        self.entries.get(&stamp.producer_id).map_or(Ok(0), |entry| entry.next_sequence(stamp))
    }

    /// The sequence of the last record of a producer, where one is known.
    pub fn last_sequence(&self, producer_id: i64) -> Option<i32> {
        self.entries.get(&producer_id).and_then(ProducerEntry::last_sequence)
    }

    #[inline]
    fn check_transaction(&self, stamp: &ProducerStamp) -> Result<()> {
        let id = stamp.producer_id;
        if stamp.transactional || !self.transactions.is_open(id) {
            return Ok(());
        }
        let why = format!("producer {id} has a transaction open, and this batch is not in it");
        Err(Error::new(ErrorKind::InvalidTxnState, why))
    }

    /// Whether a coordinator may store a batch in the producer's name: it numbers none.
    ///
    /// # Errors
    /// `InvalidProducerEpoch`.
    pub fn check_epoch(&self, stamp: &ProducerStamp) -> Result<()> {
        let entry = self.entries.get(&stamp.producer_id);
        entry.map_or(Ok(()), |entry| entry.check_epoch(stamp.producer_id, stamp.producer_epoch))
    }

    /// The epoch of a producer that has a transaction open; `None` where it has none. Of one that
    /// nothing more is known of, the lowest.
    pub fn open_epoch(&self, producer_id: i64) -> Option<i16> {
        let known = self.entries.get(&producer_id).map(ProducerEntry::epoch);
        self.transactions.is_open(producer_id).then(|| known.unwrap_or(0))
    }

    /// The epoch of the coordinator that last ended a transaction of the producer; -1 before.
    pub fn coordinator_epoch(&self, producer_id: i64) -> i32 {
        self.entries.get(&producer_id).map_or(-1, ProducerEntry::coordinator_epoch)
    }

    /// A producer's batch was stored at `base_offset`.
    pub fn observe(
        &mut self,
        stamp: &ProducerStamp,
        base_offset: i64,
        last_offset_delta: i32,
        timestamp: i64,
    ) {
        let id = stamp.producer_id;
        let last_offset = base_offset + i64::from(last_offset_delta);
        self.entries.entry(id).or_insert_with(|| ProducerEntry::new(stamp.producer_epoch)).observe(
            stamp,
            last_offset,
            last_offset_delta,
            timestamp,
        );
        if stamp.transactional {
            self.transactional = true;
            self.transactions.begin(id, base_offset);
        }
    }

    /// Whether a marker may be stored.
    ///
    /// # Errors
    /// `InvalidProducerEpoch`, `TransactionCoordinatorFenced`.
    pub fn check_marker(&self, marker: &Marker) -> Result<()> {
        match self.entries.get(&marker.producer_id) {
            Some(entry) => entry.check_marker(
                marker.producer_id,
                marker.producer_epoch,
                marker.coordinator_epoch,
            ),
            None => Ok(()),
        }
    }

    /// A marker was stored at `offset`. Returns the transaction that it aborted, if there was one.
    pub fn observe_marker(
        &mut self,
        marker: &Marker,
        offset: i64,
        timestamp: i64,
    ) -> Option<AbortedTransaction> {
        self.entries
            .entry(marker.producer_id)
            .or_insert_with(|| ProducerEntry::new(marker.producer_epoch))
            .observe_marker(marker.producer_epoch, marker.coordinator_epoch, timestamp);
        self.transactional = true;
        self.transactions.end(marker.producer_id, marker.kind, offset)
    }

    /// The first offset of the earliest open transaction.
    pub fn first_unstable_offset(&self) -> Option<i64> {
        self.transactions.first_unstable_offset()
    }

    /// The last record of each producer, which compaction may not forget.
    pub fn last_records(&self) -> BTreeMap<i64, LastRecord> {
        let last = |(id, entry): (&i64, &ProducerEntry)| (*id, entry.last_record());
        self.entries.iter().map(last).collect()
    }

    /// The open transactions, by producer id.
    pub fn open(&self) -> Vec<OpenTransaction> {
        self.transactions.open()
    }

    /// Whether there ever was a transaction here.
    pub fn is_transactional(&self) -> bool {
        self.transactional
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamp(producer_id: i64, base_sequence: i32, transactional: bool) -> ProducerStamp {
        ProducerStamp { producer_id, producer_epoch: 0, base_sequence, transactional }
    }

    fn marker(producer_id: i64, kind: ControlType) -> Marker {
        Marker { producer_id, producer_epoch: 1, kind, coordinator_epoch: 0 }
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
    fn a_marker_without_a_transaction_ends_none() {
        let mut states = ProducerStates::default();
        assert_eq!(states.observe_marker(&marker(1, ControlType::Abort), 3, 6), None);
        assert_eq!(
            states.check(&stamp(1, 4, true), 0).unwrap_err().kind(),
            ErrorKind::InvalidProducerEpoch
        );
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
}
