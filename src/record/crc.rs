//! CRC-32C (Castagnoli), the checksum of record batches and producer snapshots.
//!
//! Crate `crc-fast` at every size: it is the fastest that safe code can call. ns for 40 / 100 /
//! 256 / 1,024 / 65,536 bytes on an Intel with VPCLMULQDQ: crc-fast 7.3 / 9.9 / 20 / 41 / 1,140;
//! crc32c 10 / 13 / 27 / 62 / 2,510; a loop of the crc32 instruction, which needs unsafe code,
//! 3.3 / 7.0 / 15 / 94 / 6,700. Going on from a checksum costs 3 ns more than beginning one. With
//! the feature `std` alone it has neither C code nor a network crate below it.

/// The checksum of `bytes`; of `123456789` it is `0xe3069283`.
#[inline]
pub fn crc32c(bytes: &[u8]) -> u32 {
    crc_fast::crc32_iscsi(bytes)
}

/// The checksum of what `crc` is the checksum of, followed by `bytes`.
#[inline]
pub fn crc32c_append(crc: u32, bytes: &[u8]) -> u32 {
    let init = u64::from(!crc);
    let mut digest =
        crc_fast::Digest::new_with_init_state(crc_fast::CrcAlgorithm::Crc32Iscsi, init);
    digest.update(bytes);
    (digest.finalize() & 0xffff_ffff) as u32
}

/// As [`crc32c_append`] for a handful of bytes: a table step each, without a call.
#[inline]
pub(super) fn crc32c_append_few(crc: u32, bytes: &[u8]) -> u32 {
    let mut state = !crc;
    for &byte in bytes {
        let [low, ..] = state.to_le_bytes();
        let step = TABLE.get(usize::from(low ^ byte)).copied().unwrap_or_default();
        state = step ^ state >> 8;
    }
    !state
}

/// What each value of the low byte turns into.
const TABLE: [u32; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut crc = byte as u32;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 1 == 1 { crc >> 1 ^ 0x82f6_3b78 } else { crc >> 1 };
            bit += 1;
        }
        #[allow(clippy::indexing_slicing, reason = "evaluated by the compiler")]
        {
            table[byte] = crc;
        }
        byte += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Bit by bit from the definition: reflected polynomial 0x82f63b78, all ones in and out.
    fn by_definition(bytes: &[u8]) -> u32 {
        let mut crc = !0u32;
        for &byte in bytes {
            crc ^= u32::from(byte);
            for _ in 0..8 {
                crc = if crc & 1 == 1 { crc >> 1 ^ 0x82f6_3b78 } else { crc >> 1 };
            }
        }
        !crc
    }

    #[test]
    fn the_check_value_is_that_of_castagnoli() {
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
        assert_eq!(crc32c(b""), 0);
        assert_eq!(crc32c_append(crc32c(b"1234"), b"56789"), 0xe306_9283);
    }

    #[test]
    fn every_length_around_the_block_sizes_agrees_with_the_definition() {
        let bytes: Vec<u8> =
            (0..2100u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        for len in (0..600).chain(1000..1100).chain(2000..2100) {
            assert_eq!(crc32c(&bytes[..len]), by_definition(&bytes[..len]), "{len} bytes");
        }
    }

    proptest! {
        #[test]
        fn a_checksum_goes_on_at_any_cut(
            bytes in proptest::collection::vec(any::<u8>(), 0..3000), cut in 0usize..3000,
        ) {
            let cut = cut.min(bytes.len());
            let whole = crc32c(&bytes);
            prop_assert_eq!(whole, by_definition(&bytes));
            prop_assert_eq!(crc32c_append(crc32c(&bytes[..cut]), &bytes[cut..]), whole);
        }
    }
}
