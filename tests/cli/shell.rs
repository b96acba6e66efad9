//! Runs the program on a directory of its own.

use serde_json::Value;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command, Stdio};

/// The program, and a directory that goes with this value.
pub struct Shell {
    _root: tempfile::TempDir,
    dir: PathBuf,
}

/// How a command ended.
#[derive(Debug)]
pub struct Ended {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

/// A command that goes on.
pub struct Running {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
    stderr: ChildStderr,
}

fn program_path() -> &'static str {
    env!("CARGO_BIN_EXE_topiclite")
}

fn program() -> Command {
    let mut command = Command::new(program_path());
    command.env_remove("TOPICLITE_DIR");
    command
}

impl Shell {
    pub fn new() -> Shell {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("data");
        std::fs::create_dir(&dir).unwrap();
        Shell { _root: root, dir }
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    pub fn run(&self, arguments: &[&str], stdin: &[u8]) -> Ended {
        let mut command = program();
        command.env("TOPICLITE_DIR", &self.dir).args(arguments);
        finish(command, stdin)
    }

    /// Runs under another program, which takes its own words first.
    pub fn run_under(&self, above: &[&str], arguments: &[&str], stdin: &[u8]) -> Ended {
        let mut command = Command::new(above[0]);
        command.args(&above[1..]).arg(program_path()).args(arguments);
        command.env("TOPICLITE_DIR", &self.dir);
        finish(command, stdin)
    }

    /// Runs without a directory.
    pub fn without_dir(arguments: &[&str]) -> Ended {
        let mut command = program();
        command.args(arguments);
        finish(command, b"")
    }

    /// Runs what must succeed; its output.
    pub fn ok(&self, arguments: &[&str]) -> String {
        self.feed(arguments, b"")
    }

    /// Runs what must succeed on this input; its output.
    pub fn feed(&self, arguments: &[&str], stdin: &[u8]) -> String {
        let ended = self.run(arguments, stdin);
        assert_eq!(ended.code, 0, "{arguments:?}: {ended:?}");
        ended.stdout
    }

    /// Runs with `--json` what must succeed; one value a line.
    pub fn json(&self, arguments: &[&str]) -> Vec<Value> {
        let text = self.ok(&[&["--json"], arguments].concat());
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    pub fn start(&self, arguments: &[&str]) -> Running {
        let mut command = program();
        command.env("TOPICLITE_DIR", &self.dir).args(arguments).stdin(Stdio::piped());
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let stdin = child.stdin.take();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let stderr = child.stderr.take().unwrap();
        Running { child, stdin, stdout, stderr }
    }

    /// Runs a line of the system's shell, in which `topiclite` is the program.
    pub fn script(&self, line: &str) -> Ended {
        let mut command = Command::new("bash");
        let function = format!("topiclite() {{ {} \"$@\"; }}; {line}", program_path());
        command.args(["-c", &function]).env("TOPICLITE_DIR", &self.dir);
        finish(command, b"")
    }
}

impl Running {
    /// The next line, once there is one.
    pub fn line(&mut self) -> String {
        let mut line = String::new();
        self.stdout.read_line(&mut line).unwrap();
        line
    }

    /// Gives it input that goes on.
    pub fn feed(&mut self, bytes: &[u8]) {
        let stdin = self.stdin.as_mut().unwrap();
        stdin.write_all(bytes).unwrap();
        stdin.flush().unwrap();
    }

    pub fn end(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Sends it a signal, and waits for what it does about that.
    pub fn signal(self, name: &str) -> Ended {
        let pid = self.child.id().to_string();
        let sent = Command::new("kill").args(["-s", name, &pid]).status().unwrap();
        assert!(sent.success());
        self.ended()
    }

    /// Reads all that it prints, until it ends by itself.
    pub fn ended(mut self) -> Ended {
        let (mut stdout, mut stderr) = (String::new(), String::new());
        self.stdout.read_to_string(&mut stdout).unwrap();
        self.stderr.read_to_string(&mut stderr).unwrap();
        let code = self.child.wait().unwrap().code().unwrap_or(-1);
        Ended { code, stdout, stderr }
    }
}

fn finish(mut command: Command, stdin: &[u8]) -> Ended {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    let written = input.write_all(stdin);
    drop(input);
    let output = child.wait_with_output().unwrap();
    if let Err(error) = written {
        // A command that failed does not read on.
        assert_eq!(error.kind(), std::io::ErrorKind::BrokenPipe);
    }
    Ended {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}
