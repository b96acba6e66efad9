//! The process that is killed: it streams until then, and tells its parent through the pipe.

use super::broken;
use super::lines::Lines;
use super::member::{Streamed, stream};
use super::wire;
use crate::args::{Demo, Options};
use crate::failure::Outcome;
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;
use std::sync::{Arc, Mutex};
use topiclite::{Broker, Error};

pub fn run(options: &Options, demo: &Demo) -> Outcome {
    let input = demo.input.as_deref().ok_or_else(|| broken("the child has no input".into()))?;
    let lines = Lines::read(input)?;
    let broker = Broker::open(options.dir()?)?;
    let pipe = Mutex::new(std::io::stdout());
    stream(
        &broker,
        &lines,
        0,
        Streamed::UntilKilled,
        Arc::new(move |message| {
            let mut pipe = pipe.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
            let message = message.inspect_err(|error| eprintln!("topiclite: {error}"))?;
            wire::write(&mut *pipe, &message)
                .and_then(|()| pipe.flush())
                .map_err(|e| Error::io(e, "telling the parent", Path::new("pipe")))
        }),
    );
    Ok(ExitCode::SUCCESS)
}
