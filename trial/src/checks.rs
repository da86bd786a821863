//! The outside half of the cases: one machine for all of them, a line for each.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use quarry_lab::Disk;

use crate::inside::cases::at_random;
use crate::site::{Plan, Site};

/// All cases of a run together take less than this even on a busy machine.
const LIMIT: Duration = Duration::from_mins(35);
/// Capacities are tried as long as one likes.
const CAPACITY_LIMIT: Duration = Duration::from_hours(6);

/// Boots a machine and runs the cases of these themes on it. Answers with how many passed; the error names those that
/// failed.
pub fn run(themes: &[&str], results: &Path) -> Result<usize> {
    let begun = Instant::now();
    let site = boot(results)?;
    let shared = site.shared("")?;
    let command = site.inside(&["cases", "--results", &shared])?.args(themes.iter().copied());
    let output = site.run(&command.limit(LIMIT).streamed())?;
    println!("{:.1} s in all, boot included", begun.elapsed().as_secs_f64());
    let text = output.text();
    ensure!(output.status.success(), "{}\nthe node's log is in {}", output.error_text(), results.display());
    let count = text.lines().filter(|line| line.starts_with("ok ")).count();
    ensure!(text.contains(&format!("{count} cases passed")), "the run broke off");
    Ok(count)
}

/// Tries capacities in random states of real LVM; the error tells the seed and what was done.
pub fn capacity(options: &at_random::Options, results: &Path) -> Result<()> {
    let site = boot(results)?;
    let shared = site.shared("")?;
    let (groups, states, seed) = (options.groups.to_string(), options.states.to_string(), options.seed.to_string());
    let arguments = ["capacity", "--results", &shared, "--groups", &groups, "--states", &states, "--seed", &seed];
    let command = site.inside(&arguments)?.limit(CAPACITY_LIMIT).streamed();
    site.run(&command)?.checked().map(drop)
}

fn boot(results: &Path) -> Result<Site> {
    Site::boot(&Plan {
        disks: vec![Disk::plain("main", 4 << 30), Disk::plain("slices", 4 << 30)],
        disk_folder: None,
        results: results.to_owned(),
    })
}

/// Runs the cases for a test of cargo, which does not build the programs of the other packages by itself.
pub fn test(name: &str, themes: &[&str]) -> Result<()> {
    let program = crate::site::programs_folder()?.join("quarry");
    ensure!(program.is_file(), "{} is missing: run `make test`, or `cargo build --workspace` first", program.display());
    let results = crate::site::target_folder()?.join("check").join(name);
    let count = run(themes, &results)?;
    println!("{name}: {count} cases passed");
    Ok(())
}
