use std::sync::Arc;

use super::*;
use crate::lvm::metadata::describe;

/// Of lvm2 2.03.16, for the group `test` of two physical volumes beside an orphan.
const REPORT: &str = include_str!("../../../tests/fixtures/lvm/fullreport.json");
const TEXT: &str = include_str!("../../../tests/fixtures/lvm/test.vg");

fn view() -> View {
    let mut group = describe(TEXT.as_bytes()).unwrap().group;
    for volume in &mut group.physical_volumes {
        volume.device = Some("/dev/loop0".into());
    }
    View { groups: vec![Arc::new(group)], ..View::default() }
}

/// The sentences about a group that was changed after it was read.
fn sentences(change: impl FnOnce(&mut VolumeGroup)) -> Vec<String> {
    let mut view = view();
    change(Arc::get_mut(&mut view.groups[0]).unwrap());
    differences(&view, &parse(REPORT.as_bytes()).unwrap())
}

#[test]
fn what_lvm_reports_and_what_is_read_from_its_text_agree() {
    assert_eq!(sentences(|_| {}), Vec::<String>::new());
}

#[test]
fn every_difference_is_told() {
    for (sentences, expected) in [
        (sentences(|group| group.seqno = 9), "volume group test: lvm reports the sequence number 3, but 9 was found"),
        (sentences(|group| group.tags.clear()), r#"reports the tags {"vg/tag"}, but {} was found"#),
        (sentences(|group| group.uuid.clear()), "the UUID"),
        (sentences(|group| group.physical_volumes[0].free_extents -= 1), "the number of free extents 26, but 25"),
        (sentences(|group| group.physical_volumes[0].device = None), "physical volume EdqX53"),
        (sentences(|group| group.physical_volumes[1].allocatable = false), "physical volume ISYG0M"),
        (sentences(|group| Arc::make_mut(&mut group.logical_volumes[0]).extents += 1), "logical volume f14bDj"),
        (
            sentences(|group| Arc::make_mut(&mut group.logical_volumes[0]).tags.push("x".into())),
            "logical volume f14bDj",
        ),
        (sentences(|group| drop(group.logical_volumes.remove(1))), "logical volume CiAEgk"),
        (sentences(|group| group.name = "x".into()), "lvm reports volume group test, but it was not found"),
    ] {
        assert!(sentences[0].contains(expected), "{sentences:?}");
    }
}

#[test]
fn a_group_only_one_of_both_knows_is_told() {
    let reported = parse(REPORT.as_bytes()).unwrap();
    let unknown = differences(&view(), &[]);
    assert_eq!(unknown, ["volume group test was found, but lvm does not report it"]);
    let unusable = vec![crate::lvm::groups::Unusable { name: "test".into(), reason: "torn".into(), told: Vec::new() }];
    let unusable = differences(&View { unusable, ..View::default() }, &reported);
    assert_eq!(unusable, ["lvm reports volume group test, but it cannot be used: torn"]);
}

#[test]
fn hidden_volumes_lose_their_brackets_and_orphans_are_left_out() {
    let hidden = REPORT.replace("\"one\"", "\"[one]\"");
    assert_eq!(parse(hidden.as_bytes()), parse(REPORT.as_bytes()));
    assert_eq!(parse(REPORT.as_bytes()).unwrap().len(), 1);
}

#[test]
fn output_that_is_no_report_is_refused_with_a_reason() {
    assert!(parse(b"").is_err());
    assert!(parse(b"{\"report\": 5}").is_err());
    let wrong = REPORT.replace("\"vg_seqno\":\"3\"", "\"vg_seqno\":\"three\"");
    assert_eq!(parse(wrong.as_bytes()).unwrap_err(), "\"three\" is not a number");
}

#[test]
fn only_the_needed_columns_are_asked_for() {
    let line = command().to_string();
    assert!(
        line.starts_with(
            "lvm fullreport --all --readonly --foreign --shared --reportformat json --units b --nosuffix "
        )
    );
    assert!(line.contains(" --configreport lv -o lv_name,lv_uuid,lv_size,lv_tags "));
}
