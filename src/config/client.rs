//! Properties that every client of Kafka has, and that only a network or security needs.

use super::property::{Kind, Property, int_from, long_from};

const fn kept(name: &'static str, kind: Kind) -> Property {
    Property::null(name, kind).kept()
}

const ANY_LONG: Kind = long_from(i64::MIN);
const NUMBER: Kind = Kind::Decimal { min: f64::MIN, max: f64::MAX };

/// Connections and metrics of producers and consumers.
pub(super) const NETWORK: &[Property] = &[
    kept("bootstrap.servers", Kind::List(&[])),
    kept(
        "client.dns.lookup",
        Kind::OneOf(&["use_all_dns_ips", "resolve_canonical_bootstrap_servers_only"]),
    ),
    kept("client.rack", Kind::Text),
    kept("metadata.max.age.ms", long_from(0)),
    kept("metadata.recovery.strategy", Kind::OneOfAnyCase(&["none", "rebootstrap"])),
    kept("metadata.recovery.rebootstrap.trigger.ms", long_from(0)),
    kept("send.buffer.bytes", int_from(-1)),
    kept("receive.buffer.bytes", int_from(-1)),
    kept("reconnect.backoff.ms", long_from(0)),
    kept("reconnect.backoff.max.ms", long_from(0)),
    kept("connections.max.idle.ms", ANY_LONG),
    kept("socket.connection.setup.timeout.ms", ANY_LONG),
    kept("socket.connection.setup.timeout.max.ms", ANY_LONG),
    kept("metrics.sample.window.ms", long_from(0)),
    kept("metrics.num.samples", int_from(1)),
    kept("metrics.recording.level", Kind::OneOf(&["INFO", "DEBUG", "TRACE"])),
    kept("metric.reporters", Kind::List(&[])),
    kept("enable.metrics.push", Kind::Bool),
    kept("config.providers", Kind::List(&[])),
    kept(
        "security.protocol",
        Kind::OneOfAnyCase(&["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"]),
    ),
    kept("sasl.mechanism", Kind::Text),
];

/// TLS and SASL, of clients and brokers alike.
pub(super) const SECURITY: &[Property] = &[
    kept("security.providers", Kind::Text),
    kept("ssl.protocol", Kind::Text),
    kept("ssl.provider", Kind::Text),
    kept("ssl.enabled.protocols", Kind::List(&[])),
    kept("ssl.cipher.suites", Kind::List(&[])),
    kept("ssl.keystore.type", Kind::Text),
    kept("ssl.keystore.location", Kind::Text),
    kept("ssl.keystore.password", Kind::Secret),
    kept("ssl.keystore.key", Kind::Secret),
    kept("ssl.keystore.certificate.chain", Kind::Secret),
    kept("ssl.key.password", Kind::Secret),
    kept("ssl.truststore.type", Kind::Text),
    kept("ssl.truststore.location", Kind::Text),
    kept("ssl.truststore.password", Kind::Secret),
    kept("ssl.truststore.certificates", Kind::Secret),
    kept("ssl.keymanager.algorithm", Kind::Text),
    kept("ssl.trustmanager.algorithm", Kind::Text),
    kept("ssl.endpoint.identification.algorithm", Kind::Text),
    kept("ssl.secure.random.implementation", Kind::Text),
    kept("ssl.engine.factory.class", Kind::Text),
    kept("sasl.jaas.config", Kind::Secret),
    kept("sasl.client.callback.handler.class", Kind::Text),
    kept("sasl.login.callback.handler.class", Kind::Text),
    kept("sasl.login.class", Kind::Text),
    kept("sasl.kerberos.service.name", Kind::Text),
    kept("sasl.kerberos.kinit.cmd", Kind::Text),
    kept("sasl.kerberos.ticket.renew.window.factor", NUMBER),
    kept("sasl.kerberos.ticket.renew.jitter", NUMBER),
    kept("sasl.kerberos.min.time.before.relogin", ANY_LONG),
    kept("sasl.login.refresh.window.factor", Kind::Decimal { min: 0.5, max: 1.0 }),
    kept("sasl.login.refresh.window.jitter", Kind::Decimal { min: 0.0, max: 0.25 }),
    kept("sasl.login.refresh.min.period.seconds", Kind::Whole { min: 0, max: 900 }),
    kept("sasl.login.refresh.buffer.seconds", Kind::Whole { min: 0, max: 3600 }),
    kept("sasl.login.connect.timeout.ms", int_from(i32::MIN)),
    kept("sasl.login.read.timeout.ms", int_from(i32::MIN)),
    kept("sasl.login.retry.backoff.ms", ANY_LONG),
    kept("sasl.login.retry.backoff.max.ms", ANY_LONG),
    kept("sasl.oauthbearer.scope.claim.name", Kind::Text),
    kept("sasl.oauthbearer.sub.claim.name", Kind::Text),
    kept("sasl.oauthbearer.token.endpoint.url", Kind::Text),
    kept("sasl.oauthbearer.jwks.endpoint.url", Kind::Text),
    kept("sasl.oauthbearer.jwks.endpoint.refresh.ms", ANY_LONG),
    kept("sasl.oauthbearer.jwks.endpoint.retry.backoff.ms", ANY_LONG),
    kept("sasl.oauthbearer.jwks.endpoint.retry.backoff.max.ms", ANY_LONG),
    kept("sasl.oauthbearer.clock.skew.seconds", int_from(i32::MIN)),
    kept("sasl.oauthbearer.expected.audience", Kind::List(&[])),
    kept("sasl.oauthbearer.expected.issuer", Kind::Text),
    kept("sasl.oauthbearer.header.urlencode", Kind::Bool),
    kept("sasl.oauthbearer.jwt.retriever.class", Kind::Text),
    kept("sasl.oauthbearer.jwt.validator.class", Kind::Text),
    kept("sasl.oauthbearer.client.credentials.client.id", Kind::Text),
    kept("sasl.oauthbearer.client.credentials.client.secret", Kind::Secret),
    kept("sasl.oauthbearer.scope", Kind::Text),
];
