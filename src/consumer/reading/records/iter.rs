//! The iterator over what a poll returned, which decodes each record as it comes to it.

use super::{Body, ConsumerRecord, RecordPlace, RecordRun};
use crate::record::{BatchHeader, RecordBatch, Records, TimestampType};
use crate::storage::fetch_ahead_into;
use std::fmt;
use std::iter::FusedIterator;
use std::slice;

/// Iterates over [`ConsumerRecords`](crate::ConsumerRecords).
#[derive(Clone)]
pub struct RecordsIter<'a> {
    runs: slice::Iter<'a, RecordRun>,
    run: Option<&'a RecordRun>,
    /// The batches of the run that were not begun.
    batches: &'a [u8],
    /// The batches of the run behind it, if they lie in memory as they are.
    next_batches: &'a [u8],
    records: Records<'a>,
    timestamp_type: TimestampType,
    /// Records of the run that were not returned.
    left: usize,
}

impl<'a> RecordsIter<'a> {
    pub(super) fn new(runs: &'a [RecordRun]) -> RecordsIter<'a> {
        RecordsIter {
            runs: runs.iter(),
            run: None,
            batches: &[],
            next_batches: &[],
            records: Records::EMPTY,
            timestamp_type: TimestampType::CreateTime,
            left: 0,
        }
    }

    /// Goes on to the next run; false behind the last.
    fn begin_run(&mut self) -> bool {
        let Some(run) = self.runs.next() else { return false };
        self.run = Some(run);
        self.left = run.count;
        self.next_batches = self.runs.as_slice().first().map_or(&[], |next| next.body.batches());
        match &run.body {
            Body::Plain(..) => {
                self.batches = run.body.batches();
                self.begin_batch(run.skip);
            }
            Body::Decoded(header, payload) => {
                self.batches = &[];
                self.begin_records(header, payload, run.skip);
            }
        }
        true
    }

    #[inline]
    fn begin_batch(&mut self, skip: RecordPlace) {
        match RecordBatch::parse(self.batches) {
            Ok(batch) => {
                self.batches = self.batches.get(batch.bytes().len()..).unwrap_or_default();
                self.begin_records(batch.header(), batch.payload(), skip);
            }
            Err(fault) => {
                // The poll parsed these bytes, and they do not change.
                debug_assert!(self.batches.is_empty(), "{fault}");
                self.left = 0;
            }
        }
    }

    #[inline]
    fn begin_records(&mut self, header: &BatchHeader, payload: &'a [u8], skip: RecordPlace) {
        self.records = Records::resume(header, payload, skip.records, skip.bytes);
        self.timestamp_type = header.timestamp_type();
    }
}

impl<'a> Iterator for RecordsIter<'a> {
    type Item = ConsumerRecord<'a>;

    #[inline]
    fn next(&mut self) -> Option<ConsumerRecord<'a>> {
        loop {
            if self.left == 0 {
                if !self.begin_run() {
                    return None;
                }
                continue;
            }
            if self.records.remaining() == 0 {
                self.begin_batch(RecordPlace::default());
                continue;
            }
            let Ok(record) = self.records.decode() else {
                debug_assert!(false, "the poll takes no batch that it could not decode");
                self.left = 0;
                continue;
            };
            self.left -= 1;
            // The batches of a run lie one behind the other.
            let rest = self.records.rest();
            let left = rest.len() + self.batches.len();
            fetch_ahead_into(rest, left, self.next_batches, record.encoded_size());
            let run = self.run?;
            return Some(ConsumerRecord { record, run, timestamp_type: self.timestamp_type });
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let rest = self.left + self.runs.as_slice().iter().map(|run| run.count).sum::<usize>();
        (rest, Some(rest))
    }
}

impl ExactSizeIterator for RecordsIter<'_> {}
impl FusedIterator for RecordsIter<'_> {}

impl fmt::Debug for RecordsIter<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RecordsIter({} left)", self.len())
    }
}
