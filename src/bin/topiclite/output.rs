//! Where commands print: text for people, one JSON object per line for scripts.

use crate::escape::printable;
use comfy_table::presets::NOTHING;
use comfy_table::{CellAlignment, Table};
use serde_json::{Value, json};
use std::io::{BufWriter, Write};
use std::path::Path;
use std::sync::Mutex;
use topiclite::{Error, Result};

/// Standard output, buffered; flushed at the end of each command and wherever somebody follows.
pub struct Output {
    pub json: bool,
    to: Mutex<BufWriter<std::io::Stdout>>,
}

impl Output {
    pub fn new(json: bool) -> Output {
        Output { json, to: Mutex::new(BufWriter::new(std::io::stdout())) }
    }

    /// Prints a line of text; what would move the cursor is shown instead.
    pub fn line(&self, text: &str) -> Result<()> {
        let text = printable(text);
        self.write(|to| writeln!(to, "{text}"))
    }

    /// Prints bytes as they are.
    pub fn bytes(&self, bytes: &[u8]) -> Result<()> {
        self.write(|to| to.write_all(bytes))
    }

    /// Prints one object on a line.
    pub fn object(&self, object: &Value) -> Result<()> {
        self.write(|to| writeln!(to, "{object}"))
    }

    /// Makes everything printed so far visible.
    pub fn flush(&self) -> Result<()> {
        self.write(|to| to.flush())
    }

    /// Says something on standard error that is no failure, beside what is printed.
    pub fn note(&self, text: &str) {
        match self.json {
            true => self.stderr(&json!({ "note": text }).to_string()),
            false => self.stderr(&format!("topiclite: {}", printable(text))),
        }
    }

    /// A line on standard error.
    pub fn stderr(&self, line: &str) {
        // Whoever closed it does not want to be told.
        let _unread = writeln!(std::io::stderr(), "{line}");
    }

    fn write(
        &self,
        print: impl FnOnce(&mut BufWriter<std::io::Stdout>) -> std::io::Result<()>,
    ) -> Result<()> {
        let mut to = self.to.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        print(&mut to).map_err(|e| Error::io(e, "writing", Path::new("standard output")))
    }

    /// Whether the reader of our output went away, which ends a command without a complaint.
    pub fn is_broken_pipe(&self, error: &Error) -> bool {
        error.io_error().is_some_and(|io| io.kind() == std::io::ErrorKind::BrokenPipe)
    }

    /// Prints rows under a heading, numbers to the right.
    pub fn table(&self, heading: &[&str], rows: Vec<Vec<String>>) -> Result<()> {
        let mut table = Table::new();
        table.load_preset(NOTHING).set_header(heading);
        for (index, column) in table.column_iter_mut().enumerate() {
            let numeric = rows.iter().filter_map(|row| row.get(index)).all(|cell| is_number(cell));
            if numeric && !rows.is_empty() {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        let shown = |row: Vec<String>| row.into_iter().map(|cell| printable(&cell).into_owned());
        table.add_rows(rows.into_iter().map(shown));
        let text = table.trim_fmt();
        self.write(|to| writeln!(to, "{text}"))
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        // The last flush was made, and told; this is for a panic.
        let _unprinted = self.flush();
    }
}

fn is_number(cell: &str) -> bool {
    cell == "-" || cell.parse::<i64>().is_ok()
}

/// A number, or `-` where there is none.
pub fn or_dash<T: ToString>(value: Option<T>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}

/// `1 record`, `2 records`.
pub fn counted(count: u64, one: &str) -> String {
    format!("{count} {one}{}", if count == 1 { "" } else { "s" })
}

/// Bytes for people: `512 B`, `1.5 KiB`.
pub fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64 / 1024.0;
    let mut units = UNITS.iter();
    let mut unit = units.next();
    while value >= 1024.0
        && let Some(next) = units.next()
    {
        value /= 1024.0;
        unit = Some(next);
    }
    format!("{value:.1} {}", unit.unwrap_or(&""))
}
