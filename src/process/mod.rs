//! Programs that read records and write others, with what a crash may do to them said once.

#[cfg(all(test, not(loom)))]
mod tests;
mod transform;

pub use transform::{Progress, Transform, transform};
