//! Programs that stand in for those that the node starts: a script that hangs, dies or talks nonsense, or nothing at
//! all. Mounted over the real ones, as the node looks in fixed folders whatever `PATH` says.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::tools::run;

/// Where the scripts lie.
const FOLDER: &str = "/run/check-bin";
/// A copy of lvm that is not replaced.
pub(super) const REAL_LVM: &str = "/run/check-bin/lvm";
/// The program of the machine.
const LVM: &str = "/usr/sbin/lvm";

/// Copies lvm aside; once, before all cases.
pub(super) fn keep_real_lvm() -> Result<()> {
    fs::create_dir_all(FOLDER)?;
    fs::copy(fs::canonicalize(LVM).context("lvm is not where it is expected")?, REAL_LVM)?;
    Ok(())
}

/// Something that stands in for a program until it is dropped.
#[derive(Debug)]
pub struct StandIn {
    program: PathBuf,
    /// While this file is there, a hanging script hangs.
    hang: PathBuf,
}

impl StandIn {
    /// An lvm that does first what the script's lines say, then what the real one does. `$*` are its arguments.
    pub fn lvm(lines: &str) -> Result<Self> {
        Self::put(Path::new(LVM), &format!("#!/bin/sh\n{lines}\nexec {REAL_LVM} \"$@\"\n"), 0o755)
    }

    /// An lvm that hangs for commands on that group until [`StandIn::release`].
    pub fn hanging_lvm(group: &str) -> Result<Self> {
        let hang = format!("{FOLDER}/hang");
        fs::write(&hang, "")?;
        Self::lvm(&format!(
            "case \"$* \" in *\" {group} \"*|*\" {group}/\"*) while [ -e {hang} ]; do sleep 0.05; done;; esac"
        ))
    }

    /// Tools for pools that hang until [`StandIn::release`] when they read from a snapshot of a pool's metadata. All may be
    /// one program that goes by its name.
    pub fn hanging_thin_tools() -> Result<Self> {
        let (real, hang) = (Path::new(FOLDER).join("thin"), Path::new(FOLDER).join("hang"));
        fs::create_dir_all(&real)?;
        for tool in ["thin_dump", "thin_delta", "thin_check", "thin_repair", "thin_ls"] {
            fs::copy(fs::canonicalize(Path::new("/usr/sbin").join(tool))?, real.join(tool)).context(tool)?;
        }
        fs::write(&hang, "")?;
        let (real, hang) = (real.display(), hang.display());
        let wait = format!("case \"$*\" in *--metadata-snap*) while [ -e {hang} ]; do sleep 0.05; done;; esac");
        Self::program("/usr/sbin/thin_dump", &format!("{wait}\nexec {real}/${{0##*/}} \"$@\""))
    }

    /// A program that does nothing but what the script's lines say.
    pub fn program(program: &str, lines: &str) -> Result<Self> {
        Self::put(Path::new(program), &format!("#!/bin/sh\n{lines}\n"), 0o755)
    }

    fn put(program: &Path, content: &str, mode: u32) -> Result<Self> {
        let name = program.file_name().context("a program has a name")?.to_string_lossy();
        let script = Path::new(FOLDER).join(format!("stand-in-{name}"));
        fs::write(&script, content)?;
        fs::set_permissions(&script, fs::Permissions::from_mode(mode))?;
        let program = fs::canonicalize(program).with_context(|| program.display().to_string())?;
        run(&["mount", "--bind", &script.to_string_lossy(), &program.to_string_lossy()])?;
        Ok(Self { program, hang: Path::new(FOLDER).join("hang") })
    }

    /// From now on it hangs again.
    pub fn hang_again(&self) -> Result<()> {
        Ok(fs::write(&self.hang, "")?)
    }

    /// Commands that hang go on, and new ones do not hang any more.
    pub fn release(&self) {
        fs::remove_file(&self.hang).ok();
    }
}

/// Makes a program disappear until the answer is dropped: the empty file over it cannot be run.
pub fn hidden(program: &str) -> Result<StandIn> {
    StandIn::put(Path::new(program), "", 0o644)
}

impl Drop for StandIn {
    fn drop(&mut self) {
        self.release();
        // A script that still runs is no hindrance: it is unmounted from the tree and goes with its last user.
        if let Err(problem) = run(&["umount", "--lazy", &self.program.to_string_lossy()]) {
            eprintln!("could not bring {} back: {problem:#}", self.program.display());
        }
    }
}
