//! Records of groups into the offsets topic.

use super::{Held, Sync};
use crate::broker::inner::Shared;
use crate::error::{ErrorKind, Result};
use crate::group::{Encoded, RecordAppend};
use crate::log::{AppendOptions, Log};
use crate::record::{Codec, RecordInput};
use crate::sync::Arc;
use crate::time::Now;
use crate::topic::{OFFSETS_TOPIC, TopicPartition};

/// Buffers that are used again.
#[derive(Debug, Default)]
pub(super) struct Store {
    encoded: Encoded,
    /// The partitions of the offsets topic that were appended to, so that a commit looks nothing
    /// up.
    logs: Vec<Option<Arc<Log>>>,
}

impl Shared {
    /// Stores an append and applies it. Returns what the answer has to wait for, if anything.
    pub(super) fn store_group(
        &self,
        held: &mut Held,
        append: RecordAppend,
        now: Now,
    ) -> Result<Option<Sync>> {
        let partition = append.partition;
        let (base_offset, upto, must_sync) = self.append_records(held, &append, now)?;
        held.coordinator.applied(append, base_offset, now);
        if !must_sync {
            return Ok(None);
        }
        Ok(self.offsets_log(held, partition).ok().map(|log| (log, upto)))
    }

    /// Stores an append, applies it, and says up to where its log has to be synced to be sure.
    pub(super) fn append_group(
        &self,
        held: &mut Held,
        append: RecordAppend,
        now: Now,
    ) -> Result<Sync> {
        let partition = append.partition;
        let (base_offset, upto, _) = self.append_records(held, &append, now)?;
        held.coordinator.applied(append, base_offset, now);
        Ok((self.offsets_log(held, partition)?, upto))
    }

    /// Stores records of what has happened already. Those that cannot be stored stay owed, and
    /// are reported.
    pub(super) fn store_owed(
        &self,
        held: &mut Held,
        appends: Vec<RecordAppend>,
        now: Now,
        syncs: &mut Vec<Sync>,
    ) {
        for append in appends {
            let group = append.group.clone();
            match self.store_group(held, append, now) {
                Ok(sync) => syncs.extend(sync),
                Err(error) => {
                    self.health.warn(format!("a record of group {group} is not stored: {error}"));
                }
            }
        }
    }

    /// Stores records before anybody may append anything. A damaged partition takes none: that ends
    /// the use of its groups, not that of all topics.
    ///
    /// # Errors
    /// All others of an append.
    pub(super) fn settle_appends(
        &self,
        held: &mut Held,
        appends: Vec<RecordAppend>,
        now: Now,
        syncs: &mut Vec<Sync>,
    ) -> Result<()> {
        for append in appends {
            let (group, number) = (append.group.clone(), append.partition);
            match self.append_group(held, append, now) {
                Ok(sync) => syncs.push(sync),
                Err(error) if error.kind() == ErrorKind::ReadOnly => {
                    self.health.warn(format!("a record of group {group} is not stored: {error}"));
                    self.health.partition(TopicPartition::new(OFFSETS_TOPIC, number), error);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn append_records(
        &self,
        held: &mut Held,
        append: &RecordAppend,
        now: Now,
    ) -> Result<(i64, i64, bool)> {
        let log = self.offsets_log(held, append.partition)?;
        held.store.encoded.encode(&append.records);
        let inputs = held.store.encoded.iter().map(|(key, value)| RecordInput {
            timestamp: now.wall_ms,
            key: Some(key),
            value,
            headers: &[],
        });
        let options = AppendOptions::coordinator(now.wall_ms);
        let appended = match append.records.as_slice() {
            [_] => {
                let record = inputs.into_iter().next().unwrap_or_default();
                log.append(&record, options)?
            }
            _ => {
                let inputs: Vec<RecordInput<'_>> = inputs.collect();
                log.append_records(&inputs, Codec::None, None, options)?
            }
        };
        Ok((appended.base_offset, appended.last_offset + 1, appended.must_sync))
    }

    fn offsets_log(&self, held: &mut Held, partition: i32) -> Result<Arc<Log>> {
        let index = usize::try_from(partition).unwrap_or(usize::MAX);
        if let Some(Some(log)) = held.store.logs.get(index) {
            return Ok(log.clone());
        }
        let log = self.topics.get(OFFSETS_TOPIC)?.partition(partition)?.log()?.clone();
        if held.store.logs.len() <= index {
            held.store.logs.resize(index + 1, None);
        }
        if let Some(slot) = held.store.logs.get_mut(index) {
            *slot = Some(log.clone());
        }
        Ok(log)
    }
}

impl Store {
    /// Forgets the logs of an offsets topic that is gone.
    pub fn forget_logs(&mut self) {
        self.logs.clear();
    }
}
