//! What people ask of the workers of the cluster in the background; its keeper answers on a socket.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use std::time::Duration;
use std::{fs, io, thread};

use anyhow::{Context, Result, anyhow};
use quarry_lab::{Cluster, Command, Worker};
use serde::{Deserialize, Serialize};

/// Who asks sits before it and can interrupt it.
const RUN_LIMIT: Duration = Duration::from_hours(1);

#[derive(Serialize, Deserialize)]
pub(super) enum Request {
    Run { worker: String, command: Vec<String> },
    Import { archives: Vec<PathBuf> },
    CutPower { worker: String },
    Boot { worker: String },
}

/// What the command said, and its exit status as a shell would report it.
#[derive(Default, Serialize, Deserialize)]
pub(super) struct Answer {
    pub(super) code: i32,
    pub(super) stdout: String,
    pub(super) stderr: String,
}

/// Answers as long as the cluster is there.
pub(super) fn serve(folder: &Path, cluster: &Arc<Cluster>) -> Result<()> {
    let (_open, path) = short(folder)?;
    match fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error).context("cannot remove a socket"),
        _ => {}
    }
    let listener = UnixListener::bind(&path).context("cannot make the keeper's socket")?;
    let cluster = Arc::downgrade(cluster);
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let cluster = Weak::clone(&cluster);
            // Who asked and went away needs no answer.
            thread::spawn(move || answer(&stream, &cluster));
        }
    });
    Ok(())
}

fn answer(mut stream: &UnixStream, cluster: &Weak<Cluster>) -> Result<()> {
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line)?;
    let answer = serde_json::from_str(&line).context("not a request").and_then(|request| {
        let cluster = cluster.upgrade().context("the cluster is ending")?;
        act(&cluster, request)
    });
    let answer = answer.map_err(|error| format!("{error:#}"));
    stream.write_all(&serde_json::to_vec(&answer)?).context("nobody takes the answer")
}

fn act(cluster: &Cluster, request: Request) -> Result<Answer> {
    let find = |name: &str| {
        let names: Vec<&str> = cluster.workers().iter().map(Worker::name).collect();
        let found = cluster.workers().iter().find(|worker| worker.name() == name);
        found.with_context(|| format!("there is no worker `{name}`, but {}", names.join(", ")))
    };
    match request {
        Request::Import { archives } => {
            for archive in archives {
                cluster.import_archive(&archive)?;
            }
        }
        Request::CutPower { worker } => find(&worker)?.cut_power()?,
        Request::Boot { worker } => find(&worker)?.boot()?,
        Request::Run { worker, command } => {
            let (program, arguments) = command.split_first().context("no command")?;
            let command = Command::new(program).args(arguments).limit(RUN_LIMIT);
            let output = find(&worker)?.run(&command)?;
            return Ok(Answer {
                code: output.status.code(),
                stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
                stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
            });
        }
    }
    Ok(Answer::default())
}

/// Asks the keeper whose files lie in the folder.
pub(super) fn ask(folder: &Path, request: &Request) -> Result<Answer> {
    let (_open, path) = short(folder)?;
    let mut stream = UnixStream::connect(path).context("the cluster's keeper does not answer")?;
    stream.write_all(&serde_json::to_vec(request)?).and_then(|()| stream.write_all(b"\n"))?;
    match serde_json::from_reader(&stream).context("the cluster's keeper went away")? {
        Ok(answer) => Ok(answer),
        Err::<Answer, String>(error) => Err(anyhow!(error)),
    }
}

/// A socket's path may have 107 bytes only: it is reached through the open folder.
fn short(folder: &Path) -> Result<(File, PathBuf)> {
    let open = File::open(folder).with_context(|| format!("cannot open {}", folder.display()))?;
    let path = format!("/proc/self/fd/{}/socket", open.as_raw_fd());
    Ok((open, path.into()))
}
