//! Markers that are missing: what the epochs of a producer's batches prove where offsets are.
//!
//! From Kafka's `transaction.version` 2 on each transaction has an epoch of its own: its marker has
//! that of its records, or the next one where the end, a timeout or a fence raised it, and records
//! of a higher epoch follow behind the marker only. Where a transaction is open, offsets are
//! missing behind its records, and what follows is of a later epoch than its marker can have, the
//! marker was among what is missing: whether the records were committed is not known, and the
//! later marker must not decide it. A cleaner of a compacted log keeps a marker as long as a record
//! of its transaction, and records that a trim or retention removed are not seen here.
//!
//! Epochs that go on without a missing offset are what the log was given: before verification of
//! partitions (KIP-890) a late record could open a transaction that nobody ended. Transactions of
//! the versions before 2 have one epoch one after the other, which proves nothing.
//!
//! Departure: D119. Kafka lets the later marker decide.

use crate::log::scan::Invalid;
use crate::record::{BatchHeader, ControlRecord};
use std::collections::BTreeMap;

/// The transactions that are open in what was read so far, with the epochs of their records.
#[derive(Debug, Clone, Default)]
pub(in crate::log) struct LostMarkers {
    open: BTreeMap<i64, OpenRecords>,
    /// The offset behind the batch before.
    next_offset: i64,
    /// The first offset behind the last ones that are missing.
    behind_hole: i64,
}

/// The records of an open transaction.
#[derive(Debug, Clone, Copy)]
struct OpenRecords {
    epoch: i16,
    last_offset: i64,
}

impl LostMarkers {
    /// Takes note of the next batch, with its control record.
    ///
    /// # Errors
    /// [`Invalid::LostMarker`] where a marker before it is missing.
    pub fn observe(
        &mut self,
        header: &BatchHeader,
        control: Option<ControlRecord>,
    ) -> Result<(), Invalid> {
        if header.base_offset > self.next_offset {
            self.behind_hole = header.base_offset;
        }
        self.next_offset = header.next_offset();
        // What compaction left without a record has nothing that could be shown.
        if !header.is_transactional() || !header.has_producer_id() || header.records_count == 0 {
            return Ok(());
        }
        let (id, epoch) = (header.producer_id, header.producer_epoch);
        let is_marker = control.is_some_and(|control| control.kind.is_marker());
        let allowed = i32::from(is_marker);
        if let Some(open) = self.open.get(&id)
            && i32::from(epoch) > i32::from(open.epoch) + allowed
            && open.last_offset < self.behind_hole
        {
            return Err(Invalid::LostMarker { producer_id: id, open: open.epoch, found: epoch });
        }
        if is_marker {
            self.open.remove(&id);
        } else if !header.is_control() {
            self.open.insert(id, OpenRecords { epoch, last_offset: header.last_offset() });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::ControlType;

    const TRANSACTIONAL: i16 = 0x10;
    const CONTROL: i16 = 0x20;

    fn header(base_offset: i64, producer_epoch: i16, attributes: i16) -> BatchHeader {
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
            producer_id: 7,
            producer_epoch,
            base_sequence: 0,
            records_count: 1,
        }
    }

    /// A step: a batch at an offset with an epoch, and the kind of its marker if it is one.
    type Step = (i64, i16, Option<ControlType>);

    const ABORT: Option<ControlType> = Some(ControlType::Abort);
    const COMMIT: Option<ControlType> = Some(ControlType::Commit);

    /// The offset at which a marker is found missing, if one is.
    fn found(steps: &[Step]) -> Option<i64> {
        let mut markers = LostMarkers::default();
        for (offset, epoch, marker) in steps {
            let attributes = TRANSACTIONAL | if marker.is_some() { CONTROL } else { 0 };
            let header = header(*offset, *epoch, attributes);
            let control = marker.map(|kind| ControlRecord { kind, coordinator_epoch: Some(0) });
            if markers.observe(&header, control).is_err() {
                return Some(*offset);
            }
        }
        None
    }

    #[test]
    fn a_later_epoch_behind_a_hole_proves_that_a_marker_is_missing() {
        assert_eq!(found(&[(0, 0, None), (2, 1, None), (3, 2, COMMIT)]), Some(2), "its records");
        assert_eq!(found(&[(0, 0, None), (3, 2, COMMIT)]), Some(3), "its marker");
        assert_eq!(found(&[(0, 0, None), (3, 2, ABORT)]), Some(3), "an abort as well");
        assert_eq!(found(&[(0, 0, None), (2, 0, None), (4, 1, None)]), Some(4), "a second hole");
    }

    #[test]
    fn what_a_log_can_have_without_a_loss_is_none() {
        assert_eq!(found(&[(0, 0, None), (2, 1, COMMIT), (5, 1, None), (6, 2, ABORT)]), None);
        assert_eq!(found(&[(0, 0, None), (4, 0, COMMIT), (6, 0, None), (9, 0, ABORT)]), None);
        assert_eq!(found(&[(4, 0, None), (5, 1, None), (6, 2, COMMIT)]), None, "a late record");
        assert_eq!(found(&[(3, 0, None), (4, 0, None), (9, 0, None), (12, 1, ABORT)]), None);
        assert_eq!(found(&[(0, 0, None), (2, 0, None), (3, 1, None)]), None, "before the records");
    }

    #[test]
    fn what_compaction_emptied_opens_nothing() {
        let mut markers = LostMarkers::default();
        let emptied = BatchHeader { records_count: 0, ..header(0, 0, TRANSACTIONAL) };
        markers.observe(&emptied, None).unwrap();
        markers.observe(&header(9, 3, TRANSACTIONAL), None).unwrap();
        let plain = header(20, 9, 0);
        markers.observe(&plain, None).unwrap();
    }
}
