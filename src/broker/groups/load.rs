//! Records of the offsets topic into groups.
//!
//! An owner reads them once, at the first use; members of a former process are dropped then, and
//! offsets beyond the end of their log are set back after an unclean stop. An attached broker
//! reads on at each use, for the owner goes on writing.

use super::Held;
use crate::broker::inner::Shared;
use crate::broker::partition::Partition;
use crate::config::IsolationLevel;
use crate::error::{ErrorKind, Result};
use crate::group::GroupCoordinator;
use crate::log::Cursor;
use crate::record::RecordBatch;
use crate::sync::Ordering;
use crate::topic::{OFFSETS_TOPIC, TopicId, TopicPartition};

/// Bytes per read.
const READ_BYTES: usize = 1 << 20;

/// How far the offsets topic was read.
#[derive(Debug, Default)]
pub(super) struct Loading {
    done: bool,
    /// The offsets topic may be deleted and made again.
    topic: TopicId,
    cursors: Vec<Option<Cursor>>,
}

impl Loading {
    /// The groups are what the log says.
    pub fn finished() -> Loading {
        Loading { done: true, ..Loading::default() }
    }
}

impl Shared {
    /// Has the groups loaded; an attached broker reads on where it stopped.
    pub(super) fn load_groups(&self, held: &mut Held) -> Result<()> {
        if held.loading.done {
            return Ok(());
        }
        // An owner may have made the offsets topic since, or made it anew.
        self.refresh(self.topics.get(OFFSETS_TOPIC).is_err())?;
        let topic = match self.topics.get(OFFSETS_TOPIC) {
            Ok(topic) => topic,
            Err(error) if error.kind() == ErrorKind::UnknownTopicOrPartition => return Ok(()),
            Err(error) => return Err(error),
        };
        if held.loading.cursors.is_empty() || held.loading.topic != topic.id() {
            held.coordinator = GroupCoordinator::new(self.group_config());
            held.loading = Loading { topic: topic.id(), ..Loading::default() };
        }
        let mut scratch = Vec::new();
        for partition in 0..topic.partition_count() {
            let index = usize::try_from(partition).unwrap_or(0);
            if held.loading.cursors.len() <= index {
                held.loading.cursors.resize(index + 1, None);
            }
            let slot = held.loading.cursors.get_mut(index).and_then(Option::take);
            let source = topic.partition(partition)?;
            let start = source.log_start_offset()?;
            // The owner may have removed what was not read yet.
            let mut cursor = match slot {
                Some(cursor) if cursor.offset() >= start => cursor,
                _ => Cursor::new(start),
            };
            let groups = &mut held.coordinator;
            let outcome =
                self.replay_partition(groups, &source, partition, &mut cursor, &mut scratch);
            if let Some(slot) = held.loading.cursors.get_mut(index) {
                *slot = Some(cursor);
            }
            self.judge_replay(partition, outcome)?;
        }
        let Some(owner) = &self.owner else { return Ok(()) };
        held.coordinator.begin_life(self.clock.now());
        if owner.life.ended().is_unclean() {
            self.clamp_offsets(&mut held.coordinator);
        }
        held.loading = Loading::finished();
        Ok(())
    }

    /// Damage ends the reading of a partition, not the use of groups: what was read stands.
    fn judge_replay(&self, partition: i32, outcome: Result<()>) -> Result<()> {
        match outcome {
            Err(error) if error.kind() == ErrorKind::CorruptRecord => {
                self.health.warn(format!("groups may be incomplete: {error}"));
                self.health.partition(TopicPartition::new(OFFSETS_TOPIC, partition), error);
                Ok(())
            }
            other => other,
        }
    }

    fn replay_partition(
        &self,
        groups: &mut GroupCoordinator,
        source: &Partition,
        partition: i32,
        cursor: &mut Cursor,
        scratch: &mut Vec<u8>,
    ) -> Result<()> {
        let mut stopped_at = None;
        loop {
            let from = cursor.offset();
            let chunk = source.read(cursor, READ_BYTES, IsolationLevel::ReadUncommitted)?;
            if chunk.is_empty() {
                // Empty below the end means that the next read goes on in the next segment.
                if cursor.offset() >= source.log_end_offset()?
                    || stopped_at.replace(cursor.offset()) == Some(cursor.offset())
                {
                    return Ok(());
                }
                continue;
            }
            let replay = || -> Result<()> {
                let mut bytes = chunk.bytes();
                while !bytes.is_empty() {
                    let batch = RecordBatch::parse(bytes).map_err(|fault| fault.into_error())?;
                    self.replay_batch(groups, &batch, partition, scratch)
                        .map_err(|error| error.with_partition(OFFSETS_TOPIC, partition))?;
                    bytes = bytes.get(batch.bytes().len()..).unwrap_or_default();
                }
                Ok(())
            };
            match chunk.reading(replay) {
                Some(outcome) => outcome?,
                // The next read tells what is wrong with the bytes.
                None => *cursor = Cursor::new(from),
            }
        }
    }

    fn replay_batch(
        &self,
        groups: &mut GroupCoordinator,
        batch: &RecordBatch<'_>,
        partition: i32,
        scratch: &mut Vec<u8>,
    ) -> Result<()> {
        let replayed =
            groups.replay_batch(partition, batch, scratch).map_err(|fault| fault.into_error())?;
        for (offset, fault) in replayed.unreadable {
            let place = format!("{OFFSETS_TOPIC}-{partition} at offset {offset}");
            self.health.warn(format!("a group record of {place} is skipped: {fault}"));
        }
        Ok(())
    }

    fn clamp_offsets(&self, groups: &mut GroupCoordinator) {
        let end = |partition: &TopicPartition| {
            let topic = self.topics.get(partition.topic()).ok()?;
            let source = topic.partition(partition.partition()).ok()?;
            match source.log_end_offset() {
                // Of a damaged partition nothing is lost yet, and nothing can be written.
                Ok(_) if source.log().is_ok_and(|log| log.refusal().is_some()) => None,
                Ok(end) => Some(end),
                Err(error) => {
                    self.health.partition(partition.clone(), error);
                    None
                }
            }
        };
        for clamped in groups.clamp_offsets(&end) {
            self.counters.clamped_offsets.fetch_add(1, Ordering::Relaxed);
            self.health.warn(format!(
                "group {} had committed offset {} of {}, whose log ends at {}: set back",
                clamped.group, clamped.committed, clamped.partition, clamped.log_end_offset
            ));
        }
    }
}
