use proptest::prelude::*;

use super::*;

const KINDS: &[u8] = include_bytes!("../../../tests/fixtures/lvm/kinds.vg");

/// What lvm2 2.03.16 wrote into a metadata area of its own.
const HEAD: &[u8] = include_bytes!("../../../tests/fixtures/lvm/head.bin");

fn group(extra: &str, volumes: &str) -> String {
    format!(
        "g {{ id = \"u\" seqno = 3 status = [\"READ\"] flags = [\"EXPORTED\"] extent_size = 8192 {extra}
         physical_volumes {{ pv0 {{ id = \"p\" status = [\"ALLOCATABLE\"] pe_count = 100 }}
         pv1 {{ id = \"q\" status = [] flags = [\"MISSING\"] pe_count = 50 }} }}
         logical_volumes {{ {volumes} }} }}"
    )
}

fn segment(content: &str) -> String {
    group("", &format!("x {{ id = \"x\" status = [] segment1 {{ start_extent = 0 extent_count = 6 {content} }} }}"))
}

#[test]
fn every_kind_of_segment_takes_what_it_lies_on_and_nothing_else() {
    let group = describe(KINDS).unwrap().group;
    // pv0: one 2+2, safe 1+3, pool 1+10, pvmove 5. pv1: one 2, safe 1+3, spare 1, pvmove 5.
    let free: Vec<_> = group.physical_volumes.iter().map(|volume| volume.free_extents).collect();
    assert_eq!(free, [120 - 24, 120 - 12]);
    let volume = |name| group.logical_volume(name).unwrap();
    assert_eq!(volume("one").on_physical_volumes, ["pv0", "pv1"]);
    assert_eq!((volume("one").extents, volume("one").created), (6, Some(1_795_555_500)));
    assert_eq!(volume("one").tags, ["a+b.c-d/e=f!g:h&i#j"]);
    assert_eq!(volume("one").segment_types, ["striped", "striped"]);
    assert_eq!(volume("thin").on_physical_volumes, Vec::<String>::new());
    assert_eq!(volume("thin").extents, 1000);
    assert_eq!(volume("safe").segment_types, ["raid1"]);
    assert_eq!(volume("pvmove0").status, ["READ", "WRITE", "PVMOVE", "LOCKED"]);
    assert_eq!((group.name.as_str(), group.seqno, group.extent_bytes), ("kinds", 42, 4 << 20));
    assert_eq!(group.tags, ["rack/7"]);
    assert_eq!(group.logical_volumes.len(), 13);
    assert!(group.logical_volumes.is_sorted_by(|one, other| one.name < other.name));
    let pool = Pool {
        metadata: String::from("pool_tmeta"),
        data: String::from("pool_tdata"),
        chunk_bytes: 64 << 10,
        zeroes: true,
        fails_when_full: true,
        transaction_id: 1,
        is_pending: false,
    };
    let thin = ThinVolume { pool: String::from("pool"), device_id: 1, origin: None, is_unsent: false };
    assert_eq!((&volume("pool").pool, &volume("thin").thin), (&Some(pool), &Some(thin)));
    assert_eq!((&volume("pool").thin, &volume("one").pool), (&None, &None));
}

#[test]
fn a_snapshot_is_known_by_its_origin() {
    let volume = |name: &str, content: &str| {
        format!("{name} {{ id = \"{name}\" status = [] segment1 {{ extent_count = 1 {content} }} }} ")
    };
    let volumes = [
        volume("data", "type = \"striped\" stripes = [\"pv0\", 0]"),
        volume("backup", "type = \"striped\" stripes = [\"pv0\", 1]"),
        volume("snapshot0", "type = \"snapshot\" origin = \"data\" cow_store = \"backup\""),
        volume("clone", "type = \"thin\" thin_pool = \"pool\" device_id = 1 external_origin = \"base\""),
        volume("snapshot1", "type = \"snapshot\" origin = \"base\" merging_store = \"merging\""),
        volume("merging", "type = \"striped\" stripe_count = 1 stripes = [\"pv0\", 9]"),
        volume("later", "type = \"thin\" thin_pool = \"pool\" device_id = 2 origin = \"clone\""),
    ];
    let group = describe(group("", &volumes.concat()).as_bytes()).unwrap().group;
    let snapshot_of = |origin| group.snapshot_of(origin).map(|volume| volume.name.as_str());
    assert_eq!((snapshot_of("data"), snapshot_of("base")), (Some("backup"), Some("clone")));
    let merging = group.logical_volume("merging").unwrap();
    assert_eq!(merging.snapshot_of, ["base"], "lvm writes its store otherwise while it is merged back");
    assert_eq!((snapshot_of("backup"), snapshot_of("clone")), (None, None), "thin ones stay when their origin goes");
}

#[test]
fn a_thin_volume_that_the_kernel_was_not_told_of_is_known() {
    let volume = |name: &str, content: &str| {
        format!("{name} {{ id = \"{name}\" status = [] segment1 {{ extent_count = 1 {content} }} }} ")
    };
    let pool = "type = \"thin-pool\" metadata = \"m\" pool = \"d\" chunk_size = 128 transaction_id = 3 \
                message1 { create = \"new\" } message2 { delete = 1 }";
    let thin = |id: u64| format!("type = \"thin\" thin_pool = \"pool\" device_id = {id}");
    let volumes = [volume("pool", pool), volume("new", &thin(3)), volume("old", &thin(2))];
    let group = describe(group("", &volumes.concat()).as_bytes()).unwrap().group;
    let is_unsent = |name| group.logical_volume(name).unwrap().is_unsent();
    assert_eq!((is_unsent("new"), is_unsent("old"), is_unsent("pool")), (true, false, false));
    assert!(group.logical_volume("pool").unwrap().pool.as_ref().unwrap().is_pending);
}

#[test]
fn the_text_that_lvm_writes_into_its_area_is_understood() {
    let area = &HEAD[0x1200..0x1e00];
    let end = area.iter().position(|byte| *byte == 0).unwrap();
    let group = describe(&area[..end]).unwrap().group;
    assert_eq!((group.name.as_str(), group.seqno, group.extents()), ("test", 1, 30));
}

#[test]
fn a_segment_of_a_kind_never_heard_of_is_counted_by_its_areas() {
    for (content, free) in [
        (r#"type = "novel+FEATURE" things = ["pv0", 0, "pv1", 7] others = ["y", 0]"#, [94, 44]),
        (r#"type = "novel" stripes = ["pv0", 0, "pv0", 3]"#, [94, 50]),
        (r#"type = "novel" names = ["pv0", "pv1"] number = 5"#, [100, 50]),
        (r#"type = "novel""#, [100, 50]),
    ] {
        let group = describe(segment(content).as_bytes()).unwrap().group;
        let found: Vec<_> = group.physical_volumes.iter().map(|volume| volume.free_extents).collect();
        assert_eq!(found, free, "{content}");
        assert_eq!(group.logical_volumes[0].segment_types, ["novel"]);
    }
}

#[test]
fn flags_of_physical_volumes_and_groups_are_heard() {
    let description = describe(group("system_id = \"s\" lock_type = \"sanlock\"", "").as_bytes()).unwrap();
    assert_eq!(description.marked_missing.iter().collect::<Vec<_>>(), ["pv1"]);
    let group = description.group;
    assert_eq!(group.status, ["READ", "EXPORTED"]);
    assert_eq!((group.system_id.as_deref(), group.lock_type.as_deref()), (Some("s"), Some("sanlock")));
    assert_eq!(group.physical_volumes.iter().map(|volume| volume.allocatable).collect::<Vec<_>>(), [true, false]);
    assert_eq!(group.free_extents(), 0, "no device is known yet");
}

#[test]
fn what_is_missing_is_named_with_its_place() {
    let negative = segment("type = \"striped\"").replace("extent_count = 6", "extent_count = -6");
    for (text, expected) in [
        (String::new(), "the text: has no section of a group"),
        ("g { }".into(), "g: extent_size is missing"),
        (group("", "").replace("8192", "0"), "g: extent_size is not a size"),
        (group("", "").replace("8192", "9223372036854775807"), "g: extent_size is not a size"),
        (group("", "").replace("id = \"q\"", ""), "g/physical_volumes/pv1: id is missing"),
        (group("", "").replace("seqno = 3", "seqno = \"3\""), "g: seqno is not a number"),
        (segment(""), "g/logical_volumes/x/segment1: type is missing"),
        (segment("type = 1"), "g/logical_volumes/x/segment1: type is not a string"),
        (negative, "g/logical_volumes/x/segment1: extent_count is negative: -6"),
        ("g {".into(), "line 1: the text ends within a section"),
    ] {
        assert_eq!(describe(text.as_bytes()).unwrap_err().to_string(), expected);
    }
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..512)) {
        let _ = describe(&bytes);
    }

    #[test]
    fn a_damaged_text_never_panics(
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        end in any::<prop::sample::Index>(),
    ) {
        let mut text = KINDS.to_vec();
        for (position, value) in changes {
            let position = position.index(text.len());
            text[position] = value;
        }
        let _ = describe(&text);
        let _ = describe(&text[..end.index(text.len())]);
    }
}
