//! Settings of a producer, and the typed form that it works with.

use super::by_name::{by_property_name, each_alone};
use super::client::{NETWORK, SECURITY};
use super::log::codec_level;
use super::property::{Kind, Properties, Property, Schema};
use super::topic::{LZ4_LEVELS, ZSTD_LEVELS, gzip_level};
use super::{Acks, Codec};
use crate::error::{Error, ErrorKind, Result};
use std::time::Duration;

const ACKS: &str = "acks";
const CLIENT_ID: &str = "client.id";
const BATCH_SIZE: &str = "batch.size";
const LINGER_MS: &str = "linger.ms";
const BUFFER_MEMORY: &str = "buffer.memory";
const MAX_BLOCK_MS: &str = "max.block.ms";
const MAX_REQUEST_SIZE: &str = "max.request.size";
const DELIVERY_TIMEOUT_MS: &str = "delivery.timeout.ms";
const REQUEST_TIMEOUT_MS: &str = "request.timeout.ms";
const RETRIES: &str = "retries";
const RETRY_BACKOFF_MS: &str = "retry.backoff.ms";
const RETRY_BACKOFF_MAX_MS: &str = "retry.backoff.max.ms";
const COMPRESSION_TYPE: &str = "compression.type";
const IGNORE_KEYS: &str = "partitioner.ignore.keys";
const IDEMPOTENCE: &str = "enable.idempotence";
const TRANSACTIONAL_ID: &str = "transactional.id";
const IN_FLIGHT: &str = "max.in.flight.requests.per.connection";

/// Kafka keeps the last five batches of a producer, so more cannot be told apart.
const IN_FLIGHT_MAX: i64 = 5;

const NO_CLASSES: &str = "classes of a Java client cannot run here";
const NO_PARTITIONER: &str =
    "a partitioner cannot be loaded by name; give the partition with each record";

/// Departure: `linger.ms` is 0 where Kafka 4 has 5: there is no network round trip to share.
/// Departure: `enable.idempotence` cannot be set to true, and the default has the effect of false:
/// a send in one process is not repeated behind the caller's back.
const TABLE: &[Property] = &[
    Property::new(ACKS, Kind::OneOf(&["all", "-1", "0", "1"]), "all"),
    Property::new(CLIENT_ID, Kind::Text, ""),
    Property::int(BATCH_SIZE, "16384", 0),
    Property::long(LINGER_MS, "0", 0),
    Property::long(BUFFER_MEMORY, "33554432", 0),
    Property::long(MAX_BLOCK_MS, "60000", 0),
    Property::int(MAX_REQUEST_SIZE, "1048576", 0),
    Property::int(DELIVERY_TIMEOUT_MS, "120000", 0),
    Property::int(REQUEST_TIMEOUT_MS, "30000", 0),
    Property::int(RETRIES, "2147483647", 0),
    Property::long(RETRY_BACKOFF_MS, "100", 0),
    Property::long(RETRY_BACKOFF_MAX_MS, "1000", 0),
    Property::new(
        COMPRESSION_TYPE,
        Kind::OneOf(&["none", "gzip", "snappy", "lz4", "zstd"]),
        "none",
    ),
    Property::new("compression.gzip.level", Kind::Rule(gzip_level), "-1"),
    Property::new("compression.lz4.level", LZ4_LEVELS, "9"),
    Property::new("compression.zstd.level", ZSTD_LEVELS, "3"),
    Property::bool(IGNORE_KEYS, "false"),
    Property::bool(IDEMPOTENCE, "true"),
    Property::null(TRANSACTIONAL_ID, Kind::NonEmpty),
    Property::int(IN_FLIGHT, "5", 1),
    Property::int("transaction.timeout.ms", "60000", i32::MIN).kept(),
    Property::bool("transaction.two.phase.commit.enable", "false").kept(),
    Property::bool("partitioner.adaptive.partitioning.enable", "true").kept(),
    Property::long("partitioner.availability.timeout.ms", "0", 0).kept(),
    Property::new("partitioner.class", Kind::Text, "").refused(NO_PARTITIONER),
    Property::new("interceptor.classes", Kind::List(&[]), "").refused(NO_CLASSES),
    Property::null("key.serializer", Kind::Text).kept(),
    Property::null("value.serializer", Kind::Text).kept(),
    Property::long("metadata.max.idle.ms", "300000", 5000).kept(),
    Property::bool("internal.auto.downgrade.txn.commit", "false").kept(),
];

static SCHEMA: Schema = Schema {
    of: "producer",
    error: ErrorKind::InvalidConfig,
    tables: &[TABLE, NETWORK, SECURITY],
    prefixes: &["metrics.context."],
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
    fn put(mut self, key: &'static str, value: impl std::fmt::Display) -> ProducerConfig {
        self.0.put(key, value);
        self
    }

    /// `client.id`: the name in logs and metrics. Default `producer-<number>`.
    pub fn client_id(self, id: impl AsRef<str>) -> ProducerConfig {
        self.put(CLIENT_ID, id.as_ref())
    }

    /// `acks`: what a send waits for. Default [`Acks::All`].
    pub fn acks(self, acks: Acks) -> ProducerConfig {
        self.put(ACKS, acks)
    }

    /// `linger.ms`: how long a record waits for others to share a batch with.
    ///
    /// Departure: 0, Kafka 4 has 5. There is no network round trip to share, and without a wait
    /// the send is complete when it returns.
    pub fn linger_ms(self, ms: u64) -> ProducerConfig {
        self.put(LINGER_MS, ms)
    }

    /// [`ProducerConfig::linger_ms`] as a duration, in whole milliseconds.
    pub fn linger(self, time: Duration) -> ProducerConfig {
        self.put(LINGER_MS, time.as_millis())
    }

    /// `batch.size`: a lingering batch of this many bytes is sent at once; without a key, records
    /// stay in one partition for about as many. Default 16384.
    pub fn batch_size(self, bytes: u32) -> ProducerConfig {
        self.put(BATCH_SIZE, bytes)
    }

    /// `buffer.memory`: bytes of records that may linger, over all partitions. Default 32 MiB.
    pub fn buffer_memory(self, bytes: u64) -> ProducerConfig {
        self.put(BUFFER_MEMORY, bytes)
    }

    /// `max.block.ms`: how long a send waits for buffer memory. Default 60000.
    pub fn max_block_ms(self, ms: u64) -> ProducerConfig {
        self.put(MAX_BLOCK_MS, ms)
    }

    /// [`ProducerConfig::max_block_ms`] as a duration, in whole milliseconds.
    pub fn max_block(self, time: Duration) -> ProducerConfig {
        self.put(MAX_BLOCK_MS, time.as_millis())
    }

    /// `max.request.size`: the largest record, by an upper bound of its own batch's size before
    /// compression. Default 1 MiB.
    pub fn max_request_size(self, bytes: u32) -> ProducerConfig {
        self.put(MAX_REQUEST_SIZE, bytes)
    }

    /// `delivery.timeout.ms`: when a record that could not be stored fails. Default 120000; at
    /// least `linger.ms` + `request.timeout.ms`.
    pub fn delivery_timeout_ms(self, ms: u32) -> ProducerConfig {
        self.put(DELIVERY_TIMEOUT_MS, ms)
    }

    /// [`ProducerConfig::delivery_timeout_ms`] as a duration, in whole milliseconds.
    pub fn delivery_timeout(self, time: Duration) -> ProducerConfig {
        self.put(DELIVERY_TIMEOUT_MS, time.as_millis())
    }

    /// `request.timeout.ms`: here only a part of the lower bound of `delivery.timeout.ms`.
    /// Default 30000.
    pub fn request_timeout_ms(self, ms: u32) -> ProducerConfig {
        self.put(REQUEST_TIMEOUT_MS, ms)
    }

    /// [`ProducerConfig::request_timeout_ms`] as a duration, in whole milliseconds.
    pub fn request_timeout(self, time: Duration) -> ProducerConfig {
        self.put(REQUEST_TIMEOUT_MS, time.as_millis())
    }

    /// `retries`: how often a lingering batch is tried again after an error that may pass, such
    /// as a full disk. Default 2147483647, bounded by `delivery.timeout.ms`.
    pub fn retries(self, count: u32) -> ProducerConfig {
        self.put(RETRIES, count)
    }

    /// `compression.type`: the codec of batches. Default none.
    pub fn compression_type(self, codec: Codec) -> ProducerConfig {
        self.put(COMPRESSION_TYPE, codec.name())
    }

    /// `partitioner.ignore.keys`: whether keys do not choose the partition. Default false.
    pub fn partitioner_ignore_keys(self, ignore: bool) -> ProducerConfig {
        self.put(IGNORE_KEYS, ignore)
    }

    /// The typed settings, after the rules between settings.
    ///
    /// # Errors
    /// - [`ErrorKind::InvalidConfig`]: a value out of range; `enable.idempotence` or
    ///   `transactional.id`, which this version does not have; more than five requests in flight
    ///   while idempotence is not off.
    /// - [`ErrorKind::Kafka`] over [`ErrorKind::InvalidConfig`]: `delivery.timeout.ms` too small.
    /// - [`ErrorKind::UnsupportedCompressionType`]: the build lacks the codec.
    pub(crate) fn settings(&self) -> Result<ProducerSettings> {
        let p = &self.0;
        p.check()?;
        self.check_idempotence()?;
        let whole = |key: &str| p.whole(key);
        let codec = Codec::from_name(p.text(COMPRESSION_TYPE).unwrap_or_default());
        let codec = codec.unwrap_or(Codec::None);
        if !codec.is_available() {
            return Err(Error::new(
                ErrorKind::UnsupportedCompressionType,
                format!("this build lacks {codec}; build it with the feature \"{codec}\""),
            ));
        }
        let client_id = p.text(CLIENT_ID).filter(|id| !id.is_empty()).map(str::to_owned);
        Ok(ProducerSettings {
            acks: match p.text(ACKS) {
                Some("0") => Acks::None,
                Some("1") => Acks::Leader,
                _ => Acks::All,
            },
            client_id,
            batch_size: p.bytes(BATCH_SIZE),
            linger: p.millis(LINGER_MS),
            buffer_memory: p.bytes(BUFFER_MEMORY),
            max_block: p.millis(MAX_BLOCK_MS),
            max_request_size: p.bytes(MAX_REQUEST_SIZE),
            delivery_timeout: self.checked_delivery_timeout()?,
            retries: u32::try_from(whole(RETRIES)).unwrap_or(u32::MAX),
            retry_backoff: p.millis(RETRY_BACKOFF_MS),
            retry_backoff_max: p.millis(RETRY_BACKOFF_MAX_MS),
            codec,
            level: codec_level(codec, whole),
            ignore_keys: p.flag(IGNORE_KEYS),
        })
    }

    /// Kafka's conflicts first, so that their texts win; then what is not built.
    fn check_idempotence(&self) -> Result<()> {
        let p = &self.0;
        let refuse = |message: String| Err(Error::new(ErrorKind::InvalidConfig, message));
        let chosen = p.is_set(IDEMPOTENCE) && p.flag(IDEMPOTENCE);
        let transactional = p.text(TRANSACTIONAL_ID).is_some();
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
            return refuse(match p.flag(IDEMPOTENCE) {
                false => format!("{TRANSACTIONAL_ID} needs {IDEMPOTENCE}=true"),
                true => format!("{TRANSACTIONAL_ID}: this version has no transactions; unset it"),
            });
        }
        if chosen {
            return refuse(format!(
                "{IDEMPOTENCE}=true: this version has no idempotent producer; leave it unset \
                 (a send in one process is not repeated behind the caller's back)"
            ));
        }
        Ok(())
    }

    fn checked_delivery_timeout(&self) -> Result<Duration> {
        let p = &self.0;
        let least = (p.whole(LINGER_MS) + p.whole(REQUEST_TIMEOUT_MS)).min(i64::from(i32::MAX));
        if p.whole(DELIVERY_TIMEOUT_MS) >= least {
            return Ok(p.millis(DELIVERY_TIMEOUT_MS));
        }
        if !p.is_set(DELIVERY_TIMEOUT_MS) {
            return Ok(Duration::from_millis(u64::try_from(least).unwrap_or(0)));
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

/// What a producer works with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ProducerSettings {
    pub acks: Acks,
    /// None: the producer makes one up.
    pub client_id: Option<String>,
    pub batch_size: usize,
    pub linger: Duration,
    pub buffer_memory: usize,
    pub max_block: Duration,
    pub max_request_size: usize,
    pub delivery_timeout: Duration,
    pub retries: u32,
    pub retry_backoff: Duration,
    pub retry_backoff_max: Duration,
    pub codec: Codec,
    pub level: Option<i32>,
    pub ignore_keys: bool,
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
        for (key, value, word) in [
            ("enable.idempotence", "true", "no idempotent producer"),
            ("transactional.id", "x", "no transactions"),
            ("partitioner.class", "org.example.Mine", "with each record"),
        ] {
            let error = made(&[(key, value)]).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidConfig);
            assert!(error.message().contains(word), "{error}");
        }
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
