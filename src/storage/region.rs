//! Mapped memory with one writer and many readers: the unsafe code of the crate, beside the
//! handler of faults in `guard`.
//!
//! The contract, which every `SAFETY` argument below refers to:
//! 1. Memory is obtained once, `capacity` bytes, all initialized; it never moves or shrinks while
//!    a [`Region`], a [`RegionWriter`] or a slice of it lives.
//! 2. `published <= prepared <= capacity`. `published` only grows. `prepared` shrinks only while
//!    there is no writer, and never below `published`.
//! 3. Bytes below `published` are never written again. Readers get slices only of those, below a
//!    border loaded with Acquire; no `&mut [u8]` is ever made.
//! 4. Bytes in `published..prepared` are touched only by whoever holds the writer slot: the one
//!    [`RegionWriter`], or a call that holds the slot's lock while there is none.
//!
//! What cannot be promised: another process, or another mapping of the same file, that writes to
//! it. The directory lock keeps honest programs out. A page that cannot be had, because the file
//! was cut or its disk is gone, is replaced by anonymous memory where `guard` answers for it:
//! bytes that a reader was given change only in pages that could not be read any more.

#![allow(unsafe_code)]

use super::ahead::{FETCH_AHEAD, LINE, WRITE_MAX, fetch_value};
use super::guard::{Faults, Registration, reading};
use super::{busy, invalid};
use crate::sync::{Arc, AtomicUsize, Mutex, OnceLock, Ordering};
use memmap2::{MmapOptions, MmapRaw};
use std::alloc::Layout;
use std::fmt;
use std::io;
use std::ops::Range;
use std::path::Path;
use std::ptr::NonNull;

/// Above this size anonymous memory is mapped instead of allocated, so that a segment of 1 GiB
/// costs what is written of it. Below, the allocator is faster and its red zones help sanitizers.
const ANONYMOUS_MAP_BYTES: usize = 1 << 20;

/// Alignment of allocated memory. The system allocator hands out zeroed pages without touching
/// them only up to this alignment.
const HEAP_ALIGN: usize = 16;

/// The smallest pages that there are: a byte of each is enough to know of all.
const PAGE_BYTES_MIN: usize = 4096;

/// Sees every change of a region, in order, for the simulator.
pub(crate) trait Trace: Send + Sync + fmt::Debug {
    /// `bytes` were written at `at`.
    fn wrote(&self, at: usize, bytes: &[u8]);
    /// `len` bytes from `at` were set to zero.
    fn zeroed(&self, at: usize, len: usize);
}

/// A counter that goes down when its owner is dropped.
#[derive(Debug)]
pub(super) struct Counted(Arc<AtomicUsize>);

impl Counted {
    pub(super) fn new(counter: &Arc<AtomicUsize>) -> Counted {
        counter.fetch_add(1, Ordering::Relaxed);
        Counted(Arc::clone(counter))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The memory that a region's bytes live in.
enum Memory {
    /// A mapped file, or anonymous memory.
    Map { map: MmapRaw, _count: Option<Counted> },
    /// The allocator's.
    Heap { base: NonNull<u8>, layout: Layout },
    /// Nothing.
    Empty,
}

impl Memory {
    fn zeroed(capacity: usize) -> io::Result<Memory> {
        if capacity == 0 {
            return Ok(Memory::Empty);
        }
        if capacity >= ANONYMOUS_MAP_BYTES && !cfg!(miri) {
            let map = MmapOptions::new().len(capacity).no_reserve_swap().map_anon()?;
            return Ok(Memory::Map { map: MmapRaw::from(map), _count: None });
        }
        let layout = Layout::from_size_align(capacity, HEAP_ALIGN)
            .map_err(|_| invalid("a region larger than the address space"))?;
        // SAFETY: the layout has a size above 0, checked at the head of this function.
        let base = unsafe { std::alloc::alloc_zeroed(layout) };
        let base = NonNull::new(base).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Memory::Heap { base, layout })
    }

    fn base(&self) -> *mut u8 {
        match self {
            Memory::Map { map, .. } => map.as_mut_ptr(),
            Memory::Heap { base, .. } => base.as_ptr(),
            Memory::Empty => NonNull::dangling().as_ptr(),
        }
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        if let Memory::Heap { base, layout } = self {
            // SAFETY: `zeroed` allocated `base` with this very layout, and nobody else frees it;
            // slices borrow from the owner of this value, so none is left.
            unsafe { std::alloc::dealloc(base.as_ptr(), *layout) }
        }
    }
}

struct Inner {
    /// Where faults are answered for. It stands before the memory, and so is dropped before it.
    registration: OnceLock<Registration>,
    faults: Faults,
    memory: Memory,
    /// Where the memory begins.
    base: *mut u8,
    capacity: usize,
    /// Readers may see the bytes below.
    published: AtomicUsize,
    /// The writer may touch the bytes below.
    prepared: AtomicUsize,
    /// Above this nothing was ever written: spares zeroing memory that is zero.
    written: AtomicUsize,
    slot: Mutex<Slot>,
    trace: Option<Arc<dyn Trace>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Slot {
    Free,
    Taken,
    /// Mapped for reading only.
    Never,
}

// SAFETY: the raw pointers inside lead to memory that this value owns (contract 1). All access
// follows contract 3 and 4: shared access is to immutable bytes, and the rest belongs to one
// holder of the slot at a time, handed over by the slot's lock.
unsafe impl Send for Inner {}
// SAFETY: as above.
unsafe impl Sync for Inner {}

/// Mapped memory of one file: cheap to clone, and alive as long as one clone is.
///
/// # Examples
/// ```
/// use std::path::Path;
/// use topiclite::storage::{Heap, Storage};
/// let file = Heap::new().create(Path::new("/a.log"), 4096, 1024).unwrap();
/// let region = file.region().unwrap();
/// let mut writer = region.writer().unwrap();
/// writer.write(0, b"hello");
/// assert_eq!(region.published(), 0);
/// writer.publish(5);
/// assert_eq!(region.read(0..5), b"hello");
/// assert!(region.writer().is_none(), "one writer at a time");
/// ```
#[derive(Clone)]
pub struct Region {
    inner: Arc<Inner>,
}

impl Region {
    fn new(
        memory: Memory,
        capacity: usize,
        borders: (usize, usize),
        slot: Slot,
        trace: Option<Arc<dyn Trace>>,
    ) -> Region {
        let (published, prepared) = borders;
        assert!(published <= prepared && prepared <= capacity, "borders of a region");
        Region {
            inner: Arc::new(Inner {
                registration: OnceLock::new(),
                faults: Faults::new(),
                base: memory.base(),
                memory,
                capacity,
                published: AtomicUsize::new(published),
                prepared: AtomicUsize::new(prepared),
                written: AtomicUsize::new(prepared),
                slot: Mutex::new(slot),
                trace,
            }),
        }
    }

    /// A mapping of a file that is read and written, of which the first `prepared` bytes exist.
    pub(super) fn mapped(map: MmapRaw, prepared: usize, count: Counted) -> Region {
        let capacity = map.len();
        let memory = Memory::Map { map, _count: Some(count) };
        Region::new(memory, capacity, (0, prepared), Slot::Free, None)
    }

    /// A mapping of a whole file that nobody writes to.
    pub(super) fn mapped_read_only(map: MmapRaw, count: Counted) -> Region {
        let len = map.len();
        let memory = Memory::Map { map, _count: Some(count) };
        Region::new(memory, len, (len, len), Slot::Never, None)
    }

    /// Has faults in this mapping of the file at `path` answered for, instead of ending the
    /// process.
    #[allow(unused_unsafe)] // Where there is no handler.
    pub(super) fn guarded(self, path: &Path) -> Region {
        let inner = &*self.inner;
        if let Memory::Map { map, .. } = &inner.memory {
            inner.registration.get_or_init(|| {
                // SAFETY: the memory is a mapping of `map.len()` bytes. It, `faults` and
                // `published` stay where they are while `inner`, which is shared and pinned by
                // its `Arc`, lives; the registration is its first field, and dropped first.
                unsafe {
                    Registration::new(inner.base, map.len(), &inner.faults, &inner.published, path)
                }
            });
        }
        self
    }

    /// Runs `body`, which reads published bytes. `None` if bytes could not be read, before
    /// [`Region::lost_from`] moved: `body` took zeros for them.
    #[inline]
    #[allow(unused_unsafe)] // Where there is no handler.
    pub fn reading<T>(&self, body: impl FnOnce() -> T) -> Option<T> {
        if self.inner.registration.get().is_none() {
            return Some(body());
        }
        let before = self.lost_from();
        // SAFETY: the mapping lives as long as the borrow of `self`.
        let (out, faulted) = unsafe { reading(self.inner.base, body) };
        (!faulted && before == self.lost_from()).then_some(out)
    }

    /// The position from which on bytes cannot be read any more, because the file was cut or its
    /// disk is gone; the largest there is while all can.
    #[inline]
    pub fn lost_from(&self) -> usize {
        self.inner.faults.lost_from()
    }

    /// Notes that the file ends at `len`: nothing from there on can be relied on.
    pub fn lose_from(&self, len: u64) {
        self.inner.faults.lose_from(usize::try_from(len).unwrap_or(usize::MAX));
    }

    /// Whether the bytes of `range`, which are published, can all be read at this moment: one of
    /// each page is.
    pub fn touch(&self, range: Range<usize>) -> bool {
        if self.inner.registration.get().is_none() || range.is_empty() {
            return true;
        }
        let read = self.reading(|| {
            let bytes = self.read(range.clone());
            let mut sum = 0u8;
            for at in (0..bytes.len()).step_by(PAGE_BYTES_MIN) {
                sum ^= bytes.get(at).copied().unwrap_or(0);
            }
            std::hint::black_box(sum ^ bytes.last().copied().unwrap_or(0))
        });
        read.is_some() && range.end <= self.lost_from()
    }

    /// Marks what the writer stored as lost, for tests of what follows.
    #[doc(hidden)]
    pub fn lose_stores(&self) {
        self.inner.faults.lose_stores();
    }

    /// No bytes at all, for an empty file.
    pub(super) fn empty() -> Region {
        Region::new(Memory::Empty, 0, (0, 0), Slot::Never, None)
    }

    /// Zeroed memory.
    pub(super) fn zeroed(
        capacity: usize,
        prepared: usize,
        trace: Option<Arc<dyn Trace>>,
    ) -> io::Result<Region> {
        if prepared > capacity {
            return Err(invalid("more prepared bytes than the region has"));
        }
        let region =
            Region::new(Memory::zeroed(capacity)?, capacity, (0, prepared), Slot::Free, trace);
        // Relaxed: nobody else knows the region yet.
        region.inner.written.store(0, Ordering::Relaxed);
        Ok(region)
    }

    /// Memory that begins with `bytes`, all of them prepared and none published.
    pub(super) fn holding(
        bytes: &[u8],
        capacity: usize,
        trace: Option<Arc<dyn Trace>>,
    ) -> io::Result<Region> {
        let region = Region::zeroed(capacity.max(bytes.len()), bytes.len(), trace)?;
        region.with_slot(|range, base| {
            assert!(range.end == bytes.len(), "a region nobody else knows");
            // SAFETY: `base` leads to at least `bytes.len()` bytes, allocated a moment ago and so
            // apart from `bytes`; the slot is held (contract 4).
            unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), base, bytes.len()) }
        })?;
        region.inner.written.store(bytes.len(), Ordering::Relaxed);
        Ok(region)
    }

    /// Size of the mapping in bytes.
    pub fn capacity(&self) -> usize {
        self.inner.capacity
    }

    /// A copy of `bytes`, all of them published, that nobody writes to.
    pub(super) fn copied(bytes: &[u8]) -> io::Result<Region> {
        let region = Region::holding(bytes, bytes.len(), None)?;
        region.inner.published.store(bytes.len(), Ordering::Release);
        *region.inner.slot.lock() = Slot::Never;
        Ok(region)
    }

    /// How many bytes readers may see.
    #[inline]
    pub fn published(&self) -> usize {
        // Acquire: pairs with the Release in `RegionWriter::publish`.
        self.inner.published.load(Ordering::Acquire)
    }

    /// How many bytes are backed by the file, so that the writer may touch them.
    #[inline]
    pub fn prepared(&self) -> usize {
        // Acquire: pairs with the Release in `set_prepared`.
        self.inner.prepared.load(Ordering::Acquire)
    }

    /// The bytes of `range`, which lie below the published border.
    ///
    /// # Panics
    /// If they do not: reading on would be undefined behaviour.
    #[inline]
    pub fn read(&self, range: Range<usize>) -> &[u8] {
        let published = self.published();
        if range.start > range.end || range.end > published {
            outside("read", &range, 0, published);
        }
        // SAFETY: `range.end <= published <= capacity`, so the pointer stays inside (contract 2).
        let start = unsafe { self.inner.base.add(range.start) };
        // SAFETY: the bytes are initialized (contract 1), below a border loaded with Acquire and
        // so never written again (contract 3); the slice borrows `self`, which keeps the memory.
        unsafe { std::slice::from_raw_parts(start, range.end - range.start) }
    }

    /// The one writer. `None` while another is alive, and for a region that is only read.
    pub fn writer(&self) -> Option<RegionWriter> {
        let mut slot = self.inner.slot.lock();
        if *slot != Slot::Free {
            return None;
        }
        *slot = Slot::Taken;
        drop(slot);
        Some(RegionWriter {
            base: self.inner.base,
            published: self.published(),
            prepared: self.prepared(),
            written: 0,
            trace: self.inner.trace.clone(),
            region: self.clone(),
        })
    }

    /// Moves the prepared border up to `len`: the bytes below exist and read as zeros, or as what
    /// was written.
    pub(super) fn set_prepared(&self, len: usize) -> io::Result<()> {
        if len > self.capacity() {
            return Err(invalid("beyond the mapping"));
        }
        // Release: pairs with the Acquire in `prepared`; the file has the bytes before the writer
        // touches them.
        self.inner.prepared.fetch_max(len, Ordering::Release);
        Ok(())
    }

    /// Moves the prepared border down to `len` and runs `cut` while nobody can become the writer.
    /// In memory that no file backs, what is cut off is zeroed, so that growing gives zeros.
    pub(super) fn cut(&self, len: usize, cut: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        let slot = self.inner.slot.lock();
        if *slot == Slot::Taken {
            return Err(busy());
        }
        if len < self.published() {
            return Err(invalid("published bytes are never cut off"));
        }
        cut()?;
        let file_backs_it = matches!(self.inner.memory, Memory::Map { _count: Some(_), .. });
        let written = self.inner.written.load(Ordering::Relaxed).min(self.prepared());
        if written > len && !file_backs_it {
            // SAFETY: `len <= written <= capacity` (contract 2).
            let start = unsafe { self.inner.base.add(len) };
            // SAFETY: the bytes are above `published`, and there is no writer while the slot's
            // lock is held (contract 4).
            unsafe { std::ptr::write_bytes(start, 0, written - len) }
            self.inner.written.store(len, Ordering::Relaxed);
        }
        self.inner.prepared.fetch_min(len, Ordering::Release);
        drop(slot);
        Ok(())
    }

    /// Copies bytes from `at` on into `out`, for memory that no file backs: what is published,
    /// and what lies above it if there is no writer; else zeros up to the prepared border.
    pub(super) fn copy_out(&self, at: usize, out: &mut [u8]) -> usize {
        let prepared = self.prepared();
        let count = out.len().min(prepared.saturating_sub(at));
        let out = &mut out[..count];
        let whole = self.with_slot(|range, base| {
            let end = (at + count).min(range.end);
            let from = at.min(end);
            // SAFETY: `from <= end <= prepared <= capacity` (contract 2).
            let start = unsafe { base.add(from) };
            // SAFETY: `out` is exclusive memory of the caller; the source is readable while the
            // slot is held, since nobody writes meanwhile (contract 4).
            unsafe { std::ptr::copy_nonoverlapping(start, out.as_mut_ptr(), end - from) }
        });
        if whole.is_err() {
            let published = self.published();
            let visible = self.read(at.min(published)..(at + count).min(published));
            out[..visible.len()].copy_from_slice(visible);
            out[visible.len()..].fill(0);
        }
        count
    }

    /// Whether every prepared byte is published and nobody is writing.
    pub(super) fn is_sealed(&self) -> bool {
        self.is_free() && self.published() == self.prepared()
    }

    /// Whether there is no writer.
    pub(super) fn is_free(&self) -> bool {
        *self.inner.slot.lock() != Slot::Taken
    }

    /// Runs `body` with the prepared range and the base of the memory while nobody writes.
    fn with_slot(&self, body: impl FnOnce(Range<usize>, *mut u8)) -> io::Result<()> {
        let slot = self.inner.slot.lock();
        if *slot == Slot::Taken {
            return Err(busy());
        }
        body(0..self.prepared(), self.inner.base);
        drop(slot);
        Ok(())
    }

    /// Has the operating system make the pages of the published part of `range` readable, which
    /// costs less than a fault for each few. Where it cannot, the faults are left to tell.
    pub fn prefetch(&self, range: Range<usize>) {
        let end = range.end.min(self.published());
        if let Memory::Map { map, .. } = &self.inner.memory
            && range.start < end
        {
            prefetch(map, range.start, end - range.start);
        }
    }

    /// Asks the processor for the borders, which a reader looks at first.
    #[inline]
    pub(crate) fn fetch_borders(&self) {
        fetch_value(&*self.inner);
    }

    /// Asks the processor for the bytes of a header from `at` on; `all`: for as many as a walk asks
    /// for ahead.
    #[inline]
    pub(crate) fn fetch_bytes(&self, at: usize, all: bool) {
        let from = self.inner.base.cast_const().wrapping_add(at);
        let len = if all { FETCH_AHEAD } else { 2 * LINE };
        (0..len).step_by(LINE).for_each(|line| fetch(from.wrapping_add(line), Use::Read));
    }

    /// Has the operating system make the pages of `range`, which the file has, writable.
    pub(super) fn populate(&self, range: Range<usize>) -> io::Result<()> {
        match &self.inner.memory {
            Memory::Map { map, .. } if !range.is_empty() && range.end <= self.capacity() => {
                populate(map, range.start, range.end - range.start)
            }
            _ => Ok(()),
        }
    }
}

/// Content is not changed by this, so it may run beside the writer.
#[cfg(target_os = "linux")]
fn populate(map: &MmapRaw, at: usize, len: usize) -> io::Result<()> {
    use rustix::io::Errno;
    match map.advise_range(memmap2::Advice::PopulateWrite, at, len) {
        // EINVAL: a kernel before 5.14. EFAULT: the file was cut in the meantime.
        Err(error)
            if [Errno::INVAL, Errno::FAULT]
                .map(|e| Some(e.raw_os_error()))
                .contains(&error.raw_os_error()) =>
        {
            Ok(())
        }
        other => other,
    }
}

#[cfg(not(target_os = "linux"))]
fn populate(_: &MmapRaw, _: usize, _: usize) -> io::Result<()> {
    Ok(())
}

/// Reading changes nothing, so it may run beside all others. Kernels before 5.14 do not know it.
#[cfg(target_os = "linux")]
fn prefetch(map: &MmapRaw, at: usize, len: usize) {
    drop(map.advise_range(memmap2::Advice::PopulateRead, at, len));
}

#[cfg(not(target_os = "linux"))]
fn prefetch(_: &MmapRaw, _: usize, _: usize) {}

impl fmt::Debug for Region {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Region")
            .field("capacity", &self.capacity())
            .field("published", &self.published())
            .field("prepared", &self.prepared())
            .finish_non_exhaustive()
    }
}

/// The one writer of a [`Region`]; dropping it lets another be made.
pub struct RegionWriter {
    base: *mut u8,
    /// The border as this writer, the only one to move it, left it.
    published: usize,
    /// A lower bound of the prepared border, which does not shrink while this writer lives.
    prepared: usize,
    /// End of the highest write.
    written: usize,
    trace: Option<Arc<dyn Trace>>,
    region: Region,
}

// SAFETY: `base` leads to memory that `region` keeps alive; the writer is the only holder of the
// slot (contract 4), on whichever thread it is.
unsafe impl Send for RegionWriter {}
// SAFETY: a shared reference only gives `bytes`, which reads while `&mut self` is excluded.
unsafe impl Sync for RegionWriter {}

impl RegionWriter {
    /// Asks the processor for the memory that is written some way behind `at`, `len` bytes of it,
    /// and waits for nothing. Pages that another thread prepared are in its processor's cache:
    /// without this, a writer waits for every line.
    #[inline]
    pub fn fetch_ahead(&self, at: usize, len: usize) {
        self.fetch(at.saturating_add(FETCH_AHEAD), len);
    }

    /// Asks the processor for the memory from `at` on, which is written soon, `len` bytes of it,
    /// and waits for nothing.
    #[inline]
    pub fn fetch(&self, at: usize, len: usize) {
        let from = self.base.cast_const().wrapping_add(at);
        let mut line = 0;
        while line < len.min(WRITE_MAX) {
            fetch(from.wrapping_add(line), Use::Write);
            line += LINE;
        }
    }

    /// Writes `bytes` at `at`: above the published border, below the prepared one.
    ///
    /// # Panics
    /// If it does not fit there: writing on would change what readers see, or kill the process.
    #[inline]
    pub fn write(&mut self, at: usize, bytes: &[u8]) {
        self.admit(at, bytes.len());
        // SAFETY: `admit` proved `at + bytes.len() <= prepared <= capacity` (contract 2).
        let to = unsafe { self.base.add(at) };
        // SAFETY: the target is above `published`, so no reader holds it (contract 3), and this
        // is the only writer (contract 4). `bytes` is a live slice and so cannot overlap it: of
        // this region, slices are published bytes or borrow this writer.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), to, bytes.len()) }
        self.written = self.written.max(at + bytes.len());
        if let Some(trace) = &self.trace {
            trace.wrote(at, bytes);
        }
    }

    /// Writes numbers, the highest byte first, each at its place behind `at`, as
    /// [`RegionWriter::write`] writes bytes. They go from registers to their places: fields that
    /// were put together in memory before would be read from there while they are being stored.
    /// Where two overlap they have to agree. `len` is where the last one ends.
    ///
    /// # Panics
    /// As [`RegionWriter::write`], and if a number does not lie within `len`.
    #[inline(always)]
    pub fn write_numbers<const N: usize>(
        &mut self,
        at: usize,
        len: usize,
        numbers: [(usize, u64); N],
    ) {
        self.admit(at, len);
        for (place, number) in numbers {
            assert!(len >= size_of::<u64>() && place <= len - size_of::<u64>());
            // SAFETY: `admit` proved `at + len <= prepared <= capacity` (contract 2), and the
            // number ends at `at + len` or before.
            let to = unsafe { self.base.add(at + place) };
            // SAFETY: the target is above `published`, so no reader holds it (contract 3), and
            // this is the only writer (contract 4). Eight bytes from there on are inside, see
            // above, and arrays of bytes need no alignment.
            unsafe { to.cast::<[u8; 8]>().write(number.to_be_bytes()) }
        }
        self.written = self.written.max(at + len);
        if let Some(trace) = &self.trace {
            trace.wrote(at, self.bytes(at..at + len));
        }
    }

    /// Sets the bytes of `range` to zero, under the conditions of [`RegionWriter::write`].
    ///
    /// # Panics
    /// As [`RegionWriter::write`].
    pub fn zero(&mut self, range: Range<usize>) {
        let len = range.end.saturating_sub(range.start);
        self.admit(range.start, len);
        // SAFETY: `admit` proved that the range lies inside (contract 2).
        let to = unsafe { self.base.add(range.start) };
        // SAFETY: no reader holds the target (contract 3), and this is the only writer.
        unsafe { std::ptr::write_bytes(to, 0, len) }
        self.written = self.written.max(range.start + len);
        if let Some(trace) = &self.trace {
            trace.zeroed(range.start, len);
        }
    }

    /// Lets readers see all bytes below `len`. The border never goes back: a smaller `len`
    /// changes nothing.
    ///
    /// # Panics
    /// If `len` is above the prepared border.
    #[inline]
    pub fn publish(&mut self, len: usize) {
        if len <= self.published {
            return;
        }
        self.admit(self.published, len - self.published);
        self.published = len;
        // Release: pairs with the Acquire in `Region::published`; the bytes come first.
        self.region.inner.published.store(len, Ordering::Release);
    }

    /// The bytes of `range`, published or not.
    ///
    /// # Panics
    /// If they are not below the prepared border.
    pub fn bytes(&self, range: Range<usize>) -> &[u8] {
        let prepared = self.region.prepared();
        if range.start > range.end || range.end > prepared {
            outside("bytes", &range, 0, prepared);
        }
        // SAFETY: `range.end <= prepared <= capacity` (contract 2).
        let start = unsafe { self.base.add(range.start) };
        // SAFETY: all bytes are initialized (contract 1). Only this writer writes (contract 4),
        // and it needs `&mut self`, which the slice's borrow of `self` excludes.
        unsafe { std::slice::from_raw_parts(start, range.end - range.start) }
    }

    /// Whether a store did not get to the file, because its disk has no room for it or is gone,
    /// or the file was cut: nothing may be published, and nothing more written. Says
    /// [`super::File::store_error`] why.
    #[inline]
    pub fn has_failed(&self) -> bool {
        self.region.inner.faults.has_lost_stores()
    }

    /// The published border.
    #[inline]
    pub fn published(&self) -> usize {
        self.published
    }

    /// The prepared border.
    #[inline]
    pub fn prepared(&mut self) -> usize {
        self.prepared = self.region.prepared();
        self.prepared
    }

    /// The region that this writes to.
    pub fn region(&self) -> &Region {
        &self.region
    }

    /// Panics unless `at..at + len` lies between the borders.
    #[inline]
    fn admit(&mut self, at: usize, len: usize) {
        // Written so that nothing overflows: `prepared - at` only where `at <= prepared`.
        let fits = at <= self.prepared && len <= self.prepared - at;
        if at < self.published || !fits {
            self.admit_slowly(at, len);
        }
    }

    /// The prepared border may have moved since it was looked at.
    #[cold]
    fn admit_slowly(&mut self, at: usize, len: usize) {
        let prepared = self.prepared();
        if at < self.published || at > prepared || len > prepared - at {
            outside("write", &(at..at.saturating_add(len)), self.published, prepared);
        }
    }
}

impl Drop for RegionWriter {
    fn drop(&mut self) {
        let mut slot = self.region.inner.slot.lock();
        self.region.inner.written.fetch_max(self.written, Ordering::Relaxed);
        *slot = Slot::Free;
    }
}

impl fmt::Debug for RegionWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("RegionWriter").field(&self.region).finish()
    }
}

#[cold]
#[inline(never)]
fn outside(what: &str, range: &Range<usize>, low: usize, high: usize) -> ! {
    panic!("{what} of {range:?}, outside {low}..{high}");
}

/// The use that a line of memory is asked for.
pub(super) enum Use {
    Read,
    Write,
}

/// Asks for the line at this address, be there one or not.
#[inline(always)]
pub(super) fn fetch(line: *const u8, wanted: Use) {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    // SAFETY: a prefetch reads nothing into the program and does not fault, whatever the address;
    // its instructions are part of x86_64, or do nothing where they are not known.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_ET0, _MM_HINT_T0, _mm_prefetch};
        match wanted {
            Use::Read => _mm_prefetch::<_MM_HINT_T0>(line.cast()),
            Use::Write => _mm_prefetch::<_MM_HINT_ET0>(line.cast()),
        }
    }
    #[cfg(not(all(target_arch = "x86_64", not(miri))))]
    let _ = (line, wanted);
}

#[cfg(test)]
mod tests;
