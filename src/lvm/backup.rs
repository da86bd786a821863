//! What lvm's own backup files say of volume groups that are not there. They are the only trace of a group
//! whose disks were gone when the driver started. `vgremove` deletes the file of its group.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use tokio::sync::Semaphore;

use crate::lvm::metadata::describe;
use crate::lvm::model::VolumeGroup;

/// Where lvm keeps them (lvm.conf(5), `backup_dir`).
const FOLDER: &str = "/etc/lvm/backup";

/// Within so many bytes of a file the group says its UUID: before it stand only its name and when and by what
/// command the file was written.
const HEAD_BYTES: u64 = 4096;
/// How many read at the same time: every creation of a volume asks, and in a burst each would take a thread.
const READERS: usize = 2;

/// The backup files of this machine.
#[derive(Debug)]
pub struct Backups {
    folder: PathBuf,
    readers: Semaphore,
}

impl Default for Backups {
    fn default() -> Self {
        Self::in_folder(FOLDER)
    }
}

impl Backups {
    /// Backup files that lie in that folder.
    pub fn in_folder(folder: impl Into<PathBuf>) -> Self {
        Self { folder: folder.into(), readers: Semaphore::new(READERS) }
    }

    /// The groups that have a readable backup, without those of these UUIDs: of them only the head of the file is read,
    /// since every creation of a volume asks and the file of a group with 500 volumes has 250 KB. What cannot be read is
    /// no evidence of anything.
    pub async fn groups(&self, without: &[&str]) -> Vec<VolumeGroup> {
        let Ok(_permit) = self.readers.acquire().await else { return Vec::new() };
        let folder = self.folder.clone();
        let without: Vec<String> = without.iter().map(|uuid| format!("id = \"{uuid}\"")).collect();
        tokio::task::spawn_blocking(move || read(&folder, &without)).await.unwrap_or_default()
    }
}

fn read(folder: &Path, without: &[String]) -> Vec<VolumeGroup> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let texts = entries.flatten().filter_map(|entry| read_unless(&entry.path(), without).ok()?);
    texts.filter_map(|text| describe(&text).ok().map(|description| description.group)).collect()
}

/// A file, unless its head says one of these things.
fn read_unless(file: &Path, says: &[String]) -> io::Result<Option<Vec<u8>>> {
    let mut file = File::open(file)?;
    let mut text = Vec::new();
    (&mut file).take(HEAD_BYTES).read_to_end(&mut text)?;
    let head = String::from_utf8_lossy(&text);
    if says.iter().any(|said| head.contains(said)) {
        return Ok(None);
    }
    file.read_to_end(&mut text)?;
    Ok(Some(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_backup_names_its_group_and_nonsense_names_nothing() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::copy("tests/fixtures/lvm/kinds.vg", folder.path().join("kinds")).unwrap();
        std::fs::write(folder.path().join("nonsense"), b"\0{{{").unwrap();
        let backups = Backups::in_folder(folder.path());
        let found = backups.groups(&[]).await;
        assert_eq!(found.len(), 1);
        assert!(!found[0].logical_volumes.is_empty());
        assert_eq!(backups.groups(&["other"]).await, found);
        assert_eq!(backups.groups(&[&found[0].uuid]).await, []);
    }

    #[tokio::test]
    async fn a_machine_without_backups_has_no_missing_groups() {
        assert!(Backups::in_folder("/nonexistent/backup").groups(&[]).await.is_empty());
    }
}
