//! The folder outside the source tree where finished roots and the folders of running guests live, and the locks that
//! tell a running guest's folder from one that a crash left behind.

use std::env;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result, ensure};

const LOCK: &str = "lock";

/// `$QUARRY_CACHE`, else `$HOME/.cache/quarry`. Made when missing.
pub fn cache_folder() -> Result<PathBuf> {
    let folder = match env::var_os("QUARRY_CACHE") {
        Some(folder) if !folder.is_empty() => PathBuf::from(folder),
        _ => PathBuf::from(env::var_os("HOME").context("neither QUARRY_CACHE nor HOME is set")?).join(".cache/quarry"),
    };
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    fs::canonicalize(&folder).with_context(|| format!("cannot resolve {}", folder.display()))
}

/// Opens (and makes) a file to lock.
pub(crate) fn lock_file(path: &Path) -> Result<File> {
    File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(path)
        .with_context(|| format!("cannot open {}", path.display()))
}

/// The folder of one running guest: console log, control socket, mount points. Held by a shared lock of everybody who
/// uses it; a folder that nobody holds is what a crash left, and the next run removes it.
#[derive(Debug)]
pub(crate) struct RunFolder {
    path: PathBuf,
    _lock: File,
}

impl RunFolder {
    pub(crate) fn create() -> Result<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let runs = cache_folder()?.join("runs");
        fs::create_dir_all(&runs).with_context(|| format!("cannot make {}", runs.display()))?;
        // Making and sweeping exclude each other, so a folder just made is never taken for an abandoned one.
        let all = lock_file(&runs.join(LOCK))?;
        all.lock().context("cannot lock the folder of runs")?;
        sweep(&runs)?;
        let path = runs.join(format!("{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed)));
        fs::create_dir(&path).with_context(|| format!("cannot make {}", path.display()))?;
        Self::hold(&path)
    }

    /// Joins in holding a folder that another process made.
    pub(crate) fn hold(path: &Path) -> Result<Self> {
        let lock = lock_file(&path.join(LOCK))?;
        lock.lock_shared().with_context(|| format!("cannot lock {}", path.display()))?;
        Ok(Self { path: path.to_owned(), _lock: lock })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Removes the folder; that it is gone already is fine.
    pub(crate) fn remove(&self) -> Result<()> {
        remove_folder(&self.path)
    }
}

/// Removes a folder with all that is in it, unless something is mounted there: that may be anybody's data.
pub(crate) fn remove_folder(folder: &Path) -> Result<()> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").context("cannot read the mount table")?;
    let escaped = folder.to_string_lossy().replace('\\', "\\134").replace(' ', "\\040");
    let mounted = mounts
        .lines()
        .filter_map(|line| line.split(' ').nth(4))
        .any(|target| target.strip_prefix(&escaped).is_some_and(|rest| rest.is_empty() || rest.starts_with('/')));
    ensure!(!mounted, "{} still has something mounted in it: unmount it first", folder.display());
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", folder.display()))
        }
        _ => Ok(()),
    }
}

fn sweep(runs: &Path) -> Result<()> {
    for entry in fs::read_dir(runs).context("cannot read the folder of runs")? {
        let path = entry?.path();
        if !path.is_dir() {
            continue;
        }
        let abandoned = lock_file(&path.join(LOCK)).is_ok_and(|lock| lock.try_lock().is_ok());
        if abandoned {
            remove_folder(&path)?;
        }
    }
    Ok(())
}
