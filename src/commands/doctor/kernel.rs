//! What the kernel must offer.

use std::fs;
use std::io;
use std::path::Path;

use super::finding::Finding;
use crate::host::file_system::FileSystem;
use crate::host::linux::Linux;

const AREA: &str = "kernel";
const FILE_SYSTEMS: [FileSystem; 3] = [FileSystem::Ext4, FileSystem::Xfs, FileSystem::Btrfs];
/// What of device-mapper only some volumes need, their layout, and for what.
const TARGETS: [(&str, &str, &str); 2] =
    [("thin-pool", "thin", "thin volumes"), ("snapshot", "linear", "snapshots of thick volumes")];
/// The first Linux that gives a bind mount its flags before anybody can see it.
const COMPLETE_BINDS: (u32, u32) = (5, 12);

pub(super) async fn examine(kernel: &Linux, is_used: &dyn Fn(&str) -> bool) -> Vec<Finding> {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let release = release.trim();
    let mapper = kernel.mapper_version().await;
    let loaded = fs::read_to_string("/proc/filesystems").unwrap_or_default();
    let modules = modules(release);
    let mut findings = vec![judge_release(release), judge_mapper(mapper)];
    let words = FILE_SYSTEMS.map(FileSystem::word);
    findings.extend(words.map(|word| judge_file_system(word, &loaded, &modules, is_used(word))));
    for (target, layout, purpose) in TARGETS {
        findings.push(judge_target(kernel.has_target(target).await, target, purpose, is_used(layout)));
    }
    findings
}

/// The names of the modules that can be loaded or are built in; a path a line.
fn modules(release: &str) -> String {
    let folder = Path::new("/lib/modules").join(release);
    let lists = ["modules.dep", "modules.builtin"].map(|list| fs::read_to_string(folder.join(list)));
    lists.into_iter().filter_map(Result::ok).collect()
}

fn judge_release(release: &str) -> Finding {
    let mut numbers = release.split(['.', '-']).map_while(|part| part.parse::<u32>().ok());
    match (numbers.next(), numbers.next()) {
        (Some(major), Some(minor)) if (major, minor) >= COMPLETE_BINDS => Finding::ok(AREA, format!("Linux {release}")),
        (Some(_), Some(_)) => Finding::warn(
            AREA,
            format!("Linux {release}: a read-only mount is writable for a moment when it is made"),
            "run Linux 5.12 or later where that matters",
        ),
        _ => Finding::warn(AREA, format!("Linux {release:?}: the version is not understood"), "see uname -r"),
    }
}

fn judge_mapper(version: io::Result<Option<[u32; 3]>>) -> Finding {
    match version {
        Ok(Some([major, minor, patch])) => Finding::ok(AREA, format!("device-mapper {major}.{minor}.{patch}")),
        Ok(None) => Finding::fail(
            AREA,
            "no device-mapper: /dev/mapper/control is missing or leads nowhere",
            "run modprobe dm_mod; in a container mount the host's /dev",
        ),
        Err(error) => {
            Finding::fail(AREA, format!("device-mapper cannot be asked: {error}"), "run as root with the host's /dev")
        }
    }
}

/// Asking is what a node does at its start: the kernel has loaded the module by now, if there is one.
fn judge_target(has: io::Result<bool>, target: &str, purpose: &str, is_used: bool) -> Finding {
    match has {
        Ok(true) => Finding::ok(AREA, format!("device-mapper target {target}")),
        Ok(false) => Finding::lacking(
            is_used,
            AREA,
            format!("no device-mapper target {target} in this kernel: there can be no {purpose}"),
            format!("run modprobe dm-{target} on the host, or a kernel with it"),
        ),
        Err(error) => {
            let found = format!("device-mapper cannot be asked for its target {target}: {error}");
            Finding::lacking(is_used, AREA, found, "run as root with the host's /dev")
        }
    }
}

fn judge_file_system(word: &str, loaded: &str, modules: &str, is_used: bool) -> Finding {
    let is_loaded = loaded.lines().any(|line| line.split_whitespace().last() == Some(word));
    // `kernel/fs/xfs/xfs.ko.zst: kernel/lib/libcrc32c.ko.zst`
    let module = format!("/{word}.ko");
    let is_there = modules.lines().any(|line| line.split(':').next().is_some_and(|path| path.contains(&module)));
    if is_loaded {
        Finding::ok(AREA, format!("file system {word}"))
    } else if is_there {
        Finding::ok(AREA, format!("file system {word} (a module that is loaded at the first mount)"))
    } else {
        Finding::lacking(
            is_used,
            AREA,
            format!("no file system {word} in this kernel: such volumes cannot be mounted"),
            format!("run a kernel with {word}, or do not use it in a class or a request"),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::Level;
    use super::*;

    #[test]
    fn a_file_system_is_there_loaded_or_as_a_module() {
        let loaded = "nodev\tsysfs\n\text4\n";
        let modules = "kernel/fs/xfs/xfs.ko.zst: kernel/lib/libcrc32c.ko.zst\nkernel/x.ko: kernel/fs/btrfs/btrfs.ko\n";
        let level = |word, is_used| judge_file_system(word, loaded, modules, is_used).level;
        assert_eq!(level("ext4", true), Level::Ok);
        assert_eq!(level("xfs", true), Level::Ok);
        assert_eq!(level("btrfs", false), Level::Warn);
        assert_eq!(level("btrfs", true), Level::Fail);
        assert_eq!(level("sysfs", true), Level::Ok);
    }

    #[test]
    fn a_target_that_no_class_needs_is_not_missed() {
        let level = |has, is_used| judge_target(has, "thin-pool", "thin volumes", is_used).level;
        assert_eq!(level(Ok(true), true), Level::Ok);
        assert_eq!(level(Ok(false), true), Level::Fail);
        assert_eq!(level(Ok(false), false), Level::Warn);
        assert_eq!(level(Err(io::ErrorKind::PermissionDenied.into()), true), Level::Fail);
    }

    #[test]
    fn versions_and_releases_are_judged() {
        assert_eq!(judge_release("6.1.0-40-amd64").level, Level::Ok);
        assert_eq!(judge_release("5.12").level, Level::Ok);
        assert_eq!(judge_release("5.10.0-30-amd64").level, Level::Warn);
        assert_eq!(judge_release("").level, Level::Warn);
        assert_eq!(judge_mapper(Ok(Some([4, 50, 0]))), Finding::ok(AREA, "device-mapper 4.50.0"));
        assert_eq!(judge_mapper(Ok(None)).level, Level::Fail);
        assert_eq!(judge_mapper(Err(io::ErrorKind::PermissionDenied.into())).level, Level::Fail);
    }
}
