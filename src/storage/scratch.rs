//! Zeroed memory of a fixed size for what is looked into at random, and kept nowhere.

use std::ops::{Deref, DerefMut};

use memmap2::{MmapMut, MmapOptions};

/// From here on memory is a mapping of its own, in huge pages where the system gives them: at
/// each look into many small ones the processor has to find out first where the page is.
const MAPPED_BYTES_MIN: usize = 4 << 20;

/// Memory of a fixed size, all zeros at first.
#[derive(Debug)]
pub(crate) enum ScratchMemory {
    Heap(Vec<u8>),
    Mapped(MmapMut),
}

impl ScratchMemory {
    pub fn zeroed(bytes: usize) -> ScratchMemory {
        match Self::mapped(bytes) {
            Some(map) => ScratchMemory::Mapped(map),
            None => ScratchMemory::Heap(vec![0; bytes]),
        }
    }

    fn mapped(bytes: usize) -> Option<MmapMut> {
        if bytes < MAPPED_BYTES_MIN || cfg!(miri) {
            return None;
        }
        let map = MmapOptions::new().len(bytes).map_anon().ok()?;
        #[cfg(target_os = "linux")]
        if let Err(error) = map.advise(memmap2::Advice::HugePage) {
            tracing::debug!(%error, "no huge pages for a table in memory");
        }
        Some(map)
    }
}

impl Deref for ScratchMemory {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        match self {
            ScratchMemory::Heap(bytes) => bytes,
            ScratchMemory::Mapped(map) => map,
        }
    }
}

impl DerefMut for ScratchMemory {
    #[inline]
    fn deref_mut(&mut self) -> &mut [u8] {
        match self {
            ScratchMemory::Heap(bytes) => bytes,
            ScratchMemory::Mapped(map) => map,
        }
    }
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use super::*;

    #[test]
    fn it_is_zeros_until_it_is_written_whatever_its_size() {
        for bytes in [0, 1, MAPPED_BYTES_MIN - 1, MAPPED_BYTES_MIN, MAPPED_BYTES_MIN + 4097] {
            let mut memory = ScratchMemory::zeroed(bytes);
            assert_eq!(memory.len(), bytes);
            assert!(memory.iter().all(|byte| *byte == 0));
            if let Some(last) = memory.last_mut() {
                *last = 7;
            }
            assert_eq!(memory.last().copied(), (bytes > 0).then_some(7));
        }
    }
}
