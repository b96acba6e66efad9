//! What polls, fetches and partitions may still return.

use crate::consumer::env::ConsumerEnv;
use crate::consumer::reading::{Unpack, WalkResult};
use crate::consumer::subscription::Fetch;
use std::collections::VecDeque;

/// What one fetch may still return of all its partitions: those whose fetch was begun in one poll.
/// A broker of Kafka fills a response in the same way.
#[derive(Debug)]
pub(super) struct FetchLeft {
    /// The place of its first partition in the order of beginning.
    pub first_place: u64,
    /// `fetch.max.bytes` less what was returned.
    pub bytes: usize,
    /// Something was returned: from there on a batch has to fit into what is left.
    pub returned: bool,
}

impl FetchLeft {
    pub fn spend(&mut self, walked: &WalkResult, moved: bool) {
        self.bytes = self.bytes.saturating_sub(walked.bytes);
        self.returned |= moved;
    }
}

/// The accounts of the fetch that a place belongs to.
pub(super) fn left_at(left: &mut VecDeque<FetchLeft>, place: u64) -> &mut FetchLeft {
    let after = match left.len() {
        0 | 1 => 1,
        _ => left.partition_point(|fetch| fetch.first_place <= place),
    };
    if left.is_empty() {
        left.push_back(FetchLeft { first_place: place, bytes: 0, returned: false });
    }
    &mut left[after.saturating_sub(1)]
}

/// What one poll may still return.
pub(super) struct Budget<'a> {
    pub env: &'a ConsumerEnv,
    pub records: usize,
    pub bytes: usize,
    pub returned_bytes: bool,
    pub unpack: Unpack,
}

impl Budget<'_> {
    pub fn is_spent(&self) -> bool {
        self.records == 0 || (self.bytes == 0 && self.returned_bytes)
    }

    pub fn spend(&mut self, walked: &WalkResult) {
        self.records -= walked.records;
        self.bytes = self.bytes.saturating_sub(walked.bytes);
        self.returned_bytes |= walked.records > 0;
    }
}

impl Fetch {
    /// Goes on behind what was walked over.
    pub fn spend(&mut self, walked: &WalkResult) {
        self.from = walked.position;
        self.bytes_left = self.bytes_left.saturating_sub(walked.bytes);
        self.returned = true;
    }
}
