//! What is measured of a node: suites, each on a machine of its own.

/// Phases that are measured on one machine, one after the other.
#[derive(Debug)]
pub struct Suite {
    /// Its name, and that of the file with its figures.
    pub name: &'static str,
    /// In this order.
    pub phases: &'static [&'static str],
    /// The figures in the order of the table.
    pub figures: &'static [&'static str],
    /// The node's classes file.
    pub classes: &'static str,
    /// What pvcreate is told of the volume group's disk.
    pub disk_options: &'static str,
}

/// All of them.
pub const SUITES: [Suite; 2] = [NODE, THIN];

/// Thick volumes, and what every volume has.
const NODE: Suite = Suite {
    name: "node",
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

/// Thin volumes, snapshots and copies.
const THIN: Suite = Suite {
    name: "thin",
    // The crowd makes every lvm command slow, so it comes last.
    phases: &[
        "thin-create",
        "thin-snapshot",
        "thin-clone",
        "thin-restore",
        "copy",
        "snapshot-writes",
        "changed-blocks",
        "crowd",
    ],
    figures: &[
        "thin_create_ratio",
        "thin_snapshot_ratio",
        "thin_clone_ratio",
        "thin_restore_ready_ms",
        "thin_restore_ready_ratio",
        "copy_rate_ratio",
        "capacity_p50_ms",
        "capacity_p99_ms",
        "list_snapshots_p50_ms",
        "list_snapshots_p99_ms",
        "lvm_processes_idle_per_min",
        "rss_mib",
        "changed_blocks_mib_per_s",
        "thick_snapshot_first_writes_ratio",
        "thick_snapshot_later_writes_ratio",
        "thin_snapshot_first_writes_ratio",
        "thin_snapshot_later_writes_ratio",
    ],
    // Room to promise 2,500 volumes of 1 GiB each; lvm zeroes all of a new pool's metadata, so that is no larger than it must be.
    classes: "\
classes:
- name: thin
  default: true
  volumeGroups: [data]
  layout: thin
  thinPool: {size: 64Gi, metadataSize: 256Mi, overcommit: '50.0'}
- name: thick
  volumeGroups: [data]
  wipe: none
",
    // The text of 2,500 volumes is larger than LVM's default area.
    disk_options: "--metadatasize 64m",
};
