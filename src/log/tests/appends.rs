//! Appending and reading: offsets, validation, rolls, wake-ups.

use super::*;
use crate::record::{BatchBuilder, Codec, Stamp, TimestampType};

#[test]
fn nothing_is_touched_before_the_first_append() {
    Bench::both(|bench| {
        let log = bench.new_log();
        assert_eq!(log.log_end_offset().unwrap(), 0);
        assert!(read_all(&log, 0).is_empty());
        assert!(bench.storage.list(&bench.root).unwrap().is_empty());
        assert_eq!(bench.gate.entered.load(Ordering::SeqCst), 0);
        bench.append(&log, b"one");
        assert_eq!(bench.gate.entered.load(Ordering::SeqCst), 1);
        assert_eq!(
            bench.names(),
            ["00000000000000000000.log", "leader-epoch-checkpoint", "partition.metadata"]
        );
    });
}

#[test]
fn records_come_back_in_order_with_dense_offsets() {
    Bench::both(|bench| {
        let log = bench.new_log();
        for i in 0..1000_i64 {
            let value = vec![b'v'; (i % 50) as usize];
            let appended = bench.append_at(&log, &value, START_MS + i);
            assert_eq!((appended.base_offset, appended.last_offset), (i, i));
            assert_eq!(appended.timestamp, START_MS + i);
            assert!(!appended.must_sync);
        }
        assert_eq!(log.log_end_offset().unwrap(), 1000);
        for from in [0, 1, 500, 999] {
            let found = read_all(&log, from);
            assert_eq!(found.len() as i64, 1000 - from);
            for (i, (offset, timestamp, value)) in (from..).zip(found) {
                assert_eq!((offset, timestamp), (i, START_MS + i));
                assert_eq!(value.len() as i64, i % 50);
            }
        }
    });
}

#[test]
fn segments_roll_by_size_and_none_exceeds_its_size() {
    Bench::both(|bench| {
        bench.config.segment_bytes = 4000;
        let log = bench.new_log();
        for i in 0..200 {
            bench.append(&log, format!("{i:0100}").as_bytes());
        }
        assert!(log.segment_count().unwrap() > 8);
        let found = read_all(&log, 0);
        assert_eq!(found.len(), 200);
        let extents = log.last_extent();
        for segment in log.segments.all().iter() {
            let size = extents.of(segment).size_bytes;
            assert!(
                size <= 4000 && size > 3500
                    || segment.stage() == crate::log::segment::Stage::Active
            );
        }
        let batch = log.read(&mut Cursor::new(150), 1, IsolationLevel::ReadUncommitted).unwrap();
        assert_eq!(RecordBatch::parse(batch.bytes()).unwrap().header().base_offset, 150);
    });
}

fn kind_of(outcome: Result<Appended>) -> ErrorKind {
    outcome.unwrap_err().kind()
}

fn record(timestamp: i64, value: &[u8]) -> RecordInput<'_> {
    RecordInput { timestamp, key: Some(b"k"), value: Some(value), headers: &[] }
}

fn batch_of(records: &[RecordInput<'_>], codec: Codec) -> Vec<u8> {
    let mut builder = BatchBuilder::new(codec, None).unwrap();
    for record in records {
        builder.append(record).unwrap();
    }
    builder.finish(&Stamp::plain(0, -1)).unwrap().to_vec()
}

/// The batches of a log, from the first on.
fn stored_batches(log: &Log) -> Vec<Vec<u8>> {
    let mut cursor = Cursor::new(0);
    let mut found = Vec::new();
    loop {
        let chunk = log.read(&mut cursor, 1, IsolationLevel::ReadUncommitted).unwrap();
        if chunk.is_empty() {
            return found;
        }
        found.push(chunk.bytes().to_vec());
    }
}

#[test]
fn what_a_topic_refuses_leaves_the_log_as_it_was() {
    Bench::both(|bench| {
        bench.config.max_message_bytes = 200;
        bench.config.timestamp_before_max_ms = 1000;
        bench.config.timestamp_after_max_ms = 500;
        let log = bench.new_log();
        let try_at = |timestamp: i64| log.append(&record(timestamp, b"v"), bench.options());
        for timestamp in [START_MS - 1000, START_MS + 500, -1] {
            assert!(try_at(timestamp).is_ok(), "{timestamp}");
        }
        for timestamp in [START_MS - 1001, START_MS + 501, -2, i64::MIN, i64::MAX] {
            assert_eq!(kind_of(try_at(timestamp)), ErrorKind::InvalidTimestamp, "{timestamp}");
            let mut batch = batch_of(&[record(START_MS, b"a")], Codec::None);
            if timestamp >= 0 {
                batch = batch_of(&[record(START_MS, b"a"), record(timestamp, b"b")], Codec::None);
                for options in [bench.options(), bench.options().proven()] {
                    let kind = kind_of(log.append_batch(&mut batch.clone(), options));
                    assert_eq!(kind, ErrorKind::InvalidTimestamp, "{timestamp}");
                }
            }
            assert!(!batch.is_empty());
        }
        // The rest of a batch of one record with this key takes 71 bytes, lengths included.
        assert!(log.append(&record(START_MS, &[0; 128]), bench.options()).is_ok());
        let large = log.append(&record(START_MS, &[0; 131]), bench.options());
        assert_eq!(kind_of(large), ErrorKind::RecordTooLarge);
        assert_eq!(log.log_end_offset().unwrap(), 4);
        assert_eq!(read_all(&log, 0).len(), 4);
    });
}

#[test]
fn a_batch_larger_than_a_segment_is_refused_by_its_own_name() {
    let mut bench = Bench::heap();
    bench.config.segment_bytes = 1000;
    let log = bench.new_log();
    let outcome = log.append(&record(START_MS, &[0; 1000]), bench.options());
    assert_eq!(kind_of(outcome), ErrorKind::RecordBatchTooLarge);
    assert!(bench.storage.list(&bench.root).unwrap().is_empty(), "refused before the first append");
}

#[test]
fn a_compacted_topic_needs_keys_and_a_bad_timestamp_of_another_record_wins() {
    let mut bench = Bench::heap();
    bench.config.cleanup_compact = true;
    let log = bench.new_log();
    let keyless = RecordInput { key: None, ..record(START_MS, b"v") };
    assert_eq!(kind_of(log.append(&keyless, bench.options())), ErrorKind::InvalidRecord);
    let late = RecordInput { timestamp: i64::MAX, ..keyless };
    let options = bench.options();
    assert_eq!(kind_of(log.append(&late, options)), ErrorKind::InvalidRecord);
    let late = RecordInput { key: Some(b"k"), ..late };
    assert_eq!(
        kind_of(log.append_records(&[keyless, late], Codec::None, None, options)),
        ErrorKind::InvalidTimestamp
    );
    let mut batch = batch_of(&[record(START_MS, b"v"), keyless], Codec::None);
    assert_eq!(kind_of(log.append_batch(&mut batch, options.proven())), ErrorKind::InvalidRecord);
    assert!(log.append(&record(START_MS, b"v"), options).is_ok());
    assert_eq!(
        log.check_record(false, START_MS, START_MS).unwrap_err().kind(),
        ErrorKind::InvalidRecord
    );
}

#[test]
fn a_batch_is_stamped_and_otherwise_stored_as_it_came() {
    Bench::both(|bench| {
        bench.gate.epoch.store(3, Ordering::SeqCst);
        let log = bench.new_log();
        bench.append(&log, b"first");
        let records =
            [record(START_MS, b"a"), record(START_MS + 7, b"b"), record(START_MS + 1, b"c")];
        let batch = batch_of(&records, Codec::None);
        let appended = log.append_batch(&mut batch.clone(), bench.options()).unwrap();
        assert_eq!((appended.base_offset, appended.last_offset), (1, 3));
        assert_eq!(appended.timestamp, START_MS + 7);
        let stored = &stored_batches(&log)[1];
        let header = *RecordBatch::parse(stored).unwrap().header();
        assert_eq!((header.base_offset, header.leader_epoch), (1, 3));
        assert_eq!(stored[16..], batch[16..]);
        assert_eq!(read_all(&log, 2)[0], (2, START_MS + 7, b"b".to_vec()));
    });
}

#[test]
fn malformed_batches_are_refused() {
    let bench = Bench::heap();
    let log = bench.new_log();
    let good = batch_of(&[record(START_MS, b"a"), record(START_MS, b"b")], Codec::None);
    let with = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut batch = good.clone();
        change(&mut batch);
        kind_of(log.append_batch(&mut batch, bench.options()))
    };
    assert_eq!(with(&|b| b[7] = 1), ErrorKind::InvalidRecord, "a base offset");
    assert_eq!(with(&|b| b.extend_from_slice(&[0; 5])), ErrorKind::InvalidRecord, "two batches");
    assert_eq!(with(&|b| b[70] ^= 1), ErrorKind::CorruptRecord, "a flipped bit");
    assert_eq!(with(&|b| b.truncate(70)), ErrorKind::CorruptRecord, "cut off");
    assert_eq!(with(&|b| b[16] = 1), ErrorKind::UnsupportedFormat, "an old format");
    let resealed = |change: &dyn Fn(&mut Vec<u8>)| {
        with(&|batch| {
            change(batch);
            let crc = crate::record::crc32c(&batch[21..]);
            batch[17..21].copy_from_slice(&crc.to_be_bytes());
        })
    };
    assert_eq!(resealed(&|b| b[60] = 3), ErrorKind::InvalidRecord, "a wrong count");
    assert_eq!(resealed(&|b| b[22] |= 0x20), ErrorKind::InvalidRecord, "a control batch");
    assert_eq!(resealed(&|b| b[22] |= 0x08), ErrorKind::InvalidTimestamp, "LogAppendTime");
    assert_eq!(
        resealed(&|b| b[43..51].copy_from_slice(&9_i64.to_be_bytes())),
        ErrorKind::InvalidRecord,
        "a producer id"
    );
    assert_eq!(log.log_end_offset().unwrap(), 0);
}

#[test]
fn a_wrong_largest_timestamp_is_put_right() {
    let bench = Bench::heap();
    let log = bench.new_log();
    let mut batch = batch_of(&[record(START_MS, b"a"), record(START_MS + 5, b"b")], Codec::None);
    batch[35..43].copy_from_slice(&(START_MS - 1).to_be_bytes());
    let crc = crate::record::crc32c(&batch[21..]);
    batch[17..21].copy_from_slice(&crc.to_be_bytes());
    let appended = log.append_batch(&mut batch, bench.options()).unwrap();
    assert_eq!(appended.timestamp, START_MS + 5);
    let stored = &stored_batches(&log)[0];
    assert_eq!(RecordBatch::parse(stored).unwrap().header().max_timestamp, START_MS + 5);
}

#[test]
fn log_append_time_overwrites_every_timestamp() {
    Bench::both(|bench| {
        bench.config.timestamp_type = TimestampType::LogAppendTime;
        let log = bench.new_log();
        let options = AppendOptions::client(START_MS + 42);
        let appended = log.append(&record(5, b"a"), options).unwrap();
        assert_eq!((appended.timestamp, appended.log_append_time), (START_MS + 42, true));
        let mut batch = batch_of(&[record(1, b"b"), record(i64::MAX, b"c")], Codec::None);
        log.append_batch(&mut batch, options).unwrap();
        log.append_records(&[record(3, b"d")], Codec::None, None, options).unwrap();
        let found = read_all(&log, 0);
        assert_eq!(found.len(), 4);
        assert!(found.iter().all(|(_, timestamp, _)| *timestamp == START_MS + 42));
        assert_eq!(
            log.max_timestamp(4).unwrap(),
            Some(TimestampAndOffset { timestamp: START_MS + 42, offset: 0 })
        );
    });
}

#[cfg(feature = "lz4")]
#[test]
fn a_topic_with_a_codec_stores_everything_with_it() {
    let mut bench = Bench::heap();
    bench.config.compression = crate::config::Compression::Stored(Codec::Lz4, None);
    bench.config.max_message_bytes = 2200;
    let log = bench.new_log();
    let value = [b'x'; 1000];
    log.append(&record(START_MS, &value), bench.options()).unwrap();
    log.append_records(&[record(START_MS, &value)], Codec::None, None, bench.options()).unwrap();
    let mut batch = batch_of(&[record(START_MS, &value), record(START_MS, &value)], Codec::None);
    assert_eq!(log.append_batch(&mut batch, bench.options()).unwrap().last_offset, 3);
    for stored in stored_batches(&log) {
        assert_eq!(RecordBatch::parse(&stored).unwrap().header().codec().unwrap(), Codec::Lz4);
    }
    assert!(read_all(&log, 0).iter().all(|(_, _, stored)| stored == &value));
    bench.config.max_message_bytes = 300;
    log.apply_config(bench.config.clone());
    let many = [record(START_MS, &value); 3];
    for outcome in [
        log.append(&many[0], bench.options()),
        log.append_records(&many, Codec::None, None, bench.options()),
        log.append_batch(&mut batch_of(&many, Codec::None), bench.options()),
        log.append(&RecordInput { timestamp: i64::MAX, ..many[0] }, bench.options()),
    ] {
        assert_eq!(kind_of(outcome), ErrorKind::RecordTooLarge, "a batch is measured as it comes");
    }
    log.append_batch(&mut batch_of(&many, Codec::Lz4), bench.options()).unwrap();
    bench.config.compression = crate::config::Compression::Stored(Codec::None, None);
    log.apply_config(bench.config.clone());
    let mut packed = batch_of(&[record(START_MS, b"small")], Codec::Lz4);
    log.append_batch(&mut packed, bench.options()).unwrap();
    let last = stored_batches(&log).pop().unwrap();
    assert_eq!(RecordBatch::parse(&last).unwrap().header().codec().unwrap(), Codec::None);
    for outcome in [
        log.append_batch(&mut batch_of(&many, Codec::Lz4), bench.options()),
        log.append_records(&many, Codec::Lz4, None, bench.options()),
        log.append(&record(START_MS, &value), bench.options()),
    ] {
        assert_eq!(kind_of(outcome), ErrorKind::RecordTooLarge, "what is stored is measured");
    }
}
