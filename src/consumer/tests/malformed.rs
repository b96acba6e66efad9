//! Batches whose checksum is right and whose records are not.

use super::*;
use crate::consumer::ReadFrom;
use crate::error::ErrorKind;
use crate::record::crc32c;

/// A batch of one record with `edit` made behind its header, and the checksum of that.
fn edited(offset: i64, edit: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut bytes = batch(offset);
    edit(&mut bytes);
    let length = (bytes.len() - 12) as i32;
    bytes[8..12].copy_from_slice(&length.to_be_bytes());
    let crc = crc32c(&bytes[21..]);
    bytes[17..21].copy_from_slice(&crc.to_be_bytes());
    bytes
}

/// What a reader meets.
#[derive(Debug, PartialEq, Eq)]
enum Met {
    Record(i64),
    Fault(i64),
}

/// Reads from the beginning and seeks past each fault.
fn read_around(broker: &Broker) -> Vec<Met> {
    let mut reader = broker.reader("t", 0, ReadFrom::Beginning).unwrap();
    let mut met = Vec::new();
    loop {
        match reader.read(Duration::ZERO) {
            Ok(records) if records.is_empty() => return met,
            Ok(records) => met.extend(offsets(&records).into_iter().map(Met::Record)),
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::CorruptRecord, "{error}, behind {met:?}");
                let at = error.offset().unwrap();
                let again = reader.read(Duration::ZERO).unwrap_err();
                assert_eq!(again.offset(), Some(at), "it comes again");
                met.push(Met::Fault(at));
                reader.seek(ReadFrom::Offset(at + 1)).unwrap();
            }
        }
    }
}

/// A batch of two records, the offset delta of the second as given.
fn pair(offset: i64, second_delta: u8) -> Vec<u8> {
    edited(offset, |bytes| {
        let mut record = bytes[61..].to_vec();
        record[3] = second_delta * 2;
        bytes.extend(record);
        bytes[26] = 1;
        bytes[60] = 2;
    })
}

#[test]
fn every_reading_meets_the_same_whatever_is_malformed() {
    use Met::{Fault, Record};
    let whole = || vec![Record(0), Record(1), Record(2), Record(3), Record(4), Record(5)];
    let cases: [(&str, Vec<u8>, Vec<Met>); 7] = [
        ("nothing", pair(2, 1), whole()),
        ("the order of offsets", pair(2, 0), {
            vec![Record(0), Record(1), Record(2), Fault(3), Record(4), Record(5)]
        }),
        ("the range of offsets", pair(2, 7), {
            vec![Record(0), Record(1), Record(2), Fault(3), Record(4), Record(5)]
        }),
        ("bytes behind the records", edited(2, |bytes| bytes.push(0)), {
            vec![Record(0), Record(1), Record(2), Record(4), Record(5)]
        }),
        ("a record that is missing", edited(2, |bytes| (bytes[26], bytes[60]) = (1, 2)), {
            vec![Record(0), Record(1), Record(2), Fault(3), Record(4), Record(5)]
        }),
        ("the end of a record", edited(2, |bytes| bytes.truncate(bytes.len() - 1)), {
            vec![Record(0), Record(1), Fault(2), Record(4), Record(5)]
        }),
        ("the length of a record", edited(2, |bytes| bytes[61] = 0x7e), {
            vec![Record(0), Record(1), Fault(2), Record(4), Record(5)]
        }),
    ];
    for (what, malformed, expected) in cases {
        let world = World::new();
        world.put("t-0", 0, &[batch(0), batch(1), malformed, batch(4), batch(5)]);
        let attached = read_around(&world.attach());
        let broker = world.open();
        let (first, second) = (read_around(&broker), read_around(&broker));
        assert_eq!((&first, &second), (&attached, &attached), "{what} is malformed");
        assert_eq!(attached, expected, "{what} is malformed");
    }
}
