//! A cluster that stays up in the background, for people: `quarry-lab cluster up`, `down` and `exec`. There is one for each
//! cache folder; a process of its own keeps it, so that its end, however it comes, is the end of the cluster.

mod place;
mod requests;

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::Arc;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::sched::{CloneFlags, setns};
use nix::sys::signal::{SigSet, Signal, kill};
use nix::unistd::setsid;
use quarry_lab::{Cluster, ClusterOptions, Disk, parse_size};

use place::{Access, Place};
use requests::Request;

const PAUSE: Duration = Duration::from_millis(100);
const DOWN_LIMIT: Duration = Duration::from_mins(2);

#[derive(clap::Subcommand)]
pub(crate) enum Action {
    /// Start a cluster in the background and say how to use it.
    Up(Size),
    /// End it and remove all of it.
    Down,
    /// Run a command in its network, with KUBECONFIG set and kubectl on the path.
    Exec {
        #[arg(last = true, required = true)]
        command: Vec<String>,
    },
    /// Run a command on a worker.
    Run {
        worker: String,
        #[arg(last = true, required = true)]
        command: Vec<String>,
    },
    /// Give images to every worker: archives as `make image` makes one.
    Import {
        #[arg(required = true)]
        archives: Vec<PathBuf>,
    },
    /// Pull a worker's plug: what it did not flush is lost.
    CutPower { worker: String },
    /// Boot a worker whose power was cut.
    Boot { worker: String },
    #[command(hide = true)]
    Keep(Size),
}

#[derive(clap::Args)]
pub(crate) struct Size {
    #[arg(long, default_value_t = 3)]
    workers: u8,
    /// Memory of each worker.
    #[arg(long, default_value = "2G", value_parser = parse_size)]
    memory: u64,
    /// A disk of this size for each worker, for LVM; may be repeated. The first is /dev/ubdb there.
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    disk: Vec<u64>,
}

pub(crate) fn act(action: Action) -> Result<ExitCode> {
    match action {
        Action::Up(size) => up(&size)?,
        Action::Down => down()?,
        Action::Exec { command } => exec(&command)?,
        Action::Run { worker, command } => return ask(&Request::Run { worker, command }),
        Action::Import { archives } => {
            let absolute = |archive: PathBuf| std::path::absolute(archive).context("no current folder");
            let archives = archives.into_iter().map(absolute).collect::<Result<_>>()?;
            return ask(&Request::Import { archives });
        }
        Action::CutPower { worker } => return ask(&Request::CutPower { worker }),
        Action::Boot { worker } => return ask(&Request::Boot { worker }),
        Action::Keep(size) => keep(&size)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn up(size: &Size) -> Result<()> {
    let place = Place::open()?;
    ensure!(place.keeper()?.is_none(), "a cluster is up already: `make cluster-down` removes it");
    place.withdraw();
    let log = File::create(place.log()).with_context(|| format!("cannot make {}", place.log().display()))?;
    let mut keeper = Command::new(std::env::current_exe().context("no path of this program")?);
    keeper.args(["cluster", "keep", "--workers", &size.workers.to_string(), "--memory", &size.memory.to_string()]);
    keeper.args(size.disk.iter().flat_map(|size| [String::from("--disk"), size.to_string()]));
    keeper.stdin(Stdio::null()).stdout(log.try_clone().context("cannot share the log")?).stderr(log);
    follow(&place, keeper.spawn().context("cannot start the keeper")?)?;
    let access = place.access()?;
    let own = std::env::current_exe().context("no path of this program")?;
    println!("The cluster is up after {:.1} s: {}.", access.seconds, access.workers.join(", "));
    println!("  {} cluster exec -- kubectl get nodes", own.display());
    println!("  {} cluster run {} -- lsblk", own.display(), access.workers[0]);
    println!("or, for a shell and programs of your own:");
    println!("  export KUBECONFIG={} PATH={}:$PATH", access.kubeconfig.display(), access.programs.display());
    println!("  nsenter --net={} kubectl get nodes", access.network_namespace.display());
    println!("make cluster-down removes it.");
    Ok(())
}

/// Shows the keeper's log until the cluster is ready; an error when the keeper ends before.
fn follow(place: &Place, mut keeper: Child) -> Result<()> {
    let mut log = File::open(place.log()).context("cannot read the keeper's log")?;
    let mut shown = 0;
    loop {
        let ended = keeper.try_wait().context("cannot wait for the keeper")?;
        let ready = place.is_ready();
        let mut news = Vec::new();
        log.seek(SeekFrom::Start(shown)).and_then(|_| log.read_to_end(&mut news)).context("cannot read the log")?;
        shown += news.len() as u64;
        // Nobody may be listening any more.
        let _ = std::io::stderr().write_all(&news);
        match ended {
            Some(status) => bail!("the cluster did not start ({status})"),
            None if ready => return Ok(()),
            None => sleep(PAUSE),
        }
    }
}

fn keep(size: &Size) -> Result<()> {
    setsid().context("cannot leave the terminal")?;
    let place = Place::open()?;
    let _keeper = place.become_keeper()?;
    // From here on a signal waits until it is asked for; one during the start ends it in good order afterwards.
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGTERM);
    signals.add(Signal::SIGINT);
    signals.thread_block().context("cannot hold signals back")?;

    let begun = Instant::now();
    let mut options = ClusterOptions::new().workers(size.workers).memory(size.memory).verbose();
    for (number, bytes) in size.disk.iter().enumerate() {
        options = options.disk(Disk::plain(format!("disk{number}"), *bytes));
    }
    let cluster = Arc::new(Cluster::start(&options)?);
    requests::serve(place.folder(), &cluster)?;
    let access = Access {
        kubeconfig: cluster.kubeconfig().to_owned(),
        network_namespace: cluster.network_namespace(),
        programs: cluster.programs().to_owned(),
        workers: cluster.workers().iter().map(|worker| worker.name().to_owned()).collect(),
        seconds: begun.elapsed().as_secs_f64(),
    };
    place.publish(&access)?;
    signals.wait().context("cannot wait for a signal")?;
    place.withdraw();
    // Who still asks something keeps the cluster until this process ends, which is its end in any case.
    drop(cluster);
    Ok(())
}

fn down() -> Result<()> {
    let place = Place::open()?;
    let Some(keeper) = place.keeper()? else {
        println!("No cluster is up.");
        return Ok(());
    };
    kill(keeper, Signal::SIGTERM).context("cannot end the keeper")?;
    let deadline = Instant::now() + DOWN_LIMIT;
    while place.keeper()?.is_some() {
        if Instant::now() > deadline {
            // Its guests and the control plane end with it in any case.
            kill(keeper, Signal::SIGKILL).context("cannot kill the keeper")?;
            bail!("the cluster did not end within {DOWN_LIMIT:?}; its keeper was killed");
        }
        sleep(PAUSE);
    }
    println!("The cluster is gone.");
    Ok(())
}

fn exec(command: &[String]) -> Result<()> {
    let access = Place::open()?.access()?;
    let network = File::open(&access.network_namespace).context("the cluster's network is gone")?;
    setns(&network, CloneFlags::CLONE_NEWNET).context("cannot enter the cluster's network (root is needed)")?;
    let path = std::env::var("PATH").unwrap_or_default();
    let (program, arguments) = command.split_first().context("no command")?;
    let error = Command::new(program)
        .args(arguments)
        .env("KUBECONFIG", &access.kubeconfig)
        .env("PATH", format!("{}:{path}", access.programs.display()))
        .exec();
    Err(error).with_context(|| format!("cannot start {program}"))
}

/// Asks the keeper, shows what came of it, and passes the exit status on.
fn ask(request: &Request) -> Result<ExitCode> {
    let place = Place::open()?;
    place.access()?;
    let answer = requests::ask(place.folder(), request)?;
    print!("{}", answer.stdout);
    eprint!("{}", answer.stderr);
    Ok(ExitCode::from(u8::try_from(answer.code).unwrap_or(1)))
}
