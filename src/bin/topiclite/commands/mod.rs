//! The commands that take a file each. Those that take more have rooms of their own beside this.

pub mod compact;
mod lost_commits;
pub mod manual;
pub mod offsets;
pub mod producers;
pub mod repair;
pub mod transactions;
pub mod verify;
