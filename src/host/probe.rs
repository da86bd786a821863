//! Finding out what a device holds, by reading the device itself: never from udev's or blkid's cache. A read
//! that fails is an error, never "blank".

use std::path::Path;

use super::commands::{Command, CommandError, Commands};
use super::file_system::EDGE;
use super::kernel::{Kernel, Stretch};
use super::superblock::{Content, RECOGNISED_BY, recognise};
use crate::error::{Error, Result};

/// What a read must be a multiple of, bytes.
const ALIGNMENT: u64 = 4096;

/// Finds out what a device of `size` bytes holds. A known file system costs one read; blkid is asked only about
/// what is not known.
pub async fn probe(commands: &dyn Commands, kernel: &dyn Kernel, device: &Path, size: u64) -> Result<Content> {
    let head = read_head(kernel, device, RECOGNISED_BY.min(size)).await?;
    if let Some(content) = recognise(&head) {
        return Ok(content);
    }
    // Also when the head has only zeroes: RAID and others keep their signature at the end.
    let command = Command::new("blkid").arguments(["-p", "-o", "export"]).argument(device);
    let output = commands.run(&command).await?;
    match output.status {
        Some(0) => Ok(Content::Other(describe(&String::from_utf8_lossy(&output.stdout)))),
        Some(8) => Ok(Content::Other("several signatures that contradict each other".into())),
        Some(2) => {
            let head = read_head(kernel, device, EDGE.min(size)).await?;
            let is_blank = head.iter().all(|byte| *byte == 0);
            Ok(if is_blank { Content::Blank } else { Content::Other("unknown data".into()) })
        }
        status => {
            let status = status.map_or_else(|| String::from("a signal"), |code| format!("status {code}"));
            let stderr = output.stderr.trim().to_owned();
            Err(CommandError::Failed { command: command.to_string(), status, stderr }.into())
        }
    }
}

async fn read_head(kernel: &dyn Kernel, device: &Path, length: u64) -> Result<Vec<u8>> {
    let stretch = Stretch { device: device.to_owned(), offset: 0, length: length - length % ALIGNMENT };
    let what = || format!("reading the first {length} bytes of {}", device.display());
    match kernel.read(vec![stretch]).await.pop() {
        Some(Ok(bytes)) if !bytes.is_empty() => Ok(bytes),
        Some(Ok(_)) | None => Err(Error::Internal { problem: format!("{}: nothing was read", what()) }),
        Some(Err(error)) => Err(Error::kernel(what(), error)),
    }
}

/// Puts blkid's `NAME=value` lines into words.
fn describe(export: &str) -> String {
    let value = |name: &str| export.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
    let signature = value("TYPE").map(|name| match name {
        "LVM2_member" => "an LVM physical volume".to_owned(),
        "crypto_LUKS" => "a LUKS container".to_owned(),
        "swap" | "swsuspend" => "swap space".to_owned(),
        "linux_raid_member" => "a member of a RAID".to_owned(),
        "zfs_member" => "a member of a ZFS pool".to_owned(),
        "bcache" => "a bcache device".to_owned(),
        _ if value("USAGE") == Some("filesystem") => format!("a file system of type {name}"),
        _ => format!("data of type {name}"),
    });
    let table = value("PTTYPE").map(|name| format!("a partition table ({name})"));
    match (signature, table) {
        (Some(signature), Some(table)) => format!("{signature} and {table}"),
        (Some(one), None) | (None, Some(one)) => one,
        (None, None) => "a signature that blkid knows".to_owned(),
    }
}

#[cfg(test)]
#[path = "probe_tests.rs"]
mod tests;
