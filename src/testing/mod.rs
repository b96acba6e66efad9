//! What tests need that programs do not: scenarios replayed step by step, faults, a journal.
//!
//! Feature `testing`. Everything here runs on the public handles; a broker for tests is
//! [`Broker::in_memory`](crate::Broker::in_memory) under a
//! [`VirtualClock`](crate::time::VirtualClock).

pub mod scenario;
