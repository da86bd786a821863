//! Disks of a test's own: loop devices over sparse files, real lvm confined to them, and the groups read
//! from them natively.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process;
use std::sync::{Arc, Mutex};

use quarry::host::commands::{Command, CommandError, Commands, Output};
use quarry::host::kernel::{
    BlockDevice, DeviceNumber, FileSystemUsage, Held, Kernel, MappedDevice, Mount, MountEntry, Stretch,
};
use quarry::lvm::groups::{Groups, View};

/// Loop devices with lvm on them; everything is taken away when it is dropped, also by a panic.
pub(crate) struct Lab {
    groups: Groups,
    disks: Arc<Mutex<Vec<Disk>>>,
    folder: tempfile::TempDir,
    paths: Vec<String>,
}

struct Disk {
    file: PathBuf,
    device: String,
    attached: bool,
}

impl Lab {
    /// Disks of so many bytes.
    pub(crate) fn new(sizes: &[u64]) -> Result<Self, String> {
        let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
        let disks = Arc::new(Mutex::new(Vec::new()));
        let seams = Arc::new(Seams { disks: Arc::clone(&disks) });
        let groups = Groups::new(Arc::<Seams>::clone(&seams), seams);
        let mut lab = Self { groups, disks, folder, paths: Vec::new() };
        run(process::Command::new("lvm").arg("version"))?;
        for (index, size) in sizes.iter().enumerate() {
            let file = lab.file(&format!("disk{index}"));
            File::create(&file).and_then(|file| file.set_len(*size)).map_err(|error| error.to_string())?;
            let device = run(process::Command::new("losetup").args(["--find", "--show"]).arg(&file))?;
            lab.paths.push(device.clone());
            lab.disks.lock().unwrap().push(Disk { file, device, attached: true });
        }
        Ok(lab)
    }

    /// The device node of a disk.
    pub(crate) fn disk(&self, index: usize) -> &str {
        &self.paths[index]
    }

    /// A file in the lab's own folder.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Takes a disk off the machine.
    pub(crate) fn detach(&mut self, index: usize) {
        let disk = &mut self.disks.lock().unwrap()[index];
        run(process::Command::new("losetup").args(["--detach", &disk.device])).unwrap();
        disk.attached = false;
    }

    /// Brings a disk back, perhaps under another name.
    pub(crate) fn attach(&mut self, index: usize) {
        let disk = &mut self.disks.lock().unwrap()[index];
        disk.device = run(process::Command::new("losetup").args(["--find", "--show"]).arg(&disk.file)).unwrap();
        disk.attached = true;
        self.paths[index].clone_from(&disk.device);
    }

    /// Writes the start of one disk, where label and metadata lie, to another.
    pub(crate) fn copy_start(&self, from: usize, to: usize) {
        let mut start = vec![0; 1 << 20];
        File::open(self.disk(from)).and_then(|disk| disk.read_exact_at(&mut start, 0)).unwrap();
        self.write_start(to, &start);
    }

    /// Wipes the start of a disk.
    pub(crate) fn clear_start(&self, disk: usize) {
        self.write_start(disk, &vec![0; 1 << 20]);
    }

    fn write_start(&self, disk: usize, bytes: &[u8]) {
        let file = File::options().write(true).open(self.disk(disk)).unwrap();
        file.write_all_at(bytes, 0).and_then(|()| file.sync_all()).unwrap();
    }

    /// What is read natively.
    pub(crate) async fn read(&self) -> Arc<View> {
        self.groups.read().await.unwrap()
    }

    /// Runs lvm without looking at the result's effect.
    pub(crate) async fn quietly<A: AsRef<str>>(&self, arguments: &[A]) {
        let arguments = arguments.iter().map(|argument| argument.as_ref().to_owned());
        let seams = Seams { disks: Arc::clone(&self.disks) };
        seams.run_ok(&Command::new("lvm").arguments(arguments)).await.unwrap();
    }

    /// Runs lvm, then holds what is read natively against what lvm reports.
    pub(crate) async fn lvm<A: AsRef<str>>(&self, arguments: &[A]) {
        self.quietly(arguments).await;
        let words: Vec<_> = arguments.iter().map(AsRef::as_ref).collect();
        self.check(&words.join(" ")).await;
    }

    /// Makes a logical volume as the driver does, inactive, and checks as [`Lab::lvm`] does.
    pub(crate) async fn create(&self, group: &str, name: &str, options: &[&str]) {
        self.lvm(&Self::creation(group, name, options)).await;
    }

    /// The arguments that make a logical volume without activating it.
    pub(crate) fn creation<'a>(group: &'a str, name: &'a str, options: &[&'a str]) -> Vec<&'a str> {
        [&["lvcreate", "-an", "-Zn", "-Wn", "-n", name], options, &[group]].concat()
    }

    /// Holds what is read natively against what lvm reports.
    pub(crate) async fn check(&self, after: &str) {
        assert_eq!(self.groups.compare().await.unwrap(), Vec::<String>::new(), "after {after}");
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        let disks = self.disks.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        for disk in disks.iter().filter(|disk| disk.attached) {
            if let Err(reason) = run(process::Command::new("losetup").args(["--detach", &disk.device])) {
                eprintln!("please detach {} by hand: {reason}", disk.device);
            }
        }
    }
}

fn run(command: &mut process::Command) -> Result<String, String> {
    let output = command.output().map_err(|error| format!("{command:?}: {error}"))?;
    if !output.status.success() {
        return Err(format!("{command:?}: {}", String::from_utf8_lossy(&output.stderr)));
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Both seams, confined to the lab's own disks.
struct Seams {
    disks: Arc<Mutex<Vec<Disk>>>,
}

impl Seams {
    fn devices(&self) -> Vec<String> {
        let disks = self.disks.lock().unwrap();
        disks.iter().filter(|disk| disk.attached).map(|disk| disk.device.clone()).collect()
    }

    /// Keeps lvm away from every other device, from the host's configuration and from device-mapper.
    fn configuration(&self) -> String {
        let accepted: Vec<_> = self.devices().iter().map(|device| format!("\"a|^{device}$|\", ")).collect();
        let accepted = accepted.concat();
        format!(
            "global {{ activation=0 use_aio=0 }} backup {{ backup=0 archive=0 }} \
             devices {{ filter=[{accepted}\"r|.*|\"] global_filter=[{accepted}\"r|.*|\"] use_devicesfile=0 hints=\"none\" }}"
        )
    }
}

#[tonic::async_trait]
impl Commands for Seams {
    async fn run(&self, command: &Command) -> Result<Output, CommandError> {
        assert_eq!(command.program, "lvm");
        let mut process = process::Command::new("lvm");
        process.args(&command.arguments).args(["--config", &self.configuration()]);
        process.envs([("LVM_SUPPRESS_FD_WARNINGS", "1"), ("LC_ALL", "C")]);
        let output = tokio::task::spawn_blocking(move || process.output().unwrap()).await.unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        Ok(Output { status: output.status.code(), stdout: output.stdout, stderr })
    }
}

#[tonic::async_trait]
impl Kernel for Seams {
    async fn block_devices(&self) -> io::Result<Vec<BlockDevice>> {
        let device = |path: String| -> io::Result<BlockDevice> {
            let number = fs::metadata(&path)?.rdev();
            let number = DeviceNumber {
                major: u32::try_from(number >> 8 & 0xfff).unwrap(),
                minor: u32::try_from(number & 0xff).unwrap(),
            };
            let sectors = fs::read_to_string(format!("/sys/class/block/{}/size", &path["/dev/".len()..]))?;
            let size = sectors.trim().parse::<u64>().unwrap() * 512;
            Ok(BlockDevice { path: path.into(), number, size, is_component: false, mapper_uuid: None })
        };
        self.devices().into_iter().map(device).collect()
    }

    async fn read(&self, stretches: Vec<Stretch>) -> Vec<io::Result<Vec<u8>>> {
        let read = |stretch: Stretch| {
            let mut bytes = vec![0; usize::try_from(stretch.length).unwrap()];
            File::open(stretch.device)?.read_exact_at(&mut bytes, stretch.offset)?;
            Ok(bytes)
        };
        stretches.into_iter().map(read).collect()
    }

    async fn mount(&self, _: &Mount) -> io::Result<()> {
        unimplemented!()
    }
    async fn unmount(&self, _: &Path) -> io::Result<()> {
        unimplemented!()
    }
    async fn mounts(&self) -> io::Result<Vec<MountEntry>> {
        unimplemented!()
    }
    async fn device_at(&self, _: &Path) -> io::Result<Option<DeviceNumber>> {
        unreachable!()
    }

    async fn usage(&self, _: &Path) -> io::Result<FileSystemUsage> {
        unimplemented!()
    }
    async fn zero(&self, _: Stretch) -> io::Result<()> {
        unimplemented!()
    }
    async fn discard(&self, _: Stretch) -> io::Result<()> {
        unimplemented!()
    }
    async fn hold(&self, _: &Path) -> io::Result<Held> {
        unimplemented!()
    }
    async fn flush(&self, _: &Path) -> io::Result<()> {
        unimplemented!()
    }
    async fn set_read_only(&self, _: &Path, _: bool) -> io::Result<()> {
        unimplemented!()
    }
    async fn mapped_devices(&self) -> io::Result<Vec<MappedDevice>> {
        unimplemented!()
    }
}
