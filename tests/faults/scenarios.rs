//! The lives of volumes, in pieces and as a whole.

use crate::call::Call::{
    self, Create, CreateTooLarge, Delete, DeleteForgotten, Grow, GrowMounted, Publish, Stage, Unpublish, Unstage, Write,
};
use crate::call::Use::{Block, Mount, MountReadOnly};
use crate::enumeration::Scenario;

const PVC: &str = "pvc-1";
/// A volume with a user's data, mounted for it.
const IN_USE: &[Call] = &[Create(PVC, "fast", 2), Stage(PVC, Mount), Publish(PVC, "one", Mount), Write("one")];
const BLOCK_IN_USE: &[Call] = &[Create(PVC, "fast", 2), Stage(PVC, Block), Publish(PVC, "one", Block), Write("one")];
/// A volume with a user's data, which nobody uses now.
const AT_REST: &[Call] = &[
    Create(PVC, "fast", 2),
    Stage(PVC, Mount),
    Publish(PVC, "one", Mount),
    Write("one"),
    Unpublish(PVC, "one"),
    Unstage(PVC),
];

fn enumerate(name: &'static str, before: &'static [Call], calls: &'static [Call]) {
    Scenario { name, before, calls, effect: "", is_guarded: false }.enumerate();
}

#[test]
fn a_volume_is_created_whole_or_not_at_all() {
    enumerate("create", &[], &[Create(PVC, "fast", 2)]);
}

#[test]
fn creating_again_finds_the_volume() {
    enumerate("create again", &[Create(PVC, "fast", 2)], &[Create(PVC, "fast", 2)]);
}

#[test]
fn without_room_nothing_is_left_behind() {
    enumerate("create too large", &[], &[CreateTooLarge(PVC, "fast", 16)]);
}

#[test]
fn a_new_volume_is_formatted_and_mounted() {
    enumerate("stage ext4", &[Create(PVC, "fast", 2)], &[Stage(PVC, Mount)]);
}

#[test]
fn a_new_block_volume_is_emptied_and_activated() {
    enumerate("stage block", &[Create(PVC, "fast", 2)], &[Stage(PVC, Block)]);
}

#[test]
fn a_volume_in_use_before_is_mounted_as_it_is() {
    enumerate("stage again", AT_REST, &[Stage(PVC, Mount)]);
}

#[test]
fn a_staged_volume_is_shown_to_its_user() {
    enumerate("publish", &[Create(PVC, "fast", 2), Stage(PVC, Mount)], &[Publish(PVC, "one", Mount), Write("one")]);
}

#[test]
fn a_second_user_may_only_read() {
    enumerate("second publish", IN_USE, &[Publish(PVC, "two", MountReadOnly)]);
}

#[test]
fn a_block_volume_is_shown_to_its_user() {
    enumerate("publish block", &[Create(PVC, "fast", 2), Stage(PVC, Block)], &[Publish(PVC, "one", Block)]);
}

#[test]
fn a_volume_grows_under_its_user() {
    enumerate("grow", IN_USE, &[Grow(PVC, 12), GrowMounted(PVC, "one", 12)]);
}

#[test]
fn a_volume_grows_by_the_nodes_call_alone() {
    enumerate("grow by the node", IN_USE, &[GrowMounted(PVC, "one", 4)]);
}

#[test]
fn a_block_volume_grows_under_its_user() {
    enumerate("grow block", BLOCK_IN_USE, &[Grow(PVC, 4), GrowMounted(PVC, "one", 4)]);
}

#[test]
fn a_volume_at_rest_grows_when_it_is_staged() {
    enumerate("grow at rest", AT_REST, &[Grow(PVC, 4), Stage(PVC, Mount)]);
}

#[test]
fn a_volume_is_taken_away_from_one_user() {
    enumerate("unpublish", IN_USE, &[Unpublish(PVC, "one")]);
}

#[test]
fn a_block_volume_is_taken_away_from_its_user() {
    enumerate("unpublish block", BLOCK_IN_USE, &[Unpublish(PVC, "one"), Unstage(PVC)]);
}

#[test]
fn a_volume_is_taken_away_from_the_node() {
    enumerate("unstage", &[Create(PVC, "fast", 2), Stage(PVC, Mount)], &[Unstage(PVC)]);
}

#[test]
fn a_new_volume_is_deleted() {
    enumerate("delete new", &[Create(PVC, "fast", 2)], &[Delete(PVC)]);
}

#[test]
fn a_volume_with_data_is_deleted_and_its_data_is_gone() {
    enumerate("delete", AT_REST, &[Delete(PVC)]);
}

#[test]
fn a_volume_that_kubelet_has_forgotten_is_unstaged_and_deleted() {
    enumerate("delete forgotten", &[Create(PVC, "fast", 2), Stage(PVC, Mount)], &[DeleteForgotten(PVC)]);
}

#[test]
fn a_deletion_begun_by_an_earlier_process_is_finished() {
    const DELETED: &[Call] = &[
        Create(PVC, "fast", 12),
        Stage(PVC, Mount),
        Publish(PVC, "one", Mount),
        Write("one"),
        Unpublish(PVC, "one"),
        Unstage(PVC),
        Delete(PVC),
    ];
    enumerate("wipe and remove", DELETED, &[]);
}

#[test]
fn several_deletions_are_finished_together() {
    const DELETED: &[Call] = &[
        Create(PVC, "quick", 2),
        Create("pvc-2", "trimmed", 2),
        Create("pvc-3", "fast", 2),
        Delete(PVC),
        Delete("pvc-2"),
        Delete("pvc-3"),
    ];
    enumerate("remove together", DELETED, &[]);
}

#[test]
fn a_name_is_free_again_after_the_deletion() {
    enumerate("delete and create", AT_REST, &[Delete(PVC), Create(PVC, "fast", 3)]);
}

#[test]
fn the_whole_life_of_a_file_system() {
    const LIFE: &[Call] = &[
        Create(PVC, "fast", 2),
        Stage(PVC, Mount),
        Publish(PVC, "one", Mount),
        Write("one"),
        Publish(PVC, "two", MountReadOnly),
        Grow(PVC, 4),
        GrowMounted(PVC, "one", 4),
        Unpublish(PVC, "two"),
        Unpublish(PVC, "one"),
        Unstage(PVC),
        Delete(PVC),
    ];
    enumerate("whole life of a file system", &[], LIFE);
}

#[test]
fn the_whole_life_of_a_block_device() {
    const LIFE: &[Call] = &[
        Create(PVC, "fast", 2),
        Stage(PVC, Block),
        Publish(PVC, "one", Block),
        Write("one"),
        Grow(PVC, 4),
        Unpublish(PVC, "one"),
        Unstage(PVC),
        Delete(PVC),
    ];
    enumerate("whole life of a block device", &[], LIFE);
}
