//! A look at all volumes: what it tells of, what it removes, and what it leaves alone.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use quarry::controller::forward::{Client, Deadline};
use quarry::controller::kubernetes::events::Events;
use quarry::controller::kubernetes::given_up::GivenUp;
use quarry::controller::kubernetes::upkeep::Upkeep;
use quarry::controller::orphans::Waiting;
use quarry::csi::condition::Deletable;
use quarry::csi::v1;
use quarry::lvm::tags::FRESH;
use serde_json::{Value, json};
use tonic::{Code, Request};

use crate::api_server::{Objects, client};
use crate::cluster::{Cluster, DRIVER, LOST_AFTER, request_on};

const GRACE: Duration = Duration::from_secs(2);
const UIDS: [&str; 3] = [
    "00000000-0000-4000-8000-000000000001",
    "00000000-0000-4000-8000-000000000002",
    "00000000-0000-4000-8000-000000000003",
];

/// Three volumes that were never used: the first has a claim and a `PersistentVolume`, the second only a claim, the third
/// neither.
struct Scene {
    cluster: Cluster,
    objects: Arc<Mutex<Objects>>,
    upkeep: Upkeep,
    events: Events,
    waiting: Waiting,
}

impl Scene {
    async fn new(grace: Duration) -> Self {
        let cluster = Cluster::start(2).await;
        let mut objects = Objects::default();
        for (index, node) in ["node-1", "node-1", "node-2"].iter().enumerate() {
            let name = format!("pvc-{}", UIDS[index]);
            let mut request = request_on(&name, 1, &[node]);
            request.parameters = [("pvc/namespace", "shop"), ("pvc/name", &format!("data-{index}"))]
                .map(|(key, value)| (format!("csi.storage.k8s.io/{key}"), value.to_owned()))
                .into();
            let volume = cluster.create(request).await.unwrap();
            if index == 0 {
                objects.volumes.insert(name, volume.volume_id);
            }
            if index < 2 {
                objects.claims.insert(format!("data-{index}"), UIDS[index].to_owned());
            }
        }
        let objects = Arc::new(Mutex::new(objects));
        let upkeep = Upkeep {
            router: Arc::clone(&cluster.controller.router),
            membership: cluster.membership.subscribe(),
            client: client(&objects),
            driver: String::from(DRIVER),
            namespace: String::from("quarry"),
            every: Duration::from_mins(10),
            grace,
        };
        let events = Events::new(client(&objects));
        Self { cluster, objects, upkeep, events, waiting: Waiting::default() }
    }

    async fn look(&mut self) -> u64 {
        self.upkeep.look(&self.events, &mut self.waiting).await.unwrap().orphans
    }

    async fn exists(&self, node: &str, index: usize) -> bool {
        match self.cluster.get(&format!("{node}/pvc-{}", UIDS[index])).await {
            Ok(_) => true,
            Err(status) => {
                assert_eq!(status.code(), Code::NotFound);
                false
            }
        }
    }
}

#[tokio::test]
async fn an_orphan_is_told_of_once_and_removed_after_the_grace_and_the_others_stay() {
    let mut scene = Scene::new(GRACE).await;
    assert_eq!((scene.look().await, scene.look().await), (1, 1));
    {
        let objects = scene.objects.lock().unwrap();
        let events: Vec<&Value> = objects.events.values().collect();
        assert_eq!((events.len(), objects.writes), (1, 1));
        assert_eq!(events[0]["involvedObject"]["name"], "node-2");
        assert!(events[0]["message"].as_str().unwrap().starts_with("1 volume of lvm.quarry.storage"), "{events:?}");
    }
    assert!(scene.exists("node-2", 2).await);
    tokio::time::sleep(GRACE).await;
    assert_eq!(scene.look().await, 0);
    assert!(!scene.exists("node-2", 2).await);
    assert!(scene.exists("node-1", 0).await && scene.exists("node-1", 1).await);
}

#[tokio::test]
async fn nothing_is_removed_that_somebody_names_at_the_last_moment_be_it_under_another_name() {
    for name in [format!("pvc-{}", UIDS[2]), String::from("static")] {
        let mut scene = Scene::new(Duration::from_millis(1)).await;
        scene.look().await;
        scene.objects.lock().unwrap().late.insert(name, format!("node-2/pvc-{}", UIDS[2]));
        tokio::time::sleep(Duration::from_millis(10)).await;
        assert_eq!(scene.look().await, 1);
        assert!(scene.exists("node-2", 2).await);
    }
}

#[tokio::test]
async fn a_node_deletes_no_used_volume_for_who_believes_that_nobody_used_it() {
    let scene = Scene::new(Duration::ZERO).await;
    let name = format!("pvc-{}", UIDS[2]);
    let delete = async || {
        let request = v1::DeleteVolumeRequest { volume_id: format!("node-2/{name}"), ..Default::default() };
        let call = |mut client: Client, mut request: Request<_>| async move {
            Deletable::NeverUsed.put(request.metadata_mut());
            client.delete_volume(request).await
        };
        let deadline = Deadline::after(Duration::from_secs(10));
        scene.cluster.controller.router.call("node-2", deadline, request, call).await
    };
    let tag = |change: &dyn Fn(&mut Vec<String>)| {
        let mut machine = scene.cluster.nodes[1].bench.machine();
        let volumes = &mut machine.group_mut("vg").unwrap().volumes;
        change(&mut volumes.iter_mut().find(|volume| volume.name == name).unwrap().tags);
        machine.commit("vg");
    };
    tag(&|tags| tags.retain(|tag| tag != FRESH));
    assert_eq!(delete().await.unwrap_err().code(), Code::FailedPrecondition);
    assert!(scene.exists("node-2", 2).await);
    tag(&|tags| tags.push(String::from(FRESH)));
    delete().await.unwrap();
    assert!(!scene.exists("node-2", 2).await);
}

#[tokio::test]
async fn nothing_is_removed_without_a_grace_or_where_the_cluster_names_no_volume_at_all() {
    let mut never = Scene::new(Duration::ZERO).await;
    let mut lost = Scene::new(Duration::from_millis(1)).await;
    {
        let mut objects = lost.objects.lock().unwrap();
        objects.volumes.clear();
        objects.claims.clear();
    }
    for (scene, orphans) in [(&mut never, 1), (&mut lost, 3)] {
        for _ in 0..2 {
            assert_eq!(scene.look().await, orphans);
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert!(scene.exists("node-2", 2).await);
    }
}

#[tokio::test]
async fn a_look_goes_on_without_events_and_says_when_a_node_is_missing() {
    let mut scene = Scene::new(Duration::ZERO).await;
    scene.objects.lock().unwrap().refuses = true;
    assert_eq!(scene.look().await, 1);
    scene.cluster.end(1).await;
    let look = scene.upkeep.look(&scene.events, &mut scene.waiting).await.unwrap();
    assert_eq!((look.orphans, look.is_whole), (0, false));
}

#[tokio::test]
async fn what_is_given_up_is_told_before_the_deletion_is_answered_whatever_its_persistent_volume_is_called() {
    let mut scene = Scene::new(Duration::ZERO).await;
    let handle = format!("node-1/pvc-{}", UIDS[0]);
    {
        let mut objects = scene.objects.lock().unwrap();
        objects.volumes.clear();
        objects.volumes.insert(String::from("static"), handle.clone());
    }
    let (client, driver) = (client(&scene.objects), String::from(DRIVER));
    let events = Arc::new(Events::new(client.clone()));
    scene.cluster.controller.given_up = Some(Arc::new(GivenUp { client, driver, events }));
    scene.cluster.know([scene.cluster.nodes[1].member()], true);
    assert_eq!(scene.cluster.delete(&handle).await.unwrap_err().code(), Code::Unavailable);
    tokio::time::sleep(LOST_AFTER).await;
    scene.cluster.delete(&handle).await.unwrap();
    let objects = scene.objects.lock().unwrap();
    let event = objects.events.values().next().unwrap();
    assert_eq!((&event["reason"], &event["involvedObject"]["name"]), (&json!("VolumeGivenUp"), &json!("static")));
}

#[tokio::test]
async fn where_the_cluster_has_forgotten_all_the_event_warns_of_removing() {
    let mut scene = Scene::new(Duration::ZERO).await;
    scene.objects.lock().unwrap().volumes.clear();
    scene.look().await;
    let objects = scene.objects.lock().unwrap();
    assert!(objects.events.values().all(|event| event["message"].as_str().unwrap().contains("recover-pvs")));
    assert!(!objects.events.is_empty());
}

#[tokio::test]
async fn a_sick_volume_is_told_of_on_its_claim() {
    let mut scene = Scene::new(Duration::ZERO).await;
    {
        let mut machine = scene.cluster.nodes[0].bench.machine();
        let name = format!("pvc-{}", UIDS[0]);
        machine.activate("vg", &name);
        machine.suspend("vg", &name);
    }
    scene.look().await;
    let objects = scene.objects.lock().unwrap();
    let event = objects.events.values().find(|event| event["reason"] == "LogicalVolumeSuspended").unwrap();
    let about = json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "namespace": "shop", "name": "data-0",
                       "uid": UIDS[0]});
    assert_eq!(event["involvedObject"], about);
    assert!(event["message"].as_str().unwrap().contains("lvchange --refresh"), "{event}");
}
