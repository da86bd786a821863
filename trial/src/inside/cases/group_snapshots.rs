//! Snapshots of several volumes at one moment.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::writer::{Writer, number_held, number_in};
use anyhow::{Context, Result, ensure};
use quarry::csi::v1;
use quarry::csi::v1::volume_content_source::{SnapshotSource, Type};
use tonic::Code::Unavailable;
use tonic::Code::{Aborted, AlreadyExists, FailedPrecondition, Internal, InvalidArgument, NotFound};
use tonic::{Response, Status};

use crate::client::{block, mounted};
use crate::inside::check::{
    Ground, Group, MIB, StandIn, Volume, answered, comfortable, digest, eventually, fill, lvm, refused, run, write_at,
};

/// The tags of a snapshot of a group, and of one that is not whole.
const WHOLE: &str = "quarry.kind=snapshot";
const INCOMPLETE: &str = "quarry.kind=incomplete-snapshot";

cases! {
    "a group never shows a later write without an earlier one" => in_order,
    "a group of an xfs and a btrfs never shows a later write without an earlier one" => in_order_otherwise,
    "raw volumes of a group, also one that is not in use, are as they were" => raw,
    "a group is told by its snapshots, which go only with it" => facts,
    "a group of other volumes, of missing ones, of several nodes or of thick ones is refused" => bad_sources,
    "when there is no room for one of a group, none is left" => no_room,
    "when one of a group fails in the moment itself, none is left and all volumes go on" => none_left,
    "a disk that is too slow holds up the other volumes of a group no longer than ten seconds" => too_slow,
    "what a crash left of a group is finished or removed" => left_behind,
    "a volume that lvm held back when the node was killed goes on when that starts" => killed_with_lvm,
    "volumes that the node held back when it was killed go on when it starts" => killed,
}

fn request(name: &str, volumes: &[&Volume<'_>]) -> v1::CreateVolumeGroupSnapshotRequest {
    v1::CreateVolumeGroupSnapshotRequest {
        name: name.to_owned(),
        source_volume_ids: volumes.iter().map(|volume| volume.id.clone()).collect(),
        ..v1::CreateVolumeGroupSnapshotRequest::default()
    }
}

type Created = Result<Response<v1::CreateVolumeGroupSnapshotResponse>, Status>;

async fn call(ground: &Ground, name: &str, volumes: &[&Volume<'_>]) -> Created {
    ground.client().groups.create_volume_group_snapshot(request(name, volumes)).await
}

async fn take(ground: &Ground, name: &str, volumes: &[&Volume<'_>]) -> Result<v1::VolumeGroupSnapshot> {
    let answer = answered(call(ground, name, volumes).await).context("a group snapshot")?;
    let group = answer.group_snapshot.context("no group snapshot in the answer")?;
    ensure!(group.ready_to_use && group.snapshots.len() == volumes.len(), "{group:?}");
    Ok(group)
}

fn ids(group: &v1::VolumeGroupSnapshot) -> Vec<String> {
    group.snapshots.iter().map(|snapshot| snapshot.snapshot_id.clone()).collect()
}

fn deletion(group: &v1::VolumeGroupSnapshot) -> v1::DeleteVolumeGroupSnapshotRequest {
    v1::DeleteVolumeGroupSnapshotRequest {
        group_snapshot_id: group.group_snapshot_id.clone(),
        snapshot_ids: ids(group),
        ..v1::DeleteVolumeGroupSnapshotRequest::default()
    }
}

async fn forget(ground: &Ground, group: &v1::VolumeGroupSnapshot) -> Result<()> {
    let answer = ground.client().groups.delete_volume_group_snapshot(deletion(group)).await;
    answered(answer).context("deleting a group snapshot").map(drop)
}

/// The snapshot of that volume.
fn of<'s>(group: &'s v1::VolumeGroupSnapshot, volume: &Volume<'_>) -> Result<&'s v1::Snapshot> {
    let found = group.snapshots.iter().find(|snapshot| snapshot.source_volume_id == volume.id);
    found.with_context(|| format!("no snapshot of {}", volume.id))
}

/// A volume made of the snapshot that a group has of another one.
async fn restored<'g>(
    ground: &'g Ground,
    class: &str,
    group: &v1::VolumeGroupSnapshot,
    source: &Volume<'_>,
) -> Result<Volume<'g>> {
    let snapshot_id = of(group, source)?.snapshot_id.clone();
    let content = v1::VolumeContentSource { r#type: Some(Type::Snapshot(SnapshotSource { snapshot_id })) };
    let request = v1::CreateVolumeRequest {
        volume_content_source: Some(content),
        ..ground.request(class, &ground.name("copy"), source.bytes, source.capability.clone())
    };
    ground.volume_from(request, &source.group).await
}

/// Names of the logical volumes that are snapshots, whole or not.
fn snapshots(groups: &[&str]) -> Result<String> {
    let names = lvm(&[&["lvs", "--noheadings", "-o", "lv_name", "-S", "lv_name=~^snap-"], groups].concat())?;
    Ok(names.split_whitespace().collect::<Vec<_>>().join(" "))
}

fn end(group: Group) -> Result<()> {
    run(&["udevadm", "settle"])?;
    group.remove()
}

/// Two volumes in two pools of two volume groups, mounted.
struct Pair<'g> {
    ground: &'g Ground,
    groups: [Group; 2],
    first: Volume<'g>,
    second: Volume<'g>,
    folders: [PathBuf; 2],
}

impl<'g> Pair<'g> {
    async fn mounted(ground: &'g Ground, mib: u64) -> Result<Self> {
        Self::mounted_as(ground, mib, ["ext4", "ext4"]).await
    }

    async fn mounted_as(ground: &'g Ground, mib: u64, file_systems: [&str; 2]) -> Result<Self> {
        let groups = [ground.group("own", mib)?, ground.group("second", mib)?];
        let [one, other] = file_systems;
        let first = ground.volume_in("thin", "own", "first", comfortable(one), mounted(one)).await?;
        let second = ground.volume_in("other-thin", "second", "second", comfortable(other), mounted(other)).await?;
        first.stage().await?;
        second.stage().await?;
        let folders = [first.publish("user").await?, second.publish("user").await?];
        Ok(Self { ground, groups, first, second, folders })
    }

    fn both(&self) -> [&Volume<'g>; 2] {
        [&self.first, &self.second]
    }

    fn files(&self) -> [PathBuf; 2] {
        self.folders.each_ref().map(|folder| folder.join("number"))
    }

    fn suspended(&self) -> Result<usize> {
        let mut count = 0;
        for volume in self.both() {
            count += usize::from(volume.is_suspended()?);
        }
        Ok(count)
    }

    async fn end(self) -> Result<()> {
        self.first.remove().await?;
        self.second.remove().await?;
        self.groups.into_iter().try_for_each(end)
    }

    async fn no_snapshot_is_left(&self) -> Result<()> {
        let left = snapshots(&["own", "second"])?;
        ensure!(left.is_empty(), "{left} are left");
        let list = v1::ListSnapshotsRequest::default();
        let listed = answered(self.ground.client().controller.list_snapshots(list).await)?.entries;
        ensure!(listed.is_empty(), "{listed:?}");
        Ok(())
    }
}

async fn in_order(ground: &Ground) -> Result<()> {
    const GROUPS: usize = 20;
    let pair = Pair::mounted(ground, 900).await?;
    let writer = Writer::start(&pair.files())?;
    writer.goes_on().await?;
    let mut taken = Vec::new();
    for _ in 0..GROUPS {
        let before = writer.written();
        taken.push((before, take(ground, &ground.name("group"), &pair.both()).await?));
    }
    writer.goes_on().await?;
    let last_written = writer.end()?;
    for (before, group) in &taken {
        let held = numbers_held([("own", of(group, &pair.first)?), ("second", of(group, &pair.second)?)])?;
        ensure_of_one_moment(held, *before)?;
        forget(ground, group).await?;
    }
    let last = take(ground, &ground.name("group"), &pair.both()).await?;
    let first = number_restored(ground, "thin", &last, &pair.first).await?;
    let second = number_restored(ground, "other-thin", &last, &pair.second).await?;
    ensure!(first == last_written && second == last_written, "{first}, {second} of {last_written}");
    forget(ground, &last).await?;
    pair.no_snapshot_is_left().await?;
    pair.end().await
}

/// That these are what a writer of both had written last at one moment, after it had written that number to both.
fn ensure_of_one_moment([earlier, later]: [u64; 2], before: u64) -> Result<()> {
    ensure!(later <= earlier, "{later} was written after {earlier}, and the group shows it without the one between");
    ensure!(earlier - later <= 1, "the second one lacks what the first one has since long: {earlier}, {later}");
    ensure!(before <= later, "the group shows an older state than that of its moment: {later}, {before}");
    Ok(())
}

async fn in_order_otherwise(ground: &Ground) -> Result<()> {
    let pair = Pair::mounted_as(ground, 1_200, ["xfs", "btrfs"]).await?;
    let writer = Writer::start(&pair.files())?;
    writer.goes_on().await?;
    for _ in 0..3 {
        let before = writer.written();
        let group = take(ground, &ground.name("group"), &pair.both()).await?;
        writer.goes_on().await?;
        let first = number_restored(ground, "thin", &group, &pair.first).await?;
        let second = number_restored(ground, "other-thin", &group, &pair.second).await?;
        ensure_of_one_moment([first, second], before)?;
        forget(ground, &group).await?;
    }
    writer.end()?;
    pair.no_snapshot_is_left().await?;
    pair.end().await
}

/// What the writer had written last to the volumes of two snapshots, looked at as an admin would: that is quicker than to restore
/// forty.
fn numbers_held(snapshots: [(&str, &v1::Snapshot); 2]) -> Result<[u64; 2]> {
    let names = snapshots.map(|(group, of)| format!("{group}/{}", of.snapshot_id.trim_start_matches("lab-node/")));
    lvm(&["lvchange", "-q", "-ay", "-K", &names[0], &names[1]])?;
    let mut numbers = [0; 2];
    for (name, number) in names.iter().zip(&mut numbers) {
        *number = number_held(name)?;
    }
    lvm(&["lvchange", "-q", "-an", &names[0], &names[1]])?;
    Ok(numbers)
}

/// What the writer had written last to a volume when the group was taken.
async fn number_restored(
    ground: &Ground,
    class: &str,
    group: &v1::VolumeGroupSnapshot,
    source: &Volume<'_>,
) -> Result<u64> {
    let made = restored(ground, class, group, source).await?;
    made.stage().await?;
    let number = number_in(&made.publish("user").await?.join("number"))?;
    made.remove().await?;
    Ok(number)
}

async fn raw(ground: &Ground) -> Result<()> {
    let group = ground.group("own", 300)?;
    let one = ground.volume_in("thin", "own", "one", 16, block()).await?;
    let other = ground.volume_in("thin", "own", "other", 16, block()).await?;
    let mut held = Vec::new();
    for volume in [&one, &other] {
        volume.stage().await?;
        let device = volume.publish("user").await?;
        fill(&device)?;
        held.push(digest(&device)?);
    }
    other.unpublish(&other.target("user")?).await?;
    other.unstage().await?;
    ensure!(other.device().is_err(), "it is in use");
    let taken = take(ground, &ground.name("group"), &[&one, &other]).await?;
    write_at(&one.target("user")?, 4096, &[7; 4096])?;
    for (volume, held) in [&one, &other].into_iter().zip(held) {
        let made = restored(ground, "thin", &taken, volume).await?;
        made.stage().await?;
        ensure!(digest(&made.publish("user").await?)? == held, "{} is not as it was", volume.id);
        made.remove().await?;
    }
    forget(ground, &taken).await?;
    one.remove().await?;
    other.remove().await?;
    end(group)
}

async fn facts(ground: &Ground) -> Result<()> {
    let pair = Pair::mounted(ground, 200).await?;
    let (name, mut client) = (ground.name("group"), ground.client());
    let taken = take(ground, &name, &pair.both()).await?;
    let id = &taken.group_snapshot_id;
    ensure!(take(ground, &name, &[&pair.second, &pair.first]).await? == taken, "the same once more, in another order");
    for snapshot in &taken.snapshots {
        ensure!(snapshot.group_snapshot_id == *id && snapshot.size_bytes == 16 * MIB, "{snapshot:?}");
        ensure!(snapshot.creation_time == taken.creation_time && snapshot.ready_to_use, "{snapshot:?}");
        let get = v1::GetSnapshotRequest { snapshot_id: snapshot.snapshot_id.clone(), ..Default::default() };
        ensure!(answered(client.controller.get_snapshot(get).await)?.snapshot.as_ref() == Some(snapshot));
        let list = v1::ListSnapshotsRequest { snapshot_id: snapshot.snapshot_id.clone(), ..Default::default() };
        let listed = answered(client.controller.list_snapshots(list).await)?.entries;
        ensure!(listed.first().and_then(|entry| entry.snapshot.as_ref()) == Some(snapshot));
        let delete = v1::DeleteSnapshotRequest { snapshot_id: snapshot.snapshot_id.clone(), ..Default::default() };
        refused(client.controller.delete_snapshot(delete).await, InvalidArgument, &["snapshot_id", id])?;
    }
    let get = |snapshot_ids: Vec<String>| v1::GetVolumeGroupSnapshotRequest {
        group_snapshot_id: id.clone(),
        snapshot_ids,
        ..v1::GetVolumeGroupSnapshotRequest::default()
    };
    for known in [ids(&taken), Vec::new()] {
        let found = answered(client.groups.get_volume_group_snapshot(get(known)).await)?.group_snapshot;
        ensure!(found.as_ref() == Some(&taken), "{found:?}");
    }
    let one = vec![taken.snapshots[0].snapshot_id.clone()];
    refused(client.groups.get_volume_group_snapshot(get(one.clone())).await, InvalidArgument, &["snapshot_ids"])?;
    let fewer = v1::DeleteVolumeGroupSnapshotRequest { snapshot_ids: one, ..deletion(&taken) };
    refused(client.groups.delete_volume_group_snapshot(fewer).await, InvalidArgument, &["snapshot_ids"])?;
    let alone = call(ground, &name, &[&pair.first]).await;
    refused(alone, AlreadyExists, &["it is of", &pair.first.id, &pair.second.id])?;
    forget(ground, &taken).await?;
    forget(ground, &taken).await.context("once more")?;
    refused(client.groups.get_volume_group_snapshot(get(Vec::new())).await, NotFound, &[id])?;
    pair.no_snapshot_is_left().await?;
    let again = take(ground, &name, &[&pair.first]).await?;
    ensure!(again.group_snapshot_id == *id, "the name of a deleted group can be used again");
    forget(ground, &again).await?;
    pair.end().await
}

async fn bad_sources(ground: &Ground) -> Result<()> {
    let group = ground.group("own", 200)?;
    let thick = ground.volume_in("own", "own", "thick", 8, block()).await?;
    let thin = ground.volume_in("thin", "own", "thin", 8, block()).await?;
    let (name, mut client) = (ground.name("group"), ground.client());
    let with = |ids: &[&str]| v1::CreateVolumeGroupSnapshotRequest {
        source_volume_ids: ids.iter().map(|id| (*id).to_owned()).collect(),
        ..request(&name, &[])
    };
    let (is_thin, is_thick) = (thin.id.as_str(), thick.id.as_str());
    for (ids, code, words) in [
        (&[][..], InvalidArgument, &["source_volume_ids"][..]),
        (&[is_thin, is_thin], InvalidArgument, &["source_volume_ids", "twice"]),
        (&[is_thin, "lab-node/none"], NotFound, &["lab-node/none"]),
        (&[is_thin, "other-node/b"], FailedPrecondition, &["lab-node", "other-node"]),
        (&["other-node/b"], NotFound, &["other-node/b"]),
        (&[is_thin, is_thick], FailedPrecondition, &[&thick.full_name(), "is not thin"]),
    ] {
        refused(client.groups.create_volume_group_snapshot(with(ids)).await, code, words)?;
    }
    ensure!(snapshots(&["own"])?.is_empty());
    thick.remove().await?;
    thin.remove().await?;
    end(group)
}

async fn no_room(ground: &Ground) -> Result<()> {
    let pair = Pair::mounted(ground, 200).await?;
    let (_, largest) = super::capacity_of(ground, "other-thin").await?;
    let fills = ground.volume_in("other-thin", "second", "fills", largest / MIB, block()).await?;
    let writer = Writer::start(&pair.files())?;
    let name = ground.name("group");
    refused(call(ground, &name, &pair.both()).await, FailedPrecondition, &["second/quarry-thin"])?;
    pair.no_snapshot_is_left().await?;
    writer.goes_on().await?;
    fills.remove().await?;
    let taken = take(ground, &name, &pair.both()).await.context("with room again")?;
    forget(ground, &taken).await?;
    writer.end()?;
    pair.end().await
}

async fn none_left(ground: &Ground) -> Result<()> {
    let pair = Pair::mounted(ground, 200).await?;
    let writer = Writer::start(&pair.files())?;
    let name = ground.name("group");
    // The pool of the second one deletes nothing that has a device, so that one fails after the first one was exchanged.
    let stand_in = StandIn::lvm(
        "case \"$*\" in *--snapshot*second/*)
            for word in \"$@\"; do [ \"$last\" = --name ] && name=$word; last=$word; done
            /run/check-bin/lvm \"$@\" || exit
            exec /run/check-bin/lvm lvchange -ay -K second/$name;;
        esac",
    )?;
    refused(call(ground, &name, &pair.both()).await, Internal, &["second/second", "delete"])?;
    drop(stand_in);
    ensure!(pair.suspended()? == 0, "one is still held back");
    pair.no_snapshot_is_left().await?;
    writer.goes_on().await?;
    let taken = take(ground, &name, &pair.both()).await?;
    forget(ground, &taken).await?;
    writer.end()?;
    pair.end().await
}

async fn too_slow(ground: &Ground) -> Result<()> {
    let pair = Pair::mounted(ground, 200).await?;
    let [first, second] = pair.files();
    let (quick, slow) = (Writer::start(&[first])?, Writer::start(&[second])?);
    // From the end of the second volume's lvcreate on its disk takes 25 seconds for a write.
    let slice = pair.groups[1].slice()?;
    let device = slice.path();
    let stand_in = StandIn::lvm(&format!(
        "case \"$*\" in *--snapshot*second/*)
            /run/check-bin/lvm \"$@\" || exit
            set -- $(dmsetup table {device})
            dmsetup load {device} --table \"0 $2 delay $4 $5 0 $4 $5 25000\"
            dmsetup suspend --noflush --nolockfs {device}
            exec dmsetup resume {device};;
        esac"
    ))?;
    let (mut client, request) = (ground.client(), request(&ground.name("group"), &pair.both()));
    let answer = tokio::spawn(async move { client.groups.create_volume_group_snapshot(request).await });
    // Not only for the moment in which lvm makes its snapshot.
    eventually("the first one is held back for the group", || async {
        Ok(run(&["dmsetup", "table", &device])?.contains(" delay ") && pair.suspended()? > 0)
    })
    .await?;
    drop(stand_in);
    let begun = Instant::now();
    quick.goes_on().await.context("the quick disk's volume")?;
    let held = begun.elapsed();
    slice.repair()?;
    refused(answer.await?, Unavailable, &["within 10 s", "try again"])?;
    ensure!(held < Duration::from_secs(20), "the first one was held back for {held:?}");
    pair.no_snapshot_is_left().await?;
    slow.goes_on().await.context("the slow disk's volume")?;
    ensure!(pair.suspended()? == 0);
    quick.end()?;
    slow.end()?;
    pair.end().await
}

async fn left_behind(ground: &Ground) -> Result<()> {
    let pair = Pair::mounted(ground, 200).await?;
    let (name, mut client) = (ground.name("group"), ground.client());
    let taken = take(ground, &name, &pair.both()).await?;
    let full_names: Vec<String> = pair
        .both()
        .into_iter()
        .map(|volume| {
            Ok(format!("{}/{}", volume.group, of(&taken, volume)?.snapshot_id.trim_start_matches("lab-node/")))
        })
        .collect::<Result<_>>()?;
    let mark = |full_name: &str| lvm(&["lvchange", "-q", "--addtag", INCOMPLETE, "--deltag", WHOLE, full_name]);
    // As it is between the two commits: the group is there.
    mark(&full_names[1])?;
    let id = taken.group_snapshot_id.clone();
    let get = v1::GetVolumeGroupSnapshotRequest { group_snapshot_id: id, ..Default::default() };
    refused(client.groups.get_volume_group_snapshot(get).await, Aborted, &["not all its snapshots are whole"])?;
    ensure!(take(ground, &name, &pair.both()).await? == taken, "it is finished by the repeated call");
    mark(&full_names[1])?;
    ground.crash().await?;
    eventually("it is finished by itself", || async {
        Ok(!lvm(&["lvs", "--noheadings", "-o", "lv_tags", "second"])?.contains(INCOMPLETE))
    })
    .await?;
    ensure!(call_again(ground, &name, &pair.both()).await? == taken);
    // As before the first of them: nobody has got it.
    mark(&full_names[0])?;
    mark(&full_names[1])?;
    let list = v1::ListSnapshotsRequest::default();
    ensure!(answered(ground.client().controller.list_snapshots(list).await)?.entries.is_empty(), "they are listed");
    ground.crash().await?;
    eventually("it is gone by itself", || async { Ok(snapshots(&["own", "second"])?.is_empty()) }).await?;
    pair.end().await
}

async fn killed_with_lvm(ground: &Ground) -> Result<()> {
    // lvm holds one of them back at a time.
    killed_while(ground, 1).await
}

async fn killed(ground: &Ground) -> Result<()> {
    killed_while(ground, 2).await
}

/// Kills the node while so many volumes are held back, and starts it again.
async fn killed_while(ground: &Ground, wanted: usize) -> Result<()> {
    let pair = Pair::mounted(ground, 300).await?;
    let writer = Writer::start(&pair.files())?;
    writer.goes_on().await?;
    let (mut tries, name) = (0, ground.name("group"));
    loop {
        tries += 1;
        ensure!(tries <= 20, "in {tries} tries the node was never killed while {wanted} were held back");
        // Else the moment is over in a few milliseconds.
        pair.groups.iter().try_for_each(|group| group.slice()?.slow_down(100))?;
        let (mut client, request) = (ground.client(), request(&name, &pair.both()));
        let call = tokio::spawn(async move { client.groups.create_volume_group_snapshot(request).await });
        while pair.suspended()? != wanted && !call.is_finished() {
            tokio::task::yield_now().await;
        }
        ground.kill_with_children()?;
        let _broken_off = call.await;
        pair.groups.iter().try_for_each(|group| group.slice()?.repair())?;
        if pair.suspended()? == wanted {
            break;
        }
        ground.start().await?;
        let taken = call_again(ground, &name, &pair.both()).await?;
        forget(ground, &taken).await?;
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    let before = writer.written();
    tokio::time::sleep(Duration::from_millis(300)).await;
    ensure!(pair.suspended()? == wanted && writer.written() == before, "nobody is left who could set it going");
    ground.start().await?;
    writer.goes_on().await?;
    eventually("all go on", || async { Ok(pair.suspended()? == 0) }).await?;
    let taken = call_again(ground, &name, &pair.both()).await.context("the repeated call")?;
    forget(ground, &taken).await?;
    pair.no_snapshot_is_left().await?;
    writer.end()?;
    pair.end().await
}

/// The call as its caller repeats it while the node tidies up.
async fn call_again(ground: &Ground, name: &str, volumes: &[&Volume<'_>]) -> Result<v1::VolumeGroupSnapshot> {
    eventually("the repeated call is answered", || async {
        match call(ground, name, volumes).await {
            Ok(_) => Ok(true),
            answer => refused(answer, Aborted, &[]).map(|()| false),
        }
    })
    .await?;
    take(ground, name, volumes).await
}
