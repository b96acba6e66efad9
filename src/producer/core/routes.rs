//! Which records of one call go to which partition: groups by partition, for which the allocator is
//! asked a few times a call, and not for each record or each group.

use crate::producer::batch::PartitionQueue;
use crate::producer::future::SendFuture;
use crate::record::{BATCH_OVERHEAD, RecordInput};
use crate::sync::Arc;
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::ops::Range;

/// The records of a call, by partition.
pub(super) struct Routes {
    /// How many records there are.
    count: usize,
    groups: Vec<Group>,
    /// Groups by the address of their queue, once there are two.
    known: HashMap<usize, usize, BuildHasherDefault<AddressHasher>>,
    /// The group of the record before.
    last: usize,
    /// The group of each record so far, once there are two groups, or a record was refused. Those
    /// of one call fit 32 bits: each takes more memory than an address has room for otherwise.
    group_of: Vec<u32>,
    refused: Vec<(usize, SendFuture)>,
}

/// Room for so many groups is made once there are two, unless there are fewer records.
const FIRST_GROUPS: usize = 64;
/// So many groups ahead a log is asked for, and then the place of its next batch, which the log
/// knows.
const LOGS_AHEAD: usize = 8;
const PLACES_AHEAD: usize = 4;
/// No group has so high a number.
const REFUSED: u32 = u32::MAX;

/// Records of one partition.
pub(super) struct Group {
    pub queue: Arc<PartitionQueue>,
    /// What they take inside batches, at most.
    pub size_max: usize,
    count: usize,
}

/// The records of a call, those of a group one behind the other.
pub(super) enum Sorted<'a, 'r> {
    /// They came so.
    AsTheyCame(&'a [RecordInput<'r>]),
    /// Copies, and the place of each among all.
    Gathered(Vec<RecordInput<'r>>, Vec<usize>),
}

impl<'r> Sorted<'_, 'r> {
    pub fn range(&self, range: Range<usize>) -> &[RecordInput<'r>] {
        match self {
            Sorted::AsTheyCame(inputs) => inputs.get(range),
            Sorted::Gathered(inputs, _) => inputs.get(range),
        }
        .unwrap_or_default()
    }
}

impl Routes {
    pub fn new(count: usize) -> Routes {
        let (groups, group_of, refused) = (Vec::new(), Vec::new(), Vec::new());
        Routes { count, groups, known: HashMap::default(), last: 0, group_of, refused }
    }

    /// Takes the next record. `size_max`: what it takes inside a batch, at most.
    #[inline]
    pub fn add(&mut self, queue: &Arc<PartitionQueue>, place: usize, size_max: usize) {
        if self.groups.get(self.last).is_none_or(|group| !Arc::ptr_eq(&group.queue, queue)) {
            self.last = self.find(queue, place);
        }
        self.add_to_last(size_max);
    }

    /// Takes the next record, which goes where the one before went.
    #[inline]
    pub fn add_to_last(&mut self, size_max: usize) {
        if !self.group_of.is_empty() {
            self.group_of.push(u32::try_from(self.last).unwrap_or(REFUSED));
        }
        let Some(group) = self.groups.get_mut(self.last) else { return };
        group.size_max = group.size_max.saturating_add(size_max);
        group.count += 1;
    }

    /// Takes the next record, which goes nowhere.
    #[cold]
    pub fn refuse(&mut self, place: usize, future: SendFuture) {
        self.note_groups(place);
        self.group_of.push(REFUSED);
        self.refused.push((place, future));
    }

    /// From here on the group of each record is noted; those before `place` are in the first.
    #[cold]
    fn note_groups(&mut self, place: usize) {
        if self.group_of.is_empty() {
            self.group_of.reserve_exact(self.count);
            self.group_of.resize(place, 0);
        }
    }

    /// The group of a queue, a new one where there is none. Most calls are about one.
    #[inline(never)]
    fn find(&mut self, queue: &Arc<PartitionQueue>, place: usize) -> usize {
        let address = |queue: &Arc<PartitionQueue>| Arc::as_ptr(queue).addr();
        if let [only] = self.groups.as_slice() {
            let more = self.count.min(FIRST_GROUPS);
            self.known.reserve(more);
            self.known.insert(address(&only.queue), 0);
            self.groups.reserve(more);
            self.note_groups(place);
        }
        let next = self.groups.len();
        let found = match next {
            0 => 0,
            _ => *self.known.entry(address(queue)).or_insert(next),
        };
        if found == next {
            self.groups.push(Group { queue: queue.clone(), size_max: 0, count: 0 });
        }
        found
    }

    /// The groups, each with the range of its records among the sorted.
    pub fn groups(&self) -> impl Iterator<Item = (&Group, Range<usize>)> {
        self.groups.iter().scan(0, |end, group| {
            let start = *end;
            *end += group.count;
            Some((group, start..*end))
        })
    }

    /// Asks the processor for the memory that the groups behind one take: where there are many
    /// partitions, each of their logs is in no cache, and would be waited for one by one.
    #[inline]
    pub fn fetch_behind(&self, at: usize) {
        let behind = |groups: usize| self.groups.get(at + groups);
        if let Some(group) = behind(LOGS_AHEAD) {
            group.queue.log.fetch_for_append();
        }
        if let Some(group) = behind(PLACES_AHEAD) {
            group.queue.log.fetch_place(BATCH_OVERHEAD + group.size_max);
        }
    }

    /// The records, sorted by group, and as they came inside one.
    pub fn sort<'a, 'r>(&self, inputs: &'a [RecordInput<'r>]) -> Sorted<'a, 'r> {
        if self.group_of.is_empty() {
            return Sorted::AsTheyCame(inputs);
        }
        let mut next: Vec<usize> = Vec::with_capacity(self.groups.len());
        next.extend(self.groups().map(|(_, range)| range.start));
        let mut places = vec![0; self.count - self.refused.len()];
        for (place, group) in self.group_of.iter().enumerate() {
            let Some(next) = next.get_mut(*group as usize) else { continue };
            if let Some(slot) = places.get_mut(*next) {
                *slot = place;
            }
            *next += 1;
        }
        let mut gathered = Vec::with_capacity(places.len());
        gathered.extend(places.iter().filter_map(|place| inputs.get(*place)));
        Sorted::Gathered(gathered, places)
    }

    /// Brings the futures of the sorted records, and those of refused ones, into the records'
    /// order.
    pub fn in_order(self, sorted: Sorted<'_, '_>, placed: Vec<SendFuture>) -> Vec<SendFuture> {
        let Sorted::Gathered(_, mut places) = sorted else { return placed };
        let mut futures = placed;
        for (place, future) in self.refused {
            places.push(place);
            futures.push(future);
        }
        // Each swap brings one future to its place.
        for at in 0..futures.len() {
            while let Some(&place) = places.get(at).filter(|place| **place != at) {
                if place >= futures.len() {
                    break;
                }
                futures.swap(at, place);
                places.swap(at, place);
            }
        }
        futures
    }
}

/// Spreads addresses: those of one process are nobody's to choose.
#[derive(Default)]
pub(super) struct AddressHasher(u64);

impl Hasher for AddressHasher {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_usize(usize::from(*byte));
        }
    }

    #[inline]
    fn write_usize(&mut self, address: usize) {
        // The golden ratio of 64 bits, as in Fibonacci hashing: the high bits are the good ones.
        let product = (self.0 ^ address as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.0 = product ^ (product >> 32);
    }

    #[inline]
    fn finish(&self) -> u64 {
        self.0
    }
}
