//! What the caller's end knows of one program on the machine.

use std::fs::File;
use std::io::{self, Write};

use crate::command::Status;

/// Where a program's output goes.
#[derive(Debug)]
pub(crate) enum Sink {
    Collect { streamed: bool },
    Log(File),
}

#[derive(Debug)]
pub(crate) struct Running {
    sink: Sink,
    pub(crate) pid: Option<u32>,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: Vec<u8>,
    pub(crate) result: Option<Result<(Status, f64), String>>,
}

impl Running {
    pub(crate) fn new(sink: Sink) -> Self {
        Self { sink, pid: None, stdout: Vec::new(), stderr: Vec::new(), result: None }
    }

    pub(crate) fn take(&mut self, data: &[u8], standard: bool) {
        // Output that cannot be shown (a closed pipe, a full disk) must not take the machine down.
        match &mut self.sink {
            Sink::Log(file) => drop(file.write_all(data)),
            Sink::Collect { streamed } => {
                if *streamed && standard {
                    drop(io::stdout().write_all(data).and_then(|()| io::stdout().flush()));
                } else if *streamed {
                    drop(io::stderr().write_all(data));
                }
                if standard {
                    self.stdout.extend(data);
                } else {
                    self.stderr.extend(data);
                }
            }
        }
    }
}
