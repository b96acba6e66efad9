//! Sequence numbers of idempotent producers: 0 to 2^31 - 1, and then 0 again
//! (`DefaultRecordBatch.incrementSequence`).

/// The sequence `by` places after `sequence`.
#[inline]
pub(in crate::log) fn after(sequence: i32, by: i32) -> i32 {
    // Both are below 2^31, so the sum fits 32 bits without a sign; the highest one falls away.
    let sum = sequence.cast_unsigned().wrapping_add(by.cast_unsigned());
    (sum & i32::MAX.cast_unsigned()).cast_signed()
}

/// The sequence `by` places before `sequence`.
pub(in crate::log) fn before(sequence: i32, by: i32) -> i32 {
    let difference = sequence.cast_unsigned().wrapping_sub(by.cast_unsigned());
    (difference & i32::MAX.cast_unsigned()).cast_signed()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sequence_behind_the_largest_is_0() {
        assert_eq!(after(i32::MAX, 1), 0);
        assert_eq!(after(i32::MAX - 1, 4), 2);
        assert_eq!(after(7, 0), 7);
        assert_eq!(before(0, 1), i32::MAX);
        assert_eq!(before(2, 4), i32::MAX - 1);
        for (sequence, by) in [(0, 5), (i32::MAX, i32::MAX), (17, 100), (i32::MAX - 3, 9)] {
            assert_eq!(before(after(sequence, by), by), sequence);
        }
    }
}
