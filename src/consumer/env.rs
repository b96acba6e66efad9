//! What all rooms of a consumer use, and none of them changes.

use super::wakeup::Wakeup;
use crate::broker::{BrokerInner, Partition};
use crate::config::{ConsumerSettings, IsolationLevel};
use crate::error::{Error, ErrorKind, Result};
use crate::meter::ConsumerMeter;
use crate::probe::KillSwitch;
use crate::sync::Arc;
use crate::time::{Clock, Signal};
use crate::topic::TopicPartition;
use std::time::Duration;

/// The surroundings of one consumer.
pub(super) struct ConsumerEnv {
    pub broker: Arc<BrokerInner>,
    pub settings: ConsumerSettings,
    pub client_id: Arc<str>,
    /// None also where its name is empty: everything that needs a group is refused then.
    pub group: Option<Arc<str>>,
    pub wakeup: Arc<Wakeup>,
    pub kill_switch: KillSwitch,
    pub meter: ConsumerMeter,
}

impl ConsumerEnv {
    /// The surroundings of a consumer with these settings.
    pub fn new(broker: Arc<BrokerInner>, settings: ConsumerSettings) -> ConsumerEnv {
        let group: Option<Arc<str>> = settings.group_id.as_deref().map(Arc::from);
        let client_id: Arc<str> = match settings.client_id.as_str() {
            "" => {
                let group = settings.group_id.as_deref().unwrap_or("null");
                format!("consumer-{group}-{}", broker.next_client_number()).into()
            }
            id => id.into(),
        };
        let wakeup = Wakeup::new();
        ConsumerEnv {
            meter: ConsumerMeter::new(&group.clone().unwrap_or_default(), &client_id),
            kill_switch: broker.probe().born(&client_id, wakeup.signal()),
            group: group.filter(|id| !id.is_empty()),
            broker,
            settings,
            client_id,
            wakeup,
        }
    }

    pub fn clock(&self) -> &Clock {
        self.broker.clock()
    }

    /// What the consumer waits on.
    pub fn signal(&self) -> &Arc<Signal> {
        self.wakeup.signal()
    }

    pub fn isolation(&self) -> IsolationLevel {
        self.settings.isolation_level
    }

    /// The group, for what needs one.
    pub fn group_id(&self) -> Result<&Arc<str>> {
        self.group.as_ref().ok_or_else(|| {
            let fault = "this needs a group; set group.id, with at least one character";
            Error::new(ErrorKind::InvalidGroupId, fault)
        })
    }

    /// What a warning calls this consumer.
    pub fn reader_name(&self) -> String {
        match &self.group {
            Some(group) => format!("the group {group:?}"),
            None => "a consumer without a group".to_owned(),
        }
    }

    /// Refuses what the dead ask for: the broker's, or this consumer if a test killed it.
    pub fn check_alive(&self) -> Result<()> {
        match self.kill_switch.is_killed() {
            true => Err(Error::new(ErrorKind::Closed, "a test killed this consumer")),
            false => self.broker.check_open(),
        }
    }

    /// Fails if somebody asked for it.
    pub fn check_wakeup(&self) -> Result<()> {
        match self.wakeup.take() {
            true => Err(Error::new(ErrorKind::Wakeup, "a wakeup handle interrupted the call")),
            false => Ok(()),
        }
    }

    /// When a call that waits gives up.
    pub fn api_deadline(&self) -> Duration {
        self.clock().monotonic().saturating_add(self.settings.api_timeout)
    }

    /// Waits before asking again; false when `deadline` has passed.
    pub fn back_off(&self, deadline: Duration) -> Result<bool> {
        let clock = self.clock();
        let now = clock.monotonic();
        if now >= deadline {
            return Ok(false);
        }
        let pause = self.settings.retry_backoff.max(Duration::from_millis(1));
        clock.park(self.signal(), Some(now.saturating_add(pause).min(deadline)));
        self.check_wakeup()?;
        Ok(true)
    }

    /// A partition by its name; its topic is made where that is allowed.
    ///
    /// Departure: D9. Kafka's client asks for an unknown partition until its timeout, and says that
    /// the time is up. Here it is told at once, as what it is, under the name of Kafka's answer.
    pub fn partition(&self, partition: &TopicPartition) -> Result<Partition> {
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
