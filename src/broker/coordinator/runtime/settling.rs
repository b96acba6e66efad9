//! What is stored, durably, before anything else is appended in a life.

use super::held::Held;
use crate::broker::coordinator::replay::is_damage;
use crate::broker::coordinator::writer::{PartitionWriter, PendingSync};
use crate::broker::health::HealthLog;
use crate::coordinator::{CoordinatorShard, ShardAppend};
use crate::error::{ErrorKind, Result};
use crate::time::Now;
use crate::topic::TopicPartition;

/// The coordinator's lock, held until what others would be misled by is durable.
pub(in crate::broker) struct Settling<'a, C: CoordinatorShard, W> {
    pub(super) held: &'a mut Held<C, W>,
    pub(super) health: &'a HealthLog,
    pub(super) now: Now,
}

impl<C: CoordinatorShard, W: PartitionWriter> Settling<'_, C, W> {
    /// The state machine.
    pub fn shard(&mut self) -> &mut C {
        &mut self.held.shard
    }

    /// The moment.
    pub fn now(&self) -> Now {
        self.now
    }

    /// Stores records and makes them durable. A damaged partition takes none: that ends the use of
    /// what it keeps, not that of all topics.
    ///
    /// # Errors
    /// All others of an append, and those of a sync.
    pub fn store(&mut self, appends: Vec<C::Append>) -> Result<()> {
        let mut syncs = Vec::new();
        self.append(appends, &mut syncs)?;
        syncs.into_iter().try_for_each(PendingSync::wait)
    }

    /// As [`Settling::store`], with the syncs left to be waited for.
    ///
    /// # Errors
    /// Those of an append but damage.
    pub fn append(
        &mut self,
        appends: impl IntoIterator<Item = C::Append>,
        syncs: &mut Vec<PendingSync>,
    ) -> Result<()> {
        for append in appends {
            let (subject, partition) = (append.subject(), append.partition());
            match self.held.store(append, self.now) {
                Ok(stored) => syncs.push(stored.sync),
                Err(error) if error.kind() == ErrorKind::ReadOnly || is_damage(&error) => {
                    self.health.warn(format!("a record of {subject} is not stored: {error}"));
                    let place = TopicPartition::new(self.held.writer.topic(), partition);
                    self.health.partition(place, error);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}
