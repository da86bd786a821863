//! `quarry controller` in a process of its own, with all that it needs in a folder.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

use anyhow::{Context, Result, bail, ensure};

use super::super::{kibibytes, mebibytes};
use super::nodes::DRIVER;

/// Holds what `quarry certificates` makes.
const CERTIFICATES: &str = "certificates";

/// A running controller; it is killed when dropped.
pub(super) struct Controller {
    process: Child,
    log: PathBuf,
    /// Where it serves.
    pub(super) socket: PathBuf,
}

/// Makes the certificates of controller and nodes.
pub(super) fn make_certificates(program: &Path, folder: &Path) -> Result<()> {
    ensure!(program.is_file(), "no {}: run `cargo build --workspace` first", program.display());
    let mut command = Command::new(program);
    command.arg("certificates").arg(folder.join(CERTIFICATES)).args(["--driver-name", DRIVER]);
    let output = command.output()?;
    ensure!(output.status.success(), "quarry certificates: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

/// The folder of those that nodes show.
pub(super) fn node_certificates(folder: &Path) -> PathBuf {
    folder.join(CERTIFICATES).join("node")
}

impl Controller {
    /// Starts it; it may not serve yet.
    pub(super) fn start(program: &Path, folder: &Path, nodes: &[(String, SocketAddr)]) -> Result<Self> {
        let mut lines = String::new();
        for (name, address) in nodes {
            writeln!(lines, "{name}={address}")?;
        }
        let (list, log, socket) = (folder.join("nodes"), folder.join("controller.log"), folder.join("csi/csi.sock"));
        fs::write(&list, lines)?;
        fs::create_dir(folder.join("csi"))?;
        let mut command = Command::new(program);
        command.arg("controller").args(["--driver-name", DRIVER]);
        command.arg("--csi-endpoint").arg(format!("unix://{}", socket.display()));
        command.arg("--nodes-file").arg(list).arg("--tls-folder").arg(folder.join(CERTIFICATES).join("controller"));
        command.stdout(File::create(&log)?).stderr(File::options().append(true).open(&log)?);
        let process = command.spawn().with_context(|| format!("could not start {}", program.display()))?;
        Ok(Self { process, log, socket })
    }

    /// An error with the log if it has ended.
    pub(super) fn check(&mut self) -> Result<()> {
        if let Some(status) = self.process.try_wait()? {
            bail!("quarry controller ended with {status}:\n{}", fs::read_to_string(&self.log)?);
        }
        Ok(())
    }

    /// A line of its status that is a size, such as `VmRSS`.
    pub(super) fn mebibytes(&self, key: &str) -> Result<f64> {
        Ok(mebibytes(kibibytes(self.process.id(), key)? << 10))
    }

    /// How many files and connections it has open.
    pub(super) fn descriptors(&self) -> Result<usize> {
        Ok(fs::read_dir(format!("/proc/{}/fd", self.process.id()))?.count())
    }
}

impl Drop for Controller {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
