//! A temporary folder with loop devices and mounts in it, all taken away at the end, also of a failed test.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, umount2};
use quarry::host::commands::{Command, CommandError, Commands};
use quarry::host::file_system::FileSystem;
use quarry::host::kernel::{Kernel, Mount, Stretch};
use quarry::host::linux::Linux;
use quarry::host::probe::{Content, probe};
use quarry::host::processes::Processes;
use quarry::host::superblock::Superblock;
use quarry::host::{mkfs_options, mount_options};

/// How much is zeroed at both ends of a device before mkfs, bytes.
const EDGE: u64 = 1 << 20;

/// A loop device and the file behind it.
pub(crate) struct Stand {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) device: PathBuf,
    pub(crate) size: u64,
    pub(crate) kernel: Linux,
    pub(crate) processes: Processes,
}

impl Stand {
    /// A device of `size` bytes; `None`, loudly, where there can be none.
    pub(crate) async fn new(size: u64) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let processes = Processes::new();
        let image = folder.path().join("image");
        File::create(&image).unwrap().set_len(size).unwrap();
        let losetup = Command::new("losetup").arguments(["--find", "--show"]).argument(&image);
        match processes.run_ok(&losetup).await {
            Ok(output) => {
                let device = String::from_utf8(output.stdout).unwrap().trim().into();
                Some(Self { folder, device, size, kernel: Linux::new(), processes })
            }
            Err(error) => {
                eprintln!("SKIPPED: no loop device: {error}");
                None
            }
        }
    }

    pub(crate) fn image(&self) -> PathBuf {
        self.folder.path().join("image")
    }

    /// A new folder in the temporary one.
    pub(crate) fn target(&self, name: impl AsRef<Path>) -> PathBuf {
        let target = self.folder.path().join(name);
        std::fs::create_dir_all(&target).unwrap();
        target
    }

    /// Makes the device larger.
    pub(crate) async fn enlarge(&mut self, size: u64) {
        File::options().write(true).open(self.image()).unwrap().set_len(size).unwrap();
        self.run(Command::new("losetup").argument("--set-capacity").argument(&self.device)).await;
        self.size = size;
    }

    pub(crate) fn stretch(&self, offset: u64, length: u64) -> Stretch {
        Stretch { device: self.device.clone(), offset, length }
    }

    /// Writes to the device.
    pub(crate) fn put(&self, offset: u64, bytes: &[u8]) {
        let device = File::options().write(true).open(&self.device).unwrap();
        device.write_all_at(bytes, offset).unwrap();
        device.sync_all().unwrap();
    }

    /// Writes to the file behind the device: what the page cache of the device holds is then out of date.
    pub(crate) fn put_behind(&self, offset: u64, bytes: &[u8]) {
        File::options().write(true).open(self.image()).unwrap().write_all_at(bytes, offset).unwrap();
    }

    /// Whether a mounted file system can be grown here; false, loudly, where this process lacks the right.
    pub(crate) fn can_grow(file_system: FileSystem) -> bool {
        const CAP_SYS_RESOURCE: u64 = 1 << 24;
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let capabilities = status.lines().find_map(|line| line.strip_prefix("CapEff:")).unwrap();
        let may = u64::from_str_radix(capabilities.trim(), 16).unwrap() & CAP_SYS_RESOURCE != 0;
        if file_system == FileSystem::Ext4 && !may {
            eprintln!("SKIPPED: growing a mounted ext4 needs CAP_SYS_RESOURCE, which this process has not");
            return false;
        }
        true
    }

    /// Zeroes both ends, as is done before mkfs.
    pub(crate) async fn zero_edges(&self) {
        for offset in [0, self.size - EDGE] {
            self.kernel.zero(self.stretch(offset, EDGE)).await.unwrap();
        }
    }

    pub(crate) async fn content(&self) -> Content {
        probe(&self.kernel, &self.processes, &self.device, self.size).await.unwrap()
    }

    pub(crate) async fn found(&self) -> Superblock {
        match self.content().await {
            Content::FileSystem(found) => found,
            other => panic!("{other:?}"),
        }
    }

    /// Makes a file system; false, loudly, where mkfs or the kernel's part is missing.
    pub(crate) async fn make(&self, file_system: FileSystem, options: &str) -> bool {
        if !is_known_to_the_kernel(file_system) {
            eprintln!("SKIPPED: this kernel has no {file_system}");
            return false;
        }
        let options: Vec<String> = options.split_whitespace().map(String::from).collect();
        mkfs_options::check(file_system, &options).unwrap();
        match self.processes.run_ok(&file_system.mkfs(&self.device, &options, false)).await {
            Ok(_) => true,
            Err(CommandError::Missing { program }) => {
                eprintln!("SKIPPED: {program} is not installed");
                false
            }
            Err(error) => panic!("{error}"),
        }
    }

    pub(crate) async fn mount(&self, file_system: FileSystem, target: &Path, options: &[&str]) {
        let options: Vec<String> = options.iter().map(|option| (*option).to_owned()).collect();
        let options = mount_options::parse(&options).unwrap();
        mount_options::check(file_system, &options).unwrap();
        let (device, file_system) = (self.device.clone(), file_system.word().to_owned());
        let mount = Mount::FileSystem { device, target: target.to_owned(), file_system, options };
        self.kernel.mount(&mount).await.unwrap();
    }

    /// Grows the file system that is mounted at `target`, and has it written down: a new mount namespace of
    /// somebody else can keep the file system mounted for a while after we have unmounted it.
    pub(crate) async fn grow(&self, file_system: FileSystem, target: &Path) {
        self.run(file_system.grow(&self.device, target)).await;
        for direction in ["--freeze", "--unfreeze"] {
            self.run(Command::new("fsfreeze").argument(direction).argument(target)).await;
        }
    }

    pub(crate) async fn run(&self, command: Command) {
        self.processes.run_ok(&command).await.unwrap();
    }

    /// Runs a tool that only some machines have; false, loudly, where it is missing.
    pub(crate) async fn run_if_installed(&self, command: Command) -> bool {
        match self.processes.run_ok(&command).await {
            Err(CommandError::Missing { program }) => {
                eprintln!("SKIPPED: {program} is not installed");
                false
            }
            result => result.is_ok() || panic!("{result:?}"),
        }
    }
}

fn is_known_to_the_kernel(file_system: FileSystem) -> bool {
    let known = std::fs::read_to_string("/proc/filesystems").unwrap();
    let module = Command::new("modprobe").argument(file_system.word());
    known.lines().any(|line| line.trim() == file_system.word())
        || std::process::Command::new(module.program)
            .args(&module.arguments)
            .status()
            .is_ok_and(|status| status.success())
}

impl Drop for Stand {
    fn drop(&mut self) {
        let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let folder = self.folder.path().to_string_lossy().into_owned();
        let mounts =
            table.lines().filter_map(|line| line.split(' ').nth(4)).filter(|target| target.starts_with(&folder));
        for target in mounts.collect::<Vec<_>>().into_iter().rev() {
            let plain =
                target.replace("\\040", " ").replace("\\011", "\t").replace("\\012", "\n").replace("\\134", "\\");
            if let Err(error) = umount2(plain.as_str(), MntFlags::UMOUNT_NOFOLLOW) {
                eprintln!("left behind: {target}: {error}");
            }
        }
        let detached = std::process::Command::new("losetup").arg("--detach").arg(&self.device).status();
        if !detached.is_ok_and(|status| status.success()) {
            eprintln!("left behind: {}", self.device.display());
        }
    }
}
