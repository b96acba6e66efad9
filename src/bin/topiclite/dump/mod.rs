//! `dump`: what is in the files of a partition, as kafka-dump-log shows it.
//!
//! Files are read as they are, without the rest of the directory. Damage is shown where it is, and
//! makes the exit code 1; zeros behind the last batch or entry are the preallocated rest of a file.

mod decoder;
mod log_file;
mod tables;

use crate::args::Dump;
use crate::failure::Outcome;
use crate::output::Output;
use serde_json::Value;
use std::path::Path;
use std::process::ExitCode;
use topiclite::storage::{Fs, Storage};
use topiclite::{Error, ErrorKind, Result};

/// The most bytes that a file of a partition can have: a longer one, which may be a hole of any
/// size, is not read into memory.
const FILE_BYTES_MAX: u64 = 1 << 31;

pub fn run(dump: &Dump, output: &Output) -> Outcome {
    let mut damaged = false;
    // Its own door: what is no file is refused at once.
    let storage = Fs::new();
    for path in &dump.files {
        let bytes =
            storage.read_file(path, FILE_BYTES_MAX).map_err(|e| Error::io(e, "reading", path))?;
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let base_offset = base_offset(name);
        let file = Dumped { path, base_offset, bytes: &bytes, dump, output };
        if !output.json {
            output.line(&format!("Dumping {}", path.display()))?;
        }
        let kind = name.trim_end_matches(".deleted").trim_end_matches(".swap");
        let kind = kind.trim_end_matches(".cleaned");
        damaged |= match kind.rsplit_once('.').map(|(_, ending)| ending) {
            Some("log") => log_file::show(&file)?,
            Some("index") => tables::offset_index(&file)?,
            Some("timeindex") => tables::time_index(&file)?,
            Some("txnindex") => tables::transaction_index(&file)?,
            Some("snapshot") => tables::snapshot(&file)?,
            _ => {
                return Err(Error::new(
                    ErrorKind::UnsupportedFormat,
                    "dump reads .log, .index, .timeindex, .txnindex and .snapshot files",
                )
                .with_path(path.as_path())
                .into());
            }
        };
    }
    Ok(ExitCode::from(u8::from(damaged)))
}

/// A file, and where to show it.
struct Dumped<'a> {
    path: &'a Path,
    /// From its name; 0 where the name has none.
    base_offset: i64,
    bytes: &'a [u8],
    dump: &'a Dump,
    output: &'a Output,
}

impl Dumped<'_> {
    /// Prints a row: an object with the file's name for scripts, `name: value` pairs for people.
    fn row(&self, kind: &str, fields: &[(&str, Value)]) -> Result<()> {
        if self.output.json {
            let mut object = serde_json::Map::new();
            object.insert("path".into(), self.path.display().to_string().into());
            object.insert("kind".into(), kind.into());
            object.extend(fields.iter().map(|(name, value)| ((*name).to_owned(), value.clone())));
            return self.output.object(&Value::Object(object));
        }
        let shown = fields.iter().map(|(name, value)| match value {
            Value::String(text) => format!("{name}: {text}"),
            other => format!("{name}: {other}"),
        });
        let mark = if kind == "record" { "| " } else { "" };
        self.output.line(&format!("{mark}{}", shown.collect::<Vec<_>>().join(" ")))
    }

    /// Says what is wrong from `position` on.
    fn damage(&self, position: usize, message: &str) -> Result<bool> {
        self.row("damage", &[("position", position.into()), ("message", message.into())])?;
        Ok(true)
    }
}

fn base_offset(name: &str) -> i64 {
    name.split('.').next().and_then(|digits| digits.parse().ok()).unwrap_or(0)
}
