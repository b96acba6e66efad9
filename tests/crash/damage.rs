//! Random damage to one file, or two, of a directory.

use crate::stock::files;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use topiclite::storage::sim::Random;
use topiclite::storage::{Sim, Storage};

/// One damage, in words.
pub type Damage = String;

/// Bytes of a sector.
const SECTOR: usize = 512;

/// The files of the disk, by what they are, so that the small ones get their share.
fn chosen(disk: &Sim, random: &mut Random) -> PathBuf {
    let mut kinds: BTreeMap<String, Vec<PathBuf>> = BTreeMap::new();
    for (path, _) in files(disk) {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let kind = match path.extension() {
            Some(extension) if name.starts_with("000") => extension.to_string_lossy().into_owned(),
            _ => name,
        };
        kinds.entry(kind).or_default().push(path);
    }
    // Logs hold what matters most.
    let logs = kinds.get("log").cloned().unwrap_or_default();
    let kind = random.below(2 * kinds.len() as u64) as usize;
    let files = kinds.into_values().nth(kind).unwrap_or(logs);
    files[random.below(files.len() as u64) as usize].clone()
}

/// Where the batches of a log begin, as their lengths tell.
pub fn batches(bytes: &[u8]) -> Vec<(usize, usize)> {
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(length) = bytes.get(at + 8..at + 12) {
        let size = 12 + u32::from_be_bytes(length.try_into().unwrap()) as usize;
        if size < 61 || at + size > bytes.len() {
            break;
        }
        found.push((at, size));
        at += size;
    }
    found
}

fn range(bytes: &[u8], most: usize, random: &mut Random) -> std::ops::Range<usize> {
    let at = random.below(bytes.len() as u64) as usize;
    let len = 1 + random.below(most as u64) as usize;
    at..(at + len).min(bytes.len())
}

/// Changes the bytes of one file. `None` if this change does nothing to these bytes.
fn change(bytes: &mut Vec<u8>, random: &mut Random) -> Option<Damage> {
    let kind = random.below(13);
    if bytes.is_empty() && kind != 5 {
        return None;
    }
    let before = bytes.clone();
    let what = match kind {
        0..=2 => {
            let at = random.below(bytes.len() as u64) as usize;
            let bit = random.below(8);
            bytes[at] ^= 1 << bit;
            format!("bit {bit} of byte {at} flipped")
        }
        3 => {
            let at = random.below(bytes.len() as u64) as usize;
            bytes[at] = if random.coin() { 0 } else { 255 };
            format!("byte {at} is {}", bytes[at])
        }
        4 => {
            let len = random.below(bytes.len() as u64) as usize;
            bytes.truncate(len);
            format!("cut to {len}")
        }
        5 => {
            let len = 1 + random.below(700) as usize;
            let zeros = random.coin();
            bytes.extend((0..len).map(|_| if zeros { 0 } else { random.next() as u8 }));
            format!("{len} bytes longer, {}", if zeros { "zeros" } else { "garbage" })
        }
        6 => {
            let range = range(bytes, 200, random);
            bytes[range.clone()].fill(0);
            format!("{range:?} zeroed")
        }
        7 => {
            let range = range(bytes, 60, random);
            bytes[range.clone()].fill_with(|| random.next() as u8);
            format!("{range:?} is garbage")
        }
        8 | 9 => {
            let size = bytes.len();
            let count = size.div_ceil(SECTOR) as u64;
            let (one, other) = (random.below(count) as usize, random.below(count) as usize);
            let ends = |n: usize| n * SECTOR..((n + 1) * SECTOR).min(size);
            let len = ends(one).len().min(ends(other).len());
            if kind == 8 {
                bytes[ends(one)].fill(0);
                format!("sector {one} zeroed")
            } else {
                bytes.copy_within(one * SECTOR..one * SECTOR + len, other * SECTOR);
                format!("sector {one} written over sector {other}")
            }
        }
        _ => change_batches(bytes, kind, random)?,
    };
    (*bytes != before).then_some(what)
}

/// Changes of which no checksum of a batch tells.
fn change_batches(bytes: &mut Vec<u8>, kind: u64, random: &mut Random) -> Option<Damage> {
    let found = batches(bytes);
    let (at, size) = *found.get(random.below(found.len().max(1) as u64) as usize)?;
    Some(match kind {
        10 => {
            // Base offset, length, leader epoch and magic are outside of the checksum.
            let field = at + random.below(17) as usize;
            bytes[field] = bytes[field].wrapping_add(1 + random.below(3) as u8);
            format!("byte {} of the header of the batch at {at} changed", field - at)
        }
        11 => {
            let (other, length) = *found.get(random.below(found.len() as u64) as usize)?;
            if other <= at {
                return None;
            }
            let parts =
                [&bytes[..at], &bytes[other..other + length], &bytes[at + size..other]].concat();
            let rest = [&bytes[at..at + size], &bytes[other + length..]].concat();
            *bytes = [parts, rest].concat();
            format!("batches at {at} and {other} in each other's place")
        }
        _ => {
            let offset = random.below(40) as i64;
            bytes[at..at + 8].copy_from_slice(&offset.to_be_bytes());
            format!("base offset of the batch at {at} is {offset}")
        }
    })
}

/// Does one damage to the disk. Returns it in words, with its file.
pub fn damage(disk: &Sim, swaps: &mut u64, random: &mut Random) -> (PathBuf, Damage) {
    let internal = |path: &Path| path.to_string_lossy().contains("__consumer_offsets");
    loop {
        let path = chosen(disk, random);
        let parent = path.parent().unwrap();
        match random.below(12) {
            0 => {
                disk.remove(&path).unwrap();
                disk.sync_dir(parent).unwrap();
                return (path, "removed".to_owned());
            }
            1 => {
                let other = chosen(disk, random);
                let twin = path.file_name() == other.file_name();
                // Nothing in a batch says to which partition it belongs, as in Kafka: two files
                // of the same offsets in each other's place are two whole files. Two swaps may
                // come to that.
                if path == other || twin || *swaps > 0 || internal(&path) != internal(&other) {
                    continue;
                }
                *swaps += 1;
                let bytes = [&path, &other].map(|path| disk.read_file(path, 1 << 20).unwrap());
                if bytes[0] == bytes[1] {
                    continue;
                }
                disk.damage(&path, |into| into.clone_from(&bytes[1])).unwrap();
                disk.damage(&other, |into| into.clone_from(&bytes[0])).unwrap();
                return (path, format!("in the place of {}", other.display()));
            }
            _ => {
                let mut what = None;
                disk.damage(&path, |bytes| what = change(bytes, random)).unwrap();
                if let Some(what) = what {
                    return (path, what);
                }
            }
        }
    }
}
