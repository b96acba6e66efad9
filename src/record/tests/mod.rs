//! Batches against golden vectors, the rules of the format, the codecs, and damage.

mod codecs;
mod damage;
mod golden;
mod rules;
mod shown;

use proptest::prelude::*;

use super::*;

/// A batch that Kafka 3.9.2 parsed as valid and also wrote itself: one record.
pub(super) const A: &str = "00000000000000000000003a0000000002716a6189000000000000000000000000\
    03e800000000000003e8ffffffffffffffffffffffffffff0000000110000000026b027600";
/// Parsed by Kafka: two records, null key and value, a timestamp that goes back, a header
/// without value.
pub(super) const B: &str = "000000000000002a0000004a0000000702ae8037060000000000010000018bcfe5\
    68000000018bcfe56800ffffffffffffffffffffffffffff0000000216000000010a68656c6c6f0018000902066b\
    65790102026801";
/// Parsed and written by Kafka: the marker of an aborted transaction.
pub(super) const C: &str = "000000000000000a00000042000000000274ac0368003000000000000000000000\
    03e800000000000003e8000000000000004d0003ffffffff000000012000000008000000000c00000000000500";
/// Parsed by Kafka: what compaction keeps of a producer's last batch.
pub(super) const D: &str = "0000000000000064000000310000000002e638a876000000000004ffffffffffff\
    ffff00000000000004d2000000000000000900000000001400000000";

pub(super) fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().map(|c| (c as char).to_digit(16).unwrap() as u8).collect();
    digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}

/// Writes length and checksum of a batch that a test changed.
pub(super) fn reseal(batch: &mut [u8]) {
    let length = (batch.len() - LENGTH_PREFIX) as i32;
    batch[8..12].copy_from_slice(&length.to_be_bytes());
    let crc = crc32c(&batch[21..]);
    batch[17..21].copy_from_slice(&crc.to_be_bytes());
}

/// A batch whose stored records are `payload`.
pub(super) fn batch_of(payload: &[u8], codec: Codec, count: i32) -> Vec<u8> {
    let header = BatchHeader {
        base_offset: 100,
        batch_length: 0,
        leader_epoch: 0,
        magic: MAGIC_V2,
        crc: 0,
        attributes: codec.id(),
        last_offset_delta: count - 1,
        base_timestamp: 1000,
        max_timestamp: 1000,
        producer_id: NONE,
        producer_epoch: -1,
        base_sequence: -1,
        records_count: count,
    };
    let mut batch = header.encode().to_vec();
    batch.extend_from_slice(payload);
    reseal(&mut batch);
    batch
}

/// Offsets and owned records of a batch whose checksum fits.
pub(super) fn read(batch: &[u8]) -> Result<Vec<(i64, OwnedRecord)>, BatchFault> {
    let batch = RecordBatch::parse(batch)?;
    batch.check_crc()?;
    let mut scratch = Vec::new();
    batch
        .records(&mut scratch)?
        .map(|record| record.map(|record| (record.offset(), OwnedRecord::from(&record))))
        .collect()
}

pub(super) fn build(codec: Codec, records: &[OwnedRecord], stamp: &Stamp) -> Vec<u8> {
    let mut builder = BatchBuilder::new(codec, None).unwrap();
    for record in records {
        append(&mut builder, record);
    }
    builder.finish(stamp).unwrap().to_vec()
}

pub(super) fn append(builder: &mut BatchBuilder, record: &OwnedRecord) {
    let headers = record.header_inputs();
    builder.append(&input(record, &headers)).unwrap();
}

pub(super) fn input<'a>(
    record: &'a OwnedRecord,
    headers: &'a [HeaderInput<'a>],
) -> RecordInput<'a> {
    RecordInput {
        timestamp: record.timestamp,
        key: record.key.as_deref(),
        value: record.value.as_deref(),
        headers,
    }
}

pub(super) fn available() -> impl Iterator<Item = Codec> {
    Codec::ALL.into_iter().filter(|codec| codec.is_available())
}

/// A few records of every shape, some of them worth compressing.
pub(super) fn sample() -> Vec<OwnedRecord> {
    let header = |name: &str, value: Option<&[u8]>| OwnedHeader {
        name: name.to_owned(),
        value: value.map(<[u8]>::to_vec),
    };
    let mut records = vec![
        OwnedRecord {
            timestamp: 1_700_000_000_000,
            key: Some(b"key".to_vec()),
            value: Some(b"a value of some length".repeat(9)),
            headers: vec![header("h", Some(b"1")), header("h", None), header("", Some(b""))],
        },
        OwnedRecord { timestamp: 1_699_999_999_000, ..OwnedRecord::default() },
        OwnedRecord { timestamp: -1, value: Some(Vec::new()), ..OwnedRecord::default() },
    ];
    for i in 0..20 {
        records.push(OwnedRecord {
            timestamp: 1_700_000_000_000 + i,
            key: Some(i.to_be_bytes().to_vec()),
            value: Some(format!("the record of number {i}").into_bytes()),
            headers: Vec::new(),
        });
    }
    records
}

prop_compose! {
    fn any_header()(
        name in prop_oneof![Just("trace".to_owned()), ".{0,12}"],
        value in proptest::option::of(proptest::collection::vec(any::<u8>(), 0..40)),
    ) -> OwnedHeader {
        OwnedHeader { name, value }
    }
}

prop_compose! {
    pub(super) fn any_record()(
        timestamp in prop_oneof![Just(-1), 0..2_000_000_000_000i64, Just(i64::MAX)],
        key in proptest::option::of(proptest::collection::vec(any::<u8>(), 0..80)),
        value in proptest::option::of(prop_oneof![
            proptest::collection::vec(any::<u8>(), 0..700),
            (any::<u8>(), 0usize..3000).prop_map(|(byte, len)| vec![byte; len]),
        ]),
        headers in proptest::collection::vec(any_header(), 0..4),
    ) -> OwnedRecord {
        OwnedRecord { timestamp, key, value, headers }
    }
}

prop_compose! {
    pub(super) fn any_stamp()(
        base_offset in 0..i64::MAX / 2,
        leader_epoch in -1..i32::MAX,
        append_time_ms in proptest::option::of(0..i64::MAX),
        producer in proptest::option::of((0..i64::MAX, 0..i16::MAX, 0..i32::MAX)),
        transactional in any::<bool>(),
    ) -> Stamp {
        let mut stamp = Stamp::plain(base_offset, leader_epoch);
        if let Some(ms) = append_time_ms {
            stamp = stamp.log_append_time(ms);
        }
        if let Some((id, epoch, sequence)) = producer {
            stamp = stamp.producer(id, epoch, sequence);
        }
        stamp.transactional = transactional;
        stamp
    }
}
