//! Holds our idea of legal names and tags to the real lvm2, on a loop device of our own. Only metadata is
//! written, so no device-mapper is needed; without root or loop devices the tests skip, and say so.

use std::collections::BTreeMap;
use std::fs::File;
use std::process::{Command, Output};

use quarry::lvm::layout::Layout;
use quarry::lvm::names::{is_legal_logical_volume_name, logical_volume_name};
use quarry::lvm::tags::copy_progress::CopyProgress;
use quarry::lvm::tags::{BLOCK, Claim, CopiedFrom, FRESH, VolumeTags, deleting_tag, file_system_tag};
use quarry::lvm::wipe::Wipe;
use tempfile::TempDir;

/// A volume group on a loop device, gone when dropped.
struct ScratchGroup {
    name: String,
    device: String,
    folder: TempDir,
}

impl ScratchGroup {
    /// A new, empty group; `None`, with the reason on standard error, where none can be had.
    fn new(test: &str) -> Option<Self> {
        let folder = TempDir::new().expect("a folder for temporary files");
        let disk = folder.path().join("disk");
        File::create(&disk).and_then(|file| file.set_len(1 << 30)).expect("a sparse file");
        let device = match Command::new("losetup").args(["--find", "--show"]).arg(&disk).output() {
            Ok(output) if output.status.success() => text(&output.stdout),
            Ok(output) => return skip(test, &text(&output.stderr)),
            Err(error) => return skip(test, &format!("losetup: {error}")),
        };
        let group = Self { name: format!("quarry-{test}-{}", std::process::id()), device, folder };
        match group.run("vgcreate", &["--metadatasize", "16m", &group.name, &group.device]) {
            Ok(output) if output.status.success() => Some(group),
            Ok(output) => panic!("vgcreate: {}", text(&output.stderr)),
            Err(error) => skip(test, &format!("lvm: {error}")),
        }
    }

    fn run(&self, subcommand: &str, arguments: &[&str]) -> std::io::Result<Output> {
        // Sees no other device than our own, and writes nothing outside our folder.
        let config = format!(
            "devices{{filter=[\"a|^{}$|\",\"r|.*|\"] use_devicesfile=0 hints=\"none\"}} backup{{backup=0 archive=0}} \
             global{{locking_dir=\"{}\" notify_dbus=0 event_activation=0}}",
            self.device,
            self.folder.path().display()
        );
        Command::new("lvm")
            .args([subcommand, "--driverloaded", "n", "--config", &config])
            .args(arguments)
            .envs([("LC_ALL", "C"), ("LVM_SUPPRESS_FD_WARNINGS", "1")])
            .output()
    }

    fn run_ok(&self, subcommand: &str, arguments: &[&str]) -> String {
        let output = self.run(subcommand, arguments).expect("lvm runs");
        assert!(output.status.success(), "{subcommand} {arguments:?}: {}", text(&output.stderr));
        text(&output.stdout)
    }

    /// Makes a volume of one extent; whether lvm agreed.
    fn create(&self, name: &str, tags: &[String]) -> Result<(), String> {
        let layout = Layout::Linear.lvcreate_arguments(1, 4 << 20);
        let mut arguments = vec!["-an", "--name", name];
        arguments.extend(layout.iter().map(String::as_str));
        arguments.extend(tags.iter().flat_map(|tag| ["--addtag", tag]));
        arguments.push(&self.name);
        let output = self.run("lvcreate", &arguments).expect("lvm runs");
        if output.status.success() { Ok(()) } else { Err(text(&output.stderr)) }
    }

    /// The tags of each volume, by its name.
    fn volumes(&self) -> BTreeMap<String, Vec<String>> {
        let report = self.run_ok("lvs", &["--reportformat", "json", "-o", "lv_name,lv_tags", &self.name]);
        let report: serde_json::Value = serde_json::from_str(&report).expect("lvs prints JSON");
        let volumes = report["report"][0]["lv"].as_array().expect("a list of volumes");
        let word = |volume: &serde_json::Value, key: &str| volume[key].as_str().expect("a text").to_owned();
        let tags = |volume| word(volume, "lv_tags").split(',').map(String::from).collect();
        volumes.iter().map(|volume| (word(volume, "lv_name"), tags(volume))).collect()
    }
}

impl Drop for ScratchGroup {
    fn drop(&mut self) {
        // Without the driver lvm cannot ask whether the volumes are open, and refuses to remove them one by one;
        // nothing but the metadata in our own file is left, which goes with the folder.
        let _ = Command::new("losetup").args(["--detach", &self.device]).output();
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).trim().to_owned()
}

fn skip<T>(test: &str, reason: &str) -> Option<T> {
    eprintln!("SKIPPED {test}: {reason}");
    None
}

fn csi_names() -> Vec<String> {
    let mut names: Vec<String> = [
        "pvc-5f6c3d0e-9f3d-4d3e-8c4b-6d1e2f3a4b5c",
        "snapshot-0815",
        "pvmove0",
        "a",
        ".",
        "..",
        ".hidden",
        "-minus",
        "--help",
        "@tag",
        "A+b_c.d-e",
        "pool_tdata",
        "with space",
        "tab\tline\nreturn\r",
        "quote\"back\\slash'",
        "a=b,c:d;e#f&g|h!i/j",
        "$(reboot)`reboot`",
        "Größe 日本 🦀",
        "\u{a0}",
    ]
    .map(String::from)
    .to_vec();
    names.extend(["x".repeat(63), "x".repeat(64), "y".repeat(128), "ü".repeat(64), "🦀".repeat(32), " ".repeat(128)]);
    names
}

#[test]
fn lvm_takes_every_name_and_tag_and_reports_them_the_same() {
    let Some(group) = ScratchGroup::new("tags") else { return };
    let mut expected = BTreeMap::new();
    for (index, name) in csi_names().into_iter().enumerate() {
        let volume = VolumeTags {
            name: name.clone(),
            class: String::from("fast.1"),
            fresh: index % 2 == 0,
            deleting: (index % 3 == 0).then_some(Wipe::Zero),
            file_system: (index % 2 == 1).then(|| String::from("ext4")),
            block: index % 5 == 0,
            mkfs_options: vec![String::from("-O"), String::from("^has_journal")],
            claim: Some(Claim { namespace: String::from("shop"), name: "c".repeat(253) }),
            single_user: index % 7 == 0,
            driver: Some(String::from("lvm.quarry.storage")),
            copied: (index % 4 == 0).then(|| CopiedFrom {
                source: logical_volume_name(&name),
                same_uuid: index % 8 == 0,
                unfinished: index % 3 == 0,
                ungrown: index % 5 == 0,
                progress: (index % 12 == 0).then(|| CopyProgress {
                    of: String::from("CiAEgk-HiCh-N1fr-GMN0-N1bi-O0rO-IXMA93"),
                    bytes: 1 << 30,
                    raw: true,
                }),
            }),
        };
        group
            .create(&logical_volume_name(&name), &volume.to_tags())
            .unwrap_or_else(|error| panic!("{name:?}: {error}"));
        expected.insert(logical_volume_name(&name), volume);
    }
    let found: BTreeMap<_, _> = group
        .volumes()
        .into_iter()
        .map(|(name, tags)| (name, VolumeTags::parse(&tags).expect("tags of our own")))
        .collect();
    assert_eq!(found, expected);
}

#[test]
fn lvm_refuses_no_name_that_we_call_legal() {
    let Some(group) = ScratchGroup::new("names") else { return };
    let parts = [
        "_cdata", "_cmeta", "_corig", "_imeta", "_iorig", "_mimage", "_mlog", "_pmspare", "_rimage", "_rmeta",
        "_tdata", "_tmeta", "_vdata", "_vorigin", "_wcorig", "_tpool", "_vpool", "_cpool", "_cvol", "_fast", "_lv",
        "_dup",
    ];
    let mut names: Vec<String> = parts.iter().map(|part| format!("a{part}0")).collect();
    names.extend(
        ["snapshot", "snapshot1", "pvmove", "pvmove1", "lvol0", "lvol1x", "SNAPSHOT", "real", "cow"].map(String::from),
    );
    names.extend([".", "..", "...", "+", "_", "0", "a+", "a b", "a/b", "ä"].map(String::from));
    for name in names {
        let answer = group.create(&name, &[]);
        assert!(answer.is_ok() || !is_legal_logical_volume_name(&name), "{name:?}: {answer:?}");
        if answer.is_ok() && !is_legal_logical_volume_name(&name) {
            eprintln!("{name:?} is refused by us but not by this version of lvm");
        }
    }
}

#[test]
fn single_tags_are_added_and_taken_away() {
    let Some(group) = ScratchGroup::new("change") else { return };
    let volume = VolumeTags { name: String::from("a"), fresh: true, ..VolumeTags::default() };
    group.create("a", &volume.to_tags()).expect("lvcreate agrees");
    let path = format!("{}/a", group.name);
    let (file_system, deleting) = (file_system_tag("xfs"), deleting_tag(Wipe::Discard));
    let added = ["--addtag", &file_system, "--addtag", &deleting, "--addtag", BLOCK];
    group.run_ok("lvchange", &[&["--deltag", FRESH][..], &added, &[&path]].concat());
    let expected = VolumeTags {
        fresh: false,
        file_system: Some(String::from("xfs")),
        deleting: Some(Wipe::Discard),
        block: true,
        ..volume
    };
    assert_eq!(VolumeTags::parse(&group.volumes()["a"]), Some(expected));
}
