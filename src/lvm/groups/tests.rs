use std::collections::HashMap;
use std::path::PathBuf;
use std::time::Duration;

use super::fake::{Disk, Machine};
use super::*;

fn names(groups: &[Arc<VolumeGroup>]) -> Vec<&str> {
    groups.iter().map(|group| group.name.as_str()).collect()
}

/// A machine with the group `pair` on `a` and `b`, and a disk without LVM.
fn pair() -> (Arc<Machine>, Groups) {
    let machine = Arc::new(Machine::default());
    machine.plug("a", Disk::volume("p").with_group("pair", "u", 1, &["p", "q"]));
    machine.plug("b", Disk::volume("q").with_group("pair", "u", 1, &["p", "q"]));
    machine.plug("c", Disk::blank());
    let groups = Groups::new(Arc::<Machine>::clone(&machine), Arc::<Machine>::clone(&machine));
    (machine, groups)
}

fn commit(machine: &Machine, name: &str, seqno: u64) {
    machine.change("a", |disk| disk.with_group(name, "u", seqno, &["p", "q"]));
    machine.change("b", |disk| disk.with_group(name, "u", seqno, &["p", "q"]));
}

#[tokio::test]
async fn an_unchanged_machine_costs_one_call_of_the_kernel_and_builds_nothing_anew() {
    let (machine, groups) = pair();
    let first = groups.read().await.unwrap();
    assert_eq!(names(&first.groups), ["pair"]);
    machine.forget_calls();
    let second = groups.read().await.unwrap();
    assert_eq!(machine.calls(), [vec!["a 0+8192", "b 0+8192", "c 0+8192"]]);
    assert!(Arc::ptr_eq(&first.groups[0], &second.groups[0]));
}

#[tokio::test]
async fn a_metadata_area_that_lies_elsewhere_is_read_along_from_the_second_time_on() {
    let (machine, groups) = pair();
    machine.plug("d", Disk::volume_with_area_at("r", 65536).with_group("far", "v", 1, &["r"]));
    assert_eq!(names(&groups.read().await.unwrap().groups), ["far", "pair"]);
    machine.forget_calls();
    groups.read().await.unwrap();
    assert_eq!(machine.calls(), [vec!["a 0+8192", "b 0+8192", "c 0+8192", "d 0+8192", "d 65536+4096"]]);
}

#[tokio::test]
async fn a_change_is_seen_by_the_next_call() {
    let (machine, groups) = pair();
    groups.read().await.unwrap();
    commit(&machine, "renamed", 2);
    let view = groups.read().await.unwrap();
    assert_eq!(names(&view.groups), ["renamed"]);
    assert_eq!(view.groups[0].seqno, 2);
    assert!(view.vanished.is_empty());
}

#[tokio::test]
async fn devices_that_are_not_ours_to_read_are_not_read() {
    let (machine, groups) = pair();
    machine.plug("d", Disk::volume("r").beneath_another());
    machine.plug("e", Disk::volume("s").with_mapper_uuid("LVM-abc"));
    machine.plug("f", Disk::empty());
    groups.read().await.unwrap();
    for call in machine.calls() {
        assert!(call.iter().all(|read| ["a", "b", "c"].iter().any(|disk| read.starts_with(disk))), "{call:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_read_torn_by_a_writer_is_repeated_until_it_is_whole() {
    let (machine, groups) = pair();
    machine.tear("a", 2);
    machine.tear("b", 3);
    let view = groups.read().await.unwrap();
    assert_eq!(names(&view.groups), ["pair"]);
    assert!(view.unusable.is_empty());
}

#[tokio::test(start_paused = true)]
async fn damage_that_stays_costs_its_repetitions_once() {
    let (machine, groups) = pair();
    groups.read().await.unwrap();
    machine.tear("a", usize::MAX);
    machine.tear("b", usize::MAX);
    let view = groups.read().await.unwrap();
    assert!(view.groups.is_empty() && view.vanished.is_empty());
    assert!(view.why_unusable("pair").unwrap().contains("checksum"), "{view:?}");
    machine.forget_calls();
    let again = groups.read().await.unwrap();
    assert_eq!(again.unusable, view.unusable);
    assert_eq!(machine.calls().len(), 1);
    machine.tear("a", 0);
    assert_eq!(names(&groups.read().await.unwrap().groups), ["pair"]);
}

#[tokio::test]
async fn a_device_that_does_not_answer_is_missing_until_it_does() {
    let (machine, groups) = pair();
    groups.read().await.unwrap();
    machine.hang("b");
    let view = groups.read().await.unwrap();
    assert!(view.group("pair").unwrap().is_partial(), "what does not answer is not there to be used");
    assert_eq!(view.unreadable[0].device, PathBuf::from("/dev/b"));
    machine.wake("b");
    let view = groups.read().await.unwrap();
    assert!(!view.group("pair").unwrap().is_partial() && view.unreadable.is_empty());
}

#[tokio::test]
async fn a_group_whose_devices_do_not_answer_is_neither_gone_nor_usable() {
    let (machine, groups) = pair();
    groups.read().await.unwrap();
    machine.hang("a");
    machine.hang("b");
    let view = groups.read().await.unwrap();
    assert!(view.groups.is_empty() && view.vanished.is_empty());
    assert!(view.why_unusable("pair").unwrap().contains("does not answer"), "{view:?}");
}

#[tokio::test]
async fn a_group_whose_devices_are_gone_is_remembered_until_they_return() {
    let (machine, groups) = pair();
    groups.read().await.unwrap();
    let disks: HashMap<_, _> = ["a", "b"].map(|name| (name, machine.unplug(name))).into();
    let view = groups.read().await.unwrap();
    assert_eq!((names(&view.groups), names(&view.vanished)), (vec![], vec!["pair"]));
    // Other disks take over the names; the group is as gone as before.
    machine.plug("a", Disk::blank());
    machine.plug("b", Disk::blank());
    assert_eq!(names(&groups.read().await.unwrap().vanished), ["pair"]);
    machine.plug("x", disks["a"].clone());
    machine.plug("y", disks["b"].clone());
    let view = groups.read().await.unwrap();
    assert_eq!((names(&view.groups), names(&view.vanished)), (vec!["pair"], vec![]));
}

#[tokio::test]
async fn a_group_that_was_removed_is_forgotten_whether_or_not_the_labels_stay() {
    for label_stays in [true, false] {
        let (machine, groups) = pair();
        groups.read().await.unwrap();
        for name in ["a", "b"] {
            machine.change(name, |disk| if label_stays { disk.without_group() } else { Disk::blank() });
        }
        let view = groups.read().await.unwrap();
        assert!(view.groups.is_empty() && view.vanished.is_empty() && view.unusable.is_empty());
    }
}

#[tokio::test]
async fn a_group_is_not_taken_for_removed_while_one_of_its_devices_is_gone() {
    for seen_in_between in [true, false] {
        let (machine, groups) = pair();
        groups.read().await.unwrap();
        machine.unplug("a");
        if seen_in_between {
            assert!(groups.read().await.unwrap().group("pair").unwrap().is_partial());
        }
        machine.change("b", Disk::without_group);
        assert_eq!(names(&groups.read().await.unwrap().vanished), ["pair"]);
    }
}

#[tokio::test]
async fn a_group_that_let_a_device_go_before_it_was_removed_is_forgotten() {
    let (machine, groups) = pair();
    groups.read().await.unwrap();
    machine.unplug("a");
    groups.read().await.unwrap();
    machine.change("b", |disk| disk.with_group("pair", "u", 2, &["q"]));
    assert!(!groups.read().await.unwrap().group("pair").unwrap().is_partial());
    machine.change("b", Disk::without_group);
    assert!(groups.read().await.unwrap().vanished.is_empty());
}

#[tokio::test(start_paused = true)]
async fn callers_who_wait_together_share_a_read_that_began_after_they_asked() {
    let (machine, groups) = pair();
    let groups = Arc::new(groups);
    machine.slow(Duration::from_millis(10));
    let first = tokio::spawn({
        let groups = Arc::clone(&groups);
        async move { groups.read().await.unwrap() }
    });
    tokio::time::sleep(Duration::from_millis(5)).await;
    commit(&machine, "pair", 2);
    machine.forget_calls();
    let later: Vec<_> = (0..5)
        .map(|_| {
            let groups = Arc::clone(&groups);
            tokio::spawn(async move { groups.read().await.unwrap() })
        })
        .collect();
    first.await.unwrap();
    let mut views = Vec::new();
    for caller in later {
        views.push(caller.await.unwrap());
    }
    assert!(views.iter().all(|view| Arc::ptr_eq(view, &views[0])));
    assert_eq!(views[0].groups[0].seqno, 2);
}
