//! The management console of a User-Mode Linux kernel: one datagram asks, datagrams answer. Nothing else can add or remove
//! a `ubd` disk of a running guest.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use nix::sched::{CloneFlags, setns};

const MAGIC: u32 = 0xcafe_babe;
const VERSION: u32 = 2;
const LENGTH: usize = 512;
const HEADER: usize = 12;

/// Sends one command to the kernel of the guest whose run lies in `run`; what it answers. The kernel answers to an address
/// in the network namespace of the guest's launcher, so a thread goes there to ask.
pub(crate) fn console(run: &Path, launcher: u32, command: &str) -> Result<String> {
    let network = File::open(format!("/proc/{launcher}/ns/net")).context("the guest's launcher is gone")?;
    let ask_there = || {
        setns(&network, CloneFlags::CLONE_NEWNET).context("cannot enter the guest's network namespace")?;
        ask(run, command)
    };
    let answer = thread::scope(|scope| scope.spawn(ask_there).join());
    answer.unwrap_or_else(|_| bail!("asking the guest's kernel failed"))
}

fn ask(run: &Path, command: &str) -> Result<String> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    ensure!(command.len() < LENGTH, "the command is too long: {command}");
    // Reached through an open folder, since a socket's path may have 107 bytes only.
    let folder = File::open(run.join("uml/guest")).context("the guest's kernel has no management console")?;
    let path = format!("/proc/self/fd/{}/mconsole", folder.as_raw_fd());
    let own = format!("quarry-lab-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
    let socket = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(own)?).context("cannot make a socket")?;
    socket.set_read_timeout(Some(Duration::from_secs(10)))?;
    let mut request = Vec::with_capacity(HEADER + LENGTH);
    for number in [MAGIC, VERSION, u32::try_from(command.len())?] {
        request.extend(number.to_ne_bytes());
    }
    request.extend(command.as_bytes());
    request.resize(HEADER + LENGTH, 0);
    socket.send_to(&request, path).context("cannot reach the kernel's management console")?;
    let mut answer = Vec::new();
    loop {
        let mut packet = [0; HEADER + LENGTH];
        let length = socket.recv(&mut packet).context("the kernel's management console does not answer")?;
        ensure!(length >= HEADER, "the kernel's management console answered nonsense");
        let number = |index: usize| packet[index * 4..][..4].try_into().map(u32::from_ne_bytes);
        let (failed, more, size) = (number(0)? != 0, number(1)? != 0, number(2)? as usize);
        answer.extend(&packet[HEADER..length.min(HEADER + size)]);
        if !more {
            let text = String::from_utf8_lossy(&answer).trim_matches('\0').trim().to_owned();
            if failed {
                bail!("the guest's kernel refuses `{command}`: {text}");
            }
            return Ok(text);
        }
    }
}
