//! Present values for whoever collects metrics: told at each pass of retention, and on request,
//! before somebody shows them. Names are Kafka's (`Log`, `LogCleaner`, `LogCleanerManager`).

use crate::broker::core::BrokerCore;
use crate::broker::topics::Topic;
use crate::broker::topics::partition::Partition;
use crate::error::Result;
use crate::meter::{gauge, gauge_of};

#[allow(clippy::cast_precision_loss)] // Whoever shows them rounds them anyway.
impl BrokerCore {
    /// Tells all gauges.
    pub fn report_gauges(&self) {
        let topics = self.topics.all();
        let partitions: i64 = topics.iter().map(|topic| i64::from(topic.partition_count())).sum();
        gauge("topiclite_topics", topics.len() as f64);
        gauge("topiclite_partitions", partitions as f64);
        for topic in topics {
            for (number, partition) in topic.opened() {
                // A damaged one, or one that is deleted meanwhile, has none.
                drop(report_partition(&topic, number, &partition));
            }
        }
        self.report_cleaner_gauges();
    }
}

fn report_partition(topic: &Topic, number: i32, partition: &Partition) -> Result<()> {
    let tell = |name, value: i64| gauge_of(name, topic.name(), number, value);
    let whole = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
    tell("topiclite_log_start_offset", partition.log_start_offset()?);
    tell("topiclite_log_end_offset", partition.log_end_offset()?);
    tell("topiclite_log_size_bytes", whole(partition.size_bytes()?));
    tell("topiclite_log_segments", whole(partition.segment_count()? as u64));
    Ok(())
}
