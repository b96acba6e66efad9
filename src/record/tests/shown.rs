//! What `Debug` shows of what records carry: names and sizes, never the bytes.

use super::*;

const KEY: &[u8] = b"KEY-OF-A-CUSTOMER";
const VALUE: &[u8] = b"SECRET-VALUE";
const HEADER: &[u8] = b"SECRET-HEADER";

/// Fails where `shown` holds a payload, as text or as the list of its bytes.
#[track_caller]
fn hides(shown: &str) {
    for payload in [KEY, VALUE, HEADER] {
        let text = String::from_utf8_lossy(payload);
        let list = format!("{payload:?}");
        let list = list.trim_matches(['[', ']']);
        assert!(!shown.contains(&*text) && !shown.contains(list), "{shown}");
    }
}

#[test]
fn no_type_of_a_record_shows_its_payload() {
    let headers = [HeaderInput { name: "token", value: Some(HEADER) }];
    let input = RecordInput { timestamp: 7, key: Some(KEY), value: Some(VALUE), headers: &headers };
    let mut builder = BatchBuilder::new(Codec::None, None).unwrap();
    builder.append(&input).unwrap();
    let bytes = builder.finish(&Stamp::plain(5, 0)).unwrap().to_vec();
    let batch = RecordBatch::parse(&bytes).unwrap();
    let mut scratch = Vec::new();
    let records = batch.records(&mut scratch).unwrap();
    let record = records.clone().next().unwrap().unwrap();
    let owned = OwnedRecord::from(&record);
    for shown in [
        format!("{input:?} {input:#?}"),
        format!("{batch:?} {batch:#?}"),
        format!("{records:?} {records:#?}"),
        format!("{record:?} {record:#?}"),
        format!("{:?} {:#?}", record.headers(), record.headers().iter()),
        format!("{owned:?} {owned:#?} {builder:?}"),
    ] {
        hides(&shown);
    }
    assert_eq!(
        format!("{record:?}"),
        "Record { offset: 5, timestamp: 7, key_size: Some(17), value_size: Some(12), \
         headers: [\"token\": 13 bytes] }"
    );
    assert_eq!(format!("{:?}", headers[0]), format!("{:?}", owned.headers[0]));
}
