//! The caller's end of a machine's channel: many programs at once over one stream, output as it comes, no polling.

use std::collections::HashMap;
use std::io::BufReader;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};

use crate::command::{Command, Status};
use crate::flow::{Outlet, Reported};
use crate::frame::{Bytes, EVENT_WINDOW, Event, REQUEST_PIECE, REQUEST_WINDOW, Request, edition, encode, receive};
use crate::running::{Running, Sink};

const STALL_LIMIT: Duration = Duration::from_secs(20);

/// A lock whose holder panicked guards nothing that could be half-done here.
pub(crate) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[derive(Debug)]
pub(crate) struct Channel {
    outlet: Outlet<UnixStream>,
    next: AtomicU64,
    state: Mutex<State>,
    changed: Condvar,
    /// The console's log, quoted when the machine dies unexpectedly.
    console: Option<PathBuf>,
}

#[derive(Debug, Default)]
struct State {
    /// The kernel's release and the agent's edition.
    ready: Option<(String, String)>,
    running: HashMap<u64, Running>,
    /// Why there is no machine any more.
    ended: Option<String>,
    /// The end was asked for, with these words.
    expected: Option<String>,
}

impl Channel {
    /// Takes the caller's ends of the sockets; messages are read by a thread that ends with the machine.
    pub(crate) fn open(reader: UnixStream, writer: UnixStream, console: Option<PathBuf>) -> Result<Arc<Self>> {
        let channel = Arc::new(Self {
            outlet: Outlet::new(writer, REQUEST_WINDOW),
            next: AtomicU64::new(1),
            state: Mutex::default(),
            changed: Condvar::new(),
            console,
        });
        let own = Arc::clone(&channel);
        thread::Builder::new()
            .name("lab-channel".into())
            .spawn(move || own.read(reader))
            .context("cannot start a thread")?;
        Ok(channel)
    }

    fn read(&self, stream: UnixStream) {
        let report = |bytes| drop(self.outlet.force(&Request::Seen { bytes }));
        let mut reader = BufReader::new(Reported::new(stream, EVENT_WINDOW, report));
        while let Ok(Some(event)) = receive::<Event>(&mut reader) {
            self.accept(event);
        }
        self.outlet.window.close();
        let mut state = locked(&self.state);
        let reason = state.expected.clone().unwrap_or_else(|| {
            let tail = self.console_tail();
            format!("the machine died unexpectedly{tail}")
        });
        for running in state.running.values_mut().filter(|running| running.result.is_none()) {
            running.result = Some(Err(reason.clone()));
        }
        state.ended = Some(reason);
        self.changed.notify_all();
    }

    fn accept(&self, event: Event) {
        let mut state = locked(&self.state);
        let running = &mut state.running;
        match event {
            Event::Ready { kernel, edition } => state.ready = Some((kernel, edition)),
            Event::Taken { bytes } => self.outlet.window.release(bytes),
            Event::Started { id, pid } => change(running, id, |program| program.pid = Some(pid)),
            Event::Stdout { id, data } => {
                change(running, id, |program| program.take(&data.0, true));
            }
            Event::Stderr { id, data } => {
                change(running, id, |program| program.take(&data.0, false));
            }
            Event::Ended { id, code, signal, seconds } => {
                let status = code.map_or(Status::Killed(signal.unwrap_or_default()), Status::Exited);
                change(running, id, |program| {
                    program.result = Some(Ok((status, seconds)));
                });
            }
            Event::Failed { id, message } => {
                change(running, id, |program| program.result = Some(Err(message)));
            }
        }
        self.changed.notify_all();
    }

    /// The last 50 lines of the console, as the end of a message.
    pub(crate) fn console_tail(&self) -> String {
        let Some(path) = &self.console else {
            return String::new();
        };
        let text = std::fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        format!("; the console's last lines:\n{}", lines[lines.len().saturating_sub(50)..].join("\n"))
    }

    /// Waits for the agent; the kernel's release.
    pub(crate) fn wait_ready(&self, limit: Duration) -> Result<String> {
        let ready = self.wait_until(limit, |state| state.ready.clone().map(Ok))?;
        let (kernel, agent) =
            ready.with_context(|| format!("the machine was not ready within {limit:?}{}", self.console_tail()))?;
        ensure!(
            agent == edition(),
            "the quarry-lab program is of another build than this one: build it anew (cargo build -p quarry-lab)"
        );
        Ok(kernel)
    }

    /// From now on the machine's end is no accident.
    pub(crate) fn expect_end(&self, words: &str) {
        locked(&self.state).expected.get_or_insert_with(|| words.to_owned());
    }

    /// Waits until no process of the machine holds the channel; false when the limit passed.
    pub(crate) fn wait_end(&self, limit: Duration) -> bool {
        let state = locked(&self.state);
        let wait = self.changed.wait_timeout_while(state, limit, |state| state.ended.is_none());
        wait.unwrap_or_else(PoisonError::into_inner).0.ended.is_some()
    }

    pub(crate) fn hang_up(&self) {
        // Failing means that the other end is gone already.
        let _ = locked(&self.outlet.writer).shutdown(std::net::Shutdown::Both);
    }

    pub(crate) fn request(&self, request: &Request) -> Result<()> {
        let line = encode(request)?;
        if line.len() <= REQUEST_WINDOW {
            return self.send(&line);
        }
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        for piece in line.chunks(REQUEST_PIECE) {
            self.send(&encode(&Request::Part { id, data: Bytes(piece.to_vec()) })?)?;
        }
        self.send(&encode(&Request::Whole { id })?)
    }

    fn send(&self, line: &[u8]) -> Result<()> {
        let sent = self.outlet.send(line, STALL_LIMIT);
        match &locked(&self.state).ended {
            Some(reason) => bail!("{reason}"),
            None => sent.with_context(|| format!("the machine takes no requests{}", self.console_tail())),
        }
    }

    pub(crate) fn start(&self, command: &Command, sink: Sink) -> Result<u64> {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        locked(&self.state).running.insert(id, Running::new(sink));
        let sent = self.send_start(id, command);
        if sent.is_err() {
            self.forget(id);
        }
        sent.map(|()| id)
    }

    fn send_start(&self, id: u64, command: &Command) -> Result<()> {
        self.request(&Request::Start {
            id,
            arguments: command.arguments.clone(),
            environment: command.environment.clone(),
            folder: command.folder.clone(),
            input: command.input.is_some(),
        })?;
        if let Some(input) = &command.input {
            for piece in input.chunks(REQUEST_PIECE) {
                self.request(&Request::Input { id, data: Bytes(piece.to_vec()) })?;
            }
            self.request(&Request::InputEnd { id })?;
        }
        Ok(())
    }

    pub(crate) fn forget(&self, id: u64) -> Option<Running> {
        locked(&self.state).running.remove(&id)
    }

    /// Waits for something in the program's state; None when the limit passed first.
    pub(crate) fn wait_program<T>(
        &self,
        id: u64,
        limit: Duration,
        mut look: impl FnMut(&Running) -> Option<Result<T>>,
    ) -> Result<Option<T>> {
        self.wait_until(limit, |state| match state.running.get(&id) {
            Some(running) => look(running),
            None => Some(Err(anyhow!("the program was waited for already"))),
        })
    }

    fn wait_until<T>(&self, limit: Duration, mut look: impl FnMut(&State) -> Option<Result<T>>) -> Result<Option<T>> {
        let deadline = Instant::now() + limit;
        let mut state = locked(&self.state);
        loop {
            if let Some(found) = look(&state) {
                return found.map(Some);
            }
            if let Some(reason) = &state.ended {
                bail!("{reason}");
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(None);
            }
            state = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

/// A program that was waited for already takes no more news.
fn change(running: &mut HashMap<u64, Running>, id: u64, change: impl FnOnce(&mut Running)) {
    if let Some(program) = running.get_mut(&id) {
        change(program);
    }
}
