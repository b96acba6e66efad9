//! The opened directory of topics: what exists, who appends, what happens in the background.
//!
//! Order of locks, outermost first; whoever holds one takes only later ones:
//! 1. the groups' coordinator; 2. changes of topics (registry, deletions);
//! 3. a producer's topics, its list of lanes; one topic's slots; one lane;
//! 4. one log's locks, in their own order; 5. the state file; 6. the table of topics;
//! 7. queues, timers, schedules; 8. health; 9. the storage's own; 10. all others, the leaves.
//!
//! `sync::Rank` asserts this order in tests. The locks of the registry and of the state file
//! are held across the sync of their own file, and no other lock is held across a sync. Callbacks
//! run under none.

mod adoption;
mod attach;
#[cfg(test)]
#[cfg(not(loom))]
mod attach_tests;
mod background;
mod changes;
mod closing;
mod codec;
mod coordinator;
#[cfg(test)]
#[cfg(not(loom))]
mod crash_tests;
mod deletion;
mod disk_watch;
#[cfg(any(all(test, not(loom)), fuzzing))]
pub mod fuzzing;
#[cfg(test)]
#[cfg(not(loom))]
mod golden_tests;
#[cfg(test)]
#[cfg(not(loom))]
mod group_tests;
mod handles;
mod health;
#[cfg(test)]
#[cfg(not(loom))]
mod health_tests;
mod inner;
mod journal;
mod life;
#[cfg(test)]
#[cfg(not(loom))]
mod life_tests;
mod new_topic;
mod opening;
mod options;
mod ownership;
mod partition;
mod random;
mod registry;
mod state_codec;
mod state_file;
mod steps;
mod survey;
#[cfg(test)]
#[cfg(not(loom))]
mod tests;
mod threads;
mod topics;

pub use adoption::{AdoptionProgress, AdoptionReport};
pub(crate) use coordinator::Groups;
pub use handles::Broker;
pub use health::Health;
pub(crate) use inner::BrokerInner;
pub use new_topic::NewTopic;
pub use options::BrokerOptions;
pub(crate) use partition::Partition;
pub(crate) use topics::{CompressionRatios, Topic};
