//! Transactions as the batches of one partition show them: which are open, which were aborted.
//!
//! Batches are observed in offset order. A transaction opens at the first transactional batch of
//! a producer id and ends at that producer's marker. The same rules serve recovery, adoption,
//! attach and the live log, so a rebuilt transaction index equals the one Kafka wrote.

use std::collections::BTreeMap;

use crate::record::{BatchHeader, ControlType};

/// A transaction that ended in an abort.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct AbortedTransaction {
    pub producer_id: i64,
    /// The base offset of its first batch.
    pub first_offset: i64,
    /// The offset of its marker.
    pub last_offset: i64,
    /// The last stable offset once the marker was written: no transaction that is listed later
    /// begins below it.
    pub last_stable_offset: i64,
}

/// A transaction without an end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct OpenTransaction {
    pub producer_id: i64,
    /// The base offset of its first batch.
    pub first_offset: i64,
}

/// The open transactions of one partition.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct TransactionTracker {
    open: BTreeMap<i64, i64>,
    seen: bool,
}

impl TransactionTracker {
    /// Goes on from transactions that were open at some offset.
    pub fn resume(open: &[OpenTransaction]) -> TransactionTracker {
        TransactionTracker {
            open: open.iter().map(|t| (t.producer_id, t.first_offset)).collect(),
            seen: !open.is_empty(),
        }
    }

    /// Whether a transactional batch was observed.
    pub fn seen_any(&self) -> bool {
        self.seen
    }

    /// Takes note of the next batch. `marker` is the control record's kind, if the batch is a
    /// control batch that has one. Returns the transaction that the batch aborts.
    #[inline]
    pub fn observe(
        &mut self,
        header: &BatchHeader,
        marker: Option<ControlType>,
    ) -> Option<AbortedTransaction> {
        if !header.has_producer_id() {
            return None;
        }
        self.observe_producer(header, marker)
    }

    fn observe_producer(
        &mut self,
        header: &BatchHeader,
        marker: Option<ControlType>,
    ) -> Option<AbortedTransaction> {
        self.seen |= header.is_transactional();
        if !header.is_control() {
            if header.is_transactional() {
                self.begin(header.producer_id, header.base_offset);
            }
            return None;
        }
        // A control batch that compaction emptied ends nothing: its transaction is gone, too.
        let kind = marker.filter(|kind| kind.is_marker())?;
        self.end(header.producer_id, kind, header.last_offset())
    }

    /// A batch of a transaction, which begins with it if the producer has none open.
    pub fn begin(&mut self, producer_id: i64, base_offset: i64) {
        self.open.entry(producer_id).or_insert(base_offset);
    }

    /// A marker at `offset`. Returns the transaction that it aborts.
    pub fn end(
        &mut self,
        producer_id: i64,
        kind: ControlType,
        offset: i64,
    ) -> Option<AbortedTransaction> {
        let first_offset = self.open.remove(&producer_id)?;
        if kind != ControlType::Abort {
            return None;
        }
        Some(AbortedTransaction {
            producer_id,
            first_offset,
            last_offset: offset,
            last_stable_offset: self.first_unstable_offset().unwrap_or(offset + 1),
        })
    }

    /// Whether nobody has a transaction open.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// Whether the producer has a transaction open.
    #[inline]
    pub fn is_open(&self, producer_id: i64) -> bool {
        !self.open.is_empty() && self.open.contains_key(&producer_id)
    }

    /// The first offset of the earliest open transaction.
    pub fn first_unstable_offset(&self) -> Option<i64> {
        self.open.values().copied().min()
    }

    /// The open transactions, by producer id.
    pub fn open(&self) -> Vec<OpenTransaction> {
        self.open
            .iter()
            .map(|(&producer_id, &first_offset)| OpenTransaction { producer_id, first_offset })
            .collect()
    }

    /// The border that read_committed readers stop at.
    pub fn last_stable_offset(&self, log_start_offset: i64, log_end_offset: i64) -> i64 {
        match self.first_unstable_offset() {
            Some(first) => first.max(log_start_offset).min(log_end_offset),
            None => log_end_offset,
        }
    }
}

/// Picks the aborted transactions that may touch offsets in `from..upto`. `aborted` is in order
/// of `last_offset`; the walk ends at the first row that proves that nothing later matters.
pub(crate) fn collect_aborted<'a>(
    aborted: impl IntoIterator<Item = &'a AbortedTransaction>,
    from: i64,
    upto: i64,
) -> Vec<AbortedTransaction> {
    let mut found = Vec::new();
    for transaction in aborted {
        if transaction.last_offset >= from && transaction.first_offset < upto {
            found.push(*transaction);
        }
        if transaction.last_stable_offset >= upto {
            break;
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TRANSACTIONAL: i16 = 0x10;
    const CONTROL: i16 = 0x20;

    fn header(base_offset: i64, producer_id: i64, attributes: i16) -> BatchHeader {
        BatchHeader {
            base_offset,
            batch_length: 49,
            leader_epoch: 0,
            magic: 2,
            crc: 0,
            attributes,
            last_offset_delta: 0,
            base_timestamp: 0,
            max_timestamp: 0,
            producer_id,
            producer_epoch: 0,
            base_sequence: 0,
            records_count: 1,
        }
    }

    #[test]
    fn an_abort_names_its_first_offset_and_what_stays_open() {
        let mut tracker = TransactionTracker::default();
        assert_eq!(tracker.observe(&header(0, 7, TRANSACTIONAL), None), None);
        assert_eq!(tracker.observe(&header(1, 8, TRANSACTIONAL), None), None);
        assert_eq!(tracker.observe(&header(2, 7, TRANSACTIONAL), None), None);
        assert_eq!(tracker.last_stable_offset(0, 3), 0);
        let marker = header(3, 7, TRANSACTIONAL | CONTROL);
        let aborted = tracker.observe(&marker, Some(ControlType::Abort));
        assert_eq!(
            aborted,
            Some(AbortedTransaction {
                producer_id: 7,
                first_offset: 0,
                last_offset: 3,
                last_stable_offset: 1
            })
        );
        let marker = header(4, 8, TRANSACTIONAL | CONTROL);
        assert_eq!(tracker.observe(&marker, Some(ControlType::Commit)), None);
        assert_eq!(tracker.open(), []);
        assert_eq!(tracker.last_stable_offset(0, 5), 5);
    }

    #[test]
    fn markers_without_a_transaction_and_plain_batches_end_nothing() {
        let mut tracker = TransactionTracker::default();
        let marker = header(0, 7, TRANSACTIONAL | CONTROL);
        assert_eq!(tracker.observe(&marker, Some(ControlType::Abort)), None, "never opened");
        assert_eq!(tracker.observe(&header(1, 7, 0), None), None, "idempotent only");
        assert_eq!(tracker.observe(&header(2, -1, TRANSACTIONAL), None), None, "no producer");
        assert_eq!(tracker.first_unstable_offset(), None);
        tracker.observe(&header(3, 7, TRANSACTIONAL), None);
        assert_eq!(tracker.observe(&marker, None), None, "an empty control batch");
        assert_eq!(tracker.observe(&marker, Some(ControlType::LeaderChange)), None);
        assert_eq!(tracker.first_unstable_offset(), Some(3));
        assert_eq!(tracker.last_stable_offset(5, 9), 5, "lifted to the log start");
    }

    proptest! {
        #[test]
        fn early_end_of_the_walk_loses_no_transaction(
            steps in prop::collection::vec((0i64..4, 0u8..4), 0..120),
            from in 0i64..120, len in 0i64..40,
        ) {
            let mut tracker = TransactionTracker::default();
            let mut aborted = Vec::new();
            let mut batches = Vec::new();
            for (offset, (producer_id, what)) in steps.into_iter().enumerate() {
                let offset = offset as i64;
                let (attributes, marker) = match what {
                    0 | 1 => (TRANSACTIONAL, None),
                    2 => (TRANSACTIONAL | CONTROL, Some(ControlType::Abort)),
                    _ => (TRANSACTIONAL | CONTROL, Some(ControlType::Commit)),
                };
                let header = header(offset, producer_id, attributes);
                batches.push(header);
                aborted.extend(tracker.observe(&header, marker));
            }
            let upto = from + len;
            let found = collect_aborted(&aborted, from, upto);
            for transaction in &aborted {
                let touches = batches.iter().any(|batch| {
                    !batch.is_control()
                        && batch.producer_id == transaction.producer_id
                        && (transaction.first_offset..transaction.last_offset)
                            .contains(&batch.base_offset)
                        && (from..upto).contains(&batch.base_offset)
                });
                prop_assert!(!touches || found.contains(transaction));
            }
        }
    }
}
