//! `quarry-lab`: boots a guest and runs a command in it, or keeps a cluster. The same program is the guest's launcher, init
//! and agent.

mod background;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::{Args, Parser, Subcommand};
use quarry_lab::{Command, Disk, DiskKind, Machine, Options, Recipe, Share, parse_size};

/// Machines with a real kernel, real LVM and disks that can fail.
#[derive(Parser)]
#[command(version)]
struct Line {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Build the guest's root file system unless it is there, and print its path.
    Root {
        /// That of a cluster's workers.
        #[arg(long)]
        worker: bool,
    },
    /// A Kubernetes cluster of this machine's own, with guests as workers.
    Cluster {
        #[command(subcommand)]
        action: background::Action,
    },
    /// Boot a guest (LAB=host: take this machine), run a command, pass its exit status on, switch off.
    Run(Run),
    #[command(hide = true)]
    Agent,
    #[command(hide = true)]
    Init { rest: Vec<String> },
    #[command(hide = true)]
    Launch { run: PathBuf },
    #[command(hide = true)]
    LaunchInside {
        run: PathBuf,
        root: PathBuf,
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        kernel: Vec<String>,
    },
}

#[derive(Args)]
struct Run {
    #[arg(long, default_value = "1G", value_parser = parse_size)]
    memory: u64,
    /// A disk of this size; may be repeated. In a guest the first is /dev/ubda.
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    disk: Vec<u64>,
    /// A disk that loses what was not flushed when the power is cut; in a guest the first is /dev/nbd0.
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    volatile_disk: Vec<u64>,
    /// A file or folder of this machine to show to the guest, read-only unless `:rw`.
    #[arg(long, value_name = "HOST:GUEST[:rw]", value_parser = parse_share)]
    share: Vec<Share>,
    /// Where the disks lie, to keep them; without it they are removed at the end.
    #[arg(long, value_name = "FOLDER")]
    disk_folder: Option<PathBuf>,
    #[arg(last = true, required = true)]
    command: Vec<String>,
}

fn parse_share(text: &str) -> Result<Share> {
    let parts: Vec<&str> = text.split(':').collect();
    ensure!(
        matches!(parts.as_slice(), [_, _] | [_, _, "rw" | "ro"]),
        "`{text}` is not HOST:GUEST, HOST:GUEST:ro or HOST:GUEST:rw"
    );
    let host = std::fs::canonicalize(parts[0]).with_context(|| format!("cannot share {}", parts[0]))?;
    ensure!(parts[1].starts_with('/'), "the guest's path must be absolute: {}", parts[1]);
    Ok(Share { host, guest: PathBuf::from(parts[1]), writable: parts.get(2) == Some(&"rw") })
}

fn main() -> ExitCode {
    match act(Line::parse().action) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("quarry-lab: {error:#}");
            ExitCode::from(125)
        }
    }
}

fn act(action: Action) -> Result<ExitCode> {
    match action {
        Action::Root { worker } => {
            let recipe = if worker { Recipe::Worker } else { Recipe::Storage };
            println!("{}", quarry_lab::root(recipe)?.display());
        }
        Action::Cluster { action } => return background::act(action),
        Action::Run(run) => return self::run(run),
        Action::Agent => quarry_lab::serve()?,
        Action::Init { .. } => quarry_lab::init(),
        Action::Launch { run } => quarry_lab::launch(&run)?,
        Action::LaunchInside { run, root, kernel } => {
            quarry_lab::launch_inside(&run, &root, &kernel)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn run(run: Run) -> Result<ExitCode> {
    let mut options = Options::new().memory(run.memory);
    options.disk_folder = run.disk_folder;
    options.shares = run.share;
    let plain = run.disk.iter().map(|size| (*size, DiskKind::Plain));
    let volatile = run.volatile_disk.iter().map(|size| (*size, DiskKind::Volatile));
    for (number, (size, kind)) in plain.chain(volatile).enumerate() {
        options = options.disk(Disk::new(format!("disk{number}"), size, kind));
    }
    let begun = Instant::now();
    let machine = Machine::start(&options)?;
    eprintln!("quarry-lab: Linux {} ready after {:.2} s", machine.kernel(), begun.elapsed().as_secs_f64());
    let (program, arguments) = run.command.split_first().context("no command")?;
    // Whoever sits before it decides how long it may take.
    let command = Command::new(program).args(arguments).limit(Duration::from_hours(24 * 365)).streamed();
    let output = machine.run(&command)?;
    machine.stop()?;
    Ok(ExitCode::from(u8::try_from(output.status.code()).unwrap_or(1)))
}
