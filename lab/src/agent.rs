//! The agent: runs on the machine (in a guest, or beside the lab with `LAB=host`), starts the programs that the caller
//! asks for and sends back what they say. Its channel is its standard input, used in both directions.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufReader, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;

use crate::channel::locked;
use crate::flow::{Outlet, Reported};
use crate::frame::{Bytes, EVENT_PIECE, EVENT_WINDOW, Event, REQUEST_WINDOW, Request, edition, encode, receive};
use crate::power;

/// A daemon may keep the pipes of the program that started it: no longer than this is waited for their end.
const PIPE_PATIENCE: Duration = Duration::from_millis(500);

/// A caller that takes no output for so long is as good as gone.
const OUTPUT_LIMIT: Duration = Duration::from_hours(1);

type Port = Arc<Outlet<File>>;

#[derive(Default)]
struct Programs {
    groups: HashMap<u64, Pid>,
    inputs: HashMap<u64, Sender<Vec<u8>>>,
}

/// Serves until the caller hangs up.
pub fn serve() -> Result<()> {
    let port = File::from(std::io::stdin().as_fd().try_clone_to_owned().context("no channel as standard input")?);
    let input = port.try_clone().context("cannot share the channel")?;
    let port: Port = Arc::new(Outlet::new(port, EVENT_WINDOW));
    let report = |bytes| say(&port, &Event::Taken { bytes });
    let mut reader = BufReader::new(Reported::new(input, REQUEST_WINDOW, report));
    let mut parts: HashMap<u64, Vec<u8>> = HashMap::new();
    let programs = Arc::new(Mutex::new(Programs::default()));
    let kernel =
        nix::sys::utsname::uname().map(|name| name.release().to_string_lossy().into_owned()).unwrap_or_default();
    say(&port, &Event::Ready { kernel, edition: edition() });
    let mut hangup = None;
    while let Ok(Some(mut request)) = receive::<Request>(&mut reader) {
        if let Request::Whole { id } = request {
            let whole = parts.remove(&id).unwrap_or_default();
            request = serde_json::from_slice(&whole).context("a request in parts")?;
        }
        match request {
            Request::Part { id, data } => parts.entry(id).or_default().extend(data.0),
            Request::Seen { bytes } => port.window.release(bytes),
            Request::OnHangup { script } => hangup = Some(script),
            Request::PowerOff => power::off(),
            other => handle(other, &port, &programs),
        }
    }
    port.window.close();
    // Elsewhere than in a namespace of its own, the agent may only end what it started.
    if std::process::id() == 1 {
        let _ = kill(Pid::from_raw(-1), Signal::SIGKILL);
    }
    for group in locked(&programs).groups.values() {
        let _ = killpg(*group, Signal::SIGKILL);
    }
    if let Some(script) = hangup {
        let mut shell = Command::new("sh");
        shell.args(["-c", &script]).stdin(Stdio::null()).status().context("cannot start the shell that tidies up")?;
    }
    Ok(())
}

fn say(port: &Port, event: &Event) {
    // A caller who is gone needs no answer; the reader sees the end of the channel too and ends the agent.
    let _ = port.force(event);
}

fn handle(request: Request, port: &Port, programs: &Arc<Mutex<Programs>>) {
    match request {
        Request::Input { id, data } => {
            if let Some(input) = locked(programs).inputs.get(&id) {
                let _ = input.send(data.0);
            }
        }
        Request::InputEnd { id } => drop(locked(programs).inputs.remove(&id)),
        Request::Signal { id, signal } => {
            if let (Some(group), Ok(signal)) = (locked(programs).groups.get(&id), Signal::try_from(signal)) {
                let _ = killpg(*group, signal);
            }
        }
        Request::Start { id, .. } => {
            if let Err(error) = start(request, port, programs) {
                say(port, &Event::Failed { id, message: format!("{error:#}") });
            }
        }
        _ => {}
    }
}

fn start(request: Request, port: &Port, programs: &Arc<Mutex<Programs>>) -> Result<()> {
    let Request::Start { id, arguments, environment, folder, input } = request else {
        return Ok(());
    };
    let (program, arguments) = arguments.split_first().context("no program was named")?;
    let mut command = Command::new(program);
    command.args(arguments).envs(environment).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
    command.stdin(if input { Stdio::piped() } else { Stdio::null() });
    if let Some(folder) = folder {
        command.current_dir(folder);
    }
    let begun = Instant::now();
    let mut child = command.spawn().with_context(|| format!("cannot start {program}"))?;
    let pid = child.id();
    let group = Pid::from_raw(i32::try_from(pid).context("impossible process id")?);
    locked(programs).groups.insert(id, group);
    if let Some(pipe) = child.stdin.take() {
        let (sender, receiver) = mpsc::channel();
        locked(programs).inputs.insert(id, sender);
        thread::spawn(move || feed(pipe, &receiver));
    }
    say(port, &Event::Started { id, pid });
    let (port, programs) = (Arc::clone(port), Arc::clone(programs));
    thread::spawn(move || follow(child, id, begun, &port, &programs));
    Ok(())
}

fn feed(mut pipe: ChildStdin, pieces: &mpsc::Receiver<Vec<u8>>) {
    for piece in pieces {
        if pipe.write_all(&piece).is_err() {
            return; // The program reads no more.
        }
    }
}

fn follow(mut child: Child, id: u64, begun: Instant, port: &Port, programs: &Arc<Mutex<Programs>>) {
    let pumps = [
        child.stdout.take().map(|pipe| pump(pipe, port, move |data| Event::Stdout { id, data })),
        child.stderr.take().map(|pipe| pump(pipe, port, move |data| Event::Stderr { id, data })),
    ];
    let status = child.wait();
    let seconds = begun.elapsed().as_secs_f64();
    let deadline = Instant::now() + PIPE_PATIENCE;
    for pump in pumps.into_iter().flatten() {
        while !pump.is_finished() && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(1));
        }
    }
    {
        let mut programs = locked(programs);
        programs.groups.remove(&id);
        programs.inputs.remove(&id);
    }
    say(
        port,
        &match status {
            Ok(status) => Event::Ended { id, code: status.code(), signal: status.signal(), seconds },
            Err(error) => Event::Failed { id, message: format!("cannot wait for it: {error}") },
        },
    );
}

fn pump(
    mut pipe: impl Read + Send + 'static,
    port: &Port,
    event: impl Fn(Bytes) -> Event + Send + 'static,
) -> JoinHandle<()> {
    let port = Arc::clone(port);
    thread::spawn(move || {
        let mut buffer = vec![0; EVENT_PIECE];
        while let Ok(length @ 1..) = pipe.read(&mut buffer) {
            let event = event(Bytes(buffer[..length].to_vec()));
            let sent = encode(&event).and_then(|line| port.send(&line, OUTPUT_LIMIT));
            if sent.is_err() {
                return;
            }
        }
    })
}
