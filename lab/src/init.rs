//! The first process of a guest: mounts what programs expect, starts udev and the agent, buries orphans. A program of
//! our own and not a shell script, because every process started in a guest costs milliseconds of each boot.

use std::fs::{self, File};
use std::os::unix::fs::OpenOptionsExt;
use std::process::{Command, Stdio};

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::mount::{MsFlags, mount};
use nix::sys::reboot::{RebootMode, reboot};
use nix::sys::termios::{SetArg, cfmakeraw, tcgetattr, tcsetattr};
use nix::sys::wait::{WaitStatus, wait};

const PORT: &str = "/dev/ttyS0";
/// Only what does not load by itself when first used.
const MODULES: &[&str] = &["dm-mod", "loop"];
const ENVIRONMENT: &[(&str, &str)] = &[
    ("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"),
    ("HOME", "/root"),
    ("LANG", "C.UTF-8"),
    ("LVM_SUPPRESS_FD_WARNINGS", "1"),
];

/// Runs as process 1 of a guest and never returns: when the agent ends, the power goes off.
pub fn init() -> ! {
    if let Err(error) = start() {
        eprintln!("quarry-lab init: {error:#}");
    }
    let _ = reboot(RebootMode::RB_POWER_OFF);
    std::process::exit(1);
}

fn start() -> Result<()> {
    for (kind, target, data) in [
        ("proc", "/proc", ""),
        ("sysfs", "/sys", ""),
        ("devtmpfs", "/dev", "mode=755"),
        ("devpts", "/dev/pts", "mode=620,ptmxmode=666"),
        ("tmpfs", "/dev/shm", "mode=1777"),
        ("tmpfs", "/run", "mode=755"),
        ("tmpfs", "/tmp", "mode=1777"),
        ("cgroup2", "/sys/fs/cgroup", ""),
    ] {
        fs::create_dir_all(target).with_context(|| format!("cannot make {target}"))?;
        match mount(Some(kind), target, Some(kind), MsFlags::MS_NOSUID, Some(data)) {
            Ok(()) | Err(Errno::EBUSY) => {}
            Err(error) => return Err(error).with_context(|| format!("cannot mount {target}")),
        }
    }
    let nothing = None::<&str>;
    mount(nothing, "/", nothing, MsFlags::MS_REC | MsFlags::MS_SHARED, nothing).context("cannot share the mounts")?;
    fs::create_dir_all("/run/lock").context("cannot make /run/lock")?;
    nix::unistd::sethostname("guest").context("cannot set the host's name")?;
    run("modprobe", &[&["-a"], MODULES].concat())?;
    run("ip", &["link", "set", "lo", "up"])?;
    run("/usr/lib/systemd/systemd-udevd", &["--daemon"])?;
    run("udevadm", &["trigger", "--action=add", "--subsystem-match=block", "--subsystem-match=misc"])?;
    run("udevadm", &["settle", "--timeout=10"])?;
    let port = File::options().read(true).write(true).custom_flags(OFlag::O_NOCTTY.bits()).open(PORT);
    let port = port.with_context(|| format!("cannot open {PORT}"))?;
    let mut settings = tcgetattr(&port).context("cannot read the port's settings")?;
    cfmakeraw(&mut settings);
    tcsetattr(&port, SetArg::TCSANOW, &settings).context("cannot set the port raw")?;
    let agent = command(&std::env::current_exe().context("no path of this program")?.to_string_lossy())
        .arg("agent")
        .stdin(port)
        .spawn()
        .context("cannot start the agent")?;
    loop {
        match wait() {
            Ok(WaitStatus::Exited(pid, _) | WaitStatus::Signaled(pid, ..))
                if pid.as_raw().cast_unsigned() == agent.id() =>
            {
                return Ok(());
            }
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(error).context("cannot wait for processes"),
        }
    }
}

fn command(program: &str) -> Command {
    let mut command = Command::new(program);
    command.env_clear().envs(ENVIRONMENT.iter().copied()).current_dir("/").stdin(Stdio::null());
    command
}

fn run(program: &str, arguments: &[&str]) -> Result<()> {
    let begun = std::time::Instant::now();
    let status = command(program).args(arguments).status().with_context(|| format!("cannot start {program}"))?;
    eprintln!("quarry-lab init: {program} {}: {status}, {} ms", arguments.join(" "), begun.elapsed().as_millis());
    Ok(())
}
