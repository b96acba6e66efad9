//! Damaged and hostile bytes: detected, or without effect; never a panic, never much memory.

use super::*;
use crate::error::ErrorKind;

/// What a flipped bit outside the checksum changes, and nothing else.
#[derive(Debug, PartialEq)]
enum Uncovered {
    BaseOffset,
    LeaderEpoch,
}

/// Reads everything there is to read without looking at the checksum first.
fn exhaust(bytes: &[u8]) -> usize {
    let Ok(batch) = RecordBatch::parse(bytes) else { return 0 };
    let header = batch.header();
    assert_eq!(header.last_offset().wrapping_add(1), header.next_offset());
    assert!(header.last_sequence() >= -1);
    if let Ok(Some(control)) = batch.control() {
        assert_eq!(control.kind.is_marker(), control.coordinator_epoch.is_some());
    }
    let mut scratch = Vec::new();
    let limit = DECOMPRESSED_MAX;
    let mut count = 0;
    if let Ok(records) = batch.records(&mut scratch) {
        for record in records.map_while(Result::ok) {
            let headers: usize = record.headers().iter().map(|h| h.name().len()).sum();
            assert!(headers <= 3 * record.encoded_size());
            count += 1;
        }
    }
    assert!(scratch.len() <= limit);
    count
}

fn samples() -> Vec<Vec<u8>> {
    let mut samples: Vec<_> = [A, B, C, D].into_iter().map(hex).collect();
    for codec in available() {
        samples.push(build(codec, &sample(), &Stamp::plain(7, 3).producer(9, 1, 0)));
        let append_time = Stamp::plain(7, 3).log_append_time(5).transactional();
        samples.push(build(codec, &sample(), &append_time));
    }
    samples
}

#[test]
fn every_flipped_bit_is_detected_or_changes_only_a_field_outside_the_checksum() {
    for sample in samples() {
        let good = RecordBatch::parse(&sample).unwrap();
        good.check_crc().unwrap();
        let records = read(&sample).unwrap();
        // With and without a batch behind, because a wrong length may reach into it.
        for tail in [&[][..], &sample[..]] {
            let mut bytes = [&sample[..], tail].concat();
            for bit in 0..sample.len() * 8 {
                bytes[bit / 8] ^= 1 << (bit % 8);
                exhaust(&bytes);
                let uncovered = match bit / 8 {
                    0..8 => Some(Uncovered::BaseOffset),
                    12..16 => Some(Uncovered::LeaderEpoch),
                    _ => None,
                };
                let found = RecordBatch::parse(&bytes).and_then(|b| b.check_crc().map(|()| b));
                match (found, uncovered) {
                    (Err(_), None) => {}
                    (Err(fault), Some(field)) => panic!("{field:?} is not checked, yet {fault}"),
                    (Ok(_), None) => panic!("a flip of bit {bit} goes unnoticed"),
                    (Ok(damaged), Some(field)) => {
                        let mut header = *damaged.header();
                        match field {
                            Uncovered::BaseOffset => {
                                header.base_offset = good.header().base_offset;
                            }
                            Uncovered::LeaderEpoch => {
                                header.leader_epoch = good.header().leader_epoch;
                            }
                        }
                        assert_eq!(header, *good.header());
                        let same = read(damaged.bytes()).unwrap();
                        assert!(same.iter().zip(&records).all(|(a, b)| a.1 == b.1));
                    }
                }
                bytes[bit / 8] ^= 1 << (bit % 8);
            }
        }
    }
}

#[test]
fn a_batch_that_is_cut_off_anywhere_says_how_much_it_needs() {
    for sample in samples() {
        for len in 0..sample.len() {
            let fault = RecordBatch::parse(&sample[..len]).unwrap_err();
            let BatchFault::Incomplete { needed } = fault else { panic!("{len}: {fault}") };
            assert!(needed > len && needed <= sample.len(), "{len} of {}: {needed}", sample.len());
        }
        RecordBatch::parse(&sample).unwrap();
    }
}

#[test]
fn a_payload_that_ends_early_under_a_fitting_checksum_is_an_error() {
    for sample in samples() {
        let count = BatchHeader::parse(&sample).unwrap().records_count;
        for len in BATCH_OVERHEAD..sample.len() {
            let mut cut = sample[..len].to_vec();
            reseal(&mut cut);
            exhaust(&cut);
            let read = read(&cut);
            assert!(read.is_err() || count == 0, "{len} of {} bytes: {read:?}", sample.len());
        }
    }
}

#[test]
fn a_decompression_bomb_stops_at_the_limit() {
    for codec in available().filter(|&codec| codec != Codec::None) {
        let (zeros, limit) = (vec![0; 64 << 20], 16 << 20);
        let mut packed = Vec::new();
        codec::Compressor::new(codec, None).unwrap().compress(&zeros, &mut packed).unwrap();
        let mut out = Vec::new();
        let fault = codec::decompress(codec, &packed, &mut out, limit).unwrap_err();
        assert_eq!(fault, BatchFault::TooLarge(codec, limit));
        let error = fault.into_error();
        assert_eq!(error.kind(), ErrorKind::RecordTooLarge, "{error}");
        assert!(error.message().contains(DECOMPRESSED_MAX_SETTING), "{error}");
        assert!(out.capacity() <= 2 * limit + (1 << 20), "{codec}: {}", out.capacity());
        // It is no matter of how little it was compressed to.
        codec::decompress(codec, &packed, &mut out, DECOMPRESSED_MAX).unwrap();
        assert_eq!(out.len(), zeros.len(), "{codec}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    #[test]
    fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        exhaust(&bytes);
    }

    #[test]
    fn random_records_under_a_fitting_checksum_never_panic(
        payload in proptest::collection::vec(
            prop_oneof![4 => 0u8..16, 1 => any::<u8>()], 0..200),
        count in prop_oneof![0..20i32, any::<i32>()],
        attributes in any::<i16>(),
    ) {
        let mut bytes = batch_of(&payload, Codec::None, count);
        bytes[21..23].copy_from_slice(&attributes.to_be_bytes());
        reseal(&mut bytes);
        let count = exhaust(&bytes);
        prop_assert!(attributes & 7 != 0 || count <= payload.len() / 7);
    }

    #[test]
    fn edited_batches_under_a_fitting_checksum_never_panic(
        which in any::<prop::sample::Index>(),
        edits in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let mut samples = samples();
        let which = which.index(samples.len());
        let bytes = &mut samples[which];
        for (at, value) in edits {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        reseal(bytes);
        exhaust(bytes);
    }
}
