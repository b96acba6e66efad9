//! A segment: batches, and the records in them.

use super::{Dumped, decoder};
use crate::record_json::bytes_value;
use serde_json::Value;
use topiclite::Result;
use topiclite::record::{BATCH_OVERHEAD, BatchHeader, ControlRecord, ControlType, Record};
use topiclite::record::{BatchFault, RecordBatch};

/// Shows every batch; true where one is damaged.
pub fn show(file: &Dumped<'_>) -> Result<bool> {
    let mut position = 0;
    // No checksum covers where a batch begins.
    let mut lowest = file.base_offset;
    let mut damaged = false;
    let mut scratch = Vec::new();
    while let Some(rest) = file.bytes.get(position..).filter(|rest| !rest.is_empty()) {
        if rest.iter().all(|byte| *byte == 0) {
            let bytes = Value::from(rest.len());
            file.row("zeros", &[("position", position.into()), ("zeros", bytes)])?;
            return Ok(damaged);
        }
        let batch = match RecordBatch::parse(rest) {
            Ok(batch) => batch,
            Err(fault) => return file.damage(position, &fault.to_string()),
        };
        let header = batch.header();
        let valid = batch.check_crc().is_ok();
        damaged |= !valid;
        show_batch(file, header, position, valid)?;
        if header.base_offset < lowest {
            let message = format!("base offset {}, expected {lowest} or more", header.base_offset);
            damaged = file.damage(position, &message)?;
        }
        lowest = lowest.max(header.next_offset());
        if !file.dump.batches && valid {
            let shown = show_records(file, &batch, &mut scratch)?;
            if let Some(fault) = shown {
                damaged = file.damage(position, &fault.to_string())?;
            }
        }
        position += header.size().max(BATCH_OVERHEAD);
    }
    Ok(damaged)
}

fn show_batch(file: &Dumped<'_>, header: &BatchHeader, position: usize, valid: bool) -> Result<()> {
    let codec = header.codec().map_or_else(|fault| fault.to_string(), |codec| codec.to_string());
    file.row(
        "batch",
        &[
            ("baseOffset", header.base_offset.into()),
            ("lastOffset", header.last_offset().into()),
            ("count", header.records_count.into()),
            ("baseSequence", header.base_sequence.into()),
            ("lastSequence", header.last_sequence().into()),
            ("producerId", header.producer_id.into()),
            ("producerEpoch", header.producer_epoch.into()),
            ("partitionLeaderEpoch", header.leader_epoch.into()),
            ("isTransactional", header.is_transactional().into()),
            ("isControl", header.is_control().into()),
            ("deleteHorizonMs", header.delete_horizon_ms().map_or(Value::Null, Value::from)),
            ("position", position.into()),
            ("timestampType", header.timestamp_type().to_string().into()),
            ("maxTimestamp", header.max_timestamp.into()),
            ("size", header.size().into()),
            ("magic", header.magic.into()),
            ("compresscodec", codec.into()),
            ("crc", header.crc.into()),
            ("isvalid", valid.into()),
        ],
    )
}

/// Shows the records of a batch, up to the fault inside it that is given back, if there is one.
fn show_records(
    file: &Dumped<'_>,
    batch: &RecordBatch<'_>,
    scratch: &mut Vec<u8>,
) -> Result<Option<BatchFault>> {
    let records = match batch.records(scratch) {
        Ok(records) => records,
        Err(fault) => return Ok(Some(fault)),
    };
    let mut sequence = batch.header().base_sequence;
    for record in records {
        let record = match record {
            Ok(record) => record,
            Err(fault) => return Ok(Some(fault)),
        };
        show_record(file, batch.header(), &record, sequence)?;
        if sequence >= 0 {
            sequence = sequence.wrapping_add(1) & i32::MAX;
        }
    }
    Ok(None)
}

fn show_record(
    file: &Dumped<'_>,
    header: &BatchHeader,
    record: &Record<'_>,
    sequence: i32,
) -> Result<()> {
    let size = |bytes: Option<&[u8]>| bytes.map_or(Value::from(-1), |bytes| bytes.len().into());
    let names: Vec<String> = record.headers().iter().map(|h| h.name().into_owned()).collect();
    let mut fields = vec![
        ("offset", record.offset().into()),
        ("timestamp", record.timestamp().into()),
        ("keySize", size(record.key())),
        ("valueSize", size(record.value())),
        ("sequence", sequence.into()),
        ("headerKeys", names.into()),
    ];
    if header.is_control() {
        let control = ControlRecord::parse(record);
        let kind = match control.as_ref().map(|control| control.kind) {
            Ok(ControlType::Commit) => "COMMIT",
            Ok(ControlType::Abort) => "ABORT",
            Ok(_) => "UNKNOWN",
            Err(_) => "DAMAGED",
        };
        let epoch = control.ok().and_then(|control| control.coordinator_epoch);
        fields.push(("endTxnMarker", kind.into()));
        fields.push(("coordinatorEpoch", epoch.map_or(Value::Null, Value::from)));
    } else if file.dump.offsets || file.dump.transactions {
        let (key, value) = match file.dump.offsets {
            true => decoder::offsets_record(record.key(), record.value()),
            false => decoder::transaction_record(record.key(), record.value()),
        };
        fields.extend([("key", key), ("payload", value)]);
    } else {
        let (key_name, key) = bytes_value("key", "key_base64", record.key());
        let (value_name, value) = bytes_value("payload", "payload_base64", record.value());
        fields.extend([(key_name, key), (value_name, value)]);
    }
    file.row("record", &fields)
}
