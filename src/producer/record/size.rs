//! The size of a record: the bound that limits are compared with, and the exact one in a batch.

use crate::record::{RecordInput, varint};

/// The header of a batch, and the most that a record adds beside its bytes and their lengths
/// (length, attributes, timestamp and offset delta: `MAX_RECORD_OVERHEAD` of the Java client).
const BATCH_HEADER: usize = 61;
const RECORD_OVERHEAD_MAX: usize = 21;

#[inline]
fn field_size(field: Option<&[u8]>) -> usize {
    match field {
        None => 1,
        Some(bytes) => varint::len_u64((bytes.len() as u64) << 1) + bytes.len(),
    }
}

/// The bytes of key, value and headers with their lengths.
#[inline]
fn fields_size(record: &RecordInput<'_>) -> usize {
    let mut size = field_size(record.key) + field_size(record.value);
    size += varint::len_u64((record.headers.len() as u64) << 1);
    for header in record.headers {
        size += field_size(Some(header.name.as_bytes())) + field_size(header.value);
    }
    size
}

/// The size that `max.request.size` and `buffer.memory` are compared with: an upper bound of a
/// batch of this record alone, without compression.
#[inline]
pub(in crate::producer) fn size_upper_bound(record: &RecordInput<'_>) -> usize {
    BATCH_HEADER + RECORD_OVERHEAD_MAX + fields_size(record)
}

/// The exact size of a record inside a batch.
#[inline]
pub(in crate::producer) fn size_in_batch(
    record: &RecordInput<'_>,
    offset_delta: usize,
    timestamp_delta: i64,
) -> usize {
    let body = 1
        + varint::len_i64(timestamp_delta)
        + varint::len_u64((offset_delta as u64) << 1)
        + fields_size(record);
    varint::len_u64((body as u64) << 1) + body
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::producer::ProducerRecord;

    fn sized(record: &ProducerRecord<'_>) -> usize {
        size_upper_bound(&record.input(0, &record.header_inputs()))
    }

    #[test]
    fn the_upper_bound_of_a_records_size_is_kafkas() {
        let of = |n: usize| sized(&ProducerRecord::new("t").value(vec![0; n]));
        assert_eq!((of(914), of(915)), (1000, 1001), "recorded from a real Kafka");
        let record = ProducerRecord::new("t").key("").header("ab", "c").header("", None::<&str>);
        let fields = 1 + 1 + 1 + (3 + 2) + (1 + 1);
        assert_eq!(sized(&record), 61 + 21 + fields);
    }

    #[test]
    fn the_size_in_a_batch_is_what_the_encoder_writes() {
        use crate::record::{BatchBuilder, Codec, Stamp};
        let value = vec![7; 300];
        let records = [
            ProducerRecord::new("t").key("k").value(&value).timestamp(1000),
            ProducerRecord::new("t").timestamp(2_000_000).header("name", "value"),
            ProducerRecord::new("t").value("").timestamp(3),
        ];
        let mut builder = BatchBuilder::new(Codec::None, None).unwrap();
        let mut size = BATCH_HEADER;
        for (i, record) in records.iter().enumerate() {
            let headers = record.header_inputs();
            let input = record.input(0, &headers);
            size += size_in_batch(&input, i, input.timestamp - 1000);
            builder.append(&input).unwrap();
        }
        assert_eq!(builder.finish(&Stamp::plain(0, -1)).unwrap().len(), size);
    }
}
