use std::collections::BTreeSet;
use std::path::PathBuf;

use super::*;
use crate::host::kernel::DeviceNumber;
use crate::lvm::metadata::describe;

fn device(name: &str) -> BlockDevice {
    let number = DeviceNumber { major: 7, minor: 0 };
    BlockDevice { path: PathBuf::from(name), number, size: 1 << 30, is_component: false, mapper_uuid: None }
}

/// A group on two physical volumes, `p` with an extent in use and `q` without.
fn description(name: &str, uuid: &str, seqno: u64) -> Arc<Description> {
    let text = format!(
        "{name} {{ id = \"{uuid}\" seqno = {seqno} status = [] extent_size = 8192
         physical_volumes {{ pv0 {{ id = \"p\" status = [\"ALLOCATABLE\"] pe_count = 10 }}
         pv1 {{ id = \"q\" status = [\"ALLOCATABLE\"] pe_count = 10 }} }}
         logical_volumes {{ x {{ id = \"x\" status = [] segment1 {{ start_extent = 0 extent_count = 1
         type = \"striped\" stripes = [\"pv0\", 0] }} }} }} }}"
    );
    Arc::new(describe(text.as_bytes()).unwrap())
}

fn copy(description: &Arc<Description>) -> Area {
    Area::Copy { description: Arc::clone(description), room: MetadataArea { size: 1000, used: 10 } }
}

fn found(name: &str, uuid: &str, areas: Vec<Area>) -> Found {
    Found { device: device(name), uuid: uuid.into(), areas }
}

fn assembled(found: &[Found]) -> Assembled {
    assemble(found, &HashMap::new(), |uuid| (uuid == "p").then(|| "former".into()))
}

fn devices(group: &VolumeGroup) -> Vec<Option<&str>> {
    group.physical_volumes.iter().map(|volume| volume.device.as_ref()?.to_str()).collect()
}

#[test]
fn the_newest_copy_counts_and_every_physical_volume_gets_its_device() {
    let (old, new) = (description("g", "u", 4), description("g", "u", 5));
    let assembled = assembled(&[found("a", "q", vec![copy(&old)]), found("b", "p", vec![copy(&new)])]);
    assert_eq!(assembled.unusable, []);
    let [assembly] = assembled.groups.as_slice() else { panic!("{assembled:?}") };
    assert_eq!(assembly.group.seqno, 5);
    assert_eq!(devices(&assembly.group), [Some("b"), Some("a")]);
}

#[test]
fn a_physical_volume_without_a_device_is_missing() {
    let assembled = assembled(&[found("a", "q", vec![copy(&description("g", "u", 4))])]);
    assert_eq!(devices(&assembled.groups[0].group), [None, Some("a")]);
}

#[test]
fn metadata_on_one_device_serves_those_without_areas_and_orphans_are_no_group() {
    let there = copy(&description("g", "u", 4));
    let assembled = assembled(&[
        found("a", "p", Vec::new()),
        found("b", "q", vec![Area::Empty, there]),
        found("c", "r", vec![Area::Empty]),
    ]);
    assert_eq!(devices(&assembled.groups[0].group), [Some("a"), Some("b")]);
    assert!(assembled.groups.len() == 1 && assembled.unusable.is_empty());
}

#[test]
fn copies_that_differ_in_the_same_change_make_the_group_unusable() {
    let one = description("g", "u", 4);
    let mut other = Description::clone(&one);
    assert!(assembled(&[found("a", "p", vec![copy(&one), copy(&Arc::new(other.clone()))])]).unusable.is_empty());
    other.group.tags.push("x".into());
    let assembled = assembled(&[found("a", "p", vec![copy(&one)]), found("b", "q", vec![copy(&Arc::new(other))])]);
    assert!(assembled.groups.is_empty());
    assert_eq!(assembled.unusable[0].reason, "the metadata on b differs from that on its other devices in change 4");
}

#[test]
fn one_physical_volume_on_two_devices_makes_only_its_group_unusable() {
    let doubled = description("g", "u", 4);
    let mut other = Description::clone(&description("h", "v", 1));
    other.group.physical_volumes.truncate(1);
    other.group.physical_volumes[0].uuid = "r".into();
    let assembled = assembled(&[
        found("a", "p", vec![copy(&doubled)]),
        found("b", "p", vec![copy(&doubled)]),
        found("c", "r", vec![copy(&Arc::new(other))]),
    ]);
    assert_eq!(assembled.groups[0].group.name, "h");
    assert_eq!(assembled.unusable[0].name, "g");
    assert_eq!(assembled.unusable[0].reason, "its physical volume p is on a and on b alike");
}

#[test]
fn two_groups_of_one_name_are_both_unusable() {
    let (one, other) = (description("g", "u", 4), description("g", "v", 9));
    let assembled = assembled(&[found("a", "p", vec![copy(&one)]), found("b", "q", vec![copy(&other)])]);
    assert!(assembled.groups.is_empty());
    let [Unusable { name, reason, told }] = assembled.unusable.as_slice() else { panic!("{assembled:?}") };
    assert_eq!(told.iter().map(|group| group.uuid.as_str()).collect::<Vec<_>>(), ["u", "v"]);
    assert!(name == "g" && reason.starts_with("2 volume groups bear this name"), "{reason}");
}

#[test]
fn an_unreadable_copy_matters_only_where_there_is_no_other() {
    let torn = || vec![Area::Unreadable("torn".into())];
    let there = copy(&description("g", "u", 4));
    let fine = assembled(&[found("a", "p", torn()), found("b", "q", vec![there.clone()])]);
    assert!(fine.unusable.is_empty() && fine.groups.len() == 1);
    let fine = assembled(&[found("a", "p", vec![Area::Unreadable("torn".into()), there])]);
    assert!(fine.unusable.is_empty() && fine.groups.len() == 1);

    let named = assembled(&[found("a", "p", torn())]);
    assert_eq!(named.unusable[0].name, "former");
    let unnamed = assembled(&[found("a", "q", torn())]);
    assert_eq!(unnamed.unusable[0].name, "a");
    assert!(unnamed.unusable[0].reason.contains("torn"));
}

#[test]
fn the_mark_of_absence_counts_only_where_something_can_be_stale() {
    let mut marked = Description::clone(&description("g", "u", 4));
    marked.marked_missing = BTreeSet::from(["pv0".into(), "pv1".into()]);
    let areas = || vec![copy(&Arc::new(marked.clone()))];
    let stale = assembled(&[found("a", "p", areas()), found("b", "q", areas())]);
    assert_eq!(devices(&stale.groups[0].group), [None, Some("b")], "nothing lies on the second");
    let without = assembled(&[found("a", "p", vec![Area::Empty]), found("b", "q", areas())]);
    assert_eq!(devices(&without.groups[0].group), [Some("a"), Some("b")], "the first has no metadata to be old");
}

#[test]
fn the_fullest_area_is_the_one_reported() {
    let description = description("g", "u", 4);
    let area = |size, used| Area::Copy { description: Arc::clone(&description), room: MetadataArea { size, used } };
    let assembled =
        assembled(&[found("a", "p", vec![area(1000, 10), area(100, 10)]), found("b", "q", vec![area(500, 10)])]);
    assert_eq!(assembled.groups[0].group.metadata_area, MetadataArea { size: 100, used: 10 });
}

#[test]
fn an_unchanged_group_is_not_built_again() {
    let description = description("g", "u", 4);
    let both = [found("a", "p", vec![copy(&description)]), found("b", "q", vec![copy(&description)])];
    let before = HashMap::from([("u".to_owned(), assembled(&both).groups.remove(0))]);
    let again = assemble(&both, &before, |_| None);
    assert!(Arc::ptr_eq(&again.groups[0].group, &before["u"].group));
    let partial = assemble(&both[..1], &before, |_| None);
    assert!(partial.groups[0].group.is_partial());
}
