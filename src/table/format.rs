//! The bytes of a table's snapshot. All numbers are big-endian.
//!
//! | offset | bytes | field |
//! | --- | --- | --- |
//! | 0 | 8 | magic, `TLTABLES` |
//! | 8 | 4 | version, 2 |
//! | 12 | 4 | length of the head, from offset 20 on |
//! | 16 | 4 | CRC-32C of the head, going on from that of offsets 0 to 15 |
//! | 20 | 16 | topic id |
//! | 36 | 1 | isolation: 0 read_uncommitted, 1 read_committed |
//! | 37 | 2 | length of the topic's name, and the name |
//! | | 4 | number of partitions, and of each: |
//! | | 4 | its number |
//! | | 8 | the next offset to read |
//! | | 4 | the leader epoch of the offset before it; -1 where none was read |
//! | | 8 | number of entries |
//! | | 8 | a time in ms since 1970 at which nothing behind that offset had been cleaned; -1: none |
//!
//! Then blocks, each of one partition:
//!
//! | bytes | field |
//! | --- | --- |
//! | 4 | length of the payload; 0 is the end, and nothing follows its CRC |
//! | 4 | CRC-32C of the head's CRC, the number of blocks before, and the payload |
//! | 4 | payload: number of the partition, then its entries, each: |
//! | 8 | offset |
//! | 8 | timestamp |
//! | 4 | length of the key |
//! | 4 | length of the value |
//! | | key, value |
//!
//! A block holds whole entries. Its CRC begins with the head's, and with its place, so that a
//! block of another file, or of another place, is none here.

use super::entries::Latest;
use crate::config::IsolationLevel;
use crate::record::{crc32c, crc32c_append};
use crate::storage::File;
use bytes::Bytes;
use std::io;

const MAGIC: &[u8; 8] = b"TLTABLES";
const VERSION: u32 = 2;
/// Before the head: magic, version, length, CRC.
const FRONT_BYTES: usize = 20;
/// Before a payload: length and CRC.
const BLOCK_FRONT_BYTES: usize = 8;
/// What stands of a partition in the head.
const PART_BYTES: usize = 32;
/// What stands before the key of an entry.
const ENTRY_FRONT_BYTES: usize = 24;
/// A block is written once it has so many bytes.
const BLOCK_BYTES: usize = 256 * 1024;
/// Far above what a million partitions need.
const HEAD_BYTES_MAX: u64 = 64 << 20;

/// What a snapshot says of its log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    pub topic_id: [u8; 16],
    pub isolation: IsolationLevel,
    pub topic: String,
    pub parts: Vec<Part>,
}

/// What a snapshot says of one partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    pub number: i32,
    pub position: i64,
    /// Of the offset before the position; -1 where none was read.
    pub epoch: i32,
    pub entries: u64,
    /// When nothing behind the position had been cleaned, in ms since 1970; -1 for never.
    pub fresh_ms: i64,
}

/// Writes a snapshot from its front to its end.
pub(super) struct Writer<'f> {
    file: &'f dyn File,
    at: u64,
    head_crc: u32,
    blocks: u32,
    number: i32,
    /// The block in the making, with room for its front.
    block: Vec<u8>,
}

impl<'f> Writer<'f> {
    /// Writes the head.
    ///
    /// # Errors
    /// Those of the file.
    pub fn begin(file: &'f dyn File, head: &Head) -> io::Result<Writer<'f>> {
        let too_long = |_| io::Error::other("the head of a table's snapshot is too long");
        let body = encode_head(head).map_err(too_long)?;
        let mut front = MAGIC.to_vec();
        front.extend_from_slice(&VERSION.to_be_bytes());
        front.extend_from_slice(&u32::try_from(body.len()).map_err(too_long)?.to_be_bytes());
        let head_crc = crc32c_append(crc32c(&front), &body);
        front.extend_from_slice(&head_crc.to_be_bytes());
        front.extend_from_slice(&body);
        file.write_at(0, &front)?;
        let block = vec![0; BLOCK_FRONT_BYTES];
        Ok(Writer { file, at: front.len() as u64, head_crc, blocks: 0, number: -1, block })
    }

    /// Adds an entry. Those of one partition come one after the other.
    ///
    /// # Errors
    /// Those of the file.
    pub fn entry(&mut self, number: i32, key: &[u8], latest: &Latest) -> io::Result<()> {
        let full = self.block.len() >= BLOCK_BYTES;
        if (full || number != self.number) && self.block.len() > BLOCK_FRONT_BYTES {
            self.flush()?;
        }
        if self.block.len() == BLOCK_FRONT_BYTES {
            self.number = number;
            self.block.extend_from_slice(&number.to_be_bytes());
        }
        let length = |bytes: &[u8]| {
            let too_long = |_| io::Error::other("a key or a value above 4 GiB");
            u32::try_from(bytes.len()).map(u32::to_be_bytes).map_err(too_long)
        };
        self.block.extend_from_slice(&latest.offset.to_be_bytes());
        self.block.extend_from_slice(&latest.timestamp.to_be_bytes());
        self.block.extend_from_slice(&length(key)?);
        self.block.extend_from_slice(&length(&latest.value)?);
        self.block.extend_from_slice(key);
        self.block.extend_from_slice(&latest.value);
        Ok(())
    }

    /// Writes the end.
    ///
    /// # Errors
    /// Those of the file.
    pub fn end(mut self) -> io::Result<()> {
        if self.block.len() > BLOCK_FRONT_BYTES {
            self.flush()?;
        }
        self.flush()
    }

    fn flush(&mut self) -> io::Result<()> {
        let (front, payload) = self.block.split_at_mut(BLOCK_FRONT_BYTES);
        let too_long = |_| io::Error::other("a record above 4 GiB");
        let length = u32::try_from(payload.len()).map_err(too_long)?;
        let crc = block_crc(self.head_crc, self.blocks, payload);
        let (length_at, crc_at) = front.split_at_mut(4);
        length_at.copy_from_slice(&length.to_be_bytes());
        crc_at.copy_from_slice(&crc.to_be_bytes());
        self.file.write_at(self.at, &self.block)?;
        self.at += self.block.len() as u64;
        self.blocks = self.blocks.wrapping_add(1);
        self.block.truncate(BLOCK_FRONT_BYTES);
        // One record may have made it large.
        self.block.shrink_to(2 * BLOCK_BYTES);
        Ok(())
    }
}

fn block_crc(head_crc: u32, blocks: u32, payload: &[u8]) -> u32 {
    let crc = crc32c(&head_crc.to_be_bytes());
    crc32c_append(crc32c_append(crc, &blocks.to_be_bytes()), payload)
}

fn encode_head(head: &Head) -> Result<Vec<u8>, std::num::TryFromIntError> {
    let mut body = head.topic_id.to_vec();
    body.push(u8::from(head.isolation == IsolationLevel::ReadCommitted));
    body.extend_from_slice(&u16::try_from(head.topic.len())?.to_be_bytes());
    body.extend_from_slice(head.topic.as_bytes());
    body.extend_from_slice(&u32::try_from(head.parts.len())?.to_be_bytes());
    for part in &head.parts {
        body.extend_from_slice(&part.number.to_be_bytes());
        body.extend_from_slice(&part.position.to_be_bytes());
        body.extend_from_slice(&part.epoch.to_be_bytes());
        body.extend_from_slice(&part.entries.to_be_bytes());
        body.extend_from_slice(&part.fresh_ms.to_be_bytes());
    }
    Ok(body)
}

/// Takes numbers and bytes off the front of untrusted bytes; `None` where they end.
struct Taker<'a>(&'a [u8]);

impl<'a> Taker<'a> {
    fn bytes(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.bytes(N)?.try_into().ok()
    }

    fn i32(&mut self) -> Option<i32> {
        self.array().map(i32::from_be_bytes)
    }

    fn i64(&mut self) -> Option<i64> {
        self.array().map(i64::from_be_bytes)
    }

    fn length(&mut self) -> Option<usize> {
        usize::try_from(self.array().map(u32::from_be_bytes)?).ok()
    }
}

fn decode_head(body: &[u8]) -> Option<Head> {
    let mut taker = Taker(body);
    let topic_id = taker.array()?;
    let isolation = match taker.array()? {
        [0] => IsolationLevel::ReadUncommitted,
        [1] => IsolationLevel::ReadCommitted,
        _ => return None,
    };
    let name = usize::from(u16::from_be_bytes(taker.array()?));
    let topic = std::str::from_utf8(taker.bytes(name)?).ok()?.to_owned();
    let count = taker.length()?;
    if taker.0.len() != count.checked_mul(PART_BYTES)? {
        return None;
    }
    let mut parts: Vec<Part> = Vec::with_capacity(count);
    for _ in 0..count {
        let part = Part {
            number: taker.i32()?,
            position: taker.i64()?,
            epoch: taker.i32()?,
            entries: taker.array().map(u64::from_be_bytes)?,
            fresh_ms: taker.i64()?,
        };
        let ascends = parts.last().is_none_or(|last| last.number < part.number);
        if !ascends || part.number < 0 || part.position < 0 {
            return None;
        }
        parts.push(part);
    }
    Some(Head { topic_id, isolation, topic, parts })
}

/// Reads a snapshot from its front to its end. `accept` looks at the head before an entry is
/// read; `take` gets the entries, each with the number of its partition. What was taken counts
/// only if this ends well. Memory is bounded by the file's length, and by its largest block.
///
/// # Errors
/// Why the file is none that can be used, or what `accept` and `take` refuse.
pub(super) fn read(
    file: &dyn File,
    accept: impl FnOnce(&Head, u64) -> Result<(), String>,
    mut take: impl FnMut(i32, &[u8], Latest) -> Result<(), String>,
) -> Result<(), String> {
    let cannot = |error: io::Error| format!("it cannot be read: {error}");
    let len = file.len().map_err(cannot)?;
    let (head, head_crc, mut at) = read_head(file, len)?;
    accept(&head, len)?;
    let mut counts: Vec<u64> = vec![0; head.parts.len()];
    let mut block = Vec::new();
    for blocks in 0u32.. {
        let damaged = |what: &str| format!("{what} at position {at}");
        let left = len.saturating_sub(at);
        let mut front = [0; BLOCK_FRONT_BYTES];
        if left < BLOCK_FRONT_BYTES as u64 {
            return Err(damaged("it ends without its end"));
        }
        file.read_exact_at(at, &mut front).map_err(cannot)?;
        let [a, b, c, d, crc @ ..] = front;
        let length = u32::from_be_bytes([a, b, c, d]);
        if u64::from(length) > left - BLOCK_FRONT_BYTES as u64 {
            return Err(damaged("a block is cut short"));
        }
        block.clear();
        block.resize(usize::try_from(length).map_err(|_| damaged("a block is too long"))?, 0);
        file.read_exact_at(at + BLOCK_FRONT_BYTES as u64, &mut block).map_err(cannot)?;
        if block_crc(head_crc, blocks, &block) != u32::from_be_bytes(crc) {
            return Err(damaged("a block is damaged"));
        }
        if block.is_empty() {
            if left != BLOCK_FRONT_BYTES as u64 {
                return Err(damaged("something follows the end"));
            }
            break;
        }
        let of = take_block(&head, &block, &mut take).ok_or_else(|| damaged("no entries"))??;
        if let Some(count) = counts.get_mut(of.0) {
            *count += of.1;
        }
        at += (BLOCK_FRONT_BYTES + block.len()) as u64;
    }
    match head.parts.iter().zip(&counts).all(|(part, count)| part.entries == *count) {
        true => Ok(()),
        false => Err("it has other entries than it announces".to_owned()),
    }
}

fn read_head(file: &dyn File, len: u64) -> Result<(Head, u32, u64), String> {
    let cannot = |error: io::Error| format!("it cannot be read: {error}");
    let no_head = || "it is no snapshot of a table".to_owned();
    let mut front = [0; FRONT_BYTES];
    if len < FRONT_BYTES as u64 {
        return Err(no_head());
    }
    file.read_exact_at(0, &mut front).map_err(cannot)?;
    let mut taker = Taker(&front);
    if taker.bytes(MAGIC.len()) != Some(MAGIC) {
        return Err(no_head());
    }
    let version = taker.array().map(u32::from_be_bytes).unwrap_or_default();
    if version != VERSION {
        return Err(format!("it has version {version}, and {VERSION} is known"));
    }
    let length = taker.array().map(u32::from_be_bytes).unwrap_or_default();
    let crc = taker.array().map(u32::from_be_bytes).unwrap_or_default();
    if u64::from(length) > (len - FRONT_BYTES as u64).min(HEAD_BYTES_MAX) {
        return Err("its head is cut short".to_owned());
    }
    let mut body = vec![0; usize::try_from(length).map_err(|_| no_head())?];
    file.read_exact_at(FRONT_BYTES as u64, &mut body).map_err(cannot)?;
    let covered = front.get(..FRONT_BYTES - 4).unwrap_or_default();
    if crc32c_append(crc32c(covered), &body) != crc {
        return Err("its head is damaged".to_owned());
    }
    let head = decode_head(&body).ok_or_else(|| "its head makes no sense".to_owned())?;
    Ok((head, crc, FRONT_BYTES as u64 + u64::from(length)))
}

/// Takes the entries of a block; `None` where it makes no sense. Returns which of the head's
/// partitions it is of, and how many there were.
fn take_block(
    head: &Head,
    block: &[u8],
    take: &mut impl FnMut(i32, &[u8], Latest) -> Result<(), String>,
) -> Option<Result<(usize, u64), String>> {
    let mut taker = Taker(block);
    let number = taker.i32()?;
    let of = head.parts.binary_search_by_key(&number, |part| part.number).ok()?;
    let position = head.parts.get(of)?.position;
    let mut count = 0;
    while taker.0.len() >= ENTRY_FRONT_BYTES {
        let (offset, timestamp) = (taker.i64()?, taker.i64()?);
        let (key, value) = (taker.length()?, taker.length()?);
        let (key, value) = (taker.bytes(key)?, taker.bytes(value)?);
        if !(0..position).contains(&offset) {
            return None;
        }
        let latest = Latest { value: Bytes::copy_from_slice(value), offset, timestamp };
        if let Err(why) = take(number, key, latest) {
            return Some(Err(why));
        }
        count += 1;
    }
    (taker.0.is_empty() && count > 0).then_some(Ok((of, count)))
}
