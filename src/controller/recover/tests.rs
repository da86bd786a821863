use std::collections::HashMap;

use proptest::prelude::*;

use super::*;
use crate::controller::storage_class::StorageClass;
use crate::csi::volume_facts::VolumeFacts;
use crate::lvm::names::logical_volume_name;
use crate::lvm::volume_id::VolumeId;

fn wanted() -> Wanted {
    let chosen = HashMap::from([(None, String::from("quarry"))]);
    Wanted {
        driver: String::from("lvm.quarry.storage"),
        topology_key: String::from("topology.lvm.quarry.storage/node"),
        reclaim_policy: "Retain",
        storage_classes: StorageClasses { chosen, known: Vec::new() },
    }
}

fn volume(node: &str, name: &str, claim: Option<&str>) -> Listed {
    let claim = claim.map(|name| Claim { namespace: String::from("shop"), name: name.to_owned() });
    let content = Some(Content::FileSystem(String::from("ext4")));
    let facts = VolumeFacts {
        name: Some(name.to_owned()),
        class: Some(String::from("standard")),
        claim,
        created: Some(1),
        content,
        ..VolumeFacts::default()
    };
    Listed { id: VolumeId { node: node.to_owned(), logical_volume: logical_volume_name(name) }, bytes: 1 << 26, facts }
}

fn claim_of(volume: &PersistentVolume) -> (String, String) {
    let claim = volume.spec.as_ref().and_then(|spec| spec.claim_ref.clone()).unwrap();
    assert_eq!(claim.uid, None);
    (claim.namespace.unwrap(), claim.name.unwrap())
}

#[test]
fn a_file_system_volume_comes_back_as_the_provisioner_made_it() {
    let recovered = recover(&[volume("n1", "pvc-1", Some("data"))], &[], &[], &wanted()).unwrap();
    let json = serde_json::to_value(&recovered.volumes).unwrap();
    let expected = serde_json::json!([{
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {
            "name": "pvc-1",
            "annotations": {"pv.kubernetes.io/provisioned-by": "lvm.quarry.storage"},
        },
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "capacity": {"storage": "64Mi"},
            "claimRef": {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "namespace": "shop", "name": "data"},
            "csi": {"driver": "lvm.quarry.storage", "volumeHandle": "n1/pvc-1", "fsType": "ext4"},
            "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [
                {"key": "topology.lvm.quarry.storage/node", "operator": "In", "values": ["n1"]}
            ]}]}},
            "persistentVolumeReclaimPolicy": "Retain",
            "storageClassName": "quarry",
            "volumeMode": "Filesystem",
        },
    }]);
    assert_eq!(json, expected);
    assert_eq!(recovered.notes, Vec::<String>::new());
}

#[test]
fn a_block_volume_for_one_user_is_that_again() {
    let mut block = volume("n1", "pvc-1", Some("data"));
    (block.facts.content, block.facts.single_user) = (Some(Content::Block), true);
    let spec = recover(&[block], &[], &[], &wanted()).unwrap().volumes.remove(0).spec.unwrap();
    assert_eq!(spec.volume_mode.as_deref(), Some("Block"));
    assert_eq!(spec.access_modes, Some(vec![String::from("ReadWriteOncePod")]));
    assert_eq!(spec.csi.unwrap().fs_type, None);
}

#[test]
fn what_is_named_or_empty_is_left_out() {
    let (named, mut empty) = (volume("n1", "pvc-1", Some("a")), volume("n1", "pvc-2", Some("b")));
    empty.facts.never_used = true;
    let moved = volume("n2", "pvc-1", Some("a"));
    let [name, driver, handle] = ["pvc-1", "lvm.quarry.storage", "n1/pvc-1"].map(String::from);
    let reference = Reference { name, driver, handle, claim: None };
    let recovered = recover(&[named, empty, moved], &[reference], &[], &wanted()).unwrap();
    assert_eq!(recovered.volumes, []);
    let notes = recovered.notes.join("\n");
    assert!(notes.contains("n2/pvc-1: left out, for PersistentVolume pvc-1 exists and names n1/pvc-1"), "{notes}");
    assert!(notes.contains("1 that were never used"), "{notes}");
}

#[test]
fn the_youngest_of_a_claims_volumes_goes_back_to_it_and_none_is_free_for_all() {
    let mut volumes = [volume("n1", "pvc-1", Some("a")), volume("n2", "pvc-2", Some("a")), volume("n1", "Ä", None)];
    volumes[1].facts.created = Some(2);
    let recovered = recover(&volumes, &[], &[], &wanted()).unwrap();
    let claims: HashMap<String, (String, String)> =
        recovered.volumes.iter().map(|volume| (volume.metadata.name.clone().unwrap(), claim_of(volume))).collect();
    let pair = |namespace: &str, name: &str| (namespace.to_owned(), name.to_owned());
    assert_eq!((&claims["pvc-2"], &claims["pvc-1"]), (&pair("shop", "a"), &pair("default", "pvc-1")));
    let (name, claim) = claims.iter().find(|(name, _)| name.starts_with("recovered-")).unwrap();
    assert_eq!(claim, &pair("default", name));
    assert_eq!(recovered.notes.len(), 2, "{:?}", recovered.notes);
}

#[test]
fn a_claim_that_has_a_volume_gets_no_other() {
    let claim = Claim { namespace: String::from("shop"), name: String::from("data") };
    let [name, driver, handle] = ["pvc-2", "other.csi", "x"].map(String::from);
    let reference = Reference { name, driver, handle, claim: Some((claim, None)) };
    let recovered = recover(&[volume("n1", "pvc-1", Some("data"))], &[reference], &[], &wanted()).unwrap();
    assert_eq!(claim_of(&recovered.volumes[0]), (String::from("default"), String::from("pvc-1")));
    assert!(recovered.notes[0].contains("claim shop/data has another volume"), "{:?}", recovered.notes);
}

#[test]
fn only_those_are_brought_back_that_are_asked_for() {
    let listed = ["pvc-1", "pvc-2"].map(|name| volume("n1", name, Some(name)));
    let ids = ["n1/pvc-2", "n1/pvc-3"].map(String::from);
    let recovered = recover(&listed, &[], &ids, &wanted()).unwrap();
    let names: Vec<_> = recovered.volumes.iter().map(|volume| volume.metadata.name.as_deref()).collect();
    assert_eq!(names, [Some("pvc-2")]);
    assert_eq!(recovered.notes, ["n1/pvc-3: there is no such volume"]);
}

#[test]
fn the_mount_options_of_the_storage_class_come_back_but_not_for_a_block_volume() {
    let mut wanted = wanted();
    let mount_options = vec![String::from("noatime")];
    wanted.storage_classes.known =
        vec![StorageClass { name: String::from("quarry"), mount_options, ..StorageClass::default() }];
    let mut listed = ["pvc-1", "pvc-2"].map(|name| volume("n1", name, None));
    listed[1].facts.content = Some(Content::Block);
    let recovered = recover(&listed, &[], &[], &wanted).unwrap();
    let options = recovered.volumes.into_iter().map(|volume| volume.spec.unwrap().mount_options);
    assert_eq!(options.collect::<Vec<_>>(), [Some(vec![String::from("noatime")]), None]);
}

#[test]
fn what_may_be_another_volume_or_is_anothers_is_left_out() {
    let [mut shared, mut seen, mut unusable, mut foreign] = ["n1/a", "n2/a", "n1/b", "n1/c"]
        .map(|id| id.split_once('/').map(|(node, name)| volume(node, name, None)).unwrap());
    (shared.facts.uuid, seen.facts.uuid) = (Some(String::from("u")), Some(String::from("u")));
    unusable.facts.usable = Some(false);
    foreign.facts.driver = Some(String::from("other.csi"));
    let (one, mut two) = (volume("n1", "d", None), volume("n1", "d", None));
    two.bytes += 1;
    let good = volume("n1", "e", None);
    let recovered = recover(&[shared, seen, unusable, foreign, one, two, good], &[], &[], &wanted()).unwrap();
    let handles: Vec<String> =
        recovered.volumes.into_iter().map(|volume| volume.spec.unwrap().csi.unwrap().volume_handle).collect();
    assert_eq!(handles, ["n1/e"]);
    let notes = recovered.notes.join("\n");
    for note in [
        "n2/a: left out, for the same logical volume is listed as n1/a",
        "n1/a: left out, for the same",
        "n1/b: left out, for its volume group is not",
        "n1/c: left out, for driver other.csi made it",
        "n1/d: left out, for its node has two",
    ] {
        assert!(notes.contains(note), "{note} is not in {notes}");
    }
}

#[test]
fn a_volume_that_another_node_sees_but_cannot_use_comes_back_on_its_own_node() {
    let [mut used, mut seen] = ["n1", "n2"].map(|node| volume(node, "a", Some("data")));
    (used.facts.uuid, seen.facts.uuid) = (Some(String::from("u")), Some(String::from("u")));
    seen.facts.usable = Some(false);
    let recovered = recover(&[seen, used], &[], &[], &wanted()).unwrap();
    assert_eq!(recovered.volumes.len(), 1);
    assert_eq!(claim_of(&recovered.volumes[0]), (String::from("shop"), String::from("data")));
    assert_eq!(recovered.volumes[0].spec.clone().unwrap().csi.unwrap().volume_handle, "n1/a");
}

#[test]
fn sizes_are_exact_and_as_short_as_they_can_be() {
    for (bytes, words) in [(3 << 30, "3Gi"), (1_540 << 20, "1540Mi"), (512 << 10, "512Ki"), (1_000, "1000"), (0, "0Gi")]
    {
        assert_eq!(quantity(bytes).0, words);
    }
}

#[test]
fn names_that_kubernetes_would_refuse_are_not_given() {
    for good in ["pvc-1", "a", "a.b-c"] {
        assert!(is_object_name(good), "{good}");
    }
    for bad in ["", "A", "-a", "a-", "a..b", "a_b", "ä", &"a".repeat(254)] {
        assert!(!is_object_name(bad), "{bad}");
    }
}

proptest! {
    #[test]
    fn every_used_volume_comes_back_once_under_a_name_and_for_a_claim_of_its_own(
        made in proptest::collection::btree_set((0_u8..3, "[a-zA-Z]{1,2}"), 0..10),
        claims in proptest::collection::vec(proptest::option::of("[ab]"), 10),
    ) {
        let listed: Vec<Listed> = made
            .iter()
            .zip(&claims)
            .map(|((node, name), claim)| volume(&format!("n{node}"), name, claim.as_deref()))
            .collect();
        let recovered = recover(&listed, &[], &[], &wanted()).unwrap();
        let names: HashSet<_> = recovered.volumes.iter().map(|volume| volume.metadata.name.clone()).collect();
        let kept: HashSet<_> = recovered.volumes.iter().map(claim_of).collect();
        prop_assert_eq!((names.len(), kept.len(), recovered.volumes.len()), (listed.len(), listed.len(), listed.len()));
    }
}
