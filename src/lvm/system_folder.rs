//! The folder in which our lvm commands find their configuration (`LVM_SYSTEM_DIR`, lvm(8)): the machine's own
//! settings, so that its filters, devices file and system id count, and on top of them a few of ours.
//!
//! `--config` would do the same with less, but at a price: it makes lvm read the whole of `lvm.conf` three times
//! (60 system calls, natively 2 ms of 6 for a change of tags), and `use_aio` in it comes too late to have any effect.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

/// The variable that leads lvm here.
pub const VARIABLE: &str = "LVM_SYSTEM_DIR";
/// The machine's own.
const MACHINE: &str = "/etc/lvm";
const CONFIGURATION: &str = "lvm.conf";
/// What it says counts more than what the configuration says (lvm.conf(5)).
const LOCAL: &str = "lvmlocal.conf";

/// Where lvm would otherwise look beside its configuration; the machine's own settings may say otherwise.
const BEFORE: &str = "backup{backup_dir=\"/etc/lvm/backup\" archive_dir=\"/etc/lvm/archive\"}";

/// Of two settings of the same name lvm takes the last one, so ours follow the machine's.
/// - `use_aio=0`: setting aio up and down is most of the cost of a command (31 of 45 ms on an idle server).
/// - `backup`, `archive`: a backup is written once per burst instead (`Writer::back_up`).
/// - `udev_sync=0`: device nodes are opened by number, which devtmpfs has at once. It is why volumes are
///   made with `-Zn -Wn` and zeroed by the driver itself.
/// - `retry_deactivation`: udev may still be looking at a device that is to go.
/// - `thin_pool_autoextend_threshold=100`: lvm neither grows pools nor refuses volumes in one that fills; where a pool's table is
///   loaded, [`Writer`](super::writer::Writer) says otherwise.
/// - `error_when_full`: a full pool fails writes at once instead of holding them for a minute. `lvcreate` lists an option for it, and refuses it.
const AFTER: &str = "global{use_aio=0 notify_dbus=0} backup{backup=0 archive=0} \
     activation{udev_sync=0 monitoring=0 retry_deactivation=1 thin_pool_autoextend_threshold=100 error_when_full=1} devices{hints=\"none\"} \
     log{command_names=0 prefix=\"\"}";

/// With nothing for its value lvm activates pools unchecked.
const POOL_CHECK: &str = "thin_check_executable";
/// The default of Debian's lvm for it.
const CHECKED_BY: &str = "/usr/sbin/thin_check";

/// The folder and what it was made from.
#[derive(Debug, Clone)]
pub struct SystemFolder {
    machine: PathBuf,
    own: PathBuf,
}

impl SystemFolder {
    /// Makes the folder, or brings it up to date.
    pub fn make(own: &Path) -> io::Result<Self> {
        let folder = Self { machine: PathBuf::from(MACHINE), own: own.to_owned() };
        folder.refresh()?;
        Ok(folder)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.own
    }

    /// Takes over what the machine's administrator changed.
    pub fn refresh(&self) -> io::Result<()> {
        fs::create_dir_all(&self.own)?;
        self.compose(CONFIGURATION, BEFORE)?;
        self.compose(LOCAL, "")?;
        let (there, here) = (others(&self.machine)?, others(&self.own)?);
        for gone in here.difference(&there) {
            fs::remove_file(self.own.join(gone))?;
        }
        for new in there.difference(&here) {
            symlink(self.machine.join(new), self.own.join(new))?;
        }
        Ok(())
    }

    /// Brings one of the files up to date that say more than the machine's.
    fn compose(&self, name: &str, before: &str) -> io::Result<()> {
        let text = composed(before, &read(&self.machine.join(name))?);
        let own = self.own.join(name);
        if read(&own)? != text {
            // In one step: a command that starts now must not meet half of it.
            let new = self.own.join(format!("{name}.new"));
            fs::write(&new, text)?;
            fs::rename(new, own)?;
        }
        Ok(())
    }
}

/// Everything beside the configuration: `devices`, `profile`, …
fn others(folder: &Path) -> io::Result<BTreeSet<OsString>> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeSet::new()),
        entries => entries?,
    };
    let names = entries.map(|entry| Ok(entry?.file_name()));
    let mut names = names.collect::<io::Result<BTreeSet<OsString>>>()?;
    let is_composed = |name: &str| [CONFIGURATION, LOCAL].iter().any(|file| name.starts_with(file));
    names.retain(|name| !is_composed(&name.to_string_lossy()));
    Ok(names)
}

fn read(file: &Path) -> io::Result<String> {
    match fs::read(file) {
        Ok(bytes) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
        Err(error) => Err(error),
    }
}

/// A line that has pools checked, whatever it said: one that is damaged loses data with every write.
fn with_pool_check(line: &str) -> Cow<'_, str> {
    let Some((before, after)) = line.split_once(POOL_CHECK) else { return Cow::Borrowed(line) };
    let value = after.trim_start().strip_prefix('=').map(str::trim_start);
    match value.and_then(|value| value.strip_prefix("\"\"").or_else(|| value.strip_prefix("''"))) {
        Some(rest) => Cow::Owned(format!("{before}{POOL_CHECK}=\"{CHECKED_BY}\"{rest}")),
        None => Cow::Borrowed(line),
    }
}

/// The machine's settings without the comments, of which Debian's file has 115 KB and nothing else, and ours.
fn composed(before: &str, machine: &str) -> String {
    let mut text = format!("{before}\n");
    let is_said = |line: &&str| !line.is_empty() && !line.starts_with('#');
    for line in machine.lines().map(str::trim).filter(is_said) {
        text.push_str(&with_pool_check(line));
        text.push('\n');
    }
    text.push_str(AFTER);
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machines_settings_stay_between_ours() {
        let text =
            composed(BEFORE, "# a comment\ndevices {\n\t# filter = [ \"no\" ]\n\tfilter = [ \"a|/dev/sd.*|\" ]\n}\n\n");
        let middle = text.strip_prefix(BEFORE).and_then(|text| text.trim_end().strip_suffix(AFTER));
        assert_eq!(middle, Some("\ndevices {\nfilter = [ \"a|/dev/sd.*|\" ]\n}\n"));
        assert_eq!(composed(BEFORE, ""), format!("{BEFORE}\n{AFTER}\n"));
        // What the driver relies on: see the reasons at AFTER.
        for setting in ["use_aio=0", "backup=0 archive=0", "udev_sync=0", "hints=\"none\""] {
            assert!(AFTER.contains(setting), "{setting}");
        }
    }

    #[test]
    fn pools_are_checked_whatever_the_machine_says() {
        for off in [
            "thin_check_executable = \"\"",
            "global { thin_check_executable=\"\" }",
            "global/thin_check_executable =\"\"",
            "thin_check_executable = ''",
        ] {
            let text = composed("", off);
            assert!(text.contains("thin_check_executable=\"/usr/sbin/thin_check\""), "{off}: {text}");
        }
        for own in ["thin_check_executable = \"/opt/thin_check\"", "thin_check_options = [ \"\" ]"] {
            assert!(composed("", own).contains(own));
        }
    }

    #[test]
    fn the_folder_follows_the_machine() {
        let root = tempfile::tempdir().unwrap();
        let folder = SystemFolder { machine: root.path().join("etc"), own: root.path().join("run/lvm") };
        folder.refresh().unwrap();
        assert_eq!(fs::read_to_string(folder.own.join("lvm.conf")).unwrap(), composed(BEFORE, ""));

        fs::create_dir_all(folder.machine.join("devices")).unwrap();
        fs::write(folder.machine.join("lvmlocal.conf"), "local{system_id=\"a\"}").unwrap();
        fs::write(folder.machine.join("lvm.conf"), "global{umask=0}").unwrap();
        folder.refresh().unwrap();
        assert!(fs::read_to_string(folder.own.join("lvm.conf")).unwrap().contains("umask=0"));
        assert!(fs::read_to_string(folder.own.join("lvmlocal.conf")).unwrap().contains("system_id"));
        assert!(folder.own.join("devices").is_dir());

        fs::remove_file(folder.machine.join("lvmlocal.conf")).unwrap();
        folder.refresh().unwrap();
        folder.refresh().unwrap();
        assert!(!fs::read_to_string(folder.own.join("lvmlocal.conf")).unwrap().contains("system_id"));
        assert_eq!(others(&folder.own).unwrap(), BTreeSet::from([OsString::from("devices")]));
    }
}
