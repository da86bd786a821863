//! Thin volumes, their snapshots and their copies against the bare commands, which an administrator runs with LVM's defaults, in
//! a pool of their own.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::time::Instant;

use anyhow::Result;

use super::Bench;
use super::calls::{VOLUME_BYTES, VOLUME_SIZE, staging_folder};
use super::compared::{bare_name, our_name};
use super::machine::{bare, untimed};
use super::turns::in_turn;
use crate::bench::GROUP;
use crate::client;

/// The pool of the bare commands.
const POOL: &str = "bare";
/// How large it is: as the node's.
const POOL_SIZE: &str = "64G";
/// How often a volume is as large as what is in it.
pub(super) const ROOM: i64 = 4;

/// A volume of ours and a bare one, both mounted, with as much in each.
struct Sources {
    ours: String,
    bare: String,
}

impl Bench {
    pub(super) async fn thin_create(&mut self) -> Result<()> {
        ensure_pool()?;
        let calls = self.calls.clone();
        let ours = async |round| {
            let start = Instant::now();
            calls.create(&our_name(round)).await?;
            Ok(start.elapsed())
        };
        let pool = format!("{GROUP}/{POOL}");
        let theirs = async |round| bare(&["lvcreate", "-n", &bare_name(round), "-V", VOLUME_SIZE, "-T", &pool]);
        let (ours, theirs) = in_turn(self.repetitions.thin, ours, theirs).await?;
        self.figures.ratio("thin_create_ratio", &ours, &theirs);
        Ok(())
    }

    pub(super) async fn thin_snapshot(&mut self) -> Result<()> {
        let (sources, calls) = (self.sources("snapshot", VOLUME_BYTES, 1 << 20).await?, self.calls.clone());
        let ours = async |round| {
            let start = Instant::now();
            calls.snapshot(&our_name(round), &sources.ours).await?;
            Ok(start.elapsed())
        };
        let theirs = async |round| bare_snapshot(&sources.bare, &format!("snap-{}", bare_name(round)));
        let (ours, theirs) = in_turn(self.repetitions.thin, ours, theirs).await?;
        self.figures.ratio("thin_snapshot_ratio", &ours, &theirs);
        Ok(())
    }

    pub(super) async fn thin_clone(&mut self) -> Result<()> {
        let (sources, calls) = (self.sources("clone", VOLUME_BYTES, 1 << 20).await?, self.calls.clone());
        let ours = async |round| {
            let start = Instant::now();
            calls.copy(&format!("clone-{}", our_name(round)), VOLUME_BYTES, "thin", (&sources.ours, false)).await?;
            Ok(start.elapsed())
        };
        let theirs = async |round| bare_snapshot(&sources.bare, &format!("clone-{}", bare_name(round)));
        let (ours, theirs) = in_turn(self.repetitions.thin, ours, theirs).await?;
        self.figures.ratio("thin_clone_ratio", &ours, &theirs);
        Ok(())
    }

    /// Against the bare snapshot of a snapshot, which is all that lvm would do of it.
    pub(super) async fn thin_restore(&mut self) -> Result<()> {
        let (used, calls) = (self.repetitions.used, self.calls.clone());
        let bytes = used * ROOM;
        let sources = self.sources("restore", bytes, used).await?;
        let snapshot = calls.snapshot("snapshot-restored", &sources.ours).await?;
        untimed(&["lvcreate", "-s", "-n", "snap-bare-restored", &sources.bare])?;
        let bare_source = format!("{GROUP}/snap-bare-restored");
        let ours = async |round| {
            let start = Instant::now();
            calls.copy(&format!("restored-{}", our_name(round)), bytes, "thin", (&snapshot, true)).await?;
            Ok(start.elapsed())
        };
        let theirs = async |round| bare_snapshot(&bare_source, &format!("restored-{}", bare_name(round)));
        let (ours, theirs) = in_turn(self.repetitions.thin, ours, theirs).await?;
        self.figures.time("thin_restore_ready_ms", &ours);
        self.figures.require("thin_restore_ready_ms", (2.0 * theirs.median()).round());
        self.figures.ratio("thin_restore_ready_ratio", &ours, &theirs);
        Ok(())
    }

    async fn sources(&self, name: &str, bytes: i64, used: i64) -> Result<Sources> {
        ensure_pool()?;
        let ours = self.calls.create_as(client::create(&format!("pvc-{name}"), bytes, client::mounted("ext4"))).await?;
        let folder = staging_folder(name)?;
        self.calls.stage(&ours, &folder).await?;
        fill(&folder.join("used"), used)?;

        let bare_name = format!("bare-{name}");
        let (pool, size) = (format!("{GROUP}/{POOL}"), format!("{bytes}b"));
        untimed(&["lvcreate", "-n", &bare_name, "-V", &size, "-T", &pool])?;
        let (device, folder) = (format!("/dev/{GROUP}/{bare_name}"), staging_folder(&bare_name)?);
        untimed(&["mkfs.ext4", "-q", &device])?;
        untimed(&["mount", &device, &folder.to_string_lossy()])?;
        fill(&folder.join("used"), used)?;
        Ok(Sources { ours, bare: format!("{GROUP}/{bare_name}") })
    }
}

fn bare_snapshot(of: &str, name: &str) -> Result<std::time::Duration> {
    bare(&["lvcreate", "-s", "-n", name, of])
}

fn ensure_pool() -> Result<()> {
    if std::fs::exists(format!("/dev/mapper/{GROUP}-{POOL}"))? {
        return Ok(());
    }
    untimed(&["lvcreate", "-L", POOL_SIZE, "-T", &format!("{GROUP}/{POOL}")])
}

/// Writes a file of so many bytes, none of them zero, to the disk.
pub(super) fn fill(path: &Path, bytes: i64) -> Result<()> {
    let (mut file, piece) = (File::create(path)?, vec![0xa5_u8; 1 << 20]);
    for _ in 0..bytes >> 20 {
        file.write_all(&piece)?;
    }
    Ok(file.sync_all()?)
}
