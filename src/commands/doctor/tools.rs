//! The programs that a node starts, where they are, and which version they are.

use std::time::Duration;

use super::finding::Finding;
use crate::host::commands::{Command, Commands, Output};
use crate::host::processes::Processes;

const AREA: &str = "tools";
/// How long a program may take to say its version.
const PATIENCE: Duration = Duration::from_secs(10);
/// The oldest lvm that the tests run with.
const TESTED_LVM: [u64; 3] = [2, 3, 16];

/// A program that a node may need.
struct Tool {
    program: &'static str,
    /// What makes it say its version. `resize2fs` says it only when it complains.
    arguments: &'static [&'static str],
    /// The package of Debian; elsewhere it is called much the same.
    package: &'static str,
    need: Need,
}

enum Need {
    Always,
    /// For volumes with this file system or of this layout.
    For(&'static str),
}

const TOOLS: [Tool; 11] = [
    Tool { program: "lvm", arguments: &["version"], package: "lvm2", need: Need::Always },
    Tool { program: "blkid", arguments: &["-V"], package: "util-linux", need: Need::Always },
    Tool { program: "mkfs.ext4", arguments: &["-V"], package: "e2fsprogs", need: Need::For("ext4") },
    Tool { program: "resize2fs", arguments: &[], package: "e2fsprogs", need: Need::For("ext4") },
    Tool { program: "mkfs.xfs", arguments: &["-V"], package: "xfsprogs", need: Need::For("xfs") },
    Tool { program: "xfs_growfs", arguments: &["-V"], package: "xfsprogs", need: Need::For("xfs") },
    Tool { program: "xfs_db", arguments: &["-V"], package: "xfsprogs", need: Need::For("xfs") },
    Tool { program: "mkfs.btrfs", arguments: &["--version"], package: "btrfs-progs", need: Need::For("btrfs") },
    Tool { program: "btrfs", arguments: &["--version"], package: "btrfs-progs", need: Need::For("btrfs") },
    Tool { program: "btrfstune", arguments: &["--version"], package: "btrfs-progs", need: Need::For("btrfs") },
    Tool { program: "thin_check", arguments: &["-V"], package: "thin-provisioning-tools", need: Need::For("thin") },
];

pub(super) async fn examine(processes: &Processes, is_used: &dyn Fn(&str) -> bool) -> Vec<Finding> {
    let mut findings = Vec::new();
    for tool in TOOLS {
        findings.push(one(processes, &tool, is_used).await);
    }
    findings
}

async fn one(processes: &Processes, tool: &Tool, is_used: &dyn Fn(&str) -> bool) -> Finding {
    let (is_needed, purpose) = match tool.need {
        Need::Always => (true, String::from("every node needs it")),
        Need::For(kind) => (is_used(kind), format!("{kind} volumes need it")),
    };
    let Ok(path) = processes.locate(tool.program) else {
        let found = format!("{} is not installed; {purpose}", tool.program);
        return Finding::lacking(is_needed, AREA, found, format!("install {}", tool.package));
    };
    let command = Command::new(tool.program).arguments(tool.arguments.iter().copied());
    match tokio::time::timeout(PATIENCE, processes.run(&command)).await {
        Ok(Ok(output)) => judge(tool, &path.display().to_string(), version(&output).as_deref()),
        Ok(Err(error)) => {
            Finding::lacking(is_needed, AREA, error.to_string(), format!("install {} anew", tool.package))
        }
        Err(_) => Finding::lacking(
            is_needed,
            AREA,
            format!("`{command}` has not ended after {} s and was left running", PATIENCE.as_secs()),
            "see what it waits for: cat /proc/PID/stack, dmesg",
        ),
    }
}

fn judge(tool: &Tool, path: &str, version: Option<&str>) -> Finding {
    let Some(version) = version else {
        let found = format!("{} ({path}) does not say its version", tool.program);
        return Finding::warn(AREA, found, format!("see whether it is the one of {}", tool.package));
    };
    let found = format!("{} {version} ({path})", tool.program);
    if tool.program == "lvm" && numbers(version) < TESTED_LVM.to_vec() {
        return Finding::warn(AREA, format!("{found}, older than any that is tested"), "use lvm 2.03.16 or later");
    }
    Finding::ok(AREA, found)
}

/// The first word that looks like a version, in whichever stream it stands.
fn version(output: &Output) -> Option<String> {
    let stdout = String::from_utf8_lossy(&output.stdout);
    let mut words = stdout.split_whitespace().chain(output.stderr.split_whitespace());
    words.find_map(|word| {
        let word = word.strip_prefix('v').unwrap_or(word);
        let starts_with_digit = word.starts_with(|first: char| first.is_ascii_digit());
        (starts_with_digit && word.contains('.')).then(|| word.trim_end_matches([',', ';']).to_owned())
    })
}

/// `2.03.16(2)` as 2, 3, 16.
fn numbers(version: &str) -> Vec<u64> {
    let end = version.find(|character: char| !character.is_ascii_digit() && character != '.');
    version[..end.unwrap_or(version.len())].split('.').map_while(|part| part.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::super::finding::Level;
    use super::*;

    #[test]
    fn versions_are_found_where_each_tool_writes_them() {
        for (stdout, stderr, expected) in [
            ("  LVM version:     2.03.31(2) (2025-02-27)\n  Library version: 1.02.205\n", "", Some("2.03.31(2)")),
            ("", "mke2fs 1.47.2 (1-Jan-2025)\n\tUsing EXT2FS Library version 1.47.2\n", Some("1.47.2")),
            ("mkfs.xfs version 6.13.0\n", "", Some("6.13.0")),
            ("mkfs.btrfs, part of btrfs-progs v6.14\n", "", Some("6.14")),
            ("blkid from util-linux 2.41 (libblkid 2.41.0, 18-Mar-2025)\n", "", Some("2.41")),
            ("", "usage: something else\n", None),
        ] {
            let output = Output { status: Some(0), stdout: stdout.into(), stderr: stderr.to_owned() };
            assert_eq!(version(&output).as_deref(), expected);
        }
    }

    #[test]
    fn an_lvm_older_than_the_tested_ones_is_a_warning() {
        let [lvm, ..] = TOOLS;
        let level = |version| judge(&lvm, "/sbin/lvm", Some(version)).level;
        assert_eq!(level("2.03.31(2)"), Level::Ok);
        assert_eq!(level("2.03.16(2)"), Level::Ok);
        assert_eq!(level("2.03.9(2)"), Level::Warn);
        assert_eq!(level("2.02.187(2)"), Level::Warn);
        assert_eq!(judge(&lvm, "/sbin/lvm", None).level, Level::Warn);
    }

    #[tokio::test]
    async fn a_program_that_is_nowhere_fails_only_where_it_is_needed() {
        let nowhere = |need| Tool { program: "quarry-has-no-such-program", arguments: &[], package: "nothing", need };
        let processes = Processes::new();
        let is_used = |file_system: &str| file_system == "xfs";
        for (need, level) in
            [(Need::Always, Level::Fail), (Need::For("xfs"), Level::Fail), (Need::For("btrfs"), Level::Warn)]
        {
            assert_eq!(one(&processes, &nowhere(need), &is_used).await.level, level);
        }
    }
}
