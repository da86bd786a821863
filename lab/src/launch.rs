//! The launcher of one guest, a process of its own between the lab and the kernel. It makes the guest's file system in a
//! mount namespace and its processes in a process namespace that both vanish with it, however it ends:
//!
//! ```text
//! lab ─ launcher (waits; tidies up when the lab is gone) ─ first process of the namespace ─ linux.uml
//! ```
//!
//! Requests come through standard input of all three, events go out by standard output; standard error is the console's
//! log. Each one dies when the one before it does.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc;
use std::thread;

use anyhow::{Context, Result, ensure};
use nix::mount::{MsFlags, mount};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitStatus, wait};
use nix::unistd::{Pid, chroot, dup, setsid};
use serde::{Deserialize, Serialize};

use crate::cache::{RunFolder, lock_file};

/// What the launcher is told, in `launch.json` of the run's folder.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Launch {
    pub(crate) root: PathBuf,
    pub(crate) shares: Vec<Share>,
    /// Arguments of `linux.uml`.
    pub(crate) kernel: Vec<String>,
    pub(crate) memory: u64,
}

/// A file or folder of this machine that the guest sees.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Share {
    /// Here.
    pub host: PathBuf,
    /// There, an absolute path; made when missing.
    pub guest: PathBuf,
    pub writable: bool,
}

const NOTHING: Option<&str> = None;
const ALIVE: &str = "launcher";

/// The outer process: everything is private to it, so there is nothing to undo but the run's folder.
pub fn launch(run: &Path) -> Result<()> {
    // A terminal's Ctrl-C is for the lab, whose end then ends this one in good order.
    setsid().context("cannot leave the terminal")?;
    let folder = RunFolder::hold(run)?;
    let alive = lock_file(&run.join(ALIVE))?;
    alive.lock().context("cannot lock the launcher's file")?;
    // Before the namespaces: a process whose children are born elsewhere cannot start threads.
    let (tell, told) = mpsc::channel();
    thread::spawn(move || {
        let Ok(inside) = told.recv() else { return };
        wait_for_hangup();
        let _ = kill(inside, Signal::SIGKILL);
    });
    let outside = File::open("/proc/self/ns/mnt").context("no mount namespace")?;
    unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWPID).context("cannot make namespaces (root is needed)")?;
    mount(NOTHING, "/", NOTHING, MsFlags::MS_REC | MsFlags::MS_SLAVE, NOTHING).context("cannot make mounts private")?;
    let launch: Launch = serde_json::from_slice(&fs::read(run.join("launch.json"))?).context("launch.json")?;
    let root = file_system(run, &launch)?;
    let mut child = Command::new("/proc/self/exe")
        .arg0("quarry-lab-guest")
        .arg("launch-inside")
        .arg(run)
        .arg(&root)
        .args(&launch.kernel)
        .spawn()
        .context("cannot start the first process of the namespace")?;
    tell.send(Pid::from_raw(i32::try_from(child.id()).context("impossible process id")?))?;
    child.wait().context("cannot wait for the guest")?;
    drop(alive);
    if hung_up(PollTimeout::ZERO) {
        // Outside the folder is just a folder; in here, the guest's root and the shares are mounted in it.
        setns(&outside, CloneFlags::CLONE_NEWNS).context("cannot leave the mount namespace")?;
        folder.remove().context("cannot remove the run's folder")?;
    }
    Ok(())
}

/// Whether the lab closed its end; looks without taking a byte from the guest's input.
fn hung_up(limit: PollTimeout) -> bool {
    let input = io::stdin();
    let mut watched = [PollFd::new(input.as_fd(), PollFlags::empty())];
    let gone = PollFlags::POLLHUP | PollFlags::POLLERR;
    poll(&mut watched, limit).is_ok() && watched[0].revents().is_some_and(|seen| seen.intersects(gone))
}

fn wait_for_hangup() {
    while !hung_up(PollTimeout::NONE) {}
}

/// The cached root below a layer in memory, what the kernel needs of `/dev` and `/proc`, and the shares.
fn file_system(run: &Path, launch: &Launch) -> Result<PathBuf> {
    let space = run.join("space");
    fs::create_dir(&space).context("cannot make a mount point")?;
    let tmpfs = |target: &Path, options: &str| {
        fs::create_dir_all(target).with_context(|| format!("cannot make {}", target.display()))?;
        mount(Some("tmpfs"), target, Some("tmpfs"), MsFlags::empty(), Some(options))
            .with_context(|| format!("cannot mount a tmpfs on {}", target.display()))
    };
    tmpfs(&space, "mode=755,size=100%")?;
    let [upper, work, root] = ["upper", "work", "root"].map(|name| space.join(name));
    for folder in [&upper, &work, &root] {
        fs::create_dir(folder)?;
    }
    let layers = format!("lowerdir={},upperdir={},workdir={}", launch.root.display(), upper.display(), work.display());
    mount(Some("overlay"), &root, Some("overlay"), MsFlags::empty(), Some(layers.as_str()))
        .context("cannot mount the overlay")?;
    tmpfs(&root.join("dev"), "mode=755")?;
    tmpfs(&root.join("dev/shm"), &format!("mode=1777,size={}", launch.memory + (64 << 20)))?;
    for device in ["null", "zero", "random", "urandom", "net/tun"] {
        let device = Path::new("/dev").join(device);
        if device.try_exists().unwrap_or(false) {
            bind(&Share { host: device.clone(), guest: device, writable: true }, &root)?;
        }
    }
    fs::create_dir_all(run.join("uml")).context("cannot make the folder of the kernel's socket")?;
    bind(&Share { host: run.join("uml"), guest: "/lab/uml".into(), writable: true }, &root)?;
    let program = fs::read_link("/proc/self/exe").context("no path of this program")?;
    bind(&Share { host: program, guest: "/lab/quarry-lab".into(), writable: false }, &root)?;
    for share in &launch.shares {
        bind(share, &root)?;
    }
    Ok(root)
}

fn bind(share: &Share, root: &Path) -> Result<()> {
    let inside = share.guest.strip_prefix("/").context("the guest's path of a share must be absolute")?;
    ensure!(!inside.components().any(|part| part.as_os_str() == ".."), "a share's path must not contain `..`");
    let target = root.join(inside);
    let failed = || format!("cannot share {} as {}", share.host.display(), share.guest.display());
    if share.host.is_dir() {
        fs::create_dir_all(&target).with_context(failed)?;
    } else {
        fs::create_dir_all(target.parent().unwrap_or(root)).with_context(failed)?;
        File::create(&target).with_context(failed)?;
    }
    mount(Some(&share.host), &target, NOTHING, MsFlags::MS_BIND, NOTHING).with_context(failed)?;
    if !share.writable {
        let flags = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
        mount(NOTHING, &target, NOTHING, flags, NOTHING).with_context(failed)?;
    }
    Ok(())
}

/// The first process of the namespace: starts the kernel and buries what it leaves. Its end is the end of all.
pub fn launch_inside(run: &Path, root: &Path, kernel: &[String]) -> Result<()> {
    set_pdeathsig(Signal::SIGKILL).context("cannot tie this process to the launcher")?;
    let alive = lock_file(&run.join(ALIVE))?;
    // Had the launcher died before the line above, its lock would be free and no signal would ever come.
    ensure!(alive.try_lock_shared().is_err(), "the launcher is gone");
    drop(alive);
    fs::create_dir_all(root.join("proc"))?;
    mount(Some("proc"), &root.join("proc"), Some("proc"), MsFlags::empty(), NOTHING).context("cannot mount /proc")?;
    chroot(root).context("cannot enter the root")?;
    std::env::set_current_dir("/").context("cannot enter the root")?;
    // The kernel says things of its own on standard output: the events get another descriptor, their own.
    let events = dup(io::stdout()).context("cannot share standard output")?;
    let log = io::stderr().as_fd().try_clone_to_owned().context("cannot share standard error")?;
    let mut kernel_process = Command::new("linux.uml");
    kernel_process.arg(format!("ssl0=fd:0,fd:{}", events.as_raw_fd())).stdout(log);
    kernel_process.args(kernel).env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("TMPDIR", "/dev/shm");
    let kernel_process = kernel_process.spawn().context("cannot start the guest's kernel")?;
    loop {
        match wait().context("cannot wait for the guest's kernel")? {
            WaitStatus::Exited(pid, _) | WaitStatus::Signaled(pid, ..)
                if pid.as_raw().cast_unsigned() == kernel_process.id() =>
            {
                return Ok(());
            }
            _ => {}
        }
    }
}
