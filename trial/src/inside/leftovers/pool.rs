//! The thin pool, by lvm, by the kernel and by the pool's own metadata: they must agree on what is in it.

use std::collections::BTreeSet;
use std::fs;
use std::ops::Range;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result};
use quarry::lvm::pool::growth::percent;

use super::{PAUSE, REMOVAL_LIMIT, run};
use crate::inside::kind::{POOL, POOL_GROWS_AT};

/// Pieces that power cuts may have left to nobody where a pool was set right. lvm's check of a pool frees them, but
/// `thin_check` 1.1 leaves the pool's own count of the pieces in use as it was.
const LEFT_BY_CUTS: u64 = 16;
/// The node's words when it has had a pool set right.
const SET_RIGHT: &str = "set right";

/// What three witnesses say of a pool.
#[derive(Debug, Default)]
struct Statements {
    /// lvm's count of the pool's transactions, and the ids of its volumes.
    transaction: u64,
    ids: BTreeSet<u64>,
    /// The kernel's line of status, from the pool's transaction on.
    status: String,
    /// `thin_dump` of the pool's metadata.
    dump: String,
}

/// How many pieces may be nobody's, by the log of all nodes that this disk ever had: none as long as no pool was set right.
pub fn left_by_cuts(log: &Path) -> Result<u64> {
    let text = fs::read_to_string(log).with_context(|| format!("cannot read {}", log.display()))?;
    Ok(if text.contains(SET_RIGHT) { LEFT_BY_CUTS } else { 0 })
}

/// What is wrong with the group's pool and does not become right while what was deleted is removed; nothing where there
/// is no pool. So many pieces may be nobody's.
pub async fn problems(group: &str, left: u64) -> Result<Vec<String>> {
    let begun = Instant::now();
    loop {
        let problems = problems_now(group, left);
        if problems.is_empty() || begun.elapsed() > REMOVAL_LIMIT {
            return Ok(problems);
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// What is wrong with it at this moment.
pub fn problems_now(group: &str, left: u64) -> Vec<String> {
    match heard(group) {
        Ok(None) => Vec::new(),
        Ok(Some(statements)) => wrong(&statements, left),
        Err(error) => vec![format!("the pool cannot be asked: {error:#}")],
    }
}

/// Takes the pool away if there is one, as an administrator may when nothing is in it.
pub fn remove(group: &str) -> Result<()> {
    let chosen = format!("lv_name={POOL}");
    run("lvm", &["lvremove", "--yes", "--select", &chosen, group]).map(drop)
}

fn heard(group: &str) -> Result<Option<Statements>> {
    let columns = "lv_name,segtype,pool_lv,thin_id,transaction_id";
    let output = run("lvm", &["lvs", "--noheadings", "--separator", ";", "-o", columns, group])?;
    let rows: Vec<Vec<&str>> = output.lines().map(|line| line.trim().split(';').collect()).collect();
    let Some(pool) = rows.iter().find(|row| row[0] == POOL && row[1] == "thin-pool") else { return Ok(None) };
    let transaction = pool.get(4).context("no transaction")?.parse()?;
    let ids = rows.iter().filter(|row| row.get(2) == Some(&POOL)).map(|row| Ok(row[3].parse()?));
    let ids = ids.collect::<Result<_>>()?;
    let device = format!("{group}-{}", POOL.replace('-', "--"));
    let (pool, metadata) = (format!("{device}-tpool"), format!("/dev/mapper/{device}_tmeta"));
    let status = || {
        let line = run("dmsetup", &["status", &pool])?;
        let (_, status) = line.split_once(" thin-pool ").context("it is no pool to the kernel")?;
        anyhow::Ok(status.to_owned())
    };
    run("dmsetup", &["message", &pool, "0", "reserve_metadata_snap"])?;
    let dump = run("thin_dump", &["--metadata-snap", &metadata]);
    run("dmsetup", &["message", &pool, "0", "release_metadata_snap"])?;
    Ok(Some(Statements { transaction, ids, status: status()?, dump: dump? }))
}

/// What the witnesses do not agree on, and what the kernel says of the pool that is no good.
fn wrong(said: &Statements, left: u64) -> Vec<String> {
    let mut problems = Vec::new();
    // `TRANSACTION USED/ALL USED/ALL HELD MODE …`, of metadata and of data.
    let words: Vec<&str> = said.status.split_whitespace().collect();
    if words.first() != Some(&said.transaction.to_string().as_str()) {
        problems
            .push(format!("lvm is at transaction {} of the pool, the kernel says {}", said.transaction, said.status));
    }
    if !words.contains(&"rw") || words.contains(&"needs_check") {
        problems.push(format!("the pool does not work as it should: {}", said.status));
    }
    let count = |word: Option<&&str>| -> Option<(u64, u64)> {
        let (used, all) = word?.split_once('/')?;
        Some((used.parse().ok()?, all.parse().ok()?))
    };
    let Some((used, all)) = count(words.get(2)) else {
        problems.push(format!("the kernel's words are not understood: {}", said.status));
        return problems;
    };
    if percent(used, all) >= POOL_GROWS_AT {
        problems.push(format!("the pool is at its mark, but does not grow: {}", said.status));
    }
    let ids: BTreeSet<u64> = said.dump.lines().filter_map(|line| number(line, "dev_id")).collect();
    if ids != said.ids {
        problems.push(format!("lvm has the volumes {:?} in the pool, the pool itself {ids:?}", said.ids));
    }
    let held = held(&said.dump);
    if !(held..=held + left).contains(&used) {
        problems.push(format!("{used} pieces of the pool are in use, its volumes hold {held}"));
    }
    problems
}

/// How many pieces of data the volumes of a dump hold; one that several share counts once.
fn held(dump: &str) -> u64 {
    let mapped = |line: &str| -> Option<Range<u64>> {
        let begin = number(line, "data_begin").or_else(|| number(line, "data_block"))?;
        Some(begin..begin + number(line, "length").unwrap_or(1))
    };
    let mut ranges: Vec<Range<u64>> = dump.lines().filter_map(mapped).collect();
    ranges.sort_unstable_by_key(|range| range.start);
    let (mut held, mut end) = (0, 0);
    for range in ranges {
        held += range.end.saturating_sub(range.start.max(end));
        end = end.max(range.end);
    }
    held
}

/// The number of an attribute in a line of XML.
fn number(line: &str, attribute: &str) -> Option<u64> {
    let (_, rest) = line.split_once(&format!(" {attribute}=\""))?;
    rest.split_once('"')?.0.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Pieces that may be nobody's.
    const LEFT: u64 = 16;
    const DUMP: &str = r#"<superblock uuid="" time="1" transaction="7" version="2" data_block_size="128" nr_data_blocks="1024">
  <device dev_id="1" mapped_blocks="5" transaction="0" creation_time="0" snap_time="1">
    <range_mapping origin_begin="0" data_begin="0" length="4" time="0"/>
    <single_mapping origin_block="9" data_block="17" time="1"/>
  </device>
  <device dev_id="4" mapped_blocks="4" transaction="1" creation_time="1" snap_time="1">
    <range_mapping origin_begin="0" data_begin="0" length="4" time="0"/>
  </device>
</superblock>"#;

    fn told(change: impl FnOnce(&mut Statements)) -> Vec<String> {
        let mut statements = Statements {
            transaction: 7,
            ids: [1, 4].into(),
            status: String::from("7 14/1024 5/1024 - rw discard_passdown error_if_no_space - 512"),
            dump: String::from(DUMP),
        };
        change(&mut statements);
        wrong(&statements, LEFT)
    }

    #[test]
    fn witnesses_that_agree_leave_nothing_to_tell() {
        assert_eq!(told(|_| {}), Vec::<String>::new());
    }

    #[test]
    fn pieces_that_no_volume_holds_are_told() {
        for used in ["4/1024", "22/1024"] {
            let problems = told(|said| said.status = said.status.replace("5/1024", used));
            assert!(problems.len() == 1 && problems[0].contains("volumes hold 5"), "{problems:?}");
        }
        assert_eq!(told(|said| said.status = said.status.replace("5/1024", "21/1024")), Vec::<String>::new());
    }

    #[test]
    fn pieces_may_be_nobodys_only_where_a_pool_was_set_right() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("node.log");
        for (line, left) in [("made a thin pool", 0), ("WARN set right what a power cut left in a thin pool", LEFT)] {
            fs::write(&log, line).unwrap();
            assert_eq!(left_by_cuts(&log).unwrap(), left);
        }
    }

    #[test]
    fn a_volume_that_only_one_side_knows_is_told() {
        let without = told(|said| {
            said.ids.remove(&4);
        });
        let with = told(|said| {
            said.ids.insert(9);
        });
        for problems in [without, with] {
            assert!(problems.len() == 1 && problems[0].contains("the pool itself {1, 4}"), "{problems:?}");
        }
    }

    #[test]
    fn another_transaction_is_told() {
        assert_eq!(told(|said| said.transaction = 8).len(), 1);
    }

    #[test]
    fn a_pool_that_is_due_and_stays_as_it_is_is_told() {
        assert_eq!(told(|said| said.status = said.status.replace("5/1024", "5/10")).len(), 1);
    }

    #[test]
    fn a_pool_that_takes_no_writes_or_wants_a_check_is_told() {
        assert_eq!(told(|said| said.status = said.status.replace("rw", "out_of_data_space")).len(), 1);
        assert_eq!(told(|said| said.status = said.status.replace(" - 512", " needs_check 512")).len(), 1);
    }
}
