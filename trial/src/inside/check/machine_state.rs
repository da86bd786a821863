//! What must not change by a request that is refused: logical volumes with their tags, groups, mounts, mapped
//! devices, files.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anyhow::Result;

use super::ground::FOLDER;
use super::lvm_stand_in::REAL_LVM;
use super::tools::{lvm, run};

/// The machine as far as a driver could change it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MachineState(BTreeSet<String>);

impl MachineState {
    /// As it is now.
    pub fn read() -> Result<Self> {
        let mut facts = BTreeSet::new();
        let mut note = |kind: &str, text: &str| {
            facts.extend(text.lines().map(|line| format!("{kind} {}", line.trim())));
        };
        note("volume", &lvm(&["lvs", "--noheadings", "-a", "-o", "vg_name,lv_name,lv_size,lv_tags,lv_attr"])?);
        note("group", &lvm(&["vgs", "--noheadings", "-o", "vg_name,vg_attr,vg_free_count,pv_count"])?);
        note("device", &run(&["dmsetup", "info", "-c", "--noheadings", "-o", "name,suspended,readonly"])?);
        let mounts = fs::read_to_string("/proc/self/mountinfo")?;
        let mounts: Vec<String> = mounts.lines().map(without_numbers).collect();
        note("mount", &mounts.join("\n"));
        let mut files = Vec::new();
        list(Path::new(FOLDER), &mut files)?;
        note("file", &files.join("\n"));
        Ok(Self(facts))
    }

    /// What is only in one of the two.
    pub fn differences(&self, after: &Self) -> Vec<String> {
        let gone = self.0.difference(&after.0).map(|fact| format!("gone: {fact}"));
        gone.chain(after.0.difference(&self.0).map(|fact| format!("new: {fact}"))).collect()
    }
}

/// A line of the mount table without what changes by itself.
fn without_numbers(line: &str) -> String {
    line.split(' ').skip(3).collect::<Vec<_>>().join(" ")
}

fn list(folder: &Path, files: &mut Vec<String>) -> Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        files.push(entry.path().to_string_lossy().escape_debug().to_string());
        if entry.file_type()?.is_dir() {
            list(&entry.path(), files)?;
        }
    }
    Ok(())
}

/// Takes away whatever a case left, by force: mounts, volumes, groups other than the main one, slices, files.
pub(super) fn sweep() -> Result<()> {
    let script = format!(
        "umount --lazy /usr/sbin/lvm 2>/dev/null; rm -f /run/check-bin/hang
        for turn in 1 2 3 4 5; do
            sed -n 's|^[^ ]* [^ ]* [^ ]* [^ ]* \\({FOLDER}/[^ ]*\\) .*|\\1|p' /proc/self/mountinfo | tac |
                while read -r target; do umount --lazy \"$(printf %b \"$target\")\"; done
        done
        for device in $(dmsetup ls | sed -n 's/^\\(slice-[0-9]*\\).*/\\1/p'); do dmsetup resume $device; done
        {REAL_LVM} vgs --noheadings -o vg_name | while read -r group; do
            for volume in $({REAL_LVM} lvs --noheadings -o lv_name $group); do
                dmsetup resume $(echo $group | sed s/-/--/g)-$(echo $volume | sed s/-/--/g)
            done
            if [ $group = main ]; then {REAL_LVM} lvremove -qq -y -f $group
            else {REAL_LVM} vgremove -qq -ff -y $group; fi
        done
        for device in $(dmsetup ls | grep -v '^main-' | cut -f 1); do dmsetup remove --force --retry $device; done
        rm -rf {FOLDER}/* /etc/lvm/backup/own /etc/lvm/backup/second"
    );
    // Most of it is not there; what counts is the state afterwards.
    std::process::Command::new("sh").args(["-c", &script]).output()?;
    Ok(())
}
