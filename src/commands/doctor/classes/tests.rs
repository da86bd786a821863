use std::path::PathBuf;
use std::sync::Arc;

use super::super::finding::Level;
use super::*;
use crate::lvm::groups::Unusable;
use crate::lvm::model::{MetadataArea, sample};

fn group(name: &str, free_extents: u64) -> VolumeGroup {
    sample::group(name, &[(256, free_extents)])
}

fn judged(names: &[&str], groups_here: Vec<VolumeGroup>, unusable: &[&str]) -> Vec<(Level, String)> {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let unusable = unusable.iter().map(|name| Unusable {
        name: (*name).to_owned(),
        reason: String::from("torn"),
        told: Vec::new(),
    });
    let view = View {
        groups: groups_here.into_iter().map(Arc::new).collect(),
        unusable: unusable.collect(),
        ..View::default()
    };
    let findings = groups(&Classes::single(&names).unwrap(), &view);
    findings.into_iter().map(|finding| (finding.level, finding.found)).collect()
}

#[test]
fn a_sound_group_says_what_fits() {
    let expected = [
        (Level::Ok, String::from("vg: 512 MiB of 1 GiB free; largest new volume of class default: 512 MiB")),
        (Level::Ok, String::from("vg: 511 KiB of metadata can still be added")),
    ];
    assert_eq!(judged(&["vg"], vec![group("vg", 128)], &[]), expected);
}

#[test]
fn a_group_that_is_not_there_fails_unless_a_glob_was_meant() {
    let absent = |name: &str| judged(&[name], Vec::new(), &[]);
    assert_eq!(absent("vg"), [(Level::Fail, String::from("class default: no volume group vg here"))]);
    assert_eq!(absent("nvme-*"), [(Level::Warn, String::from("class default: no volume group nvme-* here"))]);
    assert_eq!(judged(&["vg"], Vec::new(), &["vg"]), []);
    assert_eq!(judged(&["v?"], vec![group("vg", 1), group("other", 1)], &[]).len(), 2);
}

#[test]
fn groups_that_take_nothing_are_told_with_the_reason() {
    let levels = |group| judged(&["vg"], vec![group], &[]).into_iter().map(|(level, _)| level).collect::<Vec<_>>();
    assert_eq!(levels(group("vg", 0)), [Level::Warn, Level::Ok]);
    let read_only = VolumeGroup { status: vec![String::from("READ")], ..group("vg", 9) };
    assert_eq!(levels(read_only), [Level::Fail]);
    let mut partial = group("vg", 9);
    partial.physical_volumes[0].device = None;
    let findings = judged(&["vg"], vec![partial], &[]);
    assert!(findings[0].1.contains("physical volumes are missing: pv0-uuid"), "{findings:?}");
}

#[test]
fn little_room_for_metadata_is_a_warning_and_none_takes_the_room_for_volumes() {
    let with_metadata = |used| VolumeGroup { metadata_area: MetadataArea { size: 1 << 20, used }, ..group("vg", 9) };
    let levels = |group| judged(&["vg"], vec![group], &[]).into_iter().map(|(level, _)| level).collect::<Vec<_>>();
    assert_eq!(levels(with_metadata(500 << 10)), [Level::Ok, Level::Warn]);
    assert_eq!(levels(with_metadata(512 << 10)), [Level::Warn, Level::Warn]);
}

#[test]
fn without_classes_nothing_fails_and_a_bad_file_does() {
    let flags = |file: Option<&str>, groups: &[&str]| ClassesFlags {
        classes: file.map(PathBuf::from),
        volume_groups: groups.iter().map(|group| (*group).to_owned()).collect(),
    };
    let level = |flags| read(&flags).1[0].level;
    assert_eq!(level(flags(None, &[])), Level::Warn);
    assert_eq!(level(flags(None, &["vg"])), Level::Ok);
    assert_eq!(level(flags(None, &["/dev/vg"])), Level::Fail);
    assert_eq!(level(flags(Some("/nowhere.yaml"), &[])), Level::Fail);
}
