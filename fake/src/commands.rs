//! The programs of the fake machine. They understand exactly the lines that the driver sends, and do and refuse what lvm
//! 2.03.31 does and refuses.
//!
//! - `creating`, `growing`, `changing`, `removing`: the lvm commands of those kinds
//! - `pools`: what all of them do with a thin pool
//! - `report`: what lvm tells

mod changing;
mod creating;
mod growing;
mod pools;
mod removing;
mod report;

use quarry::host::commands::{Command, CommandError, Commands, Output};
use tokio_util::sync::CancellationToken;

use crate::copied;
use crate::file_system;
use crate::machine::Machine;
use crate::seat::{Seat, Spoiled};

const LVM_FAILED: i32 = 5;

/// How a command ends: well, or with this.
type Ended = Result<(), Output>;

fn ended(status: i32, stderr: &str) -> Output {
    Output { status: Some(status), stdout: Vec::new(), stderr: stderr.to_owned() }
}

fn done() -> Output {
    ended(0, "")
}

fn refused(stderr: &str) -> Ended {
    Err(ended(LVM_FAILED, stderr))
}

/// What `--config` says of devices.
#[derive(Debug, Clone, Copy)]
struct Activation {
    /// Per cent of a pool in use from which on lvm refuses more volumes in it.
    mark: usize,
    /// Whether it waits for udev's nodes, without which it finds none that it opens itself.
    waits: bool,
    /// Whether the check of a pool sets right what is trivial.
    repairs: bool,
}

impl Activation {
    /// Takes it from the words of a command.
    fn take(words: &mut &[&str]) -> Self {
        let mut activation = Self { mark: 100, waits: false, repairs: false };
        let ["--config", settings, rest @ ..] = *words else { return activation };
        *words = rest;
        let without = settings.strip_suffix(" global{thin_check_options=[\"-q\",\"--auto-repair\"]}");
        activation.repairs = without.is_some();
        let settings = without.unwrap_or(settings);
        let settings = settings.strip_prefix("activation{").and_then(|rest| rest.strip_suffix('}'));
        for setting in settings.unwrap_or_else(|| panic!("{words:?}")).split(' ') {
            match setting.split_once('=') {
                Some(("thin_pool_autoextend_threshold", mark)) => activation.mark = mark.parse().unwrap(),
                Some(("udev_sync", "1")) => activation.waits = true,
                _ => panic!("setting {setting}"),
            }
        }
        activation
    }
}

#[tonic::async_trait]
impl Commands for Seat {
    async fn run(&self, command: &Command) -> Result<Output, CommandError> {
        let words: Vec<String> =
            command.arguments.iter().map(|word| word.to_str().unwrap_or_default().to_owned()).collect();
        let line = line(command.program, &words);
        match self.bench.spoiled().filter(|_| command.program == "lvm") {
            Some(Spoiled::Missing) => return Err(CommandError::Missing { program: command.program.to_owned() }),
            Some(Spoiled::Killed) => return Ok(Output::default()),
            Some(Spoiled::Nonsense) => return Ok(Output { stdout: b"Segmentation fault".to_vec(), ..done() }),
            Some(Spoiled::Verbose) => {
                return Ok(ended(LVM_FAILED, &("WARNING: ß.\n".repeat(5461) + "No room for metadata.")));
            }
            None => {}
        }
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let run = |machine: &mut Machine| match command.program {
            "lvm" => machine.lvm(&words),
            "mkfs.ext4" => machine.make_file_system(&words),
            "mkfs.xfs" => machine.make_copied_file_system(&words, copied::Kind::Xfs),
            "mkfs.btrfs" => machine.make_copied_file_system(&words, copied::Kind::Btrfs),
            "xfs_db" if words.iter().any(|word| word.starts_with("logformat")) => machine.format_log(&words),
            "xfs_db" => machine.renew_uuid_of(&words, &["-x", "-c", "uuid generate"], copied::Kind::Xfs),
            "btrfstune" => machine.renew_uuid_of(&words, &["-f", "-m"], copied::Kind::Btrfs),
            "resize2fs" => machine.resize(&words),
            "blkid" => machine.blkid(&words),
            // Its file systems have no tables to read, so that all is copied.
            "dumpe2fs" => ended(1, "Bad magic number in super-block"),
            other => panic!("unknown program {other} {words:?}"),
        };
        let status = if command.program == "lvm" { LVM_FAILED } else { 1 };
        Ok(self.effect(line, run, || ended(status, "planned to fail")).await)
    }

    /// One that hangs is killed before it does something.
    async fn run_ok_unless(&self, command: &Command, given_up: CancellationToken) -> Result<Output, CommandError> {
        let killed =
            || CommandError::Failed { command: command.to_string(), status: "a signal".into(), stderr: String::new() };
        tokio::select! {
            ended = self.run_ok(command) => ended,
            () = given_up.cancelled() => Err(killed()),
        }
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
        let activation = Activation::take(&mut rest);
        let ended = match (*subcommand, rest) {
            ("lvcreate", ["--yes", rest @ ..]) => self.lvcreate(rest, activation),
            ("lvextend", [size, most, volume]) => self.lvextend(size, most, volume, activation),
            ("lvchange", ["--yes", "--activate", "y", "--ignoreactivationskip", volume]) => {
                self.make_active(volume, activation)
            }
            ("lvchange", ["--activate", "n", volume]) => self.make_inactive(volume),
            ("lvchange", ["--refresh", volume]) => self.refresh(volume),
            ("lvchange", words) => self.change_tags(words),
            ("lvremove", ["--force", "--yes", volumes @ ..]) if !volumes.is_empty() => {
                self.lvremove(volumes, activation)
            }
            ("lvconvert", ["--yes", "--splitsnapshot", volume]) => self.split_snapshot(volume),
            ("vgcfgbackup", [group]) => self.back_up(group),
            // It waits for others; here they have ended.
            ("vgs", ["--noheadings", "--options", "vg_name", group]) if self.group(group).is_some() => Ok(()),
            _ => panic!("unknown lvm line {words:?}"),
        };
        ended.err().unwrap_or_else(done)
    }

    fn back_up(&mut self, group: &str) -> Ended {
        let Some(seqno) = self.group(group).map(|group| group.seqno) else { return refused("no such group") };
        self.backups.insert(group.to_owned(), seqno);
        Ok(())
    }

    /// Commits a group. A command that breaks off after that was ended by a signal.
    fn committed(&mut self, group: &str) -> Ended {
        if self.commit(group) { Ok(()) } else { Err(Output::default()) }
    }

    fn make_file_system(&mut self, words: &[&str]) -> Output {
        let ["-q", "-F", "-E", options, device] = words else { panic!("mkfs.ext4 {words:?}") };
        let Some(minor) = self.minor_at(device.as_ref()) else { return ended(1, "no such device") };
        match *options {
            "nodiscard" => {}
            "nodiscard,assume_storage_prezeroed=1" => {
                assert!(self.is_zero(minor, 0, self.bytes_of(minor)), "{device} is said to be zero and is not");
            }
            _ => panic!("mkfs.ext4 {words:?}"),
        }
        file_system::make(self, minor);
        done()
    }

    fn make_copied_file_system(&mut self, words: &[&str], kind: copied::Kind) -> Output {
        let ["-q", "-f", "-K", device] = words else { panic!("mkfs {words:?}") };
        let Some(minor) = self.minor_at(device.as_ref()) else { return ended(1, "no such device") };
        self.make_copied(minor, kind);
        done()
    }

    fn renew_uuid_of(&mut self, words: &[&str], expected: &[&str], kind: copied::Kind) -> Output {
        let Some((device, options)) = words.split_last() else { panic!("{words:?}") };
        assert_eq!(options, expected);
        let Some(minor) = self.minor_at(device.as_ref()) else { return ended(1, "no such device") };
        self.renew_uuid(minor, kind);
        done()
    }

    fn format_log(&mut self, words: &[&str]) -> Output {
        let ["-x", "-c", format, device] = words else { panic!("xfs_db {words:?}") };
        assert!(format.strip_prefix("logformat -c ").is_some_and(|cycle| cycle.parse::<u32>().is_ok()), "{format}");
        let Some(minor) = self.minor_at(device.as_ref()) else { return ended(1, "no such device") };
        self.make_log_anew(minor);
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
}

fn not_found() -> Ended {
    refused("Failed to find logical volume")
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

/// Bytes in a word like `16777216b`.
fn bytes(word: &str) -> usize {
    word.strip_suffix('b').and_then(|bytes| bytes.parse().ok()).unwrap_or_else(|| panic!("{word} is no size in bytes"))
}
