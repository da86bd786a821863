//! Many at once.

use std::time::{Duration, Instant};

use quarry_trial::kubernetes::manifests::{claim, pod};
use serde_json::Value;

use crate::shared::{installed, namespace};

const VOLUMES: usize = 100;
/// A hundred containers start on two processors of this machine, in guests.
const LIMIT: Duration = Duration::from_mins(8);

#[test]
#[ignore = "minutes long: make test-cluster"]
fn a_hundred_pods_get_their_volumes_on_three_nodes_and_nothing_of_them_stays() {
    let space = namespace("burst");
    let name = |number: usize| format!("burst-{number}");
    let objects: Vec<Value> = (0..VOLUMES)
        .flat_map(|number| {
            let name = name(number);
            [claim(&name, "quarry", "16Mi"), pod(&name, &name, &format!("echo {number} >/data/f"))]
        })
        .collect();
    let begun = Instant::now();
    space.apply(&objects).unwrap();
    space.wait_all("pvc", "jsonpath={.status.phase}=Bound", LIMIT).unwrap();
    println!("all are bound: {:?}", begun.elapsed());
    space.wait_all("pods", "condition=Ready", LIMIT).unwrap();
    println!("all run: {:?}", begun.elapsed());
    for number in [0, VOLUMES / 2, VOLUMES - 1] {
        assert_eq!(space.exec(&name(number), "cat /data/f").unwrap(), number.to_string());
    }
    assert_eq!(space.left().unwrap().len(), 2 * VOLUMES, "each is in the API and on a node, once");
    let claims = space.object("pvc").unwrap();
    let volumes: Vec<String> = claims["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|claim| claim["spec"]["volumeName"].as_str().unwrap().to_owned())
        .collect();
    let pods = space.object("pods").unwrap();
    let on =
        |worker: &str| pods["items"].as_array().unwrap().iter().filter(|pod| pod["spec"]["nodeName"] == worker).count();
    let workers: Vec<&str> = installed().cluster.workers().iter().map(quarry_lab::Worker::name).collect();
    assert!(workers.iter().all(|worker| on(worker) > 0), "all on few nodes");

    let begun = Instant::now();
    space.leave().unwrap();
    println!("all are gone: {:?}", begun.elapsed());
    for worker in workers {
        let left = installed()
            .on(worker, "cat /proc/mounts; ls /dev/mapper; ls /var/lib/kubelet/pods/*/volumes/*csi 2>/dev/null || true")
            .unwrap();
        let of_burst =
            volumes.iter().find(|volume| left.contains(&volume.replace('-', "--")) || left.contains(volume.as_str()));
        assert_eq!(of_burst, None, "on {worker}:\n{left}");
    }
}
