//! The requests of transactional producers and administrators, and the running of markers.
//!
//! A commit goes in this order: what its partitions have is durable, where their settings want
//! that; the prepare record, which decides; the markers; the complete record. Whoever decides an
//! end writes its markers on the same thread, and answers when they are written. An end whose
//! markers could not be written stays decided: the next request of its id, the next check or the
//! next life goes on with it.
//!
//! | File | Holds |
//! |---|---|
//! | `requests.rs` | what a producer asks for: an identity, partitions, offsets, an end |
//! | `admin.rs` | what an administrator asks for |
//! | `markers.rs` | the way of an end that is decided: markers, complete record |
//! | `recovery.rs` | what an earlier life left: decided ends, open transactions, hanging ones |

mod admin;
mod markers;
mod recovery;
mod requests;

use crate::broker::core::BrokerCore;
use crate::broker::topics::partition::Partition;
use crate::config::TopicConfig;
use crate::error::Result;
use crate::log::Log;
use crate::sync::Arc;
use crate::topic::{TRANSACTIONS_TOPIC, TopicPartition};

/// Transactions, as producers and administrators use them.
#[derive(Debug, Clone)]
pub(crate) struct Transactions(Arc<BrokerCore>);

#[allow(dead_code, reason = "the seam of transactional producers")]
impl Transactions {
    pub(in crate::broker) fn new(shared: Arc<BrokerCore>) -> Transactions {
        Transactions(shared)
    }
}

impl BrokerCore {
    /// The topic of transactional ids, made if it is missing.
    fn transactions_topic(&self) -> Result<()> {
        self.owner()?;
        self.settle()?;
        if self.topics.get(TRANSACTIONS_TOPIC).is_ok() {
            return Ok(());
        }
        let partitions = self.config.transactions_topic_partitions();
        let config = TopicConfig::of_transactions_topic(&self.config);
        self.internal_topic(TRANSACTIONS_TOPIC, partitions, config).map(drop)
    }

    /// The logs of those partitions that exist.
    fn logs_of(&self, partitions: &[TopicPartition]) -> Vec<Arc<Log>> {
        let log = |partition: &TopicPartition| {
            let topic = self.topics.get(partition.topic()).ok()?;
            match topic.partition(partition.partition()) {
                Ok(Partition::Live(log)) => Some(log),
                _ => None,
            }
        };
        partitions.iter().filter_map(log).collect()
    }
}
