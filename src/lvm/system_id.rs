//! The name under which this machine owns volume groups, where system ids are used (lvmsystemid(7)).

use crate::error::Result;
use crate::host::commands::{Command, Commands};

/// This machine's system id; `None` where it has none. lvm knows it from settings, a file or the host's name, so it
/// is asked.
pub async fn own(commands: &dyn Commands) -> Result<Option<String>> {
    let output = commands.run_ok(&Command::new("lvm").argument("systemid")).await?;
    Ok(parse(&String::from_utf8_lossy(&output.stdout)))
}

/// The id in `system ID: name`.
fn parse(output: &str) -> Option<String> {
    let id = output.lines().find_map(|line| line.trim().strip_prefix("system ID:"))?.trim();
    (!id.is_empty()).then(|| id.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_has_a_system_id_or_none() {
        assert_eq!(parse("  system ID: rack-7\n"), Some(String::from("rack-7")));
        assert_eq!(parse("  system ID: \n"), None);
        assert_eq!(parse("  WARNING: something else\n"), None);
    }
}
