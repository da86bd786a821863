//! Health of volumes and of the node's storage, from what LVM, device-mapper and the mount table say.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use crate::error::{Error, Result};
use crate::host::kernel::{MappedDevice, MountEntry, Stretch};
use crate::host::superblock;
use crate::node::Node;
use crate::node::device::{is_read_only, mounts_of};
use crate::node::list::{PageRequest, next_token};
use crate::node::placement::why_unwritable;
use crate::node::volume::{Volume, device_path};

/// Bytes read to see what a file system says of itself: what [`superblock::recognise`] looks at, in whole blocks.
const HEAD_BYTES: u64 = 128 << 10;

/// How the file systems show that they take no writes any more although their mount does; since Linux 6.12 ext4
/// has words of its own for it.
const SHUT_BY_ERRORS: [&str; 3] = ["ro", "emergency_ro", "shutdown"];

/// For how long lvm's commands and snapshots hold a device back, if nothing went wrong: then it is looked at again.
const SUSPENSION: Duration = Duration::from_secs(1);

/// How bad a condition is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// It works, but something is wrong.
    Degraded,
    /// It cannot be used now.
    Inaccessible,
}

/// Something that is wrong, until it is over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Condition {
    /// How bad it is.
    pub severity: Severity,
    /// What it is, in one word for programs.
    pub reason: &'static str,
    /// What it is and what to do, for people.
    pub message: String,
}

/// Most volumes that one request looks at, whatever it asks for: each look reads from its disk.
const AT_ONCE: usize = 512;

/// Volumes that are not healthy, and the token of the next page.
pub type Unhealthy = (Vec<(Volume, Vec<Condition>)>, String);

impl Node {
    /// What is wrong with the volume of that name; nothing when it is healthy. `shown_at` is where its user should see
    /// it, if it has one.
    pub async fn volume_health(&self, logical_name: &str, shown_at: Option<&str>) -> Result<Vec<Condition>> {
        let volume = match self.volume(logical_name).await {
            // As an error it would be taken for a failure to ask.
            Err(Error::Unavailable { problem }) => return Ok(vec![out_of_reach(problem)]),
            volume => volume?,
        };
        let mut device = self.active_device(&volume).await?;
        if device.as_ref().is_some_and(|device| device.suspended) {
            tokio::time::sleep(SUSPENSION).await;
            device = self.active_device(&volume).await?;
        }
        let mounts = self.mounts().await?;
        let mut conditions = conditions(&volume, device.as_ref(), &mounts);
        let heads = self.recorded_errors(&[(&volume, device.as_ref())]).await;
        conditions.extend(heads.into_iter().flatten());
        if let Some(pool) = volume.pool() {
            conditions.extend(self.pool_health(&volume.group, pool).await?);
        }
        conditions.extend(self.lost_snapshots(&volume).await?);
        if let (None, Some(path)) = (&device, shown_at) {
            conditions.push(Condition {
                severity: Severity::Inaccessible,
                reason: "LogicalVolumeInactive",
                message: format!("{} should be at {path} but is not active", volume.full_name()),
            });
        }
        Ok(conditions)
    }

    /// The volumes that are not healthy, those out of reach among them, page by page: so many are looked at.
    pub async fn unhealthy(&self, max_entries: i32, starting_token: &str) -> Result<Unhealthy> {
        let view = self.groups.read().await?;
        let (here, away) = (Volume::all(&view), Volume::out_of_reach(&view));
        let is_away = |volume: &Volume| away.iter().any(|away| Arc::ptr_eq(&away.group, &volume.group));
        let asked = PageRequest::parse(max_entries, starting_token, AT_ONCE)?;
        let mut all: Vec<Volume> = here.into_iter().chain(away.clone()).collect();
        all.sort_by(|one, other| one.logical.name.cmp(&other.logical.name));
        let mut rest = asked.volumes(all);
        let volumes: Vec<Volume> = rest.by_ref().take(asked.most).collect();
        let mut devices = self.mapped_devices().await?;
        if volumes.iter().filter_map(|volume| volume.device(&devices)).any(|device| device.suspended) {
            tokio::time::sleep(SUSPENSION).await;
            devices = self.mapped_devices().await?;
        }
        let mounts = self.mounts().await?;
        let looked_at: Vec<_> = volumes.iter().map(|volume| (volume, volume.device(&devices))).collect();
        let heads = self.recorded_errors(&looked_at).await;
        let pools = self.health_of_pools(&volumes).await?;
        let mut unhealthy = Vec::new();
        for ((volume, device), head) in looked_at.into_iter().zip(heads) {
            let mut conditions = if is_away(volume) {
                vec![out_of_reach(format!("volume group {} is not there or cannot be used", volume.group.name))]
            } else {
                conditions(volume, device, &mounts)
            };
            conditions.extend(head);
            conditions.extend(volume.pool().and_then(|pool| pools.get(&pool.uuid)).into_iter().flatten().cloned());
            conditions.extend(self.lost_snapshots(volume).await?);
            if !conditions.is_empty() {
                unhealthy.push((volume.clone(), conditions));
            }
        }
        Ok((unhealthy, next_token(volumes.last().map(|last| &last.logical), rest)))
    }

    /// What is wrong with the groups that the classes use.
    pub async fn storage_health(&self) -> Result<Vec<Condition>> {
        let view = self.groups.read().await?;
        let classes = self.classes.current();
        let partial = view.groups.iter().filter(|group| classes.use_group(&group.name) && group.is_partial());
        let mut conditions: Vec<Condition> = partial
            .map(|group| Condition {
                severity: Severity::Degraded,
                reason: "PhysicalVolumeMissing",
                message: format!("volume group {} lacks physical volumes; attach their disks", group.name),
            })
            .collect();
        let used = view.groups.iter().filter(|group| classes.use_group(&group.name) && !group.is_partial());
        conditions.extend(used.filter_map(|group| {
            Some(Condition {
                severity: Severity::Degraded,
                reason: "VolumeGroupUnwritable",
                message: format!("volume group {} cannot be changed: {}", group.name, why_unwritable(group)?),
            })
        }));
        let unusable = view.unusable.iter().filter(|unusable| classes.use_group(&unusable.name));
        conditions.extend(unusable.map(|unusable| Condition {
            severity: Severity::Inaccessible,
            reason: "VolumeGroupUnusable",
            message: format!("volume group {}: {}", unusable.name, unusable.reason),
        }));
        let vanished = view.vanished.iter().filter(|group| classes.use_group(&group.name));
        conditions.extend(vanished.map(|group| Condition {
            severity: Severity::Inaccessible,
            reason: "VolumeGroupMissing",
            message: format!("volume group {} is not there any more; attach its disks", group.name),
        }));
        conditions.extend(self.pools_health(&view).await?);
        Ok(conditions)
    }

    /// What the file systems note of errors in their superblocks, by volume. All are read together: disks that hang
    /// must not be waited for one after the other.
    async fn recorded_errors(&self, volumes: &[(&Volume, Option<&MappedDevice>)]) -> Vec<Option<Condition>> {
        let has_file_system = |volume: &Volume| volume.tags.file_system.is_some();
        let stretch = |(volume, device): &(&Volume, Option<&MappedDevice>)| {
            let device = device.filter(|device| !device.suspended && has_file_system(volume))?;
            let length = HEAD_BYTES.min(volume.bytes());
            Some(Stretch { device: device_path(device), offset: 0, length })
        };
        let stretches: Vec<Option<Stretch>> = volumes.iter().map(stretch).collect();
        let mut heads = self.kernel.read(stretches.iter().flatten().cloned().collect()).await.into_iter();
        let answers = stretches.iter().map(|stretch| stretch.as_ref().and_then(|_| heads.next()));
        volumes.iter().zip(answers).map(|((volume, _), answer)| recorded_error(volume, answer?)).collect()
    }
}

fn recorded_error(volume: &Volume, head: io::Result<Vec<u8>>) -> Option<Condition> {
    match head {
        Ok(head) => superblock::recognise(&head).filter(|found| found.has_errors).map(|_| Condition {
            severity: Severity::Degraded,
            reason: "FileSystemErrors",
            message: format!("the file system of {} met errors; unmount it and run fsck", volume.full_name()),
        }),
        Err(error) => Some(Condition {
            severity: Severity::Inaccessible,
            reason: "ReadFailed",
            message: format!("{} cannot be read: {error}", volume.full_name()),
        }),
    }
}

fn out_of_reach(message: String) -> Condition {
    Condition { severity: Severity::Inaccessible, reason: "VolumeGroupMissing", message }
}

/// What LVM, device-mapper and the mount table say is wrong with a volume.
pub fn conditions(volume: &Volume, device: Option<&MappedDevice>, mounts: &[MountEntry]) -> Vec<Condition> {
    let mut conditions = Vec::new();
    let name = volume.full_name();
    let is_missing = |pv: &&crate::lvm::model::PhysicalVolume| {
        pv.device.is_none() && volume.logical.on_physical_volumes.contains(&pv.name)
    };
    if let Some(missing) = volume.group.physical_volumes.iter().find(is_missing) {
        conditions.push(Condition {
            severity: Severity::Inaccessible,
            reason: "PhysicalVolumeMissing",
            message: format!("physical volume {} with data of {name} is missing; attach its disk", missing.uuid),
        });
    }
    let Some(device) = device else { return conditions };
    if device.suspended {
        conditions.push(Condition {
            severity: Severity::Inaccessible,
            reason: "LogicalVolumeSuspended",
            message: format!("{name} is suspended; run lvchange --refresh {name}"),
        });
    }
    let mounts = mounts_of(mounts, device);
    let is_shut = |option: &String| SHUT_BY_ERRORS.contains(&option.as_str());
    let turned_read_only = mounts.iter().find(|mount| !is_read_only(mount) && mount.super_options.iter().any(is_shut));
    if let Some(mount) = turned_read_only {
        conditions.push(Condition {
            severity: Severity::Degraded,
            reason: "FileSystemReadOnly",
            message: format!("the file system at {} turned read-only; see the kernel's log", mount.target.display()),
        });
    }
    conditions
}
