//! Records of `__consumer_offsets` in words, for `dump --offsets`.

use crate::record_json::bytes_value;
use serde_json::{Map, Value, json};
use topiclite::{GroupRecord, GroupValue, MemberValue, OffsetValue};

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
            let kind = match key.kind {
                3 => "consumer-group-metadata",
                4 => "consumer-group-partition-metadata",
                5 => "consumer-group-member-metadata",
                6 => "consumer-group-target-assignment-metadata",
                7 => "consumer-group-target-assignment-member",
                8 => "consumer-group-current-member-assignment",
                _ => "consumer-group-regular-expression",
            };
            let data = json!({"group": &*key.group, "part": key.part.as_deref()});
            (json!({"type": kind, "data": data}), raw(value.as_deref()))
        }
        Some(GroupRecord::Unknown(kind)) => (json!({"type": kind}), raw(value)),
        None => (raw(key), raw(value)),
    }
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

/// Bytes that have no words here, under `base64` where they are no text.
fn raw(bytes: Option<&[u8]>) -> Value {
    match bytes_value("text", "base64", bytes) {
        ("text", text) => text,
        (name, value) => Value::Object(Map::from_iter([(name.to_owned(), value)])),
    }
}
