//! The records as a real Kafka wrote them.

use super::*;
use crate::coordinator::wire::WireFault;

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    digits.chunks(2).map(byte).collect()
}

fn read(key: &str, value: &str) -> (Arc<str>, TransactionValue) {
    match TransactionRecord::decode(&hex(key), Some(&hex(value))).unwrap() {
        TransactionRecord::State { transactional_id, value: Some(value) } => {
            (transactional_id, value)
        }
        other => panic!("{other:?}"),
    }
}

/// Records of a Kafka 4.3.1, from a first init over a timeout to an init after it.
const WRITTEN: [(&str, &str); 5] = [
    (
        "0000 0004 736c6f77",
        "0001 0000000000000000 0000 000003e8 00 00 000001a205af7482 ffffffffffffffff
         01 00 08 0000000000000000",
    ),
    (
        "0000 0004 736c6f77",
        "0001 0000000000000000 0000 000003e8 01 02 02 74 02 00000000 00 000001a205af74d5
         000001a205af74d5 02 00 08 0000000000000000 02 02 0002",
    ),
    (
        "0000 0004 736c6f77",
        "0001 0000000000000000 0001 000003e8 03 02 02 74 02 00000000 00 000001a205af7a38
         000001a205af74d5 02 00 08 0000000000000000 02 02 0002",
    ),
    (
        "0000 0004 736c6f77",
        "0001 0000000000000000 0001 000003e8 05 01 000001a205af7a39 000001a205af74d5
         02 00 08 0000000000000000 02 02 0002",
    ),
    (
        "0000 0004 7477696e",
        "0001 0000000000000001 0002 000dbba0 00 00 000001a205af765c ffffffffffffffff
         02 00 08 0000000000000001 02 02 0002",
    ),
];

#[test]
fn what_kafka_wrote_is_written_alike() {
    for (key, value) in WRITTEN {
        let (transactional_id, read) = read(key, value);
        let record = TransactionRecord::State { transactional_id, value: Some(read) };
        let (mut key_bytes, mut value_bytes) = (Vec::new(), Vec::new());
        record.encode_key(&mut key_bytes);
        assert!(record.encode_value(&mut value_bytes));
        assert_eq!((key_bytes, value_bytes), (hex(key), hex(value)));
    }
}

#[test]
fn the_coordinator_stores_what_kafka_stored() {
    let times = [0x1a2_05af_7482, 0x1a2_05af_74d5, 0x1a2_05af_7a38, 0x1a2_05af_7a39];
    let mut world = World::new();
    let at = |world: &mut World, number: usize| world.now.wall_ms = times[number];
    at(&mut world, 0);
    let result = world.shard.init("slow", Duration::from_secs(1), &mut || Ok(0), world.now);
    let InitAnswer::Ready(who) = world.store(result).unwrap() else { panic!() };
    at(&mut world, 1);
    world.add("slow", who, "t-0").unwrap();
    at(&mut world, 2);
    let end = end_first(world.init("slow"));
    at(&mut world, 3);
    world.finish(&end);
    for (record, (key, value)) in world.log.iter().zip(WRITTEN) {
        let (mut key_bytes, mut value_bytes) = (Vec::new(), Vec::new());
        record.encode_key(&mut key_bytes);
        assert!(record.encode_value(&mut value_bytes));
        assert_eq!((key_bytes, value_bytes), (hex(key), hex(value)));
    }
    assert_eq!(world.log.len(), 4);
}

#[test]
fn version_0_is_read() {
    let (id, value) = read(
        "0000 0004 74782d62",
        "0000 0000000000000001 0000 000dbba0 01 00000002 0001 74 00000001 00000001
         0012 5f5f636f6e73756d65725f6f666673657473 00000001 0000001a
         000001a205af4eb9 000001a205af4bc1",
    );
    assert_eq!((&*id, value.state), ("tx-b", TransactionState::Ongoing));
    let topics = [(name("t"), vec![1]), (name("__consumer_offsets"), vec![26])];
    assert_eq!(value.partitions, topics);
    assert_eq!((value.client_version, value.previous_producer_id), (0, -1));
    let (_, value) = read(
        "0000 0001 78",
        "0000 0000000000000001 0000 000dbba0 00 ffffffff 000001a205af4b12 ffffffffffffffff",
    );
    assert_eq!((value.partitions, value.start_ms), (vec![], -1));
}

#[test]
fn ids_that_change_and_clients_that_prepare_are_kept() {
    let (_, value) = read(
        "0000 0001 78",
        "0001 0000000000000001 7fff 000dbba0 02 01 000001a205af4b12 000001a205af4b12
         04 00 08 0000000000000001 01 08 0000000000000005 02 02 0002 03 02 0003",
    );
    assert_eq!((value.next_producer_id, value.next_producer_epoch), (5, 3));
    let mut out = Vec::new();
    TransactionRecord::State { transactional_id: name("x"), value: Some(value.clone()) }
        .encode_value(&mut out);
    let again = TransactionRecord::decode(&hex("0000 0001 78"), Some(&out)).unwrap();
    assert_eq!(again, TransactionRecord::State { transactional_id: name("x"), value: Some(value) });
}

/// What the fuzzer runs, over the records above in a row and with each of their bytes changed.
#[test]
fn records_with_a_changed_byte_are_read_or_refused() {
    let mut bytes = Vec::new();
    for (key, value) in WRITTEN {
        let (key, value) = (hex(key), hex(value));
        bytes.extend(u16::try_from(key.len()).unwrap().to_be_bytes());
        bytes.extend(key);
        bytes.extend(u16::try_from(value.len() + 1).unwrap().to_be_bytes());
        bytes.extend(value);
    }
    super::super::arbitrary::replay_arbitrary_transactions(&bytes);
    for at in 0..bytes.len() {
        for change in [0x01, 0x80, 0xff] {
            let mut changed = bytes.clone();
            changed[at] ^= change;
            super::super::arbitrary::replay_arbitrary_transactions(&changed);
        }
    }
}

#[test]
fn what_cannot_be_read_says_why() {
    let value = hex(WRITTEN[1].1);
    let decode = |value: &[u8]| TransactionRecord::decode(&hex("0000 0001 78"), Some(value));
    for end in 0..value.len() {
        assert!(decode(&value[..end]).is_err(), "cut at {end}");
    }
    let with = |at: usize, byte: u8| {
        let mut bytes = value.clone();
        bytes[at] = byte;
        decode(&bytes).unwrap_err()
    };
    assert_eq!(with(1, 2), WireFault::UnknownVersion(2));
    assert_eq!(with(16, 9), WireFault::UnknownState(9));
    assert_eq!(with(17, 0xff), WireFault::BadLength);
    assert_eq!(TransactionRecord::decode(&hex("0009"), None), Ok(TransactionRecord::Unknown(9)));
    assert!(TransactionRecord::decode(&[0], None).is_err());
}
