//! The cleaner: its rules over batches, and rounds over logs in memory.

mod filter;
mod model;
mod rounds;
