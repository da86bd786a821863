//! The programs of the fake machine. They understand exactly the lines that the driver sends.

use quarry::host::commands::{Command, CommandError, Commands, Output};

use crate::disk_format::{EXTENT, uuid};
use crate::file_system;
use crate::lvm::Group;
use crate::machine::Machine;
use crate::seat::{Seat, Spoiled};

const LVM_FAILED: i32 = 5;

fn ended(status: i32, stderr: &str) -> Output {
    Output { status: Some(status), stdout: Vec::new(), stderr: stderr.to_owned() }
}

fn done() -> Output {
    ended(0, "")
}

fn refused(stderr: &str) -> Output {
    ended(LVM_FAILED, stderr)
}

#[tonic::async_trait]
impl Commands for Seat {
    async fn run(&self, command: &Command) -> Result<Output, CommandError> {
        let words: Vec<String> =
            command.arguments.iter().map(|word| word.to_str().unwrap_or_default().to_owned()).collect();
        let line = line(command.program, &words);
        while self.bench.is_hanging(&line) {
            tokio::time::sleep(std::time::Duration::from_secs(1)).await;
        }
        match self.bench.spoiled().filter(|_| command.program == "lvm") {
            Some(Spoiled::Missing) => return Err(CommandError::Missing { program: command.program.to_owned() }),
            Some(Spoiled::Killed) => return Ok(Output::default()),
            Some(Spoiled::Nonsense) => return Ok(Output { stdout: b"Segmentation fault".to_vec(), ..done() }),
            Some(Spoiled::Verbose) => return Ok(refused(&("WARNING: ß.\n".repeat(5461) + "No room for metadata."))),
            None => {}
        }
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let run = |machine: &mut Machine| match command.program {
            "lvm" => machine.lvm(&words),
            "mkfs.ext4" => machine.make_file_system(&words),
            "resize2fs" => machine.resize(&words),
            "blkid" => machine.blkid(&words),
            other => panic!("unknown program {other} {words:?}"),
        };
        let status = if command.program == "lvm" { LVM_FAILED } else { 1 };
        Ok(self.effect(line, run, || ended(status, "planned to fail")).await)
    }
}

fn line(program: &str, words: &[String]) -> String {
    words.iter().fold(program.to_owned(), |line, word| line + " " + word)
}

impl Machine {
    fn lvm(&mut self, words: &[&str]) -> Output {
        let [subcommand, rest @ ..] = words else { panic!("lvm without a command") };
        if *subcommand == "fullreport" {
            return self.report(rest);
        }
        // Only the devices of the group are looked at.
        let mut rest = rest;
        while let ["--devices", device, others @ ..] = rest {
            assert!(self.disks.contains_key(device.trim_start_matches("/dev/")), "{words:?}");
            rest = others;
        }
        match (*subcommand, rest) {
            ("lvcreate", ["--yes", "--activate", "n", "--zero", "n", "--wipesignatures", "n", rest @ ..]) => {
                let ["--type", "linear", "--extents", extents, rest @ ..] = rest else { panic!("{words:?}") };
                self.lvcreate(extents.parse().unwrap(), rest)
            }
            ("lvextend", ["--extents", extents, volume]) => self.lvextend(extents.parse().unwrap(), volume),
            ("lvchange", ["--yes", "--activate", "y", "--ignoreactivationskip", volume]) => {
                self.on_volume(volume, Self::activate)
            }
            ("lvchange", ["--activate", "n", volume]) => self.deactivate(volume),
            ("lvchange", ["--refresh", volume]) => self.on_volume(volume, Self::reload),
            ("lvchange", [tags @ .., volume]) => self.change_tags(tags, volume),
            ("lvremove", ["--force", "--yes", volumes @ ..]) if !volumes.is_empty() => self.lvremove(volumes),
            ("vgcfgbackup", [group]) => {
                let Some(seqno) = self.group(group).map(|group| group.seqno) else { return refused("no such group") };
                self.backups.insert((*group).to_owned(), seqno);
                done()
            }
            _ => panic!("unknown lvm line {words:?}"),
        }
    }

    fn lvcreate(&mut self, extents: usize, rest: &[&str]) -> Output {
        let [tags @ .., "--name", name, group] = rest else { panic!("lvcreate {rest:?}") };
        let tags: Vec<String> = tag_changes(tags)
            .into_iter()
            .map(|(flag, tag)| {
                assert_eq!(flag, "--addtag");
                tag
            })
            .collect();
        match self.group(group) {
            None => return refused("Volume group not found"),
            Some(there) if there.volume(name).is_some() => return refused("Logical volume already exists"),
            Some(_) => {}
        }
        match self.make_volume(group, name, extents, &tags) {
            Some(()) => done(),
            None => refused("Volume group has insufficient free space"),
        }
    }

    fn lvextend(&mut self, extents: usize, full_name: &str) -> Output {
        let (group, name) = split(full_name);
        let Some(volume) = self.volume(group, name) else { return refused("Failed to find logical volume") };
        if extents <= volume.extents() {
            return refused("New size not larger than existing size");
        }
        let Some(segments) = self.group(group).and_then(|there| there.allocate(extents - volume.extents())) else {
            return refused("Insufficient free space");
        };
        self.group_mut(group).unwrap().volume_mut(name).unwrap().segments.extend(segments);
        self.commit(group);
        self.reload(group, name);
        done()
    }

    fn on_volume(&mut self, full_name: &str, act: impl FnOnce(&mut Self, &str, &str)) -> Output {
        let (group, name) = split(full_name);
        if self.volume(group, name).is_none() {
            return refused("Failed to find logical volume");
        }
        act(self, group, name);
        done()
    }

    fn deactivate(&mut self, full_name: &str) -> Output {
        let (group, name) = split(full_name);
        let Some(minor) = self.minor(group, name) else { return self.on_volume(full_name, |_, _, _| ()) };
        if self.open_count(minor) > 0 {
            return refused("Logical volume in use");
        }
        self.devices.remove(&minor);
        done()
    }

    fn change_tags(&mut self, changes: &[&str], full_name: &str) -> Output {
        let (group, name) = split(full_name);
        let Some(volume) = self.group_mut(group).and_then(|group| group.volume_mut(name)) else {
            return refused("Failed to find logical volume");
        };
        assert!(volume.is_quarrys(), "the tags of {volume:?} are changed, which is not ours");
        for (flag, tag) in tag_changes(changes) {
            volume.tags.retain(|has| *has != tag);
            if flag == "--addtag" {
                volume.tags.push(tag);
            }
        }
        self.commit(group);
        done()
    }

    fn lvremove(&mut self, full_names: &[&str]) -> Output {
        let mut status = done();
        let (group, _) = split(full_names[0]);
        for (other, name) in full_names.iter().map(|full_name| split(full_name)) {
            assert_eq!(group, other, "volumes of several groups are removed at once");
            let Some(volume) = self.volume(group, name) else {
                status = refused("Failed to find logical volume");
                continue;
            };
            assert!(volume.is_quarrys() && volume.is_deleting(), "{volume:?} is removed");
            if let Some(minor) = self.minor(group, name) {
                assert_eq!(self.open_count(minor), 0, "{volume:?} is removed while it is open");
                self.devices.remove(&minor);
            }
            self.group_mut(group).unwrap().volumes.retain(|volume| volume.name != name);
        }
        self.commit(group);
        status
    }

    fn make_file_system(&mut self, words: &[&str]) -> Output {
        let ["-q", "-F", "-E", "nodiscard", device] = words else { panic!("mkfs.ext4 {words:?}") };
        let Some(minor) = self.minor_at(device.as_ref()) else { return ended(1, "no such device") };
        file_system::make(self, minor);
        done()
    }

    /// resize2fs of a mounted file system, as the driver does it.
    fn resize(&mut self, words: &[&str]) -> Output {
        let [device] = words else { panic!("resize2fs {words:?}") };
        let Some(minor) = self.minor_at(device.as_ref()) else { return ended(1, "no such device") };
        let is_mounted = self.mounts.iter().any(|mount| mount.device.minor == minor && mount.file_system == "ext4");
        assert!(is_mounted, "resize2fs of a file system that is not mounted");
        file_system::grow(self, minor);
        done()
    }

    /// Whatever is on a device that is no ext4 is of a kind that blkid does not know.
    fn blkid(&mut self, words: &[&str]) -> Output {
        let ["-p", "-o", "export", device] = words else { panic!("blkid {words:?}") };
        assert!(self.minor_at(device.as_ref()).is_some(), "blkid of {device}");
        ended(2, "")
    }

    fn report(&self, words: &[&str]) -> Output {
        let ["--all", "--readonly", "--foreign", "--shared", "--reportformat", "json", ..] = words else {
            panic!("fullreport {words:?}")
        };
        let groups: Vec<String> = self.groups.iter().map(report_group).collect();
        Output { stdout: format!("{{\"report\": [{}]}}", groups.join(",")).into_bytes(), ..done() }
    }
}

fn report_group(group: &Group) -> String {
    let extents: usize = group.physical_volumes.iter().map(|volume| volume.extents).sum();
    let physical = group.physical_volumes.iter().enumerate().map(|(index, volume)| {
        format!(
            r#"{{"pv_uuid":"{}","pv_pe_count":"{}","pv_pe_alloc_count":"{}","pv_allocatable":"allocatable","pv_missing":""}}"#,
            uuid(volume.number),
            volume.extents,
            volume.extents - group.free_on(index).len()
        )
    });
    let logical = group.volumes.iter().map(|volume| {
        format!(
            r#"{{"lv_name":"{}","lv_uuid":"{}","lv_size":"{}","lv_tags":"{}"}}"#,
            volume.name,
            uuid(volume.number),
            volume.extents() * EXTENT,
            volume.tags.join(",")
        )
    });
    format!(
        r#"{{"vg":[{{"vg_name":"{}","vg_uuid":"{}","vg_seqno":"{}","vg_extent_size":"{EXTENT}","vg_extent_count":"{extents}","vg_free_count":"{}","vg_tags":""}}],"pv":[{}],"lv":[{}]}}"#,
        group.name,
        uuid(group.number),
        group.seqno,
        group.free_extents(),
        physical.collect::<Vec<_>>().join(","),
        logical.collect::<Vec<_>>().join(",")
    )
}

/// `--addtag a --deltag b` as pairs.
fn tag_changes(words: &[&str]) -> Vec<(String, String)> {
    assert_eq!(words.len() % 2, 0, "{words:?}");
    let pairs = words.chunks(2).map(|pair| (pair[0].to_owned(), pair[1].to_owned()));
    pairs.inspect(|(flag, _)| assert!(["--addtag", "--deltag"].contains(&flag.as_str()), "{words:?}")).collect()
}

fn split(full_name: &str) -> (&str, &str) {
    full_name.split_once('/').unwrap_or_else(|| panic!("{full_name} is no group/volume"))
}
