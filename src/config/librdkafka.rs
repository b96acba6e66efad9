//! Names of librdkafka that Kafka's own clients do not have, and what to say to who sets one.

/// Properties of librdkafka that Kafka's own clients do not have, each with what to do instead.
const LIBRDKAFKA: &[(&str, &str)] = &[
    ("message.timeout.ms", "set delivery.timeout.ms"),
    ("metadata.broker.list", "leave it out, there is no network"),
    ("queue.buffering.max.ms", "set linger.ms"),
    ("queue.buffering.max.messages", "set buffer.memory, which counts bytes"),
    ("queue.buffering.max.kbytes", "set buffer.memory, in bytes"),
    ("batch.num.messages", "set batch.size, which counts bytes"),
    ("message.max.bytes", "set max.request.size at the producer, max.message.bytes at the topic"),
    ("message.send.max.retries", "set retries"),
    ("request.required.acks", "set acks"),
    ("compression.codec", "set compression.type"),
    ("compression.level", "set compression.gzip.level, .lz4.level or .zstd.level"),
    ("partitioner", "give the partition with each record; keys are hashed as Kafka hashes them"),
    ("sticky.partitioning.linger.ms", "leave it out; batch.size decides how long one stays"),
    ("delivery.report.only.error", "leave it out; each send has a future, or a callback"),
    ("dr_cb", "use Producer::send_with"),
    ("enable.partition.eof", "compare the position with end_offsets, or look at current_lag"),
    ("enable.auto.offset.store", "set enable.auto.commit=false and commit with commit_record"),
    ("auto.commit.enable", "set enable.auto.commit"),
    ("offset.store.method", "leave it out; offsets are committed to the group"),
    ("fetch.wait.max.ms", "set fetch.max.wait.ms"),
    ("fetch.message.max.bytes", "set max.partition.fetch.bytes"),
    ("queued.min.messages", "leave it out; nothing is fetched ahead"),
    ("queued.max.messages.kbytes", "leave it out; nothing is fetched ahead"),
    ("consume.callback.max.messages", "set max.poll.records"),
    ("coordinator.query.interval.ms", "leave it out, there is no network"),
    ("group.protocol.type", "leave it out"),
    ("socket.timeout.ms", "leave it out, there is no network"),
    ("socket.keepalive.enable", "leave it out, there is no network"),
    ("socket.nagle.disable", "leave it out, there is no network"),
    ("api.version.request", "leave it out, there is no network"),
    ("broker.address.family", "leave it out, there is no network"),
    ("allow.auto.create.topic", "set allow.auto.create.topics"),
    ("statistics.interval.ms", "leave it out; see Broker::health and the metrics facade"),
    ("log_level", "leave it out; events go to the tracing facade"),
    ("debug", "leave it out; events go to the tracing facade"),
];

/// What to do instead of setting `name`; None for a name that librdkafka does not have either.
pub(super) fn instead_of(name: &str) -> Option<&'static str> {
    LIBRDKAFKA.iter().find(|(theirs, _)| *theirs == name).map(|(_, instead)| *instead)
}
