//! Where the machine's disk lies while it is measured: in memory. A flush, which the node makes before it answers and
//! the bare commands never make, would otherwise measure whatever else this machine's disk is doing (3 to 700 ms here
//! beside a compiler); a disk without a volatile cache, as servers have them, flushes in no time either.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

const MEMORY: &str = "/dev/shm";
const PREFIX: &str = "quarry-bench-";

/// A folder in memory, removed when dropped.
#[derive(Debug)]
pub(super) struct DiskFolder {
    path: PathBuf,
}

impl DiskFolder {
    pub(super) fn make() -> Result<Self> {
        remove_abandoned(Path::new(MEMORY))?;
        let path = Path::new(MEMORY).join(format!("{PREFIX}{}", std::process::id()));
        fs::create_dir(&path).with_context(|| format!("cannot make {}", path.display()))?;
        Ok(Self { path })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for DiskFolder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// Removes what runs left that were killed.
fn remove_abandoned(memory: &Path) -> Result<()> {
    for entry in fs::read_dir(memory).with_context(|| format!("cannot read {}", memory.display()))? {
        let entry = entry?;
        let name = entry.file_name();
        let Some(process) = name.to_str().and_then(|name| name.strip_prefix(PREFIX)) else { continue };
        if !fs::exists(format!("/proc/{process}"))? {
            fs::remove_dir_all(entry.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_folders_of_dead_runs_are_removed() {
        let memory = tempfile::tempdir().unwrap();
        let own = memory.path().join(format!("{PREFIX}{}", std::process::id()));
        // No process can have this number (proc(5), pid_max).
        let dead = memory.path().join(format!("{PREFIX}4194305"));
        let foreign = memory.path().join("other");
        for folder in [&own, &dead, &foreign] {
            fs::create_dir(folder).unwrap();
        }
        remove_abandoned(memory.path()).unwrap();
        assert!(own.is_dir() && foreign.is_dir() && !fs::exists(dead).unwrap());
    }
}
