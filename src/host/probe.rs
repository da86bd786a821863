//! Finding out what is on a device before anything is made on it. When in doubt it is not blank.

use std::fmt;
use std::path::Path;

use crate::error::{Error, Result};
use crate::host::commands::{Command, CommandError, Commands};
use crate::host::kernel::{Kernel, Stretch};
use crate::host::superblock::{self, Superblock};

const HEAD_BYTES: u64 = 1 << 20;
const TAIL_BYTES: u64 = 64 << 10;
/// The unit in which the kernel seam reads.
const SECTOR_BYTES: u64 = 4096;

/// What is on a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// The first MiB and the last 64 KiB are all zero: no file system, no signature, fit for mkfs.
    Blank,
    /// A file system that this driver knows.
    FileSystem(Superblock),
    /// Something else, in words that follow "it holds": "LUKS encryption".
    Other(String),
}

impl fmt::Display for Content {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Blank => formatter.write_str("nothing"),
            Self::FileSystem(found) => found.file_system.fmt(formatter),
            Self::Other(description) => formatter.write_str(description),
        }
    }
}

/// Looks at a device of `device_bytes` bytes. What cannot be read is an error, never [`Content::Blank`].
pub async fn probe(kernel: &dyn Kernel, commands: &dyn Commands, device: &Path, device_bytes: u64) -> Result<Content> {
    let whole = device_bytes - device_bytes % SECTOR_BYTES;
    if whole == 0 {
        return Err(Error::Internal {
            problem: format!("{} has {device_bytes} bytes, too few to tell what is on it", device.display()),
        });
    }
    let head = Stretch { device: device.to_owned(), offset: 0, length: whole.min(HEAD_BYTES) };
    let tail_length = whole.min(TAIL_BYTES);
    let tail = Stretch { device: device.to_owned(), offset: whole - tail_length, length: tail_length };
    let mut answers = kernel.read(vec![head.clone(), tail.clone()]).await.into_iter();
    let head = bytes_of(&head, answers.next())?;
    let tail = bytes_of(&tail, answers.next())?;

    if let Some(found) = superblock::recognise(&head[..head.len().min(superblock::HEAD_BYTES)]) {
        return Ok(Content::FileSystem(found));
    }
    if head.iter().chain(&tail).all(|byte| *byte == 0) {
        return Ok(Content::Blank);
    }
    ask_blkid(commands, device).await.map(Content::Other)
}

/// The bytes of one stretch. Fewer than asked for would leave a part unseen, so they are a failure too.
fn bytes_of(stretch: &Stretch, answer: Option<std::io::Result<Vec<u8>>>) -> Result<Vec<u8>> {
    let what = || {
        let Stretch { device, offset, length } = stretch;
        format!("reading {length} bytes at {offset} of {}", device.display())
    };
    let bytes = answer
        .ok_or_else(|| Error::Internal { problem: format!("{}: no answer", what()) })?
        .map_err(|source| Error::kernel(what(), source))?;
    if u64::try_from(bytes.len()) == Ok(stretch.length) {
        return Ok(bytes);
    }
    Err(Error::Internal { problem: format!("{}: only {} came", what(), bytes.len()) })
}

/// Asks blkid, which knows far more signatures, only to name what is there: that something is there is
/// already known.
async fn ask_blkid(commands: &dyn Commands, device: &Path) -> Result<String> {
    let command = Command::new("blkid").arguments(["-p", "-o", "export"]).argument(device);
    let output = commands.run(&command).await?;
    match output.status {
        Some(0) => Ok(in_words(&String::from_utf8_lossy(&output.stdout))),
        Some(2) => Ok(String::from("data of unknown kind")),
        Some(8) => Ok(String::from("several signatures")),
        other => {
            let status = other.map_or_else(|| String::from("a signal"), |code| format!("status {code}"));
            let stderr = output.stderr.trim().to_owned();
            Err(CommandError::Failed { command: command.to_string(), status, stderr }.into())
        }
    }
}

/// Words for blkid's `NAME=value` lines.
fn in_words(export: &str) -> String {
    let value = |name: &str| {
        export.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('=')).filter(|value| !value.is_empty())
    };
    match (value("TYPE"), value("PTTYPE")) {
        (Some("crypto_LUKS"), _) => String::from("LUKS encryption"),
        (Some("LVM2_member"), _) => String::from("an LVM physical volume"),
        (Some("swap"), _) => String::from("swap space"),
        (Some("linux_raid_member"), _) => String::from("a part of a RAID"),
        (Some("jbd"), _) => String::from("a journal of ext4"),
        (Some(kind), _) if kind.ends_with("_member") => format!("a part of something larger ({kind})"),
        (Some(kind), _) => format!("a file system or other data of type {kind}"),
        (None, Some(table)) => format!("a {table} partition table"),
        (None, None) => String::from("data of unknown kind"),
    }
}

#[cfg(test)]
mod tests;
