//! What is measured of a node: suites, each on a machine of its own.

use super::processor::Share;

/// Phases that are measured on one machine, one after the other.
#[derive(Debug)]
pub struct Suite {
    /// Its name.
    pub name: &'static str,
    /// The name of the file with its figures.
    pub file: &'static str,
    /// What its machine runs on.
    pub processors: Share,
    /// In this order.
    pub phases: &'static [&'static str],
    /// The figures in the order of the table.
    pub figures: &'static [&'static str],
    /// The node's classes file.
    pub classes: &'static str,
    /// What pvcreate is told of the volume group's disk.
    pub disk_options: &'static str,
}

/// The files with figures.
pub const FILES: [&str; 2] = ["node", "thin"];
/// All of them.
pub const SUITES: [Suite; 3] = [NODE, THIN, DISKS];

/// Thick volumes, and what every volume has.
const NODE: Suite = Suite {
    name: "node",
    file: "node",
    processors: Share::One,
    // A bare `lvcreate` asks before it wipes what an earlier file system left on the same blocks, so those that compare it
    // come before anything is formatted.
    phases: &["create", "delete", "burst", "publish", "processes", "stage", "memory", "binary"],
    figures: &[
        "create_volume_p50_ratio",
        "delete_volume_p50_ratio",
        "burst_100_create_ratio",
        "stage_fresh_ratio",
        "publish_p50_ms",
        "unpublish_p50_ms",
        "lvm_processes_publish",
        "lvm_processes_unpublish",
        "lvm_processes_stats",
        "lvm_processes_capacity",
        "lvm_processes_list",
        "rss_500_mib",
        "binary_mib",
        // Not a figure of the node but of the deletion as a whole, its work in the background included.
        "delete_until_gone_p50_ratio",
    ],
    classes: "\
classes:
- name: bench
  default: true
  volumeGroups: [data]
  wipe: none
",
    disk_options: "",
};

/// Thin volumes and snapshots, and many of them.
const THIN: Suite = Suite {
    name: "thin",
    file: "thin",
    processors: Share::One,
    // The crowd makes every lvm command slow, so it comes last.
    phases: &["thin-create", "thin-snapshot", "thin-clone", "thin-restore", "changed-blocks", "crowd"],
    figures: &[
        "thin_create_ratio",
        "thin_snapshot_ratio",
        "thin_clone_ratio",
        "thin_restore_ready_ms",
        "thin_restore_ready_ratio",
        "capacity_p50_ms",
        "capacity_p99_ms",
        "list_snapshots_p50_ms",
        "list_snapshots_p99_ms",
        "lvm_processes_idle_per_min",
        "rss_mib",
        "changed_blocks_mib_per_s",
    ],
    classes: THIN_CLASSES,
    // The text of 2,500 volumes is larger than LVM's default area.
    disk_options: "--metadatasize 64m",
};

/// What the disks have to do for copies and snapshots.
const DISKS: Suite = Suite {
    name: "disks",
    file: "thin",
    processors: Share::All,
    phases: &["copy", "snapshot-writes"],
    figures: &[
        "copy_rate_ratio",
        "thick_snapshot_first_writes_ratio",
        "thick_snapshot_later_writes_ratio",
        "thin_snapshot_first_writes_ratio",
        "thin_snapshot_later_writes_ratio",
    ],
    classes: THIN_CLASSES,
    disk_options: "",
};

/// Room to promise 2,500 volumes of 1 GiB each; lvm zeroes all of a new pool's metadata, so that is no larger than it must be.
const THIN_CLASSES: &str = "\
classes:
- name: thin
  default: true
  volumeGroups: [data]
  layout: thin
  thinPool: {size: 64Gi, metadataSize: 256Mi, overcommit: '50.0'}
- name: thick
  volumeGroups: [data]
  wipe: none
";
