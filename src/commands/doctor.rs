//! `quarry doctor`: what a node needs, whether it is there, and what to do about what is not. Changes nothing.
//!
//! - `kernel`: device-mapper and the file systems
//! - `tools`: the programs and their versions
//! - `classes`: the classes, and the volume groups that they name
//! - `devices`: what LVM and device-mapper say about our volumes
//! - `socket`: the node that serves, if one does

mod classes;
mod devices;
mod finding;
mod kernel;
mod socket;
mod tools;

use std::io::Write;
use std::process::ExitCode;

use anyhow::Context;

use self::finding::{Finding, Level};
use crate::commands::machine::{Machine, block_on, is_root};
use crate::config::classes::{Class, Classes};
use crate::config::flags::{DoctorFlags, OutputFormat};

/// Writes the findings; a failure when one of them is.
pub fn run(flags: &DoctorFlags, out: &mut impl Write) -> anyhow::Result<ExitCode> {
    let node = flags.identity.node_name().context("could not find out the host's name; give --node-name")?;
    let findings = block_on(async { Ok(examine(flags, &node).await) })?;
    match flags.output.format {
        OutputFormat::Text => write!(out, "{}", finding::in_words(&findings))?,
        OutputFormat::Json => writeln!(out, "{}", finding::as_json(&findings))?,
    }
    let has_failed = findings.iter().any(|finding| finding.level == Level::Fail);
    Ok(if has_failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

async fn examine(flags: &DoctorFlags, node: &str) -> Vec<Finding> {
    let machine = Machine::new();
    let (classes, mut findings) = classes::read(&flags.classes);
    let classes = classes.as_ref();
    findings.extend(kernel::examine(&machine.kernel, &|kind| uses(classes, kind)).await);
    findings.extend(tools::examine(&machine.processes, &|kind| uses(classes, kind)).await);
    if is_root() {
        // An lvm that cannot be asked is told of above, with the tools.
        machine.groups.learn_system_id().await.ok();
        match machine.groups.read().await {
            Ok(view) => {
                findings.extend(classes.map(|classes| classes::groups(classes, &view)).unwrap_or_default());
                findings.extend(devices::unclear(classes, &view));
                findings.extend(devices::examine(&machine, &view).await);
            }
            Err(error) => findings.push(Finding::fail("groups", error.to_string(), "see the kernel's log (dmesg)")),
        }
        findings.extend(socket::examine(&flags.socket.csi_endpoint, flags.identity.driver_name.as_str(), node).await);
    } else {
        let problem = "not run as root: the disks, device-mapper and the socket were not looked at";
        findings.push(Finding::fail("groups", problem, "run it with sudo"));
    }
    findings
}

/// Whether a class makes volumes with that file system or of that layout, so that what they need is no luxury.
fn uses(classes: Option<&Classes>, kind: &str) -> bool {
    let makes = |class: &Class| class.file_system == kind || class.layout.word() == kind;
    classes.is_some_and(|classes| classes.iter().any(makes))
}
