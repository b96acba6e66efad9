//! Making, growing, altering and deleting topics. Each is one entry of the registry and one sync;
//! nothing is seen before it is durable.

use crate::broker::background::steps::key_of;
use crate::broker::core::{BrokerCore, Owner};
use crate::broker::meta::registry::{DeletedTopic, PARTITIONS_MAX, RegistryEntry, TopicEntry};
use crate::broker::topics::Topic;
use crate::broker::topics::new_topic::NewTopic;
use crate::config::{ConfigChange, TopicConfig};
use crate::error::{Error, ErrorKind, Result};
use crate::events::Event;
use crate::log::EpochGate;
use crate::sync::Arc;
use crate::topic::{TopicId, TopicPartition, check_topic_name, is_internal, names_collide};

impl BrokerCore {
    /// Makes a topic. Its folders appear with the first records.
    ///
    /// # Durability
    /// Survives power loss.
    ///
    /// # Errors
    /// As [`BrokerCore::check_topic`], and those of the registry.
    pub fn create_topic(&self, new: &NewTopic) -> Result<Arc<Topic>> {
        let owner = self.owner()?;
        if !is_internal(&new.name) {
            self.settle()?;
        }
        let mut deletions = owner.changes.lock();
        self.check_topic(new)?;
        let entry = TopicEntry {
            name: new.name.as_str().into(),
            id: self.fresh_id(owner),
            partitions: self.partitions_of(new),
            adopted: false,
            config: entries(&new.config),
        };
        // A deleted topic of this name has to be gone for certain, or its folder would be ours.
        let cleared = deletions.finish(&owner.registry, Some(&new.name))?;
        let mut changes: Vec<_> = cleared.into_iter().map(RegistryEntry::Cleared).collect();
        changes.push(RegistryEntry::Topic(entry.clone()));
        self.forget_cleanings(&new.name);
        owner.registry.write(&changes)?;
        let topic = Arc::new(Topic::new(&entry, new.config.clone(), self.opener.clone()));
        self.topics.insert(topic.clone());
        drop(deletions);
        self.topics.changed();
        tracing::info!(topic = %topic.name(), partitions = entry.partitions, "topic created");
        if !is_internal(topic.name()) {
            let partitions = entry.partitions;
            self.probe.note(|| Event::TopicCreated { topic: topic.name().clone(), partitions });
        }
        Ok(topic)
    }

    /// Says whether a topic could be made, and makes nothing.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidTopic`] for a name that no topic can have, or that collides with
    /// another; [`ErrorKind::TopicExists`], [`ErrorKind::InvalidTopicConfig`],
    /// [`ErrorKind::InvalidReplicationFactor`], [`ErrorKind::InvalidPartitions`].
    pub fn check_topic(&self, new: &NewTopic) -> Result<()> {
        self.check_open()?;
        let name = new.name.as_str();
        check_topic_name(name)?;
        let fault = |kind, why: String| Err(Error::new(kind, why).with_topic(name));
        match self.topics.get(name) {
            Ok(_) => return fault(ErrorKind::TopicExists, "there is such a topic".to_owned()),
            Err(error) if error.kind() == ErrorKind::UnknownTopicOrPartition => {}
            Err(error) => return Err(error),
        }
        if let Some(other) = self.colliding(name) {
            let why = format!("it collides with \"{other}\": '.' and '_' count as equal");
            return fault(ErrorKind::InvalidTopic, why);
        }
        let checked = new.config.check().and_then(|()| match is_internal(name) {
            // The broker's own say what a Kafka that takes over the directory does with them.
            true => Ok(()),
            false => new.config.check_built(&TopicConfig::default()),
        });
        checked.map_err(|error| error.with_topic(name))?;
        // Kafka's order: replicas that can never be, partitions, replicas that are not there.
        let replicas = new.replication_factor;
        let too_few = replicas < -1 || replicas == 0;
        // Departure: D95. Kafka refuses more than 10,000 partitions in one request, which protects
        // its controller; there is none here.
        let bad_partitions =
            new.partitions < -1 || new.partitions == 0 || new.partitions > PARTITIONS_MAX;
        if bad_partitions && !too_few {
            let why = format!(
                "{} partitions; give 1 to {PARTITIONS_MAX}, or -1 for the broker's default",
                new.partitions
            );
            return fault(ErrorKind::InvalidPartitions, why);
        }
        if !matches!(replicas, -1 | 1) {
            let why = format!("{replicas} replicas, but one directory is one");
            return fault(ErrorKind::InvalidReplicationFactor, why);
        }
        Ok(())
    }

    /// An id that no topic has or had, as far as anything here remembers: a seeded broker may
    /// draw the ids of an earlier process again.
    fn fresh_id(&self, owner: &Owner) -> TopicId {
        loop {
            let id = self.random.topic_id();
            if !owner.registry.knows_id(id) && !owner.life.knows_topic(id) {
                return id;
            }
        }
    }

    /// The name of another topic that equals this one where `.` and `_` are the same.
    fn colliding(&self, name: &str) -> Option<Arc<str>> {
        if !name.contains(['.', '_']) {
            return None;
        }
        let topics = self.topics.all();
        let other = topics.iter().find(|topic| names_collide(topic.name(), name))?;
        Some(other.name().clone())
    }

    fn partitions_of(&self, new: &NewTopic) -> i32 {
        match new.partitions {
            -1 => self.config.default_partitions(),
            given => given,
        }
    }

    /// One of the broker's own topics, made if it is missing.
    ///
    /// # Errors
    /// As [`BrokerCore::create_topic`].
    pub(in crate::broker) fn internal_topic(
        &self,
        name: &str,
        partitions: i32,
        config: TopicConfig,
    ) -> Result<Arc<Topic>> {
        match self.topic(name) {
            Err(error) if error.kind() == ErrorKind::UnknownTopicOrPartition => {}
            found => return found,
        }
        match self.create_topic(&NewTopic::new(name, partitions).config(config)) {
            Err(error) if error.kind() == ErrorKind::TopicExists => self.topic(name),
            made => made,
        }
    }

    /// Deletes a topic with its records; offsets that groups committed for it are the caller's.
    ///
    /// # Durability
    /// Survives power loss: the topic does not come back, whenever its folders go.
    ///
    /// # Errors
    /// [`ErrorKind::TopicDeletionDisabled`], [`ErrorKind::UnknownTopicOrPartition`],
    /// [`ErrorKind::InvalidTopic`], and those of the registry. A folder that could not be removed
    /// is no error: it is tried again later, and reported in the broker's health.
    pub(in crate::broker) fn remove_topic(&self, name: &str) -> Result<Arc<Topic>> {
        let owner = self.owner()?;
        if !self.config.delete_topics() {
            let why = "delete.topic.enable is false";
            return Err(Error::new(ErrorKind::TopicDeletionDisabled, why).with_topic(name));
        }
        // The coordinators' locks come before that of changes.
        self.settle()?;
        let mut deletions = owner.changes.lock();
        if name.is_empty() {
            check_topic_name(name)?;
        }
        let topic = self.named(name)?;
        let gone = DeletedTopic {
            name: topic.name().clone(),
            id: topic.id(),
            partitions: topic.partition_count(),
        };
        owner.registry.write(&[RegistryEntry::Deleted(gone.clone())])?;
        self.topics.remove(name);
        for (_, partition) in topic.delete() {
            if let Err(error) = partition.log().and_then(|log| log.delete()) {
                self.health.warn(format!("a log of the deleted topic {name}: {error}"));
            }
        }
        // What it writes would be in the way of the removal.
        self.end_cleaning(Some(name));
        self.forget_cleanings(name);
        if let Err(error) = deletions.remove(&gone) {
            self.health.warn(format!("folders of the deleted topic {name} stay: {error}"));
        }
        drop(deletions);
        self.health.forget(name);
        if let Err(error) = owner.life.record(&[], &[topic.id()]) {
            self.health.error(error);
        }
        self.topics.changed();
        tracing::info!(topic = name, "topic deleted");
        self.probe.note(|| Event::TopicDeleted { topic: topic.name().clone() });
        Ok(topic)
    }

    /// Gives a topic more partitions. `partitions` is the new total.
    ///
    /// # Durability
    /// Survives power loss.
    ///
    /// # Errors
    /// [`ErrorKind::UnknownTopicOrPartition`], [`ErrorKind::InvalidPartitions`] unless it grows,
    /// and those of the registry.
    pub fn grow_topic(&self, name: &str, partitions: i32) -> Result<Arc<Topic>> {
        let owner = self.owner()?;
        self.settle()?;
        let changing = owner.changes.lock();
        let topic = self.named(name)?;
        let present = topic.partition_count();
        if partitions <= present || partitions > PARTITIONS_MAX {
            let why = format!(
                "the topic has {present} partitions and {partitions} are asked for; a topic only \
                 grows, up to {PARTITIONS_MAX}"
            );
            return Err(Error::new(ErrorKind::InvalidPartitions, why).with_topic(name));
        }
        let entry = TopicEntry { partitions, ..topic.entry() };
        owner.registry.write(&[RegistryEntry::Topic(entry)])?;
        topic.grow(partitions);
        drop(changing);
        self.topics.changed();
        tracing::info!(topic = name, partitions, "topic grown");
        Ok(topic)
    }

    /// Changes what a topic overrides, all or nothing.
    ///
    /// # Durability
    /// Survives power loss.
    ///
    /// # Errors
    /// [`ErrorKind::UnknownTopicOrPartition`], [`ErrorKind::InvalidTopic`],
    /// [`ErrorKind::InvalidTopicConfig`], [`ErrorKind::InvalidRequest`], and those of the
    /// registry.
    pub fn alter_topic(&self, name: &str, changes: &[ConfigChange]) -> Result<()> {
        let owner = self.owner()?;
        self.settle()?;
        let changing = owner.changes.lock();
        // As in Kafka: changes that are none of any topic, then the name, then the values, and
        // only then whether there is such a topic.
        TopicConfig::check_changes(changes).map_err(|error| error.with_topic(name))?;
        let topic = self.topic(name).or_else(|error| match error.kind() {
            ErrorKind::UnknownTopicOrPartition => self.refuse(name, changes).and(Err(error)),
            ErrorKind::InvalidTopic if name.is_empty() => {
                let why = "no topic is named, and there are no settings for all of them";
                Err(Error::new(ErrorKind::InvalidRequest, why))
            }
            _ => Err(error),
        })?;
        let stored = topic.config();
        let config = stored
            .changed(&self.config, changes)
            .and_then(|config| match is_internal(name) {
                true => Ok(config.with_chosen_segments(changes)),
                false => config.check_built(&stored).map(|()| config),
            })
            .map_err(|error| error.with_topic(name))?;
        let entry = TopicEntry { config: entries(&config), ..topic.entry() };
        owner.registry.write(&[RegistryEntry::Topic(entry)])?;
        topic.set_config(config, &self.config);
        drop(changing);
        self.topics.changed();
        tracing::info!(topic = name, "topic altered");
        Ok(())
    }

    /// Makes `before` the first offset that can be read.
    ///
    /// # Durability
    /// Survives power loss.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidTopic`], [`ErrorKind::PolicyViolation`],
    /// [`ErrorKind::OffsetOutOfRange`], [`ErrorKind::UnknownTopicOrPartition`], and those of the
    /// state file.
    pub fn delete_records(&self, name: &str, partition: i32, before: i64) -> Result<i64> {
        let owner = self.owner()?;
        let topic = self.topic(name)?;
        self.refuse_internal(name)?;
        let found = topic.partition(partition)?;
        // Under an empty policy records go on request alone.
        let config = topic.log_config(&self.config);
        if config.cleanup_compact && !config.cleanup_delete {
            let why = "cleanup.policy does not contain delete; add it";
            return Err(Error::new(ErrorKind::PolicyViolation, why).with_partition(name, partition));
        }
        let log = found.log()?;
        let moved = log.delete_records(before)?;
        self.note_deleted(&TopicPartition::new(topic.name().clone(), partition), moved);
        // Where the log begins is kept by the state file alone. A call that moved it may have
        // failed to record it.
        if moved > owner.life.recorded_start(&key_of(log)) {
            owner.life.enter()?;
            owner.life.record(&[log], &[])?;
        }
        Ok(moved)
    }

    /// Tells where records were deleted that a protected group has not read: who asks for that
    /// gets it.
    fn note_deleted(&self, place: &TopicPartition, start: i64) {
        let Ok(topic) = self.topics.get(place.topic()) else { return };
        let config = topic.log_config(&self.config);
        let slowest = self.protected_offset(place, &config.protected_groups);
        let Some(by) = slowest.filter(|by| by.committed_offset.unwrap_or(0) < start) else {
            return;
        };
        self.health.warn_once(format!(
            "{place}: records were deleted on request that the protected group {:?} has not read",
            by.group
        ));
    }

    /// Refuses changes that no topic could take.
    fn refuse(&self, name: &str, changes: &[ConfigChange]) -> Result<()> {
        let changed = TopicConfig::default().changed(&self.config, changes);
        changed.map(drop).map_err(|error| error.with_topic(name))
    }

    /// Gives a topic settings that another version took and this one refuses.
    #[cfg(test)]
    #[cfg(not(loom))]
    pub(crate) fn store_unbuilt(&self, name: &str, changes: &[ConfigChange]) -> Result<()> {
        let topic = self.topic(name)?;
        let config = topic.config().changed(&self.config, changes)?;
        let entry = TopicEntry { config: entries(&config), ..topic.entry() };
        self.owner()?.registry.write(&[RegistryEntry::Topic(entry)])?;
        topic.set_config(config, &self.config);
        Ok(())
    }

    /// A topic to delete or to grow.
    ///
    /// # Errors
    /// As [`BrokerCore::topic`], but a name that no topic can have is one that none has.
    fn named(&self, name: &str) -> Result<Arc<Topic>> {
        self.topic(name).map_err(|error| match error.kind() {
            ErrorKind::InvalidTopic => {
                Error::new(ErrorKind::UnknownTopicOrPartition, "no such topic").with_topic(name)
            }
            _ => error,
        })
    }

    /// Removes what a former process left of its deletions.
    pub(in crate::broker) fn finish_deletions(&self, owner: &Owner) -> Result<()> {
        let mut deletions = owner.changes.lock();
        let cleared = deletions.finish(&owner.registry, None)?;
        if cleared.is_empty() {
            return Ok(());
        }
        let changes: Vec<_> = cleared.into_iter().map(RegistryEntry::Cleared).collect();
        owner.registry.write(&changes)
    }

    /// Refuses what only the broker may do to its own topics.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidTopic`].
    pub(in crate::broker) fn refuse_internal(&self, name: &str) -> Result<()> {
        match is_internal(name) {
            true => Err(Error::new(ErrorKind::InvalidTopic, "an internal topic").with_topic(name)),
            false => Ok(()),
        }
    }
}

pub(in crate::broker) fn entries(config: &TopicConfig) -> Vec<(String, String)> {
    config.entries().map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
}
