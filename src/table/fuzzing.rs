//! What the fuzz target `table_snapshot` does with its bytes.
//!
//! It reaches parts of the crate that are not public, so it lives inside it. It panics where a
//! promise is broken, and the unit tests run it on random and on mutated bytes.

use super::entries::Latest;
use super::format::{Head, Writer, read};
use crate::storage::{File, Heap, Storage};
use crate::sync::Arc;
use std::path::Path;

/// What a file holds: its head, and the entries as they come.
type Contents = (Head, Vec<(i32, Vec<u8>, Latest)>);

/// Arbitrary bytes as the snapshot of a table: no panic, nothing out of proportion to the bytes,
/// and what is accepted is written again to a file that is read as the same.
pub fn table_snapshot(bytes: &[u8]) {
    let Ok((head, entries)) = contents(&*file(bytes)) else { return };
    let again = file(&[]);
    let written = Writer::begin(&*again, &head).and_then(|mut writer| {
        entries.iter().try_for_each(|(number, key, latest)| writer.entry(*number, key, latest))?;
        writer.end()
    });
    assert!(written.is_ok(), "memory takes every file");
    let (head_again, entries_again) = contents(&*again).unwrap_or_else(|why| panic!("{why}"));
    assert_eq!(head, head_again);
    assert_eq!(format!("{entries:?}"), format!("{entries_again:?}"));
}

/// Everything in a file.
///
/// # Errors
/// Why it is none.
pub(super) fn contents(file: &dyn File) -> Result<Contents, String> {
    let (mut head, mut entries) = (None, Vec::new());
    read(
        file,
        |found, _| {
            head = Some(found.clone());
            Ok(())
        },
        |number, key, latest| {
            entries.push((number, key.to_vec(), latest));
            Ok(())
        },
    )?;
    head.map(|head| (head, entries)).ok_or_else(|| "no head".to_owned())
}

/// A file in memory with these bytes.
pub(super) fn file(bytes: &[u8]) -> Arc<dyn File> {
    let made = Heap::new().create_cold(Path::new("/table")).and_then(|file| {
        file.write_at(0, bytes)?;
        Ok(file)
    });
    made.unwrap_or_else(|error| panic!("memory takes every file: {error}"))
}
