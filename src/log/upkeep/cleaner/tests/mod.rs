//! The cleaner: its rules over batches, and rounds over logs in memory.

mod attached;
mod crashes;
mod filter;
mod history;
mod model;
#[cfg(feature = "planted-bugs")]
mod planted;
mod rounds;
mod world;
