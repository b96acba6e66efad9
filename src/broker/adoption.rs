//! Taking over a directory that another program wrote.

use crate::error::Error;
use crate::topic::TopicPartition;

/// How far the reading of a foreign directory has come.
#[derive(Debug, Clone)]
pub struct AdoptionProgress {
    pub(super) partition: TopicPartition,
    pub(super) done: usize,
    pub(super) total: usize,
    pub(super) bytes: u64,
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
    pub(super) reason: String,
    pub(super) topics: Vec<String>,
    pub(super) partitions: usize,
    pub(super) bytes: u64,
    pub(super) damaged: Vec<(TopicPartition, Error)>,
    pub(super) left_alone: Vec<String>,
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
