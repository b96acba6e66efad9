//! The words of the demo, the bench, of what looks at files, and of what a shell is told.

use super::values;
use clap::{Args, Subcommand};
use std::path::PathBuf;
use topiclite::Codec;

/// The main job, end to end.
#[derive(Debug, Args)]
pub struct Demo {
    /// Stream the lines of this text file instead of made-up ones.
    #[arg(long, value_name = "FILE")]
    pub input: Option<PathBuf>,
    /// The child process that the demo kills; not for people.
    #[arg(long, hide = true, value_name = "NAME")]
    pub child: Option<String>,
}

/// Which files to show, and how.
#[derive(Debug, Args)]
pub struct Dump {
    /// Files of a data directory.
    #[arg(required = true)]
    pub files: Vec<PathBuf>,
    /// Decode the records of `__consumer_offsets`.
    #[arg(long)]
    pub offsets: bool,
    /// Decode the records of `__transaction_state`.
    #[arg(long, conflicts_with = "offsets")]
    pub transactions: bool,
    /// Leave the records out: one line per batch.
    #[arg(long)]
    pub batches: bool,
}

/// Whether to repair, or to say what would be done.
#[derive(Debug, Args)]
pub struct Repair {
    /// Do it. Without this, what would be done is said.
    #[arg(long)]
    pub execute: bool,
}

/// What to measure.
#[derive(Debug, Args)]
pub struct Bench {
    /// What to measure.
    #[command(subcommand)]
    pub action: BenchAction,
}

/// What to measure.
#[derive(Debug, Subcommand)]
pub enum BenchAction {
    /// Append records and print the rate.
    Produce(BenchWork),
    /// Append, then read everything and print the rate.
    Consume(BenchWork),
    /// Time from a send to the consumer that waits for it.
    Latency(BenchWork),
}

/// How much work a measurement is.
#[derive(Debug, Args)]
pub struct BenchWork {
    /// How many records.
    #[arg(long, default_value_t = 1_000_000, value_parser = values::count)]
    pub records: u64,
    /// Bytes of a value.
    #[arg(long, default_value_t = 100)]
    pub size: usize,
    /// Partitions of the topic.
    #[arg(long, default_value_t = 1, value_parser = values::at_least_1)]
    pub partitions: i32,
    /// Producing threads.
    #[arg(long, default_value_t = 1, value_parser = values::small_count)]
    pub threads: usize,
    /// Records per batch; 1 appends each by itself.
    #[arg(long, default_value_t = 1, value_parser = values::small_count)]
    pub batch: usize,
    /// Wait for the disk after every record.
    #[arg(long)]
    pub durable: bool,
    /// `none`, `gzip`, `snappy`, `lz4` or `zstd`.
    #[arg(long, default_value = "none", value_name = "CODEC", value_parser = values::codec)]
    pub compression: Codec,
}

/// Whose completions.
#[derive(Debug, Args)]
pub struct Shell {
    /// The shell.
    #[arg(value_enum)]
    pub shell: clap_complete::Shell,
}

/// Where manual pages go.
#[derive(Debug, Args)]
pub struct Man {
    /// Write a page for each command into this directory, which exists.
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
}
