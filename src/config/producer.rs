//! Settings of a producer, and the typed form that it works with.

use super::by_name::{by_property_name, each_alone};
use super::client::{NETWORK, SECURITY};
use super::log::codec_level;
use super::property::{Kind, Properties, Property, Role, Schema, int_from, long_from};
use super::settings::settings;
use super::topic::{LZ4_LEVELS, ZSTD_LEVELS, gzip_level};
use super::{Acks, Codec};
use crate::error::{Error, ErrorKind, Result};
use std::time::Duration;

/// Kafka keeps the last five batches of a producer, so more cannot be told apart.
const IN_FLIGHT_MAX: i64 = 5;

const NO_CLASSES: &str = "classes of a Java client cannot run here";
const NO_PARTITIONER: &str =
    "a partitioner cannot be loaded by name; give the partition with each record";

settings! {
    ProducerConfig {
        /// What a producer works with.
        #[derive(Debug, Clone, PartialEq, Eq)]
        struct ProducerSettings from Properties
    }

    /// what a send waits for.
    ACKS "acks": one_of("all", "-1", "0", "1"), "all" {
        set acks(acks: Acks);
        get acks: Acks;
    }

    /// the name in logs and metrics. `producer-<number>` where it is not set.
    CLIENT_ID "client.id": text, "" {
        set client_id(id: impl AsRef<str>) = id.as_ref();
        /// None: the producer makes one up.
        get client_id: Option<String> = client_id;
    }

    /// a lingering batch of this many bytes is sent at once; without a key, records stay in one
    /// partition for about as many.
    "batch.size": int(0), "16384" {
        set batch_size(bytes: u32);
        get batch_size: usize;
    }

    /// how long a record waits for others to share a batch with.
    ///
    /// Departure: D1. 0, Kafka 4 has 5. There is no network round trip to share, and without a wait
    /// the send is complete when it returns.
    LINGER_MS "linger.ms": long(0), "0" {
        set linger_ms(ms: u64), linger;
        get linger: Duration;
    }

    /// bytes of records that may linger, over all partitions. 32 MiB by default.
    "buffer.memory": long(0), "33554432" {
        set buffer_memory(bytes: u64);
        get buffer_memory: usize;
    }

    /// how long a send waits for buffer memory.
    "max.block.ms": long(0), "60000" {
        set max_block_ms(ms: u64), max_block;
        get max_block: Duration;
    }

    /// the largest record, by an upper bound of its own batch's size before compression. 1 MiB by
    /// default.
    "max.request.size": int(0), "1048576" {
        set max_request_size(bytes: u32);
        get max_request_size: usize;
    }

    /// when a record that could not be stored fails. It is at least `linger.ms` +
    /// `request.timeout.ms`, and raised to that where it is not set.
    DELIVERY_TIMEOUT_MS "delivery.timeout.ms": int(0), "120000" {
        set delivery_timeout_ms(ms: u32), delivery_timeout;
        get delivery_timeout: Duration = delivery_timeout;
    }

    /// here only a part of the lower bound of `delivery.timeout.ms`.
    REQUEST_TIMEOUT_MS "request.timeout.ms": int(0), "30000" {
        set request_timeout_ms(ms: u32), request_timeout;
    }

    /// how often a lingering batch is tried again after an error that may pass, such as a full
    /// disk. It is bounded by `delivery.timeout.ms`, too.
    RETRIES "retries": int(0), "2147483647" {
        set retries(count: u32);
        get retries: u32;
    }

    "retry.backoff.ms": long(0), "100" { get retry_backoff: Duration; }
    "retry.backoff.max.ms": long(0), "1000" { get retry_backoff_max: Duration; }

    /// the codec of batches.
    COMPRESSION_TYPE "compression.type": one_of("none", "gzip", "snappy", "lz4", "zstd"), "none" {
        set compression_type(codec: Codec) = codec.name();
        get codec: Codec;
        /// None: the codec's own.
        get level: Option<i32> = level;
    }

    "compression.gzip.level": rule(gzip_level), "-1";
    "compression.lz4.level": of(LZ4_LEVELS), "9";
    "compression.zstd.level": of(ZSTD_LEVELS), "3";

    /// whether keys do not choose the partition.
    "partitioner.ignore.keys": bool, "false" {
        set partitioner_ignore_keys(ignore: bool);
        get ignore_keys: bool;
    }

    /// whether the log knows the producer's batches by their sequence, and stores each once. It
    /// needs `acks=all`, `retries` above 0 and at most five requests in flight; where it was not
    /// set, it gives way to the first two.
    IDEMPOTENCE "enable.idempotence": bool, "true" {
        set enable_idempotence(idempotent: bool);
        get idempotent: bool = idempotent;
    }

    /// a name under which the producer goes on where the one before it stopped, also in another
    /// process: see [`Producer::last_sequence`](crate::Producer::last_sequence). It is no
    /// property of Kafka's.
    NAME "name": non_empty, null {
        set name(name: impl AsRef<str>) = name.as_ref();
        get name: Option<String>;
    }

    /// the name of the transactions of this producer, over restarts: a newer producer with it
    /// fences the older ones. See [`Producer::init_transactions`](crate::Producer).
    TRANSACTIONAL_ID "transactional.id": non_empty, null {
        set transactional_id(id: impl AsRef<str>) = id.as_ref();
        get transactional_id: Option<String>;
    }

    /// how long a transaction may take, before the coordinator aborts it.
    TRANSACTION_TIMEOUT_MS "transaction.timeout.ms": int, "60000" {
        set transaction_timeout_ms(ms: u32), transaction_timeout;
        get transaction_timeout: Duration;
    }

    IN_FLIGHT "max.in.flight.requests.per.connection": int(1), "5";
    TWO_PHASE_COMMIT "transaction.two.phase.commit.enable": bool, "false", kept;
    "partitioner.adaptive.partitioning.enable": bool, "true", kept;
    "partitioner.availability.timeout.ms": long(0), "0", kept;
    "partitioner.class": text, "", refused(NO_PARTITIONER);
    "interceptor.classes": list, "", refused(NO_CLASSES);
    "key.serializer": text, null, kept;
    "value.serializer": text, null, kept;
    "metadata.max.idle.ms": long(5000), "300000", kept;
    "internal.auto.downgrade.txn.commit": bool, "false", kept;
}

pub(super) static SCHEMA: Schema = Schema {
    of: "producer",
    error: ErrorKind::InvalidConfig,
    tables: &[TABLE, NETWORK, SECURITY],
    overridden: &[],
    prefixes: &["metrics.context."],
    keeps_lists: false,
};

/// Settings of a producer, under Kafka's names.
///
/// # Examples
/// ```
/// use topiclite::{Acks, ProducerConfig};
/// let config = ProducerConfig::default().linger_ms(5).acks(Acks::All);
/// assert_eq!(config.get("linger.ms"), Some("5"));
/// let error = ProducerConfig::from_properties([("linger", "5")]).unwrap_err();
/// assert!(error.to_string().ends_with("the nearest name is \"linger.ms\""));
/// # Ok::<(), topiclite::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct ProducerConfig(Properties);

by_property_name! {
    ProducerConfig, InvalidConfig, each_alone,
    /// What was set and has no effect here, such as `bootstrap.servers`.
}

impl ProducerConfig {
    /// The typed settings, after the rules between settings.
    ///
    /// # Errors
    /// - [`ErrorKind::InvalidConfig`]: a value out of range; what idempotence needs is set
    ///   otherwise.
    /// - [`ErrorKind::Kafka`] over [`ErrorKind::InvalidConfig`]: `delivery.timeout.ms` too small.
    /// - [`ErrorKind::UnsupportedCompressionType`]: the build lacks the codec.
    pub(crate) fn settings(&self) -> Result<ProducerSettings> {
        let p = &self.0;
        p.check()?;
        self.check_idempotence()?;
        let settings = ProducerSettings::read(p);
        let codec = settings.codec;
        if !codec.is_available() {
            return Err(Error::new(
                ErrorKind::UnsupportedCompressionType,
                format!("this build lacks {codec}; build it with the feature \"{codec}\""),
            ));
        }
        self.check_delivery_timeout()?;
        Ok(settings)
    }

    /// What idempotence, names and transactions need of each other and of other settings.
    fn check_idempotence(&self) -> Result<()> {
        let p = &self.0;
        let refuse = |message: String| Err(Error::new(ErrorKind::InvalidConfig, message));
        let transactional = p.text(TRANSACTIONAL_ID).is_some();
        let named = p.text(NAME).is_some();
        let chosen = named || p.is_set(IDEMPOTENCE) && p.flag(IDEMPOTENCE);
        if p.flag(IDEMPOTENCE) && p.whole(IN_FLIGHT) > IN_FLIGHT_MAX {
            let at = p.whole(IN_FLIGHT);
            return refuse(format!(
                "{IN_FLIGHT} is {at}; above {IN_FLIGHT_MAX} it needs {IDEMPOTENCE}=false"
            ));
        }
        if chosen || transactional {
            if !matches!(p.text(ACKS), Some("all" | "-1")) {
                return refuse(format!("idempotence needs {ACKS}=all"));
            }
            if p.whole(RETRIES) == 0 {
                return refuse(format!("idempotence needs {RETRIES} above 0"));
            }
        }
        if transactional {
            if !p.flag(IDEMPOTENCE) {
                return refuse(format!("{TRANSACTIONAL_ID} needs {IDEMPOTENCE}=true"));
            }
            if named {
                return refuse(format!("{TRANSACTIONAL_ID} and {NAME} exclude each other"));
            }
            if p.flag(TWO_PHASE_COMMIT) && p.is_set(TRANSACTION_TIMEOUT_MS) {
                return refuse(format!(
                    "{TWO_PHASE_COMMIT}=true excludes {TRANSACTION_TIMEOUT_MS}"
                ));
            }
        }
        if named && !p.flag(IDEMPOTENCE) {
            return refuse(format!("{NAME} needs {IDEMPOTENCE}=true"));
        }
        Ok(())
    }

    fn check_delivery_timeout(&self) -> Result<()> {
        let p = &self.0;
        let least = delivery_timeout_min(p);
        if p.whole(DELIVERY_TIMEOUT_MS) >= least || !p.is_set(DELIVERY_TIMEOUT_MS) {
            return Ok(());
        }
        // The Java client finds this one in its constructor, which wraps it.
        let cause = Error::new(
            ErrorKind::InvalidConfig,
            format!(
                "{DELIVERY_TIMEOUT_MS} is {}, below {LINGER_MS} + {REQUEST_TIMEOUT_MS}, {least}",
                p.whole(DELIVERY_TIMEOUT_MS)
            ),
        );
        let message = format!("the producer cannot be made: {}", cause.message());
        Err(Error::new(ErrorKind::Kafka, message).with_source(cause))
    }
}

/// What was not chosen gives way to what it needs.
fn idempotent(p: &Properties) -> bool {
    p.flag(IDEMPOTENCE) && matches!(p.text(ACKS), Some("all" | "-1")) && p.whole(RETRIES) > 0
}

fn client_id(p: &Properties) -> Option<String> {
    p.text(CLIENT_ID).filter(|id| !id.is_empty()).map(str::to_owned)
}

/// In milliseconds.
fn delivery_timeout_min(p: &Properties) -> i64 {
    let least = p.whole(LINGER_MS).saturating_add(p.whole(REQUEST_TIMEOUT_MS));
    least.min(i64::from(i32::MAX))
}

/// What was chosen is checked; what was not gives way.
fn delivery_timeout(p: &Properties) -> Duration {
    let least = match p.is_set(DELIVERY_TIMEOUT_MS) {
        true => 0,
        false => u64::try_from(delivery_timeout_min(p)).unwrap_or(0),
    };
    p.value::<Duration>(DELIVERY_TIMEOUT_MS).max(Duration::from_millis(least))
}

fn level(p: &Properties) -> Option<i32> {
    codec_level(p.value(COMPRESSION_TYPE), |key| p.whole(key))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(of: &[(&str, &str)]) -> Result<ProducerSettings> {
        ProducerConfig::from_properties(of.iter().copied()).and_then(|config| config.settings())
    }

    #[test]
    fn the_configurations_that_kafka_refuses_are_refused() {
        for bad in [
            &[("acks", "2")][..],
            &[("acks", "1"), ("enable.idempotence", "true")],
            &[("acks", "0"), ("enable.idempotence", "true")],
            &[("retries", "0"), ("enable.idempotence", "true")],
            &[(IN_FLIGHT, "6"), ("enable.idempotence", "true")],
            &[(IN_FLIGHT, "6")],
            &[("transactional.id", "x"), ("enable.idempotence", "false")],
            &[("transactional.id", "x"), ("acks", "1")],
            &[("transactional.id", "")],
            &[("name", "")],
            &[("name", "x"), ("enable.idempotence", "false")],
            &[("name", "x"), ("acks", "1")],
            &[("name", "x"), ("transactional.id", "x")],
            &[("name", "x"), ("retries", "0")],
            &[("compression.type", "brotli")],
            &[("linger.ms", "-1")],
            &[("batch.size", "-1")],
            &[(IN_FLIGHT, "0")],
            &[("retries", "-1")],
            &[("max.block.ms", "-1")],
            &[("linger.ms", "soon")],
        ] {
            assert_eq!(made(bad).unwrap_err().kind(), ErrorKind::InvalidConfig, "{bad:?}");
        }
        for good in [
            &[("acks", "1")][..],
            &[("retries", "0")],
            &[(IN_FLIGHT, "6"), ("enable.idempotence", "false")],
            &[("batch.size", "0")],
            &[("bootstrap.servers", "a:1,b:2"), ("ssl.key.password", "x")],
        ] {
            made(good).unwrap();
        }
    }

    #[test]
    fn what_is_not_built_is_refused_in_words() {
        let error = made(&[("partitioner.class", "org.example.Mine")]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidConfig);
        assert!(error.message().contains("with each record"), "{error}");
    }

    #[test]
    fn a_delivery_timeout_that_is_too_small_is_an_error_only_where_it_was_chosen() {
        let timeouts = |delivery| {
            made(&[
                ("delivery.timeout.ms", delivery),
                ("request.timeout.ms", "1000"),
                ("linger.ms", "1"),
            ])
        };
        let error = timeouts("1000").unwrap_err();
        assert_eq!((error.kind(), error.kafka_name()), (ErrorKind::Kafka, "KafkaException"));
        assert_eq!(error.root_kind(), ErrorKind::InvalidConfig);
        assert_eq!(timeouts("1001").unwrap().delivery_timeout, Duration::from_millis(1001));
        let raised = made(&[("request.timeout.ms", "200000")]).unwrap();
        assert_eq!(raised.delivery_timeout, Duration::from_secs(200));
    }

    #[test]
    fn a_linger_without_end_raises_the_delivery_timeout_to_its_largest() {
        let longest = made(&[("linger.ms", "9223372036854775807")]).unwrap();
        assert_eq!(longest.delivery_timeout, Duration::from_millis(2_147_483_647));
        let chosen = [("linger.ms", "9223372036854775807"), ("delivery.timeout.ms", "1000")];
        assert_eq!(made(&chosen).unwrap_err().root_kind(), ErrorKind::InvalidConfig);
    }

    #[test]
    fn the_defaults_are_kafkas_but_for_linger() {
        let ms = Duration::from_millis;
        assert_eq!(
            made(&[]).unwrap(),
            ProducerSettings {
                acks: Acks::All,
                client_id: None,
                batch_size: 16384,
                linger: Duration::ZERO,
                buffer_memory: 32 << 20,
                max_block: ms(60_000),
                max_request_size: 1 << 20,
                delivery_timeout: ms(120_000),
                retries: 2_147_483_647,
                retry_backoff: ms(100),
                retry_backoff_max: ms(1000),
                codec: Codec::None,
                level: None,
                ignore_keys: false,
                idempotent: true,
                name: None,
                transactional_id: None,
                transaction_timeout: ms(60_000),
            }
        );
    }

    #[test]
    fn typed_setters_write_kafkas_names() {
        let config = ProducerConfig::default()
            .acks(Acks::None)
            .linger_ms(7)
            .batch_size(10)
            .buffer_memory(20)
            .max_block_ms(30)
            .max_request_size(40)
            .request_timeout_ms(10)
            .delivery_timeout_ms(50)
            .retries(3)
            .partitioner_ignore_keys(true)
            .client_id("me");
        let settings = config.settings().unwrap();
        assert_eq!((settings.acks, settings.linger), (Acks::None, Duration::from_millis(7)));
        assert_eq!((settings.batch_size, settings.buffer_memory), (10, 20));
        assert_eq!((settings.max_request_size, settings.retries), (40, 3));
        assert_eq!(settings.delivery_timeout, Duration::from_millis(50));
        assert!(settings.ignore_keys);
        assert_eq!(settings.client_id.as_deref(), Some("me"));
    }

    #[test]
    fn every_default_is_a_legal_value_and_no_name_stands_twice() {
        let mut names: Vec<_> = SCHEMA.all().map(|p| p.name).collect();
        names.sort_unstable();
        assert!(names.windows(2).all(|pair| pair[0] != pair[1]));
        for property in SCHEMA.all() {
            if let Some(default) = property.default {
                let kept = property.kind.normalise(default);
                assert_eq!(kept.as_deref(), Ok(default), "{}", property.name);
            }
        }
    }
}
