//! Names of librdkafka that Kafka's own clients do not have, and what to say to who sets one.

const PRODUCER: &str = "producer";
const CONSUMER: &str = "consumer";
/// Also of what is no client.
const ANY: &str = "";

/// Properties of librdkafka that Kafka's own clients do not have, each with the client that has it
/// and what to do instead there.
const LIBRDKAFKA: &[(&str, &str, &str)] = &[
    ("message.timeout.ms", PRODUCER, "set delivery.timeout.ms"),
    ("metadata.broker.list", ANY, "leave it out, there is no network"),
    ("queue.buffering.max.ms", PRODUCER, "set linger.ms"),
    ("queue.buffering.max.messages", PRODUCER, "set buffer.memory, which counts bytes"),
    ("queue.buffering.max.kbytes", PRODUCER, "set buffer.memory, in bytes"),
    ("batch.num.messages", PRODUCER, "set batch.size, which counts bytes"),
    (
        "message.max.bytes",
        ANY,
        "set max.request.size at the producer, max.message.bytes at the topic",
    ),
    ("message.send.max.retries", PRODUCER, "set retries"),
    ("request.required.acks", PRODUCER, "set acks"),
    ("compression.codec", PRODUCER, "set compression.type"),
    ("compression.level", PRODUCER, "set compression.gzip.level, .lz4.level or .zstd.level"),
    (
        "partitioner",
        PRODUCER,
        "give the partition with each record; keys are hashed as Kafka hashes them",
    ),
    (
        "sticky.partitioning.linger.ms",
        PRODUCER,
        "leave it out; batch.size decides how long one stays",
    ),
    ("delivery.report.only.error", PRODUCER, "leave it out; each send has a future, or a callback"),
    ("dr_cb", PRODUCER, "use Producer::send_with"),
    (
        "enable.partition.eof",
        CONSUMER,
        "compare the position with end_offsets, or look at current_lag",
    ),
    (
        "enable.auto.offset.store",
        CONSUMER,
        "set enable.auto.commit=false and commit with commit_record",
    ),
    ("auto.commit.enable", CONSUMER, "set enable.auto.commit"),
    ("offset.store.method", CONSUMER, "leave it out; offsets are committed to the group"),
    ("fetch.wait.max.ms", CONSUMER, "set fetch.max.wait.ms"),
    ("fetch.message.max.bytes", CONSUMER, "set max.partition.fetch.bytes"),
    ("queued.min.messages", CONSUMER, "leave it out; nothing is fetched ahead"),
    ("queued.max.messages.kbytes", CONSUMER, "leave it out; nothing is fetched ahead"),
    ("consume.callback.max.messages", CONSUMER, "set max.poll.records"),
    ("coordinator.query.interval.ms", CONSUMER, "leave it out, there is no network"),
    ("group.protocol.type", CONSUMER, "leave it out"),
    ("socket.timeout.ms", ANY, "leave it out, there is no network"),
    ("socket.keepalive.enable", ANY, "leave it out, there is no network"),
    ("socket.nagle.disable", ANY, "leave it out, there is no network"),
    ("api.version.request", ANY, "leave it out, there is no network"),
    ("broker.address.family", ANY, "leave it out, there is no network"),
    ("allow.auto.create.topic", CONSUMER, "set allow.auto.create.topics"),
    ("statistics.interval.ms", ANY, "leave it out; see Broker::health and the metrics facade"),
    ("log_level", ANY, "leave it out; events go to the tracing facade"),
    ("debug", ANY, "leave it out; events go to the tracing facade"),
];

/// What to tell who sets `name` in the settings of a broker, a topic or a client (`of`); None for a
/// name that librdkafka does not have either.
pub(super) fn answer(name: &str, of: &str) -> Option<String> {
    let (_, client, instead) = LIBRDKAFKA.iter().find(|(theirs, ..)| *theirs == name)?;
    Some(match *client == ANY || *client == of {
        true => format!("\"{name}\" is a property of librdkafka: {instead}"),
        false => format!(
            "\"{name}\" is a property of librdkafka's {client}, and none of a {of}; at the \
             {client}: {instead}"
        ),
    })
}
