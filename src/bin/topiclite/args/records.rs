//! The words of `produce` and `consume`.

use super::values::{self, From};
use crate::format::Format;
use clap::{Args, ValueEnum};
use topiclite::Codec;

/// How `produce` reads its input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum InputFormat {
    /// A record a line.
    Lines,
    /// An object a line, as `consume --json` prints it.
    Json,
}

/// What is written, and how.
#[derive(Debug, Args)]
pub struct Produce {
    /// The topic.
    #[arg(value_parser = values::topic)]
    pub topic: String,
    /// Write to this partition.
    #[arg(
        long,
        short = 'p',
        value_name = "P",
        allow_negative_numbers = true,
        value_parser = values::partition
    )]
    pub partition: Option<i32>,
    /// What stands between key and value on a line, such as `:` or `\t`; without this a line is a
    /// value. A line without it is refused.
    #[arg(long, short = 'K', value_name = "TEXT", value_parser = values::separator)]
    pub key_separator: Option<values::Bytes>,
    /// The key of every record.
    #[arg(long, short = 'k', value_name = "KEY", conflicts_with = "key_separator")]
    pub key: Option<String>,
    /// A header of every record; may be repeated.
    #[arg(long, short = 'H', value_name = "NAME=VALUE", value_parser = values::header)]
    pub header: Vec<(String, String)>,
    /// A line begins with `name:value,name:value` and a tab.
    #[arg(long)]
    pub headers: bool,
    /// The codec of batches: `none`, `gzip`, `snappy`, `lz4` or `zstd`. Lines that are there at
    /// once share batches then.
    #[arg(long, short = 'z', value_name = "CODEC", value_parser = values::codec)]
    pub compression: Option<Codec>,
    /// A setting of the producer, as Kafka names it; may be repeated.
    #[arg(long = "config", short = 'X', value_name = "KEY=VALUE", value_parser = values::pair)]
    pub config: Vec<(String, String)>,
    /// Write all lines in one transaction of this id. It is committed at the end of the input; a
    /// line that fails, or Ctrl-C, aborts it.
    #[arg(long, value_name = "ID")]
    pub transactional_id: Option<String>,
    /// Abort the transaction at the end of the input, to see what its readers see.
    #[arg(long, requires = "transactional_id")]
    pub abort: bool,
    /// What a line is: `json` reads what `consume --json` prints.
    ///
    /// Fields: `key` and `value`, text or null, or `key_base64` and `value_base64`; `timestamp`,
    /// milliseconds since 1970, where -1 is none: the time of the write is taken; `partition`;
    /// `headers`, an array of `{"name": TEXT, "value": TEXT}` or `value_base64`. `topic`, `offset`
    /// and `timestamp_type` have no effect. Any other field is an error, and so is none at all.
    #[arg(long, value_enum, default_value_t = InputFormat::Lines)]
    pub input_format: InputFormat,
}

/// What is read, from where to where, and how it is shown.
#[derive(Debug, Args)]
pub struct Consume {
    /// The topic.
    #[arg(value_parser = values::topic)]
    pub topic: String,
    /// Read as a member of this group and commit; takes the lock.
    #[arg(long, short = 'G', value_parser = values::group)]
    pub group: Option<String>,
    /// Where to begin: `beginning`, `end`, `stored`, an offset, `-N` (the last N of each
    /// partition) or `@TIME`.
    ///
    /// TIME is milliseconds since 1970; `2026-01-31`, `2026-01-31T12:00` in local time, or
    /// `2026-01-31T12:00:00Z`; or how long ago: `-90s`, `-2h30m`, `-7d`. Without this, the
    /// beginning; with `--group`, the stored offset.
    #[arg(
        long,
        short = 'o',
        value_name = "WHERE",
        allow_hyphen_values = true,
        value_parser = values::from
    )]
    pub from: Option<From>,
    /// Only this partition.
    #[arg(
        long,
        short = 'p',
        value_name = "P",
        allow_negative_numbers = true,
        value_parser = values::partition
    )]
    pub partition: Option<i32>,
    /// Stop after so many records.
    #[arg(long, short = 'c', value_name = "N")]
    pub count: Option<u64>,
    /// Go on when the end is reached.
    #[arg(long, conflicts_with = "until")]
    pub follow: bool,
    /// Stop at the end as it was at the start, which is the default.
    #[arg(long, value_enum)]
    pub until: Option<Until>,
    /// Whether records of open and aborted transactions are shown.
    #[arg(long, value_enum, default_value_t = Isolation::ReadUncommitted)]
    pub isolation: Isolation,
    /// How a record is printed: `%k` key, `%s` value, `%h` headers, `%T` timestamp in
    /// milliseconds, `%t` topic, `%p` partition, `%o` offset, `%K` and `%S` sizes, `%%`, `\n`,
    /// `\t`, `\x00`. Nothing is added, no line end either.
    #[arg(long, short = 'f', value_name = "FORMAT", conflicts_with = "json")]
    #[arg(value_parser = Format::parse)]
    pub format: Option<Format>,
    #[command(flatten)]
    pub filters: Filters,
}

/// Which records are printed and counted.
#[derive(Debug, Args)]
pub struct Filters {
    /// Only records with this key.
    #[arg(long, short = 'k')]
    pub key: Option<String>,
    /// Only records whose value contains this text.
    #[arg(long, value_name = "TEXT")]
    pub grep: Option<String>,
    /// Only records with this header; may be repeated, then all of them.
    #[arg(long, value_name = "NAME=VALUE", value_parser = values::header)]
    pub header: Vec<(String, String)>,
}

/// Where reading stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Until {
    /// The end as it was at the start.
    End,
}

/// Which records of transactions are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Isolation {
    /// Of committed ones.
    #[value(name = "read_committed")]
    ReadCommitted,
    /// All.
    #[value(name = "read_uncommitted")]
    ReadUncommitted,
}
