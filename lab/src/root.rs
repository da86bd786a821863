//! Builds the root file systems that guests boot from: a small Debian with a User-Mode Linux kernel and the storage
//! tools, for workers of a cluster also with what runs containers. Built once, kept under a name that says the recipe,
//! never changed afterwards.

use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use sha2::{Digest, Sha256};

use crate::apt;
use crate::cache::{cache_folder, lock_file, remove_folder};

const SUITE: &str = "forky";
/// debootstrap of an older Debian does not know the suite's name; sid's script is the one that fits a new suite.
const SCRIPT: &str = "sid";
/// Raise it when the steps below change, so that caches are built anew.
const REVISION: u32 = 1;
const PACKAGES: &[&str] = &[
    "btrfs-progs",
    "busybox-static",
    "cryptsetup-bin",
    "dmsetup",
    "e2fsprogs",
    "fio",
    "iproute2",
    "kmod",
    "lvm2",
    "nbd-client",
    "nbdkit",
    "procps",
    "strace",
    "thin-provisioning-tools",
    "udev",
    "user-mode-linux",
    "util-linux",
    "xfsprogs",
];

/// What lies in a worker's root besides.
const WORKER_PACKAGES: &[&str] = &["containerd", "containernetworking-plugins", "runc"];

/// What a guest's root file system holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Recipe {
    /// A kernel, LVM and the tools of file systems.
    #[default]
    Storage,
    /// The same, and what a worker of a Kubernetes cluster runs containers with.
    Worker,
}

impl Recipe {
    fn packages(self) -> String {
        match self {
            Self::Storage => PACKAGES.join(","),
            Self::Worker => [PACKAGES, WORKER_PACKAGES].concat().join(","),
        }
    }

    /// Names the recipe, so that a change of it makes another root.
    fn key(self) -> String {
        let digest = Sha256::digest(format!("{REVISION} {SUITE} {}", self.packages().replace(',', " ")));
        digest.iter().take(6).fold(String::new(), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        })
    }
}

/// The finished root, built first where that is needed (about two minutes).
pub fn root(recipe: Recipe) -> Result<PathBuf> {
    let cache = cache_folder()?;
    let finished = cache.join(format!("root-{}", recipe.key()));
    if finished.is_dir() {
        return Ok(finished);
    }
    let lock = lock_file(&cache.join("root.lock"))?;
    lock.lock().context("cannot lock the cache of roots")?;
    if finished.is_dir() {
        return Ok(finished);
    }
    for entry in fs::read_dir(&cache).context("cannot read the cache")? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with("building-") {
            remove_folder(&entry.path())?;
        }
    }
    let building = cache.join(format!("building-{}", std::process::id()));
    if let Err(error) = build(recipe, &building) {
        remove_folder(&building)?;
        return Err(error);
    }
    fs::rename(&building, &finished).with_context(|| format!("cannot rename {}", building.display()))?;
    Ok(finished)
}

fn build(recipe: Recipe, folder: &Path) -> Result<()> {
    let mirror = apt::mirror(Path::new("/etc/apt"))?;
    let script = debootstrap_script()?;
    eprintln!(
        "building a guest's root file system ({recipe:?}: Debian {SUITE} from {mirror}), once, about two minutes …"
    );
    let log_path = folder.with_file_name("root.log");
    let log = fs::File::create(&log_path).with_context(|| format!("cannot make {}", log_path.display()))?;
    // In a mount and process namespace of its own: whatever debootstrap mounts or starts ends with it.
    let status = Command::new("setpriv")
        .args(["--pdeathsig", "KILL", "unshare"])
        .args(["--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "--propagation", "private"])
        .args(["debootstrap", "--variant=minbase"])
        .arg(format!("--include={}", recipe.packages()))
        .arg(SUITE)
        .arg(folder)
        .arg(&mirror)
        .arg(script)
        .stdin(Stdio::null())
        .stdout(log.try_clone().context("cannot share the log")?)
        .stderr(log)
        .status()
        .context("cannot start setpriv")?;
    if !status.success() {
        let text = fs::read_to_string(&log_path).unwrap_or_default();
        let tail: Vec<&str> = text.lines().rev().take(15).collect();
        let tail: Vec<&str> = tail.into_iter().rev().collect();
        bail!("debootstrap failed ({status}), its last words:\n{}", tail.join("\n"));
    }
    tidy(folder)?;
    fs::remove_file(&log_path).context("cannot remove debootstrap's log")
}

/// What a guest never needs, and the one link that lets it find its kernel modules.
fn tidy(root: &Path) -> Result<()> {
    for folder in ["var/cache/apt", "var/lib/apt/lists", "usr/share/doc", "usr/share/man", "usr/share/locale"] {
        let folder = root.join(folder);
        if folder.is_dir() {
            fs::remove_dir_all(&folder).with_context(|| format!("cannot empty {}", folder.display()))?;
            fs::create_dir(&folder)?;
        }
    }
    let modules = root.join("usr/lib/modules");
    if modules.is_dir() {
        fs::remove_dir_all(&modules).context("cannot remove the empty folder of modules")?;
    }
    symlink("uml/modules", &modules).context("cannot link the kernel modules")?;
    ensure!(root.join("usr/bin/linux.uml").is_file(), "the package user-mode-linux brought no linux.uml");
    Ok(())
}

/// debootstrap's script for the suite, installing debootstrap where it is missing.
fn debootstrap_script() -> Result<PathBuf> {
    let script = Path::new("/usr/share/debootstrap/scripts").join(SCRIPT);
    if !script.is_file() {
        eprintln!("installing debootstrap …");
        let install = |arguments: &[&str]| {
            Command::new("apt-get")
                .args(arguments)
                .env("DEBIAN_FRONTEND", "noninteractive")
                .output()
                .context("cannot start apt-get")
        };
        let packages = ["install", "--yes", "--no-install-recommends", "debootstrap", "debian-archive-keyring"];
        if !install(&packages)?.status.success() {
            install(&["update"])?;
            let output = install(&packages)?;
            ensure!(
                output.status.success(),
                "cannot install debootstrap, the lab needs it: {}",
                String::from_utf8_lossy(&output.stderr)
            );
        }
    }
    Ok(script)
}
