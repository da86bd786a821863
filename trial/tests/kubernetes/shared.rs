//! The cluster that the tests share.

use std::sync::LazyLock;

use quarry_lab::{ClusterOptions, Disk};
use quarry_trial::kubernetes::manifests::{group_snapshot_class, snapshot_class, storage_class};
use quarry_trial::kubernetes::{Installed, Namespace, make_group};
use serde_json::json;

/// The group on two of the three workers, with room for few volumes.
pub(crate) const SMALL_GROUP: &str = "small";
/// The class and `StorageClass` of that group.
pub(crate) const SMALL: &str = "small";
/// A `StorageClass` each for a file system that is not the default.
pub(crate) const XFS: &str = "quarry-xfs";
pub(crate) const BTRFS: &str = "quarry-btrfs";

/// The class and `StorageClass` of thin volumes, in a group of that name on each worker.
pub(crate) const THIN: &str = "thin";
pub(crate) const THIN_XFS: &str = "thin-xfs";

// Nothing drops it; the lab ends what a test leaves when the test's process ends.
static SHARED: LazyLock<Installed> = LazyLock::new(|| start().expect("a cluster with Quarry in it"));

/// The cluster, started by who asks first.
pub(crate) fn installed() -> &'static Installed {
    &SHARED
}

/// A namespace of a test.
pub(crate) fn namespace(name: &str) -> Namespace<'static> {
    Namespace::make(installed(), name).unwrap()
}

fn start() -> anyhow::Result<Installed> {
    let disks = ClusterOptions::new().disk(Disk::plain("disk", 16 << 30)).disk(Disk::plain("small", 1 << 30));
    let installed = Installed::start_with(&disks.disk(Disk::plain(THIN, 8 << 30)).audit().verbose())?;
    installed.install_snapshots()?;
    for worker in installed.cluster.workers() {
        make_group(worker, THIN, THIN)?;
    }
    for worker in &installed.cluster.workers()[..2] {
        make_group(worker, SMALL_GROUP, "small")?;
    }
    let classes = "classes:
- {name: standard, default: true, volumeGroups: [quarry], reserve: 5%, wipe: zero}
- {name: small, volumeGroups: [small]}
- {name: thin, volumeGroups: [thin], layout: thin, thinPool: {size: 80%, overcommit: 2.0}}
";
    let file_system = |name: &str| json!({"csi.storage.k8s.io/fstype": name});
    installed.apply(&[
        // The nodes learn of it within a minute or so; meanwhile the other tests run.
        json!({
            "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "quarry-classes", "namespace": "quarry"},
            "data": {"classes.yaml": classes},
        }),
        storage_class(SMALL, &json!({"class": SMALL})),
        snapshot_class(),
        group_snapshot_class(),
        storage_class(THIN, &json!({"class": THIN})),
        storage_class(THIN_XFS, &json!({"class": THIN, "csi.storage.k8s.io/fstype": "xfs"})),
        storage_class(XFS, &file_system("xfs")),
        storage_class(BTRFS, &file_system("btrfs")),
    ])?;
    Ok(installed)
}
