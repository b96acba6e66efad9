//! Which directory it is that a broker owns, and what stands in it: a path that comes to mean
//! another directory, a lock file that is taken away, links and special files in the place of ours,
//! and file systems that come back. `docs/guarantees.md`, "The directory", says what each gives.

#![cfg(not(loom))]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods)]

#[path = "directory/copied.rs"]
mod copied;
#[path = "directory/links.rs"]
mod links;
#[path = "directory/lock.rs"]
mod lock;
#[path = "directory/moved.rs"]
mod moved;
#[path = "directory/place.rs"]
mod place;
#[path = "directory/remounted.rs"]
mod remounted;
#[path = "directory/special.rs"]
mod special;
