//! `CreateVolume`: a logical volume with its tags, made in one commit, so that a crash leaves either
//! nothing or a volume that describes itself.

use std::sync::Arc;

use crate::config::classes::Class;
use crate::config::pattern::Pattern;
use crate::csi::request::size::SizeRange;
use crate::error::{Error, Result};
use crate::lvm::groups::View;
use crate::lvm::model::{LogicalVolume, VolumeGroup};
use crate::lvm::names::{fits_device_mapper, logical_volume_name};
use crate::lvm::tags::{Claim, VolumeTags};
use crate::lvm::writer::Quiet;
use crate::node::Node;
use crate::node::copy::Source;
use crate::node::placement::{self, Candidate, Room};
use crate::node::volume::Volume;

/// A volume to be made.
#[derive(Debug, Clone)]
pub struct NewVolume {
    /// The name that the caller gave it.
    pub name: String,
    /// The sizes it may have.
    pub size: SizeRange,
    /// Its class.
    pub class: Class,
    /// The file system that the request names.
    pub file_system: Option<String>,
    /// Options for mkfs beyond those of the class.
    pub mkfs_options: Vec<String>,
    /// The claim it is for.
    pub claim: Option<Claim>,
    /// Whether only one user at a time may have it.
    pub single_user: bool,
    /// Whether it may be used as a raw block device.
    pub raw: bool,
    /// What it is a copy of.
    pub source: Option<Source>,
}

/// What came of a try in one group.
enum Tried {
    Made(Box<Volume>),
    NoRoom,
}

impl Node {
    /// Makes the volume, or answers with the one of that name that fits.
    pub async fn create(self: &Arc<Self>, new: NewVolume) -> Result<Volume> {
        let name = logical_volume_name(&new.name);
        let node = Arc::clone(self);
        let logical_name = name.clone();
        let made = self.mutate(&name, "creating", async move { node.create_locked(&logical_name, &new).await }).await;
        made.map_err(|error| match (error, self.copies.progress(&name)) {
            (Error::Busy { volume, .. }, Some(progress)) => {
                Error::Busy { volume, operation: format!("what it is a copy of is being {progress}") }
            }
            (error, _) => error,
        })
    }

    async fn create_locked(&self, name: &str, new: &NewVolume) -> Result<Volume> {
        let quiet = self.writer.quiet();
        let view = self.without_broken_off(self.groups.read().await?, name).await?;
        if let Some(volume) = Volume::find(&view, name)? {
            return self.existing(volume, new).await;
        }
        if let Some(out_of_reach) = self.why_out_of_reach(&view, name, |tags| VolumeTags::parse(tags).is_some()).await {
            // Another volume under the same name would be a second truth once the disks are back.
            return Err(out_of_reach);
        }
        if let Some(problem) = hidden_group(&view, &new.class) {
            // It may hold this volume already: then "no room" would leave it behind for good, and a volume
            // in another group would be a second one.
            return Err(Error::Unavailable { problem });
        }
        if let Some(source) = &new.source {
            return self.copy(name, source, new, quiet).await;
        }
        let content = VolumeTags { fresh: true, ..VolumeTags::default() };
        self.place(&view, name, new, content, quiet).await
    }

    /// Makes it in the group with the most room.
    pub(super) async fn place(
        &self,
        view: &Arc<View>,
        name: &str,
        new: &NewVolume,
        content: VolumeTags,
        quiet: Option<Quiet>,
    ) -> Result<Volume> {
        let tags = self.tags_of(new, content).to_tags();
        let candidates = self.candidates(view, &new.class).await?;
        let mut largest_wish = new.size.required.unwrap_or(new.class.default_size);
        for candidate in &candidates {
            let Some(extents) = fitting(candidate, name, new)? else { continue };
            largest_wish = extents * candidate.group.extent_bytes;
            if let Tried::Made(volume) =
                self.try_in(candidate, (quiet, view), name, (extents, &tags), &new.class).await?
            {
                return Ok(*volume);
            }
        }
        let view = self.groups.read().await?;
        let candidates = self.candidates(&view, &new.class).await?;
        Err(Error::NoRoom { reason: placement::why_no_room(&view, &new.class, &candidates, largest_wish) })
    }

    /// Makes it in one group, if there is still room when this node's turn has come.
    async fn try_in(
        &self,
        candidate: &Candidate,
        (quiet, seen): (Option<Quiet>, &Arc<View>),
        name: &str,
        (extents, tags): (u64, &[String]),
        class: &Class,
    ) -> Result<Tried> {
        let group = &candidate.group.name;
        let turn = self.writer.turn(group).await;
        // Who had no others before it need not look again: what an administrator's command did meanwhile lvcreate
        // sees by itself, under lvm's own lock.
        let mut view = match (quiet, turn.inherited()) {
            (Some(quiet), _) if turn.follows(quiet) => Arc::clone(seen),
            (_, Some(inherited)) => Arc::clone(inherited),
            _ => self.groups.read().await?,
        };
        view = self.mended(&turn, view, group).await?;
        if let Some((there, left)) = view.logical_volume_in(group, name) {
            self.make_way(&turn, there, left, tags).await?;
            view = self.groups.read().await?;
        }
        let Some(group) = view.group(group) else {
            return Err(Error::Unavailable { problem: format!("volume group {group} was there, but is not now") });
        };
        if !has_room(&placement::room(group, class), extents) {
            return Ok(Tried::NoRoom);
        }
        let group = &self.with_pool(&turn, group, class).await?;
        let activation = self.activation_in(group, &class.layout).await?;
        let made = self.writer.create(&turn, group, name, (&class.layout, activation), extents, tags).await;
        self.reaper.changed(&group.name);
        // The flush takes its time at the disk, in which we look and the next one has its turn.
        let look = async {
            let after = self.groups.read().await?;
            turn.end(&after);
            Ok::<_, Error>(after)
        };
        let (after, flushed) = tokio::join!(look, self.writer.flush(group));
        let after = after?;
        if let Some(volume) = Volume::find(&after, name)? {
            flushed?;
            return Ok(Tried::Made(Box::new(volume)));
        }
        let room = after.group(&group.name).map(|group| placement::room(group, class));
        // What broke off takes room, too, and nothing may be left where the answer is that there is none.
        let is_left = after.logical_volume_in(&group.name, name).is_some();
        if matches!(room, Some(Room::Extents(most)) if most < extents) && !is_left {
            // An administrator's command was quicker.
            return Ok(Tried::NoRoom);
        }
        made?;
        Err(Error::Internal { problem: format!("lvcreate ended well, but {}/{name} is not there", group.name) })
    }

    /// The tags of a volume that a request asks for, beyond what is on it.
    pub(super) fn tags_of(&self, new: &NewVolume, content: VolumeTags) -> VolumeTags {
        VolumeTags {
            name: new.name.clone(),
            class: new.class.name.clone(),
            mkfs_options: new.mkfs_options.clone(),
            claim: new.claim.clone(),
            single_user: new.single_user,
            driver: Some(self.identity.driver.clone()),
            ..content
        }
    }

    /// Whether what exists under the name is what was asked for.
    async fn existing(&self, volume: Volume, new: &NewVolume) -> Result<Volume> {
        if volume.tags.deleting.is_some() {
            return Err(Error::Busy {
                volume: volume.logical.name.clone(),
                operation: format!("its predecessor is still being {}", self.reaper.progress(&volume)),
            });
        }
        let incomplete = volume.tags.incomplete();
        let is_ungrown = incomplete.is_some_and(|copied| copied.ungrown);
        let asked = if is_ungrown { SizeRange { required: None, ..new.size } } else { new.size };
        if let Some(difference) = difference(&volume, new, asked) {
            return Err(Error::AlreadyExists { what: format!("volume {:?}", volume.tags.name), difference });
        }
        if let (Some(_), Some(source)) = (incomplete, &new.source) {
            return self.go_on(volume, source, new).await;
        }
        // A crash may have come between the commit and the flush of the first try.
        self.writer.flush(&volume.group).await?;
        Ok(volume)
    }
}

impl Node {
    /// Why a logical volume keeps its name from another one.
    pub(super) fn in_the_way(&self, group: &Arc<VolumeGroup>, logical: &Arc<LogicalVolume>) -> Error {
        match Volume::of(group, logical).filter(|volume| volume.tags.deleting.is_some()) {
            Some(volume) => Error::Busy {
                operation: format!("its predecessor is still being {}", self.reaper.progress(&volume)),
                volume: volume.logical.name.clone(),
            },
            None => Error::AlreadyExists {
                what: format!("logical volume {}/{}", group.name, logical.name),
                difference: String::from("it is not of this driver, so it is not touched; rename or remove it"),
            },
        }
    }
}

/// Why a group of the class may be here unseen: one tells nothing, or is missing while a device cannot be read. Where
/// all of them are seen, a dead disk of somebody else keeps nobody from making volumes.
pub(super) fn hidden_group(view: &View, class: &Class) -> Option<String> {
    let mut silent = view.unusable.iter().filter(|unusable| unusable.told.is_empty());
    if let Some(silent) = silent.find(|unusable| class.uses(&unusable.name)) {
        return Some(format!("volume group {} cannot be used: {}", silent.name, silent.reason));
    }
    let unreadable = view.unreadable.first()?;
    let is_seen = |pattern: &&Pattern| view.groups.iter().any(|group| pattern.matches(&group.name));
    let missing = class.volume_groups.iter().find(|pattern| !is_seen(pattern))?;
    let (device, reason) = (unreadable.device.display(), &unreadable.reason);
    Some(format!("volume group {missing} is not found, but may be on {device}, which cannot be read: {reason}"))
}

/// The extents of the volume in that group's measure; `None` when they do not fit there.
fn fitting(candidate: &Candidate, name: &str, new: &NewVolume) -> Result<Option<u64>> {
    let extents = new.size.extents(new.class.default_size, candidate.group.extent_bytes)?;
    let fits = has_room(&candidate.room, extents) && fits_device_mapper(&candidate.group.name, name);
    Ok(fits.then_some(extents))
}

fn has_room(room: &Room, extents: u64) -> bool {
    matches!(room, Room::Extents(most) if extents <= *most)
}

fn difference(volume: &Volume, new: &NewVolume, size: SizeRange) -> Option<String> {
    let tags = &volume.tags;
    if tags.name != new.name {
        return Some(format!("its name {:?} was shortened to the same logical volume", tags.name));
    }
    let source = tags.copied.as_ref().map(|copied| copied.source.as_str());
    if source != new.source.as_ref().map(Source::logical_name) {
        return Some(source.map_or_else(|| String::from("it was made empty"), |of| format!("it is a copy of {of}")));
    }
    if tags.class != new.class.name {
        return Some(format!("its class is {:?}, not {:?}", tags.class, new.class.name));
    }
    if !size.accepts(volume.bytes()) {
        return Some(format!("its {} bytes are not in the capacity_range asked for", volume.bytes()));
    }
    if tags.mkfs_options != new.mkfs_options {
        return Some(format!("its mkfsOptions are {:?}", tags.mkfs_options.join(" ")));
    }
    let (formatted, wanted) = (tags.file_system.as_ref()?, new.file_system.as_ref()?);
    (formatted != wanted).then(|| format!("it holds {formatted}, not {wanted}"))
}

/// The class that a request means: the one named, else the default.
pub fn chosen_class(node: &Node, name: Option<&str>) -> Result<Class> {
    let classes = node.classes.current();
    let class = match name {
        Some(name) => classes.class(name).ok_or_else(|| {
            Error::invalid("parameters.class", format!("{name:?} is no class here; there are: {}", classes.names()))
        }),
        None => classes.default_class().ok_or_else(|| {
            Error::invalid(
                "parameters.class",
                format!("is missing and no class is the default; there are: {}", classes.names()),
            )
        }),
    };
    class.cloned()
}
