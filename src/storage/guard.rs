//! What keeps a fault in mapped memory from ending the process: the handler of SIGBUS.
//!
//! The operating system raises SIGBUS where a mapped page cannot be had: the file was cut, its
//! disk is gone, or a copy-on-write file system has no room. The handler answers only for regions
//! that are registered here, and there only for two kinds of access: a store above the published
//! border, which nobody but the region's writer makes, and a read inside [`reading`]. It marks the
//! region, puts anonymous memory in the place of the page, and the interrupted code goes on to
//! the check that finds the mark. Every other SIGBUS goes to the handler that was there before;
//! one in bytes that a reader was given says which file they are of first.
//!
//! Inside the handler nothing allocates, locks or waits: it walks over a table that only grows,
//! and makes system calls that touch no state of the C library. The atomics are the standard
//! library's on purpose: a handler is no thread that a model could run.

#![allow(unsafe_code)]

use crate::sync::{AtomicUsize as Border, Mutex};
use libc::{c_int, c_void, sigaction, siginfo_t};
use std::cell::Cell;
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::ptr::{null, null_mut};
use std::sync::Once;
use std::sync::atomic::{
    AtomicBool, AtomicI32, AtomicPtr, AtomicUsize, Ordering, compiler_fence, fence,
};

/// Regions in one part of the table.
const SLOTS: usize = 256;
/// Runs of neighbouring pages that one section of reads may lose and have taken back each by
/// itself. Where it loses more, what lies between the last of them is taken with them.
const RUNS: usize = 32;

/// The part of a region that faults left.
#[derive(Debug)]
pub(super) struct Faults {
    /// A store did not get to the file.
    store: AtomicBool,
    /// Nothing from here on can be read.
    lost_from: AtomicUsize,
}

impl Faults {
    pub const fn new() -> Faults {
        Faults { store: AtomicBool::new(false), lost_from: AtomicUsize::new(usize::MAX) }
    }

    /// Whether a store of this thread, or an earlier one, did not get to the file.
    #[inline]
    pub fn has_lost_stores(&self) -> bool {
        // The handler runs in the middle of this thread: only the compiler could move the stores
        // behind the look. Relaxed: the marks that others set come with the lock of the writer,
        // or are the business of the next sync.
        compiler_fence(Ordering::SeqCst);
        self.store.load(Ordering::Relaxed)
    }

    /// The position from which on nothing can be read; the largest there is while all can.
    #[inline]
    pub fn lost_from(&self) -> usize {
        // Acquire: whoever read the zeros of a page that was put in place also sees the mark,
        // which was set before.
        self.lost_from.load(Ordering::Acquire)
    }

    /// Marks what lies from here on as lost.
    pub fn lose_from(&self, at: usize) {
        self.lost_from.fetch_min(at, Ordering::SeqCst);
    }

    /// Marks the stores as lost.
    pub fn lose_stores(&self) {
        self.store.store(true, Ordering::SeqCst);
    }
}

/// A region as the handler knows it.
struct Entry {
    faults: *const Faults,
    published: *const Border,
    path: Box<[u8]>,
}

/// A place in the table. `start` is 0 while it is free; it is set last and cleared first.
struct Slot {
    start: AtomicUsize,
    end: AtomicUsize,
    entry: AtomicPtr<Entry>,
}

impl Slot {
    const fn free() -> Slot {
        Slot {
            start: AtomicUsize::new(0),
            end: AtomicUsize::new(0),
            entry: AtomicPtr::new(null_mut()),
        }
    }
}

/// A part of the table; parts are never freed.
struct Part {
    slots: [Slot; SLOTS],
    next: AtomicPtr<Part>,
}

impl Part {
    const fn new() -> Part {
        Part { slots: [const { Slot::free() }; SLOTS], next: AtomicPtr::new(null_mut()) }
    }
}

static TABLE: Part = Part::new();
/// Slots that are nobody's.
static FREE: std::sync::LazyLock<Mutex<Vec<&'static Slot>>> =
    std::sync::LazyLock::new(|| Mutex::new(TABLE.slots.iter().rev().collect()));

static INSTALL: Once = Once::new();
static PAGE_BYTES: AtomicUsize = AtomicUsize::new(4096);
/// The action that was there before.
static BEFORE: AtomicPtr<sigaction> = AtomicPtr::new(null_mut());
/// A file without bytes: its pages raise SIGBUS. -1 where there is none.
static VOID: AtomicI32 = AtomicI32::new(-1);

/// A region in the table, until it is dropped: before its memory is unmapped.
pub(super) struct Registration {
    slot: &'static Slot,
    entry: *mut Entry,
}

// SAFETY: the entry is only read, by the handler, and freed by the one owner of this value.
unsafe impl Send for Registration {}
// SAFETY: as above.
unsafe impl Sync for Registration {}

impl Registration {
    /// Has the handler answer for `len` bytes from `start` on.
    ///
    /// # Safety
    /// The memory is a mapping, it stays one, and `faults` and `published` stay where they are,
    /// until the returned value is dropped.
    pub unsafe fn new(
        start: *const u8,
        len: usize,
        faults: *const Faults,
        published: *const Border,
        path: &Path,
    ) -> Registration {
        install();
        let path = path.as_os_str().as_bytes().into();
        let entry = Box::into_raw(Box::new(Entry { faults, published, path }));
        let slot = free_slot();
        slot.entry.store(entry, Ordering::Relaxed);
        slot.end.store(start.addr() + len, Ordering::Relaxed);
        // Release: whoever finds the start finds the rest.
        slot.start.store(start.addr(), Ordering::Release);
        Registration { slot, entry }
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.slot.start.store(0, Ordering::SeqCst);
        self.slot.entry.store(null_mut(), Ordering::SeqCst);
        // SAFETY: `new` made it by `Box::into_raw`. A handler that has found it runs in a thread
        // that is in the middle of an access to the region, and so holds the region: then this
        // does not run.
        drop(unsafe { Box::from_raw(self.entry) });
        FREE.lock().push(self.slot);
    }
}

impl fmt::Debug for Registration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Registration")
    }
}

/// A slot that is nobody's; the table grows where there is none.
fn free_slot() -> &'static Slot {
    let mut free = FREE.lock();
    if let Some(slot) = free.pop() {
        return slot;
    }
    let part: &'static Part = Box::leak(Box::new(Part::new()));
    let mut last = &TABLE;
    // SAFETY: parts are never freed, and what `next` leads to was a `Part` when it was stored.
    while let Some(next) = unsafe { last.next.load(Ordering::Acquire).as_ref() } {
        last = next;
    }
    last.next.store(std::ptr::from_ref(part).cast_mut(), Ordering::Release);
    free.extend(part.slots.iter().skip(1).rev());
    let [first, ..] = &part.slots;
    first
}

/// The bytes that this thread is reading.
struct Section {
    /// Where the region begins; 0 outside of any section.
    start: Cell<usize>,
    /// Pages were put in place.
    faulted: Cell<bool>,
    /// Where those pages are, as addresses from and to.
    runs: [Cell<(usize, usize)>; RUNS],
    count: Cell<usize>,
    /// The runs before this one are those of the sections around this one, which may be of other
    /// regions.
    first: Cell<usize>,
}

thread_local! {
    // Constant and without a destructor, so that the handler may look at it: nothing is made at
    // the first access.
    static SECTION: Section = const {
        Section {
            start: Cell::new(0),
            faulted: Cell::new(false),
            runs: [const { Cell::new((0, 0)) }; RUNS],
            count: Cell::new(0),
            first: Cell::new(0),
        }
    };
}

/// Runs `body`, which reads the registered region that begins at `start`. Also returns whether
/// bytes were missing: `body` read zeros for them.
///
/// The pages are taken back afterwards, so that whoever holds records of them does not read zeros.
///
/// # Safety
/// The mapping is there until this returns.
#[inline]
pub(super) unsafe fn reading<T>(start: *const u8, body: impl FnOnce() -> T) -> (T, bool) {
    SECTION.with(|section| {
        let ends = End {
            section,
            start: section.start.replace(start.addr()),
            faulted: section.faulted.replace(false),
            first: section.first.replace(section.count.get()),
        };
        compiler_fence(Ordering::SeqCst);
        let out = body();
        compiler_fence(Ordering::SeqCst);
        let faulted = section.faulted.get();
        drop(ends);
        (out, faulted)
    })
}

/// Puts back what a section found when it began, also where it ends by a panic.
struct End<'a> {
    section: &'a Section,
    start: usize,
    faulted: bool,
    first: usize,
}

impl Drop for End<'_> {
    #[inline]
    fn drop(&mut self) {
        compiler_fence(Ordering::SeqCst);
        self.section.start.set(self.start);
        if self.section.faulted.replace(self.faulted) {
            self.section.take_back();
        }
        self.section.first.set(self.first);
    }
}

impl Section {
    /// Notes a page that is put in place. Returns false where that cannot be: sections around
    /// this one have noted all that there is room for.
    fn note(&self, page: usize, page_bytes: usize) -> bool {
        self.faulted.set(true);
        let (count, end) = (self.count.get(), page + page_bytes);
        let own = count.checked_sub(1).filter(|last| *last >= self.first.get());
        let last = own.and_then(|last| self.runs.get(last));
        match (last, self.runs.get(count)) {
            (Some(last), _) if last.get().1 == page => last.set((last.get().0, end)),
            (_, Some(next)) => {
                next.set((page, end));
                self.count.set(count + 1);
            }
            // Better no page than one of zeros: whoever holds records of it is told.
            (Some(last), None) => last.set((last.get().0.min(page), last.get().1.max(end))),
            (None, None) => return false,
        }
        true
    }

    /// Has the pages of this section raise SIGBUS again.
    #[cold]
    fn take_back(&self) {
        let first = self.first.get();
        let void = void();
        for run in self.runs.iter().take(self.count.get()).skip(first) {
            let (from, to) = run.get();
            if void >= 0 {
                // SAFETY: the handler put pages in place from `from` to `to` during a section
                // whose mapping, one for the whole run, is still there (contract of `reading`), so
                // no other mapping is touched. Nothing in them can be relied on: `lost_from` is at
                // or before them.
                unsafe {
                    let flags = libc::MAP_SHARED | libc::MAP_FIXED;
                    let at = std::ptr::with_exposed_provenance_mut(from);
                    libc::mmap(at, to - from, libc::PROT_READ, flags, void, 0);
                }
            }
        }
        self.count.set(first);
    }
}

/// The file without bytes. It is made at the first call that there is a descriptor for; -1 until
/// then.
fn void() -> c_int {
    let known = VOID.load(Ordering::Relaxed);
    if known >= 0 {
        return known;
    }
    // SAFETY: a plain system call with a constant name.
    let made = unsafe { libc::memfd_create(c"topiclite-void".as_ptr(), libc::MFD_CLOEXEC) };
    match VOID.compare_exchange(-1, made, Ordering::Relaxed, Ordering::Relaxed) {
        Ok(_) => made,
        Err(known) => {
            // SAFETY: the descriptor was made a moment ago, and nobody else knows it.
            unsafe { libc::close(made) };
            known
        }
    }
}

/// Installs the handler, once in a process.
fn install() {
    INSTALL.call_once(|| {
        // SAFETY: plain system calls. `sigaction` is all zeros and integers, for which zeros are
        // valid; both pointers lead to such values. The handler does what handlers may.
        unsafe {
            if let Ok(bytes) = usize::try_from(libc::sysconf(libc::_SC_PAGESIZE)) {
                PAGE_BYTES.store(bytes, Ordering::Relaxed);
            }
            void();
            let mut before: sigaction = std::mem::zeroed();
            if libc::sigaction(libc::SIGBUS, null(), &mut before) != 0 {
                return;
            }
            BEFORE.store(Box::into_raw(Box::new(before)), Ordering::Release);
            let mut ours: sigaction = std::mem::zeroed();
            ours.sa_sigaction = handle as *const () as usize;
            ours.sa_flags =
                libc::SA_SIGINFO | libc::SA_ONSTACK | (before.sa_flags & libc::SA_RESTART);
            libc::sigemptyset(&mut ours.sa_mask);
            libc::sigaction(libc::SIGBUS, &ours, null_mut());
        }
    });
}

/// The handler.
extern "C" fn handle(signal: c_int, info: *mut siginfo_t, context: *mut c_void) {
    // SAFETY: the kernel gives a valid `info`, which has an address where the code says that a
    // page could not be had; `errno` is this thread's.
    unsafe {
        let errno = *libc::__errno_location();
        let by_access =
            matches!((*info).si_code, libc::BUS_ADRERR | libc::BUS_OBJERR | libc::BUS_MCEERR_AR);
        let address = (*info).si_addr().addr();
        let found = if by_access { find(address) } else { None };
        if let Some(found) = &found {
            if found.answer(address) {
                *libc::__errno_location() = errno;
                return;
            }
            found.tell();
        }
        hand_on(signal, info, context);
        *libc::__errno_location() = errno;
    }
}

/// A registered region that an access went to.
struct Found<'a> {
    start: usize,
    end: usize,
    entry: &'a Entry,
}

fn find<'a>(address: usize) -> Option<Found<'a>> {
    let mut part = Some(&TABLE);
    while let Some(here) = part {
        for slot in &here.slots {
            let start = slot.start.load(Ordering::Acquire);
            let end = slot.end.load(Ordering::Relaxed);
            if start == 0 || !(start..end).contains(&address) {
                continue;
            }
            let entry = slot.entry.load(Ordering::Relaxed);
            fence(Ordering::Acquire);
            // The slot may have gone to another region in between.
            if slot.start.load(Ordering::Relaxed) == start && !entry.is_null() {
                // SAFETY: the thread is in the middle of an access to this region, so it holds
                // it, and the entry with it.
                return Some(Found { start, end, entry: unsafe { &*entry } });
            }
        }
        // SAFETY: parts are never freed.
        part = unsafe { here.next.load(Ordering::Acquire).as_ref() };
    }
    None
}

impl Found<'_> {
    /// Puts memory in the place of the page, if the access is one to answer for.
    fn answer(&self, address: usize) -> bool {
        let page_bytes = PAGE_BYTES.load(Ordering::Relaxed);
        let page = address & !(page_bytes - 1);
        let at = page - self.start;
        // SAFETY: both are there while the registration is (contract of `Registration::new`).
        let (faults, published) = unsafe { (&*self.entry.faults, &*self.entry.published) };
        let published = published.load(Ordering::Acquire);
        if address - self.start >= published {
            // Only the writer comes here. What readers may see of the page stays as it is.
            faults.lose_stores();
            let keep = published.saturating_sub(at).min(page_bytes);
            let Some(whole) = put(page, page_bytes, keep) else { return false };
            if !whole {
                faults.lose_from(at);
            }
            // Nothing is published behind it any more: the rest of the stores goes nowhere, too.
            put_rest(page + page_bytes, self.end);
            return true;
        }
        SECTION.with(|section| {
            if section.start.get() != self.start {
                return false;
            }
            // The marks come first: whoever reads a zero of the new page finds them.
            faults.lose_from(at);
            if at + page_bytes > published {
                faults.lose_stores();
            }
            section.note(page, page_bytes) && put(page, page_bytes, 0).is_some()
        })
    }

    /// Says whose bytes are gone.
    fn tell(&self) {
        let parts: [&[u8]; 3] = [
            b"topiclite: records that this process holds cannot be read any more: ",
            &self.entry.path,
            b" was cut by another program, or its disk failed\n",
        ];
        let vectors = parts.map(|part| libc::iovec {
            iov_base: part.as_ptr().cast_mut().cast(),
            iov_len: part.len(),
        });
        // SAFETY: the vectors lead to bytes that live as long as this call, which reads them.
        unsafe { libc::writev(libc::STDERR_FILENO, vectors.as_ptr(), 3) };
    }
}

/// Puts zeroed memory at `page`, with the first `keep` bytes of what is there, in one step for
/// whoever reads them meanwhile. Returns whether these could be read; `None` if there is no memory.
fn put(page: usize, page_bytes: usize, keep: usize) -> Option<bool> {
    // SAFETY: a new mapping of one page, apart from all others, is filled and then moved over a
    // page of a region, which is mapped (contract of `Registration::new`). The system calls get
    // lengths that both pages have.
    unsafe {
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        let fresh = libc::mmap(null_mut(), page_bytes, protection, flags, -1, 0);
        if fresh == libc::MAP_FAILED {
            return None;
        }
        let at: *mut c_void = std::ptr::with_exposed_provenance_mut(page);
        // Not by loads: the page may be one that cannot be read.
        let local = libc::iovec { iov_base: fresh, iov_len: keep };
        let remote = libc::iovec { iov_base: at, iov_len: keep };
        let copied = match keep {
            0 => 0,
            _ => libc::process_vm_readv(libc::getpid(), &local, 1, &remote, 1, 0),
        };
        let moved = libc::mremap(
            fresh,
            page_bytes,
            page_bytes,
            libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED,
            at,
        );
        if moved == libc::MAP_FAILED {
            libc::munmap(fresh, page_bytes);
            return None;
        }
        Some(usize::try_from(copied) == Ok(keep))
    }
}

/// Puts zeroed memory from one address to another. Where there is none, the pages fault one by one.
fn put_rest(from: usize, to: usize) {
    if from < to {
        // SAFETY: the pages are those of a region above its published border, so nobody but the
        // interrupted writer uses them, and it takes zeros for what it did not write yet.
        unsafe {
            let protection = libc::PROT_READ | libc::PROT_WRITE;
            let flags =
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED | libc::MAP_NORESERVE;
            let at = std::ptr::with_exposed_provenance_mut(from);
            libc::mmap(at, to - from, protection, flags, -1, 0);
        }
    }
}

/// Does what would have been done without this handler.
///
/// # Safety
/// The arguments are those of a handler that is running.
unsafe fn hand_on(signal: c_int, info: *mut siginfo_t, context: *mut c_void) {
    // SAFETY: `install` stored it before it installed the handler, and it is never freed. The
    // addresses in it are those of functions with the signature that its flags say, or one of the
    // two constants. The mask that is changed is put back when the handler returns.
    unsafe {
        let before = BEFORE.load(Ordering::Acquire);
        let by_kernel = (*info).si_code > 0;
        let (handler, flags) = match before.as_ref() {
            Some(before) => (before.sa_sigaction, before.sa_flags),
            None => (libc::SIG_DFL, 0),
        };
        if handler == libc::SIG_IGN && !by_kernel {
            return;
        }
        if handler == libc::SIG_DFL || handler == libc::SIG_IGN {
            reset();
            // An access is made again, and ends the process there. Nothing else comes again.
            if !matches!((*info).si_code, libc::BUS_ADRALN | libc::BUS_ADRERR | libc::BUS_OBJERR) {
                libc::raise(signal);
            }
            return;
        }
        if flags & libc::SA_RESETHAND != 0 {
            reset();
        }
        if let Some(before) = before.as_ref() {
            libc::pthread_sigmask(libc::SIG_BLOCK, &before.sa_mask, null_mut());
        }
        if flags & libc::SA_SIGINFO != 0 {
            type Long = extern "C" fn(c_int, *mut siginfo_t, *mut c_void);
            std::mem::transmute::<usize, Long>(handler)(signal, info, context);
        } else {
            std::mem::transmute::<usize, extern "C" fn(c_int)>(handler)(signal);
        }
    }
}

/// Installs the action that a process begins with.
///
/// # Safety
/// None at present; it is part of the handler.
unsafe fn reset() {
    // SAFETY: as in `install`.
    unsafe {
        let mut default: sigaction = std::mem::zeroed();
        default.sa_sigaction = libc::SIG_DFL;
        libc::sigaction(libc::SIGBUS, &default, null_mut());
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods)] // Other hands than the storage's.
mod tests;
