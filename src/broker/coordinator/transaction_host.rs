//! What the transactions' coordinator takes from the broker around it, and what becomes of its
//! events: settings, lines of the log, the markers of ends that nobody holds.

use super::runtime::CoordinatorHost;
use crate::broker::core::BrokerCore;
use crate::broker::topics::TopicTable;
use crate::config::BrokerConfig;
use crate::events::Event;
use crate::probe::Probe;
use crate::sync::{Arc, Weak};
use crate::time::Now;
use crate::topic::TRANSACTIONS_TOPIC;
use crate::transaction::{TransactionConfig, TransactionCoordinator, TransactionEvent};

/// The broker as its transactions see it.
#[derive(Debug)]
pub(in crate::broker) struct TransactionHost {
    pub config: BrokerConfig,
    pub topics: Arc<TopicTable>,
    pub broker: Weak<BrokerCore>,
    pub probe: Probe,
}

impl CoordinatorHost<TransactionCoordinator> for TransactionHost {
    fn new_shard(&self) -> TransactionCoordinator {
        let topic = self.topics.get(TRANSACTIONS_TOPIC).map(|topic| topic.partition_count());
        TransactionCoordinator::new(TransactionConfig {
            max_timeout: self.config.transaction_max_timeout(),
            check_interval: self.config.transaction_check_interval(),
            expiration: self.config.transactional_id_expiration(),
            expiration_interval: self.config.transactional_id_check_interval(),
            topic_partitions: topic.unwrap_or_else(|_| self.config.transactions_topic_partitions()),
        })
    }

    fn loaded(&self, shard: &mut TransactionCoordinator, partitions: &[i32], now: Now) {
        if let Some(owner) = self.broker.upgrade().as_ref().and_then(|broker| broker.owner.as_ref())
        {
            shard.distrust_epochs_of_ids_below(owner.life.ids_before_cut());
        }
        shard.begin_life(partitions, now);
    }

    fn show(&self, events: &[TransactionEvent]) {
        for event in events {
            if let TransactionEvent::TimedOut(id) = event {
                self.probe.note(|| Event::TransactionTimedOut { transactional_id: id.clone() });
            }
        }
    }

    fn stored(&self) {
        if let Some(broker) = self.broker.upgrade() {
            broker.relieve_cleaner();
        }
    }

    fn tell(&self, events: &[TransactionEvent]) {
        for event in events {
            match event {
                TransactionEvent::TimedOut(id) => {
                    tracing::warn!(transactional_id = &**id, "a transaction took too long");
                }
                TransactionEvent::Expired(id) => {
                    tracing::info!(transactional_id = &**id, "a transactional id expired");
                }
                TransactionEvent::Unfinished(id) => self.finish(id.clone()),
            }
        }
    }
}

impl TransactionHost {
    /// Has the markers written where a sync may be waited for.
    fn finish(&self, id: Arc<str>) {
        let Some(broker) = self.broker.upgrade() else { return };
        let weak = self.broker.clone();
        let task = move || {
            if let Some(broker) = weak.upgrade() {
                broker.finish_unfinished(&id);
            }
        };
        broker.call_flusher(Box::new(task));
    }
}
