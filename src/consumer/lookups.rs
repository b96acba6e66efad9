//! Questions about logs that leave positions alone: borders, offsets by time, lag.

use super::Consumer;
use super::offsets::OffsetAndTimestamp;
use crate::broker::Partition;
use crate::error::{Error, ErrorKind, Result};
use crate::sync::Ordering;
use crate::topic::TopicPartition;
use std::collections::BTreeMap;

impl Consumer {
    /// The first offset of each partition, assigned or not.
    ///
    /// # Errors
    /// [`ErrorKind::UnknownTopicOrPartition`], at once; [`ErrorKind::Wakeup`].
    pub fn beginning_offsets(
        &mut self,
        partitions: &[TopicPartition],
    ) -> Result<BTreeMap<TopicPartition, i64>> {
        self.look_up(partitions.iter(), |_, log| log.log_start_offset())
    }

    /// The offset behind the last record of each partition, assigned or not: under read_committed
    /// the last stable offset, else the high watermark.
    ///
    /// # Errors
    /// As [`Consumer::beginning_offsets`]; [`ErrorKind::CorruptRecord`] and
    /// [`ErrorKind::UnsupportedFormat`] of a damaged partition, whose end nobody knows.
    pub fn end_offsets(
        &mut self,
        partitions: &[TopicPartition],
    ) -> Result<BTreeMap<TopicPartition, i64>> {
        let isolation = self.settings.isolation_level;
        let ends = self.look_up(partitions.iter(), |_, log| log.end_for(isolation))?;
        for (partition, end) in &ends {
            if let Some(state) = self.subscription.state_mut(partition) {
                state.know_end(*end);
            }
        }
        Ok(ends)
    }

    /// For each partition, assigned or not, the first offset whose record has at least this
    /// timestamp (milliseconds since 1970); `None` where no record has.
    ///
    /// # Errors
    /// [`ErrorKind::IllegalArgument`] for a negative time; as [`Consumer::end_offsets`] where a
    /// damaged partition has no such record before its damage.
    pub fn offsets_for_times(
        &mut self,
        times: &BTreeMap<TopicPartition, i64>,
    ) -> Result<BTreeMap<TopicPartition, Option<OffsetAndTimestamp>>> {
        self.check_open()?;
        if let Some((partition, _)) = times.iter().find(|(_, time)| **time < 0) {
            return Err(Error::new(
                ErrorKind::IllegalArgument,
                "a time to look up is not negative",
            )
            .with_partition(partition.topic(), partition.partition()));
        }
        let isolation = self.settings.isolation_level;
        self.look_up(times.keys(), |partition, log| {
            let time = times.get(partition).copied().unwrap_or(0);
            let found = log.offset_for_time(time, isolation)?;
            Ok(found.map(|(offset, timestamp)| OffsetAndTimestamp::new(offset, timestamp)))
        })
    }

    /// How many offsets lie between the position and the end as it was last seen: by a fetch or by
    /// [`Consumer::end_offsets`]. `None` without a position, and where the end was not seen yet:
    /// then the next poll looks, also where the partition is paused.
    ///
    /// Departure: D40. What [`Consumer::beginning_offsets`] and [`Consumer::offsets_for_times`]
    /// find is not taken for the end, as Kafka's client takes it.
    ///
    /// # Errors
    /// [`ErrorKind::IllegalState`] when the partition is not assigned;
    /// [`ErrorKind::CorruptRecord`] and [`ErrorKind::UnsupportedFormat`] when it is damaged.
    pub fn current_lag(&self, partition: &TopicPartition) -> Result<Option<i64>> {
        self.check_open()?;
        let state = self.subscription.assigned(partition)?;
        if let Some(damage) = state.source.as_ref().and_then(|found| found.partition.known_damage())
        {
            return Err(damage);
        }
        if state.known_end.is_none() {
            // Relaxed: this consumer's next poll looks, and nobody else.
            state.end_asked.store(true, Ordering::Relaxed);
            self.lag_asked.store(true, Ordering::Relaxed);
        }
        let lag = state.valid_position().zip(state.known_end);
        Ok(lag.map(|(position, end)| end.saturating_sub(position)))
    }

    /// Looks at the ends that a lag was asked for.
    pub(super) fn learn_ends(&mut self) -> Result<()> {
        // Relaxed: whoever asked has the consumer to itself, as this call has.
        if !self.lag_asked.load(Ordering::Relaxed) {
            return Ok(());
        }
        self.lag_asked.store(false, Ordering::Relaxed);
        let isolation = self.settings.isolation_level;
        for (_, state) in self.subscription.states_mut() {
            if state.end_asked.load(Ordering::Relaxed)
                && let Some(source) = &state.source
            {
                let end = source.partition.readable_end(isolation)?;
                state.know_end(end);
            }
        }
        Ok(())
    }

    fn look_up<'a, T>(
        &mut self,
        partitions: impl Iterator<Item = &'a TopicPartition>,
        ask: impl Fn(&TopicPartition, &Partition) -> Result<T>,
    ) -> Result<BTreeMap<TopicPartition, T>> {
        self.check_open()?;
        let mut partitions = partitions.peekable();
        if partitions.peek().is_some() {
            self.check_wakeup()?;
            self.check_names(true)?;
            self.commits.read_answers();
        }
        partitions
            .map(|partition| {
                let log = self.partition_of(partition)?;
                Ok((partition.clone(), ask(partition, &log)?))
            })
            .collect()
    }

    /// A partition by its name; its topic is made where that is allowed.
    ///
    /// Departure: D9. Kafka's client asks for an unknown partition until its timeout, and says that
    /// the time is up. Here it is told at once, as what it is, under the name of Kafka's answer.
    pub(super) fn partition_of(&self, partition: &TopicPartition) -> Result<Partition> {
        let topic = match self.settings.auto_create_topics {
            true => self.broker.topic_or_create(partition.topic()),
            false => self.broker.topic(partition.topic()),
        };
        let found = topic.and_then(|topic| topic.partition(partition.partition()));
        found.map_err(|error| match error.kind() {
            ErrorKind::UnknownTopicOrPartition => error
                .with_partition(partition.topic(), partition.partition())
                .with_kafka_name(ErrorKind::Timeout.kafka_name()),
            _ => error,
        })
    }
}
