//! Broker properties without effect in one process on one disk: checked, kept, listed.
//!
//! They set up the network, replication, the quorum, security, quotas, tiered storage, share
//! groups, threads of Kafka's own, or tasks that this version does not run.

use super::property::{Kind, Property, int_from, long_from};

const ANY: Kind = int_from(i32::MIN);
const ANY_LONG: Kind = long_from(i64::MIN);
const LIST: Kind = Kind::List(&[]);

const fn text(name: &'static str) -> Property {
    Property::null(name, Kind::Text).kept()
}

const fn list(name: &'static str) -> Property {
    Property::null(name, LIST).kept()
}

const fn flag(name: &'static str) -> Property {
    Property::null(name, Kind::Bool).kept()
}

const fn int(name: &'static str, min: i32) -> Property {
    Property::null(name, int_from(min)).kept()
}

const fn any(name: &'static str) -> Property {
    Property::null(name, ANY).kept()
}

const fn long(name: &'static str, min: i64) -> Property {
    Property::null(name, long_from(min)).kept()
}

const fn any_long(name: &'static str) -> Property {
    Property::null(name, ANY_LONG).kept()
}

const fn ratio(name: &'static str) -> Property {
    Property::null(name, Kind::Decimal { min: 0.0, max: 1.0 }).kept()
}

const fn between(name: &'static str, min: i64, max: i64) -> Property {
    Property::null(name, Kind::Whole { min, max }).kept()
}

pub(super) const KEPT: &[Property] = &[
    // Where the data is comes from the call that opens the broker.
    list("log.dir"),
    list("log.dirs"),
    text("metadata.log.dir"),
    // The node and its quorum.
    Property::null("process.roles", Kind::List(&["broker", "controller"])).kept(),
    any("node.id"),
    any("broker.id"),
    flag("broker.id.generation.enable"),
    int("reserved.broker.max.id", 0),
    text("broker.rack"),
    list("controller.quorum.voters"),
    list("controller.quorum.bootstrap.servers"),
    any("controller.quorum.election.timeout.ms"),
    any("controller.quorum.fetch.timeout.ms"),
    any("controller.quorum.election.backoff.max.ms"),
    any("controller.quorum.append.linger.ms"),
    any("controller.quorum.request.timeout.ms"),
    any("controller.quorum.retry.backoff.ms"),
    flag("controller.quorum.auto.join.enable"),
    any("controller.quorum.fetch.snapshot.max.bytes"),
    any("controller.quorum.fetch.max.bytes"),
    any("controller.performance.sample.period.ms"),
    any_long("controller.performance.always.log.threshold.ms"),
    list("controller.listener.names"),
    any("controller.socket.timeout.ms"),
    any("broker.heartbeat.interval.ms"),
    any("broker.session.timeout.ms"),
    any("initial.broker.registration.timeout.ms"),
    long("metadata.log.max.record.bytes.between.snapshots", 1),
    long("metadata.log.max.snapshot.interval.ms", 0),
    int("metadata.log.segment.bytes", 12),
    int("metadata.log.segment.min.bytes", 12),
    any_long("metadata.log.segment.ms"),
    int("internal.metadata.log.segment.bytes", 1),
    any_long("metadata.max.retention.bytes"),
    any_long("metadata.max.retention.ms"),
    int("metadata.max.idle.interval.ms", 0),
    long("server.max.startup.time.ms", 0),
    flag("unstable.api.versions.enable"),
    flag("unstable.feature.versions.enable"),
    flag("eligible.leader.replicas.enable"),
    list("early.start.listeners"),
    // The network.
    list("listeners"),
    list("advertised.listeners"),
    text("listener.security.protocol.map"),
    text("control.plane.listener.name"),
    text("inter.broker.listener.name"),
    text("security.inter.broker.protocol"),
    text("inter.broker.protocol.version"),
    any("socket.send.buffer.bytes"),
    any("socket.receive.buffer.bytes"),
    int("socket.request.max.bytes", 1),
    int("socket.listen.backlog.size", 1),
    int("max.connections.per.ip", 0),
    text("max.connections.per.ip.overrides"),
    int("max.connections", 0),
    int("max.connection.creation.rate", 0),
    any_long("connections.max.idle.ms"),
    any_long("connections.max.reauth.ms"),
    int("connection.failed.authentication.delay.ms", 0),
    int("queued.max.requests", 1),
    any_long("queued.max.request.bytes"),
    int("num.network.threads", 1),
    int("num.io.threads", 1),
    int("background.threads", 1),
    any("num.replica.alter.log.dirs.threads"),
    int("num.recovery.threads.per.data.dir", 1),
    int("max.incremental.fetch.session.cache.slots", 0),
    int("fetch.max.bytes", 1024),
    int("max.request.partition.size.limit", 1),
    any("request.timeout.ms"),
    // Replication: there is one replica.
    any("default.replication.factor"),
    any_long("replica.lag.time.max.ms"),
    any("replica.socket.timeout.ms"),
    any("replica.socket.receive.buffer.bytes"),
    int("replica.fetch.max.bytes", 0),
    any("replica.fetch.wait.max.ms"),
    int("replica.fetch.backoff.ms", 0),
    any("replica.fetch.min.bytes"),
    int("replica.fetch.response.max.bytes", 0),
    any("num.replica.fetchers"),
    any_long("replica.high.watermark.checkpoint.interval.ms"),
    text("replica.selector.class"),
    any("fetch.purgatory.purge.interval.requests"),
    any("producer.purgatory.purge.interval.requests"),
    any("delete.records.purgatory.purge.interval.requests"),
    flag("auto.leader.rebalance.enable"),
    any("leader.imbalance.per.broker.percentage"),
    any_long("leader.imbalance.check.interval.seconds"),
    int("unclean.leader.election.interval.ms", 0),
    flag("controlled.shutdown.enable"),
    any("controlled.shutdown.max.retries"),
    any_long("controlled.shutdown.retry.backoff.ms"),
    int("offsets.topic.replication.factor", 1),
    int("transaction.state.log.replication.factor", 1),
    // Tasks of Kafka's log layer that have no counterpart, or do not run in this version.
    int("log.flush.offset.checkpoint.interval.ms", 0),
    int("log.flush.start.offset.checkpoint.interval.ms", 0),
    long("log.dir.failure.timeout.ms", 1),
    int("log.cleaner.threads", 0),
    text("create.topic.policy.class.name"),
    text("alter.config.policy.class.name"),
    int("offsets.load.buffer.size", 1),
    any("offsets.topic.compression.codec"),
    int("offsets.commit.timeout.ms", 1),
    int("transaction.state.log.load.buffer.size", 1),
    flag("transaction.partition.verification.enable"),
    flag("transaction.two.phase.commit.enable"),
    // Groups of the new protocol, share groups and streams groups.
    list("group.coordinator.rebalance.protocols"),
    int("group.coordinator.threads", 1),
    int("group.coordinator.background.threads", 1),
    int("group.coordinator.append.linger.ms", -1),
    int("group.coordinator.cached.buffer.max.bytes", 0),
    flag("group.coordinator.new.enable"),
    int("group.consumer.session.timeout.ms", 1),
    int("group.consumer.min.session.timeout.ms", 1),
    int("group.consumer.max.session.timeout.ms", 1),
    int("group.consumer.heartbeat.interval.ms", 1),
    int("group.consumer.min.heartbeat.interval.ms", 1),
    int("group.consumer.max.heartbeat.interval.ms", 1),
    int("group.consumer.max.size", 1),
    list("group.consumer.assignors"),
    int("group.consumer.regex.refresh.interval.ms", 10_000),
    Property::null(
        "group.consumer.migration.policy",
        Kind::OneOfAnyCase(&["bidirectional", "upgrade", "downgrade", "disabled"]),
    )
    .kept(),
    flag("group.share.enable"),
    int("group.share.session.timeout.ms", 1),
    int("group.share.min.session.timeout.ms", 1),
    int("group.share.max.session.timeout.ms", 1),
    int("group.share.heartbeat.interval.ms", 1),
    int("group.share.min.heartbeat.interval.ms", 1),
    int("group.share.max.heartbeat.interval.ms", 1),
    int("group.share.max.size", 1),
    list("group.share.assignors"),
    int("group.share.initialize.retry.interval.ms", 1),
    int("group.share.max.groups", 1),
    int("group.share.max.share.sessions", 1),
    between("group.share.delivery.count.limit", 2, 10),
    between("group.share.min.delivery.count.limit", 2, 5),
    between("group.share.max.delivery.count.limit", 2, 25),
    between("group.share.record.lock.duration.ms", 1000, 3_600_000),
    between("group.share.min.record.lock.duration.ms", 1000, 30_000),
    between("group.share.max.record.lock.duration.ms", 30_000, 3_600_000),
    between("group.share.partition.max.record.locks", 100, 10_000),
    int("group.share.min.partition.max.record.locks", 100),
    int("group.share.max.partition.max.record.locks", 100),
    text("group.share.persister.class.name"),
    any("share.fetch.max.fetch.records"),
    any("share.fetch.purgatory.purge.interval.requests"),
    int("share.coordinator.append.linger.ms", -1),
    int("share.coordinator.load.buffer.size", 1),
    int("share.coordinator.snapshot.update.records.per.snapshot", 0),
    int("share.coordinator.cold.partition.snapshot.interval.ms", 1),
    int("share.coordinator.state.topic.prune.interval.ms", 1),
    any("share.coordinator.state.topic.compression.codec"),
    int("share.coordinator.state.topic.min.isr", 1),
    int("share.coordinator.state.topic.num.partitions", 1),
    int("share.coordinator.state.topic.replication.factor", 1),
    int("share.coordinator.state.topic.segment.bytes", 1),
    int("share.coordinator.threads", 1),
    int("share.coordinator.write.timeout.ms", 1),
    int("group.streams.session.timeout.ms", 1),
    int("group.streams.min.session.timeout.ms", 1),
    int("group.streams.max.session.timeout.ms", 1),
    int("group.streams.heartbeat.interval.ms", 1),
    int("group.streams.min.heartbeat.interval.ms", 1),
    int("group.streams.max.heartbeat.interval.ms", 1),
    int("group.streams.max.size", 1),
    int("group.streams.num.standby.replicas", 0),
    int("group.streams.max.standby.replicas", 0),
    int("group.streams.initial.rebalance.delay.ms", 0),
    // Quotas and metrics.
    int("quota.window.num", 1),
    int("quota.window.size.seconds", 1),
    int("replication.quota.window.num", 1),
    int("replication.quota.window.size.seconds", 1),
    int("alter.log.dirs.replication.quota.window.num", 1),
    int("alter.log.dirs.replication.quota.window.size.seconds", 1),
    int("controller.quota.window.num", 1),
    int("controller.quota.window.size.seconds", 1),
    text("client.quota.callback.class"),
    int("metrics.num.samples", 1),
    long("metrics.sample.window.ms", 1),
    list("metric.reporters"),
    Property::null("metrics.recording.level", Kind::OneOfAnyCase(&["INFO", "DEBUG", "TRACE"]))
        .kept(),
    flag("auto.include.jmx.reporter"),
    any("kafka.metrics.polling.interval.secs"),
    list("kafka.metrics.reporters"),
    int("telemetry.max.bytes", 1),
    text("client.telemetry.reporters"),
    // Security beyond what clients have too.
    text("authorizer.class.name"),
    text("principal.builder.class"),
    Property::null("ssl.client.auth", Kind::OneOf(&["required", "requested", "none"])).kept(),
    text("ssl.principal.mapping.rules"),
    flag("ssl.allow.dn.changes"),
    flag("ssl.allow.san.changes"),
    text("sasl.mechanism.inter.broker.protocol"),
    text("sasl.mechanism.controller.protocol"),
    list("sasl.enabled.mechanisms"),
    list("sasl.kerberos.principal.to.local.rules"),
    text("sasl.server.callback.handler.class"),
    any("sasl.server.max.receive.size"),
    Property::null("delegation.token.secret.key", Kind::Secret).kept(),
    long("delegation.token.max.lifetime.ms", 1),
    long("delegation.token.expiry.time.ms", 1),
    long("delegation.token.expiry.check.interval.ms", 1),
    // Tiered storage.
    Property::bool("remote.log.storage.system.enable", "false")
        .refused("there is no tiered storage; leave it false"),
    text("remote.log.storage.manager.class.name"),
    text("remote.log.storage.manager.class.path"),
    text("remote.log.storage.manager.impl.prefix"),
    text("remote.log.metadata.manager.class.name"),
    text("remote.log.metadata.manager.class.path"),
    text("remote.log.metadata.manager.impl.prefix"),
    text("remote.log.metadata.manager.listener.name"),
    int("remote.log.metadata.custom.metadata.max.bytes", 0),
    long("remote.log.index.file.cache.total.size.bytes", 1),
    any("remote.log.manager.thread.pool.size"),
    any("remote.log.manager.copier.thread.pool.size"),
    any("remote.log.manager.expiration.thread.pool.size"),
    any("remote.log.manager.follower.thread.pool.size"),
    long("remote.log.manager.task.interval.ms", 1),
    long("remote.log.manager.task.retry.backoff.ms", 1),
    long("remote.log.manager.task.retry.backoff.max.ms", 1),
    ratio("remote.log.manager.task.retry.jitter"),
    long("remote.log.manager.copy.max.bytes.per.second", 1),
    int("remote.log.manager.copy.quota.window.num", 1),
    int("remote.log.manager.copy.quota.window.size.seconds", 1),
    long("remote.log.manager.fetch.max.bytes.per.second", 1),
    int("remote.log.manager.fetch.quota.window.num", 1),
    int("remote.log.manager.fetch.quota.window.size.seconds", 1),
    int("remote.log.reader.threads", 1),
    int("remote.log.reader.max.pending.tasks", 1),
    int("remote.fetch.max.wait.ms", 1),
    long("remote.list.offsets.request.timeout.ms", 1),
];
