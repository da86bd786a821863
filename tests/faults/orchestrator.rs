//! What Kubernetes does to the driver: calls it until it answers well, and after a reboot asks for
//! everything again that it was told is there.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use quarry::config::classes::Classes;
use quarry::config::watch::ClassesInForce;
use quarry::csi::v1;
use quarry::csi::v1::controller_server::Controller as _;
use quarry::csi::v1::node_server::Node as _;
use quarry::lvm::backup::Backups;
use quarry::node::controller_service::ControllerService;
use quarry::node::node_service::NodeService;
use quarry::node::{Identity, Node, reaper};
use tempfile::TempDir;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::{Code, Request, Status};

use crate::call::{Call, Use};
use crate::disk_format::EXTENT;
use crate::seat::{Bench, Seat};

/// How often a call is repeated. One thing goes wrong, so more than a few means that it never gets right.
const TRIES: usize = 90;
/// A background job that has failed is tried again within a minute.
const TIME_TO_REAP: Duration = Duration::from_secs(200);
/// What a user writes, and where: a new file system's making would overwrite it.
pub(crate) const DATA: &[u8] = b"the data of a user";
pub(crate) const DATA_AT: usize = 512 << 10;

/// What the driver has answered OK for.
#[derive(Debug, Default, Clone)]
pub(crate) struct Known {
    /// The extents of each volume.
    pub(crate) volumes: BTreeMap<&'static str, usize>,
    pub(crate) staged: BTreeMap<&'static str, Use>,
    pub(crate) published: Vec<(&'static str, &'static str, Use)>,
    pub(crate) written: Vec<&'static str>,
    /// The deleted ones by number, too: their names may be taken again.
    pub(crate) deleted: Vec<(&'static str, u64)>,
    numbers: BTreeMap<&'static str, u64>,
}

pub(crate) struct Orchestrator {
    pub(crate) bench: Arc<Bench>,
    pub(crate) node: Arc<Node>,
    seat: Seat,
    stop: CancellationToken,
    folder: TempDir,
    pub(crate) known: Known,
}

pub(crate) fn new_node(seat: &Seat) -> Arc<Node> {
    let classes = "classes:\n- {name: fast, default: true, volumeGroups: [vg]}\n- {name: other, volumeGroups: [vg-2]}\n\
         - {name: quick, volumeGroups: [vg], wipe: none}\n- {name: trimmed, volumeGroups: [vg], wipe: discard}\n";
    let classes = Classes::parse(classes, quarry::host::check_options).unwrap();
    let identity = Identity {
        driver: "lvm.quarry.storage".into(),
        name: "node-1".into(),
        topology: "node-1".into(),
        max_volumes: 0,
    };
    let (commands, kernel) = (Arc::new(seat.clone()), Arc::new(seat.clone()));
    // The fake of lvm keeps its backups to itself; those of the machine that tests must not count.
    let backups = Backups::in_folder("/nonexistent");
    Node::new(identity, Arc::new(ClassesInForce::fixed(classes)), commands, kernel, backups, TaskTracker::new())
}

pub(crate) fn volume_id(name: &str) -> String {
    format!("node-1/{name}")
}

impl Orchestrator {
    pub(crate) fn new(bench: &Arc<Bench>) -> Self {
        let seat = Seat::new(bench);
        let node = new_node(&seat);
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("pods")).unwrap();
        let (bench, stop) = (Arc::clone(bench), CancellationToken::new());
        Self { bench, node, seat, stop, folder, known: Known::default() }
    }

    /// A new process of the driver, with nothing remembered and no background work yet.
    pub(crate) fn restart(&mut self) {
        self.seat.dead.cancel();
        self.stop.cancel();
        self.seat = Seat::new(&self.bench);
        self.node = new_node(&self.seat);
        self.stop = CancellationToken::new();
    }

    pub(crate) fn start_reaper_after(&self, pause: Duration) {
        let (node, stop) = (Arc::clone(&self.node), self.stop.clone());
        tokio::spawn(async move {
            sleep(pause).await;
            reaper::run(node, stop).await;
        });
    }

    /// The folder in which everything is shown.
    pub(crate) fn root(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn staging(&self, name: &str) -> PathBuf {
        self.root().join(format!("staging-{name}"))
    }

    pub(crate) fn target(&self, target: &str) -> PathBuf {
        self.root().join("pods").join(target)
    }

    /// Repeats a call until it ends as it should, whatever happens to the driver meanwhile.
    pub(crate) async fn perform(&mut self, call: Call) {
        let mut last = String::new();
        for _ in 0..TRIES {
            self.revive().await;
            let dead = self.seat.dead.clone();
            let answer = tokio::select! {
                biased;
                () = dead.cancelled() => continue,
                answer = timeout(Duration::from_mins(10), self.once(call)) => answer,
            };
            let answer = answer.unwrap_or_else(|_| panic!("{call:?} is never answered"));
            match (answer, call.expected()) {
                (Ok(()), Code::Ok) => return self.note(call),
                (Ok(()), _) => panic!("{call:?} went well"),
                (Err(status), expected) => {
                    self.judge(call, &status);
                    if status.code() == expected {
                        return;
                    }
                    last = status.to_string();
                }
            }
            sleep(Duration::from_secs(1)).await;
        }
        panic!("{call:?} never gets right: {last}");
    }

    /// A driver that has died is started again; after a reboot what was there is asked for again.
    async fn revive(&mut self) {
        if !self.seat.dead.is_cancelled() {
            return;
        }
        self.restart();
        self.start_reaper_after(Duration::ZERO);
        if self.bench.take_power_cut() {
            self.come_back().await;
        }
    }

    /// The power comes back: what was answered must be there, and is asked for again.
    async fn come_back(&mut self) {
        crate::observation::assert_kept(&self.bench.machine(), &self.known);
        let known = self.known.clone();
        for (name, how) in known.staged {
            Box::pin(self.perform(Call::Stage(name, how))).await;
        }
        for (name, target, how) in known.published {
            Box::pin(self.perform(Call::Publish(name, target, how))).await;
        }
    }

    /// The power fails although all is well.
    pub(crate) async fn lose_power(&mut self) {
        self.bench.machine().lose_power(crate::disk::Survivors::Nothing);
        self.restart();
        self.start_reaper_after(Duration::ZERO);
        self.come_back().await;
    }

    /// Waits until the driver has nothing to do in the background.
    pub(crate) async fn settle(&mut self) {
        let mut rest = TIME_TO_REAP;
        for second in 0.. {
            self.revive().await;
            let is_done = {
                let machine = self.bench.machine();
                let mut volumes = machine.groups.iter().flat_map(|group| &group.volumes);
                // A backup that failed is tried again after a minute.
                second >= if machine.is_backed_up("vg") { 12 } else { 70 }
                    && !volumes.any(crate::lvm::LogicalVolume::is_deleting)
            };
            if is_done {
                return;
            }
            rest = rest.checked_sub(Duration::from_secs(1)).expect("deleted volumes are never removed");
            sleep(Duration::from_secs(1)).await;
        }
    }

    /// One try.
    pub(crate) async fn once(&self, call: Call) -> Result<(), Status> {
        let controller = ControllerService { node: Arc::clone(&self.node) };
        let node = NodeService { node: Arc::clone(&self.node) };
        match call {
            Call::Create(name, class, extents) | Call::CreateTooLarge(name, class, extents) => {
                let answer = controller.create_volume(Request::new(create(name, class, extents))).await?;
                let volume = answer.into_inner().volume.unwrap();
                assert_eq!(volume.volume_id, volume_id(name));
                assert_eq!(volume.capacity_bytes, bytes(extents));
            }
            Call::Delete(name) => {
                let request =
                    v1::DeleteVolumeRequest { volume_id: volume_id(name), ..v1::DeleteVolumeRequest::default() };
                controller.delete_volume(Request::new(request)).await?;
            }
            Call::Grow(name, extents) => {
                let request = v1::ControllerExpandVolumeRequest {
                    volume_id: volume_id(name),
                    capacity_range: Some(range(extents)),
                    ..v1::ControllerExpandVolumeRequest::default()
                };
                controller.controller_expand_volume(Request::new(request)).await?;
            }
            Call::GrowMounted(name, target, extents) => {
                let request = v1::NodeExpandVolumeRequest {
                    volume_id: volume_id(name),
                    volume_path: text(&self.target(target)),
                    capacity_range: Some(range(extents)),
                    ..v1::NodeExpandVolumeRequest::default()
                };
                node.node_expand_volume(Request::new(request)).await?;
            }
            Call::Stage(name, how) => {
                fs::create_dir_all(self.staging(name)).unwrap();
                let request = v1::NodeStageVolumeRequest {
                    volume_id: volume_id(name),
                    staging_target_path: text(&self.staging(name)),
                    volume_capability: Some(how.capability()),
                    ..v1::NodeStageVolumeRequest::default()
                };
                node.node_stage_volume(Request::new(request)).await?;
            }
            Call::Unstage(name) => {
                let request = v1::NodeUnstageVolumeRequest {
                    volume_id: volume_id(name),
                    staging_target_path: text(&self.staging(name)),
                };
                node.node_unstage_volume(Request::new(request)).await?;
            }
            Call::Publish(name, target, how) => {
                let request = v1::NodePublishVolumeRequest {
                    volume_id: volume_id(name),
                    staging_target_path: text(&self.staging(name)),
                    target_path: text(&self.target(target)),
                    volume_capability: Some(how.capability()),
                    readonly: how.is_read_only(),
                    ..v1::NodePublishVolumeRequest::default()
                };
                node.node_publish_volume(Request::new(request)).await?;
            }
            Call::Unpublish(name, target) => {
                let request = v1::NodeUnpublishVolumeRequest {
                    volume_id: volume_id(name),
                    target_path: text(&self.target(target)),
                };
                node.node_unpublish_volume(Request::new(request)).await?;
            }
            Call::Write(target) => {
                // A user who writes and syncs; not an effect of the driver.
                let mut machine = self.bench.machine();
                let minor = machine.shown_at(&self.target(target)).expect("nothing is shown to the user");
                machine.write_device(minor, DATA_AT, DATA);
                machine.flush_device(minor);
            }
        }
        Ok(())
    }

    fn note(&mut self, call: Call) {
        let known = &mut self.known;
        match call {
            Call::Create(name, _, extents) | Call::Grow(name, extents) | Call::GrowMounted(name, _, extents) => {
                let size = known.volumes.entry(name).or_default();
                *size = extents.max(*size);
                let machine = self.bench.machine();
                let number = machine.groups.iter().find_map(|group| group.volume(name)).map(|volume| volume.number);
                known.numbers.extend(number.map(|number| (name, number)));
            }
            Call::Stage(name, how) => drop(known.staged.insert(name, how)),
            Call::Unstage(name) => drop(known.staged.remove(name)),
            Call::Publish(name, target, how) => {
                known.published.retain(|(_, other, _)| *other != target);
                known.published.push((name, target, how));
            }
            Call::Unpublish(_, target) => known.published.retain(|(_, other, _)| *other != target),
            Call::Write(target) => {
                let shown = known.published.iter().find(|(_, other, _)| *other == target);
                known.written.extend(shown.map(|(name, _, _)| *name));
            }
            Call::Delete(name) => {
                known.volumes.remove(name);
                known.written.retain(|other| *other != name);
                known.deleted.extend(known.numbers.remove(name).map(|number| (name, number)));
            }
            Call::CreateTooLarge(..) => {}
        }
    }

    /// An answer that makes the caller give up or go elsewhere must be true.
    fn judge(&self, call: Call, status: &Status) {
        match (status.code(), call.expected()) {
            (Code::ResourceExhausted, _) => {
                let machine = self.bench.machine();
                let is_left = machine.groups.iter().any(|group| group.volume(call.volume()).is_some());
                assert!(!is_left, "{call:?} answers that there is no room, but left something behind: {status}");
            }
            (Code::Internal | Code::Unavailable | Code::Aborted, _) => {}
            (code, expected) => assert_eq!(code, expected, "{call:?} answers {status}"),
        }
    }
}

fn create(name: &str, class: &str, extents: usize) -> v1::CreateVolumeRequest {
    v1::CreateVolumeRequest {
        name: name.to_owned(),
        capacity_range: Some(range(extents)),
        volume_capabilities: vec![Use::Mount.capability()],
        parameters: [("class".to_owned(), class.to_owned())].into(),
        ..v1::CreateVolumeRequest::default()
    }
}

fn range(extents: usize) -> v1::CapacityRange {
    v1::CapacityRange { required_bytes: bytes(extents), limit_bytes: 0 }
}

fn bytes(extents: usize) -> i64 {
    i64::try_from(extents * EXTENT).unwrap()
}

fn text(path: &Path) -> String {
    path.to_str().unwrap().to_owned()
}
