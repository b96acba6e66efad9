//! What the child tells its parent through the pipe: one unbuffered write per message, so that a
//! message is whole or missing when the child dies.

use std::io::{Read, Write};
use std::path::Path;
use topiclite::{Error, Result};

/// One delivery of one line to a member.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Delivery {
    /// The line's number in the input, from 0.
    pub line: u64,
    pub partition: u32,
    pub offset: u64,
    /// The checksum of the value as it was delivered.
    pub checksum: u64,
}

/// What is told.
#[derive(Debug, PartialEq, Eq)]
pub enum Message {
    /// A sentence for the reader.
    Say(String),
    /// So many lines are acknowledged.
    Acknowledged(u64),
    /// A poll gave these; told before they are committed.
    Delivered(Vec<Delivery>),
}

const SAY: u8 = 1;
const ACKNOWLEDGED: u8 = 2;
const DELIVERED: u8 = 3;

/// Writes a message with one call.
pub fn write(to: &mut impl Write, message: &Message) -> std::io::Result<()> {
    let mut body = Vec::new();
    let kind = match message {
        Message::Say(text) => {
            body.extend(text.as_bytes());
            SAY
        }
        Message::Acknowledged(count) => {
            body.extend(count.to_be_bytes());
            ACKNOWLEDGED
        }
        Message::Delivered(deliveries) => {
            for delivery in deliveries {
                body.extend(delivery.line.to_be_bytes());
                body.extend(delivery.partition.to_be_bytes());
                body.extend(delivery.offset.to_be_bytes());
                body.extend(delivery.checksum.to_be_bytes());
            }
            DELIVERED
        }
    };
    let length = u32::try_from(body.len()).map_err(std::io::Error::other)?;
    let mut frame = vec![kind];
    frame.extend(length.to_be_bytes());
    frame.extend(body);
    to.write_all(&frame)
}

/// Reads the next message; `None` at the end, also when the writer died inside a message.
pub fn read(from: &mut impl Read) -> Result<Option<Message>> {
    let mut head = [0u8; 5];
    if !fill(from, &mut head)? {
        return Ok(None);
    }
    let [kind, length @ ..] = head;
    let mut body = vec![0; u32::from_be_bytes(length) as usize];
    if !fill(from, &mut body)? {
        return Ok(None);
    }
    Ok(match kind {
        SAY => Some(Message::Say(String::from_utf8_lossy(&body).into_owned())),
        ACKNOWLEDGED => Some(Message::Acknowledged(number(&body, 0))),
        DELIVERED => Some(Message::Delivered(body.chunks_exact(28).map(delivery).collect())),
        _ => None,
    })
}

fn delivery(bytes: &[u8]) -> Delivery {
    Delivery {
        line: number(bytes, 0),
        partition: (number(bytes, 8) >> 32) as u32,
        offset: number(bytes, 12),
        checksum: number(bytes, 20),
    }
}

/// Eight bytes from `at`; missing ones count as zero.
fn number(bytes: &[u8], at: usize) -> u64 {
    let mut word = [0; 8];
    for (to, from) in word.iter_mut().zip(bytes.iter().skip(at)) {
        *to = *from;
    }
    u64::from_be_bytes(word)
}

fn fill(from: &mut impl Read, out: &mut [u8]) -> Result<bool> {
    match from.read_exact(out) {
        Ok(()) => Ok(true),
        Err(e) if e.kind() == std::io::ErrorKind::UnexpectedEof => Ok(false),
        Err(e) => Err(Error::io(e, "reading", Path::new("the child's pipe"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_go_through_the_pipe_and_a_cut_one_is_the_end() {
        let delivery = Delivery { line: 1 << 40, partition: 5, offset: 7, checksum: u64::MAX };
        let messages = [
            Message::Say("a word".into()),
            Message::Acknowledged(12),
            Message::Delivered(vec![delivery, Delivery { line: 2, ..delivery }]),
        ];
        let mut pipe = Vec::new();
        for message in &messages {
            write(&mut pipe, message).unwrap();
        }
        let mut whole = &pipe[..];
        for message in &messages {
            assert_eq!(read(&mut whole).unwrap().as_ref(), Some(message));
        }
        assert_eq!(read(&mut whole).unwrap(), None);
        let mut cut = &pipe[..pipe.len() - 1];
        assert!(read(&mut cut).unwrap().is_some());
        assert!(read(&mut cut).unwrap().is_some());
        assert_eq!(read(&mut cut).unwrap(), None);
    }
}
