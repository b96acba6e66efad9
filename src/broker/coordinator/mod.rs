//! Coordinators at work: the pure state machines of `group` and `transaction`, run over their
//! internal topics.
//!
//! [`CoordinatorRuntime`] is what every coordinator needs: load by replay, run a handler, store its
//! records, apply them, timers, waits outside the lock. `writer` is the internal topic as it sees
//! it. [`Groups`] are the requests of consumer groups, [`GroupHost`] what the broker tells their
//! coordinator and hears from it; [`Transactions`] and [`TransactionHost`] likewise.

mod group_host;
mod groups;
mod replay;
mod runtime;
mod steps;
#[cfg(test)]
#[cfg(not(loom))]
mod tests;
mod transaction_host;
mod transactions;
mod writer;

pub(in crate::broker) use group_host::GroupHost;
pub(crate) use groups::Groups;
pub(in crate::broker) use runtime::{CoordinatorRuntime, RuntimeParts, Scope};
pub(in crate::broker) use transaction_host::TransactionHost;
pub(crate) use transactions::Transactions;
pub(in crate::broker) use writer::{InternalTopic, PartitionWriter};

use crate::group::GroupCoordinator;
use crate::transaction::TransactionCoordinator;

/// The runtime of the groups.
pub(in crate::broker) type GroupRuntime = CoordinatorRuntime<GroupCoordinator, InternalTopic>;

/// The runtime of the transactions.
pub(in crate::broker) type TransactionRuntime =
    CoordinatorRuntime<TransactionCoordinator, InternalTopic>;
