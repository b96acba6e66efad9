//! The opened directory of topics: what exists, who appends, what happens in the background.
//!
//! Order of locks, outermost first; whoever holds one takes only later ones:
//! 1. what a crash left open in a topic, the coordinator of transactions, that of groups;
//! 2. changes of topics (registry, deletions);
//! 3. a producer's topics, its list of queues; one topic's slots; one queue;
//! 4. one log's locks, in their own order; 5. the state file; 6. the table of topics;
//! 7. queues, timers, schedules; 8. health; 9. the storage's own; 10. all others, the leaves.
//!
//! `sync::Rank` asserts this order in tests. The locks of the registry and of the state file
//! are held across the sync of their own file, and no other lock is held across a sync. Callbacks
//! run under none.

mod attach;
mod background;
mod coordinator;
mod core;
mod directory;
#[cfg(any(all(test, not(loom)), fuzzing))]
pub mod fuzzing;
mod handles;
mod health;
mod meta;
mod options;
mod producer_names;
mod random;
#[cfg(test)]
#[cfg(not(loom))]
mod tests;
mod topics;

pub(crate) use crate::broker::core::BrokerInner;
pub use crate::broker::directory::adopt::{AdoptionProgress, AdoptionReport};
pub use crate::broker::topics::new_topic::NewTopic;
pub(crate) use crate::broker::topics::partition::Partition;
pub(crate) use crate::broker::topics::{CompressionRatios, Topic};
pub(crate) use coordinator::Groups;
pub use handles::Broker;
pub use health::{Health, HeldRetention};
pub(crate) use meta::producer_ids::PromisedId;
pub use options::BrokerOptions;
pub(crate) use producer_names::HeldName;
