//! What Kubernetes does to the driver: calls it until it answers well, and after a reboot asks for
//! everything again that it was told is there.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use quarry::config::classes::Classes;
use quarry::config::watch::ClassesInForce;
use quarry::lvm::backup::Backups;
use quarry::node::snapshot::reserve;
use quarry::node::{Identity, Node, pools, reaper};
use sha2::{Digest, Sha256};
use tempfile::TempDir;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::{Code, Status};

use crate::call::Call;
use crate::known::Known;
use crate::lvm::{Kind, LogicalVolume};
use crate::requests::id;
use crate::seat::{Bench, Seat};

/// How often a call is repeated. One thing goes wrong, so more than a few means that it never gets right.
const TRIES: usize = 90;
/// A background job that has failed is tried again within a minute.
const TIME_TO_REAP: Duration = Duration::from_secs(200);
pub(crate) struct Orchestrator {
    pub(crate) bench: Arc<Bench>,
    pub(crate) node: Arc<Node>,
    seat: Seat,
    stop: CancellationToken,
    folder: TempDir,
    pub(crate) known: Known,
    /// Whether the background work looks after pools and thick snapshots, too.
    pub(crate) is_guarded: bool,
}

pub(crate) fn new_node(seat: &Seat) -> Arc<Node> {
    let classes = "classes:\n- {name: fast, default: true, volumeGroups: [vg]}\n- {name: other, volumeGroups: [vg-2]}\n\
         - {name: quick, volumeGroups: [vg], wipe: none}\n- {name: trimmed, volumeGroups: [vg], wipe: discard}\n\
         - {name: thin, volumeGroups: [vg], layout: thin, thinPool: {size: 16Mi, overcommit: '3.0'}}\n\
         - {name: xfs, volumeGroups: [vg], layout: thin, fileSystem: xfs, thinPool: {name: files, size: 16Mi, overcommit: '60'}}\n\
         - {name: btrfs, volumeGroups: [vg], layout: thin, fileSystem: btrfs, thinPool: {name: files, size: 16Mi, overcommit: '60'}}\n\
         - {name: other-thin, volumeGroups: [vg-2], layout: thin, thinPool: {name: other-pool, size: 16Mi}}\n";
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
    let (classes, detached) = (Arc::new(ClassesInForce::fixed(classes)), TaskTracker::new());
    Node::new(identity, classes, commands, kernel, backups, detached, CancellationToken::new())
}

impl Orchestrator {
    pub(crate) fn new(bench: &Arc<Bench>) -> Self {
        let seat = Seat::new(bench);
        let node = new_node(&seat);
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("pods")).unwrap();
        let (bench, stop) = (Arc::clone(bench), CancellationToken::new());
        Self { bench, node, seat, stop, folder, known: Known::default(), is_guarded: false }
    }

    /// A new process of the driver, with nothing remembered and no background work yet.
    pub(crate) fn restart(&mut self) {
        self.seat.dead.cancel();
        self.stop.cancel();
        self.seat = Seat::new(&self.bench);
        self.node = new_node(&self.seat);
        self.stop = CancellationToken::new();
    }

    /// Starts what looks after pools and thick snapshots.
    pub(crate) fn start_guards(&self) {
        tokio::spawn(pools::watch::run(Arc::clone(&self.node), self.stop.clone()));
        tokio::spawn(reserve::run(Arc::clone(&self.node), self.stop.clone()));
    }

    pub(crate) fn start_reaper_after(&self, pause: Duration) {
        let (node, stop) = (Arc::clone(&self.node), self.stop.clone());
        tokio::spawn(async move {
            sleep(pause).await;
            reaper::run(node, stop).await;
        });
    }

    /// The background work of a scenario.
    pub(crate) fn start_background_after(&self, pause: Duration) {
        self.start_reaper_after(pause);
        if self.is_guarded {
            self.start_guards();
        }
    }

    /// The folder in which everything is shown.
    pub(crate) fn root(&self) -> &Path {
        self.folder.path()
    }

    /// As kubelet names it.
    pub(crate) fn staging(&self, name: &str) -> PathBuf {
        let folder = Sha256::digest(id(name)).iter().fold(String::new(), |hash, byte| format!("{hash}{byte:02x}"));
        self.root().join("plugins/kubernetes.io/csi/lvm.quarry.storage").join(folder).join("globalmount")
    }

    pub(crate) fn target(&self, target: &str) -> PathBuf {
        self.root().join("pods").join(target)
    }

    /// Repeats a call until it ends as it should, whatever happens to the driver meanwhile.
    pub(crate) async fn perform(&mut self, call: Call) {
        let mut last = String::new();
        self.known.note_asked(call);
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
                (Ok(()), Code::Ok) => return self.known.note(call, &self.bench.machine()),
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
        self.start_background_after(Duration::ZERO);
        if self.bench.take_power_cut() {
            self.come_back().await;
        }
    }

    /// The power comes back: what was answered must be there, and is asked for again.
    async fn come_back(&mut self) {
        self.known.assert_kept(&self.bench.machine());
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
        self.start_background_after(Duration::ZERO);
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
                // A backup that failed is tried again after a minute; so long it may take until a pool is looked at.
                let rest = if machine.is_backed_up("vg") && !self.is_guarded { 12 } else { 70 };
                second >= rest && !volumes.any(is_leftover)
            };
            if is_done {
                return;
            }
            rest = rest.checked_sub(Duration::from_secs(1)).expect("deleted volumes are never removed");
            sleep(Duration::from_secs(1)).await;
        }
    }

    /// An answer that makes the caller give up or go elsewhere must be true.
    fn judge(&self, call: Call, status: &Status) {
        match (status.code(), call.expected()) {
            (Code::ResourceExhausted, _) => {
                let machine = self.bench.machine();
                let name = call.logical_name();
                let left = machine.groups.iter().find_map(|group| group.volume(&name));
                let is_left = left.is_some_and(|volume| !volume.is_deleting());
                assert!(!is_left, "{call:?} answers that there is no room, but left something behind: {status}");
            }
            (Code::Internal | Code::Unavailable | Code::Aborted, _) => {}
            (code, expected) => assert_eq!(code, expected, "{call:?} answers {status}"),
        }
    }
}

/// Whether the driver has still to remove it: it is deleted, was made for a copy, or is what is left of something that was
/// never whole.
fn is_leftover(volume: &LogicalVolume) -> bool {
    let is_broken_off = volume.is_quarrys() && volume.kind == Kind::Plain && !volume.is_volume();
    let is_for_a_time = ["quarry.kind=copy-source", "quarry.kind=incomplete-snapshot"];
    volume.is_deleting() || is_for_a_time.iter().any(|kind| volume.has_tag(kind)) || is_broken_off
}
