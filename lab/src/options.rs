//! What a machine is made of.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::cache::RunFolder;
use crate::disk::Disk;
use crate::launch::Share;
use crate::network_card::NetworkCard;
use crate::root::Recipe;

/// What a machine is made of; see the methods.
#[derive(Debug, Clone)]
pub struct Options {
    pub memory: u64,
    pub disk_folder: Option<PathBuf>,
    pub disks: Vec<Disk>,
    pub shares: Vec<Share>,
    pub network_cards: Vec<NetworkCard>,
    pub recipe: Recipe,
    pub kernel_arguments: Vec<String>,
    pub wrapper: Vec<String>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            memory: 1 << 30,
            disk_folder: None,
            disks: Vec::new(),
            shares: Vec::new(),
            network_cards: Vec::new(),
            recipe: Recipe::default(),
            kernel_arguments: Vec::new(),
            wrapper: Vec::new(),
        }
    }
}

impl Options {
    /// 1 GiB of memory, no disks, nothing shared.
    pub fn new() -> Self {
        Self::default()
    }

    /// Memory of a guest in bytes, taken from this machine only as it is used.
    #[must_use]
    pub fn memory(mut self, bytes: u64) -> Self {
        self.memory = bytes;
        self
    }

    /// Where the disk images lie, so that they outlive the machine (a power cut and the next boot); without it they are
    /// removed with the machine.
    #[must_use]
    pub fn disk_folder(mut self, folder: impl Into<PathBuf>) -> Self {
        self.disk_folder = Some(folder.into());
        self
    }

    #[must_use]
    pub fn disk(mut self, disk: Disk) -> Self {
        self.disks.push(disk);
        self
    }

    /// Shows a file or folder of this machine to the guest, read-only.
    #[must_use]
    pub fn share(mut self, host: impl Into<PathBuf>, guest: impl Into<PathBuf>) -> Self {
        self.shares.push(Share { host: host.into(), guest: guest.into(), writable: false });
        self
    }

    /// Shows a folder of this machine to the guest, which may write there.
    #[must_use]
    pub fn share_writable(mut self, host: impl Into<PathBuf>, guest: impl Into<PathBuf>) -> Self {
        self.shares.push(Share { host: host.into(), guest: guest.into(), writable: true });
        self
    }

    /// Gives a guest a network card; the first is `vec0` there.
    #[must_use]
    pub fn network_card(mut self, card: NetworkCard) -> Self {
        self.network_cards.push(card);
        self
    }

    /// What a guest's root file system holds; without it, what storage needs.
    #[must_use]
    pub fn recipe(mut self, recipe: Recipe) -> Self {
        self.recipe = recipe;
        self
    }

    /// One more argument for a guest's kernel.
    #[must_use]
    pub fn kernel_argument(mut self, argument: impl Into<String>) -> Self {
        self.kernel_arguments.push(argument.into());
        self
    }

    /// Words to put before a guest's launcher, such as `ip netns exec NAME`. What they name must `exec` the rest.
    #[must_use]
    pub fn wrapper<I: IntoIterator<Item = S>, S: Into<String>>(mut self, words: I) -> Self {
        self.wrapper = words.into_iter().map(Into::into).collect();
        self
    }

    /// The folder of disks, made when missing, in one unambiguous spelling.
    pub(crate) fn made_disk_folder(&self, run: &RunFolder) -> Result<PathBuf> {
        let folder = self.disk_folder.clone().unwrap_or_else(|| run.path().join("disks"));
        fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        fs::canonicalize(&folder).with_context(|| format!("cannot resolve {}", folder.display()))
    }
}
