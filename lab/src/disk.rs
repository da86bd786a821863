//! Disks of a machine: sparse files in a folder of the caller's choice, so that they outlive the machine.

use std::fs::File;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

/// What happens to a disk's data when the power is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DiskKind {
    /// All that the disk was given is there afterwards.
    Plain,
    /// What was not flushed is lost, as on a real disk with a write cache.
    Volatile,
}

/// One disk to give to a machine.
#[derive(Debug, Clone)]
pub struct Disk {
    pub(crate) name: String,
    pub(crate) size: u64,
    pub(crate) kind: DiskKind,
}

impl Disk {
    /// The image is `NAME.img` in the machine's folder of disks; made when missing, kept as it is otherwise.
    pub fn new(name: impl Into<String>, size: u64, kind: DiskKind) -> Self {
        Self { name: name.into(), size, kind }
    }

    pub fn plain(name: impl Into<String>, size: u64) -> Self {
        Self::new(name, size, DiskKind::Plain)
    }

    pub fn volatile(name: impl Into<String>, size: u64) -> Self {
        Self::new(name, size, DiskKind::Volatile)
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// Makes the image unless it is there; its path.
    pub(crate) fn image(&self, folder: &Path) -> Result<PathBuf> {
        let legal = |character: char| character.is_ascii_alphanumeric() || character == '-' || character == '_';
        ensure!(
            !self.name.is_empty() && self.name.chars().all(legal),
            "a disk's name is made of letters, digits, - and _, not `{}`",
            self.name
        );
        let path = folder.join(format!("{}.img", self.name));
        let file = File::options().create(true).truncate(false).write(true).open(&path);
        let file = file.with_context(|| format!("cannot open the disk image {}", path.display()))?;
        if file.metadata().context("cannot look at the disk image")?.len() < self.size {
            file.set_len(self.size).with_context(|| format!("cannot size {}", path.display()))?;
        }
        Ok(path)
    }
}

/// Reads a size as people write it: `512M`, `4G`, `1T`, powers of 1024; a bare number is bytes.
pub fn parse_size(text: &str) -> Result<u64> {
    let digits = text.trim_end_matches(|character: char| character.is_ascii_alphabetic());
    let unit = match text[digits.len()..].trim_end_matches("iB") {
        "" => 0,
        "K" | "k" => 10,
        "M" => 20,
        "G" => 30,
        "T" => 40,
        other => bail!("`{text}`: unknown unit `{other}`, use K, M, G or T"),
    };
    let number: u64 = digits.parse().with_context(|| format!("`{text}` is not a size such as 4G"))?;
    number.checked_mul(1 << unit).with_context(|| format!("`{text}` is too large"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_people_write_them() {
        assert_eq!(parse_size("4G").unwrap(), 4 << 30);
        assert_eq!(parse_size("300MiB").unwrap(), 300 << 20);
        assert_eq!(parse_size("512").unwrap(), 512);
        for wrong in ["", "G", "4X", "-1G", "99999999999T"] {
            assert!(parse_size(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn an_image_is_made_once_and_never_shrunk() {
        let folder = tempfile::tempdir().unwrap();
        let path = Disk::plain("pv0", 8192).image(folder.path()).unwrap();
        std::fs::write(&path, [7; 10_000]).unwrap();
        Disk::plain("pv0", 4096).image(folder.path()).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().len(), 10_000);
        assert!(Disk::plain("../pv0", 4096).image(folder.path()).is_err());
    }
}
