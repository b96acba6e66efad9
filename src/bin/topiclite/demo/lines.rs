//! The input: the lines of a text file, their keys and their checksums.

use std::collections::HashSet;
use std::ops::Range;
use std::path::Path;
use topiclite::{Error, ErrorKind, Result};

/// Made-up lines, where no file is given.
const MADE_UP: usize = 60_000;

/// A file in memory, cut into lines. Bytes need not be UTF-8.
pub struct Lines {
    bytes: Vec<u8>,
    places: Vec<Range<usize>>,
    keys: usize,
}

impl Lines {
    pub fn read(path: &Path) -> Result<Lines> {
        let bytes = std::fs::read(path).map_err(|e| Error::io(e, "reading the input", path))?;
        let mut places = Vec::new();
        let mut start = 0;
        for (at, byte) in bytes.iter().enumerate() {
            if *byte == b'\n' {
                places.push(start..at);
                start = at + 1;
            }
        }
        if start < bytes.len() {
            places.push(start..bytes.len());
        }
        let mut lines = Lines { bytes, places, keys: 0 };
        if lines.count() == 0 {
            let message = "the file has no lines to stream";
            return Err(Error::new(ErrorKind::IllegalArgument, message).with_path(path));
        }
        let distinct: HashSet<&[u8]> = (0..lines.count()).filter_map(|n| lines.key(n)).collect();
        lines.keys = distinct.len();
        Ok(lines)
    }

    pub fn count(&self) -> u64 {
        self.places.len() as u64
    }

    /// How many different first words there are.
    pub fn keys(&self) -> usize {
        self.keys
    }

    /// The bytes of a line; empty beyond the last.
    pub fn line(&self, number: u64) -> &[u8] {
        let place = usize::try_from(number).ok().and_then(|n| self.places.get(n));
        place.and_then(|place| self.bytes.get(place.clone())).unwrap_or_default()
    }

    /// The first word of a line, if it has one.
    pub fn key(&self, number: u64) -> Option<&[u8]> {
        self.line(number).split(u8::is_ascii_whitespace).find(|word| !word.is_empty())
    }
}

/// FNV-1a over 64 bits: a checksum of our own making that no code under test shares.
pub fn checksum(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

/// Writes made-up orders: a name, a number, a thing.
pub fn make_up(path: &Path) -> Result<()> {
    const NAMES: &[&str] = &[
        "alice", "bob", "carol", "dave", "erin", "frank", "grace", "heidi", "ivan", "judy",
        "mallory", "niaj", "olivia", "peggy", "rupert", "sybil", "trent", "victor", "walter",
        "xenia", "yannick", "zoe",
    ];
    const THINGS: &[&str] = &["tea", "coffee", "cocoa", "water", "juice", "milk", "soup"];
    let mut text = String::new();
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let mut pick = |from: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % from as u64) as usize
    };
    for number in 0..MADE_UP {
        let (name, thing) = (NAMES[pick(NAMES.len())], THINGS[pick(THINGS.len())]);
        text.push_str(&format!("{name} order {number}: {} {thing}\n", 1 + pick(9)));
    }
    std::fs::write(path, text).map_err(|e| Error::io(e, "writing the made-up input", path))
}
