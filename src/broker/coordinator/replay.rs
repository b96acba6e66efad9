//! The replay of one partition of an internal topic into a shard.

use super::writer::PartitionWriter;
use crate::coordinator::CoordinatorShard;
use crate::error::{Error, ErrorKind, Result};

/// What a replay does where the log cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AtDamage {
    /// It ends: what is behind may contradict what is missing.
    Stop,
    /// It goes on behind.
    GoOn,
}

/// How far a replay came.
#[derive(Debug)]
pub(super) struct Replayed {
    /// Bytes of the batches that were read.
    pub bytes: u64,
    /// Records that could not be decoded and were passed over, by offset, and why.
    pub unreadable: Vec<(i64, String)>,
    /// Why it did not come to the end.
    pub outcome: Result<()>,
}

/// Applies every batch of a partition that was not read yet.
pub(super) fn replay<C: CoordinatorShard, W: PartitionWriter>(
    writer: &mut W,
    shard: &mut C,
    partition: i32,
    at_damage: AtDamage,
) -> Replayed {
    let (mut unreadable, mut scratch, mut bytes) = (Vec::new(), Vec::new(), 0);
    let mut passed = -1;
    let mut go_on = || {
        let outcome = writer.read_on(partition, &mut |batch| {
            bytes += batch.bytes().len() as u64;
            let passed_over = shard.replay_batch(partition, batch, &mut scratch);
            unreadable.extend(passed_over.map_err(|fault| fault.into_error())?);
            Ok(())
        });
        let Err(error) = outcome else { return Ok(false) };
        let goes_on = at_damage == AtDamage::GoOn && is_damage(&error);
        let Some(offset) = error.offset().filter(|_| goes_on) else { return Err(error) };
        passed = offset.max(passed) + 1;
        writer.pass(partition, passed)
    };
    let outcome = loop {
        match go_on() {
            Ok(true) => {}
            other => break other.map(drop),
        }
    };
    Replayed { bytes, unreadable, outcome }
}

/// Whether every later reading meets it, too.
pub(super) fn is_damage(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::CorruptRecord | ErrorKind::UnsupportedFormat)
}
