//! What a broker keeps of itself: the registry of topics, the state of logs, and their bytes.

pub(in crate::broker) mod codec;
pub(in crate::broker) mod frame;
pub(in crate::broker) mod framed_file;
pub(in crate::broker) mod producer_ids;
pub(in crate::broker) mod registry;
pub(in crate::broker) mod state_codec;
pub(in crate::broker) mod state_file;
