//! What the two ends of a machine's channel say to each other: one JSON object per line, output bytes in base64. Lines
//! because a serial port carries them, JSON because a log of them can be read.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{self, BufRead};

use anyhow::{Context, Result};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// From the caller to the agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Request {
    Start {
        id: u64,
        arguments: Vec<String>,
        environment: BTreeMap<String, String>,
        folder: Option<String>,
        input: bool,
    },
    /// A piece of a request that is too long for the window; `Whole` says that it was the last one.
    Part {
        id: u64,
        data: Bytes,
    },
    Whole {
        id: u64,
    },
    /// So many bytes of events were read since the last such word: the agent may send as many again.
    Seen {
        bytes: usize,
    },
    Input {
        id: u64,
        data: Bytes,
    },
    InputEnd {
        id: u64,
    },
    Signal {
        id: u64,
        signal: i32,
    },
    /// Run this shell script when the caller is gone.
    OnHangup {
        script: String,
    },
    PowerOff,
}

/// From the agent to the caller.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Event {
    Ready {
        kernel: String,
        edition: String,
    },
    /// So many bytes of requests were read since the last such word: the caller may send as many again.
    Taken {
        bytes: usize,
    },
    Started {
        id: u64,
        pid: u32,
    },
    Stdout {
        id: u64,
        data: Bytes,
    },
    Stderr {
        id: u64,
        data: Bytes,
    },
    Ended {
        id: u64,
        code: Option<i32>,
        signal: Option<i32>,
        seconds: f64,
    },
    /// The program could not even be started.
    Failed {
        id: u64,
        message: String,
    },
}

/// What the caller may have under way: a terminal's input buffer (4096 bytes) must never be full.
pub(crate) const REQUEST_WINDOW: usize = 3072;
/// So much data fits in one request that fits in the window.
pub(crate) const REQUEST_PIECE: usize = 1536;
/// What the agent may have under way: the serial port of a User-Mode Linux kernel loses output or stops for good when the
/// socket behind it has ever been full.
pub(crate) const EVENT_WINDOW: usize = 48 * 1024;
/// So much output goes into one event.
pub(crate) const EVENT_PIECE: usize = 8 * 1024;

/// Names the source of what runs on the machine: a library and a program of different builds would misunderstand each other.
pub(crate) fn edition() -> String {
    let sources = [
        include_str!("frame.rs"),
        include_str!("flow.rs"),
        include_str!("agent.rs"),
        include_str!("init.rs"),
        include_str!("launch.rs"),
        include_str!("power.rs"),
    ];
    let digest = Sha256::digest(sources.concat());
    digest.iter().take(6).fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Bytes that travel as base64.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Bytes(pub(crate) Vec<u8>);

impl Serialize for Bytes {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use base64::Engine as _;
        serializer.serialize_str(&base64::engine::general_purpose::STANDARD.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        use base64::Engine as _;
        let text = String::deserialize(deserializer)?;
        base64::engine::general_purpose::STANDARD.decode(text).map(Self).map_err(serde::de::Error::custom)
    }
}

pub(crate) fn encode<T: Serialize>(message: &T) -> Result<Vec<u8>> {
    let mut line = serde_json::to_vec(message).context("cannot encode a message")?;
    line.push(b'\n');
    Ok(line)
}

/// The next message; None at the end of the channel. A line that is none (a stray word of the kernel on the port) is
/// passed over.
pub(crate) fn receive<T: DeserializeOwned>(reader: &mut impl BufRead) -> io::Result<Option<T>> {
    let mut line = Vec::new();
    loop {
        line.clear();
        if reader.read_until(b'\n', &mut line)? == 0 {
            return Ok(None);
        }
        if let Ok(message) = serde_json::from_slice(&line) {
            return Ok(Some(message));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_survives_the_channel() {
        let event = Event::Stdout { id: 7, data: Bytes((0..=255).collect()) };
        let wire = encode(&event).unwrap();
        assert_eq!(wire.iter().position(|byte| *byte == b'\n'), Some(wire.len() - 1));
        assert_eq!(receive::<Event>(&mut wire.as_slice()).unwrap(), Some(event));
    }

    #[test]
    fn noise_between_messages_is_passed_over() {
        let mut wire = b"\0\xffkernel says hello\n{\"id\":\n".to_vec();
        wire.extend(encode(&Request::PowerOff).unwrap());
        let mut reader = wire.as_slice();
        assert_eq!(receive::<Request>(&mut reader).unwrap(), Some(Request::PowerOff));
        assert_eq!(receive::<Request>(&mut reader).unwrap(), None);
    }

    #[test]
    fn a_cut_off_message_at_the_end_is_the_end() {
        assert_eq!(receive::<Request>(&mut b"{\"signal\":{\"id\":1".as_slice()).unwrap(), None);
    }
}
