//! The mount options that are allowed, as ext4(5), xfs(5), btrfs(5) and mount(8) name them.
//!
//! Left out on purpose: options with devices or paths (`journal_path`, `logdev`, `rtdev`, `device`, `subvol`),
//! those that give up safety after a crash (`nobarrier`, `norecovery`, `degraded`), those that can take the
//! machine down (`errors=panic`), and those for debugging.

use super::option_value::Shape;

/// Options of which one counts.
pub(super) struct Choice {
    /// What they decide.
    pub(super) decides: &'static str,
    /// What holds anyway; naming it only takes back one of the others.
    pub(super) default: &'static [&'static str],
    /// What differs from that.
    pub(super) others: &'static [&'static str],
}

/// An option with a value.
pub(super) struct Valued {
    pub(super) name: &'static str,
    pub(super) shape: Shape,
    /// Whether it may stand without a value too.
    pub(super) bare: bool,
}

type Table = (&'static [Choice], &'static [Valued]);

const fn choice(decides: &'static str, default: &'static [&'static str], others: &'static [&'static str]) -> Choice {
    Choice { decides, default, others }
}

/// Both words are named, as which one is the default depends on the kernel or on how the file system was made.
const fn either(decides: &'static str, others: &'static [&'static str]) -> Choice {
    Choice { decides, default: &[], others }
}

const fn valued(name: &'static str, shape: Shape) -> Valued {
    Valued { name, shape, bare: false }
}

const ANY: Shape = Shape::Number(0, u64::MAX);
const DAX: Shape = Shape::Words(&["always", "never", "inode"]);

/// Options of a single mount.
pub(super) const PER_MOUNT: &[Choice] = &[
    choice("access", &["rw"], &["ro"]),
    choice("access time", &["relatime"], &["noatime", "strictatime"]),
    choice("access time of folders", &["diratime"], &["nodiratime"]),
    choice("set-user-id", &["suid"], &["nosuid"]),
    choice("devices", &["dev"], &["nodev"]),
    choice("programs", &["exec"], &["noexec"]),
];

/// Options of any file system.
pub(super) const FILE_SYSTEM: &[Choice] = &[
    choice("writes", &["async"], &["sync"]),
    choice("writes of folders", &[], &["dirsync"]),
    choice("writes of times", &["nolazytime"], &["lazytime"]),
];

/// Options of any file system with a value.
pub(super) const VALUES: &[Valued] = &[
    valued("context", Shape::Label),
    valued("fscontext", Shape::Label),
    valued("defcontext", Shape::Label),
    valued("rootcontext", Shape::Label),
];

pub(super) const EXT4: Table = (
    &[
        either("discard", &["discard", "nodiscard"]),
        either("allocation", &["delalloc", "nodelalloc"]),
        choice("access lists", &["acl"], &[]),
        choice("attributes", &["user_xattr"], &[]),
        either("replaced files", &["auto_da_alloc", "noauto_da_alloc"]),
        either("direct reads", &["dioread_lock", "dioread_nolock"]),
        either("checks", &["block_validity", "noblock_validity"]),
        either("bitmaps", &["prefetch_block_bitmaps", "no_prefetch_block_bitmaps"]),
        either("journal checksums", &["journal_checksum", "nojournal_checksum"]),
        either("lazy tables", &["noinit_itable"]),
        either("versions", &["i_version"]),
        either("user quota", &["usrquota", "quota", "noquota"]),
        either("group quota", &["grpquota"]),
        either("project quota", &["prjquota"]),
    ],
    &[
        valued("barrier", Shape::Number(1, 1)),
        valued("commit", Shape::Number(1, 300)),
        valued("data", Shape::Words(&["ordered", "writeback", "journal"])),
        valued("data_err", Shape::Words(&["abort", "ignore"])),
        valued("dax", DAX),
        valued("errors", Shape::Words(&["continue", "remount-ro"])),
        valued("init_itable", ANY),
        valued("inode_readahead_blks", ANY),
        valued("journal_ioprio", Shape::Number(0, 7)),
        valued("max_batch_time", ANY),
        valued("max_dir_size_kb", ANY),
        valued("min_batch_time", ANY),
        valued("stripe", ANY),
    ],
);

pub(super) const XFS: Table = (
    &[
        choice("discard", &["nodiscard"], &["discard"]),
        choice("duplicates", &[], &["nouuid"]),
        choice("reported block size", &["nolargeio"], &["largeio"]),
        choice("stripes", &[], &["swalloc"]),
        choice("alignment", &[], &["noalign"]),
        choice("streams", &[], &["filestreams"]),
        choice("inode numbers", &["inode64"], &["inode32"]),
        either("inode clusters", &["ikeep", "noikeep"]),
        choice("waiting", &[], &["wsync"]),
        either("user quota", &["uquota", "usrquota", "uqnoenforce", "noquota"]),
        either("group quota", &["gquota", "grpquota", "gqnoenforce"]),
        either("project quota", &["pquota", "prjquota", "pqnoenforce"]),
    ],
    &[
        valued("allocsize", Shape::Size),
        valued("dax", DAX),
        valued("logbsize", Shape::Size),
        valued("logbufs", Shape::Number(2, 8)),
        valued("max_atomic_write", Shape::Size),
        valued("sunit", ANY),
        valued("swidth", ANY),
    ],
);

pub(super) const BTRFS: Table = (
    &[
        either("solid state", &["ssd", "nossd", "ssd_spread", "nossd_spread"]),
        choice("defragmentation", &["noautodefrag"], &["autodefrag"]),
        choice("copy on write", &["datacow"], &["nodatacow"]),
        choice("checksums", &["datasum"], &["nodatasum"]),
        choice("access lists", &["acl"], &["noacl"]),
        choice("flush", &["noflushoncommit"], &["flushoncommit"]),
        choice("log tree", &["treelog"], &["notreelog"]),
        choice("removal", &[], &["user_subvol_rm_allowed"]),
        choice("balance", &[], &["skip_balance"]),
        choice("no discard", &[], &["nodiscard"]),
    ],
    &[
        Valued { name: "compress", shape: Shape::Compression, bare: true },
        Valued { name: "compress-force", shape: Shape::Compression, bare: true },
        Valued { name: "discard", shape: Shape::Words(&["sync", "async"]), bare: true },
        valued("commit", Shape::Number(1, 300)),
        valued("max_inline", Shape::Size),
        valued("metadata_ratio", ANY),
        valued("space_cache", Shape::Words(&["v2"])),
        valued("thread_pool", Shape::Number(1, 1024)),
    ],
);
