//! Transactions as a cleaning meets them, in the order of the log (Kafka's
//! `CleanedTransactionMetadata`): whose records go because they were aborted, and which markers
//! have nothing left to mark.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::log::producers::transactions::AbortedTransaction;
use crate::record::{BatchHeader, ControlType};
use crate::storage::planted::{Planted, planted};

/// The transactions that a cleaning has met, and those that it will.
#[derive(Debug, Clone, Default)]
pub(super) struct CleanedTransactions {
    /// Those that begin further on, in order of their first offset.
    waiting: VecDeque<AbortedTransaction>,
    /// Those that the cleaning is inside of, by producer, and whether it has met a batch of theirs.
    aborted: BTreeMap<i64, (AbortedTransaction, bool)>,
    /// Producers of whose open transaction, not an aborted one, a batch was met.
    committed: BTreeSet<i64>,
    /// Aborted ones whose marker stays.
    kept: Vec<AbortedTransaction>,
}

impl CleanedTransactions {
    /// Nothing met yet of a log with these aborted transactions.
    pub fn new(mut aborted: Vec<AbortedTransaction>) -> CleanedTransactions {
        aborted.sort_by_key(|row| row.first_offset);
        CleanedTransactions { waiting: aborted.into(), ..CleanedTransactions::default() }
    }

    /// Meets a batch of records. Returns whether they were aborted.
    pub fn meet_records(&mut self, header: &BatchHeader) -> bool {
        self.advance(header);
        if !header.is_transactional() {
            return false;
        }
        match self.aborted.get_mut(&header.producer_id) {
            Some((_, met)) => {
                *met = true;
                !planted(Planted::AbortedRecordKept)
            }
            None => {
                self.committed.insert(header.producer_id);
                false
            }
        }
    }

    /// Meets a control batch, whose record is of this kind, if it has one. Returns whether there
    /// is nothing left that it says something of.
    pub fn meet_control(&mut self, header: &BatchHeader, kind: Option<ControlType>) -> bool {
        self.advance(header);
        match kind {
            Some(ControlType::Abort) => {
                let met = self.aborted.remove(&header.producer_id).filter(|(_, met)| *met);
                self.kept.extend(met.map(|(row, _)| row));
                met.is_none()
            }
            Some(ControlType::Commit) => !self.committed.remove(&header.producer_id),
            Some(_) => false,
            None => true,
        }
    }

    /// The aborted transactions whose marker was kept since the last call, in order of it.
    pub fn take_kept(&mut self) -> Vec<AbortedTransaction> {
        std::mem::take(&mut self.kept)
    }

    /// Comes to the batch with this header.
    fn advance(&mut self, header: &BatchHeader) {
        let over = |(row, _): &(AbortedTransaction, bool)| row.last_offset < header.base_offset;
        if self.aborted.values().any(over) {
            self.aborted.retain(|_, entry| !over(entry));
        }
        let last_offset = header.last_offset();
        while let Some(row) = self.waiting.front().filter(|row| row.first_offset <= last_offset) {
            let row = *row;
            self.waiting.pop_front();
            // One whose marker lies before is over: an earlier cleaning has left nothing of it.
            if row.last_offset >= header.base_offset {
                self.aborted.entry(row.producer_id).or_insert((row, false));
            }
        }
    }
}
