//! csi-sanity, the CSI community's own conformance test, against real LVM on a machine of the lab.

mod build;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use quarry_lab::{Command, Disk};

use crate::site::{CONTROLLER_SOCKET, NODE_NAME, Plan, SOCKET, Site};

/// The specs that may be skipped: those of calls that are not advertised (attach, modify). One more or one less is a failure.
const SKIPS: &str = include_str!("sanity_skips.txt");
/// The machine's disk, bytes; sparse.
const DISK_BYTES: u64 = 8 << 30;
const MIB: u64 = 1 << 20;

/// One way to run the whole suite.
#[derive(Debug, Clone, Copy)]
struct Variant {
    name: &'static str,
    layout: &'static str,
    file_system: &'static str,
    access: &'static str,
    /// Bytes of its volumes: what the file system needs at least.
    volume_bytes: u64,
    /// Whether the calls of the Controller service go through a controller.
    through_controller: bool,
}

/// The one of which the others say in what they differ.
const EXT4: Variant = Variant {
    name: "ext4",
    layout: "linear",
    file_system: "ext4",
    access: "mount",
    volume_bytes: 64 * MIB,
    through_controller: false,
};

const VARIANTS: [Variant; 7] = [
    EXT4,
    Variant { name: "xfs", file_system: "xfs", volume_bytes: 320 * MIB, ..EXT4 },
    Variant { name: "btrfs", file_system: "btrfs", volume_bytes: 288 * MIB, ..EXT4 },
    Variant { name: "block", access: "block", ..EXT4 },
    Variant { name: "controller", through_controller: true, ..EXT4 },
    Variant { name: "thin-ext4", layout: "thin", ..EXT4 },
    Variant { name: "thin-block", layout: "thin", access: "block", ..EXT4 },
];

/// What one variant gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// The variant.
    pub name: String,
    /// Specs that ran and passed.
    pub passed: usize,
    /// Names of the specs that failed, with their messages.
    pub failed: Vec<String>,
    /// Names of the specs that were skipped.
    pub skipped: BTreeSet<String>,
}

/// Runs these variants, or all, on one machine; the reports are written to `folder` as `<variant>.xml`.
pub fn run(folder: &Path, variants: &[String]) -> Result<Vec<Outcome>> {
    let known = VARIANTS.map(|variant| variant.name);
    if let Some(unknown) = variants.iter().find(|name| !known.contains(&name.as_str())) {
        bail!("{unknown:?} is no variant; there are {}", known.join(", "));
    }
    build::csi_sanity()?;
    let plan = Plan { disks: vec![Disk::plain("disk", DISK_BYTES)], disk_folder: None, results: folder.to_owned() };
    let mut site = Site::boot(&plan)?;
    site.make_group("vg", "disk")?;
    let mut outcomes = Vec::new();
    let is_wanted = |variant: &Variant| variants.is_empty() || variants.iter().any(|name| name == variant.name);
    for variant in VARIANTS.into_iter().filter(is_wanted) {
        outcomes
            .push(run_variant(&mut site, folder, variant).with_context(|| format!("csi-sanity for {}", variant.name))?);
    }
    site.machine.stop()?;
    Ok(outcomes)
}

/// Whether an outcome is as it must be; an error that says what is not.
pub fn judge(outcome: &Outcome) -> Result<()> {
    let allowed: BTreeSet<String> = SKIPS.lines().map(String::from).collect();
    ensure!(outcome.failed.is_empty(), "{}: failed: {:#?}", outcome.name, outcome.failed);
    ensure!(outcome.passed > 0, "{}: no spec ran", outcome.name);
    let unexpected: Vec<_> = outcome.skipped.symmetric_difference(&allowed).collect();
    ensure!(unexpected.is_empty(), "{}: these skips differ from the list: {unexpected:#?}", outcome.name);
    Ok(())
}

fn run_variant(site: &mut Site, folder: &Path, variant: Variant) -> Result<Outcome> {
    let classes = format!(
        "classes:\n- name: sanity\n  default: true\n  volumeGroups: [vg]\n  layout: {}\n  fileSystem: {}\n",
        variant.layout, variant.file_system
    );
    fs::write(folder.join("classes.yaml"), classes)?;
    let classes = site.shared("classes.yaml")?;
    let mut arguments = vec!["--classes", &classes];
    if variant.through_controller {
        site.shell(&format!("ip link set lo up; {} certificates /run/pki", site.program("quarry")?))?;
        arguments.extend(["--listen", "127.0.0.1:9809", "--tls-folder", "/run/pki/node"]);
    }
    site.start_node(&arguments)?;
    let mut controller = None;
    if variant.through_controller {
        let node = format!("{NODE_NAME}=127.0.0.1:9809");
        site.start_controller(&["--node", &node, "--tls-folder", "/run/pki/controller"])?;
        controller = Some(format!("--csi.controllerendpoint=unix://{CONTROLLER_SOCKET}"));
    }
    let report = site.shared(&format!("{}.xml", variant.name))?;
    let sanity = Command::new(site.program("csi-sanity")?)
        .arg(format!("--csi.endpoint=unix://{SOCKET}"))
        .args(controller)
        .arg(format!("--csi.testvolumesize={}", variant.volume_bytes))
        .arg(format!("--csi.testvolumeexpandsize={}", 2 * variant.volume_bytes))
        .arg(format!("--csi.testvolumeaccesstype={}", variant.access))
        .arg(format!("--ginkgo.junit-report={report}"))
        .args(["--csi.mountdir=/tmp/csi-mount", "--csi.stagingdir=/tmp/csi-staging", "--ginkgo.no-color"])
        .limit(Duration::from_mins(10));
    let output = site.run(&sanity)?;
    fs::write(folder.join(format!("{}.log", variant.name)), output.text())?;
    site.stop_node()?;
    let xml = fs::read_to_string(folder.join(format!("{}.xml", variant.name)))
        .with_context(|| format!("csi-sanity left no report: {}", output.error_text()))?;
    read_report(variant.name, &xml)
}

fn read_report(name: &str, xml: &str) -> Result<Outcome> {
    let document = roxmltree::Document::parse(xml)?;
    let mut outcome = Outcome { name: name.to_owned(), passed: 0, failed: Vec::new(), skipped: BTreeSet::new() };
    for case in document.descendants().filter(|node| node.has_tag_name("testcase")) {
        let title = case.attribute("name").unwrap_or_default();
        match case.attribute("status") {
            // The suite's own set-up and end are cases of the report, but no specs.
            Some("passed") if title.starts_with("[It]") => outcome.passed += 1,
            Some("passed" | "pending") => {}
            Some("skipped") => {
                outcome.skipped.insert(title.to_owned());
            }
            status => {
                let message = case.descendants().find_map(|node| node.attribute("message")).unwrap_or_default();
                outcome.failed.push(format!("{title}: {}: {message}", status.unwrap_or("no status")));
            }
        }
    }
    if outcome.passed + outcome.failed.len() + outcome.skipped.len() == 0 {
        bail!("the report of {name} holds no spec");
    }
    Ok(outcome)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_read_spec_by_spec() {
        let xml = r#"<testsuites><testsuite>
            <testcase name="[BeforeSuite]" status="passed"/>
            <testcase name="[It] a" status="passed"/>
            <testcase name="[It] b" status="skipped"/>
            <testcase name="[It] c" status="pending"/>
            <testcase name="[It] d" status="failed"><failure message="no"/></testcase>
            </testsuite></testsuites>"#;
        let outcome = read_report("ext4", xml).unwrap();
        assert_eq!((outcome.passed, outcome.skipped.len()), (1, 1));
        assert_eq!(outcome.failed, ["[It] d: failed: no"]);
        assert!(judge(&outcome).is_err());
    }

    #[test]
    fn a_skip_more_or_less_than_the_list_is_a_failure() {
        let skipped: BTreeSet<String> = SKIPS.lines().map(String::from).collect();
        let mut outcome = Outcome { name: String::from("ext4"), passed: 1, failed: Vec::new(), skipped };
        assert!(judge(&outcome).is_ok());
        outcome.skipped.insert(String::from("[It] something of ours"));
        assert!(judge(&outcome).is_err());
    }
}
