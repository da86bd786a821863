//! Power cuts, from outside: a machine whose power ends at a random moment of random work, again and again, on the
//! same disks; every time what is left is checked against what was answered.

mod moment;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use quarry_lab::{Disk, DiskKind, Machine, Process};
use serde::Serialize;

pub use self::moment::Event;
use self::moment::{Moment, under_way};
use crate::inside::kind::{Reserves, classes_file};
use crate::inside::power::check::Findings;
use crate::site::{self, Plan, Site};

const GROUP: &str = "vg";
const DISK: &str = "pv0";
const KINDS: &str = "ext4,thin-ext4,block,thin-block,xfs,btrfs";
const DISK_BYTES: u64 = 8 << 30;
/// Of copies that are small: else none would be cut off after it was remembered how far it is.
const REMEMBER_COPIES_EVERY: &str = "--remember-copies-every=1MiB";
/// Cuts after which the disks are new.
const CUTS_OF_A_DISK: u64 = 10;
/// How long it may take until killed writers are gone: not while what they write to is held back.
const WRITERS_LIMIT: Duration = Duration::from_mins(1);
/// Cuts in which most of what is to be cut off is, so that a run without it proves too little.
const ENOUGH: u64 = 50;
/// What so many cuts meet. The room of a snapshot grows seldom, and a copy has its new UUID soon.
const MET: [(Event, u64); 5] = [
    (Event::GrowthOfPool, ENOUGH),
    (Event::Group, ENOUGH),
    (Event::Copy, ENOUGH),
    (Event::NewUuid, 3 * ENOUGH),
    (Event::GrowthOfReserve, 6 * ENOUGH),
];
const WORKLOAD_LOG: &str = "results/workload.log";
/// Longer than a call that never comes to an end is tried again, twice: then the check says which.
const CHECK_LIMIT: Duration = Duration::from_mins(30);

/// What to do.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// How many times the power is cut
    #[arg(long, default_value_t = 5)]
    pub cuts: u64,
    /// What all choices follow from; the moment within the work differs from run to run all the same
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Where the result is written
    #[arg(long)]
    pub output: Option<PathBuf>,
    /// Where disks, journals and logs lie while it runs; kept where something was wrong [default: target/power-cuts]
    #[arg(long)]
    pub folder: Option<PathBuf>,
    /// Kinds of volumes
    #[arg(long, default_value = KINDS)]
    pub kinds: String,
}

impl Default for Options {
    fn default() -> Self {
        Self { cuts: 5, seed: 1, output: None, folder: None, kinds: String::from(KINDS) }
    }
}

/// What came of it.
#[derive(Debug, Default, Serialize)]
pub struct Report {
    pub cuts: u64,
    pub violations: usize,
    pub seed: u64,
    /// Cuts on disks that lose what was not flushed.
    pub volatile_cuts: u64,
    /// Cuts in the middle of the check of an earlier one.
    pub cuts_of_checks: u64,
    /// Cuts while something was under way.
    pub cuts_of: BTreeMap<Event, u64>,
    /// How often the thin pool has grown.
    pub growths: u64,
    /// How often the room of a thick snapshot has.
    pub reserve_growths: u64,
    /// How often a copy went on where an earlier try had been when it was cut off.
    pub copies_gone_on: u64,
    /// How often only the node was killed, with the programs that it had started, and a new one took over.
    pub kills: u64,
    /// Volumes and records read back.
    pub volumes: u64,
    pub records: u64,
    /// Calls that a cut left without an answer, all tried again.
    pub retried: u64,
    pub seconds: f64,
    /// What was wrong, with the cut after which it was found.
    pub descriptions: Vec<String>,
}

/// Runs the cuts; violations are in the report, an error means that the trial itself could not go on.
pub fn run(options: &Options) -> Result<Report> {
    ensure!(std::env::var("LAB").as_deref() != Ok("host"), "LAB=host: this machine's own power is not cut");
    let folder = match &options.folder {
        Some(folder) => folder.clone(),
        None => site::target_folder()?.join("power-cuts"),
    };
    let folder = folder.join(format!("seed-{}-{}", options.seed, std::process::id()));
    let mut trial = Trial {
        random: fastrand::Rng::with_seed(options.seed),
        kinds: options.kinds.clone(),
        report: Report { seed: options.seed, ..Report::default() },
        folder,
        generation: 0,
    };
    let begun = Instant::now();
    while trial.report.cuts < options.cuts {
        let cuts = CUTS_OF_A_DISK.min(options.cuts - trial.report.cuts);
        let before = trial.report.descriptions.len();
        let cuts_before = trial.report.cuts;
        if let Err(error) = trial.life_of_a_disk(cuts) {
            ensure!(trial.report.cuts > cuts_before, "no cut could be made: {error:#}");
            trial.violation(&format!("it did not go on: {error:#}"));
        }
        trial.report.copies_gone_on += copies_gone_on(&trial.generation_folder())?;
        if trial.report.descriptions.len() == before {
            fs::remove_dir_all(trial.generation_folder()).context("cannot clear up")?;
        } else {
            eprintln!("kept for a look: {}", trial.generation_folder().display());
        }
        trial.generation += 1;
        trial.report.seconds = begun.elapsed().as_secs_f64();
        trial.report.violations = trial.report.descriptions.len();
        // Hours of cuts are worth something also when the rest does not come.
        if let Some(output) = &options.output {
            trial.report.write(output)?;
        }
    }
    // Succeeds only when nothing was kept.
    fs::remove_dir(&trial.folder).ok();
    Ok(trial.report)
}

impl Report {
    /// Fails when something was wrong, or when nothing could be: a long run in which what is to be cut off never was.
    pub fn judge(&self) -> Result<()> {
        ensure!(self.violations == 0, "something did not survive a power cut");
        if self.cuts < ENOUGH {
            return Ok(());
        }
        let is_missed = |(event, cuts): &(Event, u64)| self.cuts >= *cuts && !self.cuts_of.contains_key(event);
        let missed: Vec<Event> = MET.into_iter().filter(is_missed).map(|(event, _)| event).collect();
        ensure!(missed.is_empty(), "{} cuts, and none while this was under way: {missed:?}", self.cuts);
        ensure!(self.growths > 0, "the thin pool never grew");
        ensure!(self.reserve_growths > 0, "the room of no thick snapshot ever grew");
        ensure!(self.copies_gone_on > 0, "no copy that was cut off went on where it was");
        Ok(())
    }

    fn write(&self, output: &Path) -> Result<()> {
        if let Some(parent) = output.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::write(output, serde_json::to_string_pretty(self)? + "\n")
            .with_context(|| format!("cannot write {}", output.display()))
    }
}

struct Trial {
    random: fastrand::Rng,
    kinds: String,
    report: Report,
    folder: PathBuf,
    generation: u64,
}

impl Trial {
    fn generation_folder(&self) -> PathBuf {
        self.folder.join(format!("disk-{}", self.generation))
    }

    /// Work, cut, check, work, cut, check…, on one disk.
    fn life_of_a_disk(&mut self, cuts: u64) -> Result<()> {
        let folder = self.generation_folder();
        let mut made = false;
        let mut done = 0;
        while done < cuts {
            let mut site = self.boot(&folder, &mut made)?;
            if done > 0 && self.random.u8(..5) == 0 {
                self.cut_check(site, &folder)?;
            } else {
                if done > 0 {
                    let extent = [&[][..], &["--empty"], &["--empty", "--without-pool"]][self.random.usize(..3)];
                    self.check(&site, extent)?;
                }
                if self.random.u8(..3) == 0 {
                    self.kill_node(&mut site, &folder)?;
                }
                // The first work on a disk begins with a small pool.
                self.cut_work(site, &folder, done == 0)?;
            }
            done += 1;
        }
        let site = self.boot(&folder, &mut made)?;
        self.check(&site, &["--empty"])?;
        cut(site)
    }

    /// A machine with the disk and a node; the disk loses what was not flushed in every other boot.
    fn boot(&mut self, folder: &Path, made: &mut bool) -> Result<Site> {
        let kind = self.kind_of_disk();
        let results = folder.join("results");
        fs::create_dir_all(&results)?;
        let plan = Plan {
            disks: vec![Disk::new(DISK, DISK_BYTES, kind)],
            disk_folder: Some(folder.join("disks")),
            results: results.clone(),
        };
        let mut site = Site::boot(&plan)?;
        if !*made {
            site.make_group(GROUP, DISK)?;
            // lvm flushes nothing; the group is there before the trial begins.
            site.shell(&format!("blockdev --flushbufs {0}; sync {0}", site.machine.device(DISK)?))?;
            fs::write(results.join("classes.yaml"), classes_file(GROUP, Reserves::Small))?;
            *made = true;
        }
        let classes = site.shared("classes.yaml")?;
        site.start_node(&["--classes", &classes, REMEMBER_COPIES_EVERY]).context("after a power cut")?;
        Ok(site)
    }

    fn cut_work(&mut self, site: Site, folder: &Path, is_first: bool) -> Result<()> {
        let moment = match self.random.u8(..9) {
            _ if is_first => Moment::of(Event::GrowthOfPool, &mut self.random),
            0..2 => Moment::of_work(&mut self.random),
            2..4 => Moment::of_answer(&mut self.random),
            _ => {
                let event = Event::ALL[self.random.usize(..Event::ALL.len())];
                Moment::of(event, &mut self.random)
            }
        };
        println!(
            "cut {}: {moment}, {} disk",
            self.report.cuts + 1,
            if self.kind_of_disk() == DiskKind::Volatile { "volatile" } else { "plain" }
        );
        let work = self.work_until(&moment, &site, folder)?;
        cut(site)?;
        drop(work);
        self.counted();
        for event in under_way(&folder.join("results/journal"))? {
            *self.report.cuts_of.entry(event).or_default() += 1;
        }
        self.check_journal(folder)
    }

    fn work_until(&mut self, moment: &Moment, site: &Site, folder: &Path) -> Result<Process> {
        let seed = self.random.u64(..).to_string();
        let arguments = self.arguments(site, "workload")?;
        let mut arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let clients = moment.clients.to_string();
        let kinds = moment.kinds().unwrap_or(&self.kinds);
        arguments.extend(["--seed", &seed, "--kinds", kinds, "--clients", &clients]);
        arguments.extend(moment.is_of_copies().then_some("--copies"));
        let log = folder.join(WORKLOAD_LOG);
        let mut work = site.machine.spawn(&site.inside(&arguments)?, &log)?;
        moment.wait(&folder.join("results/journal"))?;
        if let Some(status) = work.try_wait()? {
            bail!("the work ended by itself with {status}: {}", fs::read_to_string(&log).unwrap_or_default());
        }
        Ok(work)
    }

    /// The node's end without the machine's, in which what is frozen or suspended stays so until somebody sees to it.
    fn kill_node(&mut self, site: &mut Site, folder: &Path) -> Result<()> {
        let moment = Moment::of_work(&mut self.random);
        println!("node killed: {moment}");
        let mut work = self.work_until(&moment, site, folder)?;
        site.kill_node()?;
        work.signal(9)?;
        self.report.kills += 1;
        let classes = site.shared("classes.yaml")?;
        site.start_node(&["--classes", &classes, REMEMBER_COPIES_EVERY]).context("after it was killed")?;
        if work.wait(WRITERS_LIMIT).is_err() {
            bail!("a new node runs, and the writers of before still hang: something is frozen or suspended");
        }
        self.check_journal(folder)?;
        self.check(site, &["--same-boot"])
    }

    /// The proof is worth nothing where the journal itself loses lines.
    fn check_journal(&mut self, folder: &Path) -> Result<()> {
        let reported = fs::read_to_string(folder.join(WORKLOAD_LOG))?;
        // The last line may be cut off.
        let whole = reported.rsplit_once('\n').map_or("", |(whole, _)| whole);
        let safe: u64 = whole.lines().next_back().map_or(Ok(0), str::parse)?;
        let bytes = fs::metadata(folder.join("results/journal")).map_or(0, |metadata| metadata.len());
        if bytes < safe {
            self.violation(&format!("the journal has {bytes} bytes, {safe} were flushed"));
        }
        Ok(())
    }

    fn cut_check(&mut self, site: Site, folder: &Path) -> Result<()> {
        let arguments = self.arguments(&site, "check")?;
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let check = site.machine.spawn(&site.inside(&arguments)?, &folder.join("results/cut-check.log"))?;
        Moment::of_check(&mut self.random).wait(&folder.join("results/journal"))?;
        cut(site)?;
        drop(check);
        self.report.cuts_of_checks += 1;
        self.counted();
        Ok(())
    }

    fn kind_of_disk(&self) -> DiskKind {
        if self.report.cuts.is_multiple_of(2) { DiskKind::Volatile } else { DiskKind::Plain }
    }

    fn counted(&mut self) {
        if self.kind_of_disk() == DiskKind::Volatile {
            self.report.volatile_cuts += 1;
        }
        self.report.cuts += 1;
    }

    fn check(&mut self, site: &Site, how: &[&str]) -> Result<()> {
        let arguments = self.arguments(site, "check")?;
        let mut arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        arguments.extend(how);
        let begun = Instant::now();
        let output = site.run(&site.inside(&arguments)?.limit(CHECK_LIMIT))?.checked()?;
        let found: Findings = serde_json::from_str(&output.text()).context("the check printed nonsense")?;
        println!(
            "cut {}: {} volumes and {} records read back, {} calls tried again, pool and room of \
             snapshots grown {} and {} times, {} violations ({:.1} s)",
            self.report.cuts,
            found.volumes,
            found.records,
            found.retried,
            found.growths,
            found.reserve_growths,
            found.violations.len(),
            begun.elapsed().as_secs_f64(),
        );
        let report = &mut self.report;
        (report.volumes, report.records) = (report.volumes + found.volumes, report.records + found.records);
        report.retried += found.retried;
        report.growths += found.growths;
        report.reserve_growths += found.reserve_growths;
        for violation in found.violations {
            self.violation(&violation);
        }
        Ok(())
    }

    fn violation(&mut self, what: &str) {
        println!("  violation: {what}");
        self.report.descriptions.push(format!("after cut {}: {what}", self.report.cuts));
    }

    fn arguments(&self, site: &Site, what: &str) -> Result<Vec<String>> {
        let (kubelet, log) = (site.shared("kubelet")?, site.shared("journal")?);
        fs::create_dir_all(self.generation_folder().join("results/kubelet"))?;
        Ok([what, "--kubelet", &kubelet, "--group", GROUP, "--log", &log].map(str::to_owned).to_vec())
    }
}

/// How many copies the nodes of a disk have gone on with where an earlier try had been, by their log.
fn copies_gone_on(folder: &Path) -> Result<u64> {
    let log = fs::read_to_string(folder.join("results/node.log"))?;
    let begun = log.lines().filter(|line| line.contains("copies block by block"));
    Ok(begun.filter(|line| !line.contains(" from=0 ")).count() as u64)
}

fn cut(site: Site) -> Result<()> {
    match &site.machine {
        Machine::Guest(guest) => guest.cut_power()?,
        Machine::Host(_) => bail!("this machine's own power is not cut"),
    }
    drop(site);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_run_proves_nothing_without_what_it_is_to_cut_off() {
        let cuts_of = || MET.into_iter().map(|(event, _)| (event, 1)).collect::<BTreeMap<_, _>>();
        let whole = || Report {
            cuts: ENOUGH,
            cuts_of: cuts_of(),
            growths: 1,
            reserve_growths: 1,
            copies_gone_on: 1,
            ..Report::default()
        };
        assert!(whole().judge().is_ok());
        for poor in [
            Report { growths: 0, ..whole() },
            Report { reserve_growths: 0, ..whole() },
            Report { copies_gone_on: 0, ..whole() },
        ] {
            assert!(poor.judge().is_err(), "{poor:?}");
            assert!(Report { cuts: ENOUGH - 1, ..poor }.judge().is_ok());
        }
        for (seldom, cuts) in MET {
            let mut without = cuts_of();
            without.remove(&seldom);
            let run = |cuts| Report { cuts, cuts_of: without.clone(), ..whole() }.judge();
            assert!(run(cuts - 1).is_ok() && run(cuts).is_err(), "{seldom:?}");
        }
        assert!(Report { cuts: 1, violations: 1, ..Report::default() }.judge().is_err());
    }
}
