//! CRC-32C (Castagnoli), the checksum of record batches and producer snapshots.
//!
//! Two crates share the work: `crc-fast`, which multiplies without carries, and `crc32c`, which
//! runs the processor's crc32 instruction in three lanes. Where AVX-512 has the wide multiplication
//! (VPCLMULQDQ), the former is the faster at every size; elsewhere on x86-64 it folds 16 bytes at a
//! time, and is the slower from about 300 bytes on. Which it is, the processor says; nothing is
//! measured at start. ns, crc-fast / crc32c, of the faster loop of fifteen (bench `crc`):
//!
//! ```text
//! bytes                       100        256        1,024      65,536
//! Intel, with the wide one    9.9 / 13   20 / 27    41 / 62    1,140 / 2,510
//! AMD Zen 3, without          13 / 18    24 / 31    100 / 70   3,554 / 2,822
//! ```
//! Going on from a checksum costs 3 ns more than beginning one. Neither has C code or a network
//! crate below it.

/// Up to so many bytes `crc-fast` is the faster on every processor.
const SHORT_BYTES_MAX: usize = 256;

/// Whether the crc32 instruction is the faster for more bytes than [`SHORT_BYTES_MAX`].
#[cfg(target_arch = "x86_64")]
#[inline]
fn prefers_instruction() -> bool {
    // Each of them is a look at what the standard library remembers.
    !(is_x86_feature_detected!("vpclmulqdq") && is_x86_feature_detected!("avx512vl"))
        && is_x86_feature_detected!("sse4.2")
}

/// What other processors prefer was not measured: `crc-fast` has code of its own for them.
#[cfg(not(target_arch = "x86_64"))]
#[inline]
fn prefers_instruction() -> bool {
    false
}

/// The checksum of `bytes`; of `123456789` it is `0xe3069283`.
#[inline]
pub fn crc32c(bytes: &[u8]) -> u32 {
    match bytes.len() > SHORT_BYTES_MAX {
        true => crc32c_of_many(bytes),
        false => crc_fast::crc32_iscsi(bytes),
    }
}

/// A call of its own, so that what a short checksum takes stays small enough to be inlined.
#[inline(never)]
fn crc32c_of_many(bytes: &[u8]) -> u32 {
    match prefers_instruction() {
        true => crc32c::crc32c(bytes),
        false => crc_fast::crc32_iscsi(bytes),
    }
}

/// The checksum of what `crc` is the checksum of, followed by `bytes`.
#[inline]
pub fn crc32c_append(crc: u32, bytes: &[u8]) -> u32 {
    if bytes.len() > SHORT_BYTES_MAX && prefers_instruction() {
        return crc32c::crc32c_append(crc, bytes);
    }
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
