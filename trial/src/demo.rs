//! The demo: a volume's whole life on a real kernel with real LVM, on screen.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use quarry_lab::{Command, Disk};

use crate::site::{NODE_NAME, Plan, Site, target_folder};

const DISK_BYTES: u64 = 4 << 30;
const STAGING: &str = "/var/lib/demo/staging";
const TARGET: &str = "/var/lib/demo/pod/data";

/// Runs it.
pub fn run() -> Result<()> {
    let start = Instant::now();
    let results = target_folder()?.join("demo");
    let plan = Plan { disks: vec![Disk::plain("disk", DISK_BYTES)], disk_folder: None, results };
    heading("A machine with a 4 GiB disk");
    let mut site = Site::boot(&plan)?;
    println!(
        "  Linux {} is up ({:.1} s, the first time with the making of its root)",
        site.machine.kernel(),
        start.elapsed().as_secs_f64()
    );

    let demo = Demo { volume_id: format!("{NODE_NAME}/demo") };
    timed("A volume group on the disk: pvcreate, vgcreate", || site.make_group("vg", "disk"))?;
    timed("quarry node: the CSI driver, serving on its unix socket", || site.start_node(&["--volume-group", "vg"]))?;
    demo.step(&site, "CreateVolume: 512 MiB", &["create", "demo", "512", "ext4"])?;
    show(&site, "lvs -o lv_name,lv_size,lv_active,lv_tags vg")?;
    demo.step(
        &site,
        "NodeStageVolume: activate, make an ext4, mount it",
        &["stage", &demo.volume_id, STAGING, "ext4"],
    )?;
    show(&site, "lvs -o lv_name,lv_size,lv_active,lv_tags vg")?;
    demo.step(&site, "NodePublishVolume: show it to a pod", &["publish", &demo.volume_id, STAGING, TARGET, "ext4"])?;
    show(&site, &format!("df -h {TARGET}"))?;
    demo.grow_while_writing(&site)?;
    demo.step(&site, "NodeGetVolumeStats", &["stats", &demo.volume_id, TARGET])?;
    demo.step(&site, "GetCapacity", &["capacity"])?;
    demo.step(&site, "NodeUnpublishVolume", &["unpublish", &demo.volume_id, TARGET])?;
    demo.step(&site, "NodeUnstageVolume", &["unstage", &demo.volume_id, STAGING])?;
    demo.step(&site, "DeleteVolume", &["delete", &demo.volume_id])?;
    timed("The wipe and the removal in the background", || wait_until_gone(&site))?;
    show(&site, "lvs vg; vgs -o vg_name,vg_size,vg_free vg")?;
    timed("The end: SIGTERM to the node, power off", || {
        site.stop_node()?;
        site.machine.stop()
    })?;
    println!(
        "\nA volume was carved, formatted, mounted, written, grown, wiped and removed in {:.1} s.",
        start.elapsed().as_secs_f64()
    );
    Ok(())
}

struct Demo {
    volume_id: String,
}

impl Demo {
    fn step(&self, site: &Site, title: &str, arguments: &[&str]) -> Result<()> {
        timed(title, || call(site, arguments)).with_context(|| format!("volume {}", self.volume_id))
    }

    /// A writer that never stops meets a volume that grows below it.
    fn grow_while_writing(&self, site: &Site) -> Result<()> {
        heading("A pod writes without a pause");
        let script = format!("i=0; while :; do i=$((i+1)); echo line $i >> {TARGET}/log; done");
        let log = target_folder()?.join("demo/writer.log");
        let mut writer = site.machine.spawn(&Command::shell(script), &log)?;
        let written = || -> Result<u64> { Ok(site.shell(&format!("cat {TARGET}/log | wc -l"))?.trim().parse()?) };
        let start = Instant::now();
        while written().unwrap_or(0) < 100 && start.elapsed() < Duration::from_secs(20) {}
        let before = written()?;
        self.step(
            site,
            "ControllerExpandVolume and NodeExpandVolume: to 1 GiB, while it writes",
            &["grow", &self.volume_id, "1024", TARGET],
        )?;
        let after = written()?;
        writer.kill()?;
        println!("  lines written: {before} before, {after} after; the writer noticed nothing");
        anyhow::ensure!(after > before, "the writer stood still");
        show(site, &format!("df -h {TARGET}; lvs -o lv_name,lv_size vg"))
    }
}

fn wait_until_gone(site: &Site) -> Result<()> {
    let start = Instant::now();
    while !site.shell("lvs --noheadings -o lv_name vg")?.trim().is_empty() {
        anyhow::ensure!(start.elapsed() < Duration::from_mins(1), "the volume is still there after a minute");
    }
    Ok(())
}

fn call(site: &Site, arguments: &[&str]) -> Result<()> {
    let words: Vec<&str> = std::iter::once("step").chain(arguments.iter().copied()).collect();
    let output = site.run(&site.inside(&words)?)?.checked()?;
    for line in output.text().lines() {
        println!("  {line}");
    }
    Ok(())
}

fn show(site: &Site, script: &str) -> Result<()> {
    println!("  $ {script}");
    for line in site.shell(script)?.lines() {
        println!("  | {line}");
    }
    Ok(())
}

fn timed(title: &str, work: impl FnOnce() -> Result<()>) -> Result<()> {
    heading(title);
    let start = Instant::now();
    work()?;
    println!("  done in {:.2} s", start.elapsed().as_secs_f64());
    Ok(())
}

fn heading(title: &str) {
    println!("\n== {title}");
}
