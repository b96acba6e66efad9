//! What a runtime needs of its internal topic: append, make durable, read.

use crate::broker::topics::TopicTable;
use crate::config::IsolationLevel;
use crate::coordinator::{EncodedRecords, TransactionStamp};
use crate::error::{ErrorKind, Result};
use crate::log::{AppendOptions, Appended, Chunk, Cursor, FetchLimits, Log, Marker, ProducerStamp};
use crate::record::{Codec, RecordBatch, RecordInput};
use crate::sync::Arc;
use crate::time::Now;
use crate::topic::TopicId;
use std::fmt;

/// Bytes per read.
const READ_BYTES: usize = 1 << 20;

/// The partitions of an internal topic.
pub(in crate::broker) trait PartitionWriter: fmt::Debug + Send + 'static {
    /// The topic's name.
    fn topic(&self) -> &str;

    /// Begins to read, or goes on after what was read; `None` where the topic does not exist.
    ///
    /// # Errors
    /// Those of looking it up.
    fn begin_reading(&mut self) -> Result<Option<Begun>>;

    /// Gives every batch of a partition that was not read yet, in the order of the log.
    ///
    /// # Errors
    /// Those of the read, and the visitor's.
    fn read_on(
        &mut self,
        partition: i32,
        visit: &mut dyn FnMut(&RecordBatch<'_>) -> Result<()>,
    ) -> Result<()>;

    /// Has the next reading of a partition go on at `offset`; false where the log ends there.
    ///
    /// # Errors
    /// Those of looking the end up.
    fn pass(&mut self, partition: i32, offset: i64) -> Result<bool>;

    /// There is nothing more to read in a partition: nobody else writes.
    fn end_reading(&mut self, partition: i32);

    /// Appends records as one batch, in a producer's transaction or in none.
    ///
    /// # Errors
    /// Those of an append; nothing is stored then.
    fn append(
        &mut self,
        partition: i32,
        records: &EncodedRecords,
        transaction: Option<TransactionStamp>,
        now: Now,
    ) -> Result<Stored>;

    /// Appends the marker of a transaction.
    ///
    /// # Errors
    /// Those of an append; nothing is stored then.
    fn append_marker(&mut self, partition: i32, marker: Marker, now: Now) -> Result<Stored>;

    /// The topic is gone.
    fn forget(&mut self);
}

/// How a reading begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::broker) struct Begun {
    pub partitions: i32,
    /// Nothing was read of this topic before.
    pub anew: bool,
}

/// Where a batch went.
#[derive(Debug)]
pub(in crate::broker) struct Stored {
    pub base_offset: i64,
    /// The topic's settings want it durable before anybody hears of it.
    pub must_sync: bool,
    pub sync: PendingSync,
}

impl Stored {
    pub fn of(log: &Arc<Log>, appended: &Appended) -> Stored {
        Stored {
            base_offset: appended.base_offset,
            must_sync: appended.must_sync,
            sync: PendingSync { log: log.clone(), upto: appended.last_offset + 1 },
        }
    }

    /// What the answer has to wait for, if anything.
    pub fn into_pending(self) -> Option<PendingSync> {
        self.must_sync.then_some(self.sync)
    }
}

/// A log that can be made durable.
pub(in crate::broker) trait Durable: fmt::Debug + Send + Sync {
    /// Has everything below `upto` survive a power cut.
    ///
    /// # Errors
    /// Those of the sync.
    fn make_durable(&self, upto: i64) -> Result<()>;
}

impl Durable for Log {
    fn make_durable(&self, upto: i64) -> Result<()> {
        Log::make_durable(self, upto)
    }
}

/// A sync to be waited for, where no lock is held.
#[derive(Debug)]
pub(in crate::broker) struct PendingSync {
    pub log: Arc<dyn Durable>,
    pub upto: i64,
}

impl PendingSync {
    /// Waits for it.
    ///
    /// # Errors
    /// Those of the sync.
    pub fn wait(self) -> Result<()> {
        self.log.make_durable(self.upto)
    }
}

/// An internal topic of a broker.
#[derive(Debug)]
pub(in crate::broker) struct InternalTopic {
    name: &'static str,
    topics: Arc<TopicTable>,
    /// The topic that `cursors` are of: it may be deleted and made again.
    id: TopicId,
    cursors: Vec<Option<Cursor>>,
    /// The partitions that were appended to, so that an append looks nothing up.
    logs: Vec<Option<Arc<Log>>>,
}

impl InternalTopic {
    pub fn new(name: &'static str, topics: Arc<TopicTable>) -> InternalTopic {
        let (cursors, logs) = (Vec::new(), Vec::new());
        InternalTopic { name, topics, id: TopicId::default(), cursors, logs }
    }

    fn log(&mut self, partition: i32) -> Result<&Arc<Log>> {
        let slot = slot(&mut self.logs, partition);
        Ok(match slot {
            Some(log) => log,
            empty => empty.insert(self.topics.get(self.name)?.partition(partition)?.log()?.clone()),
        })
    }
}

/// The place of a partition in a list that grows with the partitions that are used.
/// Visits the batches of a chunk. Returns how many bytes they take, and the offset behind them.
fn visit_batches(
    chunk: &Chunk,
    from: i64,
    visit: &mut dyn FnMut(&RecordBatch<'_>) -> Result<()>,
) -> Result<(usize, i64)> {
    let (mut at, mut next_offset) = (0, from);
    while let Some(rest) = chunk.bytes().get(at..).filter(|rest| !rest.is_empty()) {
        let batch = RecordBatch::parse(rest).map_err(|fault| fault.into_error())?;
        if batch.header().next_offset() > chunk.upto() {
            break;
        }
        visit(&batch)?;
        at += batch.bytes().len();
        next_offset = batch.header().next_offset();
    }
    Ok((at, next_offset))
}

fn slot<T>(list: &mut Vec<Option<T>>, partition: i32) -> &mut Option<T> {
    // A negative partition does not exist, which its topic says.
    let index = usize::try_from(partition).unwrap_or(0);
    if list.len() <= index {
        list.resize_with(index + 1, || None);
    }
    &mut list[index]
}

impl PartitionWriter for InternalTopic {
    fn topic(&self) -> &str {
        self.name
    }

    fn begin_reading(&mut self) -> Result<Option<Begun>> {
        let topic = match self.topics.get(self.name) {
            Ok(topic) => topic,
            Err(error) if error.kind() == ErrorKind::UnknownTopicOrPartition => return Ok(None),
            Err(error) => return Err(error),
        };
        let anew = self.cursors.is_empty() || self.id != topic.id();
        if anew {
            self.id = topic.id();
            self.cursors.clear();
        }
        Ok(Some(Begun { partitions: topic.partition_count(), anew }))
    }

    fn read_on(
        &mut self,
        partition: i32,
        visit: &mut dyn FnMut(&RecordBatch<'_>) -> Result<()>,
    ) -> Result<()> {
        let source = self.topics.get(self.name)?.partition(partition)?;
        let start = source.log_start_offset()?;
        let slot = slot(&mut self.cursors, partition);
        // The owner may have removed what was not read yet.
        let cursor = match slot {
            Some(cursor) if cursor.offset() >= start => cursor,
            stale => stale.insert(Cursor::new(start)),
        };
        let mut stopped_at = None;
        loop {
            let from = cursor.offset();
            let limits = FetchLimits::bytes(READ_BYTES);
            let chunk = source.fetch(cursor, IsolationLevel::ReadUncommitted, limits)?;
            if chunk.is_empty() {
                // Empty below the end means that the next read goes on in the next segment.
                if cursor.offset() >= source.log_end_offset()?
                    || stopped_at.replace(cursor.offset()) == Some(cursor.offset())
                {
                    return Ok(());
                }
                continue;
            }
            match chunk.reading(|| visit_batches(&chunk, from, visit)) {
                Some(Ok((0, _))) => return Ok(()),
                Some(Ok((bytes, next_offset))) => cursor.advance(bytes, next_offset, true),
                Some(Err(error)) if chunk.is_walked() => return Err(error),
                // The next fetch tells what is wrong with the bytes.
                Some(Err(_)) | None => *cursor = Cursor::new(from),
            }
        }
    }

    fn pass(&mut self, partition: i32, offset: i64) -> Result<bool> {
        let end = self.topics.get(self.name)?.partition(partition)?.log_end_offset()?;
        *slot(&mut self.cursors, partition) = Some(Cursor::new(offset.min(end)));
        Ok(offset < end)
    }

    fn end_reading(&mut self, partition: i32) {
        // What is left of it holds on to a segment.
        *slot(&mut self.cursors, partition) = None;
    }

    fn append(
        &mut self,
        partition: i32,
        records: &EncodedRecords,
        transaction: Option<TransactionStamp>,
        now: Now,
    ) -> Result<Stored> {
        let log = self.log(partition)?;
        let mut inputs = records.iter().map(|(key, value)| RecordInput {
            timestamp: now.wall_ms,
            key: Some(key),
            value,
            headers: &[],
        });
        let mut options = AppendOptions::coordinator(now.wall_ms);
        // As in Kafka, whose coordinator's batches all begin at 0.
        options.producer = transaction.map(|stamp| ProducerStamp {
            producer_id: stamp.producer_id,
            producer_epoch: stamp.producer_epoch,
            base_sequence: 0,
            transactional: true,
        });
        let appended = match records.len() {
            1 => log.append(&inputs.next().unwrap_or_default(), options)?,
            _ => {
                let inputs: Vec<RecordInput<'_>> = inputs.collect();
                log.append_records(&inputs, Codec::None, None, options)?
            }
        };
        Ok(Stored::of(log, &appended))
    }

    fn append_marker(&mut self, partition: i32, marker: Marker, now: Now) -> Result<Stored> {
        let log = self.log(partition)?;
        let appended = log.append_marker(marker, now.wall_ms)?;
        Ok(Stored::of(log, &appended))
    }

    fn forget(&mut self) {
        self.cursors.clear();
        self.logs.clear();
    }
}
