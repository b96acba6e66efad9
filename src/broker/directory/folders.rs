//! What a directory of another program holds, by the names of its folders and the rows of its
//! checkpoint files. No file of a partition is read but the one that names its topic's id.

use crate::broker::meta::registry::{PARTITIONS_MAX, TopicEntry};
use crate::config::{BrokerConfig, TopicConfig};
use crate::error::{Error, ErrorKind, Result};
use crate::log::files::checkpoint::{
    CLEANER_CHECKPOINT, HIGH_WATERMARK_CHECKPOINT, LOG_START_CHECKPOINT, RECOVERY_POINT_CHECKPOINT,
    is_of_content, read_offsets,
};
use crate::log::files::names::{FolderName, folder_name};
use crate::log::files::partition_metadata::read_partition_metadata;
use crate::storage::Storage;
use crate::sync::Arc;
use crate::topic::{
    OFFSETS_TOPIC, TRANSACTIONS_TOPIC, TopicId, TopicPartition, check_topic_name, is_internal,
};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// What Kafka gives its internal topics unless told otherwise.
const INTERNAL_PARTITIONS: i32 = 50;
/// Kafka's own log of the cluster, which no broker serves as a topic.
const CLUSTER_METADATA: &str = "__cluster_metadata";

/// See the module.
#[derive(Debug, Default)]
pub(in crate::broker) struct Survey {
    pub topics: BTreeMap<Arc<str>, FoundTopic>,
    /// Names of folders that are nobody's partition: they stay.
    pub left_alone: Vec<String>,
    pub warnings: Vec<String>,
    pub log_starts: BTreeMap<TopicPartition, i64>,
    pub recovery_points: BTreeMap<TopicPartition, i64>,
    high_watermarks: BTreeMap<TopicPartition, i64>,
}

/// A topic of which there are folders or rows.
#[derive(Debug, Default)]
pub(in crate::broker) struct FoundTopic {
    /// As `partition.metadata` of its first folder says.
    pub id: Option<TopicId>,
    pub folders: BTreeSet<i32>,
    /// Named by a checkpoint file.
    rows: BTreeSet<i32>,
}

impl FoundTopic {
    /// The highest number and one.
    pub fn partitions(&self, name: &str) -> i32 {
        let named: BTreeSet<i32> = self.folders.union(&self.rows).copied().collect();
        let highest = named.last().map_or(0, |number| number.saturating_add(1));
        // Folders of internal partitions appear as they are used, so they tell nothing; and where
        // some are missing that a checkpoint would have, those behind the last may be, too.
        let partial = self.rows.is_empty() || i32::try_from(named.len()) != Ok(highest);
        match is_internal(name) && partial {
            true => highest.max(INTERNAL_PARTITIONS),
            false => highest.max(1),
        }
    }
}

impl Survey {
    /// Looks at a directory. Writes nothing.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] when the directory cannot be listed, or when something in it cannot be
    /// looked at: that says nothing of what is there.
    pub fn of(storage: &dyn Storage, dir: &Path) -> Result<Survey> {
        let mut survey = Survey::default();
        let entries =
            storage.list(dir).map_err(|e| Error::io(e, "cannot list the directory", dir))?;
        for entry in entries.iter().filter(|entry| entry.is_dir) {
            survey.take_folder(&entry.name);
        }
        survey.take_checkpoints(storage, dir)?;
        for (name, topic) in &mut survey.topics {
            for number in &topic.folders {
                let folder = dir.join(folder_name(name, *number));
                match read_partition_metadata(storage, &folder) {
                    Ok(Some(id)) => {
                        topic.id = Some(id);
                        break;
                    }
                    Ok(None) => {}
                    Err(error) if !is_of_content(&error) => return Err(error),
                    Err(error) => survey.warnings.push(format!("no topic id: {error}")),
                }
            }
        }
        Ok(survey)
    }

    /// There is no partition, and no trace of one.
    pub fn is_empty(&self) -> bool {
        self.topics.is_empty()
    }

    fn take_folder(&mut self, name: &str) {
        let partition = match FolderName::parse(name) {
            Some(FolderName::Partition(partition)) if is_served(&partition) => partition,
            _ => return self.left_alone.push(name.to_owned()),
        };
        let topic = self.topics.entry(partition.topic_shared().clone()).or_default();
        topic.folders.insert(partition.partition());
    }

    fn take_checkpoints(&mut self, storage: &dyn Storage, dir: &Path) -> Result<()> {
        let mut read = |name: &str| {
            let rows = match read_offsets(storage, &dir.join(name)) {
                Ok(rows) => rows,
                Err(error) if !is_of_content(&error) => return Err(error),
                // As Kafka does: a damaged file of this kind counts as empty.
                Err(error) => {
                    self.warnings.push(error.to_string());
                    BTreeMap::new()
                }
            };
            for partition in rows.keys().filter(|partition| is_served(partition)) {
                let topic = self.topics.entry(partition.topic_shared().clone()).or_default();
                topic.rows.insert(partition.partition());
            }
            Ok(rows)
        };
        self.recovery_points = read(RECOVERY_POINT_CHECKPOINT)?;
        self.high_watermarks = read(HIGH_WATERMARK_CHECKPOINT)?;
        self.log_starts = read(LOG_START_CHECKPOINT)?;
        read(CLEANER_CHECKPOINT).map(drop)
    }

    /// What the registry is to say of the topics. `known` is what it says already, where it is
    /// intact: settings that a user made here are kept for a topic that is still the same.
    pub fn entries(
        &self,
        known: &BTreeMap<Arc<str>, TopicEntry>,
        broker: &BrokerConfig,
        mut random_id: impl FnMut() -> TopicId,
    ) -> Vec<TopicEntry> {
        let mut entries: BTreeMap<Arc<str>, TopicEntry> = known.clone();
        for (name, found) in &self.topics {
            let partitions = found.partitions(name);
            match entries.get_mut(name) {
                Some(entry) if found.id.is_none_or(|id| id == entry.id) => {
                    entry.partitions = entry.partitions.max(partitions);
                }
                _ => {
                    let config = adopted_config(name, broker);
                    let entry = TopicEntry {
                        name: name.clone(),
                        id: found.id.unwrap_or_else(&mut random_id),
                        partitions,
                        adopted: true,
                        config: crate::broker::topics::changes::entries(&config),
                    };
                    entries.insert(name.clone(), entry);
                }
            }
        }
        entries.into_values().collect()
    }

    /// Partitions that must have a folder and have none, each with the reason.
    pub fn missing(&self, entry: &TopicEntry) -> Vec<(i32, Error)> {
        let nothing = FoundTopic::default();
        let found = self.topics.get(&entry.name).unwrap_or(&nothing);
        let offset = |number: i32| {
            let partition = TopicPartition::new(entry.name.clone(), number);
            let rows = [&self.recovery_points, &self.high_watermarks, &self.log_starts];
            rows.iter().filter_map(|rows| rows.get(&partition)).copied().max()
        };
        let missing = (0..entry.partitions).filter(|number| !found.folders.contains(number));
        missing
            .filter_map(|number| {
                let why = match offset(number) {
                    // Never used: Kafka's folders of such partitions may be left out of a copy.
                    Some(0) => return None,
                    Some(offset) => format!("the folder is missing; its log reached {offset}"),
                    None if is_internal(&entry.name) || !entry.adopted => return None,
                    None => "the folder is missing".to_owned(),
                };
                let error =
                    Error::new(ErrorKind::ReadOnly, why + "; restore it, or delete the topic");
                Some((number, error.with_partition(&*entry.name, number)))
            })
            .collect()
    }
}

fn is_served(partition: &TopicPartition) -> bool {
    check_topic_name(partition.topic()).is_ok()
        && partition.topic() != CLUSTER_METADATA
        && partition.partition() < PARTITIONS_MAX
}

/// What an adopted topic overrides: nothing of it is ever deleted until it is altered.
fn adopted_config(name: &str, broker: &BrokerConfig) -> TopicConfig {
    match name {
        OFFSETS_TOPIC => TopicConfig::of_offsets_topic(broker),
        TRANSACTIONS_TOPIC => TopicConfig::of_transactions_topic(broker),
        _ => TopicConfig::of_adopted_topic(),
    }
}
