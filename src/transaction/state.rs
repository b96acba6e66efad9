//! The states of a transactional id, and which may follow which, as Kafka's `TransactionState`.
//!
//! ```text
//!          first record or offset              end                 markers written
//!  Empty ----------------------> Ongoing ----------> PrepareCommit ----------> CompleteCommit
//!    ^                            |    \
//!    |                 timed out, |     \ end
//!    | init           or replaced v      v
//!    |              PrepareEpochFence -> PrepareAbort ------------------------> CompleteAbort
//!    +--- from Empty, CompleteCommit and CompleteAbort, which also begin anew or, idle for long,
//!         end as Dead
//! ```

use std::fmt;

/// The state of a transactional id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TransactionState {
    /// It has a producer id, and no transaction.
    Empty,
    /// A transaction is open.
    Ongoing,
    /// The commit is decided, and its markers are not all written.
    PrepareCommit,
    /// The abort is decided, and its markers are not all written.
    PrepareAbort,
    /// The last transaction was committed.
    CompleteCommit,
    /// The last transaction was aborted.
    CompleteAbort,
    /// It expired. Never stored: a tombstone says so.
    Dead,
    /// The epoch of an open transaction is about to be raised. Never stored.
    PrepareEpochFence,
}

impl TransactionState {
    const ALL: [TransactionState; 8] = [
        TransactionState::Empty,
        TransactionState::Ongoing,
        TransactionState::PrepareCommit,
        TransactionState::PrepareAbort,
        TransactionState::CompleteCommit,
        TransactionState::CompleteAbort,
        TransactionState::Dead,
        TransactionState::PrepareEpochFence,
    ];

    /// The number in the record's value.
    pub fn id(self) -> i8 {
        self as i8
    }

    /// The state of this number.
    pub fn from_id(id: i8) -> Option<TransactionState> {
        TransactionState::ALL.get(usize::try_from(id).ok()?).copied()
    }

    /// The name in Kafka's tools.
    pub fn name(self) -> &'static str {
        match self {
            TransactionState::Empty => "Empty",
            TransactionState::Ongoing => "Ongoing",
            TransactionState::PrepareCommit => "PrepareCommit",
            TransactionState::PrepareAbort => "PrepareAbort",
            TransactionState::CompleteCommit => "CompleteCommit",
            TransactionState::CompleteAbort => "CompleteAbort",
            TransactionState::Dead => "Dead",
            TransactionState::PrepareEpochFence => "PrepareEpochFence",
        }
    }

    /// Whether the end is decided, and its markers may not all be written.
    pub fn is_prepared(self) -> bool {
        matches!(self, TransactionState::PrepareCommit | TransactionState::PrepareAbort)
    }

    /// Whether there is neither a transaction nor an end to be finished.
    pub fn is_idle(self) -> bool {
        use TransactionState::{CompleteAbort, CompleteCommit, Empty};
        matches!(self, Empty | CompleteCommit | CompleteAbort)
    }

    /// Whether a record may take a transactional id from this state to `next`.
    pub(crate) fn can_become(self, next: TransactionState) -> bool {
        use TransactionState::{
            CompleteAbort, CompleteCommit, Dead, Empty, Ongoing, PrepareAbort, PrepareCommit,
            PrepareEpochFence,
        };
        match next {
            Empty | Dead => self.is_idle(),
            Ongoing => self.is_idle() || self == Ongoing,
            PrepareCommit => self == Ongoing,
            // A client may abort what nothing was added to, when it is not sure.
            PrepareAbort => self.is_idle() || matches!(self, Ongoing | PrepareEpochFence),
            CompleteCommit => self == PrepareCommit,
            CompleteAbort => self == PrepareAbort,
            PrepareEpochFence => self == Ongoing,
        }
    }
}

impl fmt::Display for TransactionState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use TransactionState::*;

    /// Kafka's table of states and those before them.
    #[test]
    fn the_states_follow_each_other_as_in_kafka() {
        let before: [(TransactionState, &[TransactionState]); 8] = [
            (Empty, &[Empty, CompleteCommit, CompleteAbort]),
            (Ongoing, &[Empty, Ongoing, CompleteCommit, CompleteAbort]),
            (PrepareCommit, &[Ongoing]),
            (PrepareAbort, &[Empty, Ongoing, CompleteCommit, CompleteAbort, PrepareEpochFence]),
            (CompleteCommit, &[PrepareCommit]),
            (CompleteAbort, &[PrepareAbort]),
            (Dead, &[Empty, CompleteCommit, CompleteAbort]),
            (PrepareEpochFence, &[Ongoing]),
        ];
        for (next, allowed) in before {
            for state in TransactionState::ALL {
                assert_eq!(state.can_become(next), allowed.contains(&state), "{state} to {next}");
            }
        }
    }

    #[test]
    fn numbers_are_kafkas() {
        for (id, state) in (0..).zip(TransactionState::ALL) {
            assert_eq!((state.id(), TransactionState::from_id(id)), (id, Some(state)));
        }
        assert_eq!((TransactionState::from_id(-1), TransactionState::from_id(8)), (None, None));
    }
}
