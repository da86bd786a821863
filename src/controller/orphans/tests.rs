use proptest::prelude::*;

use super::*;

const DRIVER: &str = "lvm.quarry.storage";
const NOW: u64 = 1_800_000_000;

fn uid(number: u8) -> String {
    format!("00000000-0000-4000-8000-0000000000{number:02x}")
}

fn volume(node: &str, number: u8, never_used: bool) -> Listed {
    let name = format!("pvc-{}", uid(number));
    let facts = VolumeFacts {
        name: Some(name.clone()),
        created: Some(NOW - 3_600),
        never_used,
        uuid: Some(format!("{node}-{number}")),
        usable: Some(true),
        driver: Some(String::from(DRIVER)),
        ..VolumeFacts::default()
    };
    Listed { id: VolumeId { node: node.to_owned(), logical_volume: name }, bytes: 1 << 30, facts }
}

fn reference(volume: &Listed) -> Reference {
    let (name, driver) = (volume.id.logical_volume.clone(), String::from(DRIVER));
    Reference { name, driver, handle: volume.id.to_string(), claim: None }
}

fn judge(listed: &[Listed], references: &[Reference], claims: &[String]) -> Vec<Orphan> {
    let claims = claims.iter().cloned().collect();
    orphans(unnamed(listed, references, DRIVER, NOW), listed, references, &claims)
}

#[test]
fn a_volume_is_an_orphan_when_neither_a_persistent_volume_nor_its_claim_exists() {
    let [named, claimed, orphan] = [1, 2, 3].map(|number| volume("n1", number, false));
    let listed = [named.clone(), claimed, orphan.clone()];
    let found = judge(&listed, &[reference(&named)], &[uid(2)]);
    assert_eq!(found, [Orphan { volume: orphan, standing: Standing::Unnamed }]);
    assert!(!found[0].may_go(), "somebody had it");
}

#[test]
fn a_young_volume_is_none_and_one_of_unknown_age_is_old() {
    let mut orphan = volume("n1", 1, true);
    orphan.facts.created = Some(NOW - 60);
    assert_eq!(judge(&[orphan.clone()], &[], &[]), []);
    orphan.facts.created = Some(NOW + 60);
    assert_eq!(judge(&[orphan.clone()], &[], &[]), []);
    orphan.facts.created = None;
    assert_eq!(judge(&[orphan], &[], &[]).len(), 1);
}

#[test]
fn the_second_volume_of_a_name_is_an_orphan_even_while_its_claim_lives_but_is_not_removed() {
    let (bound, double) = (volume("n1", 1, false), volume("n2", 1, true));
    let found = judge(&[bound.clone(), double.clone()], &[reference(&bound)], &[uid(1)]);
    assert_eq!(found, [Orphan { volume: double, standing: Standing::Double { of: bound.id.to_string() } }]);
    assert!(!found[0].may_go());
}

#[test]
fn a_volume_whose_group_was_moved_is_reported_and_never_removed() {
    let (before, after) = (volume("n1", 1, true), volume("n2", 1, true));
    let found = judge(std::slice::from_ref(&after), &[reference(&before)], &[]);
    assert_eq!(found, [Orphan { volume: after, standing: Standing::Moved { named: before.id.to_string() } }]);
    assert!(!found[0].may_go());
}

#[test]
fn a_moved_volume_is_no_double_because_another_of_its_name_exists() {
    let (before, after, other) = (volume("n1", 1, true), volume("n2", 1, true), volume("n3", 1, true));
    for named in [[&before, &other], [&other, &before]] {
        let found = judge(&[after.clone(), other.clone()], &named.map(reference), &[]);
        let standing = Standing::Moved { named: before.id.to_string() };
        assert_eq!(found, [Orphan { volume: after.clone(), standing }]);
    }
}

#[test]
fn a_logical_volume_that_two_nodes_see_is_removed_by_nobody() {
    let (used, mut seen) = (volume("n1", 1, false), volume("n2", 1, true));
    seen.facts.uuid = used.facts.uuid.clone();
    let of_used = Standing::Ambiguous { with: used.id.to_string() };
    let found = judge(&[used.clone(), seen.clone()], &[reference(&used)], &[]);
    assert_eq!(found, [Orphan { volume: seen.clone(), standing: of_used.clone() }]);
    assert!(!found[0].is_removable() && !found[0].may_go());
    let both = judge(&[used.clone(), seen.clone()], &[], &[]);
    assert!(both.len() == 2 && both.iter().all(|orphan| !orphan.is_removable() && !orphan.may_go()));
    // An older node tells no UUID, so these may be one, too.
    seen.facts.uuid = None;
    let found = judge(&[used.clone(), seen.clone()], &[reference(&used)], &[]);
    assert_eq!(found, [Orphan { volume: seen, standing: of_used }]);
}

#[test]
fn two_volumes_of_one_id_are_removed_by_nobody() {
    let (one, mut other) = (volume("n1", 1, true), volume("n1", 1, true));
    other.facts.uuid = Some(String::from("other"));
    let found = judge(&[one, other], &[], &[]);
    assert!(found.len() == 2 && found.iter().all(|orphan| !orphan.is_removable() && !orphan.may_go()));
}

#[test]
fn a_volume_of_a_group_that_is_another_machines_is_reported_only_where_no_other_node_lists_it() {
    let (used, mut seen) = (volume("n1", 1, false), volume("n2", 1, true));
    (seen.facts.uuid, seen.facts.usable) = (used.facts.uuid.clone(), Some(false));
    assert_eq!(judge(&[used.clone(), seen.clone()], &[reference(&used)], &[]), []);
    let found = judge(std::slice::from_ref(&seen), &[], &[]);
    assert_eq!(found, [Orphan { volume: seen, standing: Standing::Unusable }]);
    assert!(!found[0].is_removable() && !found[0].may_go());
}

#[test]
fn a_volume_that_another_driver_names_or_made_is_no_orphan() {
    let mut other = volume("n1", 1, true);
    let named = Reference { driver: String::from("other.csi"), ..reference(&other) };
    assert_eq!(judge(std::slice::from_ref(&other), &[named], &[]), []);
    other.facts.driver = Some(String::from("other.csi"));
    assert_eq!(judge(std::slice::from_ref(&other), &[], &[]), []);
    other.facts.driver = None;
    let found = judge(&[other], &[], &[]);
    assert!(found.len() == 1 && !found[0].may_go(), "whose it is is not known: {found:?}");
}

#[test]
fn only_what_a_provisioner_had_made_may_go() {
    let mut orphan = Orphan { volume: volume("n1", 1, true), standing: Standing::Unnamed };
    assert!(orphan.may_go());
    for name in ["backup", &uid(1), "pvc-00000000-0000-4000-8000-00000000000g", "ä-0000000-0000-4000-8000-000000000000"]
    {
        orphan.volume.facts.name = Some(name.to_owned());
        assert!(!orphan.may_go(), "{name}");
    }
    orphan.volume.facts = VolumeFacts::default();
    assert!(!orphan.may_go(), "a node that tells nothing");
}

#[tokio::test(start_paused = true)]
async fn an_orphan_goes_after_the_grace_and_its_time_starts_again_when_it_could_not_have_gone() {
    let grace = Duration::from_hours(24);
    let may_go = [Orphan { volume: volume("n1", 1, true), standing: Standing::Unnamed }];
    let used = [Orphan { volume: volume("n1", 1, false), standing: Standing::Unnamed }];
    let mut waiting = Waiting::default();
    assert_eq!(waiting.due(&may_go, grace), []);
    tokio::time::advance(grace.saturating_sub(Duration::from_secs(1))).await;
    assert_eq!(waiting.due(&may_go, grace), []);
    tokio::time::advance(Duration::from_secs(1)).await;
    assert_eq!(waiting.due(&may_go, grace), may_go);
    assert_eq!(waiting.due(&may_go, Duration::ZERO), [], "zero means never");
    for meanwhile in [&[][..], &used] {
        assert_eq!(waiting.due(meanwhile, grace), []);
        assert_eq!(waiting.due(&may_go, grace), []);
        tokio::time::advance(grace).await;
        assert_eq!(waiting.due(&may_go, grace), may_go);
    }
    waiting.interrupt();
    assert_eq!(waiting.due(&may_go, grace), [], "after a look that failed");
}

proptest! {
    #[test]
    fn what_is_named_claimed_or_was_used_never_goes(
        made in proptest::collection::vec((0_u8..3, 0_u8..6, any::<bool>()), 0..12),
        named in proptest::collection::vec((0_u8..3, 0_u8..6), 0..6),
        claimed in proptest::collection::vec(0_u8..6, 0..6),
    ) {
        let node = |number: u8| format!("n{number}");
        let listed: Vec<Listed> =
            made.into_iter().map(|(on, number, never_used)| volume(&node(on), number, never_used)).collect();
        let references: Vec<Reference> =
            named.iter().map(|(on, number)| reference(&volume(&node(*on), *number, false))).collect();
        let claims: Vec<String> = claimed.iter().map(|number| uid(*number)).collect();
        for orphan in judge(&listed, &references, &claims) {
            let id = orphan.volume.id.to_string();
            prop_assert!(references.iter().all(|reference| reference.handle != id));
            if orphan.may_go() {
                let uid = orphan.volume.claim_uid().unwrap();
                prop_assert!(orphan.volume.facts.never_used);
                prop_assert!(!claims.iter().any(|claim| claim == uid));
                prop_assert!(references.iter().all(|reference| !reference.handle.ends_with(uid)));
            }
        }
    }
}
