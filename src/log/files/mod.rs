//! The small files of a partition: how they are called, checkpoints, the topic's id, the epochs.

pub(crate) mod checkpoint;
pub(crate) mod leader_epochs;
pub(crate) mod names;
pub(crate) mod partition_metadata;
