//! Which partition of `__consumer_offsets` (or `__transaction_state`) keeps a name.

/// Java's `String.hashCode`: over UTF-16 units, wrapping at 32 bits.
pub(crate) fn java_hash(text: &str) -> i32 {
    text.encode_utf16().fold(0i32, |hash, unit| hash.wrapping_mul(31).wrapping_add(i32::from(unit)))
}

/// The partition among `partitions` (at least 1) that keeps the records of `name`.
///
/// The absolute value of the hash, where the one number without a positive counterpart counts
/// as 0.
pub(crate) fn partition_for(name: &str, partitions: i32) -> i32 {
    java_hash(name).checked_abs().unwrap_or(0) % partitions.max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_hash_as_in_java() {
        for (name, hash, partition) in [
            ("my-group", -1_906_497_762, 12),
            ("test", 3_556_498, 48),
            ("foo", 101_574, 24),
            ("console-consumer-1", 35_782_224, 24),
            ("", 0, 0),
            ("polygenelubricants", i32::MIN, 0),
        ] {
            assert_eq!(java_hash(name), hash, "{name}");
            assert_eq!(partition_for(name, 50), partition, "{name}");
        }
    }

    #[test]
    fn letters_outside_the_basic_plane_count_as_two_units() {
        // U+1F600 is d83d de00 in UTF-16.
        assert_eq!(java_hash("\u{1f600}"), 0xd83d * 31 + 0xde00);
    }
}
