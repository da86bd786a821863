//! Snapshots of a file system that is written to all the time: by fio, which verifies what it reads back, and by a writer
//! that numbers its writes. Each snapshot is restored; what is in it must be whole and a state that the source was in.

mod numbers;

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use quarry::csi::v1;
use serde::{Deserialize, Serialize};
use tonic::{Code, Status};

use self::numbers::{Numbers, state};
use crate::client::{self, Client, is_slow_disk, patiently};
use crate::inside::Place;
use crate::inside::check::run as program;
use crate::inside::leftovers;

/// How long a call is tried again that is told to wait.
const PATIENCE: Duration = Duration::from_mins(4);
/// What fio writes in one go, and verifies.
const FIO: [&str; 12] = [
    "--name=load",
    "--thread",
    "--rw=randwrite",
    "--bs=4k",
    "--size=4m",
    "--ioengine=psync",
    "--fsync=32",
    "--verify=crc32c",
    "--verify_fatal=1",
    "--do_verify=1",
    "--rate_iops=150",
    "--minimal",
];

/// What is tried.
#[derive(Debug, clap::Args)]
pub struct Options {
    #[command(flatten)]
    place: Place,
    /// The file system of the source
    #[arg(long)]
    file_system: String,
    /// The class of the source and its copies
    #[arg(long)]
    class: String,
    /// How many snapshots are made
    #[arg(long)]
    snapshots: u64,
}

/// What came of it.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Report {
    pub file_system: String,
    pub class: String,
    /// Snapshots that were made, restored and found whole.
    pub snapshots: u64,
    /// How often fio wrote its file and read it back.
    pub verified: u64,
    /// Numbered writes of the source.
    pub writes: u64,
    /// Snapshots that held a write which had begun and was not answered when they were asked for.
    pub holding_unanswered: u64,
    /// The longest that the making of a snapshot took, milliseconds.
    pub longest_call_ms: u128,
    pub seconds: f64,
    pub violations: Vec<String>,
}

/// Tries it and prints the report.
pub async fn run(options: &Options) -> Result<()> {
    let trial = Trial { client: Client::connect(&options.place.socket).await?, options };
    let begun = Instant::now();
    let (file_system, class) = (options.file_system.clone(), options.class.clone());
    let mut report = Report { file_system, class, ..Report::default() };
    if let Err(error) = trial.all(&mut report).await {
        report.violations.push(format!("after {} snapshots: {error:#}", report.snapshots));
    }
    report.seconds = begun.elapsed().as_secs_f64();
    println!("{}", serde_json::to_string(&report)?);
    Ok(())
}

struct Trial<'o> {
    client: Client,
    options: &'o Options,
}

/// What one snapshot must hold: all up to the first number, and none beyond the second.
struct Taken {
    id: String,
    written: u64,
    begun: u64,
}

impl Trial<'_> {
    async fn all(&self, report: &mut Report) -> Result<()> {
        let source = self.create("source", None).await?;
        let folder = self.mounted(&source).await?;
        let numbers = Numbers::start(&folder)?;
        let mut load = Load { folder: folder.clone(), running: None, verified: 0 };
        for number in 0..self.options.snapshots {
            load.keep_going()?;
            // So that each is of another state.
            let before = numbers.written();
            until("the source is written to", || numbers.written() > before + 5).await?;
            let begun = Instant::now();
            let taken = self.snapshot(number, &source, &numbers).await?;
            report.longest_call_ms = report.longest_call_ms.max(begun.elapsed().as_millis());
            let held = self.restored(number, &taken).await.with_context(|| format!("snapshot {number}"))?;
            report.holding_unanswered += u64::from(held > taken.written);
            report.snapshots += 1;
        }
        report.verified = load.end()?;
        report.writes = numbers.end()?;
        let seen = state(&folder)?;
        ensure!(seen == report.writes, "the source holds {seen}, not its last write {}", report.writes);
        self.take_away(&source).await?;
        let group = &self.options.place.group;
        report.violations.extend(leftovers::emptied(group, 0).await?);
        report.violations.extend(leftovers::suspended().await?);
        report.violations.extend(leftovers::metadata(group).await?);
        Ok(())
    }

    async fn snapshot(&self, number: u64, source: &str, numbers: &Numbers) -> Result<Taken> {
        let request = v1::CreateSnapshotRequest {
            name: format!("snapshot-{number}"),
            source_volume_id: source.to_owned(),
            ..Default::default()
        };
        let written = numbers.written();
        let make = || async { self.client.controller.clone().create_snapshot(request.clone()).await };
        let answer = patiently(PATIENCE, is_slow_disk, make).await;
        let begun = numbers.begun();
        let snapshot = answer.context("a snapshot")?.into_inner().snapshot.context("no snapshot in the answer")?;
        ensure!(snapshot.ready_to_use, "a snapshot is ready at once");
        Ok(Taken { id: snapshot.snapshot_id, written, begun })
    }

    /// Makes a volume of the snapshot, mounts it beside its source, reads it, and has its file system checked; the last number
    /// in it.
    async fn restored(&self, number: u64, taken: &Taken) -> Result<u64> {
        let copy = self.create(&format!("copy-{number}"), Some(&taken.id)).await?;
        let folder = self.mounted(&copy).await?;
        let held = state(&folder)?;
        let Taken { written, begun, .. } = taken;
        ensure!(
            (*written..=*begun).contains(&held),
            "it holds all writes up to {held}; {written} were answered before it was asked for, {begun} had begun when it was there"
        );
        self.unmounted(&copy).await?;
        self.check(&copy)?;
        self.delete(&copy).await?;
        let request = v1::DeleteSnapshotRequest { snapshot_id: taken.id.clone(), ..Default::default() };
        let delete = || async { self.client.controller.clone().delete_snapshot(request.clone()).await };
        patiently(PATIENCE, is_slow_disk, delete).await.context("deleting the snapshot")?;
        Ok(held)
    }

    /// The file system's own check, which changes nothing. Mounting has replayed the journal.
    fn check(&self, id: &str) -> Result<()> {
        let name = id.split_once('/').map_or(id, |(_, name)| name);
        let group = &self.options.place.group;
        let full_name = format!("{group}/{name}");
        program(&["lvm", "lvchange", "--quiet", "--activate", "y", &full_name])?;
        let device = format!("/dev/mapper/{group}-{}", name.replace('-', "--"));
        let checked = match self.options.file_system.as_str() {
            "ext4" => program(&["e2fsck", "-fn", &device]),
            "xfs" => program(&["xfs_repair", "-n", &device]),
            "btrfs" => program(&["btrfs", "check", "--readonly", &device]),
            other => bail!("{other} has no check"),
        };
        program(&["lvm", "lvchange", "--quiet", "--activate", "n", &full_name])?;
        checked.map(drop)
    }

    async fn create(&self, name: &str, snapshot: Option<&str>) -> Result<String> {
        let bytes = match self.options.file_system.as_str() {
            "ext4" => 64 << 20,
            _ => 320 << 20,
        };
        let mut request = client::create(name, bytes, client::mounted(&self.options.file_system));
        request.parameters = client::class(&self.options.class);
        request.volume_content_source = snapshot.map(|id| client::source(id, true));
        // A copy is told to wait for others.
        let is_passing = |status: &Status| status.code() == Code::Aborted || is_slow_disk(status);
        let make = || async { self.client.controller.clone().create_volume(request.clone()).await };
        let made = patiently(PATIENCE, is_passing, make).await.with_context(|| format!("creating {name}"))?;
        Ok(made.into_inner().volume.context("no volume in the answer")?.volume_id)
    }

    fn staging(&self, id: &str) -> PathBuf {
        self.options.place.kubelet.join(id.replace('/', "-"))
    }

    async fn mounted(&self, id: &str) -> Result<PathBuf> {
        let path = self.staging(id);
        std::fs::create_dir_all(&path)?;
        let request = client::stage(id, &path, client::mounted(&self.options.file_system));
        let stage = || async { self.client.node.clone().node_stage_volume(request.clone()).await };
        patiently(PATIENCE, is_slow_disk, stage).await.context("staging")?;
        Ok(path)
    }

    async fn unmounted(&self, id: &str) -> Result<()> {
        let staging_target_path = self.staging(id).to_string_lossy().into_owned();
        let request = v1::NodeUnstageVolumeRequest { volume_id: id.to_owned(), staging_target_path };
        let unstage = || async { self.client.node.clone().node_unstage_volume(request.clone()).await };
        patiently(PATIENCE, is_slow_disk, unstage).await.context("unstaging").map(drop)
    }

    async fn delete(&self, id: &str) -> Result<()> {
        let request = v1::DeleteVolumeRequest { volume_id: id.to_owned(), ..Default::default() };
        let delete = || async { self.client.controller.clone().delete_volume(request.clone()).await };
        patiently(PATIENCE, is_slow_disk, delete).await.context("deleting").map(drop)
    }

    async fn take_away(&self, id: &str) -> Result<()> {
        self.unmounted(id).await?;
        self.delete(id).await
    }
}

/// fio, again and again.
struct Load {
    folder: PathBuf,
    running: Option<Child>,
    verified: u64,
}

impl Load {
    /// Starts it if it does not run; when it has ended, all that it read back was right.
    fn keep_going(&mut self) -> Result<()> {
        if let Some(child) = &mut self.running {
            if child.try_wait()?.is_none() {
                return Ok(());
            }
            self.join()?;
        }
        let child = Command::new("fio")
            .args(FIO)
            .arg(format!("--directory={}", self.folder.display()))
            .current_dir(work_folder()?)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .context("cannot start fio")?;
        self.running = Some(child);
        Ok(())
    }

    fn join(&mut self) -> Result<()> {
        let Some(child) = self.running.take() else { return Ok(()) };
        let output = child.wait_with_output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success() && !said.contains("verify:"), "fio: {}: {}", output.status, said.trim());
        self.verified += 1;
        Ok(())
    }

    /// Waits for its end; how often it has verified.
    fn end(mut self) -> Result<u64> {
        self.join()?;
        Ok(self.verified)
    }
}

/// fio keeps the state of its verification where it is started.
fn work_folder() -> Result<&'static Path> {
    let folder = Path::new("/run/fio");
    std::fs::create_dir_all(folder)?;
    Ok(folder)
}

async fn until(what: &str, holds: impl Fn() -> bool) -> Result<()> {
    let begun = Instant::now();
    while !holds() {
        ensure!(begun.elapsed() < PATIENCE, "after {PATIENCE:?} still not: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Ok(())
}
