//! `completions` and `man`: what a shell and its manual are told of this program.

use crate::args::{Man, Options};
use crate::failure::Outcome;
use crate::output::Output;
use clap::CommandFactory;
use clap_complete::Shell;
use serde_json::json;
use std::path::Path;
use std::process::ExitCode;
use topiclite::{Error, Result};

/// Prints the completions of a shell.
pub fn completions(shell: Shell, output: &Output) -> Outcome {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Options::command(), "topiclite", &mut script);
    output.bytes(&script)?;
    Ok(ExitCode::SUCCESS)
}

/// Prints the page of the program, or writes a page for it and for each of its commands.
pub fn pages(man: &Man, output: &Output) -> Outcome {
    let mut command = Options::command();
    let Some(dir) = &man.out else {
        let page = render(&command)?;
        output.bytes(&page)?;
        return Ok(ExitCode::SUCCESS);
    };
    command.build();
    write(&command, "topiclite", dir, output)?;
    Ok(ExitCode::SUCCESS)
}

fn write(command: &clap::Command, name: &str, dir: &Path, output: &Output) -> Result<()> {
    let path = dir.join(format!("{name}.1"));
    let page = render(command)?;
    std::fs::write(&path, page).map_err(|error| Error::io(error, "writing", &path))?;
    match output.json {
        true => output.object(&json!({ "path": path.display().to_string() }))?,
        false => output.line(&path.display().to_string())?,
    }
    for below in command.get_subcommands().filter(|below| below.get_name() != "help") {
        write(below, &format!("{name}-{}", below.get_name()), dir, output)?;
    }
    Ok(())
}

fn render(command: &clap::Command) -> Result<Vec<u8>> {
    let mut page = Vec::new();
    let rendered = clap_mangen::Man::new(command.clone()).render(&mut page);
    rendered.map_err(|error| Error::io(error, "rendering", Path::new("manual page")))?;
    Ok(page)
}
