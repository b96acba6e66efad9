//! The words about topics, their partitions, and groups.

use super::values::{self, Place, Scope};
use clap::{ArgGroup, Args, Subcommand};

/// What to do with topics.
#[derive(Debug, Args)]
pub struct Topics {
    /// What to do with topics.
    #[command(subcommand)]
    pub action: TopicsAction,
}

/// What to do with topics.
#[derive(Debug, Subcommand)]
pub enum TopicsAction {
    /// Create a topic, and the directory if there is none.
    Create {
        /// The topic's name.
        #[arg(value_parser = values::topic)]
        name: String,
        /// How many partitions; the broker's `num.partitions` (1) unless given.
        #[arg(
            long,
            short = 'p',
            value_name = "N",
            allow_negative_numbers = true,
            value_parser = values::at_least_1
        )]
        partitions: Option<i32>,
        /// A setting of the topic, as Kafka names it; may be repeated.
        #[arg(long = "config", short = 'X', value_name = "KEY=VALUE", value_parser = values::pair)]
        config: Vec<(String, String)>,
    },
    /// List the topics.
    List {
        /// The broker's own topics as well.
        #[arg(long)]
        internal: bool,
    },
    /// Show a topic's id, size, partitions and settings in effect; without a name, a line for
    /// each topic.
    Describe {
        /// The topic; all of them unless given.
        #[arg(value_parser = values::topic)]
        name: Option<String>,
    },
    /// Delete a topic with its records and its committed offsets.
    Delete {
        /// The topic.
        #[arg(value_parser = values::topic)]
        name: String,
    },
    /// Change settings; an empty value goes back to the default.
    Alter {
        /// The topic.
        #[arg(value_parser = values::topic)]
        name: String,
        /// A setting, as Kafka names it; may be repeated.
        #[arg(
            long = "config",
            short = 'X',
            value_name = "KEY=VALUE",
            value_parser = values::pair,
            required = true
        )]
        config: Vec<(String, String)>,
    },
    /// Raise the number of partitions. Keys move to other partitions.
    Grow {
        /// The topic.
        #[arg(value_parser = values::topic)]
        name: String,
        /// How many there are afterwards.
        #[arg(
            long,
            short = 'p',
            value_name = "N",
            allow_negative_numbers = true,
            value_parser = values::at_least_1
        )]
        partitions: i32,
    },
}

/// What to do with groups.
#[derive(Debug, Args)]
pub struct Groups {
    /// What to do with groups.
    #[command(subcommand)]
    pub action: GroupsAction,
}

/// What to do with groups.
#[derive(Debug, Subcommand)]
pub enum GroupsAction {
    /// List the groups.
    List,
    /// Committed offsets, ends and lag of a group.
    Describe(OneGroup),
    /// The members of a group and what each owns.
    Members(OneGroup),
    /// Delete a group that has no members, with its offsets.
    Delete(OneGroup),
    /// Move the committed offsets of a group that has no members. Without `--execute` this only
    /// says what would be done.
    Reset(Box<Reset>),
}

/// What to do with transactions.
#[derive(Debug, Args)]
pub struct Transactions {
    /// What to do with transactions.
    #[command(subcommand)]
    pub action: TransactionsAction,
}

/// What to do with transactions.
#[derive(Debug, Subcommand)]
pub enum TransactionsAction {
    /// List the transactional ids.
    List,
    /// Show where a transactional id stands, and what takes part in its transaction.
    Describe {
        /// The transactional id.
        #[arg(value_name = "ID")]
        id: String,
    },
    /// Look for what is open in partitions, and what no transactional id will end. Readers of
    /// committed records wait in front of it.
    FindHanging {
        /// A topic; all of them, with the broker's own, unless given.
        #[arg(long, value_parser = values::topic)]
        topic: Option<String>,
        /// A partition of it.
        #[arg(
            long,
            short = 'p',
            value_name = "P",
            requires = "topic",
            allow_negative_numbers = true,
            value_parser = values::partition
        )]
        partition: Option<i32>,
        /// Leave out what had a batch within so many minutes.
        #[arg(long, value_name = "MINUTES", default_value_t = 15, allow_negative_numbers = true)]
        max_transaction_timeout: u32,
    },
    /// Abort the transaction of a transactional id, and fence its producer; or what is open in one
    /// partition, by where it begins or by its producer id.
    #[command(group = ArgGroup::new("what").required(true))]
    Abort {
        /// The transactional id.
        #[arg(value_name = "ID", group = "what")]
        id: Option<String>,
        /// The producer id of a transaction that no transactional id has any more.
        #[arg(
            long,
            value_name = "N",
            group = "what",
            requires = "topic",
            requires = "partition",
            value_parser = values::at_least_0
        )]
        producer_id: Option<i64>,
        /// Where the transaction begins in the partition, as `find-hanging` tells it.
        #[arg(
            long,
            value_name = "OFFSET",
            group = "what",
            requires = "topic",
            requires = "partition",
            allow_negative_numbers = true,
            value_parser = values::at_least_0
        )]
        start_offset: Option<i64>,
        /// Its topic.
        #[arg(long, conflicts_with = "id", value_parser = values::topic)]
        topic: Option<String>,
        /// Its partition.
        #[arg(
            long,
            short = 'p',
            value_name = "P",
            conflicts_with = "id",
            allow_negative_numbers = true,
            value_parser = values::partition
        )]
        partition: Option<i32>,
    },
}

/// Which group.
#[derive(Debug, Args)]
pub struct OneGroup {
    /// The group.
    #[arg(value_parser = values::group)]
    pub group: String,
}

/// Where a group's offsets go.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("scope").required(true).multiple(true))]
#[command(group = ArgGroup::new("place").required(true))]
pub struct Reset {
    #[command(flatten)]
    pub of: OneGroup,
    /// A topic, or some partitions of it (`orders:0,2`); may be repeated.
    #[arg(long, group = "scope", value_name = "TOPIC[:P,P]", value_parser = values::scope)]
    pub topic: Vec<Scope>,
    /// Every topic that the group has committed offsets for.
    #[arg(long, group = "scope", conflicts_with = "topic")]
    pub all_topics: bool,
    /// `earliest`, `latest`, `current`, an offset, `+N` or `-N` to move by, or `@TIME` as in
    /// `consume --from`.
    #[arg(
        long,
        group = "place",
        value_name = "WHERE",
        allow_hyphen_values = true,
        value_parser = values::place
    )]
    pub to: Option<Place>,
    /// The same as `--to earliest`.
    #[arg(long, group = "place")]
    pub to_earliest: bool,
    /// The same as `--to latest`.
    #[arg(long, group = "place")]
    pub to_latest: bool,
    /// The same as `--to current`: what is committed, or the end.
    #[arg(long, group = "place")]
    pub to_current: bool,
    /// The same as `--to OFFSET`.
    #[arg(long, group = "place", value_name = "OFFSET", value_parser = values::at_least_0)]
    pub to_offset: Option<i64>,
    /// The same as `--to +N` or `--to -N`.
    #[arg(long, group = "place", value_name = "N", allow_hyphen_values = true)]
    pub shift_by: Option<i64>,
    /// The first record not before this time: `2026-01-31T12:00:00`, with or without an offset
    /// from UTC; local time without.
    #[arg(long, group = "place", value_name = "TIME", value_parser = values::time)]
    pub to_datetime: Option<i64>,
    /// The first record not older than this: `PT1H30M`, `90m`.
    #[arg(long, group = "place", value_name = "DURATION", value_parser = values::time_ago)]
    pub by_duration: Option<i64>,
    /// Do it.
    #[arg(long)]
    pub execute: bool,
}

impl Reset {
    /// Where the offsets go. The parser sees to it that there is one.
    pub fn place(&self) -> Place {
        match self {
            Reset { to: Some(place), .. } => *place,
            Reset { to_latest: true, .. } => Place::Latest,
            Reset { to_current: true, .. } => Place::Current,
            Reset { to_offset: Some(offset), .. } => Place::Offset(*offset),
            Reset { shift_by: Some(by), .. } => Place::Shift(*by),
            Reset { to_datetime: Some(time), .. } | Reset { by_duration: Some(time), .. } => {
                Place::Time(*time)
            }
            _ => Place::Earliest,
        }
    }
}

/// Whose offsets are asked for.
#[derive(Debug, Args)]
pub struct Offsets {
    /// The topic.
    #[arg(value_parser = values::topic)]
    pub topic: String,
}

/// Whose producers are asked for.
#[derive(Debug, Args)]
pub struct Producers {
    /// The topic.
    #[arg(value_parser = values::topic)]
    pub topic: String,
}

/// Which records go.
#[derive(Debug, Args)]
pub struct Trim {
    /// The topic.
    #[arg(value_parser = values::topic)]
    pub topic: String,
    /// The partition.
    #[arg(
        long,
        short = 'p',
        value_name = "P",
        allow_negative_numbers = true,
        value_parser = values::partition
    )]
    pub partition: i32,
    /// The first offset that stays; `end` for none.
    #[arg(
        long,
        value_name = "OFFSET",
        allow_hyphen_values = true,
        value_parser = values::offset_or_end
    )]
    pub before: i64,
}

/// Which topic is cleaned.
#[derive(Debug, Args)]
pub struct Compact {
    /// The topic.
    #[arg(value_parser = values::topic)]
    pub topic: String,
    /// Close the segments that are written to before, so that their records are cleaned, too, and
    /// do not wait for min.compaction.lag.ms.
    #[arg(long)]
    pub now: bool,
}
