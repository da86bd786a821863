//! What is read natively against what real lvm2 says, after every command that changes a group. Needs
//! root and loop devices; without them the tests say so and pass.

#![expect(clippy::unwrap_used, reason = "all of this is part of tests")]

mod loops;

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::FileExt;

use loops::Lab;
use quarry::lvm::area::{self, Content};
use quarry::lvm::label;

const MIB: u64 = 1 << 20;

/// A lab, or a loud word about why there is none.
macro_rules! lab_or_skip {
    ($($disk:expr),*) => {
        match Lab::new(&[$($disk),*]) {
            Ok(lab) => lab,
            Err(reason) => {
                // Not `eprintln!`, which the test harness keeps to itself when a test passes.
                writeln!(io::stderr(), "SKIPPED: no loop devices or no lvm here: {reason}").unwrap();
                return;
            }
        }
    };
}

#[tokio::test]
async fn every_change_of_a_group_is_read_as_lvm_reads_it() {
    let lab = lab_or_skip!(64 * MIB, 64 * MIB, 64 * MIB);
    let [one, two, three] = [lab.disk(0), lab.disk(1), lab.disk(2)];
    assert!(lab.read().await.groups.is_empty());
    lab.lvm(&["pvcreate", one]).await;
    lab.lvm(&["pvcreate", "--metadatacopies", "2", two]).await;
    assert!(lab.read().await.groups.is_empty(), "physical volumes alone are no group");
    lab.lvm(&["vgcreate", "--addtag", "rack/7", "first", one, two]).await;
    lab.create("first", "plain", &["-L", "8m"]).await;
    lab.create("first", "odd", &["-L", "4m", "--addtag", "a+b.c-d/e=f!g:h&i#j", "--addtag", "_.x"]).await;
    lab.create("first", "striped", &["-L", "8m", "-i", "2"]).await;
    lab.lvm(&["lvextend", "-L", "24m", "first/plain"]).await;
    lab.lvm(&["lvchange", "--addtag", "quarry.fresh", "--deltag", "_.x", "first/odd"]).await;
    lab.lvm(&["lvreduce", "-f", "-L", "12m", "first/plain"]).await;
    lab.lvm(&["vgextend", "first", three]).await;
    lab.lvm(&["pvchange", "-x", "n", three]).await;
    let group = lab.read().await.group("first").unwrap().clone();
    let raw: u64 = group.physical_volumes.iter().map(|volume| volume.free_extents).sum();
    assert_eq!(raw - group.free_extents(), 15, "what must not be allocated is not free");
    lab.lvm(&["pvchange", "-x", "y", three]).await;
    lab.lvm(&["lvrename", "first/odd", "first/even"]).await;
    lab.lvm(&["vgrename", "first", "second"]).await;
    let snapshot = lab.read().await;
    assert!(snapshot.vanished.is_empty() && snapshot.group("first").is_none(), "{snapshot:?}");
    let found: Vec<_> = snapshot.logical_volumes("even").map(|(group, _)| group.name.clone()).collect();
    assert_eq!(found, ["second"]);
    lab.lvm(&["lvremove", "-f", "second/even", "second/striped"]).await;
    lab.lvm(&["vgchange", "--addtag", "x", "--deltag", "rack/7", "second"]).await;
    lab.lvm(&["vgreduce", "second", three]).await;
    lab.lvm(&["vgcreate", "-s", "1m", "another", three]).await;
    assert_eq!(
        lab.read().await.groups.iter().map(|group| group.name.as_str()).collect::<Vec<_>>(),
        ["another", "second"]
    );
    lab.lvm(&["vgremove", "-f", "second"]).await;
    lab.lvm(&["vgchange", "-a", "n", "another"]).await;
    lab.lvm(&["vgexport", "another"]).await;
    assert!(lab.read().await.group("another").unwrap().has_status("EXPORTED"));
    lab.lvm(&["vgimport", "another"]).await;
    lab.lvm(&["vgremove", "-f", "another"]).await;
    lab.lvm(&["pvremove", one, two, three]).await;
    let snapshot = lab.read().await;
    assert!(snapshot.groups.is_empty() && snapshot.vanished.is_empty() && snapshot.unusable.is_empty(), "{snapshot:?}");
}

#[tokio::test]
async fn copies_of_the_metadata_may_be_few_ignored_or_at_the_end() {
    let lab = lab_or_skip!(64 * MIB, 64 * MIB, 64 * MIB + 512);
    let [one, two, three] = [lab.disk(0), lab.disk(1), lab.disk(2)];
    lab.lvm(&["pvcreate", "--metadatacopies", "0", one]).await;
    lab.lvm(&["pvcreate", "--metadatacopies", "2", "--metadatasize", "4m", two]).await;
    lab.lvm(&["pvcreate", "--dataalignment", "8m", "--labelsector", "3", three]).await;
    lab.lvm(&["vgcreate", "group", one, two, three]).await;
    lab.create("group", "volume", &["-L", "20m"]).await;
    lab.lvm(&["pvchange", "--metadataignore", "y", three]).await;
    lab.create("group", "other", &["-l", "1"]).await;
    let group = lab.read().await.group("group").unwrap().clone();
    assert!(!group.is_partial());
    assert!(group.metadata_area.size >= 4 * MIB - 512 && group.metadata_area.used > 500, "{:?}", group.metadata_area);
    lab.lvm(&["pvchange", "--metadataignore", "n", three]).await;
    lab.lvm(&["pvchange", "--metadataignore", "y", two]).await;
    lab.lvm(&["vgchange", "--vgmetadatacopies", "all", "group"]).await;
    lab.lvm(&["lvremove", "-f", "group/volume"]).await;
}

#[tokio::test]
async fn the_ring_of_the_metadata_goes_round() {
    let lab = lab_or_skip!(64 * MIB, 64 * MIB);
    let [one, two] = [lab.disk(0), lab.disk(1)];
    lab.lvm(&["pvcreate", "--metadatasize", "32k", "--dataalignment", "4k", one]).await;
    lab.lvm(&["pvcreate", two]).await;
    lab.lvm(&["vgcreate", "-s", "1m", "ring", one, two]).await;
    let mut times_round = 0;
    for round in 0..40 {
        lab.create("ring", &format!("volume{round}"), &["-l", "1"]).await;
        if round % 3 > 0 {
            lab.lvm(&["lvremove", "-f", &format!("ring/volume{round}")]).await;
        }
        times_round += usize::from(text_goes_round(one));
    }
    assert!(times_round > 0, "the test must meet a text in two pieces");
    assert_eq!(lab.read().await.group("ring").unwrap().logical_volumes.len(), 14);
}

/// Whether the text in the first metadata area lies in two pieces.
fn text_goes_round(disk: &str) -> bool {
    let mut head = vec![0; 8192];
    fs::File::open(disk).and_then(|disk| disk.read_exact_at(&mut head, 0)).unwrap();
    let label = label::find(&head).unwrap().unwrap();
    let header = area::header(label.metadata_areas[0], &head[4096..]).unwrap();
    let Content::Text(location) = header.content else { panic!("{header:?}") };
    header.regions(location).len() == 2
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_is_never_confused_by_a_writer() {
    let lab = lab_or_skip!(64 * MIB, 64 * MIB);
    lab.lvm(&["vgcreate", "-s", "1m", "busy", lab.disk(0), lab.disk(1)]).await;
    let writing = async {
        for round in 0..30 {
            let name = format!("volume{round}");
            lab.quietly(&Lab::creation("busy", &name, &["-l", "1"])).await;
            let seqno = lab.read().await.group("busy").unwrap().seqno;
            assert!(lab.read().await.logical_volumes(&name).count() == 1 && seqno >= 2 + round);
            if round % 2 == 0 {
                lab.quietly(&["lvremove", "-f", &format!("busy/{name}")]).await;
            }
        }
    };
    let reading = async {
        let (mut seqno, mut changes) = (0, 0);
        loop {
            let snapshot = lab.read().await;
            let Some(group) = snapshot.group("busy") else { panic!("{snapshot:?}") };
            assert!(group.seqno >= seqno && !group.is_partial(), "{snapshot:?}");
            changes += u64::from(group.seqno > seqno);
            seqno = group.seqno;
            if seqno >= 46 {
                return changes;
            }
            tokio::time::sleep(std::time::Duration::from_micros(300)).await;
        }
    };
    let ((), changes) = tokio::join!(writing, reading);
    assert!(changes > 10, "the reader must see the writer at work, but saw {changes} changes");
}

#[tokio::test]
async fn three_hundred_volumes_are_read_as_lvm_reads_them() {
    let lab = lab_or_skip!(512 * MIB);
    lab.lvm(&["vgcreate", "-s", "1m", "many", lab.disk(0)]).await;
    for number in 0..299 {
        let name = format!("pvc-{number:08}-1234-5678-9abc-def012345678");
        lab.quietly(&Lab::creation("many", &name, &["-l", "1", "--addtag", "quarry.kind=volume"])).await;
    }
    lab.create("many", "last", &["-l", "1"]).await;
    assert_eq!(lab.read().await.group("many").unwrap().logical_volumes.len(), 300);
}

#[tokio::test]
async fn kinds_of_volumes_that_need_a_kernel_are_read_from_restored_metadata() {
    let lab = lab_or_skip!(512 * MIB, 512 * MIB);
    let text = include_str!("fixtures/lvm/kinds.vg");
    let backup = lab.file("kinds.vg");
    fs::write(&backup, format!("contents = \"Text Format Volume Group\"\nversion = 1\n{text}")).unwrap();
    let backup = backup.to_str().unwrap();
    for (disk, uuid) in
        ["EdqX53-Oa6q-Kpbo-XOWK-VMx9-mbEc-kfb78Z", "ISYG0M-1fm3-Zx0C-L8ep-n0tr-1VNi-AqwFTu"].iter().enumerate()
    {
        lab.lvm(&["pvcreate", "--uuid", uuid, "--restorefile", backup, lab.disk(disk)]).await;
    }
    lab.lvm(&["vgcfgrestore", "--force", "--yes", "-f", backup, "kinds"]).await;
    let group = lab.read().await.group("kinds").unwrap().clone();
    assert_eq!(group.logical_volumes.len(), 13);
    assert_eq!(group.logical_volume("thin").unwrap().segment_types, ["thin"]);
}

#[tokio::test]
async fn a_missing_physical_volume_makes_the_group_partial_and_its_return_whole() {
    let mut lab = lab_or_skip!(64 * MIB, 64 * MIB);
    lab.lvm(&["vgcreate", "-s", "4m", "pair", lab.disk(0), lab.disk(1)]).await;
    lab.create("pair", "volume", &["-l", "2"]).await;
    lab.detach(1);
    lab.check("detaching the second disk").await;
    let group = lab.read().await.group("pair").unwrap().clone();
    assert!(group.is_partial());
    assert_eq!(group.free_extents(), 13);
    lab.detach(0);
    let snapshot = lab.read().await;
    assert!(snapshot.groups.is_empty() && snapshot.unusable.is_empty(), "{snapshot:?}");
    assert_eq!(snapshot.vanished.iter().map(|group| group.name.as_str()).collect::<Vec<_>>(), ["pair"]);
    lab.attach(1);
    lab.attach(0);
    lab.check("attaching both disks").await;
    assert!(!lab.read().await.group("pair").unwrap().is_partial());

    // A change while it is missing leaves its mark. It stays when the disk is back, because what lies on
    // it may be stale; without anything on it, it is heeded no more.
    for used in [false, true] {
        if used {
            lab.create("pair", "other", &["-l", "100%FREE"]).await;
        }
        lab.detach(1);
        lab.lvm(&["vgchange", "--addtag", &format!("used{used}"), "pair"]).await;
        lab.attach(1);
        lab.check(&format!("attaching a disk that missed a change, used: {used}")).await;
        assert_eq!(lab.read().await.group("pair").unwrap().is_partial(), used);
    }
    lab.lvm(&["vgextend", "--restoremissing", "pair", lab.disk(1)]).await;
    assert!(!lab.read().await.group("pair").unwrap().is_partial());
}

#[tokio::test]
async fn a_group_on_a_copied_disk_is_not_touched() {
    let lab = lab_or_skip!(64 * MIB, 64 * MIB);
    lab.lvm(&["vgcreate", "single", lab.disk(0)]).await;
    lab.copy_start(0, 1);
    let snapshot = lab.read().await;
    assert!(snapshot.group("single").is_none());
    assert!(snapshot.why_unusable("single").unwrap().contains("alike"), "{snapshot:?}");
    lab.clear_start(1);
    lab.check("clearing the copy").await;
    assert!(lab.read().await.group("single").is_some());
}

#[tokio::test]
async fn a_damaged_copy_is_passed_over_and_the_last_one_makes_the_group_unusable() {
    let lab = lab_or_skip!(64 * MIB, 64 * MIB);
    lab.lvm(&["vgcreate", "fragile", lab.disk(0), lab.disk(1)]).await;
    let damage = |disk: usize| {
        let file = fs::OpenOptions::new().write(true).open(lab.disk(disk)).unwrap();
        file.write_all_at(b"damage", 4096 + 100).unwrap();
        file.sync_all().unwrap();
    };
    damage(0);
    assert!(lab.read().await.group("fragile").is_some());
    damage(1);
    let snapshot = lab.read().await;
    assert!(snapshot.group("fragile").is_none() && snapshot.vanished.is_empty());
    assert!(snapshot.why_unusable("fragile").unwrap().contains("checksum"), "{snapshot:?}");
}

#[tokio::test]
async fn two_groups_of_one_name_are_not_told_apart_by_guessing() {
    let mut lab = lab_or_skip!(64 * MIB, 64 * MIB);
    lab.lvm(&["vgcreate", "twin", lab.disk(0)]).await;
    lab.detach(0);
    lab.quietly(&["vgcreate", "twin", lab.disk(1)]).await;
    lab.attach(0);
    let snapshot = lab.read().await;
    assert!(snapshot.group("twin").is_none());
    assert!(snapshot.why_unusable("twin").unwrap().starts_with("2 volume groups bear this name"));
}

#[tokio::test]
async fn a_mark_of_absence_is_heeded_as_lvm_heeds_it_where_the_disk_has_no_metadata() {
    let mut lab = lab_or_skip!(64 * MIB, 64 * MIB);
    lab.lvm(&["pvcreate", "--metadatacopies", "0", lab.disk(1)]).await;
    lab.lvm(&["vgcreate", "-s", "4m", "pair", lab.disk(0), lab.disk(1)]).await;
    lab.create("pair", "other", &["-l", "100%FREE"]).await;
    lab.detach(1);
    lab.lvm(&["vgchange", "--addtag", "x", "pair"]).await;
    lab.attach(1);
    lab.check("attaching a disk that missed a change").await;
}
