//! Round trips through all codecs, and the framing that each writes and accepts.

use super::codec::{Compressor, decompress};
use super::*;

fn packed(codec: Codec, input: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    Compressor::new(codec, None).unwrap().compress(input, &mut out).unwrap();
    out
}

fn unpacked(codec: Codec, input: &[u8]) -> Result<Vec<u8>, BatchFault> {
    let mut out = vec![1, 2, 3];
    decompress(codec, input, &mut out, DECOMPRESSED_MAX).map(|()| out)
}

/// Bytes that compress a little, then not at all.
fn text(len: usize) -> Vec<u8> {
    let mut state = 1u32;
    (0..len)
        .map(|i| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            if i < len / 2 { b"abcdefgh"[(state >> 29) as usize] } else { (state >> 24) as u8 }
        })
        .collect()
}

#[test]
fn a_codec_that_is_not_compiled_in_is_named() {
    for codec in Codec::ALL.into_iter().filter(|codec| !codec.is_available()) {
        let error = BatchBuilder::new(codec, None).unwrap_err();
        assert_eq!(error.kind(), crate::ErrorKind::UnsupportedCompressionType);
        assert!(error.message().contains(codec.name()), "{error}");
        assert_eq!(unpacked(codec, &[]), Err(BatchFault::CodecMissing(codec)));
        let batch = batch_of(&[0; 20], codec, 1);
        let batch = RecordBatch::parse(&batch).unwrap();
        batch.check_crc().unwrap();
        let fault = batch.records(&mut Vec::new()).unwrap_err();
        assert_eq!(fault, BatchFault::CodecMissing(codec));
    }
}

#[test]
fn every_size_around_the_blocks_comes_back() {
    for codec in available() {
        let sizes = [0, 1, 20, 1000, 32_767, 32_768, 32_769, 65_535, 65_536, 65_537, 300_000];
        for size in sizes {
            let input = text(size);
            let packed = packed(codec, &input);
            assert_eq!(unpacked(codec, &packed).unwrap(), input, "{codec} {size}");
        }
    }
}

#[test]
fn levels_are_those_of_kafka() {
    let input = text(5000);
    for codec in available() {
        let Some(levels) = codec.levels() else {
            assert!(Compressor::new(codec, Some(99)).is_ok());
            continue;
        };
        for level in [*levels.start(), 1, *levels.end()] {
            let mut out = Vec::new();
            Compressor::new(codec, Some(level)).unwrap().compress(&input, &mut out).unwrap();
            assert_eq!(unpacked(codec, &out).unwrap(), input, "{codec} {level}");
        }
        for level in [levels.start() - 1, levels.end() + 1] {
            let level = if level == -1 { 0 } else { level };
            if levels.contains(&level) {
                continue;
            }
            let error = Compressor::new(codec, Some(level)).err().unwrap();
            assert_eq!(error.kind(), crate::ErrorKind::InvalidConfig, "{codec} {level}");
        }
    }
    if Codec::Gzip.is_available() {
        assert!(Compressor::new(Codec::Gzip, Some(-1)).is_ok(), "Kafka's word for the default");
    }
}

#[test]
fn a_builder_is_used_again_and_its_estimate_follows_the_batches() {
    for codec in available().filter(|&codec| codec != Codec::None) {
        let mut builder = BatchBuilder::new(codec, None).unwrap();
        let mut last = None;
        for _ in 0..220 {
            builder.clear();
            for _ in 0..10 {
                for record in sample() {
                    append(&mut builder, &record);
                }
            }
            let bytes = builder.finish(&Stamp::plain(3, 0)).unwrap().to_vec();
            assert!(bytes.len() < builder.uncompressed_size() / 2, "{codec}");
            assert!(last.is_none_or(|last| last == bytes), "{codec} keeps something");
            last = Some(bytes);
        }
        let size = last.unwrap().len();
        let estimate = builder.estimated_size();
        assert!(estimate >= size && estimate < size * 3 / 2, "{codec}: {estimate} for {size}");
    }
}

#[test]
fn what_would_exceed_the_limit_is_written_uncompressed() {
    let value = vec![0; 17 << 20];
    for codec in available().filter(|&codec| codec != Codec::None) {
        let record = OwnedRecord { value: Some(value.clone()), ..OwnedRecord::default() };
        let bytes = build(codec, std::slice::from_ref(&record), &Stamp::plain(0, 0));
        assert!(read(&bytes).unwrap()[0].1 == record, "{codec}");
        let stored = BatchHeader::parse(&bytes).unwrap().codec().unwrap();
        assert!(stored == codec || codec == Codec::Zstd, "{codec} is stored as {stored}");
    }
}

#[cfg(feature = "gzip")]
#[test]
fn gzip_is_written_as_a_jdk_does_and_read_in_several_members() {
    let input = text(3000);
    let one = packed(Codec::Gzip, &input);
    assert_eq!(one[..10], [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff]);
    assert_eq!(one[one.len() - 4..], 3000u32.to_le_bytes());
    let two = [&one[..], &one[..]].concat();
    assert_eq!(unpacked(Codec::Gzip, &two).unwrap(), [&input[..], &input[..]].concat());
    let trailing = [&one[..], &[0, 0, 0][..]].concat();
    assert_eq!(unpacked(Codec::Gzip, &trailing).unwrap(), input);
    let mut wrong = one.clone();
    let at = wrong.len() - 6;
    wrong[at] ^= 1;
    assert!(unpacked(Codec::Gzip, &wrong).is_err(), "the checksum of the member is wrong");
    assert!(unpacked(Codec::Gzip, &[]).is_err());
}

#[cfg(feature = "snappy")]
#[test]
fn snappy_is_written_in_xerial_frames_and_read_raw_too() {
    let input = text(40_000);
    let framed = packed(Codec::Snappy, &input);
    assert_eq!(framed[..16], *b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01");
    let first = u32::from_be_bytes(framed[16..20].try_into().unwrap()) as usize;
    let block = &framed[20..20 + first];
    assert_eq!(snap::raw::decompress_len(block).unwrap(), 32 << 10);
    let second = &framed[20 + first + 4..];
    assert_eq!(snap::raw::decompress_len(second).unwrap(), 40_000 - (32 << 10));

    let raw = snap::raw::Encoder::new().compress_vec(&input).unwrap();
    assert_eq!(unpacked(Codec::Snappy, &raw).unwrap(), input);
    let joined = [&framed[..], &framed[..]].concat();
    assert_eq!(unpacked(Codec::Snappy, &joined).unwrap(), [&input[..], &input[..]].concat());
    for bad in [
        &b"\x82SNAPPY\0"[..],
        b"\x82SNAPPY\0\0\0\0\0\0\0\0\0",
        b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01\0\0\0\x09abc",
        b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01\xff\xff\xff\xffabc",
        b"\xff\xff\xff\xff\x0fabc",
        b"\xff\xff\x3fabc",
    ] {
        let fault = unpacked(Codec::Snappy, bad).unwrap_err();
        assert!(matches!(fault, BatchFault::Compression(Codec::Snappy, _)), "{bad:x?}: {fault}");
    }
}

#[cfg(feature = "lz4")]
mod lz4 {
    use std::io::Write;

    use lz4_flex::frame::{BlockMode, BlockSize, FrameEncoder, FrameInfo};

    use super::*;

    fn framed(info: FrameInfo, input: &[u8]) -> Vec<u8> {
        let mut encoder = FrameEncoder::with_frame_info(info, Vec::new());
        encoder.write_all(input).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn frames_begin_as_those_of_kafka() {
        let input = text(100_000);
        let packed = packed(Codec::Lz4, &input);
        assert_eq!(packed[..7], [0x04, 0x22, 0x4d, 0x18, 0x60, 0x40, 0x82]);
        assert_eq!(packed[packed.len() - 4..], [0; 4]);
        // The second block does not compress, so it is stored, with the top bit of its size.
        let first = u32::from_le_bytes(packed[7..11].try_into().unwrap()) as usize;
        let second = &packed[11 + first..];
        let size = u32::from_le_bytes(second[..4].try_into().unwrap());
        assert_eq!(size, (100_000 - 65_536) | 0x8000_0000);
        let mut reader = lz4_flex::frame::FrameDecoder::new(&packed[..]);
        let mut out = Vec::new();
        std::io::Read::read_to_end(&mut reader, &mut out).unwrap();
        assert_eq!(out, input);
    }

    #[test]
    fn all_standard_frames_with_independent_blocks_are_read_and_their_checksums_verified() {
        let input = text(700_000);
        let sizes = [BlockSize::Max64KB, BlockSize::Max256KB, BlockSize::Max1MB, BlockSize::Max4MB];
        for size in sizes {
            for checksums in [false, true] {
                for content_size in [None, Some(input.len() as u64)] {
                    let info = FrameInfo::new()
                        .block_size(size)
                        .block_mode(BlockMode::Independent)
                        .block_checksums(checksums)
                        .content_checksum(checksums)
                        .content_size(content_size);
                    let mut frame = framed(info, &input);
                    assert_eq!(unpacked(Codec::Lz4, &frame).unwrap(), input);
                    if checksums {
                        for back in [1, 12] {
                            let at = frame.len() - back;
                            frame[at] ^= 1;
                            assert!(unpacked(Codec::Lz4, &frame).is_err(), "{back} from the end");
                            frame[at] ^= 1;
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn frames_that_kafka_refuses_are_refused() {
        let input = text(70_000);
        let linked = framed(FrameInfo::new().block_mode(BlockMode::Linked), &input);
        let fault = unpacked(Codec::Lz4, &linked).unwrap_err();
        assert!(fault.to_string().contains("depend"), "{fault}");

        let good = packed(Codec::Lz4, &input);
        for (at, value) in [(0, 5), (4, 0xa0), (4, 0x61), (4, 0x62), (5, 0x30), (5, 0x48), (6, 0)] {
            let mut bad = good.clone();
            bad[at] = value;
            assert!(unpacked(Codec::Lz4, &bad).is_err(), "byte {at} = {value:#x}");
        }
        let mut long_block = good.clone();
        long_block[7..11].copy_from_slice(&65_537u32.to_le_bytes());
        assert!(unpacked(Codec::Lz4, &long_block).is_err());
        assert!(unpacked(Codec::Lz4, &good[..good.len() - 1]).is_err(), "no end mark");
        assert_eq!(unpacked(Codec::Lz4, &[&good[..], &[9; 5]].concat()).unwrap(), input);
        let lying = FrameInfo::new().block_mode(BlockMode::Independent).content_size(Some(70_000));
        let mut lying = framed(lying, &input);
        lying[6] ^= 1;
        assert!(unpacked(Codec::Lz4, &lying).is_err(), "the header's checksum covers the size");
    }
}

#[cfg(feature = "zstd")]
#[test]
fn zstd_frames_are_read_joined_and_with_any_window() {
    let input = text(200_000);
    let one = packed(Codec::Zstd, &input);
    assert_eq!(one[..4], [0x28, 0xb5, 0x2f, 0xfd]);
    let two = [&one[..], &one[..]].concat();
    assert_eq!(unpacked(Codec::Zstd, &two).unwrap(), [&input[..], &input[..]].concat());
    // Streams do not say how long they are, and level 22 asks for a window of 128 MiB.
    for level in [-5, 3, 22] {
        let stream = zstd::stream::encode_all(&input[..], level).unwrap();
        let mut out = Vec::new();
        decompress(Codec::Zstd, &stream, &mut out, DECOMPRESSED_MAX).unwrap();
        assert_eq!(out, input);
        assert!(out.capacity() <= 8 * stream.len() + (4 << 10), "{}", out.capacity());
    }
    assert!(unpacked(Codec::Zstd, &[&one[..], &[1, 2, 3]].concat()).is_err());
    assert!(unpacked(Codec::Zstd, &one[..one.len() - 1]).is_err());
    // A frame that declares 2^40 bytes and has none.
    let lying = [0x28, 0xb5, 0x2f, 0xfd, 0xe0, 0, 0, 0, 0, 0, 1, 0, 0, 1, 0, 0];
    let mut out = Vec::new();
    assert!(decompress(Codec::Zstd, &lying, &mut out, DECOMPRESSED_MAX).is_err());
    assert!(out.capacity() <= 1 << 20, "{}", out.capacity());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn records_come_back_through_every_codec(
        records in proptest::collection::vec(any_record(), 1..12), stamp in any_stamp(),
    ) {
        for codec in available() {
            let bytes = build(codec, &records, &stamp);
            let header = BatchHeader::parse(&bytes).unwrap();
            prop_assert_eq!(header.codec(), Ok(codec));
            prop_assert_eq!(header.records_count as usize, records.len());
            prop_assert_eq!(header.last_offset(), stamp.base_offset + records.len() as i64 - 1);
            prop_assert_eq!(
                (header.producer_id, header.producer_epoch, header.base_sequence),
                (stamp.producer_id, stamp.producer_epoch, stamp.base_sequence)
            );
            prop_assert_eq!(header.is_transactional(), stamp.transactional);
            prop_assert_eq!(header.leader_epoch, stamp.leader_epoch);
            let append_time = (stamp.timestamp_type == TimestampType::LogAppendTime)
                .then_some(stamp.append_time_ms);
            let newest = records.iter().map(|record| record.timestamp).max().unwrap();
            prop_assert_eq!(header.max_timestamp, append_time.unwrap_or(newest));
            for (i, (offset, record)) in read(&bytes).unwrap().into_iter().enumerate() {
                let mut expected = records[i].clone();
                expected.timestamp = append_time.unwrap_or(expected.timestamp);
                prop_assert_eq!(offset, stamp.base_offset + i as i64);
                prop_assert_eq!(record, expected);
            }
        }
    }
}
