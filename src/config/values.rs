//! The words that settings are made of.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// What a producer waits for before a send counts as done: `acks`.
///
/// With one replica, `Leader` and `All` are the same. Neither makes a record safe against power
/// loss by itself: that is the topic's [`Durability`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Acks {
    /// `acks=0`: nothing. The offset that comes back is -1, and an error of the log is not told.
    None,
    /// `acks=1`: the append.
    Leader,
    /// `acks=all`, the default: the append, as there is one replica.
    #[default]
    All,
}

impl fmt::Display for Acks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Acks::None => "0",
            Acks::Leader => "1",
            Acks::All => "all",
        })
    }
}

/// Where a consumer starts in a partition without a position: `auto.offset.reset`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum OffsetReset {
    /// At the log start offset.
    Earliest,
    /// At the end as the isolation level sees it. Kafka's default.
    #[default]
    Latest,
    /// Nowhere: the poll fails with `NoOffsetForPartition`.
    None,
    /// At the first record whose timestamp is at most this long ago.
    ByDuration(Duration),
}

impl FromStr for OffsetReset {
    type Err = String;

    fn from_str(text: &str) -> Result<OffsetReset, String> {
        match text {
            "earliest" => Ok(OffsetReset::Earliest),
            "latest" => Ok(OffsetReset::Latest),
            "none" => Ok(OffsetReset::None),
            "smallest" | "beginning" => Err("librdkafka's word; it is earliest here".to_owned()),
            "largest" | "end" => Err("librdkafka's word; it is latest here".to_owned()),
            "error" => Err("librdkafka's word; it is none here".to_owned()),
            _ => text
                .strip_prefix("by_duration:")
                .and_then(parse_iso_duration)
                .map(OffsetReset::ByDuration)
                .ok_or_else(|| {
                    "it is earliest, latest, none or by_duration:PnDTnHnMn.nS, in lower case"
                        .to_owned()
                }),
        }
    }
}

impl fmt::Display for OffsetReset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            OffsetReset::Earliest => f.write_str("earliest"),
            OffsetReset::Latest => f.write_str("latest"),
            OffsetReset::None => f.write_str("none"),
            OffsetReset::ByDuration(duration) => match duration.subsec_nanos() {
                0 => write!(f, "by_duration:PT{}S", duration.as_secs()),
                nanos => write!(f, "by_duration:PT{}.{nanos:09}S", duration.as_secs()),
            },
        }
    }
}

/// A non-negative ISO-8601 duration of days, hours, minutes and seconds, as Java reads it.
pub(super) fn parse_iso_duration(text: &str) -> Option<Duration> {
    let rest = text.strip_prefix(['P', 'p'])?;
    let (days, time) = match rest.split_once(['T', 't']) {
        Some((_, "")) => return None,
        Some((days, time)) => (days, time),
        None if rest.is_empty() => return None,
        None => (rest, ""),
    };
    let mut total = Duration::ZERO;
    if !days.is_empty() {
        let count: u64 = digits(days.strip_suffix(['D', 'd'])?)?;
        total = Duration::from_secs(count.checked_mul(86_400)?);
    }
    let mut rest = time;
    for (unit, seconds) in [('H', 3600), ('M', 60)] {
        if let Some((count, after)) = rest.split_once([unit, unit.to_ascii_lowercase()]) {
            total = total.checked_add(Duration::from_secs(digits(count)?.checked_mul(seconds)?))?;
            rest = after;
        }
    }
    if !rest.is_empty() {
        let (whole, fraction) = match rest.strip_suffix(['S', 's'])?.split_once('.') {
            Some((whole, fraction)) => (whole, fraction),
            None => (rest.strip_suffix(['S', 's'])?, "0"),
        };
        if fraction.len() > 9 {
            return None;
        }
        let nanos = u32::try_from(digits(&format!("{fraction:0<9}"))?).ok()?;
        total = total.checked_add(Duration::new(digits(whole)?, nanos))?;
    }
    Some(total)
}

fn digits(text: &str) -> Option<u64> {
    let plain = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    plain.then(|| text.parse().ok()).flatten()
}

/// Which records a consumer sees: `isolation.level`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum IsolationLevel {
    /// All records, also of open and aborted transactions. Kafka's default.
    #[default]
    ReadUncommitted,
    /// Records below the last stable offset, without those of aborted transactions.
    ReadCommitted,
}

impl fmt::Display for IsolationLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            IsolationLevel::ReadUncommitted => "read_uncommitted",
            IsolationLevel::ReadCommitted => "read_committed",
        })
    }
}

/// What an acknowledged record survives.
///
/// A word for two values of `flush.messages` (topic) or `log.flush.interval.messages` (broker).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Durability {
    /// The death of the process at any time. After a power loss the last `flush.ms`
    /// milliseconds may be missing. Kafka's default: no sync before the answer.
    #[default]
    Process,
    /// Power loss too: an answer waits for a sync, which all who wait at the moment share.
    Power,
}

impl Durability {
    /// The value of `flush.messages` that this is the word for.
    pub(crate) fn flush_messages(self) -> i64 {
        match self {
            Durability::Process => i64::MAX,
            Durability::Power => 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_iso_8601() {
        let s = Duration::from_secs;
        for (text, duration) in [
            ("PT1H", s(3600)),
            ("P1D", s(86_400)),
            ("P1DT2H3M4.5S", s(86_400 + 7200 + 180 + 4) + Duration::from_millis(500)),
            ("pt0.000000001s", Duration::from_nanos(1)),
            ("PT0S", Duration::ZERO),
        ] {
            assert_eq!(parse_iso_duration(text), Some(duration), "{text}");
            let reset = OffsetReset::ByDuration(duration);
            assert_eq!(reset.to_string().parse(), Ok(reset));
        }
        for bad in ["", "P", "PT", "-PT1H", "PT-1H", "PT1", "1H", "PT1M2H", "P1DT", "PT1.S1"] {
            assert_eq!(parse_iso_duration(bad), None, "{bad}");
        }
    }

    #[test]
    fn reset_policies_are_lower_case_only() {
        assert_eq!("latest".parse(), Ok(OffsetReset::Latest));
        for bad in ["LATEST", "by_duration", "by_duration:-PT1H", "by_duration:", ""] {
            assert!(bad.parse::<OffsetReset>().is_err(), "{bad}");
        }
    }
}
