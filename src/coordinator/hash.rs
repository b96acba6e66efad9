//! What follows from Java's hash of a name: the partition of `__consumer_offsets` (or
//! `__transaction_state`) that keeps it, and its place among the keys of a map.

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

/// The place of each name in the order in which Java's `HashMap` walks over them: by the bucket
/// of a table that has grown with their number, then as they were put in, here in the given order.
pub(crate) fn java_map_places(names: &[&str]) -> Vec<(u32, usize)> {
    // A table of 16 buckets doubles when it is filled by more than three quarters.
    let mut buckets = 16_u32;
    while names.len() > buckets as usize / 4 * 3 {
        buckets *= 2;
    }
    let bucket = |name: &&str| {
        let hash = java_hash(name).cast_unsigned();
        (hash ^ (hash >> 16)) & (buckets - 1)
    };
    names.iter().enumerate().map(|(number, name)| (bucket(name), number)).collect()
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

    /// The order of a `HashMap` of Java 17 with these keys.
    #[test]
    fn names_stand_in_the_order_of_a_java_map() {
        let ordered = |names: &[&'static str]| {
            let mut placed: Vec<_> = java_map_places(names).into_iter().zip(names).collect();
            placed.sort_unstable();
            placed.into_iter().map(|(_, name)| *name).collect::<Vec<_>>()
        };
        let assignors = ["cooperative-sticky", "range", "roundrobin", "sticky"];
        assert_eq!(ordered(&assignors), ["sticky", "range", "roundrobin", "cooperative-sticky"]);
        let many = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l", "m", "zz"];
        assert_eq!(ordered(&many).join(""), "zzabcdefghijklm");
        // "Aa" and "BB" have one hash.
        assert_eq!(ordered(&["BB", "Aa"]), ["BB", "Aa"]);
    }

    #[test]
    fn letters_outside_the_basic_plane_count_as_two_units() {
        // U+1F600 is d83d de00 in UTF-16.
        assert_eq!(java_hash("\u{1f600}"), 0xd83d * 31 + 0xde00);
    }
}
