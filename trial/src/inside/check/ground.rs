//! What cases stand on: a volume group, a disk to make more of them, and a node.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result, ensure};
use quarry::csi::v1;

use super::controller_process::{ControllerProcess, node_arguments};
use super::group::{Group, Slice};
use super::lvm_stand_in::keep_real_lvm;
use super::node_process::NodeProcess;
use super::tools::{answered, lvm, run};
use super::volume::Volume;
use crate::client::{self, Client};

/// Bytes of a MiB.
pub const MIB: i64 = 1 << 20;
/// All paths of volumes lie here, in a file system of memory.
pub(super) const FOLDER: &str = "/srv/check";
/// The group that is always there.
pub(super) const MAIN: &str = "main";

/// The MiB at which the first slice begins: at the head of the disk lvm would see its label twice.
const FIRST_CUT: u64 = 8;
const CLASSES_FILE: &str = "/run/check-classes.yaml";
const CLASSES: &str = "
classes:
- {name: main, default: true, volumeGroups: [main], defaultSize: 12MiB}
- {name: own, volumeGroups: [own]}
- {name: second, volumeGroups: [second]}
- {name: both, volumeGroups: [own, second]}
- {name: share-reserved, volumeGroups: [own], reserve: 25%}
- {name: bytes-reserved, volumeGroups: [own], reserve: 10MiB}
- {name: unwiped, volumeGroups: [main], wipe: none}
- {name: discarded, volumeGroups: [main], wipe: discard}
- {name: tuned, volumeGroups: [main], mkfsOptions: [-m, '0'], mountOptions: [noatime, nodev]}
- {name: thin, volumeGroups: [own], layout: thin}
- {name: growing, volumeGroups: [own], layout: thin, trimEvery: 2s,
   thinPool: {name: growing, size: 64MiB, overcommit: 20, growAt: 75%, growBy: 50%}}
- {name: promising, volumeGroups: [own], layout: thin,
   thinPool: {name: promising, size: 64MiB, overcommit: 100, growAt: 75%, growBy: 50%}}
- {name: fixed, volumeGroups: [own], layout: thin,
   thinPool: {name: fixed, size: 64MiB, overcommit: 20, growAt: 100%}}
- {name: tight, volumeGroups: [own], layout: thin,
   thinPool: {name: tight, size: 300MiB, metadataSize: 4MiB, overcommit: 40, growAt: 95%}}
- {name: other-thin, volumeGroups: [second], layout: thin}
- {name: little, volumeGroups: [own], snapshotReserve: 4MiB}
- {name: paced, volumeGroups: [own], copyRate: 100MiB}
- {name: thin-too, volumeGroups: [own], layout: thin, thinPool: {name: second-pool, size: 400MiB}}
- {name: left, volumeGroups: [own], wipe: none}
- {name: absent, volumeGroups: ['absent-*']}
";

/// A machine with a node under test.
#[derive(Debug)]
pub struct Ground {
    program: PathBuf,
    log: PathBuf,
    disk: String,
    node: Mutex<Option<NodeProcess>>,
    client: Mutex<Client>,
    names: AtomicU64,
    /// MiB of the second disk that slices have taken so far.
    cut: AtomicU64,
}

impl Ground {
    /// Prepares the machine and starts the node; its log goes to the folder of results.
    pub async fn prepare(results: &str) -> Result<Self> {
        keep_real_lvm()?;
        // udev would activate all volumes of a group whose disk is plugged in, whenever it gets round to it.
        fs::create_dir_all("/run/udev/rules.d")?;
        fs::write("/run/udev/rules.d/69-lvm.rules", "")?;
        run(&["udevadm", "control", "--reload"])?;
        run(&["ip", "link", "set", "lo", "up"])?;
        fs::create_dir_all(FOLDER)?;
        run(&["mount", "-t", "tmpfs", "check", FOLDER])?;
        lvm(&["vgcreate", "-q", MAIN, "/dev/ubda"])?;
        fs::write(CLASSES_FILE, CLASSES)?;
        let program = std::env::current_exe()?.with_file_name("quarry");
        let log = Path::new(results).join("check-node.log");
        fs::write(&log, "")?;
        let mut node = NodeProcess::start(&program, Path::new(CLASSES_FILE), &log, &[])?;
        let client = node.client().await?;
        Ok(Self {
            program,
            log,
            disk: String::from("/dev/ubdb"),
            node: Mutex::new(Some(node)),
            client: Mutex::new(client),
            names: AtomicU64::new(0),
            cut: AtomicU64::new(FIRST_CUT),
        })
    }

    /// A client of the node.
    pub fn client(&self) -> Client {
        self.client.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// A name that no other volume has.
    pub fn name(&self, purpose: &str) -> String {
        format!("{purpose}-{}", self.names.fetch_add(1, Ordering::Relaxed))
    }

    /// A new folder.
    pub fn folder(&self, purpose: &str) -> Result<PathBuf> {
        let path = Path::new(FOLDER).join(self.name(purpose));
        fs::create_dir(&path)?;
        Ok(path)
    }

    /// A new volume in the group that is always there.
    pub async fn volume(&self, purpose: &str, mib: i64, capability: v1::VolumeCapability) -> Result<Volume<'_>> {
        self.volume_in(MAIN, MAIN, purpose, mib, capability).await
    }

    /// A new volume of a class in a group.
    pub async fn volume_in(
        &self,
        class: &str,
        group: &str,
        purpose: &str,
        mib: i64,
        capability: v1::VolumeCapability,
    ) -> Result<Volume<'_>> {
        let name = self.name(purpose);
        self.volume_from(self.request(class, &name, mib * MIB, capability), group).await
    }

    /// A new volume of a request.
    pub async fn volume_from(&self, request: v1::CreateVolumeRequest, group: &str) -> Result<Volume<'_>> {
        let name = request.name.clone();
        let capability = request.volume_capabilities.first().cloned().unwrap_or_default();
        let answer = answered(self.client().controller.create_volume(request).await).context("creating")?;
        let made = answer.volume.context("no volume in the answer")?;
        Ok(Volume::new(self, &name, group, &made, capability))
    }

    /// A request for a volume of a class.
    pub fn request(
        &self,
        class: &str,
        name: &str,
        bytes: i64,
        capability: v1::VolumeCapability,
    ) -> v1::CreateVolumeRequest {
        let mut request = client::create(name, bytes, capability);
        request.parameters = client::class(class);
        request
    }

    /// A slice of the second disk.
    pub fn slice(&self, mib: u64) -> Result<Slice> {
        let start = self.cut.fetch_add(mib, Ordering::Relaxed);
        let size: u64 = run(&["blockdev", "--getsize64", &self.disk])?.parse()?;
        // Slices of earlier cases are gone long before the disk has been gone round.
        let start = if (start + mib) << 20 > size {
            self.cut.store(FIRST_CUT + mib, Ordering::Relaxed);
            FIRST_CUT
        } else {
            start
        };
        Slice::cut(self.name("slice"), &self.disk, start, mib)
    }

    /// A volume group of its own, on one slice.
    pub fn group(&self, name: &str, mib: u64) -> Result<Group> {
        Group::make(name, vec![self.slice(mib)?])
    }

    /// The text of the node's log so far.
    pub fn log(&self) -> Result<String> {
        Ok(fs::read_to_string(&self.log)?)
    }

    /// The classes file as it was at first.
    pub fn classes() -> &'static str {
        CLASSES
    }

    /// Replaces the classes file.
    pub fn write_classes(&self, text: &str) -> Result<()> {
        fs::write(CLASSES_FILE, text)?;
        Ok(())
    }

    /// The program under test.
    pub fn program(&self) -> &Path {
        &self.program
    }

    fn take_node(&self) -> Result<NodeProcess> {
        self.node.lock().unwrap_or_else(PoisonError::into_inner).take().context("the node does not run")
    }

    /// SIGKILL of the node, and a new one.
    pub async fn crash(&self) -> Result<()> {
        self.kill()?;
        self.start().await
    }

    /// SIGKILL of the node and of the programs that it has started, as when its container ends.
    pub fn kill_with_children(&self) -> Result<()> {
        self.take_node()?.kill_with_children()
    }

    /// SIGKILL of the node.
    pub fn kill(&self) -> Result<()> {
        self.take_node()?.kill()
    }

    /// SIGTERM of the node; does not wait.
    pub fn terminate(&self) -> Result<()> {
        let node = self.node.lock().unwrap_or_else(PoisonError::into_inner);
        node.as_ref().context("the node does not run")?.terminate()
    }

    /// Waits for the node's end, which must be a good one.
    pub async fn ended(&self) -> Result<()> {
        let status = self.take_node()?.ended().await?;
        ensure!(status.success(), "the node ended with {status}");
        Ok(())
    }

    /// Starts a node again.
    pub async fn start(&self) -> Result<()> {
        self.start_with(&[]).await
    }

    /// From now on calls go through a controller, but those that kubelet makes; until the node is started again.
    pub async fn put_controller_before(&self) -> Result<ControllerProcess> {
        self.kill()?;
        self.start_with(&node_arguments(&self.program)?).await?;
        let (controller, client) = ControllerProcess::start(&self.program, &self.log).await?;
        let node = self.client().node;
        *self.client.lock().unwrap_or_else(PoisonError::into_inner) = Client { node, ..client };
        Ok(controller)
    }

    async fn start_with(&self, further: &[String]) -> Result<()> {
        let mut node = NodeProcess::start(&self.program, Path::new(CLASSES_FILE), &self.log, further)?;
        let client = node.client().await?;
        *self.node.lock().unwrap_or_else(PoisonError::into_inner) = Some(node);
        *self.client.lock().unwrap_or_else(PoisonError::into_inner) = client;
        Ok(())
    }

    /// That the node under test has not ended by itself.
    pub fn ensure_node_runs(&self) -> Result<()> {
        let mut node = self.node.lock().unwrap_or_else(PoisonError::into_inner);
        ensure!(node.as_mut().context("the node does not run")?.is_running()?, "the node ended by itself");
        Ok(())
    }

    /// Makes the machine usable again after a case that failed, by force.
    pub async fn sweep(&self) -> Result<()> {
        if let Ok(node) = self.take_node() {
            node.kill()?;
        }
        self.write_classes(CLASSES)?;
        super::machine_state::sweep()?;
        self.start().await
    }

    /// SIGTERM of the node at the end of all cases; it must end well.
    pub async fn end(&self) -> Result<()> {
        self.terminate()?;
        self.ended().await
    }
}
