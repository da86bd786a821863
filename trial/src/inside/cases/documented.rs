//! The commands of docs/pools.md, so that cases run what stands there and nothing else.

use anyhow::{Context, Result};

use crate::inside::check::run;

const POOLS: &str = include_str!("../../../../docs/pools.md");

/// Runs the commands below the words that stand in bold, or as a heading: those of the block with that number, with names put in for
/// those that stand there.
pub(super) fn follow(heading: &str, block: usize, names: &[(&str, &str)]) -> Result<()> {
    for command in commands(heading, block)? {
        let put_in = |text: String, (there, here): &(&str, &str)| text.replace(there, here);
        run(&["sh", "-c", &names.iter().fold(command.to_owned(), put_in)])?;
    }
    Ok(())
}

fn commands(heading: &str, block: usize) -> Result<Vec<&'static str>> {
    let begins = |line: &str| line.starts_with(&format!("**{heading}.**")) || line == format!("## {heading}");
    let ends = |line: &str| line.starts_with("**") || line.starts_with("## ");
    let mut lines = POOLS.lines().skip_while(|line| !begins(line));
    lines.next().with_context(|| format!("docs/pools.md has no {heading:?}"))?;
    let section: Vec<&str> = lines.take_while(|line| !ends(line)).collect();
    let mut blocks = section.split(|line| !line.starts_with("    ")).filter(|block| !block.is_empty());
    let block = blocks.nth(block).with_context(|| format!("docs/pools.md has no such commands for {heading:?}"))?;
    Ok(block.iter().map(|line| line.trim()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_those_that_stand_below_their_heading() {
        assert_eq!(commands("Filling or full", 1).unwrap(), ["lvextend --extents +20 own/fixed"]);
        assert_eq!(commands("Needs a check, read-only, failed", 0).unwrap().len(), 3);
        assert!(commands("Removing a pool", 0).unwrap()[0].starts_with("blkdiscard "));
        assert!(commands("Filling or full", 2).is_err(), "those of the next paragraph are its own");
        assert!(commands("Filling", 0).is_err());
    }
}
