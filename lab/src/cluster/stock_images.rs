//! The images that every worker has from the start.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::image::Image;

/// What holds a pod's namespaces while its containers come and go.
pub(crate) const PAUSE: &str = "lab.quarry.storage/pause:1";
/// A shell and small tools, for the containers of tests.
pub const BUSYBOX: &str = "lab.quarry.storage/busybox:1";

/// Ends when it is told to, and takes care of orphans, since it is the first process of a pod that shares processes.
const WAIT: &str = "trap 'exit 0' TERM INT; while :; do sleep 86400 & wait $!; done";

/// Made from the static busybox of a worker's root.
pub(crate) fn stock_images(root: &Path) -> Result<Vec<Image>> {
    let busybox = root.join("usr/bin/busybox");
    let output = Command::new(&busybox).arg("--list").output();
    let output = output.with_context(|| format!("cannot run {}", busybox.display()))?;
    ensure!(output.status.success(), "{} does not say what it can do", busybox.display());
    let mut tools = Image::new(BUSYBOX).file(&busybox, "/bin/busybox").entrypoint(["/bin/sh"]);
    for tool in String::from_utf8_lossy(&output.stdout).lines().filter(|tool| *tool != "busybox") {
        tools = tools.link(format!("/bin/{tool}"), "busybox");
    }
    let pause = Image::new(PAUSE).file(&busybox, "/bin/busybox").entrypoint(["/bin/busybox", "sh", "-c", WAIT]);
    // busybox looks for its own tools on the path before it takes those in itself.
    Ok(vec![pause.link("/bin/sleep", "busybox"), tools])
}
