//! The rules of opening what another program wrote, one by one, on handmade files.

use super::*;

#[test]
fn a_foreign_log_may_have_gaps_empty_files_and_any_epochs() {
    let shelf = Shelf::new();
    let stamped = |offset, epoch| batch_at(offset, b"v", offset, &Stamp::plain(offset, epoch));
    shelf.put_log(5, &[stamped(7, -1), stamped(9, 2)].concat());
    shelf.put_log(20, b"");
    shelf.put_log(30, &stamped(41, 4));
    shelf.put_log(50, b"");
    shelf.put("00000000000000000050.index", &[0; 64]);
    shelf.put("00000000000000000099.timeindex", &[0; 12]);
    let mut opened = shelf.adopt();
    assert_eq!((opened.log_start_offset, opened.log_end_offset), (5, 50));
    assert_eq!(shelf.offsets(&opened), [7, 9, 41]);
    assert_eq!(kinds(&opened), []);
    let epochs: Vec<_> = opened.epochs.starts().iter().map(|e| (e.epoch, e.start_offset)).collect();
    assert_eq!(epochs, [(2, 9), (4, 41)]);
    opened.finish(&shelf.storage).unwrap();
    assert!(opened.resumable, "an empty last file is as good as a new one");
    assert_eq!(opened.recovery_point, 50);
    assert_eq!(
        shelf.names(),
        [
            "00000000000000000005.index",
            "00000000000000000005.log",
            "00000000000000000005.timeindex",
            "00000000000000000020.index",
            "00000000000000000020.log",
            "00000000000000000020.timeindex",
            "00000000000000000030.index",
            "00000000000000000030.log",
            "00000000000000000030.timeindex",
            "00000000000000000050.log",
        ]
    );
}

/// Three segments of another program with gaps inside and between, as recorded when they were
/// adopted: nothing of it was synced by us.
fn adopted_with_gaps() -> (Shelf, LogState) {
    let shelf = Shelf::new();
    shelf.put_log(5, &[batch(7, b"a"), batch(9, b"b")].concat());
    shelf.put_log(20, b"");
    shelf.put_log(30, &[batch(41, b"c"), batch(45, b"d")].concat());
    let state = shelf.adopt().state();
    assert!(state.segments.iter().all(|segment| segment.origin == SegmentOrigin::Foreign));
    assert_eq!((state.recovery_point, state.log_end_offset), (0, 46));
    (shelf, state)
}

#[test]
fn segments_of_another_program_may_have_gaps_after_a_power_cut_too() {
    let (shelf, state) = adopted_with_gaps();
    let mut opened = shelf.open(&state, Trust::OtherBoot);
    assert_eq!(kinds(&opened), []);
    assert_eq!(shelf.offsets(&opened), [7, 9, 41, 45]);
    assert!(!opened.resumable && opened.read_only.is_none());
    assert_eq!(opened.state(), state, "who wrote them is kept, also for the next power cut");
    opened.finish(&shelf.storage).unwrap();
    assert_eq!(shelf.offsets(&opened), [7, 9, 41, 45], "and nothing of them is cut");

    // What this crate appended behind them is recovered by its own rules.
    shelf.put_log(46, &[run(46..50, LEN), vec![0; 90], run(51..53, LEN)].concat());
    let mut opened = shelf.open(&state, Trust::OtherBoot);
    assert_eq!(shelf.offsets(&opened), [7, 9, 41, 45, 46, 47, 48, 49]);
    assert_eq!(kinds(&opened), [TornTail]);
    assert!(opened.resumable);
    opened.finish(&shelf.storage).unwrap();
    assert_eq!(shelf.get_log(46).unwrap(), run(46..50, LEN));
    shelf.put_log(46, &run(46..50, LEN));
    shelf.put_log(51, &run(51..53, LEN));
    let opened = shelf.open(&state, Trust::OtherBoot);
    assert_eq!((opened.log_end_offset, kinds(&opened)), (50, vec![LostSegments]));
}

#[test]
fn the_recovery_point_may_lie_among_segments_of_another_program() {
    let (shelf, mut state) = adopted_with_gaps();
    for point in [8, 10, 20, 25, 42, 46] {
        state.recovery_point = point;
        let opened = shelf.open(&state, Trust::OtherBoot);
        assert_eq!(shelf.offsets(&opened), [7, 9, 41, 45], "{point}");
        assert_eq!((kinds(&opened), opened.state()), (vec![], state.clone()), "{point}");
    }
}

#[test]
fn segments_of_another_program_that_a_power_cut_changed_are_read_as_they_were_adopted() {
    let reopened = |change: &dyn Fn(&Shelf)| {
        let (shelf, state) = adopted_with_gaps();
        shelf.put_log(46, &run(46..50, LEN));
        change(&shelf);
        let opened = shelf.open(&state, Trust::OtherBoot);
        assert_eq!(kinds(&opened).first(), Some(&StateContradicted));
        assert!(opened.report.foreign);
        let before = shelf.names();
        shelf.open(&state, Trust::OtherBoot);
        assert_eq!(shelf.names(), before);
        (shelf.offsets(&opened), damage(&opened).map(|d| (d.0, d.1)))
    };
    let corrupt = |offset| Some((CorruptRecord, offset));
    let zeroed = reopened(&|shelf| shelf.put_log(5, &[batch(7, b"a"), vec![0; 69]].concat()));
    assert_eq!(zeroed, (vec![7], corrupt(8)));
    let flipped = reopened(&|shelf| {
        let mut bytes = shelf.get_log(30).unwrap();
        bytes[65] ^= 1;
        shelf.put_log(30, &bytes);
    });
    assert_eq!(flipped, (vec![7, 9], corrupt(30)));
    let shorter = reopened(&|shelf| shelf.put_log(30, &batch(41, b"c")));
    assert_eq!(shorter, (vec![7, 9, 41, 46, 47, 48, 49], None));
    let missing = reopened(&|shelf| shelf.storage.remove(&shelf.log_path(30)).unwrap());
    assert_eq!(missing, (vec![7, 9, 46, 47, 48, 49], None));
    let longer = reopened(&|shelf| {
        shelf.put_log(5, &[batch(7, b"a"), batch(9, b"b"), batch(11, b"x")].concat())
    });
    assert_eq!(longer.0, [7, 9, 11, 41, 45, 46, 47, 48, 49]);
}

/// A log that ends behind a whole batch, or whose last file is gone, shows no damage itself.
#[test]
fn a_foreign_log_that_ends_below_what_was_synced_is_told() {
    let (shelf, _) = shelf();
    for (point, told) in [(30, vec![]), (31, vec![MissingSegment])] {
        let options = OpenOptions { recovery_checkpoint: Some(point), ..OpenOptions::default() };
        let opened = shelf.open_with(&LogState::default(), Trust::Foreign, options);
        assert_eq!((opened.log_end_offset, opened.read_only.is_none()), (30, true));
        assert_eq!(kinds(&opened), told);
    }
}

/// Kafka warns of the index and reads on behind the hole.
#[test]
fn a_foreign_segment_of_which_only_the_index_is_left_is_told() {
    let (shelf, _) = shelf();
    shelf.put("00000000000000000003.index", b"of a segment that compaction merged");
    assert_eq!(kinds(&shelf.adopt()), []);
    shelf.put_log(40, &run(40..45, LEN));
    assert_eq!(kinds(&shelf.adopt()), [], "a hole that compaction may have left");
    shelf.put("00000000000000000030.index", b"of a segment that is gone");
    let opened = shelf.adopt();
    assert_eq!((kinds(&opened), opened.read_only.is_none()), (vec![MissingSegment], true));
    assert_eq!((opened.log_end_offset, opened.findings[0].offset), (45, Some(30)));
}

#[test]
fn a_foreign_tail_is_set_aside_before_it_is_cut() {
    let (shelf, _) = shelf();
    let torn = &batch(30, &[7; 200])[..150];
    shelf.put_log(20, &[&run(20..30, LEN), torn].concat());
    shelf.put("00000000000000000020.log.cut", b"an earlier one");
    shelf.put("00000000000000000035.snapshot", b"of a later time");
    let options = OpenOptions { recovery_checkpoint: Some(31), ..OpenOptions::default() };
    let mut opened = shelf.open_with(&LogState::default(), Trust::Foreign, options);
    assert_eq!((opened.log_end_offset, opened.read_only.is_none()), (30, true));
    assert_eq!(kinds(&opened), [TornTail, TornTail]);
    assert!(opened.findings[1].message.contains("31"), "{}", opened.findings[1]);
    assert!(!opened.resumable, "never into a file that another program made");
    let before = shelf.names();
    for _ in 0..2 {
        shelf.adopt();
    }
    assert_eq!(shelf.names(), before, "opening writes nothing");
    opened.finish(&shelf.storage).unwrap();
    assert_eq!(shelf.get_log(20).unwrap(), run(20..30, LEN));
    assert_eq!(shelf.get("00000000000000000020.log.cut").unwrap(), b"an earlier one");
    assert_eq!(shelf.get("00000000000000000020.log.cut.1").unwrap(), torn);
    assert_eq!(shelf.get("00000000000000000035.snapshot"), None);
    let state = opened.state();
    assert!(
        state.segments.iter().all(|s| s.sealed && s.proofs.index.is_some() && !s.layout.is_dense())
    );
    assert_eq!(shelf.open(&state, Trust::Clean).findings, []);
}

#[test]
fn damage_inside_a_foreign_log_leaves_a_prefix_to_be_read() {
    let refused = |change: &dyn Fn(&Shelf), kind, offset, finding: FindingKind| {
        let (shelf, _) = shelf();
        change(&shelf);
        let mut opened = shelf.adopt();
        assert_eq!(damage(&opened).map(|d| (d.0, d.1)), Some((kind, offset)));
        assert_eq!(kinds(&opened), [finding]);
        assert_eq!(shelf.offsets(&opened), (0..offset).collect::<Vec<_>>());
        let before = shelf.names();
        assert_eq!(opened.finish(&shelf.storage).unwrap_err().kind(), kind);
        assert_eq!(shelf.names(), before, "what is refused is left as it is");
    };
    let flip = |shelf: &Shelf, base: i64, at: usize| {
        let mut bytes = shelf.get_log(base).unwrap();
        bytes[at] ^= 8;
        shelf.put_log(base, &bytes);
    };
    let size = size_of(LEN);
    refused(&|shelf| flip(shelf, 10, 3 * size + 80), CorruptRecord, 13, Corrupt);
    refused(&|shelf| flip(shelf, 10, 9 * size + 80), CorruptRecord, 19, Corrupt);
    refused(&|shelf| flip(shelf, 0, 11), CorruptRecord, 0, Corrupt);
    refused(&|shelf| shelf.put_log(10, &run(10..22, LEN)), CorruptRecord, 22, Corrupt);
    let old = |shelf: &Shelf| {
        // Format 1: offset, size, CRC-32 over what follows, magic, attributes, timestamp, key,
        // value.
        let body = [&[1, 0][..], &5i64.to_be_bytes(), &[255; 4], &[0, 0, 0, 1], b"v"].concat();
        let crc = crc32fast::hash(&body).to_be_bytes();
        let size = (4 + body.len() as i32).to_be_bytes();
        let message = [&15i64.to_be_bytes()[..], &size, &crc, &body].concat();
        shelf.put_log(10, &[run(10..15, LEN), message].concat());
    };
    refused(&old, UnsupportedFormat, 15, OldFormat);
}

#[test]
fn an_unfinished_compaction_is_finished_as_kafka_finishes_it() {
    // All results are there: they take the place of 0 and 10.
    let (shelf, _) = shelf();
    let cleaned = [batch(3, b"kept"), batch(19, b"kept")].concat();
    shelf.put("00000000000000000000.log.swap", &cleaned);
    shelf.put("00000000000000000000.index.swap", b"");
    shelf.put("00000000000000000010.snapshot", b"");
    shelf.put("00000000000000000020.log.deleted", b"x");
    let mut opened = shelf.adopt();
    let expected: Vec<i64> = [3, 19].into_iter().chain(20..30).collect();
    assert_eq!(shelf.offsets(&opened), expected);
    assert_eq!(opened.log_start_offset, 0);
    opened.finish(&shelf.storage).unwrap();
    assert_eq!(shelf.get_log(0).unwrap(), cleaned);
    assert_eq!((shelf.get_log(10), shelf.get("00000000000000000010.snapshot")), (None, None));
    assert!(shelf.names().iter().all(|name| !name.contains("swap") && !name.contains("deleted")));
    assert_eq!(shelf.offsets(&opened), expected);

    // A `.cleaned` beside it: not all were there, so it did not happen.
    let (shelf, _) = self::shelf();
    shelf.put("00000000000000000010.log.swap", &batch(10, b"kept"));
    shelf.put("00000000000000000000.log.cleaned", &batch(3, b"kept"));
    let mut opened = shelf.adopt();
    assert_eq!(shelf.offsets(&opened), (0..30).collect::<Vec<_>>());
    opened.finish(&shelf.storage).unwrap();
    assert_eq!(shelf.get_log(10).unwrap(), run(10..20, LEN));
    assert!(shelf.names().iter().all(|name| !name.contains("swap") && !name.contains("cleaned")));
}

#[test]
fn aborted_and_open_transactions_are_found_by_reading() {
    let shelf = Shelf::new();
    let of = |offset: i64, producer: i64| {
        batch_at(offset, b"t", 1, &Stamp::plain(offset, 0).producer(producer, 0, 0).transactional())
    };
    shelf.put_log(0, &[of(0, 7), of(1, 8), batch(2, b"plain")].concat());
    shelf.put_log(3, &[marker(3, 7, ControlType::Abort), of(4, 7)].concat());
    let mut opened = shelf.adopt();
    assert_eq!(opened.last_stable_offset(), 1);
    assert_eq!(opened.segments[0].aborted, []);
    let row = AbortedTransaction {
        producer_id: 7,
        first_offset: 0,
        last_offset: 3,
        last_stable_offset: 1,
    };
    assert_eq!(opened.segments[1].aborted, [row]);
    opened.finish(&shelf.storage).unwrap();
    let state = opened.state();
    assert!(state.transactional && state.aborted.is_empty(), "the file has them");
    let clean = shelf.open(&state, Trust::Clean);
    assert_eq!(clean.segments[1].aborted, [row]);
    assert_eq!(clean.last_stable_offset(), 1);

    // Without the file, or with garbage in it, the batches tell again.
    for garbage in [None, Some(vec![1; 34])] {
        match garbage {
            None => shelf.storage.remove(&shelf.path("00000000000000000003.txnindex")).unwrap(),
            Some(bytes) => shelf.put("00000000000000000003.txnindex", &bytes),
        }
        let clean = shelf.open(&state, Trust::Clean);
        assert_eq!(clean.segments[1].aborted, [row]);
        assert_eq!(kinds(&clean), [DerivedFile]);
    }
}

/// Whole batches that are missing may be what a compaction left; a marker with records of its
/// transaction before it is not.
#[test]
fn a_marker_that_is_missing_between_files_ends_the_log() {
    let of = |offset: i64, epoch: i16| {
        let stamp = Stamp::plain(offset, 0).producer(7, epoch, 0).transactional();
        batch_at(offset, b"t", 1, &stamp)
    };
    let opened = |first: &[u8], second: &[u8]| {
        let shelf = Shelf::new();
        shelf.put_log(0, first);
        shelf.put_log(10, second);
        let opened = shelf.adopt();
        let state = opened.state();
        assert_eq!(shelf.open(&state, Trust::SameBoot).last_stable_offset(), 1);
        (shelf.offsets(&opened), damage(&opened), opened.last_stable_offset())
    };
    let (plain, later) = (batch(0, b"plain"), of(12, 1));
    let found = opened(&[plain.clone(), of(1, 0)].concat(), &[batch(10, b"p"), later].concat());
    let position = size_of(1) as u64;
    assert_eq!(found, (vec![0, 1, 10], Some((CorruptRecord, 11, position)), 1));
    let found = opened(&[plain, of(1, 0)].concat(), &of(10, 0));
    assert_eq!(found, (vec![0, 1, 10], None, 1), "its epoch goes on");
}

#[test]
fn progress_is_told_while_a_foreign_log_is_read() {
    let (shelf, _) = shelf();
    let mut told = 0;
    let mut progress = |bytes| told += bytes;
    let options = OpenOptions { progress: Some(&mut progress), ..OpenOptions::default() };
    let opened = shelf.open_with(&LogState::default(), Trust::Foreign, options);
    let size = 30 * size_of(LEN) as u64;
    assert_eq!((opened.report.bytes_read, told), (size, size));
    assert_eq!((opened.report.batches, opened.report.records), (30, 30));
}
