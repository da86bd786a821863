//! The files by which the commands for the cluster in the background find each other.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use nix::unistd::Pid;
use quarry_lab::cache_folder;
use serde::{Deserialize, Serialize};

/// How to reach a cluster that is up.
#[derive(Serialize, Deserialize)]
pub(super) struct Access {
    pub(super) kubeconfig: PathBuf,
    pub(super) network_namespace: PathBuf,
    pub(super) programs: PathBuf,
    pub(super) workers: Vec<String>,
    pub(super) seconds: f64,
}

pub(super) struct Place {
    folder: PathBuf,
}

impl Place {
    pub(super) fn open() -> Result<Self> {
        let folder = cache_folder()?.join("cluster");
        fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        Ok(Self { folder })
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// What the keeper says.
    pub(super) fn log(&self) -> PathBuf {
        self.folder.join("log")
    }

    fn access_file(&self) -> PathBuf {
        self.folder.join("access.json")
    }

    /// Locked by the keeper as long as it lives; holds its process id.
    fn keeper_file(&self) -> Result<File> {
        let path = self.folder.join("keeper");
        let file = File::options().create(true).truncate(false).read(true).write(true).open(&path);
        file.with_context(|| format!("cannot open {}", path.display()))
    }

    /// Makes this process the keeper until the file is closed.
    pub(super) fn become_keeper(&self) -> Result<File> {
        let mut file = self.keeper_file()?;
        ensure!(file.try_lock().is_ok(), "a cluster is up already");
        file.set_len(0).context("cannot empty the keeper's file")?;
        write!(file, "{}", std::process::id()).context("cannot write the keeper's process id")?;
        Ok(file)
    }

    /// The process that keeps the cluster, if there is one. Its id cannot be another's while the lock is held.
    pub(super) fn keeper(&self) -> Result<Option<Pid>> {
        let mut file = self.keeper_file()?;
        if file.try_lock().is_ok() {
            return Ok(None);
        }
        let mut text = String::new();
        file.read_to_string(&mut text).context("cannot read the keeper's process id")?;
        Ok(text.trim().parse().ok().map(Pid::from_raw))
    }

    pub(super) fn is_ready(&self) -> bool {
        self.access_file().is_file()
    }

    pub(super) fn access(&self) -> Result<Access> {
        ensure!(self.keeper()?.is_some(), "no cluster is up: `make cluster` starts one");
        let text = fs::read(self.access_file()).context("the cluster is not ready yet")?;
        serde_json::from_slice(&text).with_context(|| format!("{} is damaged", self.access_file().display()))
    }

    /// From now on the cluster is ready, for who looks.
    pub(super) fn publish(&self, access: &Access) -> Result<()> {
        let unfinished = self.folder.join("access.new");
        let written = fs::write(&unfinished, serde_json::to_vec(access)?);
        written.and_then(|()| fs::rename(&unfinished, self.access_file())).context("cannot write how to reach it")
    }

    /// The opposite of [`Place::publish`]; that nothing was published is fine.
    pub(super) fn withdraw(&self) {
        let _ = fs::remove_file(self.access_file());
    }
}
