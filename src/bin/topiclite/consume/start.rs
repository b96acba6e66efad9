//! Where reading starts, in each partition.

use crate::args::values::From;
use std::collections::BTreeMap;
use topiclite::TopicPartition;
use topiclite::{Consumer, ConsumerContext, ListenerError, RebalanceListener, Result};

/// Where each partition starts; none where the stored offsets say it.
pub fn offsets(
    consumer: &mut Consumer,
    partitions: &[TopicPartition],
    from: From,
) -> Result<BTreeMap<TopicPartition, i64>> {
    match from {
        From::Stored => Ok(BTreeMap::new()),
        From::Beginning => consumer.beginning_offsets(partitions),
        From::End => consumer.end_offsets(partitions),
        From::Offset(offset) => Ok(partitions.iter().map(|tp| (tp.clone(), offset)).collect()),
        From::Last(count) => {
            let mut starts = consumer.beginning_offsets(partitions)?;
            for (partition, end) in consumer.end_offsets(partitions)? {
                let start = starts.entry(partition).or_insert(0);
                *start = end.saturating_sub(count).max(*start);
            }
            Ok(starts)
        }
        From::Time(timestamp) => {
            let times = partitions.iter().map(|tp| (tp.clone(), timestamp)).collect();
            let mut starts = BTreeMap::new();
            for (partition, found) in consumer.offsets_for_times(&times)? {
                match found {
                    Some(found) => drop(starts.insert(partition, found.offset())),
                    None => starts.extend(consumer.end_offsets(&[partition])?),
                }
            }
            Ok(starts)
        }
    }
}

/// Moves positions to where they start.
pub fn seek_all(
    starts: &BTreeMap<TopicPartition, i64>,
    mut seek: impl FnMut(&TopicPartition, i64) -> Result<()>,
) -> Result<()> {
    starts.iter().try_for_each(|(partition, offset)| seek(partition, *offset))
}

/// Puts a member's positions where `--from` says, once it has its partitions.
pub struct StartAt(pub BTreeMap<TopicPartition, i64>);

impl RebalanceListener for StartAt {
    fn on_partitions_assigned(
        &mut self,
        consumer: &mut ConsumerContext<'_>,
        partitions: &[TopicPartition],
    ) -> std::result::Result<(), ListenerError> {
        for partition in partitions {
            if let Some(offset) = self.0.remove(partition) {
                consumer.seek(partition, offset)?;
            }
        }
        Ok(())
    }
}
