//! Which records are shown, and how.

use crate::args::{Consume, Filters};
use crate::output::Output;
use crate::record_json;
use topiclite::{OwnedConsumerRecord, Result};

/// Shows a record: an object, by the format that was asked for, or its value on a line.
pub fn show(
    record: &OwnedConsumerRecord,
    consume: &Consume,
    output: &Output,
    scratch: &mut Vec<u8>,
) -> Result<()> {
    if output.json {
        return output.object(&record_json::show(record));
    }
    scratch.clear();
    match &consume.format {
        Some(format) => format.show(record, scratch),
        None => {
            scratch.extend_from_slice(record.value().unwrap_or_default());
            scratch.push(b'\n');
        }
    }
    output.bytes(scratch)
}

impl Filters {
    /// Whether a record is to be shown.
    pub fn accept(&self, record: &OwnedConsumerRecord) -> bool {
        let key = self.key.as_ref().is_none_or(|key| record.key() == Some(key.as_bytes()));
        let value = self
            .grep
            .as_ref()
            .is_none_or(|text| contains(record.value().unwrap_or_default(), text.as_bytes()));
        key && value
            && self.header.iter().all(|(name, value)| {
                record.headers().iter().any(|header| {
                    header.name() == name.as_str() && header.value() == Some(value.as_bytes())
                })
            })
    }
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    part.is_empty() || text.windows(part.len()).any(|window| window == part)
}
