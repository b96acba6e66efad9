//! The words of the command line. Scripts depend on them: they are added to, never renamed.

use clap::{Args, Parser, Subcommand, ValueEnum};
use std::path::PathBuf;

/// Apache Kafka's topics, producers and consumer groups in a directory on this machine.
#[derive(Debug, Parser)]
#[command(name = "topiclite", version)]
pub struct Options {
    /// The data directory.
    #[arg(long, global = true, env = "TOPICLITE_DIR", value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// Print one JSON object per line.
    #[arg(long, global = true)]
    pub json: bool,
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// The main job, end to end, in seconds: topics, a group, a kill, a restart that loses nothing.
    Demo(Demo),
    /// Create, list, describe, alter, grow and delete topics.
    Topics(Topics),
    /// Write the lines of standard input to a topic.
    Produce(Produce),
    /// Print the records of a topic.
    Consume(Consume),
    /// List and describe consumer groups.
    Groups(Groups),
    /// Print the borders of a topic's partitions.
    Offsets(Offsets),
    /// Print what is in files: segments, indexes, snapshots, as kafka-dump-log does.
    Dump(Dump),
    /// Read everything and report damage; exit code 1 with findings.
    Verify,
    /// Say what a repair would do.
    Repair(Repair),
    /// Measure this disk: throughput and percentiles.
    Bench(Bench),
}

#[derive(Debug, Args)]
pub struct Demo {
    /// Stream the lines of this text file instead of made-up ones.
    #[arg(long, value_name = "FILE")]
    pub input: Option<PathBuf>,
    /// The child process that the demo kills; not for people.
    #[arg(long, hide = true, value_name = "NAME")]
    pub child: Option<String>,
}

#[derive(Debug, Args)]
pub struct Topics {
    #[command(subcommand)]
    pub action: TopicsAction,
}

#[derive(Debug, Subcommand)]
pub enum TopicsAction {
    /// Create a topic.
    Create {
        name: String,
        /// How many partitions; the broker's `num.partitions` unless given.
        #[arg(long, default_value_t = -1, allow_negative_numbers = true)]
        partitions: i32,
        /// A setting of the topic, as Kafka names it; may be repeated.
        #[arg(long = "config", value_name = "KEY=VALUE", value_parser = pair)]
        config: Vec<(String, String)>,
    },
    /// List the topics.
    List {
        /// The broker's own topics as well.
        #[arg(long)]
        internal: bool,
    },
    /// Show one topic, or all.
    Describe { name: Option<String> },
    /// Delete a topic with its records and its committed offsets.
    Delete { name: String },
    /// Change settings; an empty value goes back to the default.
    Alter {
        name: String,
        #[arg(long = "config", value_name = "KEY=VALUE", value_parser = pair, required = true)]
        config: Vec<(String, String)>,
    },
    /// Raise the number of partitions. Keys move to other partitions.
    Grow {
        name: String,
        /// How many there are afterwards.
        #[arg(long)]
        partitions: i32,
    },
}

/// How `produce` reads its input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum InputFormat {
    Lines,
    Json,
}

#[derive(Debug, Args)]
pub struct Produce {
    pub topic: String,
    /// Write to this partition.
    #[arg(long)]
    pub partition: Option<i32>,
    /// What stands between key and value on a line; without it a line is a value.
    #[arg(long, value_name = "TEXT")]
    pub key_separator: Option<String>,
    /// A line begins with `name:value,name:value` and a tab.
    #[arg(long)]
    pub headers: bool,
    /// `json` reads what `consume --json` prints.
    #[arg(long, value_enum, default_value_t = InputFormat::Lines)]
    pub input_format: InputFormat,
}

#[derive(Debug, Args)]
pub struct Consume {
    pub topic: String,
    /// Read as a member of this group and commit; takes the lock.
    #[arg(long)]
    pub group: Option<String>,
    /// `beginning`, `end`, `stored`, an offset, `-N` (the last N of each partition), or
    /// `@TIMESTAMP`: milliseconds since 1970, or a time such as `2026-01-31T12:00:00Z`.
    #[arg(long, value_name = "WHERE", allow_hyphen_values = true)]
    pub from: Option<String>,
    /// Only this partition.
    #[arg(long)]
    pub partition: Option<i32>,
    /// Stop after so many records.
    #[arg(long)]
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
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Until {
    End,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Isolation {
    #[value(name = "read_committed")]
    ReadCommitted,
    #[value(name = "read_uncommitted")]
    ReadUncommitted,
}

#[derive(Debug, Args)]
pub struct Groups {
    #[command(subcommand)]
    pub action: GroupsAction,
}

#[derive(Debug, Subcommand)]
pub enum GroupsAction {
    /// List the groups.
    List,
    /// Committed offsets, ends and lag of a group.
    Describe { group: String },
}

#[derive(Debug, Args)]
pub struct Offsets {
    pub topic: String,
}

#[derive(Debug, Args)]
pub struct Dump {
    /// Files of a data directory.
    #[arg(required = true)]
    pub files: Vec<PathBuf>,
    /// Decode the records of `__consumer_offsets`.
    #[arg(long)]
    pub offsets: bool,
    /// Leave the records out: one line per batch.
    #[arg(long)]
    pub batches: bool,
}

#[derive(Debug, Args)]
pub struct Repair {
    /// Do it. Not in this version: a repair is a dry run.
    #[arg(long)]
    pub execute: bool,
}

#[derive(Debug, Args)]
pub struct Bench {
    #[command(subcommand)]
    pub action: BenchAction,
}

#[derive(Debug, Subcommand)]
pub enum BenchAction {
    /// Append records and print the rate.
    Produce(BenchWork),
    /// Append, then read everything and print the rate.
    Consume(BenchWork),
    /// Time from a send to the consumer that waits for it.
    Latency(BenchWork),
}

#[derive(Debug, Args)]
pub struct BenchWork {
    /// How many records.
    #[arg(long, default_value_t = 1_000_000)]
    pub records: u64,
    /// Bytes of a value.
    #[arg(long, default_value_t = 100)]
    pub size: usize,
    /// Partitions of the topic.
    #[arg(long, default_value_t = 1)]
    pub partitions: i32,
    /// Producing threads.
    #[arg(long, default_value_t = 1)]
    pub threads: usize,
    /// Records per batch; 1 appends each by itself.
    #[arg(long, default_value_t = 1)]
    pub batch: usize,
    /// Wait for the disk after every record.
    #[arg(long)]
    pub durable: bool,
    /// `none`, `gzip`, `snappy`, `lz4`, `zstd`.
    #[arg(long, default_value = "none")]
    pub compression: String,
}

fn pair(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("a setting is KEY=VALUE")?;
    if key.is_empty() {
        return Err("a setting is KEY=VALUE".into());
    }
    Ok((key.to_owned(), value.to_owned()))
}
