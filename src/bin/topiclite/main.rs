//! The command line: a directory of topics, looked at and worked on from a shell.
//!
//! Exit code 0 is done, 1 the operation failed (one line on stderr says what, and what to do), 2
//! bad usage, 130 interrupted. Reading commands attach, so they work beside a running owner;
//! writing commands take the directory's lock and name who holds it. `--json` prints one object
//! per line, and errors as objects.
// The command line measures time and reads input files; the rules are for the library.
#![allow(clippy::disallowed_methods)]

mod args;
mod bench;
mod commands;
mod consume;
mod demo;
mod directory;
mod dump;
mod escape;
mod failure;
mod format;
mod groups;
mod interrupt;
mod moment;
mod output;
mod produce;
mod record_json;
mod topics;

use args::{Command, Options};
use clap::Parser;
use commands::{compact, manual, offsets, producers, repair, transactions, verify};
use failure::Outcome;
use output::Output;
use std::process::ExitCode;

fn main() -> ExitCode {
    interrupt::outlive_file_limit();
    let options = match Options::try_parse() {
        Ok(options) => options,
        Err(error) => return failure::parser(&error, &Output::new(asks_for_json())),
    };
    let output = Output::new(options.json);
    let outcome = run(&options, &output).and_then(|code| {
        output.flush()?;
        Ok(code)
    });
    outcome.unwrap_or_else(|failure| failure.tell(&output))
}

/// Whether `--json` stands among words that could not be read.
fn asks_for_json() -> bool {
    std::env::args_os().take_while(|word| word != "--").any(|word| word == "--json")
}

fn run(options: &Options, output: &Output) -> Outcome {
    match &options.command {
        Command::Demo(demo) => demo::run(options, demo, output),
        Command::Topics(topics) => topics::run(options, topics, output),
        Command::Produce(produce) => produce::run(options, produce, output),
        Command::Consume(consume) => consume::run(options, consume, output),
        Command::Groups(groups) => groups::run(options, groups, output),
        Command::Transactions(work) => transactions::run(options, work, output),
        Command::Producers(topic) => producers::run(options, topic, output),
        Command::Offsets(offsets) => offsets::run(options, offsets, output),
        Command::Trim(trim) => offsets::trim(options, trim, output),
        Command::Compact(compact) => compact::run(options, compact, output),
        Command::Dump(dump) => dump::run(dump, output),
        Command::Verify => verify::run(options, output),
        Command::Repair(repair) => repair::run(options, repair, output),
        Command::Bench(bench) => bench::run(options, bench, output),
        Command::Completions(shell) => manual::completions(shell.shell, output),
        Command::Man(man) => manual::pages(man, output),
    }
}
