//! Taking over a directory that another program wrote, or that is not as we left it.
//!
//! It is read once, whole: every batch is checked, nothing derived is believed. What was found
//! stays in memory until the first append, or the close. Nothing is deleted: adopted topics keep
//! their records until their settings are altered.

use crate::broker::background::steps::key_of;
use crate::broker::coordinator::{InternalTopic, PartitionWriter};
use crate::broker::core::BrokerCore;
use crate::broker::directory::folders::Survey;
use crate::broker::directory::life::Adopted;
use crate::broker::meta::producer_ids::ProducerIds;
use crate::broker::meta::registry::{Registry, RegistryFound};
use crate::broker::meta::state_file::PartitionKey;
use crate::broker::options::ProgressCallback;
use crate::broker::random::Random;
use crate::config::BrokerConfig;
use crate::error::{Error, Result};
use crate::log::Log;
use crate::log::load::OpenOptions;
use crate::storage::NotBegun;
use crate::topic::{TRANSACTIONS_TOPIC, TopicPartition};
use std::collections::BTreeMap;

/// How far the reading of a foreign directory has come.
#[derive(Debug, Clone)]
pub struct AdoptionProgress {
    pub(in crate::broker) partition: TopicPartition,
    pub(in crate::broker) done: usize,
    pub(in crate::broker) total: usize,
    pub(in crate::broker) bytes: u64,
}

impl AdoptionProgress {
    /// The partition that was read last.
    pub fn partition(&self) -> &TopicPartition {
        &self.partition
    }

    /// How many partitions were read.
    pub fn partitions_done(&self) -> usize {
        self.done
    }

    /// How many partitions there are.
    pub fn partitions_total(&self) -> usize {
        self.total
    }

    /// How many bytes of batches were read and checked so far.
    pub fn bytes_done(&self) -> u64 {
        self.bytes
    }
}

/// What was found in a directory that another program wrote.
#[derive(Debug, Clone, Default)]
pub struct AdoptionReport {
    pub(in crate::broker) reason: String,
    pub(in crate::broker) topics: Vec<String>,
    pub(in crate::broker) partitions: usize,
    pub(in crate::broker) bytes: u64,
    pub(in crate::broker) damaged: Vec<(TopicPartition, Error)>,
    pub(in crate::broker) left_alone: Vec<String>,
}

impl AdoptionReport {
    /// Why the directory was taken for foreign.
    pub fn reason(&self) -> &str {
        &self.reason
    }

    /// The topics that were not known before, in order of name.
    pub fn topics(&self) -> impl Iterator<Item = &str> {
        self.topics.iter().map(String::as_str)
    }

    /// How many partitions with records were read.
    pub fn partitions_read(&self) -> usize {
        self.partitions
    }

    /// How many bytes of batches were read and checked.
    pub fn bytes_read(&self) -> u64 {
        self.bytes
    }

    /// The partitions that are missing or damaged, and so read-only, and why.
    pub fn damaged(&self) -> impl Iterator<Item = (&TopicPartition, &Error)> {
        self.damaged.iter().map(|(partition, error)| (partition, error))
    }

    /// Folders and files that are nobody's, such as those of deleted topics: they stay.
    pub fn left_alone(&self) -> impl Iterator<Item = &str> {
        self.left_alone.iter().map(String::as_str)
    }
}

/// A directory that another program wrote, or that is not as we left it.
#[derive(Debug)]
pub(in crate::broker) struct Foreign {
    pub survey: Survey,
    pub reason: String,
}

impl Foreign {
    /// Takes the topics over into the registry, in memory. Returns the partitions that must have
    /// a folder and have none.
    pub fn take_over(
        &self,
        registry: &Registry,
        found: &RegistryFound,
        config: &BrokerConfig,
        random: &Random,
    ) -> BTreeMap<PartitionKey, Error> {
        let known = match found {
            RegistryFound::Image(image) => image.topics.clone(),
            RegistryFound::Missing | RegistryFound::Damaged(_) => BTreeMap::new(),
        };
        let entries = self.survey.entries(&known, config, || random.topic_id());
        let mut missing = BTreeMap::new();
        for entry in &entries {
            for (number, error) in self.survey.missing(entry) {
                missing.insert((entry.id, number), error);
            }
        }
        registry.adopt(entries);
        missing
    }
}

impl BrokerCore {
    /// Reads every partition of a foreign directory and checks every batch. Writes nothing.
    ///
    /// # Errors
    /// None of a partition: what cannot be read, or is damaged, is reported by name.
    pub(in crate::broker) fn adopt(
        &self,
        foreign: &Foreign,
        progress: Option<&ProgressCallback>,
    ) -> Result<()> {
        let owner = self.owner()?;
        let survey = &foreign.survey;
        let mut report = AdoptionReport {
            reason: foreign.reason.clone(),
            topics: survey.topics.keys().map(|name| name.to_string()).collect(),
            left_alone: survey.left_alone.clone(),
            ..AdoptionReport::default()
        };
        survey.warnings.iter().for_each(|warning| self.health.warn(warning.as_str()));
        let total = survey.topics.values().map(|topic| topic.folders.len()).sum();
        let mut adopted = Adopted::default();
        for topic in self.topics.all() {
            for number in 0..topic.partition_count() {
                let partition = TopicPartition::new(topic.name().clone(), number);
                let log = match topic.partition(number)?.log() {
                    Ok(log) => log.clone(),
                    Err(missing) => {
                        self.health.partition(partition.clone(), missing.clone());
                        report.damaged.push((partition, missing));
                        continue;
                    }
                };
                let has_folder =
                    survey.topics.get(topic.name()).is_some_and(|t| t.folders.contains(&number));
                if !has_folder {
                    continue;
                }
                let seen = AdoptionProgress {
                    partition: partition.clone(),
                    done: report.partitions,
                    total,
                    bytes: report.bytes,
                };
                let outcome = self.read_foreign(&log, survey, seen, progress);
                report.partitions += 1;
                match outcome {
                    Ok(bytes) => {
                        report.bytes += bytes;
                        adopted.states.push((key_of(&log), log.state()?));
                        if let Some(error) = log.refusal() {
                            self.health.partition(partition.clone(), error.clone());
                            report.damaged.push((partition, error));
                        }
                    }
                    // The directory is read when there are descriptors.
                    Err(error) if NotBegun::caused(&error) => return Err(error),
                    Err(error) => {
                        adopted.unread.push(key_of(&log));
                        self.health.partition(partition.clone(), error.clone());
                        report.damaged.push((partition, error));
                    }
                }
            }
        }
        self.note_transactional_producers(&owner.producer_ids);
        tracing::info!(
            reason = %report.reason,
            partitions = report.partitions,
            bytes = report.bytes,
            damaged = report.damaged.len(),
            "adopted a directory that another program wrote"
        );
        owner.life.adopt(adopted);
        // Only an open adopts, and it does so once.
        self.adoption.get_or_init(|| report);
        Ok(())
    }

    /// Takes note of the producer ids that `__transaction_state` names: some never sent a batch.
    /// What cannot be read is among the damaged partitions already.
    fn note_transactional_producers(&self, ids: &ProducerIds) {
        let mut topic = InternalTopic::new(TRANSACTIONS_TOPIC, self.topics.clone());
        let Ok(Some(begun)) = topic.begin_reading() else { return };
        for partition in 0..begun.partitions {
            let mut scratch = Vec::new();
            let read = topic.read_on(partition, &mut |batch| {
                if batch.header().is_control() {
                    return Ok(());
                }
                for record in batch.records(&mut scratch).map_err(|fault| fault.into_error())? {
                    let record = record.map_err(|fault| fault.into_error())?;
                    if let Some(id) = record.value().and_then(transactional_producer) {
                        ids.saw(id);
                    }
                }
                Ok(())
            });
            if let Err(error) = read {
                tracing::debug!(partition, %error, "reading the transactions");
            }
        }
    }

    fn read_foreign(
        &self,
        log: &Log,
        survey: &Survey,
        seen: AdoptionProgress,
        progress: Option<&ProgressCallback>,
    ) -> Result<u64> {
        let partition = seen.partition.clone();
        let (before, mut latest) = (seen.bytes, seen);
        let mut tell = |bytes: u64| {
            latest.bytes += bytes;
            if let Some(callback) = progress {
                callback(&latest);
            }
        };
        log.recover(OpenOptions {
            log_start_checkpoint: survey.log_starts.get(&partition).copied(),
            recovery_checkpoint: survey.recovery_points.get(&partition).copied(),
            progress: Some(&mut tell),
            ..OpenOptions::default()
        })?;
        latest.done += 1;
        if let Some(callback) = progress {
            callback(&latest);
        }
        let (findings, _) = log.opening();
        for finding in findings.iter().filter(|finding| !finding.kind.is_note()) {
            self.health.warn_once(format!("{partition}: {finding}"));
        }
        Ok(latest.bytes - before)
    }
}

/// The producer id in a value of `__transaction_state`: it stands first behind the version.
fn transactional_producer(value: &[u8]) -> Option<i64> {
    let (version, rest) = value.split_first_chunk()?;
    let (id, _) = rest.split_first_chunk()?;
    (0..=1).contains(&i16::from_be_bytes(*version)).then(|| i64::from_be_bytes(*id))
}
