//! The words of the command line. Scripts depend on them: they are added to, never renamed.
//!
//! What can be seen to be wrong without looking at the directory is refused here, with exit code
//! 2. Every word has its line of help; a test sees to it.

mod admin;
mod records;
pub mod values;
mod work;

pub use admin::{
    Compact, Groups, GroupsAction, Offsets, OneGroup, Producers, Reset, Topics, TopicsAction,
    Transactions, TransactionsAction, Trim,
};
pub use records::{Consume, Filters, InputFormat, Isolation, Produce};
pub use work::{Bench, BenchAction, BenchWork, Demo, Dump, Man, Repair, Shell};

use clap::{Parser, Subcommand};
use std::path::PathBuf;

/// Apache Kafka's topics, producers and consumer groups in a directory on this machine.
#[derive(Debug, Parser)]
#[command(
    name = "topiclite",
    version,
    after_help = "Exit code: 0 done, 1 the operation failed, 2 bad usage, 130 interrupted.\n\n\
                  Commands that only read work beside a running owner of the directory; produce, \
                  consume --group, trim, compact, repair --execute, groups delete, groups reset \
                  --execute, transactions abort and changes of topics take its lock."
)]
pub struct Options {
    /// The data directory. `topics create`, `bench` and `demo` make it if there is none.
    #[arg(long, global = true, env = "TOPICLITE_DIR", hide_env_values = true, value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// Print one JSON object per line; errors and notes are objects on standard error.
    #[arg(long, global = true)]
    pub json: bool,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
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
    /// List, describe, reset and delete consumer groups.
    Groups(Groups),
    /// List, describe and abort transactions.
    Transactions(Transactions),
    /// Print the producers that each partition of a topic knows.
    Producers(Producers),
    /// Print the first and last offsets of a topic's partitions.
    Offsets(Offsets),
    /// Delete the records of a partition before an offset.
    Trim(Trim),
    /// Clean a compacted topic: of each key the latest record stays.
    Compact(Compact),
    /// Print what is in files: segments, indexes, snapshots, as kafka-dump-log does.
    Dump(Dump),
    /// Read everything and report damage; exit code 1 with findings.
    Verify,
    /// Say what a repair would do, or do it; what is cut off is copied before.
    Repair(Repair),
    /// Measure this disk: throughput and percentiles.
    Bench(Bench),
    /// Print the completions of a shell.
    Completions(Shell),
    /// Print the manual page, or write those of all commands.
    Man(Man),
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn every_word_of_the_command_line_has_its_line_of_help() {
        fn look(command: &clap::Command, path: &str, faults: &mut Vec<String>) {
            let path = format!("{path} {}", command.get_name());
            if command.get_about().is_none() {
                faults.push(path.clone());
            }
            for argument in command.get_arguments() {
                if argument.get_help().is_none() && !argument.is_hide_set() {
                    faults.push(format!("{path}: {}", argument.get_id()));
                }
            }
            command.get_subcommands().for_each(|sub| look(sub, &path, faults));
        }
        let mut faults = Vec::new();
        let mut command = Options::command();
        command.build();
        look(&command, "", &mut faults);
        faults.retain(|fault| !fault.contains(" help"));
        assert!(faults.is_empty(), "{faults:#?}");
        Options::command().debug_assert();
    }
}
