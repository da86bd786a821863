//! A guest: a User-Mode Linux kernel with its own disks, started from the cached root, and gone without trace when
//! dropped.

use std::fs::{self, File};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command as HostCommand};
use std::sync::{Arc, Mutex};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::cache::RunFolder;
use crate::channel::{Channel, locked};
use crate::command::{Command, Output};
use crate::console::console;
use crate::fault::Fault;
use crate::frame::Request;
use crate::launch::{Launch, Share};
use crate::options::Options;
use crate::plug::Slots;
use crate::process::{self, Process};
use crate::program::program;
use crate::root::root;

const BOOT_LIMIT: Duration = Duration::from_secs(90);
const POWER_OFF_LIMIT: Duration = Duration::from_secs(30);
const END_LIMIT: Duration = Duration::from_secs(20);

/// A running guest. All methods can be used from many threads at once. Dropping it cuts its power.
#[derive(Debug)]
pub struct Guest {
    pub(crate) channel: Arc<Channel>,
    launcher: Mutex<Child>,
    pub(crate) run: RunFolder,
    pub(crate) disk_folder: PathBuf,
    shares: Vec<Share>,
    pub(crate) slots: Mutex<Slots>,
    kernel: String,
    boot_seconds: f64,
}

impl Guest {
    /// Boots a guest and waits until programs can be run in it. Builds the root first where it is missing.
    pub fn boot(options: &Options) -> Result<Self> {
        let root = root(options.recipe)?;
        let begun = Instant::now();
        let program = program()?;
        let run = RunFolder::create()?;
        let disk_folder = options.made_disk_folder(&run)?;
        let (mut slots, disk_arguments) = Slots::at_boot(&options.disks, &disk_folder)?;
        let mut shares = options.shares.clone();
        shares.push(Share { host: disk_folder.clone(), guest: "/lab/disks".into(), writable: true });
        let mut kernel = vec![
            format!("mem={}M", options.memory >> 20),
            "seccomp=on rootfstype=hostfs root=/dev/root rw con=null con0=null,fd:1 ssl=null".into(),
            "init=/lab/quarry-lab umid=guest uml_dir=/lab/uml/".into(),
        ];
        kernel = kernel.iter().flat_map(|words| words.split(' ')).map(str::to_owned).collect();
        kernel.extend(disk_arguments);
        kernel.extend(options.network_cards.iter().enumerate().map(|(number, card)| card.kernel_argument(number)));
        kernel.extend(options.kernel_arguments.iter().cloned());
        kernel.extend(["--".to_owned(), "init".to_owned()]);
        let launch = Launch { root, shares: shares.clone(), kernel, memory: options.memory };
        fs::write(run.path().join("launch.json"), serde_json::to_vec(&launch)?).context("cannot write launch.json")?;

        let (requests, standard_input) = UnixStream::pair().context("cannot make a channel")?;
        let (events, standard_output) = UnixStream::pair().context("cannot make a channel")?;
        let console = run.path().join("console.log");
        let log = File::create(&console).context("cannot make the console's log")?;
        let mut words = options.wrapper.clone();
        words.extend([
            program.to_string_lossy().into_owned(),
            "launch".into(),
            run.path().to_string_lossy().into_owned(),
        ]);
        let launcher = HostCommand::new(&words[0])
            .args(&words[1..])
            .stdin(std::os::fd::OwnedFd::from(standard_input))
            .stdout(std::os::fd::OwnedFd::from(standard_output))
            .stderr(log)
            .spawn()
            .with_context(|| format!("cannot start {}", words[0]))?;
        let channel = Channel::open(events, requests, Some(console))?;
        let volatile = std::mem::take(&mut slots.to_attach);
        let mut guest = Self {
            channel,
            launcher: Mutex::new(launcher),
            run,
            disk_folder,
            shares,
            slots: Mutex::new(slots),
            kernel: String::new(),
            boot_seconds: 0.0,
        };
        // From here on an error drops the guest, which ends its processes.
        guest.kernel = guest.channel.wait_ready(BOOT_LIMIT).context("the guest did not boot")?;
        for (number, card) in options.network_cards.iter().enumerate() {
            card.set_up(number, &guest.channel)?;
        }
        for disk in volatile {
            guest.add_disk(&disk)?;
        }
        guest.boot_seconds = begun.elapsed().as_secs_f64();
        Ok(guest)
    }

    /// The kernel's release.
    pub fn kernel(&self) -> &str {
        &self.kernel
    }

    /// From the call of [`Guest::boot`] (a root that had to be built not counted) to the first command's turn.
    pub fn boot_seconds(&self) -> f64 {
        self.boot_seconds
    }

    /// Says something to the kernel's management console (`config ubdb=…`, `sysrq t`, …); its answer.
    pub fn console_command(&self, command: &str) -> Result<String> {
        let launcher = locked(&self.launcher).id();
        console(self.run.path(), launcher, command)
    }

    /// The log of the guest's console; it vanishes with the guest.
    pub fn console_log(&self) -> PathBuf {
        self.run.path().join("console.log")
    }

    /// Runs a program to its end.
    pub fn run(&self, command: &Command) -> Result<Output> {
        process::run(&self.channel, command)
    }

    /// Starts a program and leaves it running; its output is appended to a file on this side.
    pub fn spawn(&self, command: &Command, log: &Path) -> Result<Process> {
        process::spawn(&self.channel, command, log)
    }

    /// The path by which programs in the guest reach a file or folder of this side, through the shares.
    pub fn path(&self, here: &Path) -> Result<String> {
        let here = fs::canonicalize(here).with_context(|| format!("cannot resolve {}", here.display()))?;
        let inside = self.shares.iter().rev().find_map(|share| {
            let host = fs::canonicalize(&share.host).ok()?;
            let rest = here.strip_prefix(&host).ok()?;
            Some(if rest.as_os_str().is_empty() { share.guest.clone() } else { share.guest.join(rest) })
        });
        let inside = inside.with_context(|| format!("{} is not in a folder shared with the guest", here.display()))?;
        Ok(inside.to_string_lossy().into_owned())
    }

    /// Lays a device over a disk that can be made to fail. Do so before anything uses the disk; LVM in the guest sees the
    /// disk only through it from then on.
    pub fn fault(&self, name: &str) -> Result<Fault> {
        Fault::put(&self.channel, name, self.device(name)?)
    }

    /// Pulls the plug: every process of the guest is gone when this returns, what it had in memory is lost. The disk
    /// images can be given to the next guest.
    pub fn cut_power(&self) -> Result<()> {
        self.channel.expect_end("the guest's power was cut");
        self.end()
    }

    /// Asks programs to end, unmounts, flushes the disks and switches off.
    pub fn power_off(&self) -> Result<()> {
        self.channel.expect_end("the guest was switched off");
        self.channel.request(&Request::PowerOff)?;
        if !self.channel.wait_end(POWER_OFF_LIMIT) {
            bail!("the guest did not switch off within {POWER_OFF_LIMIT:?}{}", self.channel.console_tail());
        }
        self.end()
    }

    /// Kills what is left of the guest and waits until nothing of it holds a disk any more.
    fn end(&self) -> Result<()> {
        let mut launcher = locked(&self.launcher);
        // The kernel kills the namespace's first process with the launcher, and all others with the first.
        launcher.kill().context("cannot kill the guest's launcher")?;
        launcher.wait().context("cannot wait for the guest's launcher")?;
        if !self.channel.wait_end(END_LIMIT) {
            bail!("processes of the guest are still there {END_LIMIT:?} after they were killed");
        }
        self.channel.hang_up();
        // The mounts in the folder belong to a namespace that is gone a moment after its last process.
        let deadline = Instant::now() + END_LIMIT;
        while let Err(error) = self.run.remove() {
            if Instant::now() > deadline {
                return Err(error).context("cannot remove the run's folder");
            }
            sleep(Duration::from_millis(5));
        }
        Ok(())
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.channel.expect_end("the guest was dropped");
        if let Err(error) = self.end() {
            eprintln!("quarry-lab: {error:#}");
        }
    }
}
