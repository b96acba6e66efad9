//! Batches of a few bytes that decompress to more than memory holds, read by processes that may not
//! have much.

use crate::shell::Shell;
use std::io::Write;
use std::path::PathBuf;

/// What a process may take, in KiB: the 256 MiB that a batch may decompress to by default, what a
/// buffer takes while it grows, and the program.
const MEMORY_KIB: usize = 1 << 20;
const CODECS: [&str; 4] = ["gzip", "snappy", "lz4", "zstd"];

/// Zeros, many times over: 4 GiB, but for snappy, which packs them 21 to 1: 320 MiB.
fn bomb(codec: &str) -> Vec<u8> {
    let zeros = vec![0; 8 << 20];
    match codec {
        "gzip" => {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), Default::default());
            encoder.write_all(&zeros).unwrap();
            encoder.finish().unwrap().repeat(512)
        }
        "snappy" => {
            let block = snap::raw::Encoder::new().compress_vec(&zeros).unwrap();
            let chunk = [&(block.len() as u32).to_be_bytes()[..], &block].concat();
            [&b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01"[..], &chunk.repeat(40)].concat()
        }
        "lz4" => {
            let block = lz4_flex::block::compress(&zeros[..64 << 10]);
            let block = [&(block.len() as u32).to_le_bytes()[..], &block].concat();
            // Independent blocks of at most 64 KiB, no checksums but that of the header.
            [&b"\x04\x22\x4d\x18\x60\x40\x82"[..], &block.repeat(65_536), &[0; 4]].concat()
        }
        _ => zstd::bulk::compress(&zeros, 3).unwrap().repeat(512),
    }
}

/// A batch that says to hold one record.
pub fn batch(offset: i64, codec: u16, timestamp: i64, records: &[u8]) -> Vec<u8> {
    let mut behind_crc = Vec::new();
    behind_crc.extend(codec.to_be_bytes());
    behind_crc.extend(0_i32.to_be_bytes());
    behind_crc.extend([timestamp, timestamp, -1].map(i64::to_be_bytes).concat());
    behind_crc.extend((-1_i16).to_be_bytes());
    behind_crc.extend((-1_i32).to_be_bytes());
    behind_crc.extend(1_i32.to_be_bytes());
    behind_crc.extend(records);
    let mut bytes = offset.to_be_bytes().to_vec();
    bytes.extend((behind_crc.len() as i32 + 9).to_be_bytes());
    bytes.extend(0_i32.to_be_bytes());
    bytes.push(2);
    bytes.extend(crc32c::crc32c(&behind_crc).to_be_bytes());
    bytes.extend(behind_crc);
    bytes
}

/// A record without a key, with one byte.
pub fn record(value: u8) -> Vec<u8> {
    vec![14, 0, 0, 0, 1, 2, value, 0]
}

/// A record, a bomb, a record. The path of their log.
fn planted(shell: &Shell, codec: &str) -> PathBuf {
    let number = 1 + CODECS.iter().position(|name| *name == codec).unwrap() as u16;
    let batches = [
        batch(0, 0, 5, &record(b'a')),
        batch(1, number, 5, &bomb(codec)),
        batch(2, 0, 5, &record(b'z')),
    ];
    put(shell, &batches.concat())
}

/// A partition `t-0` as another program would leave it. The path of its log.
pub fn put(shell: &Shell, batches: &[u8]) -> PathBuf {
    let folder = shell.dir().join("t-0");
    std::fs::create_dir(&folder).unwrap();
    let log = folder.join(format!("{:020}.log", 0));
    std::fs::write(&log, batches).unwrap();
    log
}

#[test]
fn no_command_takes_more_memory_than_a_batch_may_decompress_to() {
    for codec in CODECS {
        let shell = Shell::new();
        let log = planted(&shell, codec);
        let limited = |command: &str| {
            let ended = shell.script(&format!("ulimit -v {MEMORY_KIB}; topiclite {command}"));
            assert_eq!(ended.code, 1, "{codec}: {command}: {}", ended.stderr);
            let said = format!("{}{}", ended.stdout, ended.stderr);
            let limit = "decompress to more than 268435456 bytes; raise the broker's \
                         log.batch.uncompressed.max.bytes";
            assert!(said.contains(limit), "{codec}: {command}: {said}");
            ended
        };
        assert_eq!(limited("consume t").stdout, "a\n", "{codec}: what lies before it");
        if codec == "zstd" {
            assert_eq!(limited("consume t --group g").stdout, "a\n", "as a member");
        }
        assert_eq!(shell.ok(&["consume", "t", "--from", "2"]), "z\n", "{codec}: behind it");
        limited("verify");
        let dumped = limited(&format!("dump {}", log.display()));
        assert!(dumped.stdout.contains("payload: z"), "{codec}: {}", dumped.stdout);
    }
}
