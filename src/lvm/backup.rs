//! What lvm's own backup files say of volume groups that are not there. They are the only trace of a group
//! whose disks were gone when the driver started. `vgremove` deletes the file of its group.

use std::path::Path;

use crate::lvm::metadata::describe;
use crate::lvm::model::VolumeGroup;

/// Where lvm keeps them (lvm.conf(5), `backup_dir`).
pub const FOLDER: &str = "/etc/lvm/backup";

/// The groups that have a readable backup. What cannot be read is no evidence of anything.
pub async fn groups(folder: &Path) -> Vec<VolumeGroup> {
    let mut groups = Vec::new();
    let Ok(mut entries) = tokio::fs::read_dir(folder).await else { return groups };
    while let Ok(Some(entry)) = entries.next_entry().await {
        let Ok(text) = tokio::fs::read(entry.path()).await else { continue };
        groups.extend(describe(&text).ok().map(|description| description.group));
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_backup_names_its_group_and_nonsense_names_nothing() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::copy("tests/fixtures/lvm/kinds.vg", folder.path().join("kinds")).unwrap();
        std::fs::write(folder.path().join("nonsense"), b"\0{{{").unwrap();
        let groups = groups(folder.path()).await;
        assert_eq!(groups.len(), 1);
        assert!(!groups[0].logical_volumes.is_empty());
    }

    #[tokio::test]
    async fn a_machine_without_backups_has_no_missing_groups() {
        assert!(groups(Path::new("/nonexistent/backup")).await.is_empty());
    }
}
