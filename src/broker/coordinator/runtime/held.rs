//! What lies under the lock of a coordinator: its shard, and the writer of its records.

use super::loading::Loading;
use crate::broker::coordinator::writer::{PartitionWriter, PendingSync, Stored};
use crate::coordinator::{CoordinatorShard, EncodedRecords, ShardAppend};
use crate::error::{Error, Result};
use crate::log::Marker;
use crate::record::ControlType;
use crate::time::{Now, TimerKey};
use std::collections::BTreeMap;

/// What lies under the coordinator's lock.
#[derive(Debug)]
pub(super) struct Held<C, W> {
    pub(super) shard: C,
    pub(super) writer: W,
    /// Of which partitions the shard is what they say; nobody else writes to those.
    pub(super) loading: Loading,
    /// Partitions whose reading ended at damage. What was read of them may be older than what they
    /// said last, so it answers nobody, and nothing is stored behind it.
    pub(super) damaged: BTreeMap<i32, Error>,
    /// State was thrown away, and may be that of partitions which nothing has read since.
    pub(super) was_reset: bool,
    pub(super) encoded: EncodedRecords,
    pub(super) timer: Option<TimerKey>,
}

impl<C: CoordinatorShard, W: PartitionWriter> Held<C, W> {
    /// That what the shard says of `key` is all that there is.
    pub(super) fn check_whole(&self, key: &str) -> Result<()> {
        let partition = self.shard.partition_of(key);
        match self.damaged.get(&partition) {
            Some(damage) => Err(unusable(self.writer.topic(), partition, key, damage)),
            None => Ok(()),
        }
    }

    /// That what the shard says is all that there is.
    pub(super) fn check_all_whole(&self) -> Result<()> {
        match self.damaged.iter().next() {
            Some((&partition, damage)) => {
                let topic = self.writer.topic();
                Err(unusable(topic, partition, &format!("{topic}-{partition}"), damage))
            }
            None => Ok(()),
        }
    }

    /// Stores the marker of a transaction and applies it, and stores what follows from it.
    pub(super) fn mark(
        &mut self,
        partition: i32,
        marker: Marker,
        now: Now,
        syncs: &mut Vec<PendingSync>,
    ) -> Result<()> {
        if let Some(damage) = self.damaged.get(&partition) {
            return Err(damage.clone());
        }
        let stored = self.writer.append_marker(partition, marker, now)?;
        let committed = marker.kind == ControlType::Commit;
        syncs.extend(stored.into_pending());
        for append in self.shard.transaction_ended(partition, marker.producer_id, committed) {
            syncs.push(self.store(append, now)?.sync);
        }
        Ok(())
    }

    /// Stores an append and applies it. A damaged partition takes none: the next reading would
    /// end before it.
    pub(super) fn store(&mut self, append: C::Append, now: Now) -> Result<Stored> {
        if let Some(damage) = self.damaged.get(&append.partition()) {
            return Err(damage.clone());
        }
        self.encoded.clear();
        append.encode(&mut self.encoded);
        let stored =
            self.writer.append(append.partition(), &self.encoded, append.transaction(), now)?;
        self.shard.applied(append, stored.base_offset, now);
        Ok(stored)
    }
}

/// Why nothing is said of a key: the damage, where it is, and the way out.
fn unusable(topic: &str, partition: i32, key: &str, damage: &Error) -> Error {
    let text = format!(
        "what is kept of {key} may be older than what was stored: {}; `topiclite repair` says what \
         can be kept, and keeps it with --execute",
        damage.message()
    );
    Error::new(damage.kind(), text).with_partition(topic, partition).at_place_of(damage)
}
