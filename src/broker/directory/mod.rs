//! A directory's life: opening, the life of its owner, adopting another program's, closing.

pub(in crate::broker) mod adopt;
pub(in crate::broker) mod close;
pub(in crate::broker) mod folders;
pub(in crate::broker) mod life;
pub(in crate::broker) mod open;
pub(in crate::broker) mod ownership;

#[cfg(test)]
#[cfg(not(loom))]
mod tests;
