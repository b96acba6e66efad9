//! Walks the batches of a chunk: what may be returned, how many records that is, and where the
//! position goes. Nothing here knows of groups, policies or time.
//!
//! Control batches, aborted transactions and gaps that compaction left move the position without
//! a record. A batch that is not known to be well-formed is decoded here once, so that iterating
//! over what the poll returned cannot fail.

use super::aborted::AbortedFilter;
use super::records::{ConsumerRecords, RecordPlace};
use super::runs::RunBuilder;
use crate::error::Result;
use crate::log::{Chunk, PlainPrefix};
use crate::record::{BatchFault, BatchHeader, Codec, OUT_OF_ORDER, RecordBatch, Records, varint};
use crate::storage::fetch_ahead;
use crate::topic::TopicPartition;
use bytes::Bytes;

/// The batch that a position is in the middle of. It is a hint: a large batch is not searched
/// from its beginning, or decompressed, by every poll that takes a part of it.
#[derive(Debug, Clone)]
pub(super) struct ResumeHint {
    base_offset: i64,
    crc: u32,
    next_offset: i64,
    /// The place of `next_offset`.
    skip: RecordPlace,
    /// The decompressed records, where they were compressed.
    payload: Option<Bytes>,
}

impl ResumeHint {
    fn fits(&self, header: &BatchHeader, position: i64) -> bool {
        self.base_offset == header.base_offset
            && self.crc == header.crc
            && self.next_offset == position
    }
}

/// How far a walk came.
#[derive(Debug)]
pub(in crate::consumer) struct WalkResult {
    /// The next offset to return.
    pub position: i64,
    /// Bytes of the chunk that are done with: whole batches.
    pub bytes: usize,
    /// How many records were added.
    pub records: usize,
    /// The batch that the walk ended in, if it ended in one.
    pub(super) partial: Option<ResumeHint>,
    /// Bytes that compressed batches were decompressed to, and are held by what was added.
    pub unpacked: usize,
    /// The batch at `position` decompresses to more than was left.
    pub full: bool,
    /// What is wrong at `position`.
    pub fault: Option<BatchFault>,
}

impl WalkResult {
    /// No more than the position.
    pub fn nothing(position: i64) -> WalkResult {
        let (bytes, records, unpacked, full) = (0, 0, 0, false);
        WalkResult { position, bytes, records, partial: None, unpacked, full, fault: None }
    }

    /// Whether anything came of it.
    pub fn is_something(&self, before: i64) -> bool {
        self.position != before || self.bytes > 0 || self.full || self.fault.is_some()
    }
}

/// How much memory decompressed batches may take, over all that one poll returns.
#[derive(Debug, Clone, Copy)]
pub(in crate::consumer) struct Unpack {
    left: usize,
    /// Nothing is returned so far: the first batch does not ask, or it could never be read.
    first: bool,
}

/// A poll that returns small batches by a small `fetch.max.bytes` gathers them as Kafka's client
/// does, which counts compressed bytes alone.
const UNPACKED_MIN: usize = 64 << 10;

impl Unpack {
    /// `fetch.max.bytes` of records beyond the first batch.
    pub fn up_to(bytes_max: usize) -> Unpack {
        Unpack { left: bytes_max.max(UNPACKED_MIN), first: true }
    }

    /// What is left behind a walk.
    pub fn spend(&mut self, walked: &WalkResult) {
        self.left = self.left.saturating_sub(walked.unpacked);
        self.first &= walked.records == 0;
    }

    /// How many bytes the next batch may decompress to.
    fn room(self, walked: &WalkResult) -> usize {
        match self.first && walked.records == 0 {
            true => usize::MAX,
            false => self.left.saturating_sub(walked.unpacked),
        }
    }
}

/// What a walk begins with.
pub(super) struct BatchWalk<'a> {
    pub partition: &'a TopicPartition,
    pub position: i64,
    pub partial: Option<ResumeHint>,
    /// The most records to take, at least 1.
    pub records_max: usize,
    /// The most bytes to be done with.
    pub bytes_max: usize,
    /// The first batch does not ask.
    pub may_exceed: bool,
    pub unpack: Unpack,
    /// The offset that no batch may reach beyond.
    pub upto: i64,
    pub aborted: Option<AbortedFilter<'a>>,
    /// What the records of one batch may decompress to.
    pub uncompressed_max: usize,
}

impl BatchWalk<'_> {
    /// Walks over `chunk` and adds what may be returned to `out`. `None` if bytes of it turn out
    /// not to be readable any more: nothing was added, and the log knows from where on.
    ///
    /// # Errors
    /// Those of the lookup of aborted transactions. Nothing was added then.
    pub fn over(self, chunk: &Chunk, out: &mut ConsumerRecords) -> Result<Option<WalkResult>> {
        let mut runs = RunBuilder::new(self.partition, chunk, out);
        let walked = match chunk.reading(|| self.walk(chunk, &mut runs)) {
            Some(Ok(walked)) => walked,
            failed => {
                runs.take_back();
                return failed.transpose();
            }
        };
        let lent_bytes = runs.finish();
        // What is returned is looked at by the user, whom no fault may surprise that is there now.
        // What was known to be sound and is not has been lost, which the log tells.
        if !chunk.touch(lent_bytes) || (walked.fault.is_some() && !chunk.is_walked()) {
            runs.take_back();
            return Ok(None);
        }
        Ok(Some(walked))
    }

    fn walk(mut self, chunk: &Chunk, runs: &mut RunBuilder<'_>) -> Result<WalkResult> {
        let bytes = chunk.bytes();
        let mut walked = WalkResult::nothing(self.position);
        let trusted = chunk.is_sound();
        if trusted && self.partial.is_none() {
            self.take_plain(chunk, &mut walked, runs);
        }
        while walked.records < self.records_max && walked.bytes < bytes.len() {
            if trusted && self.partial.is_none() {
                let from = walked.bytes;
                let count = self.skim(bytes, &mut walked);
                runs.add_plain(from, walked.bytes, RecordPlace::default(), count);
                if walked.records == self.records_max || walked.bytes == bytes.len() {
                    break;
                }
            }
            let batch = match RecordBatch::parse(bytes.get(walked.bytes..).unwrap_or_default()) {
                Ok(batch) => batch,
                Err(fault) => {
                    walked.fault = Some(fault);
                    break;
                }
            };
            if !self.step(&batch, trusted, &mut walked, runs)? {
                break;
            }
        }
        Ok(walked)
    }

    /// Whether the batch holds nothing that a reader of this isolation is to see.
    fn hides(&mut self, header: &BatchHeader) -> Result<bool> {
        match &mut self.aborted {
            _ if header.is_control() => Ok(true),
            Some(aborted) => aborted.covers(header),
            None => Ok(false),
        }
    }

    /// Takes what is wanted of the batch at the walk's place. False ends the walk.
    fn step(
        &mut self,
        batch: &RecordBatch<'_>,
        trusted: bool,
        walked: &mut WalkResult,
        runs: &mut RunBuilder<'_>,
    ) -> Result<bool> {
        let header = batch.header();
        let end = walked.bytes + batch.bytes().len();
        if header.next_offset() > self.upto || self.exceeds(walked.bytes, end) {
            return Ok(false);
        }
        if header.next_offset() <= walked.position {
            walked.bytes = end;
            return Ok(true);
        }
        if self.hides(header)? {
            runs.end_plain();
            walked.position = header.next_offset();
            walked.bytes = end;
            return Ok(true);
        }
        let left = self.records_max - walked.records;
        let partial = self.partial.take().filter(|p| p.fits(header, walked.position));
        let (payload, part) =
            match open(batch, partial, self.uncompressed_max, self.unpack.room(walked)) {
                Ok(Opened::Records(payload, part)) => (payload, part),
                Ok(Opened::TooLarge(partial)) => {
                    walked.partial = partial;
                    walked.full = true;
                    return Ok(false);
                }
                Err(fault) => {
                    walked.fault = Some(fault);
                    return Ok(false);
                }
            };
        let records = payload.as_deref().unwrap_or(batch.payload());
        let taken = match trusted && payload.is_none() {
            true => take_trusted(header, records, part, walked.position, left),
            false => take_checked(header, records, part, walked.position, left),
        };
        if taken.count > 0 {
            match &payload {
                Some(payload) => {
                    walked.unpacked += payload.len();
                    runs.add_decoded(*header, payload.clone(), taken.skip, taken.count);
                }
                None => runs.add_plain(walked.bytes, end, taken.skip, taken.count),
            }
        }
        walked.records += taken.count;
        walked.position = taken.position;
        if let Some(skip) = taken.end {
            walked.partial = Some(ResumeHint {
                base_offset: header.base_offset,
                crc: header.crc,
                next_offset: taken.position,
                skip,
                payload,
            });
            walked.fault = taken.fault;
            return Ok(false);
        }
        walked.bytes = end;
        Ok(true)
    }

    /// Whether a batch from `at` to `end` is too much.
    fn exceeds(&self, at: usize, end: usize) -> bool {
        end > self.bytes_max && (at > 0 || !self.may_exceed)
    }

    /// Takes what the log knows to be plain, if all of it is wanted.
    fn take_plain(&self, chunk: &Chunk, walked: &mut WalkResult, runs: &mut RunBuilder<'_>) {
        let PlainPrefix { bytes, records, next_offset } = chunk.plain();
        if bytes > 0
            && bytes <= self.bytes_max
            && records <= self.records_max
            && next_offset <= self.upto
        {
            runs.add_plain(0, bytes, RecordPlace::default(), records);
            (walked.bytes, walked.records, walked.position) = (bytes, records, next_offset);
        }
    }

    /// Takes batches for as long as their headers say all there is to know: this loop runs once
    /// for every record that was sent alone. Returns how many records that makes.
    #[inline]
    fn skim(&self, bytes: &[u8], walked: &mut WalkResult) -> usize {
        let (mut at, mut position) = (walked.bytes, walked.position);
        let mut left = self.records_max - walked.records;
        let filtered = self.aborted.as_ref().is_some_and(|aborted| !aborted.is_exhausted());
        while let Some(rest) = bytes.get(at..) {
            let Ok(header) = BatchHeader::parse(rest) else { break };
            let Some(batch) = rest.get(..header.size()) else { break };
            let end = at + batch.len();
            let count = usize::try_from(header.records_count).unwrap_or(0);
            let is_simple = header.is_plain()
                && header.is_dense()
                && !(filtered && header.is_transactional())
                && header.base_offset >= position
                && header.next_offset() <= self.upto;
            if !is_simple || count == 0 || count > left || self.exceeds(at, end) {
                break;
            }
            fetch_ahead(rest, batch.len());
            position = header.next_offset();
            left -= count;
            at = end;
            if left == 0 {
                break;
            }
        }
        let count = self.records_max - walked.records - left;
        (walked.bytes, walked.position) = (at, position);
        walked.records += count;
        count
    }
}

/// What opening a batch comes to.
enum Opened {
    /// The decompressed records, where they are compressed, and where to begin.
    Records(Option<Bytes>, RecordPlace),
    /// There is no room for them. What was known of the batch stands.
    TooLarge(Option<ResumeHint>),
}

#[cfg(test)]
thread_local! {
    /// How many batches this thread has begun to decompress for nothing.
    pub(in crate::consumer) static GIVEN_UP: std::cell::Cell<usize> =
        const { std::cell::Cell::new(0) };
}

/// Decompresses a batch into at most `room` bytes.
fn open(
    batch: &RecordBatch<'_>,
    partial: Option<ResumeHint>,
    uncompressed_max: usize,
    room: usize,
) -> std::result::Result<Opened, BatchFault> {
    if let Some(partial) = partial {
        return Ok(match partial.payload.as_ref().is_some_and(|payload| payload.len() > room) {
            true => Opened::TooLarge(Some(partial)),
            false => Opened::Records(partial.payload, partial.skip),
        });
    }
    let header = batch.header();
    // As in Kafka, nobody looks into a batch without records.
    match (header.codec()?, header.records_count) {
        (Codec::None, _) => return Ok(Opened::Records(None, RecordPlace::default())),
        (_, 0) => return Ok(Opened::Records(Some(Bytes::new()), RecordPlace::default())),
        _ => {}
    }
    let mut payload = Vec::new();
    if batch.records_within(&mut payload, uncompressed_max, room)?.is_none() {
        #[cfg(test)]
        GIVEN_UP.set(GIVEN_UP.get() + 1);
        return Ok(Opened::TooLarge(None));
    }
    // What is held is what is counted.
    payload.shrink_to_fit();
    Ok(Opened::Records(Some(Bytes::from(payload)), RecordPlace::default()))
}

/// What one batch gives.
struct TakenRecords {
    /// The place of the first record that is taken.
    skip: RecordPlace,
    count: usize,
    /// The position behind: that behind the batch, unless `end` is given.
    position: i64,
    /// The place to go on at, where the batch is not done with.
    end: Option<RecordPlace>,
    fault: Option<BatchFault>,
}

/// A batch without gaps that is well-formed needs no decoding: the offsets follow from the header,
/// and places from the lengths of the records.
fn take_trusted(
    header: &BatchHeader,
    payload: &[u8],
    part: RecordPlace,
    position: i64,
    left: usize,
) -> TakenRecords {
    let count = usize::try_from(header.records_count).unwrap_or(0);
    if !header.is_dense() {
        return take_checked(header, payload, part, position, left);
    }
    let before = usize::try_from(position.saturating_sub(header.base_offset)).unwrap_or(0);
    let skip = advance(payload, part, before.saturating_sub(part.records));
    let (Some(skip), true) = (skip, before >= part.records) else {
        return take_checked(header, payload, RecordPlace::default(), position, left);
    };
    let rest = count.saturating_sub(skip.records);
    if rest <= left {
        let position = header.next_offset();
        return TakenRecords { skip, count: rest, position, end: None, fault: None };
    }
    match advance(payload, skip, left) {
        Some(end) => {
            let position = header.base_offset.saturating_add(end.records as i64);
            TakenRecords { skip, count: left, position, end: Some(end), fault: None }
        }
        None => take_checked(header, payload, part, position, left),
    }
}

/// The place `records` further on, by their lengths.
fn advance(payload: &[u8], from: RecordPlace, records: usize) -> Option<RecordPlace> {
    let mut rest = payload.get(from.bytes..)?;
    for _ in 0..records {
        let (length, behind) = varint::read_i32(rest).ok()?;
        rest = behind.get(usize::try_from(length).ok()?..)?;
    }
    Some(RecordPlace { records: from.records + records, bytes: payload.len() - rest.len() })
}

/// Decodes the records up to the last one that is taken.
fn take_checked(
    header: &BatchHeader,
    payload: &[u8],
    part: RecordPlace,
    position: i64,
    left: usize,
) -> TakenRecords {
    let mut records = Records::resume(header, payload, part.records, part.bytes);
    let place = |records: &Records<'_>, count: usize| RecordPlace {
        records: count,
        bytes: payload.len() - records.rest().len(),
    };
    let mut taken = TakenRecords { skip: part, count: 0, position, end: None, fault: None };
    let mut seen = part.records;
    // Behind a place in the middle there is nothing below the position.
    let mut before = (seen > 0).then(|| position.saturating_sub(1));
    while taken.count < left {
        let here = place(&records, seen);
        match records.next() {
            None => {
                taken.position = header.next_offset();
                return taken;
            }
            Some(Ok(record)) if record.offset() >= taken.position => {
                seen += 1;
                taken.count += 1;
                taken.position = record.offset().saturating_add(1);
            }
            // Records before the position are skipped, but only in front.
            Some(Ok(record)) if taken.count == 0 && before < Some(record.offset()) => {
                seen += 1;
                before = Some(record.offset());
                taken.skip = place(&records, seen);
            }
            outcome => {
                let fault = outcome.and_then(std::result::Result::err);
                taken.fault = Some(fault.unwrap_or(OUT_OF_ORDER));
                taken.end = Some(here);
                return taken;
            }
        }
    }
    taken.end = Some(place(&records, seen));
    taken
}
