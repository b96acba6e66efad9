//! The text files that map partitions to offsets, in the log directory.
//!
//! ```text
//! 0                         version
//! 2                         how many rows follow
//! orders 0 1200             topic, partition, offset
//! orders 1 87
//! ```
//! Four files have this form: recovery points, log starts, high watermarks and the cleaner's
//! progress. A file of 0 bytes is an empty map. Writing replaces the file as a whole: a temporary
//! file is synced, renamed over the old one, and the folder is synced (rule R6).
//!
//! A file that is not Kafka's, `topiclite.cleaned`, begins with a line that proves the rest (rule
//! R9):
//!
//! ```text
//! crc32c 5e1f9c04           of all bytes behind this line, in hexadecimal
//! 0
//! 1
//! orders 0 1790000000000    topic, partition, milliseconds since 1970
//! ```

use std::collections::BTreeMap;
use std::path::Path;

use crate::error::{Error, ErrorKind, Result};
use crate::record::crc32c;
use crate::storage::Storage;
use crate::topic::TopicPartition;

/// Offsets below which everything was synced, per partition.
pub(crate) const RECOVERY_POINT_CHECKPOINT: &str = "recovery-point-offset-checkpoint";
/// First offsets that readers may ask for, where that is above the first file's base offset.
pub(crate) const LOG_START_CHECKPOINT: &str = "log-start-offset-checkpoint";
/// High watermarks.
pub(crate) const HIGH_WATERMARK_CHECKPOINT: &str = "replication-offset-checkpoint";
/// First offsets that compaction has not looked at.
pub(crate) const CLEANER_CHECKPOINT: &str = "cleaner-offset-checkpoint";

/// The largest text file that is read: a row takes at most 280 bytes, so this is millions of rows.
const FILE_SIZE_MAX: u64 = 1 << 30;

/// Rows of a text file of this form, split at white space, with the number of fields checked.
///
/// # Errors
/// [`ErrorKind::UnsupportedFormat`] for another version, [`ErrorKind::CorruptRecord`] for a row
/// that cannot be read or a wrong count.
pub(in crate::log) fn parse_rows<const N: usize, T>(
    text: &str,
    mut read: impl FnMut([&str; N]) -> Option<T>,
) -> Result<Vec<T>> {
    let mut lines = text.lines();
    let Some(version) = lines.next() else {
        return Ok(Vec::new());
    };
    if version.trim() != "0" {
        let shown: String = version.chars().take(20).collect();
        return Err(Error::new(
            ErrorKind::UnsupportedFormat,
            format!("version 0 of this file is known, not \"{}\"", shown.escape_debug()),
        ));
    }
    let corrupt = |line: usize, what: &str| {
        Error::new(ErrorKind::CorruptRecord, format!("line {line}: {what}; delete the file"))
    };
    let count: usize = lines
        .next()
        .and_then(|line| line.trim().parse().ok())
        .ok_or_else(|| corrupt(2, "no number of rows"))?;
    let mut rows = Vec::new();
    for (number, line) in lines.enumerate() {
        let mut fields = [""; N];
        let mut found = 0;
        for field in line.split_ascii_whitespace() {
            if let Some(slot) = fields.get_mut(found) {
                *slot = field;
            }
            found += 1;
        }
        let row = (found == N).then(|| read(fields)).flatten();
        rows.push(row.ok_or_else(|| corrupt(number + 3, "a row that cannot be read"))?);
    }
    if rows.len() != count {
        return Err(corrupt(2, &format!("{count} rows are announced, {} follow", rows.len())));
    }
    Ok(rows)
}

/// Reads the text of a file of partitions and offsets.
///
/// # Errors
/// As [`read_offsets`], without the path.
pub(crate) fn parse_offsets(text: &str) -> Result<BTreeMap<TopicPartition, i64>> {
    let rows = parse_rows(text, |[topic, partition, offset]: [&str; 3]| {
        let partition: i32 = partition.parse().ok().filter(|p| *p >= 0)?;
        Some((TopicPartition::new(topic, partition), offset.parse::<i64>().ok()?))
    })?;
    Ok(rows.into_iter().collect())
}

/// The text of a file of partitions and offsets, in order of topic and partition.
pub(crate) fn format_offsets(offsets: &BTreeMap<TopicPartition, i64>) -> String {
    let mut text = format!("0\n{}\n", offsets.len());
    for (partition, offset) in offsets {
        text.push_str(&format!("{} {} {offset}\n", partition.topic(), partition.partition()));
    }
    text
}

/// Reads a file of partitions and offsets; a missing or an empty one is an empty map.
///
/// # Errors
/// [`ErrorKind::UnsupportedFormat`] for another version, [`ErrorKind::CorruptRecord`] for content
/// that cannot be read. As Kafka does, callers warn and go on as if a damaged file of recovery
/// points or log starts were empty. [`ErrorKind::Io`] if reading fails.
pub(crate) fn read_offsets(
    storage: &dyn Storage,
    path: &Path,
) -> Result<BTreeMap<TopicPartition, i64>> {
    match read_text(storage, path)? {
        None => Ok(BTreeMap::new()),
        Some(text) => parse_offsets(&text).map_err(|error| error.with_path(path)),
    }
}

/// Reads the text of a file of partitions and numbers whose first line proves the rest.
///
/// # Errors
/// [`ErrorKind::CorruptRecord`] for anything that is not as it was written.
pub(crate) fn parse_proven_offsets(text: &str) -> Result<BTreeMap<TopicPartition, i64>> {
    let (proof, rest) = text.split_once('\n').unwrap_or((text, ""));
    if proof != proof_of(rest) {
        let message = "its checksum does not hold; the next cleaning writes it anew";
        return Err(Error::new(ErrorKind::CorruptRecord, message));
    }
    parse_offsets(rest)
}

/// The text that [`parse_proven_offsets`] reads.
pub(crate) fn format_proven_offsets(offsets: &BTreeMap<TopicPartition, i64>) -> String {
    let rest = format_offsets(offsets);
    format!("{}\n{rest}", proof_of(&rest))
}

fn proof_of(rest: &str) -> String {
    format!("crc32c {:08x}", crc32c(rest.as_bytes()))
}

/// As [`read_offsets`], of a file whose first line proves the rest.
///
/// # Errors
/// Those of [`parse_proven_offsets`]; [`ErrorKind::Io`] if reading fails.
pub(crate) fn read_proven_offsets(
    storage: &dyn Storage,
    path: &Path,
) -> Result<BTreeMap<TopicPartition, i64>> {
    match read_text(storage, path)? {
        None => Ok(BTreeMap::new()),
        Some(text) => parse_proven_offsets(&text).map_err(|error| error.with_path(path)),
    }
}

/// As [`write_offsets`], with a first line that proves the rest.
///
/// # Durability
/// As [`write_offsets`].
///
/// # Errors
/// As [`write_offsets`].
pub(crate) fn write_proven_offsets(
    storage: &dyn Storage,
    path: &Path,
    offsets: &BTreeMap<TopicPartition, i64>,
) -> Result<()> {
    replace_file(storage, path, format_proven_offsets(offsets).as_bytes())
}

/// Whether `error` tells what a file holds: nothing that can be read. A call that failed tells
/// nothing, so that nothing may be decided by it.
pub(crate) fn is_of_content(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::CorruptRecord | ErrorKind::UnsupportedFormat)
}

/// Replaces a file of partitions and offsets.
///
/// # Durability
/// After `Ok` the new content survives power loss; after an error the old content is there, or
/// the new.
///
/// # Errors
/// [`ErrorKind::Io`] or [`ErrorKind::StorageFull`].
pub(crate) fn write_offsets(
    storage: &dyn Storage,
    path: &Path,
    offsets: &BTreeMap<TopicPartition, i64>,
) -> Result<()> {
    replace_file(storage, path, format_offsets(offsets).as_bytes())
}

/// The whole text of a small file; `None` if it does not exist. Bytes that are no UTF-8 cannot be
/// part of a valid row, so they are kept as replacement characters for the parser to refuse.
pub(in crate::log) fn read_text(storage: &dyn Storage, path: &Path) -> Result<Option<String>> {
    let bytes = read_file(storage, path, FILE_SIZE_MAX)?;
    Ok(bytes.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
}

/// All bytes of a file of at most `size_max` bytes; `None` if it does not exist.
///
/// # Errors
/// [`ErrorKind::Io`], also for a file that is larger.
pub(in crate::log) fn read_file(
    storage: &dyn Storage,
    path: &Path,
    size_max: u64,
) -> Result<Option<Vec<u8>>> {
    let failed = |error| Error::io(error, "reading", path);
    let file = match storage.open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    let len = file.len().map_err(failed)?;
    if len > size_max {
        let message = format!("the file has {len} bytes, more than the {size_max} it may have");
        return Err(Error::new(ErrorKind::Io, message).with_path(path));
    }
    let len = usize::try_from(len).map_err(|_| {
        Error::new(ErrorKind::Io, "the file does not fit into memory").with_path(path)
    })?;
    let mut bytes = vec![0; len];
    file.read_exact_at(0, &mut bytes).map_err(failed)?;
    Ok(Some(bytes))
}

/// Writes `bytes` to `FILE.tmp`, syncs it, renames it to `path` and syncs the folder.
pub(crate) fn replace_file(storage: &dyn Storage, path: &Path, bytes: &[u8]) -> Result<()> {
    let mut tmp = path.as_os_str().to_owned();
    tmp.push(".tmp");
    let tmp = Path::new(&tmp);
    let file = storage.create_cold(tmp).map_err(|e| Error::io(e, "creating", tmp))?;
    file.write_at(0, bytes).map_err(|e| Error::io(e, "writing", tmp))?;
    file.sync_data().map_err(|e| Error::io(e, "syncing", tmp))?;
    drop(file);
    storage.rename(tmp, path).map_err(|e| Error::io(e, "renaming", tmp))?;
    let folder = path.parent().unwrap_or(Path::new("."));
    storage.sync_dir(folder).map_err(|e| Error::io(e, "syncing", folder))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_read_back_as_they_were_written() {
        let mut offsets = BTreeMap::new();
        offsets.insert(TopicPartition::new("orders", 1), 87);
        offsets.insert(TopicPartition::new("orders", 0), i64::MAX);
        offsets.insert(TopicPartition::new("a.b_c-d", 12), 0);
        let text = format_offsets(&offsets);
        assert_eq!(text, "0\n3\na.b_c-d 12 0\norders 0 9223372036854775807\norders 1 87\n");
        assert_eq!(parse_offsets(&text).unwrap(), offsets);
        assert_eq!(format_offsets(&BTreeMap::new()), "0\n0\n");
    }

    #[test]
    fn a_first_line_proves_the_rest() {
        let offsets: BTreeMap<_, _> =
            [(TopicPartition::new("orders", 0), 1_790_000_000_000)].into();
        let text = format_proven_offsets(&offsets);
        assert_eq!(parse_proven_offsets(&text).unwrap(), offsets);
        assert_eq!(text.split_once('\n').unwrap().1, format_offsets(&offsets));
        for at in 0..text.len() {
            assert!(parse_proven_offsets(&text[..at]).is_err(), "cut to {at}");
            for bit in 0..8 {
                let mut bytes = text.clone().into_bytes();
                bytes[at] ^= 1 << bit;
                let changed = String::from_utf8_lossy(&bytes);
                let error = parse_proven_offsets(&changed).unwrap_err();
                assert_eq!(error.kind(), ErrorKind::CorruptRecord, "bit {bit} of {at}");
            }
        }
        assert!(parse_proven_offsets(&format_offsets(&offsets)).is_err(), "nothing proves it");
    }

    #[test]
    fn an_empty_file_is_an_empty_map() {
        assert!(parse_offsets("").unwrap().is_empty());
        assert!(parse_offsets("0\n0\n").unwrap().is_empty());
        assert!(parse_offsets("0\n0").unwrap().is_empty());
    }

    #[test]
    fn damage_is_named_by_line() {
        let kind = |text: &str| parse_offsets(text).unwrap_err().kind();
        assert_eq!(kind("1\n0\n"), ErrorKind::UnsupportedFormat);
        assert_eq!(kind("\0\0\0\0"), ErrorKind::UnsupportedFormat);
        for text in [
            "0\n",
            "0\nx\n",
            "0\n1\n",
            "0\n0\nt 0 1\n",
            "0\n2\nt 0 1\n",
            "0\n1\nt 0\n",
            "0\n1\nt 0 1 2\n",
            "0\n1\nt -1 1\n",
            "0\n1\nt 0 1x\n",
            "0\n1\n\n",
        ] {
            assert_eq!(kind(text), ErrorKind::CorruptRecord, "{text:?}");
        }
        let error = parse_offsets("0\n1\nt zero 1\n").unwrap_err();
        assert!(error.message().starts_with("line 3"), "{error}");
    }
}
