//! The mount options that [`mount_options`](super::mount_options) lets pass: kernel documentation of each
//! file system, less what names a device, a path or an identity and less what is for rescue only.

use crate::host::file_system::FileSystem;
use crate::host::option_values::{BIT, COUNT, Pattern, Table};

/// Names that get a message of their own.
pub(super) const NAMES_A_DEVICE_OR_PATH: &[&str] = &[
    "journal_path",
    "journal_dev",
    "logdev",
    "rtdev",
    "device",
    "subvol",
    "subvolid",
    "loop",
    "bind",
    "rbind",
    "move",
];

/// What the kernel keeps for each mount, not for the file system. Of a family the last word counts; the second of a pair
/// only undoes the first.
pub(super) const PER_MOUNT: &[&[&str]] = &[
    &["ro", "rw"],
    &["nosuid", "suid"],
    &["nodev", "dev"],
    &["noexec", "exec"],
    &["nodiratime", "diratime"],
    &["noatime", "relatime", "strictatime"],
];
/// Those of them that every mount has without being told.
pub(super) const PER_MOUNT_ANYWAY: &[&str] = &["rw", "suid", "dev", "exec", "diratime"];

/// The options of the file system itself.
pub(super) fn own(file_system: FileSystem) -> Table {
    match file_system {
        FileSystem::Ext4 => EXT4,
        FileSystem::Xfs => XFS,
        FileSystem::Btrfs => BTRFS,
    }
}

const ALONE: Pattern = Pattern::Nothing;

/// Options that every file system takes.
pub(super) const GENERIC: Table = &[
    ("defaults", ALONE),
    ("ro", ALONE),
    ("rw", ALONE),
    ("noatime", ALONE),
    ("nodiratime", ALONE),
    ("diratime", ALONE),
    ("relatime", ALONE),
    ("strictatime", ALONE),
    ("lazytime", ALONE),
    ("nolazytime", ALONE),
    ("nosuid", ALONE),
    ("suid", ALONE),
    ("nodev", ALONE),
    ("dev", ALONE),
    ("noexec", ALONE),
    ("exec", ALONE),
    ("sync", ALONE),
    ("async", ALONE),
    ("dirsync", ALONE),
    ("context", Pattern::SecurityContext),
    ("fscontext", Pattern::SecurityContext),
    ("defcontext", Pattern::SecurityContext),
    ("rootcontext", Pattern::SecurityContext),
];

const EXT4: Table = &[
    ("discard", ALONE),
    ("nodiscard", ALONE),
    ("journal_checksum", ALONE),
    ("nojournal_checksum", ALONE),
    ("journal_async_commit", ALONE),
    ("delalloc", ALONE),
    ("nodelalloc", ALONE),
    ("user_xattr", ALONE),
    ("nouser_xattr", ALONE),
    ("acl", ALONE),
    ("noacl", ALONE),
    ("nombcache", ALONE),
    ("noinit_itable", ALONE),
    ("noauto_da_alloc", ALONE),
    ("dioread_lock", ALONE),
    ("dioread_nolock", ALONE),
    ("block_validity", ALONE),
    ("noblock_validity", ALONE),
    ("i_version", ALONE),
    ("usrquota", ALONE),
    ("grpquota", ALONE),
    ("prjquota", ALONE),
    ("quota", ALONE),
    ("noquota", ALONE),
    ("data", Pattern::OneOf(&["journal", "ordered", "writeback"])),
    ("data_err", Pattern::OneOf(&["ignore", "abort"])),
    ("commit", COUNT),
    ("barrier", ALONE),
    ("errors", Pattern::OneOf(&["continue", "remount-ro"])),
    ("stripe", COUNT),
    ("inode_readahead_blks", COUNT),
    ("max_batch_time", COUNT),
    ("min_batch_time", COUNT),
    ("init_itable", ALONE),
    ("init_itable", COUNT),
    ("auto_da_alloc", ALONE),
    ("auto_da_alloc", BIT),
    ("journal_ioprio", Pattern::Number(0, 7)),
    ("max_dir_size_kb", COUNT),
    ("resuid", COUNT),
    ("resgid", COUNT),
];

const XFS: Table = &[
    ("attr2", ALONE),
    ("discard", ALONE),
    ("nodiscard", ALONE),
    ("inode32", ALONE),
    ("inode64", ALONE),
    ("largeio", ALONE),
    ("nolargeio", ALONE),
    ("noalign", ALONE),
    ("nouuid", ALONE),
    ("swalloc", ALONE),
    ("wsync", ALONE),
    ("filestreams", ALONE),
    ("uquota", ALONE),
    ("usrquota", ALONE),
    ("gquota", ALONE),
    ("grpquota", ALONE),
    ("pquota", ALONE),
    ("prjquota", ALONE),
    ("uqnoenforce", ALONE),
    ("gqnoenforce", ALONE),
    ("pqnoenforce", ALONE),
    ("quota", ALONE),
    ("noquota", ALONE),
    ("allocsize", Pattern::Size),
    ("logbufs", Pattern::Number(2, 8)),
    ("logbsize", Pattern::Size),
    ("sunit", COUNT),
    ("swidth", COUNT),
];

const COMPRESSIONS: Pattern =
    Pattern::Levels(&[("zlib", 1, 9), ("lzo", 0, 0), ("zstd", -15, 15), ("no", 0, 0), ("none", 0, 0)]);

const BTRFS: Table = &[
    ("nospace_cache", ALONE),
    ("ssd", ALONE),
    ("nossd", ALONE),
    ("ssd_spread", ALONE),
    ("nossd_spread", ALONE),
    ("autodefrag", ALONE),
    ("noautodefrag", ALONE),
    ("nodiscard", ALONE),
    ("acl", ALONE),
    ("noacl", ALONE),
    ("datacow", ALONE),
    ("nodatacow", ALONE),
    ("datasum", ALONE),
    ("nodatasum", ALONE),
    ("flushoncommit", ALONE),
    ("noflushoncommit", ALONE),
    ("barrier", ALONE),
    ("treelog", ALONE),
    ("notreelog", ALONE),
    ("user_subvol_rm_allowed", ALONE),
    ("compress", ALONE),
    ("compress", COMPRESSIONS),
    ("compress-force", ALONE),
    ("compress-force", COMPRESSIONS),
    ("space_cache", ALONE),
    ("space_cache", Pattern::OneOf(&["v1", "v2"])),
    ("discard", ALONE),
    ("discard", Pattern::OneOf(&["sync", "async"])),
    ("commit", COUNT),
    ("max_inline", Pattern::Size),
    ("thread_pool", Pattern::Number(1, 1024)),
    ("metadata_ratio", COUNT),
];
