//! How a command ends when it does not work, and how that is told: a line on standard error, an
//! object under `--json`.

use crate::escape::printable;
use crate::output::Output;
use serde_json::{Map, Value, json};
use std::path::Path;
use std::process::ExitCode;
use topiclite::{Error, ErrorKind};

/// The exit code of bad usage.
const USAGE: u8 = 2;

/// How a command ends.
pub type Outcome<T = ExitCode> = Result<T, Failure>;

/// Why a command did not do its work.
#[derive(Debug)]
pub enum Failure {
    /// The words of the command line cannot mean anything: exit code 2.
    Usage(String),
    /// The operation failed: exit code 1.
    Failed(Error),
    /// The directory is not there, or is none: exit code 1.
    NoDirectory(Error),
    /// The operation failed in the middle of its input: exit code 1.
    AtLine {
        /// Why.
        error: Error,
        /// The line of the input, from 1.
        line: u64,
        /// How many records were written before and, where batches were under way, behind it.
        written: u64,
    },
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        Failure::Failed(error)
    }
}

impl Failure {
    /// Tells what happened, and gives the exit code.
    pub fn tell(&self, output: &Output) -> ExitCode {
        if let Failure::Failed(error) = self
            && output.is_broken_pipe(error)
        {
            return ExitCode::SUCCESS;
        }
        match output.json {
            true => output.stderr(&self.object().to_string()),
            false => output.stderr(&format!("topiclite: {}", printable(&self.text()))),
        }
        match self {
            Failure::Usage(_) => ExitCode::from(USAGE),
            _ => ExitCode::FAILURE,
        }
    }

    fn text(&self) -> String {
        let text = match self {
            Failure::Usage(text) => text.clone(),
            Failure::Failed(error) => told(error),
            Failure::NoDirectory(error) => {
                let dir = error.path().unwrap_or(Path::new(""));
                format!("{}: {}", dir.display(), error.message())
            }
            Failure::AtLine { error, line, written } => {
                let were = if *written == 1 { "record was" } else { "records were" };
                format!("line {line}: {}; {written} {were} written", told(error))
            }
        };
        text.replace('\n', " ")
    }

    fn object(&self) -> Value {
        let mut out = Map::new();
        out.insert("error".into(), json!(self.text()));
        match self {
            Failure::Usage(_) => {
                out.insert("kind".into(), json!("Usage"));
            }
            Failure::Failed(error) | Failure::NoDirectory(error) => context(&mut out, error),
            Failure::AtLine { error, line, written } => {
                context(&mut out, error);
                out.insert("line".into(), json!(line));
                out.insert("written".into(), json!(written));
            }
        }
        Value::Object(out)
    }
}

/// What an error knows beside its text.
fn context(out: &mut Map<String, Value>, error: &Error) {
    out.insert("kind".into(), json!(error.kind().name()));
    out.insert("kafka_name".into(), json!(error.kafka_name()));
    let place = [
        ("topic", error.topic().map(Value::from)),
        ("partition", error.partition().map(Value::from)),
        ("offset", error.offset().map(Value::from)),
        ("path", error.path().map(|path| path.display().to_string().into())),
        ("position", error.position().map(Value::from)),
    ];
    let known = place.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
    out.extend(known);
}

/// The error, with what to do where the kind says it and its text does not.
fn told(error: &Error) -> String {
    let hint = match error.kind() {
        ErrorKind::UnknownTopicOrPartition => "; `topiclite topics list` shows what there is",
        ErrorKind::GroupIdNotFound => "; `topiclite groups list` shows what there is",
        _ => "",
    };
    format!("{error}{hint}")
}

/// What the parser says about words that are none: help and version go to standard output, exit
/// code 0.
pub fn parser(error: &clap::Error, output: &Output) -> ExitCode {
    if output.json && error.use_stderr() {
        let text = error.render().to_string();
        let what = text.lines().take_while(|line| !line.is_empty()).map(str::trim);
        let what = what.collect::<Vec<_>>().join(" ");
        return Failure::Usage(what.trim_start_matches("error: ").to_owned()).tell(output);
    }
    // A reader that went away has no use for the help either.
    let _unread = error.print();
    match error.use_stderr() {
        true => ExitCode::from(USAGE),
        false => ExitCode::SUCCESS,
    }
}
