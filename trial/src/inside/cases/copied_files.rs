//! Copies of file systems, the used blocks only where they are known: every file is there, whatever the file system was doing.

use std::collections::BTreeMap;
use std::fs;
use std::hash::{DefaultHasher, Hasher};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use quarry::csi::v1;

use super::sources::{copy, end, forget, of_snapshot, request, snapshot, spoil};
use crate::client::{block, mounted};
use crate::inside::check::{Ground, MIB, Volume, answered, fill, run};

cases! {
    "a copy of the used blocks of a thick volume that is written to has every file, and is sound" => used_thick,
    "a copy of the used blocks of a thin volume that is written to has every file, and is sound" => used_thin,
    "a copy of the used blocks into a thin pool has every file, and is sound" => used_into_thin,
    "a large btrfs is copied into a pool and out of it again with every file, and is sound" => large_btrfs,
    "the used blocks of ext4 made with other options are all it needs, also those of a copy" => ext4_options,
    "the used blocks of xfs made with other options are all it needs, also those of a copy" => xfs_options,
    "of a file system that was cut off all blocks are copied" => cut_off,
    "a copy of a btrfs that was cut off is mounted beside its source with what was synced last" => btrfs_cut_off,
}

/// Writes and removes files in a folder without end; killed when dropped.
struct Writer(Child);

impl Writer {
    fn start(folder: &Path) -> Result<Self> {
        let script = "while :; do for i in 1 2 3 4 5 6 7 8; do dd if=/dev/urandom of=w$i bs=64k count=5 conv=fsync; \
                      mkdir -p d$i; touch d$i/a d$i/b; rm -rf d$((i - 1)) w$((i - 3)); done; done";
        let mut shell = Command::new("sh");
        Ok(Self(shell.args(["-c", script]).current_dir(folder).stderr(std::process::Stdio::null()).spawn()?))
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        drop((self.0.kill(), self.0.wait()));
    }
}

/// Files of all kinds, many of them deleted again.
fn populate(folder: &Path) -> Result<()> {
    for (name, many) in [("few", 20), ("many", 1_500), ("gone", 800)] {
        let folder = folder.join(name);
        fs::create_dir(&folder)?;
        for number in 0..many {
            fs::write(folder.join(format!("a-rather-long-name-of-a-file-{number}")), number.to_string())?;
        }
    }
    for (name, mib) in [("kept", 24), ("deleted", 40)] {
        crate::inside::check::file_with(&folder.join(name), mib << 20)?;
    }
    let sparse = fs::File::create(folder.join("sparse"))?;
    for at in [0_u64, 3 << 20, (90 << 20) + 5] {
        sparse.write_all_at(b"data between holes", at)?;
    }
    sparse.set_len(200 << 20)?;
    // Preallocated and never written to: it reads as zeroes, whatever is on its blocks.
    run(&["fallocate", "-l", "8MiB", &folder.join("preallocated").to_string_lossy()])?;
    run(&["sync", "-f", &folder.to_string_lossy()])?;
    fs::remove_file(folder.join("deleted"))?;
    fs::remove_dir_all(folder.join("gone"))?;
    run(&["sync", "-f", &folder.to_string_lossy()]).map(drop)
}

/// Each file's length and content, but what the writer makes.
fn contents(folder: &Path) -> Result<BTreeMap<PathBuf, (u64, u64)>> {
    let (mut found, mut folders) = (BTreeMap::new(), vec![PathBuf::new()]);
    while let Some(within) = folders.pop() {
        for entry in fs::read_dir(folder.join(&within))? {
            let (entry, path) = (entry.as_ref().map_err(|error| anyhow::anyhow!("{error}"))?, within.clone());
            let path = path.join(entry.file_name());
            if path == Path::new("busy") || path == Path::new("lost+found") {
                continue;
            }
            let metadata = entry.metadata()?;
            if metadata.is_dir() {
                folders.push(path);
                continue;
            }
            let mut hasher = DefaultHasher::new();
            hasher.write(&fs::read(entry.path())?);
            found.insert(path, (metadata.size(), hasher.finish()));
        }
    }
    Ok(found)
}

/// The last line of the node's log on what it copies: bytes that are copied, and those of the volume.
fn planned(ground: &Ground, volume: &Volume<'_>) -> Result<(u64, u64)> {
    let log = ground.log()?;
    let is_it = |line: &&str| line.contains("copies block by block") && line.contains(volume.logical_name());
    let line = log.lines().rev().find(is_it).context("the log says nothing of the copy")?;
    let number = |key: &str| {
        let (_, rest) = line.split_once(key)?;
        rest.chars().take_while(char::is_ascii_digit).collect::<String>().parse().ok()
    };
    let both = number(" all=").zip(number(" of="));
    both.with_context(|| format!("not understood: {line}"))
}

/// That a copy holds these files and is sound; then it is removed.
async fn end_whole(made: Volume<'_>, held: &BTreeMap<PathBuf, (u64, u64)>, file_system: &str) -> Result<()> {
    made.stage().await?;
    ensure!(contents(&made.publish("user").await?)? == *held, "{file_system}: not what was there");
    made.unpublish(&made.target("user")?).await?;
    made.unstage().await?;
    ensure_sound(&made, file_system)?;
    made.remove().await
}

/// That a volume that is not mounted has a sound file system.
fn ensure_sound(volume: &Volume<'_>, file_system: &str) -> Result<()> {
    let device = volume.activate()?;
    let device = device.to_string_lossy();
    let checked = match file_system {
        "ext4" => run(&["e2fsck", "-fn", &device]),
        "xfs" => run(&["xfs_repair", "-n", &device]),
        "btrfs" => run(&["btrfs", "check", "--readonly", "--check-data-csum", &device]),
        other => anyhow::bail!("{other}"),
    };
    volume.deactivate()?;
    checked.map(drop)
}

async fn used_thick(ground: &Ground) -> Result<()> {
    used_blocks_of(ground, ["own", "left"], "ext4").await.context("ext4")?;
    used_blocks_of(ground, ["own", "left"], "xfs").await.context("xfs")
}

async fn used_thin(ground: &Ground) -> Result<()> {
    used_blocks_of(ground, ["thin", "left"], "ext4").await.context("ext4")?;
    used_blocks_of(ground, ["thin", "left"], "xfs").await.context("xfs")
}

async fn used_into_thin(ground: &Ground) -> Result<()> {
    used_blocks_of(ground, ["own", "thin"], "ext4").await.context("of a thick one")?;
    used_blocks_of(ground, ["thin", "thin-too"], "xfs").await.context("of a thin one")
}

async fn used_blocks_of(ground: &Ground, [class, target]: [&str; 2], file_system: &str) -> Result<()> {
    let group = ground.group("own", 1_500)?;
    spoil("own")?;
    // A pool takes what is left; this makes room for what comes later.
    let place = ground.volume_in("left", "own", "place", 560, block()).await?;
    let source = ground.volume_in(class, "own", "source", 320, mounted(file_system)).await?;
    place.remove().await?;
    source.stage().await?;
    let folder = source.publish("user").await?;
    populate(&folder)?;
    let held = contents(&folder)?;
    fs::create_dir(folder.join("busy"))?;
    let writer = Writer::start(&folder.join("busy"))?;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let taken = snapshot(ground, &source, &ground.name("snap")).await?;
    let made = copy(ground, target, of_snapshot(&taken), 320 * MIB, &source).await?;
    drop(writer);
    let (copied, all) = planned(ground, &made)?;
    ensure!(copied < all / 2, "{copied} of {all} bytes were copied");
    end_whole(made, &held, file_system).await?;
    forget(ground, &taken).await?;
    source.remove().await?;
    end(group)
}

/// Of btrfs all blocks are copied: into a pool those that are not zero, and out of it what it does not hold as zeroes.
async fn large_btrfs(ground: &Ground) -> Result<()> {
    const MIB_OF_IT: i64 = 768;
    let group = ground.group("own", 3_500)?;
    // A pool takes what is left; this makes room for what comes later, which finds something on its blocks.
    let place = ground.volume_in("left", "own", "place", MIB_OF_IT, block()).await?;
    place.stage().await?;
    fill(&place.publish("user").await?)?;
    let source = ground.volume_in("own", "own", "source", MIB_OF_IT, mounted("btrfs")).await?;
    source.stage().await?;
    let folder = source.publish("user").await?;
    populate(&folder)?;
    // Spread: every third file goes again, and what comes then goes into the gaps.
    let write = |name: &str, mib: u32| {
        let to = folder.join(name);
        run(&[
            "dd",
            "if=/dev/urandom",
            "bs=1M",
            "status=none",
            &format!("count={mib}"),
            &format!("of={}", to.display()),
        ])
    };
    for number in 0..60 {
        write(&format!("f{number}"), 5 + number % 4)?;
    }
    run(&["sync", "-f", &folder.to_string_lossy()])?;
    for number in (0..60).step_by(3) {
        fs::remove_file(folder.join(format!("f{number}")))?;
    }
    run(&["sync", "-f", &folder.to_string_lossy()])?;
    write("later", 40)?;
    run(&["sync", "-f", &folder.to_string_lossy()])?;
    let held = contents(&folder)?;
    let copy_of = async |class: &str, of: &Volume<'_>| {
        let taken = snapshot(ground, of, &ground.name("snap")).await?;
        let made = copy(ground, class, of_snapshot(&taken), MIB_OF_IT * MIB, of).await?;
        forget(ground, &taken).await?;
        made.stage().await?;
        let there = made.publish("user").await?;
        ensure!(contents(&there)? == held, "{class}: not what was there");
        run(&["btrfs", "scrub", "start", "-B", &there.to_string_lossy()]).context(String::from(class))?;
        anyhow::Ok(made)
    };
    let in_pool = copy_of("thin", &source).await?;
    source.remove().await?;
    place.remove().await?;
    let out_of_it = copy_of("left", &in_pool).await?;
    in_pool.remove().await?;
    out_of_it.unpublish(&out_of_it.target("user")?).await?;
    out_of_it.unstage().await?;
    ensure_sound(&out_of_it, "btrfs")?;
    out_of_it.remove().await?;
    end(group)
}

async fn ext4_options(ground: &Ground) -> Result<()> {
    for options in [
        "-O ^64bit,^metadata_csum,^orphan_file -b 1024",
        "-O ^flex_bg,^resize_inode,^dir_index,^huge_file,^sparse_super -b 4096 -I 256",
    ] {
        used_blocks_with(ground, "ext4", options, 320).await.context(options)?;
    }
    Ok(())
}

async fn xfs_options(ground: &Ground) -> Result<()> {
    for (options, mib) in [
        ("-m reflink=0,rmapbt=0,bigtime=0 -i sparse=0,nrext64=0 -d noalign -s size=4096", 320),
        // Stripes need a larger log.
        ("-m finobt=0,inobtcount=0,reflink=0 -d su=64k,sw=4", 700),
    ] {
        used_blocks_with(ground, "xfs", options, mib).await.context(options)?;
    }
    Ok(())
}

/// Of a volume of so many MiB, and of a copy of it.
async fn used_blocks_with(ground: &Ground, file_system: &str, options: &str, mib: u16) -> Result<()> {
    let (group, bytes) = (ground.group("own", u64::from(mib) * 9 / 4 + 40)?, i64::from(mib) * MIB);
    spoil("own")?;
    let mut wanted = ground.request("left", &ground.name("source"), bytes, mounted(file_system));
    wanted.parameters.insert(String::from("mkfsOptions"), options.to_owned());
    let source = ground.volume_from(wanted, "own").await?;
    source.stage().await?;
    let folder = source.publish("user").await?;
    populate(&folder)?;
    // Deleted, but as long as it is open its blocks are used.
    let open = fs::File::create_new(folder.join("open"))?;
    open.write_all_at(&vec![7; 3 << 20], 0)?;
    open.sync_all()?;
    fs::remove_file(folder.join("open"))?;
    let held = contents(&folder)?;
    let copied = async |of: &Volume<'_>| {
        let taken = snapshot(ground, of, &ground.name("snap")).await?;
        let mut wanted = request(ground, "left", of_snapshot(&taken), bytes, of.capability.clone());
        wanted.parameters.insert(String::from("mkfsOptions"), options.to_owned());
        let made = ground.volume_from(wanted, "own").await?;
        let (copied, all) = planned(ground, &made)?;
        ensure!(copied < all / 2, "{copied} of {all} bytes were copied");
        forget(ground, &taken).await?;
        anyhow::Ok(made)
    };
    let made = copied(&source).await.context("of the source")?;
    drop(open);
    source.remove().await?;
    made.stage().await?;
    ensure!(contents(&made.publish("user").await?)? == held, "not what was there");
    // Its UUID is another one now.
    let second = copied(&made).await.context("of the copy")?;
    made.unpublish(&made.target("user")?).await?;
    made.unstage().await?;
    ensure_sound(&made, file_system)?;
    made.remove().await?;
    end_whole(second, &held, file_system).await?;
    end(group)
}

async fn cut_off(ground: &Ground) -> Result<()> {
    for file_system in ["ext4", "xfs"] {
        let group = ground.group("own", 1_100)?;
        spoil("own")?;
        let source = ground.volume_in("own", "own", "source", 320, mounted(file_system)).await?;
        let staging = source.stage().await?.to_string_lossy().into_owned();
        let folder = source.publish("user").await?;
        populate(&folder)?;
        // The last of it is in the log and not in its place when the file system is ended.
        fs::rename(folder.join("many"), folder.join("moved"))?;
        crate::inside::check::file_with(&folder.join("last"), 30 << 20)?;
        run(&["xfs_io", "-x", "-c", "shutdown -f", &folder.to_string_lossy()])?;
        source.unpublish(&folder).await?;
        let unstage = v1::NodeUnstageVolumeRequest { volume_id: source.id.clone(), staging_target_path: staging };
        answered(ground.client().node.node_unstage_volume(unstage).await)?;
        let taken = snapshot(ground, &source, &ground.name("snap")).await?;
        let made = copy(ground, "left", of_snapshot(&taken), 320 * MIB, &source).await?;
        let (copied, all) = planned(ground, &made)?;
        ensure!(copied == all, "{file_system}: only {copied} of {all} bytes were copied");
        source.stage().await?;
        let held = contents(&source.publish("user").await?)?;
        ensure!(
            held.contains_key(Path::new("last"))
                && !held.contains_key(Path::new("many/a-rather-long-name-of-a-file-1"))
        );
        end_whole(made, &held, file_system).await?;
        forget(ground, &taken).await?;
        source.remove().await?;
        end(group)?;
    }
    Ok(())
}

async fn btrfs_cut_off(ground: &Ground) -> Result<()> {
    let group = ground.group("own", 1_100)?;
    let source = ground.volume_in("own", "own", "source", 320, mounted("btrfs")).await?;
    let staging = source.stage().await?.to_string_lossy().into_owned();
    let folder = source.publish("user").await?;
    let last = folder.join("last");
    crate::inside::check::file_with(&last, 1 << 20)?;
    run(&["sync"])?;
    let device = source.device()?;
    // The superblock's log root, past the pages that somebody else may have read before.
    let direct = format!("dd if={} bs=4096 skip=16 count=1 iflag=direct status=none", device.display());
    let has_log = || {
        let log = run(&["sh", "-c", &format!("{direct} | od -A n -t u8 -j 96 -N 8")])?;
        anyhow::Ok(log.trim() != "0")
    };
    let file = fs::File::options().write(true).open(&last)?;
    // At times btrfs puts all in its place at once.
    for piece in 0_u64..50 {
        file.write_all_at(&[7; 16 << 10], (1 << 20) + (piece << 14))?;
        file.sync_all()?;
        if has_log()? {
            break;
        }
    }
    drop(file);
    ensure!(has_log()?, "nothing of what was synced is in the log");
    // As if the power had failed: nothing more comes to the disk.
    run(&["dmsetup", "wipe_table", "--noflush", "--nolockfs", &source.mapper_name()])?;
    source.unpublish(&folder).await?;
    let unstage = v1::NodeUnstageVolumeRequest { volume_id: source.id.clone(), staging_target_path: staging };
    answered(ground.client().node.node_unstage_volume(unstage).await)?;
    let taken = snapshot(ground, &source, &ground.name("snap")).await?;
    let made = copy(ground, "left", of_snapshot(&taken), 320 * MIB, &source).await?;
    source.stage().await?;
    let held = contents(&source.publish("user").await?)?;
    ensure!(held.contains_key(Path::new("last")));
    end_whole(made, &held, "btrfs").await?;
    forget(ground, &taken).await?;
    source.remove().await?;
    end(group)
}
