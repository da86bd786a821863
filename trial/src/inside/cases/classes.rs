//! Classes, parameters, file systems and options that do not exist, and classes files that are wrong.

use std::fs;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use quarry::csi::v1;
use tonic::Code::InvalidArgument;

use crate::client::{block, create, mounted};
use crate::inside::check::{Ground, MIB, eventually, metrics, refused};

use super::with_flags;

/// Classes files that are refused, and what the refusal says.
const BAD_FILES: [(&str, &[&str]); 9] = [
    ("", &["empty"]),
    ("\n# only a remark\n", &["empty"]),
    ("classes: []\n", &["line 1", "at least one"]),
    (
        "classes:\n- {name: a, volumeGroups: [main]}\n- {name: a, volumeGroups: [main]}\n",
        &["line 3", "\"a\"", "line 2"],
    ),
    ("classes:\n- name: a\n  volumeGroups: [main]\n  wip: zero\n", &["line 4", "wip", "wipe"]),
    ("classes:\n- name: a\n  volumeGroups: []\n", &["line 3", "volumeGroups"]),
    ("classes:\n- {name: a, volumeGroups: [main], fileSystem: ntfs}\n", &["line 2", "ntfs", "ext4"]),
    ("classes:\n- {name: a, volumeGroups: [main], mkfsOptions: [-L, x]}\n", &["line 2", "mkfsOptions", "-L"]),
    ("classes:\n- {name: a, volumeGroups: [main], mountOptions: [loop]}\n", &["line 2", "mountOptions", "loop"]),
];

cases! {
    "an unknown class is refused with those that there are" => unknown_class,
    "an unknown parameter is refused with those that there are" => unknown_parameter,
    "what Kubernetes adds to the parameters is taken" => parameters_of_kubernetes,
    "an unknown file system is refused by create and by stage" => unknown_file_system,
    "mkfs options that are unknown or name a device are refused" => unknown_mkfs_option,
    "mount options that are unknown or name a path are refused by create, stage and publish" => unknown_mount_option,
    "check-config refuses every bad file with line and reason and takes the good one" => check_config,
    "a bad file leaves the classes in force, and health and log tell why, until it is good again" => reload,
    "a node does not start with a bad file" => start_with_a_bad_file,
    "without a default class a request must name one" => no_default,
}

async fn unknown_class(ground: &Ground) -> Result<()> {
    for class in ["gold", "", "Main", "main "] {
        let request = ground.request(class, "unknown-class", 4 * MIB, block());
        let answer = ground.client().controller.create_volume(request).await;
        refused(answer, InvalidArgument, &["parameters.class", &format!("{class:?}"), "main, own"])?;
    }
    Ok(())
}

async fn unknown_parameter(ground: &Ground) -> Result<()> {
    for key in ["clas", "Class", "type", "lvcreateArgs", "csi.storage.k8s.io"] {
        let mut request = create("unknown-parameter", 4 * MIB, block());
        request.parameters.insert(key.to_owned(), String::from("x"));
        let answer = ground.client().controller.create_volume(request).await;
        refused(answer, InvalidArgument, &[&format!("parameters.{key}"), "class", "mkfsOptions"])?;
    }
    Ok(())
}

async fn parameters_of_kubernetes(ground: &Ground) -> Result<()> {
    let mut request = create(&ground.name("kubernetes"), 4 * MIB, block());
    for (key, value) in [("pvc/name", "data"), ("pvc/namespace", "shop"), ("pv/name", "pvc-1"), ("fstype", "ext4")] {
        request.parameters.insert(format!("csi.storage.k8s.io/{key}"), value.to_owned());
    }
    let volume = ground.volume_from(request, "main").await?;
    ensure!(volume.tags()?.contains("quarry.pvc=shop/data"), "the claim is not in the tags: {}", volume.tags()?);
    volume.remove().await
}

async fn unknown_file_system(ground: &Ground) -> Result<()> {
    let volume = ground.volume("unknown", 4, mounted("")).await?;
    for file_system in ["ntfs", "EXT4", "ext4 ", "ext2", "../ext4", "tmpfs"] {
        let request = create("unknown-file-system", 4 * MIB, mounted(file_system));
        let words = &["fs_type", file_system, "ext4"];
        refused(ground.client().controller.create_volume(request).await, InvalidArgument, words)?;
        let request =
            v1::NodeStageVolumeRequest { volume_capability: Some(mounted(file_system)), ..volume.stage_request()? };
        refused(ground.client().node.node_stage_volume(request).await, InvalidArgument, words)?;
    }
    volume.remove().await
}

async fn unknown_mkfs_option(ground: &Ground) -> Result<()> {
    for (file_system, options) in [
        ("ext4", "-L name"),
        ("ext4", "-J device=/dev/ubda"),
        ("ext4", "/dev/ubda"),
        ("ext4", "-m"),
        ("ext4", "-m 0; reboot"),
        ("xfs", "-d file,name=/etc/passwd"),
        ("xfs", "-m 0"),
        ("btrfs", "-d raid1"),
    ] {
        let mut request = create("unknown-mkfs-option", 400 * MIB, mounted(file_system));
        request.parameters.insert(String::from("mkfsOptions"), options.to_owned());
        let answer = ground.client().controller.create_volume(request).await;
        refused(answer, InvalidArgument, &["parameters.mkfsOptions"])?;
    }
    Ok(())
}

async fn unknown_mount_option(ground: &Ground) -> Result<()> {
    let volume = ground.volume("options", 4, mounted("ext4")).await?;
    volume.stage().await?;
    let other = ground.volume("options", 4, mounted("ext4")).await?;
    let target = volume.target("user")?;
    for flags in [&["loop"][..], &["noatim"], &["journal_path=/dev/ubda"], &["bind"], &["ro,"], &["noatime", "sb=1"]] {
        let asked = || with_flags("ext4", flags);
        let words = &["mount_flags"];
        let request = create("unknown-mount-option", 4 * MIB, asked());
        refused(ground.client().controller.create_volume(request).await, InvalidArgument, words)?;
        let request = v1::NodeStageVolumeRequest { volume_capability: Some(asked()), ..other.stage_request()? };
        refused(ground.client().node.node_stage_volume(request).await, InvalidArgument, words)?;
        let request =
            v1::NodePublishVolumeRequest { volume_capability: Some(asked()), ..volume.publish_request(&target)? };
        refused(ground.client().node.node_publish_volume(request).await, InvalidArgument, words)?;
        ensure!(target.symlink_metadata().is_err(), "the refused publish left its target");
    }
    other.remove().await?;
    volume.remove().await
}

async fn check_config(ground: &Ground) -> Result<()> {
    let folder = ground.folder("check-config")?;
    let file = folder.join("classes.yaml");
    let checked = |text: &str| -> Result<(bool, String)> {
        fs::write(&file, text)?;
        let output = Command::new(ground.program()).arg("check-config").arg(&file).output()?;
        Ok((output.status.success(), String::from_utf8_lossy(&output.stdout).into_owned()))
    };
    for (text, words) in BAD_FILES {
        let (is_good, printed) = checked(text)?;
        ensure!(!is_good, "{text:?} is taken");
        for word in words {
            ensure!(printed.contains(word), "{word:?} is missing in {printed:?} about {text:?}");
        }
    }
    let (is_good, printed) = checked(Ground::classes())?;
    ensure!(is_good && printed.contains("share-reserved"), "{printed}");
    fs::remove_dir_all(folder)?;
    Ok(())
}

async fn reload(ground: &Ground) -> Result<()> {
    for (text, words) in BAD_FILES {
        let known = ground.log()?.len();
        ground.write_classes(text)?;
        let words_of_log = "the last good one stays in force";
        eventually("the log tells of the bad file", || async {
            metrics("/healthz")?;
            Ok(ground.log()?[known..].contains(words_of_log))
        })
        .await?;
        // The node works on, and must not be restarted for it: it would not start with such a file.
        let (status, body) = metrics("/healthz")?;
        ensure!(status.contains("200"), "health is {status:?} with {text:?}");
        ensure!(metrics("/metrics")?.1.contains("quarry_classes_refused 1"), "the metric does not tell of {text:?}");
        for word in words {
            ensure!(body.contains(word), "{word:?} is missing in {body:?} about {text:?}");
        }
        // The old classes are still in force.
        let request = ground.request("nowhere", "reload", 4 * MIB, block());
        let answer = ground.client().controller.create_volume(request).await;
        refused(answer, InvalidArgument, &["main, own"])?;
    }
    let only = "classes:\n- {name: other, volumeGroups: [main]}\n";
    ground.write_classes(only)?;
    eventually("the good file is in force", || async { Ok(metrics("/healthz")?.1 == "ok") }).await?;
    let request = ground.request("main", "reload", 4 * MIB, block());
    refused(ground.client().controller.create_volume(request).await, InvalidArgument, &["there are: other"])?;
    original_again(ground).await
}

pub(super) async fn original_again(ground: &Ground) -> Result<()> {
    ground.write_classes(Ground::classes())?;
    eventually("the original classes are in force", || async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let request = ground.request("nowhere", "again", 4 * MIB, block());
        let answer = ground.client().controller.create_volume(request).await;
        Ok(answer.err().context("an unknown class was taken")?.message().contains("main, own"))
    })
    .await
}

async fn start_with_a_bad_file(ground: &Ground) -> Result<()> {
    let folder = ground.folder("start")?;
    let file = folder.join("classes.yaml");
    let socket = folder.join("other.sock");
    for (text, words) in BAD_FILES {
        fs::write(&file, text)?;
        let output = Command::new(ground.program())
            .args(["node", "--node-name", "other", "--csi-endpoint"])
            .arg(format!("unix://{}", socket.display()))
            .arg("--classes")
            .arg(&file)
            .output()?;
        let printed = String::from_utf8_lossy(&output.stderr);
        ensure!(!output.status.success(), "it started with {text:?}");
        ensure!(words.iter().all(|word| printed.contains(word)), "{printed:?} about {text:?}");
        ensure!(socket.symlink_metadata().is_err(), "it left its socket");
    }
    fs::remove_dir_all(folder)?;
    Ok(())
}

async fn no_default(ground: &Ground) -> Result<()> {
    ground.write_classes("classes:\n- {name: a, volumeGroups: [main]}\n- {name: b, volumeGroups: [main]}\n")?;
    eventually("the file without a default is in force", || async {
        let answer = ground.client().controller.create_volume(create("no default", -1, block())).await;
        // The size is looked at first, so that nothing is made while the old classes are in force.
        answer.err().context("a negative size was taken")?;
        let request = ground.request("main", "no default", 4 * MIB, mounted("nowhere"));
        let answer = ground.client().controller.create_volume(request).await;
        Ok(answer.err().context("an unknown file system was taken")?.message().contains("there are: a, b"))
    })
    .await?;
    let answer = ground.client().controller.create_volume(create("no default", 4 * MIB, block())).await;
    refused(answer, InvalidArgument, &["parameters.class", "missing", "a, b"])?;
    original_again(ground).await
}
