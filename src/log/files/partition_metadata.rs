//! Two small text files of Kafka's: `partition.metadata` and `meta.properties`.
//!
//! The first stands in each partition's folder and names the topic's id; the second stands in the
//! log directory and names cluster and node. Both are written once and then only read.

use std::path::Path;

use crate::error::{Error, ErrorKind, Result};
use crate::log::files::checkpoint;
use crate::storage::Storage;
use crate::topic::TopicId;

/// The file with the topic's id, inside a partition's folder.
pub(crate) const PARTITION_METADATA: &str = "partition.metadata";
/// The file with cluster and node, inside the log directory.
pub(crate) const META_PROPERTIES: &str = "meta.properties";

fn corrupt(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::CorruptRecord, message)
}

/// Reads the text of `partition.metadata`: `version: 0`, then `topic_id: ` and 22 letters.
///
/// # Errors
/// [`ErrorKind::CorruptRecord`] if there is no version, or no id other than zero.
pub(crate) fn parse_partition_metadata(text: &str) -> Result<TopicId> {
    let field = |name: &str| {
        text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
    };
    let version = field("version").and_then(|version| version.parse::<i32>().ok());
    if version.is_none_or(|version| version < 0) {
        return Err(corrupt("it has no version"));
    }
    match field("topic_id").and_then(TopicId::parse) {
        Some(id) if id != TopicId::ZERO => Ok(id),
        _ => Err(corrupt("it names no topic id")),
    }
}

/// The text of `partition.metadata`, without a newline at its end, as Kafka writes it.
pub(crate) fn format_partition_metadata(id: TopicId) -> String {
    format!("version: 0\ntopic_id: {id}")
}

/// Reads `partition.metadata` of a partition's folder; `None` if there is none.
///
/// # Errors
/// As [`parse_partition_metadata`], or [`ErrorKind::Io`].
pub(crate) fn read_partition_metadata(
    storage: &dyn Storage,
    folder: &Path,
) -> Result<Option<TopicId>> {
    let path = folder.join(PARTITION_METADATA);
    let Some(text) = checkpoint::read_text(storage, &path)? else {
        return Ok(None);
    };
    parse_partition_metadata(&text).map(Some).map_err(|error| error.with_path(path))
}

/// Writes `partition.metadata` of a partition's folder, durably.
///
/// # Errors
/// [`ErrorKind::Io`] or [`ErrorKind::StorageFull`].
pub(crate) fn write_partition_metadata(
    storage: &dyn Storage,
    folder: &Path,
    id: TopicId,
) -> Result<()> {
    let text = format_partition_metadata(id);
    checkpoint::replace_file(storage, &folder.join(PARTITION_METADATA), text.as_bytes())
}

/// The contents of `meta.properties`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct MetaProperties {
    pub cluster_id: String,
    pub node_id: i32,
    /// The directory's own id, absent in directories of older versions.
    pub directory_id: Option<TopicId>,
}

impl MetaProperties {
    /// Reads the text of the file, which is in the format of Java properties.
    ///
    /// # Errors
    /// [`ErrorKind::UnsupportedFormat`] for a version other than 1, [`ErrorKind::CorruptRecord`]
    /// if cluster or node is missing or cannot be read.
    #[cfg(any(test, fuzzing))]
    pub fn parse(text: &str) -> Result<MetaProperties> {
        let field = |name: &str| {
            text.lines().filter_map(parse_property).find_map(|(k, v)| (k == name).then_some(v))
        };
        match field("version").as_deref() {
            Some("1") => {}
            other => {
                let found = other.unwrap_or("none").escape_debug().to_string();
                let message = format!("version 1 of this file is known, not {found}");
                return Err(Error::new(ErrorKind::UnsupportedFormat, message));
            }
        }
        let node_id = field("node.id").and_then(|id| id.parse().ok());
        let directory_id = match field("directory.id") {
            None => None,
            Some(id) => Some(TopicId::parse(&id).ok_or_else(|| corrupt("directory.id is no id"))?),
        };
        Ok(MetaProperties {
            cluster_id: field("cluster.id").ok_or_else(|| corrupt("it has no cluster.id"))?,
            node_id: node_id.ok_or_else(|| corrupt("it has no node.id"))?,
            directory_id,
        })
    }

    /// The text of the file.
    pub fn to_text(&self) -> String {
        let mut text = format!(
            "node.id={}\nversion=1\ncluster.id={}\n",
            self.node_id,
            escape_property(&self.cluster_id)
        );
        if let Some(id) = self.directory_id {
            text.push_str(&format!("directory.id={id}\n"));
        }
        text
    }
}

/// Key and value of one line of a Java properties file; `None` for comments and empty lines.
///
/// Values that continue on the next line are not joined: no value in this file needs it.
#[cfg(any(test, fuzzing))]
fn parse_property(line: &str) -> Option<(String, String)> {
    let line = line.trim_start();
    if line.is_empty() || line.starts_with(['#', '!']) {
        return None;
    }
    let mut key = String::new();
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => key.extend(chars.next()),
            '=' | ':' => break,
            c if c.is_whitespace() => break,
            c => key.push(c),
        }
    }
    let rest = chars.as_str().trim_start();
    let rest = rest.strip_prefix(['=', ':']).unwrap_or(rest).trim_start();
    let mut value = String::new();
    let mut chars = rest.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => value.extend(chars.next()),
            c => value.push(c),
        }
    }
    Some((key, value.trim_end().to_owned()))
}

fn escape_property(value: &str) -> String {
    let mut out = String::with_capacity(value.len());
    for c in value.chars() {
        if matches!(c, '\\' | '=' | ':' | '#' | '!') {
            out.push('\\');
        }
        out.push(c);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "LKTQV8MmRhKos2GEFtfZPg";

    #[test]
    fn partition_metadata_reads_back_as_it_was_written() {
        let id = TopicId::parse(ID).unwrap();
        let text = format_partition_metadata(id);
        assert_eq!(text, format!("version: 0\ntopic_id: {ID}"));
        assert_eq!(parse_partition_metadata(&text).unwrap(), id);
        assert_eq!(parse_partition_metadata(&format!("{text}\n")).unwrap(), id);
        for bad in [
            String::new(),
            "version: 0\n".to_owned(),
            format!("topic_id: {ID}"),
            format!("version: -1\ntopic_id: {ID}"),
            format!("version: 0\ntopic_id: {}", TopicId::ZERO),
            "version: 0\ntopic_id: short".to_owned(),
        ] {
            assert_eq!(
                parse_partition_metadata(&bad).unwrap_err().kind(),
                ErrorKind::CorruptRecord,
                "{bad:?}"
            );
        }
    }

    #[test]
    fn meta_properties_are_read_as_java_writes_them() {
        let text = "#\n#Wed Nov 25 01:02:03 UTC 2026\ncluster.id=a\\:b\\=c\nversion=1\n\
                    directory.id=LKTQV8MmRhKos2GEFtfZPg\nnode.id = 7\n";
        let read = MetaProperties::parse(text).unwrap();
        assert_eq!(read.cluster_id, "a:b=c");
        assert_eq!(read.node_id, 7);
        assert_eq!(read.directory_id, TopicId::parse(ID));
        assert_eq!(MetaProperties::parse(&read.to_text()).unwrap(), read);
    }

    #[test]
    fn meta_properties_without_what_is_needed_are_refused() {
        let kind = |text: &str| MetaProperties::parse(text).unwrap_err().kind();
        assert_eq!(kind(""), ErrorKind::UnsupportedFormat);
        assert_eq!(kind("version=0\nbroker.id=1\n"), ErrorKind::UnsupportedFormat);
        assert_eq!(kind("version=1\nnode.id=1\n"), ErrorKind::CorruptRecord);
        assert_eq!(kind("version=1\ncluster.id=x\n"), ErrorKind::CorruptRecord);
        assert_eq!(kind("version=1\ncluster.id=x\nnode.id=one\n"), ErrorKind::CorruptRecord);
    }
}
