//! Records of `__consumer_offsets` and `__transaction_state` in words, for `dump --offsets` and
//! `dump --transactions`.

use crate::record_json::bytes_value;
use serde_json::{Map, Value, json};
use topiclite::{GroupRecord, GroupValue, MemberValue, OffsetValue};
use topiclite::{ModernKey, ModernMemberValue, ModernValue, TopicShare};
use topiclite::{TransactionRecord, TransactionState, TransactionValue};

/// Key and value as objects; what is not understood is shown as it is.
pub fn offsets_record(key: Option<&[u8]>, value: Option<&[u8]>) -> (Value, Value) {
    let decoded = key.and_then(|key| GroupRecord::read(key, value));
    match decoded {
        Some(GroupRecord::Offset { group, topic, partition, value }) => {
            let key = json!({"group": &*group, "topic": &*topic, "partition": partition});
            let value = value.map_or(Value::Null, |value| offset(&value));
            (json!({"type": "offset", "data": key}), value)
        }
        Some(GroupRecord::Group { group, value }) => {
            let value = value.map_or(Value::Null, |value| classic_group(&value));
            (json!({"type": "group", "data": {"group": &*group}}), value)
        }
        Some(GroupRecord::Modern { key, value }) => {
            let read = value.as_deref().and_then(|value| ModernValue::read(key.kind, value));
            let value = read.map_or_else(|| raw(value.as_deref()), |value| modern(&value));
            (modern_key(&key), value)
        }
        Some(GroupRecord::Unknown(kind)) => {
            let read = key.and_then(ModernKey::read);
            (read.map_or_else(|| json!({"type": kind}), |key| modern_key(&key)), raw(value))
        }
        None => (raw(key), raw(value)),
    }
}

/// As [`offsets_record`], of a transactional id.
pub fn transaction_record(key: Option<&[u8]>, value: Option<&[u8]>) -> (Value, Value) {
    match key.and_then(|key| TransactionRecord::read(key, value)) {
        Some(TransactionRecord::State { transactional_id, value }) => {
            let key = json!({"transactionalId": &*transactional_id});
            let value = value.map_or(Value::Null, |value| transaction(&value));
            (json!({"type": "transaction", "data": key}), value)
        }
        Some(TransactionRecord::Unknown(kind)) => (json!({"type": kind}), raw(value)),
        None => (raw(key), raw(value)),
    }
}

/// The names are those of Kafka's schema; the state has its name beside its number.
fn transaction(value: &TransactionValue) -> Value {
    let topic = |(topic, partitions): &(std::sync::Arc<str>, Vec<i32>)| {
        let name: &str = topic;
        json!({ "topic": name, "partitionIds": partitions })
    };
    let partitions = match value.state {
        TransactionState::Empty => Value::Null,
        _ => value.partitions.iter().map(topic).collect(),
    };
    json!({
        "producerId": value.producer_id,
        "previousProducerId": value.previous_producer_id,
        "nextProducerId": value.next_producer_id,
        "producerEpoch": value.producer_epoch,
        "nextProducerEpoch": value.next_producer_epoch,
        "transactionTimeoutMs": value.timeout_ms,
        "transactionStatus": value.state.id(),
        "transactionState": value.state.name(),
        "transactionPartitions": partitions,
        "transactionLastUpdateTimestampMs": value.last_update_ms,
        "transactionStartTimestampMs": value.start_ms,
        "clientTransactionVersion": value.client_version,
    })
}

fn offset(value: &OffsetValue) -> Value {
    json!({
        "offset": value.offset,
        "leaderEpoch": value.leader_epoch,
        "metadata": &*value.metadata,
        "commitTimestamp": value.commit_timestamp,
        "topicId": value.topic_id.map(|id| id.to_string()),
    })
}

fn classic_group(value: &GroupValue) -> Value {
    json!({
        "protocolType": &*value.protocol_type,
        "generation": value.generation_id,
        "protocol": value.protocol.as_deref(),
        "leader": value.leader_id.as_deref(),
        "currentStateTimestamp": value.state_timestamp,
        "members": value.members.iter().map(member).collect::<Vec<_>>(),
    })
}

fn member(member: &MemberValue) -> Value {
    json!({
        "memberId": &*member.member_id,
        "groupInstanceId": member.group_instance_id.as_deref(),
        "clientId": &*member.client_id,
        "clientHost": &*member.client_host,
        "rebalanceTimeout": member.rebalance_timeout_ms,
        "sessionTimeout": member.session_timeout_ms,
        "subscription": raw(Some(&member.subscription)),
        "assignment": raw(Some(&member.assignment)),
    })
}

/// The key of a group of a newer kind. The names are those of Kafka's coordinator.
fn modern_key(key: &ModernKey) -> Value {
    let kind = match key.kind {
        3 => "consumer-group-metadata",
        4 => "consumer-group-partition-metadata",
        5 => "consumer-group-member-metadata",
        6 => "consumer-group-target-assignment-metadata",
        7 => "consumer-group-target-assignment-member",
        8 => "consumer-group-current-member-assignment",
        10 => "share-group-member-metadata",
        11 => "share-group-metadata",
        12 => "share-group-target-assignment-metadata",
        13 => "share-group-target-assignment-member",
        14 => "share-group-current-member-assignment",
        15 => "share-group-state-partition-metadata",
        16 => "consumer-group-regular-expression",
        17 => "streams-group-metadata",
        19 => "streams-group-member-metadata",
        20 => "streams-group-target-assignment-metadata",
        21 => "streams-group-target-assignment-member",
        22 => "streams-group-current-member-assignment",
        _ => "streams-group-topology",
    };
    json!({"type": kind, "data": {"group": &*key.group, "part": key.part.as_deref()}})
}

fn modern(value: &ModernValue) -> Value {
    match value {
        ModernValue::Group { epoch, metadata_hash } => {
            json!({"epoch": epoch, "metadataHash": metadata_hash})
        }
        ModernValue::Member(member) => modern_member(member),
        ModernValue::Target { epoch, timestamp } => {
            json!({"assignmentEpoch": epoch, "assignmentTimestamp": timestamp})
        }
        ModernValue::TargetOfMember(shares) => json!({"topicPartitions": topic_shares(shares)}),
        ModernValue::Current(current) => json!({
            "memberEpoch": current.epoch,
            "previousMemberEpoch": current.previous_epoch,
            "state": current.state,
            "assignedPartitions": topic_shares(&current.assigned),
            "partitionsPendingRevocation": topic_shares(&current.revoking),
        }),
    }
}

fn modern_member(member: &ModernMemberValue) -> Value {
    json!({
        "instanceId": member.group_instance_id.as_deref(),
        "rackId": member.rack_id.as_deref(),
        "clientId": &*member.client_id,
        "clientHost": &*member.client_host,
        "subscribedTopicNames": member.topics.iter().map(|topic| &**topic).collect::<Vec<_>>(),
        "subscribedTopicRegex": member.pattern.as_deref(),
        "rebalanceTimeoutMs": member.rebalance_timeout_ms,
        "serverAssignor": member.assignor.as_deref(),
        "classicMemberMetadata": raw(member.classic.as_deref()),
    })
}

fn topic_shares(shares: &[TopicShare]) -> Vec<Value> {
    let share = |share: &TopicShare| {
        let mut shown = json!({"topicId": share.topic.to_string(), "partitions": share.partitions});
        if let Some(epochs) = &share.epochs {
            shown["assignmentEpochs"] = json!(epochs);
        }
        shown
    };
    shares.iter().map(share).collect()
}

/// Bytes that have no words here, under `base64` where they are no text.
fn raw(bytes: Option<&[u8]>) -> Value {
    match bytes_value("text", "base64", bytes) {
        ("text", text) => text,
        (name, value) => Value::Object(Map::from_iter([(name.to_owned(), value)])),
    }
}
