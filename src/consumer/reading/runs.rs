//! What a walk has found, run by run.

use super::records::{Body, ConsumerRecords, RecordPlace, RecordRun, RunMark};
use crate::log::Chunk;
use crate::record::BatchHeader;
use crate::topic::TopicPartition;
use bytes::Bytes;

/// The runs of one chunk, the last of which may go on. They are put behind what a poll has found
/// before; until [`RunBuilder::finish`] they can be taken back.
pub(super) struct RunBuilder<'a> {
    partition: &'a TopicPartition,
    chunk: &'a Chunk,
    out: &'a mut ConsumerRecords,
    /// What was there before.
    before: RunMark,
    plain: PlainRun,
    lent_bytes: usize,
}

/// Neighbouring batches that are returned as they lie.
#[derive(Default)]
struct PlainRun {
    from: usize,
    to: usize,
    skip: RecordPlace,
    count: usize,
}

impl<'a> RunBuilder<'a> {
    pub fn new(
        partition: &'a TopicPartition,
        chunk: &'a Chunk,
        out: &'a mut ConsumerRecords,
    ) -> RunBuilder<'a> {
        let (before, plain) = (out.mark(), PlainRun::default());
        RunBuilder { partition, chunk, out, before, plain, lent_bytes: 0 }
    }

    /// Adds `count` records of whole batches, which take the bytes `from..to` of the chunk.
    #[inline]
    pub fn add_plain(&mut self, from: usize, to: usize, skip: RecordPlace, count: usize) {
        if count == 0 {
            return;
        }
        if self.plain.count > 0 && (self.plain.to != from || skip.records > 0) {
            self.end_plain();
        }
        if self.plain.count == 0 {
            self.plain = PlainRun { from, to, skip, count: 0 };
        }
        self.plain.to = to;
        self.plain.count += count;
    }

    /// Adds `count` records of a batch that was compressed.
    pub fn add_decoded(
        &mut self,
        header: BatchHeader,
        payload: Bytes,
        skip: RecordPlace,
        count: usize,
    ) {
        self.end_plain();
        let body = Body::Decoded(header, payload);
        self.out.push(RecordRun { partition: self.partition.clone(), body, skip, count });
    }

    /// What follows is not returned together with what came before.
    pub fn end_plain(&mut self) {
        let PlainRun { from, to, skip, count } = std::mem::take(&mut self.plain);
        if count > 0 {
            self.lent_bytes = to;
            let body = Body::Plain(self.chunk.clone(), from..to);
            self.out.push(RecordRun { partition: self.partition.clone(), body, skip, count });
        }
    }

    /// The last run ends. Returns how many of the chunk's first bytes the runs lend.
    pub fn finish(&mut self) -> usize {
        self.end_plain();
        self.lent_bytes
    }

    /// Takes all runs back.
    #[cold]
    pub fn take_back(self) {
        self.out.cut(self.before);
    }
}
