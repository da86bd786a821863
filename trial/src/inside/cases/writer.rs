//! A writer whose order of writes can be seen in what it has written.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;

use anyhow::{Context, Result, anyhow};

use crate::inside::check::{eventually, read_at, run};

/// Writes numbers, each to all its files one after the other, each write durable before the next.
pub(super) struct Writer {
    stop: Arc<AtomicBool>,
    written: Arc<AtomicU64>,
    /// Taken when it is ended.
    thread: Option<JoinHandle<Result<()>>>,
}

impl Writer {
    /// Begins to write to these files.
    pub(super) fn start(paths: &[PathBuf]) -> Result<Self> {
        let open = |path: &PathBuf| OpenOptions::new().create(true).truncate(false).write(true).open(path);
        let files: Vec<File> = paths.iter().map(open).collect::<Result<_, _>>()?;
        let (stop, written) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let shared = (Arc::clone(&stop), Arc::clone(&written));
        let thread = std::thread::spawn(move || {
            let (stop, written) = shared;
            for number in 1_u64.. {
                for file in &files {
                    file.write_all_at(&number.to_le_bytes(), 0)?;
                    file.sync_data()?;
                }
                written.store(number, Ordering::SeqCst);
                if stop.load(Ordering::SeqCst) {
                    break;
                }
            }
            Ok(())
        });
        Ok(Self { stop, written, thread: Some(thread) })
    }

    /// The last number that is in all of them.
    pub(super) fn written(&self) -> u64 {
        self.written.load(Ordering::SeqCst)
    }

    /// Waits until it has written more.
    pub(super) async fn goes_on(&self) -> Result<()> {
        let before = self.written();
        eventually("the writer goes on", || async { Ok(self.written() > before + 1) }).await
    }

    /// Ends it; all its writes went well. The last number.
    pub(super) fn end(mut self) -> Result<u64> {
        self.join()?;
        Ok(self.written())
    }

    fn join(&mut self) -> Result<()> {
        self.stop.store(true, Ordering::SeqCst);
        self.thread.take().map_or(Ok(()), |thread| thread.join().map_err(|_| anyhow!("the writer panicked"))?)
    }
}

impl Drop for Writer {
    /// A case that fails must not go on writing: what it wrote to could not be taken away.
    fn drop(&mut self) {
        // It fails for that already.
        self.join().ok();
    }
}

/// The number that was written last to a file.
pub(super) fn number_in(path: &Path) -> Result<u64> {
    let bytes = read_at(path, 0, 8).with_context(|| path.display().to_string())?;
    Ok(u64::from_le_bytes(bytes.try_into().map_err(|_| anyhow!("no number"))?))
}

/// The same of the file `number` in the file system of an active logical volume, looked at as an admin would.
pub(super) fn number_held(full_name: &str) -> Result<u64> {
    let folder = "/run/check-snapshot";
    fs::create_dir_all(folder)?;
    run(&["mount", "-o", "ro", &format!("/dev/{full_name}"), folder])?;
    let held = number_in(&Path::new(folder).join("number"));
    run(&["umount", folder])?;
    run(&["udevadm", "settle"])?;
    held
}
