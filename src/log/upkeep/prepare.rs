//! Preparing pages ahead of the writer, on another thread.
//!
//! How far ahead follows the writer's rate: twice what it took since the last step, within
//! bounds. A writer that is faster takes steps of its own.

use crate::error::{ErrorKind, Result};
use crate::log::Log;
use crate::log::append::roll::{io_error, whole_pages};
use crate::log::segment::active::STEP_BYTES_MAX;

/// The most that is prepared ahead of a writer.
const AHEAD_BYTES_MAX: u64 = 64 << 20;

impl Log {
    /// Grows the active segment by one step, if its writer is about to need it, and has the pages
    /// ready. Returns whether there is more to do.
    ///
    /// # Errors
    /// `StorageFull` and `Io`. Nothing is lost by them: the writer meets the same border itself.
    /// `StorageFailed` where the file was cut: the partition is read-only then, as if the writer
    /// had met it.
    pub fn prepare_step(&self) -> Result<bool> {
        let _growing = self.growing.lock();
        let (segment, file, position, prepared, capacity, step) = {
            let mut writer = self.writer.lock();
            let Some(active) = &mut writer.active else { return Ok(false) };
            let (prepared, capacity) = (active.prepared(), active.region.region().capacity());
            let ahead = (prepared - active.position) as u64;
            let wanted = active.ahead_max().min(AHEAD_BYTES_MAX);
            if prepared >= capacity || ahead >= wanted / 2 {
                active.set_wake(wanted / 2);
                return Ok(false);
            }
            // What is ahead already is a part of it.
            let step = wanted - ahead;
            active.step_bytes = (active.step_bytes * 2).min(STEP_BYTES_MAX);
            let (segment, file) = (active.segment.clone(), active.file.clone());
            (segment, file, active.position as u64, prepared as u64, capacity as u64, step)
        };
        let wanted = whole_pages(prepared.max(position) + step).min(capacity);
        let failed = |error| {
            let error = io_error(error, "cannot prepare the segment", segment.path());
            match error.kind() {
                ErrorKind::StorageFailed => self.storage_failed(error),
                _ => self.at_home(error),
            }
        };
        file.allocate(wanted).map_err(failed)?;
        let (from, to) = (prepared as usize, wanted as usize);
        file.prefault(from..to).map_err(failed)?;
        self.env.counters.prepared_steps.one();
        let mut writer = self.writer.lock();
        if let Some(active) = &mut writer.active {
            active.refresh();
        }
        Ok(true)
    }
}
