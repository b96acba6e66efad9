//! Memory asked for before it is looked at: what a walk or an iteration comes to, what is written
//! next, values that are in no cache. Nothing here waits, and nothing is read into the program.

use super::region::{Use, fetch};

/// How far ahead of a walk, or of a writer, lines of memory are asked for: a trip to memory takes
/// about as long as passing so much.
pub(super) const FETCH_AHEAD: usize = 4096;
/// Of what is larger only the beginnings are asked for: a field is read in order, which the
/// processor sees by itself.
const READ_MAX: usize = 256;
/// How many of the large ones ahead.
const LARGE_AHEAD: usize = 4;
/// The most that is asked for at one write.
pub(super) const WRITE_MAX: usize = 8192;
/// Bytes of a line of memory.
pub(super) const LINE: usize = 64;
/// So much of a value is asked for.
const VALUE_MAX: usize = 1024;

/// Asks the processor for what a walk gets to soon, and waits for nothing. `rest` is what is left,
/// of which as much as `passed` comes at each step.
///
/// Batches and records say where the next one lies, which the processor cannot see: without this,
/// a reader waits for memory at each of them, for twice the time that it takes to read it all.
#[inline(always)]
pub fn fetch_ahead(rest: &[u8], passed: usize) {
    fetch_ahead_into(rest, rest.len(), &[], passed);
}

/// [`fetch_ahead`] where `left` bytes are read from the beginning of `rest` on, and `next` behind
/// them. What lies behind both is not asked for: where nothing is mapped, the question alone is a
/// walk through the page tables.
#[inline(always)]
pub fn fetch_ahead_into(rest: &[u8], left: usize, next: &[u8], passed: usize) {
    let from = rest.as_ptr();
    if passed > READ_MAX {
        let ahead = passed.saturating_mul(LARGE_AHEAD);
        if ahead < left {
            fetch(from.wrapping_add(ahead), Use::Read);
        }
        return;
    }
    let (from, mut at, len) = match left > FETCH_AHEAD {
        true => (from, FETCH_AHEAD, left),
        false => (next.as_ptr(), FETCH_AHEAD - left, next.len()),
    };
    let end = len.min(at + passed);
    while at < end {
        fetch(from.wrapping_add(at), Use::Read);
        at += LINE;
    }
}

/// Asks the processor for a value that is looked at soon, as far as it is not large, and waits for
/// nothing.
#[inline]
pub(crate) fn fetch_value<T>(value: &T) {
    fetch_part(value, 0, size_of::<T>().min(VALUE_MAX));
}

/// The same of `len` bytes of a value, from its byte `at` on.
#[inline(always)]
pub(crate) fn fetch_part<T>(value: &T, at: usize, len: usize) {
    let start = std::ptr::from_ref(value).cast::<u8>().wrapping_add(at);
    let mut at = 0;
    while at < len {
        fetch(start.wrapping_add(at), Use::Read);
        at += LINE;
    }
}
