//! Disks that fail on demand: a device-mapper device lies over a disk from the start, and its table is swapped while
//! programs use it.

use std::sync::Arc;

use anyhow::{Context, Result};

use crate::channel::Channel;
use crate::command::Command;
use crate::process;

/// How a disk behaves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Behaviour {
    Healthy,
    /// Every read and write fails: the disk is as good as pulled out.
    Error,
    /// Reads work, writes fail.
    FailWrites,
    /// Reads work, writes are answered and thrown away.
    DropWrites,
    /// Works for some seconds, fails for some, and so on.
    Flakey {
        up_seconds: u32,
        down_seconds: u32,
    },
    /// Every read and write takes longer.
    Delay {
        milliseconds: u32,
    },
    /// These blocks of 512 bytes cannot be read until they are written again.
    BadBlocks(Vec<u64>),
}

/// The device over a disk begins this many blocks of 512 bytes into it: so LVM finds no label on the disk itself and never
/// takes the two for one volume seen twice, whatever its configuration says.
const START: u64 = 2048;

/// A disk under control; 1 MiB smaller than the disk itself. Give [`Fault::device`] to `pvcreate`, never the disk itself.
#[derive(Debug)]
pub struct Fault {
    channel: Arc<Channel>,
    name: String,
    below: String,
    sectors: u64,
}

impl Fault {
    pub(crate) fn put(channel: &Arc<Channel>, disk: &str, below: String) -> Result<Self> {
        let size = process::run(channel, &Command::new("blockdev").args(["--getsz", &below]))?.checked()?;
        let fault = Self {
            channel: Arc::clone(channel),
            name: format!("lab-{disk}"),
            below,
            sectors: size
                .text()
                .parse::<u64>()
                .context("the size of the disk")?
                .checked_sub(START)
                .context("the disk is too small")?,
        };
        let table = fault.table(&Behaviour::Healthy);
        process::run(channel, &Command::new("dmsetup").args(["create", &fault.name, "--table", &table]))?.checked()?;
        Ok(fault)
    }

    pub fn device(&self) -> String {
        format!("/dev/mapper/{}", self.name)
    }

    /// From now on the disk behaves like this. Nothing is flushed and no file system is frozen at the change.
    pub fn set(&self, behaviour: &Behaviour) -> Result<()> {
        let mut script = String::from(
            "dmsetup load \"$1\" --table \"$2\"; dmsetup suspend --noflush --nolockfs \"$1\"; dmsetup resume \"$1\"\n",
        );
        if let Behaviour::BadBlocks(blocks) = behaviour {
            script.push_str(
                "name=$1; shift 2; for block in \"$@\"; do dmsetup message \"$name\" 0 addbadblock \"$block\"; done\n",
            );
            script.push_str("dmsetup message \"$name\" 0 enable\n");
            let command = Command::shell(script).args(["sh", &self.name, &self.table(behaviour)]);
            let command = command.args(blocks.iter().map(|block| (START + block).to_string()));
            return process::run(&self.channel, &command)?.checked().map(drop);
        }
        let command = Command::shell(script).args(["sh", &self.name, &self.table(behaviour)]);
        process::run(&self.channel, &command)?.checked().map(drop)
    }

    fn table(&self, behaviour: &Behaviour) -> String {
        let Self { below, sectors, .. } = self;
        match behaviour {
            Behaviour::Healthy => format!("0 {sectors} linear {below} {START}"),
            Behaviour::Error => format!("0 {sectors} error"),
            Behaviour::FailWrites => {
                format!("0 {sectors} flakey {below} {START} 0 3600 1 error_writes")
            }
            Behaviour::DropWrites => {
                format!("0 {sectors} flakey {below} {START} 0 3600 1 drop_writes")
            }
            Behaviour::Flakey { up_seconds, down_seconds } => {
                format!("0 {sectors} flakey {below} {START} {up_seconds} {down_seconds}")
            }
            Behaviour::Delay { milliseconds } => {
                format!("0 {sectors} delay {below} {START} {milliseconds}")
            }
            Behaviour::BadBlocks(_) => format!("0 {sectors} dust {below} {START} 512"),
        }
    }
}
