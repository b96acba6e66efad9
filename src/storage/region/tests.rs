//! Tests of the region over memory that no file backs, so that Miri and sanitizers run them.

use super::*;
use crate::sync::thread::spawn_named;

fn region(capacity: usize, prepared: usize) -> Region {
    Region::zeroed(capacity, prepared, None).unwrap()
}

fn panics(body: impl FnOnce()) -> bool {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(body)).is_err()
}

#[test]
fn readers_see_what_is_published_and_no_more() {
    let region = region(64, 64);
    let mut writer = region.writer().unwrap();
    writer.write(0, b"abcdef");
    assert_eq!(region.published(), 0);
    assert_eq!(writer.bytes(0..6), b"abcdef");
    writer.publish(4);
    assert_eq!(region.read(0..4), b"abcd");
    assert_eq!(region.read(4..4), b"");
    let reader = region.clone();
    assert!(panics(move || drop(reader.read(0..5).to_vec())));
}

#[test]
#[allow(clippy::reversed_empty_ranges)]
fn a_read_of_a_reversed_range_panics() {
    let region = Region::copied(b"abc").unwrap();
    assert!(panics(move || drop(region.read(2..1).to_vec())));
}

#[test]
fn a_write_below_the_published_border_panics_and_changes_nothing() {
    let region = region(64, 64);
    let mut writer = region.writer().unwrap();
    writer.write(0, b"abcd");
    writer.publish(4);
    assert!(panics(|| writer.write(3, b"x")));
    assert!(panics(|| writer.zero(0..4)));
    assert_eq!(region.read(0..4), b"abcd");
}

#[test]
fn numbers_are_written_as_their_bytes_are_where_bytes_may_be_written() {
    let region = region(64, 32);
    let mut writer = region.writer().unwrap();
    let (first, second) = (0x0102_0304_0506_0708, 0x0607_0809_0a0b_0c0d);
    writer.write_numbers(3, 13, [(0, first), (5, second)]);
    writer.write(16, b"z");
    writer.publish(17);
    assert_eq!(region.read(0..17), b"\0\0\0\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b\x0c\x0dz");
    assert!(panics(|| writer.write_numbers(16, 8, [(0, first)])), "published");
    assert!(panics(|| writer.write_numbers(25, 8, [(0, first)])), "not prepared");
    assert!(panics(|| writer.write_numbers(17, 8, [(1, first)])), "beyond its length");
    assert!(panics(|| writer.write_numbers(17, 7, [(0, first)])), "no room");
    assert_eq!(writer.bytes(17..32), [0; 15]);
}

#[test]
fn a_write_beyond_the_prepared_border_panics_until_the_border_moves() {
    let region = region(64, 8);
    let mut writer = region.writer().unwrap();
    writer.write(6, b"xy");
    assert!(panics(|| writer.write(7, b"xy")));
    assert!(panics(|| writer.write(usize::MAX, b"xy")));
    assert!(panics(|| writer.publish(9)));
    region.set_prepared(16).unwrap();
    writer.write(7, b"xy");
    writer.publish(9);
    assert_eq!(region.read(6..9), b"xxy");
    assert!(region.set_prepared(65).is_err(), "beyond the mapping");
}

#[test]
fn the_published_border_never_goes_back() {
    let region = region(16, 16);
    let mut writer = region.writer().unwrap();
    writer.publish(8);
    writer.publish(4);
    assert_eq!((writer.published(), region.published()), (8, 8));
}

#[test]
fn there_is_one_writer_at_a_time() {
    let region = region(16, 16);
    let mut first = region.writer().unwrap();
    assert!(region.writer().is_none());
    first.publish(3);
    drop(first);
    let second = region.writer().unwrap();
    assert_eq!(second.published(), 3);
    assert!(Region::copied(b"abc").unwrap().writer().is_none(), "for reading only");
}

#[test]
fn cutting_needs_the_writer_gone_and_keeps_what_is_published() {
    let region = region(64, 64);
    let mut writer = region.writer().unwrap();
    writer.write(0, b"abcdef");
    writer.publish(2);
    assert_eq!(region.cut(4, || Ok(())).unwrap_err().kind(), io::ErrorKind::ResourceBusy);
    drop(writer);
    assert_eq!(region.cut(1, || Ok(())).unwrap_err().kind(), io::ErrorKind::InvalidInput);
    region.cut(4, || Ok(())).unwrap();
    assert_eq!(region.prepared(), 4);
    region.set_prepared(8).unwrap();
    let writer = region.writer().unwrap();
    assert_eq!(writer.bytes(0..8), b"abcd\0\0\0\0", "grown again, it reads as zeros");
}

#[test]
fn a_cut_that_fails_changes_nothing() {
    let region = region(64, 64);
    assert!(region.cut(4, || Err(io::ErrorKind::Other.into())).is_err());
    assert_eq!(region.prepared(), 64);
}

#[test]
fn a_copy_beside_a_writer_shows_only_published_bytes() {
    let region = region(64, 8);
    let mut writer = region.writer().unwrap();
    writer.write(0, b"abcdef");
    writer.publish(3);
    let mut out = [9; 16];
    assert_eq!(region.copy_out(1, &mut out), 7);
    assert_eq!(&out[..8], b"bc\0\0\0\0\0\x09");
    drop(writer);
    assert_eq!(region.copy_out(1, &mut out), 7);
    assert_eq!(&out[..8], b"bcdef\0\0\x09");
    assert_eq!(region.copy_out(100, &mut out), 0);
}

#[test]
fn every_change_is_traced_in_order() {
    #[derive(Debug, Default)]
    struct Log(Mutex<Vec<(usize, Vec<u8>)>>);
    impl Trace for Log {
        fn wrote(&self, at: usize, bytes: &[u8]) {
            self.0.lock().push((at, bytes.to_vec()));
        }
        fn zeroed(&self, at: usize, len: usize) {
            self.0.lock().push((at, vec![0; len]));
        }
    }
    let log = Arc::new(Log::default());
    let region = Region::zeroed(64, 64, Some(log.clone())).unwrap();
    let mut writer = region.writer().unwrap();
    writer.write(3, b"ab");
    writer.zero(8..10);
    assert_eq!(*log.0.lock(), [(3, b"ab".to_vec()), (8, vec![0, 0])]);
}

/// One writer appends counters; readers check every byte they may see, all the time.
#[test]
fn readers_on_other_threads_never_see_unfinished_bytes() {
    let records = if cfg!(miri) { 64 } else { 100_000 };
    let region = region(records * 8, records * 8);
    let readers: Vec<_> = (0..2)
        .map(|_| {
            let region = region.clone();
            spawn_named("reader", move || {
                let mut next = 0;
                while next < records {
                    let published = region.published() / 8;
                    let bytes = region.read(next * 8..published * 8);
                    for chunk in bytes.chunks_exact(8) {
                        assert_eq!(chunk, (next as u64).to_be_bytes());
                        next += 1;
                    }
                    crate::sync::spin_loop();
                }
            })
            .unwrap()
        })
        .collect();
    let mut writer = region.writer().unwrap();
    for i in 0..records {
        writer.write(i * 8, &(i as u64).to_be_bytes());
        writer.publish((i + 1) * 8);
    }
    for reader in readers {
        reader.join().unwrap();
    }
}

#[test]
fn memory_lives_as_long_as_the_last_clone() {
    let region = Region::copied(b"abc").unwrap();
    let clone = region.clone();
    drop(region);
    assert_eq!(clone.read(0..3), b"abc");
    let writer = self::region(8, 8).writer().unwrap();
    assert_eq!(writer.bytes(0..8), [0; 8]);
}

#[test]
fn a_large_region_costs_what_is_touched_of_it() {
    if cfg!(miri) {
        return;
    }
    let region = region(1 << 36, 1 << 36);
    let mut writer = region.writer().unwrap();
    writer.write((1 << 36) - 3, b"end");
    drop(writer);
    let mut out = [0; 4];
    assert_eq!(region.copy_out((1 << 36) - 4, &mut out), 4);
    assert_eq!(&out, b"\0end");
}
