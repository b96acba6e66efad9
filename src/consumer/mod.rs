//! Reading: subscriptions, positions, polls, commits, and what a member of a group does.
//!
//! A [`Consumer`] moves forward only inside its own calls: each poll takes turns, each turn makes
//! at most one exchange with the group's coordinator, runs what is due, and fetches. There is no
//! thread and nothing is fetched ahead. Order of steps and outcomes are those of Kafka's Java
//! client (`ClassicKafkaConsumer`), which the module names where an order matters.
//!
//! Departure: D8. Kafka's client fetches ahead. There is no round trip to hide here.

mod calls;
mod commits;
mod coordinator;
mod env;
mod fetch;
mod listener;
mod names;
mod offsets;
mod poll;
mod positions;
mod reader;
mod reading;
mod rebalance;
mod silence;
mod subscription;
mod wakeup;

pub use listener::{ConsumerContext, ListenerError, RebalanceListener};
pub use offsets::{GroupMetadata, OffsetAndMetadata, OffsetAndTimestamp};
pub use reader::{ReadFrom, Reader};
pub use reading::{
    ConsumerRecord, ConsumerRecords, OwnedConsumerRecord, RecordsIter, SharedRecord,
};
pub(crate) use wakeup::Wakeup;
pub use wakeup::WakeupHandle;

use crate::broker::{Broker, BrokerInner};
use crate::config::{ConsumerConfig, ConsumerSettings, trimmed};
use crate::error::{Error, ErrorKind, Result};
use crate::group::assignor::Assignors;
use crate::sync::Arc;
use crate::topic::TopicPartition;
use commits::Commits;
use coordinator::Membership;
use env::ConsumerEnv;
use fetch::Fetcher;
use names::NameCheck;
use positions::Positions;
use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;
use subscription::{Mode, SubscriptionState};

/// The longest name that a subscription can be written with. No topic has such a name.
const TOPIC_BYTES_MAX: usize = i16::MAX as usize;

/// Reads topics, alone or as a member of a group.
///
/// A consumer is for one thread at a time, which `&mut self` checks; [`Consumer::wakeup_handle`]
/// reaches it from others. As a member it must be polled at least every `max.poll.interval.ms`.
/// Dropping it leaves the group at once and commits nothing; [`Consumer::close`] also commits,
/// where auto-commit is on, and tells the listener.
///
/// What would look like silence, such as a topic that does not exist or a member without
/// partitions, is told once by [`Broker::health`] and as a warning of `tracing`.
///
/// # Examples
/// ```no_run
/// use std::time::Duration;
/// use topiclite::{Broker, ConsumerConfig, OffsetReset};
///
/// let broker = Broker::open("data")?;
/// let config = ConsumerConfig::new("billing").auto_offset_reset(OffsetReset::Earliest);
/// let mut consumer = broker.consumer(config)?;
/// consumer.subscribe(&["orders"])?;
/// for record in &consumer.poll(Duration::from_secs(1))? {
///     println!("{}-{}: {:?}", record.partition(), record.offset(), record.value());
/// }
/// consumer.commit_sync()?;
/// consumer.close()?;
/// # Ok::<(), topiclite::Error>(())
/// ```
pub struct Consumer {
    env: ConsumerEnv,
    subscription: SubscriptionState,
    positions: Positions,
    names: NameCheck,
    membership: Membership,
    listener: Option<Box<dyn RebalanceListener>>,
    commits: Commits,
    fetcher: Fetcher,
    closed: bool,
}

impl Broker {
    /// A consumer: a member of a group, or a reader of partitions that it is told.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidConfig`] for a refused setting, [`ErrorKind::Kafka`] for settings that
    /// contradict each other, [`ErrorKind::Closed`].
    ///
    /// # Examples
    /// ```
    /// # use std::time::Duration;
    /// # use topiclite::{Broker, ConsumerConfig, TopicConfig};
    /// # let broker = Broker::in_memory()?;
    /// broker.admin().create_topic("orders", 1, TopicConfig::default())?;
    /// let mut consumer = broker.consumer(ConsumerConfig::new("billing"))?;
    /// consumer.subscribe(&["orders"])?;
    /// assert!(consumer.poll(Duration::ZERO)?.is_empty());
    /// # Ok::<(), topiclite::Error>(())
    /// ```
    pub fn consumer(&self, config: ConsumerConfig) -> Result<Consumer> {
        Consumer::new(self.inner().clone(), &config)
    }

    /// A reader of one partition, for code that wants no consumer.
    ///
    /// # Errors
    /// [`ErrorKind::UnknownTopicOrPartition`], [`ErrorKind::IllegalArgument`] for a negative
    /// offset.
    pub fn reader(&self, topic: &str, partition: i32, from: ReadFrom) -> Result<Reader> {
        Reader::new(self.inner().clone(), topic, partition, from)
    }
}

impl Consumer {
    /// # Errors
    /// [`ErrorKind::InvalidConfig`], [`ErrorKind::Kafka`] for settings that contradict each
    /// other, [`ErrorKind::Closed`].
    pub(crate) fn new(broker: Arc<BrokerInner>, config: &ConsumerConfig) -> Result<Consumer> {
        broker.check_open()?;
        let mut settings = ConsumerSettings::resolve(config)?;
        // An attached directory takes no commits, so there is nothing to try every few seconds.
        settings.auto_commit &= !broker.is_attached();
        let now = broker.clock().monotonic();
        let env = ConsumerEnv::new(broker, settings);
        Ok(Consumer {
            subscription: SubscriptionState::new(env.signal()),
            positions: Positions::default(),
            names: NameCheck::default(),
            membership: Membership::new(
                env.group.clone(),
                Assignors::built_in(&env.settings.assignors),
            ),
            listener: None,
            commits: Commits::new(now.saturating_add(env.settings.auto_commit_interval)),
            fetcher: Fetcher::default(),
            closed: false,
            env,
        })
    }

    /// Subscribes to `topics`, instead of those before; without a listener, also where there was
    /// one. The group assigns partitions in later polls. A topic that does not exist is waited
    /// for. No topics at all is the same as [`Consumer::unsubscribe`].
    ///
    /// # Errors
    /// [`ErrorKind::InvalidGroupId`] without a group, [`ErrorKind::IllegalArgument`] for a blank
    /// name, [`ErrorKind::IllegalState`] after [`Consumer::assign`] or with an empty list of
    /// assignors. A name that no topic can have is [`ErrorKind::InvalidTopic`] of the next poll or
    /// lookup.
    pub fn subscribe(&mut self, topics: &[impl AsRef<str>]) -> Result<()> {
        self.subscribe_inner(topics, None)
    }

    /// [`Consumer::subscribe`] with a listener, which is told of every change of the assignment.
    ///
    /// # Errors
    /// As [`Consumer::subscribe`].
    pub fn subscribe_with(
        &mut self,
        topics: &[impl AsRef<str>],
        listener: impl RebalanceListener + 'static,
    ) -> Result<()> {
        self.subscribe_inner(topics, Some(Box::new(listener)))
    }

    fn subscribe_inner(
        &mut self,
        topics: &[impl AsRef<str>],
        listener: Option<Box<dyn RebalanceListener>>,
    ) -> Result<()> {
        self.check_open()?;
        self.env.group_id()?;
        if topics.is_empty() {
            return self.unsubscribe();
        }
        if topics.iter().any(|topic| trimmed(topic.as_ref()).is_empty()) {
            let fault = "a topic to subscribe to has a name";
            return Err(Error::new(ErrorKind::IllegalArgument, fault));
        }
        if let Some(topic) = topics.iter().map(AsRef::as_ref).find(|t| t.len() > TOPIC_BYTES_MAX) {
            // Kafka's client fails where it writes the subscription.
            return crate::topic::check_topic_name(topic);
        }
        if !self.membership.has_protocol() {
            let fault = "partition.assignment.strategy names no assignor, or none that agree on \
                         how partitions change hands";
            return Err(Error::new(ErrorKind::IllegalState, fault));
        }
        // The listener belongs to the last call, also when the mode is refused: as in Kafka.
        self.listener = listener;
        self.subscription.enter(Mode::Topics)?;
        let topics: BTreeSet<Arc<str>> = topics.iter().map(|topic| topic.as_ref().into()).collect();
        self.subscription.set_topics(topics);
        Ok(())
    }

    /// Reads exactly these partitions, without taking part in the group's rebalances. Position and
    /// pause of partitions that were assigned before are kept. No partitions at all is the same
    /// as [`Consumer::unsubscribe`].
    ///
    /// With a group, positions begin at its committed offsets, and commits are taken as long as
    /// the group has no members.
    ///
    /// # Errors
    /// [`ErrorKind::IllegalArgument`] for a blank topic, [`ErrorKind::IllegalState`] after
    /// [`Consumer::subscribe`].
    pub fn assign(&mut self, partitions: &[TopicPartition]) -> Result<()> {
        self.check_open()?;
        if partitions.is_empty() {
            return self.unsubscribe();
        }
        if partitions.iter().any(|partition| trimmed(partition.topic()).is_empty()) {
            let fault = "a partition to assign has a topic";
            return Err(Error::new(ErrorKind::IllegalArgument, fault));
        }
        self.subscription.enter(Mode::Partitions)?;
        // No rebalance will commit what is given up here.
        let now = self.env.clock().now();
        let (commits, by) = &mut self.committing();
        commits.auto_commit_if_due(by, now);
        let partitions = partitions.iter().cloned().collect();
        self.subscription.set_partitions(partitions, self.env.signal());
        Ok(())
    }

    /// Gives up topics and partitions, and leaves the group. Commits nothing.
    ///
    /// # Errors
    /// What the listener fails with. The assignment is empty then, but the subscription and the
    /// membership stand, as in Kafka; a second call ends them.
    pub fn unsubscribe(&mut self) -> Result<()> {
        self.check_open()?;
        self.leave_prepare()?;
        self.membership.leave(&self.env);
        self.subscription.clear(self.env.signal());
        Ok(())
    }

    /// The assigned partitions. A change of the subscription shows here only once the group has
    /// rebalanced, in a poll.
    ///
    /// # Errors
    /// [`ErrorKind::Closed`].
    pub fn assignment(&self) -> Result<BTreeSet<TopicPartition>> {
        self.check_open()?;
        Ok(self.subscription.partitions().cloned().collect())
    }

    /// The topics subscribed to; none in the mode of [`Consumer::assign`].
    ///
    /// # Errors
    /// [`ErrorKind::Closed`].
    pub fn subscription(&self) -> Result<BTreeSet<Arc<str>>> {
        self.check_open()?;
        Ok(self.subscription.topics().clone())
    }

    /// Returns no records of these partitions until [`Consumer::resume`]. The position, the
    /// ownership and the membership stay; a rebalance forgets it.
    ///
    /// # Errors
    /// [`ErrorKind::IllegalState`] for a partition that is not assigned.
    pub fn pause(&mut self, partitions: &[TopicPartition]) -> Result<()> {
        self.set_paused(partitions, true)
    }

    /// Takes [`Consumer::pause`] back.
    ///
    /// # Errors
    /// [`ErrorKind::IllegalState`] for a partition that is not assigned.
    pub fn resume(&mut self, partitions: &[TopicPartition]) -> Result<()> {
        self.set_paused(partitions, false)
    }

    fn set_paused(&mut self, partitions: &[TopicPartition], paused: bool) -> Result<()> {
        self.check_open()?;
        for partition in partitions {
            let state = self.subscription.assigned_mut(partition)?;
            state.paused = paused;
            if paused {
                // Any number of partitions may be paused, each in the middle of a large batch.
                state.reader.forget_batch();
            }
        }
        Ok(())
    }

    /// The partitions that are paused.
    ///
    /// # Errors
    /// [`ErrorKind::Closed`].
    pub fn paused(&self) -> Result<BTreeSet<TopicPartition>> {
        self.check_open()?;
        let paused = self.subscription.states().filter(|(_, state)| state.paused);
        Ok(paused.map(|(partition, _)| partition.clone()).collect())
    }

    /// Has the next poll rebalance the group. Without effect in the mode of
    /// [`Consumer::assign`].
    ///
    /// # Errors
    /// [`ErrorKind::IllegalState`] without a group.
    pub fn enforce_rebalance(&mut self) -> Result<()> {
        self.check_open()?;
        if self.env.settings.group_id.is_none() {
            let fault = "a consumer without a group.id has no group to rebalance";
            return Err(Error::new(ErrorKind::IllegalState, fault));
        }
        self.membership.request_rejoin();
        Ok(())
    }

    /// Whether it commits without being asked (`enable.auto.commit`).
    pub(crate) fn commits_by_itself(&self) -> bool {
        self.env.settings.auto_commit && self.env.group_id().is_ok()
    }

    /// Generation and member id as of the last rebalance that was completed here. They are kept
    /// when the membership is lost, as by Kafka's classic client.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidGroupId`] without a group.
    pub fn group_metadata(&self) -> Result<GroupMetadata> {
        self.check_open()?;
        let group_id = self.env.group_id()?.clone();
        Ok(self.membership.metadata(group_id))
    }

    /// A handle that interrupts this consumer from any thread.
    pub fn wakeup_handle(&self) -> WakeupHandle {
        self.env.wakeup.handle()
    }

    /// [`Consumer::close_timeout`] with 30 seconds.
    ///
    /// # Errors
    /// As there.
    pub fn close(&mut self) -> Result<()> {
        self.close_timeout(Duration::from_secs(30))
    }

    /// Commits, where auto-commit is on, tells the listener that the partitions go, and leaves
    /// the group. A second call does nothing. `timeout` bounds what has to be waited for; here
    /// that is only a sync, if the offsets topic asks for one.
    ///
    /// Without auto-commit the callbacks of asynchronous commits that were not run yet are not
    /// run, as in Kafka; the commits themselves were made.
    ///
    /// Departure: D19. The group is left also when the listener fails. Kafka's client stays in it
    /// until its session ends.
    ///
    /// # Errors
    /// What the listener failed with, as the source of [`ErrorKind::Kafka`]. The consumer is
    /// closed all the same.
    pub fn close_timeout(&mut self, timeout: Duration) -> Result<()> {
        let _every_step_is_inline = timeout;
        if self.closed {
            return Ok(());
        }
        if self.env.kill_switch.is_killed() {
            self.retire(false);
            return Ok(());
        }
        self.env.wakeup.silence();
        let (commits, by) = &mut self.committing();
        commits.auto_commit_at_close(by);
        let outcome = self.leave_prepare();
        self.retire(self.env.settings.leave_on_close);
        outcome.map_err(|error| {
            Error::new(ErrorKind::Kafka, format!("the consumer did not close cleanly: {error}"))
                .with_source(error)
        })
    }

    /// Vanishes as if the process had died (feature `testing`): no commit, no leaving, no
    /// callback. The member counts until its session ends.
    #[cfg(any(test, feature = "testing"))]
    pub fn kill(mut self) {
        self.retire(false);
    }

    /// The last step of every end.
    fn retire(&mut self, leave: bool) {
        self.closed = true;
        match leave {
            true => self.membership.leave(&self.env),
            false => self.membership.stop_heartbeats(&self.env),
        }
        self.subscription.clear(self.env.signal());
        self.env.broker.unwatch_metadata(self.env.signal());
        self.listener = None;
        self.commits.forget();
    }

    fn check_open(&self) -> Result<()> {
        match self.closed {
            true => Err(Error::new(ErrorKind::Closed, "this consumer is closed")),
            false => self.env.check_alive(),
        }
    }
}

impl Drop for Consumer {
    /// Leaves the group at once. Commits nothing, calls nobody back, and waits for nothing.
    fn drop(&mut self) {
        if !self.closed {
            self.retire(!self.env.kill_switch.is_killed());
        }
    }
}

impl fmt::Debug for Consumer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Consumer")
            .field("client_id", &self.env.client_id)
            .field("group_id", &self.env.settings.group_id)
            .field("topics", self.subscription.topics())
            .field("partitions", &self.subscription.partitions().collect::<Vec<_>>())
            .field("closed", &self.closed)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests;
