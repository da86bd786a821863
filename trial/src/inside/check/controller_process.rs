//! A `quarry controller` before the node under test, as the sidecars of a cluster have it.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::tools::run;
use crate::client::Client;
use crate::site::{CONTROLLER_SOCKET, NODE_NAME};

/// Where the node listens for it.
const ADDRESS: &str = "127.0.0.1:9809";
/// Both sides' certificates.
const CERTIFICATES: &str = "/run/check-certificates";
/// How long it may take to serve.
const PATIENCE: Duration = Duration::from_secs(30);

/// A running controller; killed when dropped.
#[derive(Debug)]
pub struct ControllerProcess(Child);

/// Makes the certificates; answers with what a node is told to serve a controller.
pub(super) fn node_arguments(program: &Path) -> Result<[String; 4]> {
    if !Path::new(CERTIFICATES).try_exists()? {
        run(&[&program.to_string_lossy(), "certificates", CERTIFICATES])?;
    }
    Ok(["--listen", ADDRESS, "--tls-folder", &format!("{CERTIFICATES}/node")].map(String::from))
}

impl ControllerProcess {
    /// Starts it for the one node, which listens already, and waits until it serves.
    pub(super) async fn start(program: &Path, log: &Path) -> Result<(Self, Client)> {
        fs::create_dir_all(Path::new(CONTROLLER_SOCKET).parent().context("a socket has a folder")?)?;
        let log = File::options().create(true).append(true).open(log)?;
        let child = Command::new(program)
            .args(["controller", "--csi-endpoint", &format!("unix://{CONTROLLER_SOCKET}")])
            .args(["--node", &format!("{NODE_NAME}={ADDRESS}"), "--tls-folder", &format!("{CERTIFICATES}/controller")])
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("cannot start {}", program.display()))?;
        let (mut controller, begun) = (Self(child), Instant::now());
        loop {
            if let Some(status) = controller.0.try_wait()? {
                bail!("quarry controller ended at once: {status}");
            }
            match Client::connect(CONTROLLER_SOCKET).await {
                Ok(client) => return Ok((controller, client)),
                Err(error) if begun.elapsed() > PATIENCE => return Err(error),
                Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        }
    }
}

impl Drop for ControllerProcess {
    fn drop(&mut self) {
        drop((self.0.kill(), self.0.wait()));
    }
}
