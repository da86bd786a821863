use proptest::prelude::*;

use super::*;

fn tags(tags: &[&str]) -> Vec<String> {
    tags.iter().map(ToString::to_string).collect()
}

fn is_legal(tag: &str) -> bool {
    !tag.is_empty()
        && tag.len() <= TAG_LIMIT
        && !tag.starts_with('-')
        && tag.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_+.-/=!:&#".contains(&byte))
}

#[test]
fn the_tags_of_a_volume_are_readable() {
    let volume = VolumeTags {
        name: String::from("pvc-1 ä"),
        class: String::from("fast"),
        fresh: true,
        deleting: Some(Wipe::Zero),
        file_system: Some(String::from("ext4")),
        mkfs_options: vec![String::from("-m"), String::from("0")],
        block: true,
        claim: Some(Claim { namespace: String::from("shop"), name: String::from("data-db-0") }),
        single_user: true,
        driver: Some(String::from("lvm.quarry.storage")),
        copied: Some(CopiedFrom {
            source: String::from("snap-1"),
            same_uuid: true,
            unfinished: true,
            ungrown: true,
            progress: Some(CopyProgress { of: String::from("Ab-1"), bytes: 1 << 30, raw: true }),
        }),
    };
    let expected = [
        "quarry.kind=volume",
        "quarry.name=pvc-1:20:c3:a4",
        "quarry.class=fast",
        "quarry.fresh",
        "quarry.deleting=zero",
        "quarry.fs=ext4",
        "quarry.mkfs=-m:200",
        "quarry.block",
        "quarry.single-user",
        "quarry.pvc=shop/data-db-0",
        "quarry.driver=lvm.quarry.storage",
        "quarry.source=snap-1",
        "quarry.same-uuid",
        "quarry.unfinished",
        "quarry.ungrown",
        "quarry.copied=Ab-1/1073741824/raw",
    ];
    assert_eq!(volume.to_tags(), expected);
    assert_eq!(VolumeTags::parse(&tags(&expected)), Some(volume));
}

#[test]
fn a_volume_without_our_mark_or_without_a_name_is_not_ours() {
    for foreign in [
        &[][..],
        &["quarry.name=a"],
        &["quarry.kind=volume"],
        &["quarry.kind=volume", "quarry.name=:zz"],
        &["quarry.kind=volume", "quarry.name=:c3"],
        &["quarry.kind=volume", "quarry.name=:2"],
        &["quarry.kind=snapshot", "quarry.name=a"],
        &["quarry.kind=volumes", "quarry.name=a"],
        &["QUARRY.KIND=volume", "quarry.name=a"],
    ] {
        assert_eq!(VolumeTags::parse(&tags(foreign)), None, "{foreign:?}");
    }
}

#[test]
fn tags_of_others_and_of_later_versions_change_nothing() {
    let parsed = VolumeTags::parse(&tags(&["backup", "quarry.kind=volume", "quarry.later=1", "quarry.name=a"]));
    assert_eq!(parsed, Some(VolumeTags { name: String::from("a"), ..VolumeTags::default() }));
}

#[test]
fn when_in_doubt_the_more_thorough_wipe_counts() {
    for deleting in [
        &["quarry.deleting=shred"][..],
        &["quarry.deleting=zero", "quarry.deleting=none"],
        &["quarry.deleting=none", "quarry.deleting=zero"],
    ] {
        let all = [tags(&["quarry.kind=volume", "quarry.name=a"]), tags(deleting)].concat();
        assert_eq!(VolumeTags::parse(&all).unwrap().deleting, Some(Wipe::Zero), "{deleting:?}");
    }
}

fn any_volume() -> impl Strategy<Value = VolumeTags> {
    // The longest name in bytes has 128 of them; 32 characters of four bytes each are as long as that.
    let text = || proptest::collection::vec(any::<char>(), 0..=32).prop_map(String::from_iter);
    let wipe = proptest::option::of(proptest::sample::select(Wipe::ALL.to_vec()));
    let claim = (text(), text()).prop_map(|(namespace, name)| Claim { namespace, name });
    let optional = || proptest::option::of(text());
    let texts = (text(), text(), optional(), proptest::option::of(claim), optional());
    let words = proptest::collection::vec("[a-zA-Z0-9=,-]{1,12}", 0..4);
    let progress = (text(), any::<u64>(), any::<bool>()).prop_map(|(of, bytes, raw)| CopyProgress { of, bytes, raw });
    let progress = proptest::option::of(progress);
    let copied =
        (text(), any::<[bool; 3]>(), progress).prop_map(|(source, [same_uuid, unfinished, ungrown], progress)| {
            CopiedFrom { source, same_uuid, unfinished, ungrown, progress }
        });
    let of_life = (any::<bool>(), wipe, proptest::option::of(copied));
    (texts, of_life, any::<[bool; 2]>(), words).prop_map(
        |((name, class, file_system, claim, driver), (fresh, deleting, copied), [block, single_user], mkfs_options)| {
            VolumeTags {
                name,
                class,
                fresh,
                deleting,
                file_system,
                mkfs_options,
                block,
                claim,
                single_user,
                driver,
                copied,
            }
        },
    )
}

proptest! {
    #[test]
    fn everything_reads_back_the_same_in_any_order(volume in any_volume(), turn in 0_usize..8) {
        let mut tags = volume.to_tags();
        let length = tags.len();
        tags.rotate_left(turn % length);
        prop_assert_eq!(VolumeTags::parse(&tags), Some(volume));
    }

    #[test]
    fn every_tag_is_legal_for_lvm(volume in any_volume()) {
        for tag in volume.to_tags() {
            prop_assert!(is_legal(&tag), "{}", tag);
        }
    }

    #[test]
    fn a_claim_of_any_length_makes_no_illegal_tag(name in "\\PC{0,600}") {
        let claim = Some(Claim { namespace: String::from("n"), name });
        for tag in (VolumeTags { claim, ..VolumeTags::default() }).to_tags() {
            prop_assert!(is_legal(&tag), "{}", tag);
        }
    }

    #[test]
    fn no_tags_make_the_parser_panic(mut found in proptest::collection::vec("(quarry\\.(kind|name|class|deleting|fs|pvc|driver)=)?\\PC{0,12}", 0..6)) {
        found.push(String::from(KIND_VOLUME));
        let _ = VolumeTags::parse(&found);
    }
}
