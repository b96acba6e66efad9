//! Records that own their bytes, for what has to outlive its batch.

use super::encode::HeaderInput;
use super::records::{Record, write_header};
use std::fmt;

/// A record without its place in a log.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct OwnedRecord {
    /// Milliseconds since 1970, -1 if there is none.
    pub timestamp: i64,
    /// The key.
    pub key: Option<Vec<u8>>,
    /// The value. `None` is a tombstone.
    pub value: Option<Vec<u8>>,
    /// The headers, in order.
    pub headers: Vec<OwnedHeader>,
}

/// A header that owns its bytes.
#[derive(Clone, PartialEq, Eq)]
pub struct OwnedHeader {
    /// The name.
    pub name: String,
    /// The value.
    pub value: Option<Vec<u8>>,
}

/// Shows sizes: payloads may be large, or secret.
impl fmt::Debug for OwnedRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OwnedRecord")
            .field("timestamp", &self.timestamp)
            .field("key_size", &self.key.as_ref().map(Vec::len))
            .field("value_size", &self.value.as_ref().map(Vec::len))
            .field("headers", &self.headers)
            .finish()
    }
}

/// Shows the name and the size.
impl fmt::Debug for OwnedHeader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_header(f, &self.name, self.value.as_deref())
    }
}

impl OwnedHeader {
    /// The header as the encoder takes it.
    pub fn input(&self) -> HeaderInput<'_> {
        HeaderInput { name: &self.name, value: self.value.as_deref() }
    }
}

impl OwnedRecord {
    /// The headers as the encoder takes them.
    pub fn header_inputs(&self) -> Vec<HeaderInput<'_>> {
        self.headers.iter().map(OwnedHeader::input).collect()
    }
}

impl From<&Record<'_>> for OwnedRecord {
    fn from(record: &Record<'_>) -> OwnedRecord {
        OwnedRecord {
            timestamp: record.timestamp(),
            key: record.key().map(<[u8]>::to_vec),
            value: record.value().map(<[u8]>::to_vec),
            headers: record
                .headers()
                .iter()
                .map(|header| OwnedHeader {
                    name: header.name().into_owned(),
                    value: header.value().map(<[u8]>::to_vec),
                })
                .collect(),
        }
    }
}
