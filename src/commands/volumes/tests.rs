use std::sync::Arc;

use super::*;
use crate::host::kernel::DeviceNumber;
use crate::lvm::groups::Unusable;
use crate::lvm::model::{LogicalVolume, VolumeGroup, sample};

fn logical(name: &str, tags: &[&str]) -> LogicalVolume {
    let tags = [&["quarry.kind=volume", "quarry.name=x", "quarry.class=fast"], tags].concat();
    LogicalVolume {
        uuid: format!("{name}-uuid"),
        tags: tags.into_iter().map(String::from).collect(),
        segment_types: vec![String::from("striped")],
        on_physical_volumes: vec![String::from("pv0")],
        ..sample::volume(name, 256)
    }
}

fn group(name: &str, logical_volumes: Vec<LogicalVolume>) -> VolumeGroup {
    let logical_volumes = logical_volumes.into_iter().map(Arc::new).collect();
    VolumeGroup { logical_volumes, ..sample::group(name, &[(10_000, 1_000)]) }
}

fn view(groups: Vec<VolumeGroup>) -> View {
    View { groups: groups.into_iter().map(Arc::new).collect(), ..View::default() }
}

fn device(group: &VolumeGroup, name: &str, minor: u32, open_count: u32) -> MappedDevice {
    MappedDevice {
        name: format!("{}-{name}", group.name),
        uuid: group.logical_volume(name).unwrap().mapper_uuid(group),
        number: DeviceNumber { major: 254, minor },
        open_count,
        suspended: false,
        read_only: false,
    }
}

fn mount(device: DeviceNumber, root: &str, target: &str, file_system: &str) -> MountEntry {
    MountEntry {
        device,
        root: root.into(),
        target: target.into(),
        options: vec![String::from("rw")],
        file_system: file_system.to_owned(),
        source: String::from("/dev/dm-0"),
        super_options: vec![String::from("rw")],
    }
}

#[test]
fn states_follow_from_tags_devices_and_mounts() {
    let group = group(
        "vg",
        vec![
            logical("a-new", &["quarry.fresh"]),
            logical("b-ready", &["quarry.fs=ext4"]),
            logical("c-staged", &["quarry.fs=ext4", "quarry.pvc=shop/db"]),
            logical("d-published", &["quarry.fs=ext4"]),
            logical("e-block", &["quarry.block"]),
            logical("f-block-published", &["quarry.block"]),
            logical("g-deleting", &["quarry.fs=ext4", "quarry.deleting=zero"]),
            LogicalVolume { tags: Vec::new(), ..logical("foreign", &[]) },
        ],
    );
    let names = ["c-staged", "d-published", "e-block", "f-block-published", "g-deleting"];
    let devices: Vec<_> = (0..).zip(names).map(|(minor, name)| device(&group, name, minor, 0)).collect();
    let number = |minor| DeviceNumber { major: 254, minor };
    let mounts = [
        mount(number(0), "/", "/staging/c", "ext4"),
        mount(number(1), "/", "/staging/d", "ext4"),
        mount(number(1), "/", "/pods/1", "ext4"),
        mount(number(1), "/", "/pods/2", "ext4"),
        mount(DeviceNumber { major: 0, minor: 6 }, "/dm-3", "/pods/block", "devtmpfs"),
    ];
    let inventory = inventory("n1", &view(vec![group]), &devices, &mounts);
    let states: Vec<_> = inventory.rows.iter().map(|row| (row.id.as_str(), row.state.word())).collect();
    let expected = [
        ("n1/a-new", "new"),
        ("n1/b-ready", "ready"),
        ("n1/c-staged", "staged"),
        ("n1/d-published", "published"),
        ("n1/e-block", "staged"),
        ("n1/f-block-published", "published"),
        ("n1/g-deleting", "deleting"),
    ];
    assert_eq!(states, expected);
    let [.., published, _, block, _] = inventory.rows.as_slice() else { panic!("too few rows") };
    assert_eq!(published.staged_at.as_deref(), Some("/staging/d"));
    assert_eq!(published.published_at, ["/pods/1", "/pods/2"]);
    assert_eq!((block.staged_at.as_deref(), block.published_at.as_slice()), (None, &[String::from("/pods/block")][..]));
    assert!(inventory.rows.iter().all(|row| row.problems.is_empty()));
}

#[test]
fn the_table_has_a_line_for_each_place_and_a_sum() {
    let group = group(
        "vg",
        vec![logical("data", &["quarry.fs=ext4", "quarry.pvc=shop/db"]), logical("old", &["quarry.deleting=zero"])],
    );
    let device = device(&group, "data", 0, 2);
    let number = device.number;
    let mounts = [mount(number, "/", "/staging", "ext4"), mount(number, "/", "/pods/with\nnewline", "ext4")];
    let text = table::in_words(&inventory("n1", &view(vec![group]), &[device], &mounts));
    let expected = "\
ID       CLASS  SIZE   CONTENT  STATE                  GROUP  CLAIM    MOUNTED AT
n1/data  fast   1 GiB  ext4     published              vg     shop/db  /staging
                                                                       /pods/with\\nnewline
n1/old   fast   1 GiB  -        deleting (wipe: zero)  vg     -        -
2 volumes, 2 GiB; being deleted: 1
";
    assert_eq!(text, expected);
}

#[test]
fn what_is_wrong_or_unseen_is_told_below_the_table() {
    let (mut one, other) = (group("one", vec![logical("a", &[])]), group("other", vec![logical("a", &[])]));
    let device = device(&one, "a", 0, 1);
    one.physical_volumes[0].device = None;
    let mut view = view(vec![one, other]);
    view.unusable.push(Unusable { name: String::from("bad"), reason: String::from("two of them"), told: Vec::new() });
    let text = table::in_words(&inventory("n1", &view, &[device], &[]));
    for sentence in [
        "n1/a: volume group other has a volume of this name too; nothing is done to either: rename one (lvrename other/a NEW)\n",
        "n1/a: volume group one has a volume of this name too",
        "n1/a: physical volume pv0-uuid with data of one/a is missing; attach its disk\n",
        "n1/a: something has its device /dev/dm-0 open, but it is mounted nowhere that this process sees\n",
        "volume group bad cannot be used, its volumes are not shown: two of them\n",
    ] {
        assert!(text.contains(sentence), "{sentence} in\n{text}");
    }
}

#[test]
fn an_empty_node_says_so_and_programs_get_all_keys() {
    assert_eq!(table::in_words(&Inventory::default()), "no volumes of this driver here\n");
    let rows = inventory("n1", &view(vec![group("vg", vec![logical("a", &["quarry.fresh"])])]), &[], &[]).rows;
    let expected = json!([{
        "id": "n1/a", "name": "x", "claim": null, "class": "fast", "volumeGroup": "vg", "bytes": 1_u64 << 30,
        "content": null, "state": "new", "wipe": null, "stagedAt": null, "publishedAt": [], "device": null,
        "openCount": 0, "problems": [],
    }]);
    assert_eq!(serde_json::to_value(rows).unwrap(), expected);
}
