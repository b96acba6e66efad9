//! Preparing pages ahead of the writer, on another thread.
//!
//! How far ahead follows the writer's rate: twice what it took since the last step, within
//! bounds. A writer that is faster takes steps of its own.

use crate::error::{ErrorKind, Result};
use crate::log::Log;
use crate::log::append::roll::{io_error, part_end, whole_pages};
use crate::log::segment::active::STEP_BYTES_MAX;
use crate::sync::Arc;

/// The most that is prepared ahead of a writer.
const AHEAD_BYTES_MAX: u64 = 64 << 20;

/// What is prepared between two looks at the writer.
const PART_BYTES: u64 = 1 << 20;

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
        let (segment, file, from, to) = {
            let mut writer = self.writer.lock();
            let Some(active) = &mut writer.active else { return Ok(false) };
            if active.is_alone() {
                return Ok(false);
            }
            let (prepared, capacity) = (active.prepared(), active.region.region().capacity());
            let ahead = (prepared - active.position) as u64;
            let wanted = active.ahead_max().min(AHEAD_BYTES_MAX);
            if prepared >= capacity || ahead >= wanted / 2 {
                active.set_wake(wanted / 2);
                return Ok(false);
            }
            // What is ahead already is a part of it.
            let to = whole_pages(active.position as u64 + wanted).min(capacity as u64);
            active.step_bytes = (active.step_bytes * 2).min(STEP_BYTES_MAX);
            (active.segment.clone(), active.file.clone(), prepared as u64, to)
        };
        let mut at = from;
        while at < to {
            at = part_end(at, PART_BYTES).min(to);
            let prepared = file.prepare(at, to);
            let mut writer = self.writer.lock();
            let active = writer.active.as_mut();
            let Some(active) = active.filter(|active| Arc::ptr_eq(&active.segment, &segment))
            else {
                break;
            };
            if let Err(error) = prepared {
                // Asked for again once the writer needs it.
                active.set_wake(0);
                drop(writer);
                let error = io_error(error, "cannot prepare the segment", segment.path());
                return Err(match error.kind() {
                    ErrorKind::StorageFailed => self.storage_failed(error),
                    _ => self.at_home(error),
                });
            }
            let is_alone = active.is_alone();
            active.refresh();
            if is_alone {
                break;
            }
        }
        self.env.counters.prepared_steps.one();
        Ok(true)
    }
}
