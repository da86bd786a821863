//! A random group with random classes, and what is done to it at random.

use std::fmt::Write;

use anyhow::{Context, Result, ensure};
use quarry::csi::v1;
use tonic::Code::{FailedPrecondition, ResourceExhausted};

use crate::client::block;
use crate::inside::cases::capacity_of;
use crate::inside::cases::sources::{of_snapshot, of_volume, request};
use crate::inside::check::{Ground, Group, MIB, Slice, Volume, eventually, lvm, run};
use crate::inside::leftovers::{Role, logical_volumes};

/// Thick classes, with what each keeps for a snapshot: per cent of the volume.
const THICK: [(&str, i64); 2] = [("plain", 20), ("kept", 50)];
/// Thin classes; the last two share a pool.
const THIN: [&str; 3] = ["alone", "shared", "sharing"];

/// A group in some state, and how it came there.
pub(super) struct State<'g> {
    pub(super) random: fastrand::Rng,
    /// Bytes of an extent.
    pub(super) extent: i64,
    group: Group,
    /// With their classes.
    volumes: Vec<(Volume<'g>, &'static str)>,
    /// With the classes of their volumes.
    snapshots: Vec<(v1::Snapshot, &'static str)>,
    foreign: Vec<String>,
    story: Vec<String>,
}

impl<'g> State<'g> {
    /// An empty group.
    pub(super) async fn make(ground: &'g Ground, seed: u64) -> Result<Self> {
        let mut random = fastrand::Rng::with_seed(seed);
        let extent = [1, 4, 4, 8][random.usize(..4)];
        let sizes: Vec<u64> = (0..random.u64(1..4)).map(|_| random.u64(60..400)).collect();
        let slices = sizes.iter().map(|mib| ground.slice(*mib)).collect::<Result<Vec<_>>>()?;
        let paths: Vec<String> = slices.iter().map(Slice::path).collect();
        let size = format!("{extent}m");
        let mut words = vec!["vgcreate", "-qq", "--physicalextentsize", &size, "own"];
        words.extend(paths.iter().map(String::as_str));
        lvm(&words)?;
        let group = Group { name: String::from("own"), slices };
        let classes = classes(&mut random, seed);
        let story = vec![format!("slices of {sizes:?} MiB, extents of {extent} MiB"), classes.clone()];
        ground.write_classes(&format!("{}{classes}", Ground::classes()))?;
        let fresh = format!("seed-{seed}");
        eventually("the classes are read", || async { Ok(capacity_of(ground, &fresh).await?.1 > 0) }).await?;
        let (volumes, snapshots, foreign) = (Vec::new(), Vec::new(), Vec::new());
        Ok(Self { random, extent: extent * MIB, group, volumes, snapshots, foreign, story })
    }

    /// The classes of the group.
    pub(super) fn classes() -> impl Iterator<Item = &'static str> {
        THICK.into_iter().map(|(name, _)| name).chain(THIN)
    }

    /// What was done so far.
    pub(super) fn story(&self) -> String {
        self.story.join("; ")
    }

    /// Adds to it.
    pub(super) fn note(&mut self, what: String) {
        self.story.push(what);
    }

    /// A snapshot of which a volume of the class is made at once, no larger than that.
    pub(super) fn snapshot_for(&mut self, class: &str, most: i64) -> Option<v1::Snapshot> {
        let fits = |(snapshot, of): &&(v1::Snapshot, &str)| {
            THIN.contains(&class) && pool_of(of) == pool_of(class) && snapshot.size_bytes <= most
        };
        let fitting: Vec<_> = self.snapshots.iter().filter(fits).collect();
        self.random.choice(fitting).map(|(snapshot, _)| snapshot.clone())
    }

    /// Waits until what was deleted is gone.
    pub(super) async fn settled(&self) -> Result<()> {
        eventually("what was deleted is gone", || async {
            Ok(!logical_volumes("own")?.values().any(|role| *role == Role::Going))
        })
        .await
    }

    /// Does something at random.
    pub(super) async fn change(&mut self, ground: &'g Ground) -> Result<()> {
        match self.random.u8(..100) {
            0..35 => self.create(ground).await,
            35..55 => self.snapshot(ground).await,
            55..65 => self.copy(ground).await,
            65..72 => self.grow(ground).await,
            72..84 => self.delete(ground).await,
            _ => self.administer(),
        }
    }

    fn class(&mut self) -> &'static str {
        let classes: Vec<_> = Self::classes().collect();
        classes[self.random.usize(..classes.len())]
    }

    /// A size that fits, mostly a small part of what there is.
    async fn size(&mut self, ground: &Ground, class: &str) -> Result<Option<i64>> {
        let extents = capacity_of(ground, class).await?.1 / self.extent;
        if extents == 0 {
            return Ok(None);
        }
        let most = if self.random.u8(..5) == 0 { extents } else { (extents / 4).max(1) };
        Ok(Some(self.random.i64(1..=most) * self.extent - self.random.i64(0..self.extent)))
    }

    async fn create(&mut self, ground: &'g Ground) -> Result<()> {
        let class = self.class();
        let Some(bytes) = self.size(ground, class).await? else { return Ok(()) };
        self.note(format!("created {bytes} of {class}"));
        let volume = ground.volume_from(ground.request(class, &ground.name("v"), bytes, block()), "own").await?;
        self.volumes.push((volume, class));
        Ok(())
    }

    /// A snapshot is made exactly when there is room for what it needs.
    async fn snapshot(&mut self, ground: &Ground) -> Result<()> {
        let Some(index) = self.any_volume() else { return Ok(()) };
        let (volume, class) = (&self.volumes[index].0, self.volumes[index].1);
        let (_, most) = capacity_of(ground, class).await?;
        let size = volume.size().await?;
        let needed = match THICK.iter().find(|(name, _)| *name == class) {
            Some((_, per_cent)) => (size / self.extent * per_cent + 99) / 100 * self.extent,
            None => size,
        };
        let (name, source_volume_id) = (volume.name.clone(), volume.id.clone());
        let asked = v1::CreateSnapshotRequest { name: ground.name("s"), source_volume_id, ..Default::default() };
        let answer = ground.client().controller.create_snapshot(asked).await;
        self.note(format!("snapshot of {name} of {class}, which needs {needed} of {most}"));
        match answer {
            Ok(made) => {
                ensure!(needed <= most, "a snapshot was made that needs {needed}, and there were {most}");
                let snapshot = made.into_inner().snapshot.context("no snapshot in the answer")?;
                self.snapshots.push((snapshot, class));
            }
            Err(status) => ensure!(
                status.code() == FailedPrecondition && needed > most,
                "a snapshot that needs {needed} of {most} was refused: {status}"
            ),
        }
        Ok(())
    }

    async fn copy(&mut self, ground: &'g Ground) -> Result<()> {
        let class = self.class();
        let of_snapshots = self.snapshots.iter().map(|(snapshot, _)| (of_snapshot(snapshot), snapshot.size_bytes));
        let mut sources: Vec<_> = of_snapshots.collect();
        for (volume, _) in &self.volumes {
            sources.push((of_volume(volume), volume.size().await?));
        }
        let Some((source, bytes)) = self.random.choice(sources) else { return Ok(()) };
        self.note(format!("copy of {source:?} to {class}"));
        let asked = request(ground, class, source, bytes, block());
        // A thick volume is copied from a snapshot that needs room, too: what is left decides.
        match ground.client().controller.create_volume(asked.clone()).await {
            Ok(_) => self.volumes.push((ground.volume_from(asked, "own").await?, class)),
            Err(status) => ensure!(
                matches!(status.code(), ResourceExhausted | FailedPrecondition),
                "a copy of {bytes} was refused: {status}"
            ),
        }
        Ok(())
    }

    async fn grow(&mut self, ground: &Ground) -> Result<()> {
        let Some(index) = self.any_volume() else { return Ok(()) };
        let class = self.volumes[index].1;
        let Some(more) = self.size(ground, class).await? else { return Ok(()) };
        let volume = &self.volumes[index].0;
        let required_bytes = volume.size().await? + more;
        let asked = v1::ControllerExpandVolumeRequest {
            volume_id: volume.id.clone(),
            capacity_range: Some(v1::CapacityRange { required_bytes, limit_bytes: 0 }),
            ..Default::default()
        };
        let (name, answer) = (volume.name.clone(), ground.client().controller.controller_expand_volume(asked).await);
        self.note(format!("grown {name} to {required_bytes}"));
        if let Err(status) = answer {
            // Thick ones do not grow while they have snapshots.
            ensure!(status.code() == FailedPrecondition && !THIN.contains(&class), "growth was refused: {status}");
        }
        Ok(())
    }

    async fn delete(&mut self, ground: &Ground) -> Result<()> {
        let mut controller = ground.client().controller;
        if self.random.bool() && !self.snapshots.is_empty() {
            let (snapshot, _) = self.snapshots.swap_remove(self.random.usize(..self.snapshots.len()));
            self.note(format!("deleted {}", snapshot.snapshot_id));
            let asked = v1::DeleteSnapshotRequest { snapshot_id: snapshot.snapshot_id, ..Default::default() };
            controller.delete_snapshot(asked).await?;
            return self.settled().await;
        }
        let is_held = |(volume, class): &(Volume<'_>, &str)| {
            !THIN.contains(class) && self.snapshots.iter().any(|(snapshot, _)| snapshot.source_volume_id == volume.id)
        };
        let free: Vec<usize> = (0..self.volumes.len()).filter(|index| !is_held(&self.volumes[*index])).collect();
        let Some(index) = self.random.choice(free) else { return Ok(()) };
        let (volume, _) = self.volumes.swap_remove(index);
        self.note(format!("deleted {}", volume.name));
        volume.delete().await?;
        volume.gone().await
    }

    fn any_volume(&mut self) -> Option<usize> {
        (!self.volumes.is_empty()).then(|| self.random.usize(..self.volumes.len()))
    }

    /// What the driver did not make: all layouts of lvm, which leave room in pieces, and thin volumes in its pools.
    fn administer(&mut self) -> Result<()> {
        if self.random.u8(..3) == 0 && !self.foreign.is_empty() {
            let name = self.foreign.swap_remove(self.random.usize(..self.foreign.len()));
            self.note(format!("lvremove {name}"));
            return lvm(&["lvremove", "-qq", "-y", &format!("own/{name}")]).map(drop);
        }
        let name = format!("foreign-{}", self.story.len());
        let thick: [&[&str]; 4] = [
            &["--type", "linear"],
            &["--type", "striped", "--stripes", "2"],
            &["--type", "raid1", "--mirrors", "1", "--nosync"],
            &["--type", "raid0", "--stripes", "2"],
        ];
        let pools = ["own/pool-alone", "own/pool-shared"];
        let extents = self.random.u8(1..12).to_string();
        let size = format!("{}m", self.extent / MIB * i64::from(self.random.u8(1..20)));
        let chosen = self.random.usize(..thick.len() + pools.len());
        let mut words = vec!["lvcreate", "-qq", "-y", "--activate", "n", "--wipesignatures", "n", "--name", &name];
        if let Some(layout) = thick.get(chosen) {
            words.extend_from_slice(layout);
            words.extend(["--zero", "n", "--extents", &extents, "own"]);
        } else {
            words.extend(["--type", "thin", "--virtualsize", &size, "--thinpool", pools[chosen - thick.len()]]);
        }
        // A disk or a pool may be missing for it, or room.
        let made = lvm(&words);
        self.note(format!("{} by an administrator: {made:?}", words.join(" ")));
        if made.is_ok() {
            self.foreign.push(name);
        }
        Ok(())
    }

    /// Takes all away.
    pub(super) async fn end(self) -> Result<()> {
        self.settled().await?;
        run(&["udevadm", "settle"])?;
        self.group.remove()
    }
}

/// The pool of a thin class.
fn pool_of(class: &str) -> &str {
    if class == "sharing" { "shared" } else { class }
}

/// Random classes, and one by which it is seen that they are in force.
fn classes(random: &mut fastrand::Rng, seed: u64) -> String {
    let mut text = format!("- {{name: seed-{seed}, volumeGroups: [main]}}\n");
    for (name, kept) in THICK {
        let reserve = reserve(random);
        let _ = writeln!(
            text,
            "- {{name: {name}, volumeGroups: [own], wipe: none, reserve: {reserve}, snapshotReserve: {kept}%}}"
        );
    }
    let pools = [pool(random, "alone"), pool(random, "shared")];
    for name in THIN {
        let (reserve, pool) = (reserve(random), &pools[usize::from(name != "alone")]);
        let _ = writeln!(
            text,
            "- {{name: {name}, volumeGroups: [own], layout: thin, reserve: {reserve}, thinPool: {pool}}}"
        );
    }
    text
}

fn reserve(random: &mut fastrand::Rng) -> String {
    match random.u8(..3) {
        0 => String::from("0%"),
        1 => format!("{}%", random.u8(1..30)),
        _ => format!("{}MiB", random.u8(1..60)),
    }
}

fn pool(random: &mut fastrand::Rng, name: &str) -> String {
    let size = if random.bool() { format!("{}%", random.u8(10..70)) } else { format!("{}MiB", random.u8(16..200)) };
    let chunk = ["64KiB", "64KiB", "1MiB", "16MiB"][random.usize(..4)];
    let overcommit = ["1", "1.5", "2.75", "20"][random.usize(..4)];
    format!("{{name: pool-{name}, size: {size}, chunkSize: {chunk}, overcommit: {overcommit}}}")
}
