//! The command line: a directory of topics, looked at and worked on from a shell.
//!
//! Exit code 0 is done, 1 the operation failed (one line on stderr says what, and what to do), 2
//! bad
//! usage. Reading commands attach, so they work beside a running owner; writing commands take the
//! directory's lock and name who holds it. `--json` prints one object per line.
// The command line measures time and reads input files; the rules are for the library.
#![allow(clippy::disallowed_methods)]

mod args;
mod bench;
mod consume;
mod demo;
mod dump;
mod groups;
mod offsets;
mod output;
mod produce;
mod record_json;
mod topics;
mod verify;

use args::{Command, Options};
use clap::Parser;
use output::Output;
use std::process::ExitCode;
use topiclite::{Broker, Error, ErrorKind, Result};

fn main() -> ExitCode {
    let options = Options::parse();
    let output = Output::new(options.json);
    match run(&options, &output) {
        Ok(outcome) => outcome,
        Err(error) if output.is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("topiclite: {}", told(&error));
            ExitCode::FAILURE
        }
    }
}

/// The error on one line, with what to do where the kind says it.
fn told(error: &Error) -> String {
    let hint = match error.kind() {
        ErrorKind::Locked => "; stop that process, or use a command that only reads",
        ErrorKind::StorageFull => "; free space and try again",
        ErrorKind::UnknownTopicOrPartition => "; `topiclite topics list` shows what there is",
        _ => "",
    };
    format!("{error}{hint}").replace('\n', " ")
}

fn run(options: &Options, output: &Output) -> Result<ExitCode> {
    match &options.command {
        Command::Demo(demo) => demo::run(options, demo, output),
        Command::Topics(topics) => topics::run(options, topics, output),
        Command::Produce(produce) => produce::run(options, produce, output),
        Command::Consume(consume) => consume::run(options, consume, output),
        Command::Groups(groups) => groups::run(options, groups, output),
        Command::Offsets(offsets) => offsets::run(options, offsets, output),
        Command::Dump(dump) => dump::run(dump, output),
        Command::Verify => verify::verify(options, output),
        Command::Repair(repair) => verify::repair(options, repair, output),
        Command::Bench(bench) => bench::run(options, bench, output),
    }
}

impl Options {
    /// Opens the directory for writing.
    fn open(&self) -> Result<Broker> {
        Broker::open(self.dir()?)
    }

    /// Attaches to the directory for reading.
    fn attach(&self) -> Result<Broker> {
        Broker::attach(self.dir()?)
    }

    fn dir(&self) -> Result<&std::path::Path> {
        self.dir.as_deref().ok_or_else(|| {
            Error::new(
                ErrorKind::IllegalArgument,
                "no directory given; use --dir DIR or set TOPICLITE_DIR",
            )
        })
    }
}
