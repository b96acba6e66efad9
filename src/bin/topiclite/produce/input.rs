//! Standard input in lines. A thread of its own reads it, so that a signal is heard while nothing
//! comes.

use crate::failure::Outcome;
use crate::interrupt::Interrupt;
use crossbeam_channel::{Receiver, Sender, bounded};
use std::io::Read;
use std::path::Path;
use topiclite::{Error, Result};

/// Bytes read at once: what a pipe holds.
const PIECE_BYTES: usize = 64 << 10;
/// Pieces that wait to be taken.
const PIECES_MAX: usize = 4;

/// What the reading thread, or the listener for signals, has to say.
enum Piece {
    Bytes(Vec<u8>),
    End,
    Failed(std::io::Error),
    Interrupted,
}

/// What is next.
pub enum Next<'a> {
    /// A line without its end.
    Line(&'a [u8]),
    /// Nothing more is there at the moment.
    Pause,
    /// The input, or the wish for it, has come to its end.
    End,
}

/// The lines.
pub struct Lines {
    pieces: Receiver<Piece>,
    interrupt: Interrupt,
    bytes: Vec<u8>,
    /// Where the next line begins in `bytes`.
    start: usize,
    /// No line ends before this.
    searched: usize,
    ended: bool,
    number: u64,
    paused: bool,
}

impl Lines {
    /// Begins to read, and to listen for signals.
    pub fn of_standard_input() -> Outcome<Lines> {
        let (to, pieces) = bounded(PIECES_MAX);
        let waker = to.clone();
        // Whoever does not wait any more is not to be woken.
        let interrupt = Interrupt::listen(move || drop(waker.send(Piece::Interrupted)))?;
        let failed = |error| Error::io(error, "starting to read", Path::new("standard input"));
        let thread = std::thread::Builder::new().name("input".into());
        thread.spawn(move || read(&to)).map_err(failed)?;
        Ok(Lines {
            pieces,
            interrupt,
            bytes: Vec::new(),
            start: 0,
            searched: 0,
            ended: false,
            number: 0,
            paused: true,
        })
    }

    /// The number of the last line, from 1.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Whether a signal ended the input.
    pub fn interrupt(&self) -> &Interrupt {
        &self.interrupt
    }

    /// The next line. A last line needs no line end, unless a signal cut it off.
    ///
    /// # Errors
    /// What reading gives.
    pub fn next(&mut self) -> Result<Next<'_>> {
        loop {
            if self.interrupt.is_asked() {
                return Ok(Next::End);
            }
            let unseen = self.bytes.get(self.searched..).unwrap_or_default();
            if let Some(length) = unseen.iter().position(|byte| *byte == b'\n') {
                let line = self.start..self.searched + length;
                self.start = line.end + 1;
                self.searched = self.start;
                return Ok(self.line(line));
            }
            self.searched = self.bytes.len();
            if self.ended {
                let line = self.start..self.bytes.len();
                self.start = line.end;
                return Ok(if line.is_empty() { Next::End } else { self.line(line) });
            }
            if !std::mem::replace(&mut self.paused, true) {
                return Ok(Next::Pause);
            }
            self.take()?;
        }
    }

    fn line(&mut self, range: std::ops::Range<usize>) -> Next<'_> {
        self.number += 1;
        self.paused = false;
        Next::Line(self.bytes.get(range).unwrap_or_default())
    }

    /// Waits for more.
    fn take(&mut self) -> Result<()> {
        match self.pieces.recv() {
            Ok(Piece::Bytes(bytes)) => {
                self.bytes.drain(..self.start);
                self.searched -= self.start;
                self.start = 0;
                self.bytes.extend_from_slice(&bytes);
            }
            Ok(Piece::Failed(error)) => {
                return Err(Error::io(error, "reading", Path::new("standard input")));
            }
            Ok(Piece::End | Piece::Interrupted) | Err(_) => self.ended = true,
        }
        Ok(())
    }
}

/// Reads until the end, or until nobody takes it any more.
fn read(to: &Sender<Piece>) {
    let mut input = std::io::stdin().lock();
    loop {
        let mut bytes = vec![0; PIECE_BYTES];
        let piece = match input.read(&mut bytes) {
            Ok(0) => Piece::End,
            Ok(count) => {
                bytes.truncate(count);
                Piece::Bytes(bytes)
            }
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(error) => Piece::Failed(error),
        };
        let last = !matches!(piece, Piece::Bytes(_));
        if to.send(piece).is_err() || last {
            return;
        }
    }
}
