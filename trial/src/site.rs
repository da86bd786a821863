//! A machine of the lab with a volume group and a `quarry node` on it, seen from outside.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use quarry_lab::{Command, Disk, Machine, Options, Output, Process};

/// Where the build's programs are on the machine.
const PROGRAMS: &str = "/programs";
/// Where the machine can write files that are seen outside.
const SHARED: &str = "/shared";
/// The node's socket on the machine.
pub const SOCKET: &str = "/run/quarry/csi.sock";
/// Where `quarry controller` serves on a machine of the lab.
pub const CONTROLLER_SOCKET: &str = "/run/quarry-controller/csi.sock";
/// The node's name.
pub const NODE_NAME: &str = "lab-node";

/// What a site is made of.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Its disks; the volume group lies on the first alone unless the caller makes it.
    pub disks: Vec<Disk>,
    /// Where the disks' images lie when they are to outlive the machine.
    pub disk_folder: Option<PathBuf>,
    /// The folder of this side that the machine may write to, for results.
    pub results: PathBuf,
}

/// A machine with a node.
#[derive(Debug)]
pub struct Site {
    /// The machine.
    pub machine: Machine,
    programs: PathBuf,
    results: PathBuf,
    node: Option<Process>,
    controller: Option<Process>,
}

impl Site {
    /// Boots the machine; no volume group and no node yet.
    pub fn boot(plan: &Plan) -> Result<Self> {
        let programs = programs_folder()?;
        for program in ["quarry", "quarry-trial", "quarry-lab"] {
            ensure!(
                programs.join(program).is_file(),
                "no {program} in {}: run `cargo build --workspace` first",
                programs.display()
            );
        }
        fs::create_dir_all(&plan.results).with_context(|| format!("cannot make {}", plan.results.display()))?;
        let results = fs::canonicalize(&plan.results)?;
        let mut options = Options::new().share(&programs, PROGRAMS).share_writable(&results, SHARED);
        for disk in &plan.disks {
            options = options.disk(disk.clone());
        }
        if let Some(folder) = &plan.disk_folder {
            options = options.disk_folder(folder);
        }
        let machine = Machine::start(&options)?;
        Ok(Self { machine, programs, results, node: None, controller: None })
    }

    /// Makes a volume group on a disk.
    pub fn make_group(&self, group: &str, disk: &str) -> Result<()> {
        let device = self.machine.device(disk)?;
        self.shell(&format!("pvcreate -q {device} && vgcreate -q {group} {device}"))?;
        Ok(())
    }

    /// Starts `quarry node` with these arguments beside the socket and the node's name, and waits until it serves.
    pub fn start_node(&mut self, arguments: &[&str]) -> Result<()> {
        let mut words = vec!["--node-name", NODE_NAME];
        words.extend(arguments);
        self.node = Some(self.start("node", SOCKET, &words)?);
        Ok(())
    }

    /// Starts `quarry controller` with these arguments beside its socket, and waits until it serves.
    pub fn start_controller(&mut self, arguments: &[&str]) -> Result<()> {
        self.controller = Some(self.start("controller", CONTROLLER_SOCKET, arguments)?);
        Ok(())
    }

    fn start(&self, mode: &str, socket: &str, arguments: &[&str]) -> Result<Process> {
        self.shell(&format!("mkdir -p $(dirname {socket}) && rm -f {socket}"))?;
        let command = Command::new(self.program("quarry")?)
            .args([mode, "--csi-endpoint", &format!("unix://{socket}")])
            .args(arguments.iter().copied());
        let log = self.results.join(format!("{mode}.log"));
        let mut process = self.machine.spawn(&command, &log)?;
        let start = Instant::now();
        while !self.run(&Command::new("test").args(["-S", socket]))?.status.success() {
            if let Some(status) = process.try_wait()? {
                bail!("quarry {mode} ended at once with {status:?}:\n{}", fs::read_to_string(&log).unwrap_or_default());
            }
            if start.elapsed() > Duration::from_secs(20) {
                bail!("quarry {mode} does not serve after 20 s; see {}", log.display());
            }
        }
        Ok(process)
    }

    /// SIGTERM to node and controller, and waits for their end.
    pub fn stop_node(&mut self) -> Result<()> {
        for mut process in self.controller.take().into_iter().chain(self.node.take()) {
            process.signal(15)?;
            process.wait(Duration::from_mins(1))?;
        }
        Ok(())
    }

    /// SIGKILL of the node alone, as if it had crashed.
    pub fn kill_node(&mut self) -> Result<()> {
        if let Some(mut node) = self.node.take() {
            node.kill()?;
        }
        Ok(())
    }

    /// Runs a program on the machine.
    pub fn run(&self, command: &Command) -> Result<Output> {
        self.machine.run(command)
    }

    /// Runs a shell script on the machine that must end well; answers with what it printed.
    pub fn shell(&self, script: &str) -> Result<String> {
        Ok(self.run(&Command::shell(script))?.checked()?.text())
    }

    /// This program's other half: `quarry-trial inside …` on the machine.
    pub fn inside(&self, arguments: &[&str]) -> Result<Command> {
        Ok(Command::new(self.program("quarry-trial")?).arg("inside").args(arguments.iter().copied()))
    }

    /// A program of this build, by its path on the machine.
    pub fn program(&self, name: &str) -> Result<String> {
        self.machine.path(&self.programs.join(name))
    }

    /// A file of results, by its path on the machine.
    pub fn shared(&self, name: &str) -> Result<String> {
        Ok(format!("{}/{name}", self.machine.path(&self.results)?))
    }
}

/// The folder that this build's programs lie in: that of this program, or its parent for a test.
pub fn programs_folder() -> Result<PathBuf> {
    let program = std::env::current_exe()?;
    let folder = program.parent().context("this program lies nowhere")?;
    let folder = if folder.ends_with("deps") { folder.parent().unwrap_or(folder) } else { folder };
    Ok(folder.to_owned())
}

/// The folder `target` of this build.
pub fn target_folder() -> Result<PathBuf> {
    programs_folder()?.parent().map(Path::to_owned).context("the programs lie at the root")
}
