//! What can be wrong with a thin pool, and what to do about it.

use std::fmt;

use crate::host::kernel::{PoolMode, PoolStatus};
use crate::lvm::model::Pool;
use crate::lvm::pool::growth::metadata_runs_out;
use crate::node::health::Severity;

/// What is wrong with a pool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::node) enum Trouble {
    /// It could not be activated, for this reason.
    NotActivated(String),
    /// It does not say how it is.
    Silent,
    Failed,
    NeedsCheck,
    ReadOnly,
    DataFull,
    MetadataFull,
    /// lvm makes nothing more in it, to keep room for the writes to what there is.
    MetadataLow,
    /// lvm's count of changes and the pool's differ.
    OutOfStep {
        lvm: u64,
        pool: u64,
    },
    /// It fills, and nothing is left to grow it by.
    Filling,
    /// It fills, and is its administrator's to grow.
    FillingUntended,
}

impl Trouble {
    /// In one word, for programs.
    pub(in crate::node) fn reason(&self) -> &'static str {
        match self {
            Self::NotActivated(_) => "ThinPoolInactive",
            Self::Silent => "ThinPoolSilent",
            Self::Failed => "ThinPoolFailed",
            Self::NeedsCheck => "ThinPoolNeedsCheck",
            Self::ReadOnly => "ThinPoolReadOnly",
            Self::DataFull => "ThinPoolFull",
            Self::MetadataFull => "ThinPoolMetadataFull",
            Self::MetadataLow => "ThinPoolMetadataFilling",
            Self::OutOfStep { .. } => "ThinPoolOutOfStep",
            Self::Filling | Self::FillingUntended => "ThinPoolFilling",
        }
    }

    /// How bad it is for the volumes in the pool.
    pub(in crate::node) fn severity(&self) -> Severity {
        match self {
            Self::NotActivated(_) | Self::Silent | Self::Failed => Severity::Inaccessible,
            _ => Severity::Degraded,
        }
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self {
            Self::NotActivated(reason) => {
                return write!(formatter, "could not be activated, which is tried again: {reason}");
            }
            Self::Silent => "does not answer; see the kernel's log for the disk that it is on",
            Self::Failed => {
                "has failed; see the kernel's log, then stop its users, deactivate it and run lvconvert --repair"
            }
            Self::NeedsCheck => "needs a check; stop its users, deactivate it and run lvconvert --repair",
            Self::ReadOnly => {
                "is read-only; see the kernel's log, then stop its users, deactivate it and run lvconvert --repair"
            }
            Self::DataFull => {
                "has no room for data left, and writes that need some fail; extend it, or delete volumes and snapshots"
            }
            Self::MetadataFull => "has no room for metadata left; extend it with lvextend --poolmetadatasize",
            Self::MetadataLow => {
                "has so little room for metadata left that lvm makes nothing more in it; extend it with lvextend \
                 --poolmetadatasize"
            }
            Self::OutOfStep { lvm, pool } => {
                return write!(
                    formatter,
                    "counts {pool} changes and lvm {lvm}, so lvm refuses it; was older metadata restored? Restore the \
                     newest with vgcfgrestore"
                );
            }
            Self::Filling => {
                "fills, and its volume group has no room that its class may take for it; extend the group, or delete \
                 volumes and snapshots"
            }
            Self::FillingUntended => {
                "fills, and this driver grows only pools that it made; extend it, or delete volumes and snapshots"
            }
        };
        formatter.write_str(text)
    }
}

/// Why nothing more is put into the pool, whatever is still promised of it.
pub(in crate::node) fn trouble(status: &PoolStatus) -> Option<Trouble> {
    let is_metadata_full = status.used_metadata >= status.total_metadata;
    match status.mode {
        PoolMode::Failed => Some(Trouble::Failed),
        _ if status.needs_check => Some(Trouble::NeedsCheck),
        // Without metadata to write to, the kernel reads only, and goes on once there is some.
        PoolMode::ReadOnly if is_metadata_full => Some(Trouble::MetadataFull),
        PoolMode::ReadOnly => Some(Trouble::ReadOnly),
        PoolMode::OutOfDataSpace => Some(Trouble::DataFull),
        PoolMode::Writable if status.used_data >= status.total_data => Some(Trouble::DataFull),
        PoolMode::Writable if is_metadata_full => Some(Trouble::MetadataFull),
        PoolMode::Writable if metadata_runs_out(status) => Some(Trouble::MetadataLow),
        PoolMode::Writable => None,
    }
}

/// Whether lvm would refuse the pool. Both must have been read while no command changed it.
pub(in crate::node) fn out_of_step(pool: &Pool, status: &PoolStatus) -> Option<Trouble> {
    let (lvm, pool_counts) = (pool.transaction_id, status.transaction_id);
    // What is pending lvm sends with its next command.
    let is_in_step = lvm == pool_counts || (pool.is_pending && lvm == pool_counts + 1);
    let is_known = status.mode != PoolMode::Failed;
    (is_known && !is_in_step).then_some(Trouble::OutOfStep { lvm, pool: pool_counts })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lvm::model::sample;

    fn sound() -> PoolStatus {
        PoolStatus {
            mode: PoolMode::Writable,
            needs_check: false,
            transaction_id: 1,
            low_water: 0,
            used_data: 9,
            total_data: 10,
            used_metadata: 700,
            total_metadata: 1_000,
            metadata_snapshot: None,
        }
    }

    #[test]
    fn a_pool_in_trouble_says_what_to_do() {
        assert_eq!(trouble(&sound()), None);
        for (status, told) in [
            (PoolStatus { mode: PoolMode::Failed, ..sound() }, "failed"),
            (PoolStatus { mode: PoolMode::ReadOnly, needs_check: true, ..sound() }, "lvconvert --repair"),
            (PoolStatus { mode: PoolMode::ReadOnly, ..sound() }, "read-only"),
            (PoolStatus { mode: PoolMode::ReadOnly, used_metadata: 1_000, ..sound() }, "lvextend --poolmetadatasize"),
            (PoolStatus { mode: PoolMode::OutOfDataSpace, ..sound() }, "extend it, or delete"),
            (PoolStatus { needs_check: true, ..sound() }, "lvconvert --repair"),
            (PoolStatus { used_data: 10, ..sound() }, "room for data"),
            (PoolStatus { used_metadata: 1_000, ..sound() }, "no room for metadata"),
            (PoolStatus { used_metadata: 750, ..sound() }, "so little room for metadata"),
        ] {
            assert!(trouble(&status).unwrap().to_string().contains(told), "{status:?}");
        }
    }

    #[test]
    fn lvm_may_be_one_change_ahead_while_that_is_pending() {
        let pool = |transaction_id, is_pending| {
            let pool = sample::pool("pool", 1).pool.unwrap();
            Pool { transaction_id, is_pending, ..pool }
        };
        assert_eq!(out_of_step(&pool(1, false), &sound()), None);
        assert_eq!(out_of_step(&pool(2, true), &sound()), None);
        for (lvm, is_pending) in [(2, false), (0, false), (3, true), (0, true)] {
            let found = out_of_step(&pool(lvm, is_pending), &sound());
            assert_eq!(found, Some(Trouble::OutOfStep { lvm, pool: 1 }));
        }
        let failed = PoolStatus { mode: PoolMode::Failed, ..sound() };
        assert_eq!(out_of_step(&pool(5, false), &failed), None, "it does not tell");
    }
}
