//! The room of thick snapshots, by lvm: what fills is grown, and nothing is lost.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::{PAUSE, run};
use crate::inside::kind::EXTENT;

/// Per cent in use from which on it must grow; a little more than the node's own mark, since the node reckons by itself.
const MARK: f64 = 72.0;
/// How long it may take, with one try that fails.
const LIMIT: Duration = Duration::from_secs(40);

/// Thick snapshots that were lost, or that are at their mark and do not grow.
pub async fn problems(group: &str) -> Result<Vec<String>> {
    let begun = Instant::now();
    let columns = "lv_name,lv_active,lv_snapshot_invalid,snap_percent,lv_size,origin_size";
    let columns = ["--noheadings", "--units", "b", "--nosuffix", "--separator", ";", "-o", columns];
    loop {
        let output =
            run("lvm", &[&["lvs"], &columns[..], &["--select", "segtype=linear && origin!=\"\"", group]].concat())?;
        let problems = output.lines().map(|line| problem(line.trim())).filter_map(Result::transpose);
        let problems = problems.collect::<Result<Vec<_>>>()?;
        if problems.is_empty() || begun.elapsed() > LIMIT {
            return Ok(problems);
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// What is wrong with one, by lvm's line of it.
fn problem(line: &str) -> Result<Option<String>> {
    let fields: Vec<&str> = line.split(';').collect();
    let [name, active, invalid, percent, size, origin] = fields[..] else {
        anyhow::bail!("lvm's words are not understood: {line}")
    };
    if active.is_empty() {
        // Only the kernel knows, so lvm's words on it are "unknown".
        return Ok(None);
    }
    if !invalid.is_empty() {
        return Ok(Some(format!("thick snapshot {name} was full and is lost")));
    }
    let percent: f64 = percent.parse().context("no percentage")?;
    // With so much it is never full.
    let is_enough = size.parse::<u64>()? > origin.parse::<u64>()? + EXTENT / 2;
    let is_wrong = percent >= MARK && !is_enough;
    Ok(is_wrong.then(|| format!("thick snapshot {name} with {size} bytes is {percent} % full, but does not grow")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_that_is_lost_or_does_not_grow_is_told() {
        let is_told = |line| problem(line).unwrap().is_some();
        assert!(is_told("s;active;snapshot invalid;100.00;4194304;16777216"));
        assert!(is_told("s;active;;72.50;4194304;16777216"));
        assert!(!is_told("s;active;;69.99;4194304;16777216"));
        assert!(!is_told("s;active;;99.00;20971520;16777216"));
        assert!(!is_told("s;;unknown;;4194304;16777216"));
    }
}
