//! The opened directory of topics: what exists, who appends, what happens in the background.

mod codec;
mod journal;
mod registry;
mod state_codec;
mod state_file;
