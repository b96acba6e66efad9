//! Pages of a growing file, made before the writer stores to them.
//!
//! A page that is first touched through a mapping is walked twice: it is read, which for new blocks
//! means zeroed, and then made writable. Zeros that are written through the descriptor leave it in
//! memory and dirty by one walk, which takes half the time, and a large write gives the file system
//! a reason to make large folios, which the mapping takes by one fault each.

use crate::storage::region::Region;
use crate::sync::{AtomicUsize, Ordering};
use std::fs;
use std::io;
use std::ops::Range;

/// One part of a write of zeros: small enough to stay in the processor's nearest caches.
static ZEROS: [u8; 64 * 1024] = [0; 64 * 1024];
/// Parts of one write: what lies in one write may lie in one folio.
#[cfg(target_os = "linux")]
const PARTS_MAX: usize = 16;

/// Writes zeros to `from..to` of the file.
#[cfg(target_os = "linux")]
pub(super) fn fill(file: &fs::File, from: u64, to: u64) -> io::Result<()> {
    use std::io::IoSlice;
    let mut at = from;
    while at < to {
        let mut parts = [IoSlice::new(&[]); PARTS_MAX];
        let mut rest = to - at;
        for part in &mut parts {
            // At most the length of the constant, so it fits an index.
            let len = rest.min(ZEROS.len() as u64) as usize;
            *part = IoSlice::new(&ZEROS[..len]);
            rest -= len as u64;
        }
        match rustix::io::pwritev(file, &parts, at) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => at += written as u64,
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Writes zeros to `from..to` of the file.
#[cfg(not(target_os = "linux"))]
pub(super) fn fill(file: &fs::File, from: u64, to: u64) -> io::Result<()> {
    use std::os::unix::fs::FileExt;
    let mut at = from;
    while at < to {
        let len = (to - at).min(ZEROS.len() as u64);
        // At most the length of the constant, so it fits an index.
        file.write_all_at(&ZEROS[..len as usize], at)?;
        at += len;
    }
    Ok(())
}

/// Whether pages that are in memory still cost a fault each when they are stored to.
#[derive(Debug, Default)]
pub(super) struct PageFaults(AtomicUsize);

/// A fault for many pages: the file system makes large folios.
const FEW: usize = 1;
/// A fault for each page or for a few.
const MANY: usize = 2;

/// A range has at least so many bytes before its faults tell anything.
const COUNTED_BYTES_MIN: usize = 128 << 10;
/// Bytes of a page, as they are counted here.
const PAGE_BYTES: usize = 4096;
/// So many pages a fault are many.
const PAGES_A_FAULT: u64 = 8;

impl PageFaults {
    /// Spares the writer the faults of `range`, which is in memory, where there would be many:
    /// taken together they cost less than one by one. Where there are few, taking them ahead costs
    /// more than they do.
    ///
    /// # Errors
    /// Those of the operating system.
    pub(super) fn spare(&self, region: &Region, range: Range<usize>) -> io::Result<()> {
        // Relaxed: only a matter of speed.
        match self.0.load(Ordering::Relaxed) {
            FEW => Ok(()),
            MANY => region.populate(range),
            _ if range.len() < COUNTED_BYTES_MIN => region.populate(range),
            _ => {
                let pages = (range.len() / PAGE_BYTES) as u64;
                let before = faults_of_this_thread();
                region.populate(range)?;
                let known = match (before, faults_of_this_thread()) {
                    (Some(before), Some(after)) if (after - before) * PAGES_A_FAULT < pages => FEW,
                    _ => MANY,
                };
                self.0.store(known, Ordering::Relaxed);
                Ok(())
            }
        }
    }
}

/// Page faults that this thread took so far.
#[cfg(all(target_os = "linux", target_pointer_width = "64"))]
fn faults_of_this_thread() -> Option<u64> {
    use nix::sys::resource::{UsageWho, getrusage};
    let usage = getrusage(UsageWho::RUSAGE_THREAD).ok()?;
    u64::try_from(usage.minor_page_faults() + usage.major_page_faults()).ok()
}

#[cfg(not(all(target_os = "linux", target_pointer_width = "64")))]
fn faults_of_this_thread() -> Option<u64> {
    None
}
