//! Which transactions a reader must not see.

use crate::broker::Partition;
use crate::error::Result;
use crate::log::AbortedTransaction;
use crate::record::BatchHeader;

/// Which transactions were aborted, for a reader that must not see them. Looked up at the first
/// transactional batch.
pub(super) struct AbortedFilter<'a> {
    partition: &'a Partition,
    from: i64,
    upto: i64,
    /// By first offset, the first one last; None before the lookup.
    later: Option<Vec<AbortedTransaction>>,
    begun: Vec<AbortedTransaction>,
}

impl<'a> AbortedFilter<'a> {
    /// For batches whose offsets are in `from..upto`.
    pub fn new(partition: &'a Partition, from: i64, upto: i64) -> AbortedFilter<'a> {
        AbortedFilter { partition, from, upto, later: None, begun: Vec::new() }
    }

    /// That no batch behind those that were asked for belongs to an aborted transaction, as the
    /// lookup was made and nothing is left of what it found.
    #[inline]
    pub fn is_exhausted(&self) -> bool {
        self.begun.is_empty() && self.later.as_ref().is_some_and(Vec::is_empty)
    }

    /// Whether the batch belongs to an aborted transaction.
    pub fn covers(&mut self, header: &BatchHeader) -> Result<bool> {
        if !header.is_transactional() {
            return Ok(false);
        }
        if self.later.is_none() {
            let mut found = self.partition.aborted_transactions(self.from, self.upto)?;
            found.sort_by_key(|aborted| std::cmp::Reverse(aborted.first_offset));
            self.later = Some(found);
        }
        let later = self.later.get_or_insert_default();
        let begins =
            |aborted: &mut AbortedTransaction| aborted.first_offset <= header.last_offset();
        while let Some(aborted) = later.pop_if(begins) {
            self.begun.push(aborted);
        }
        // `last_offset` is that of the marker, so behind it the producer is free again.
        self.begun.retain(|aborted| aborted.last_offset >= header.base_offset);
        Ok(self.begun.iter().any(|aborted| aborted.producer_id == header.producer_id))
    }
}
