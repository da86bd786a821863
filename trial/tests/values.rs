//! What values of the chart change, each in a real cluster. All tests share one, one at a time; each takes the driver away as
//! the one before it left it, and installs it with values of its own.
#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::process::Command;
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Result;
use quarry_lab::{ClusterOptions, Disk};
use quarry_trial::kubernetes::manifests::{
    SNAPSHOT, claim, claim_of, on_node, pod, snapshot, snapshot_class, with_values,
};
use quarry_trial::kubernetes::{Installed, NAMESPACE, Namespace, make_group};
use serde_json::json;

const WORKERS: [&str; 2] = ["worker-1", "worker-2"];
/// The group of a second driver.
const SECOND: &str = "second";
/// The controller looks at all volumes every two minutes at most, and at a removable one twice.
const LOOKED: Duration = Duration::from_mins(8);

/// The cluster, and what is installed in it.
struct Stand {
    installed: Installed,
    manifests: String,
}

static STAND: LazyLock<Mutex<Stand>> = LazyLock::new(|| {
    let disks = ClusterOptions::new().disk(Disk::plain("disk", 8 << 30)).disk(Disk::plain(SECOND, 1 << 30));
    let installed = Installed::start_with(&disks.workers(2).verbose()).expect("a cluster with Quarry in it");
    for worker in installed.cluster.workers() {
        make_group(worker, SECOND, SECOND).expect("a second group");
    }
    Mutex::new(Stand { installed, manifests: with_values(&[]).expect("the chart's defaults") })
});

fn stand() -> MutexGuard<'static, Stand> {
    // A test that failed has said so already.
    STAND.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Stand {
    /// Replaces what is installed by what these values give; `before` does what must be done first.
    fn install(&mut self, values: &[&str], before: impl FnOnce(&Installed)) {
        let next = with_values(values).unwrap();
        let mut words = vec!["delete", "--ignore-not-found", "--wait", "--timeout=180s", "-f"];
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), &self.manifests).unwrap();
        words.push(file.path().to_str().unwrap());
        self.installed.kubectl(&words).unwrap();
        before(&self.installed);
        self.manifests = next;
        self.installed.install_as(&self.manifests).unwrap();
    }

    fn namespace(&self, name: &str) -> Namespace<'_> {
        Namespace::make(&self.installed, name).unwrap()
    }

    /// A pod with a new volume on each worker; one of the volumes grows.
    fn serves(&self, space: &Namespace<'_>, storage_class: &str) {
        for worker in WORKERS {
            let name = format!("{storage_class}-{worker}");
            let pod = on_node(pod(&name, &name, "echo here >/data/f; sync"), worker);
            space.apply(&[claim(&name, storage_class, "64Mi"), pod]).unwrap();
        }
        for worker in WORKERS {
            let name = format!("{storage_class}-{worker}");
            space.running(&[&name]).unwrap();
            assert_eq!(space.exec(&name, "cat /data/f").unwrap(), "here");
        }
        let grown = format!("{storage_class}-worker-1");
        let request = json!({"spec": {"resources": {"requests": {"storage": "128Mi"}}}}).to_string();
        space.kubectl(&["patch", "pvc", &grown, "--patch", &request]).unwrap();
        let volume = format!("pv/{}", space.bound(&grown).unwrap());
        let grows = ["wait", &volume, "--for=jsonpath={.spec.capacity.storage}=128Mi", "--timeout=120s"];
        self.installed.kubectl(&grows).unwrap();
    }

    fn starts(&self) -> String {
        let path = "--output=jsonpath={range .items[*]}{.metadata.name} {.status.containerStatuses[*].restartCount}{\"\\n\"}{end}";
        self.installed.kubectl(&["-n", NAMESPACE, "get", "pods", path]).unwrap()
    }
}

/// Runs a shell script on all workers; answers with what it printed on each.
fn on_all(installed: &Installed, script: &str) -> Result<Vec<String>> {
    WORKERS.iter().map(|worker| installed.on(worker, script)).collect()
}

#[test]
#[ignore = "minutes long: make test-cluster"]
fn certificates_from_secrets_of_somebody_else_are_used_and_exchanged_without_a_restart() {
    let mut stand = stand();
    let folder = tempfile::tempdir().unwrap();
    make_certificates(folder.path());
    stand.install(&["tls.source=secrets"], |installed| {
        installed.kubectl(&["create", "namespace", NAMESPACE]).unwrap();
        put_certificates(installed, folder.path());
    });
    let space = stand.namespace("secrets");
    stand.serves(&space, "quarry");
    let controller = format!("--as=system:serviceaccount:{NAMESPACE}:quarry-controller");
    let can = ["-n", NAMESPACE, "auth", "can-i", "get", "secrets/quarry-controller-tls", &controller];
    assert_eq!(stand.installed.cluster.kubectl(&can).unwrap().text(), "no");

    // Of another authority: the one before is believed by nobody any more.
    let starts = stand.starts();
    make_certificates(folder.path());
    put_certificates(&stand.installed, folder.path());
    let exchanged = std::fs::read_to_string(folder.path().join("node.crt")).unwrap();
    let shown = || {
        let script = "cat /var/lib/kubelet/pods/*/volumes/kubernetes.io~secret/tls/tls.crt";
        Ok(on_all(&stand.installed, script)?.iter().all(|shown| shown.contains(exchanged.trim())))
    };
    stand.installed.wait("kubelet brings the new certificates", LOOKED, shown).unwrap();
    space.apply(&[claim("later", "quarry", "64Mi"), pod("later", "later", "true")]).unwrap();
    space.running(&["later"]).unwrap();
    assert_eq!(stand.starts(), starts);
    space.leave().unwrap();
}

#[test]
#[ignore = "minutes long: make test-cluster"]
fn a_provisioner_on_each_node_makes_the_volumes_of_its_own_node() {
    let mut stand = stand();
    stand.install(&["provisioner.nodeDeployment=true"], |_| ());
    let space = stand.namespace("node-deployment");
    stand.serves(&space, "quarry");
    let rooms = stand.installed.list(&["csistoragecapacities", "--all-namespaces"]).unwrap();
    assert_eq!(rooms.len(), WORKERS.len(), "one for each node: {rooms:?}");
    assert!(rooms.iter().all(|room| room["metadata"]["ownerReferences"][0]["kind"] == "Pod"), "{rooms:?}");
    space.leave().unwrap();
}

#[test]
#[ignore = "minutes long: make test-cluster"]
fn a_cluster_without_the_crds_of_snapshots_has_all_else_and_takes_snapshots_once_it_has_them() {
    let mut stand = stand();
    stand.install(&[], |installed| {
        let definitions = installed.kubectl(&["get", "crds", "--output=name"]).unwrap();
        for definition in definitions.lines().filter(|name| name.ends_with("snapshot.storage.k8s.io")) {
            installed.kubectl(&["delete", definition]).unwrap();
        }
    });
    let space = stand.namespace("no-crds");
    stand.serves(&space, "quarry");
    let refused = space.apply(&[snapshot("daily", "quarry-worker-1")]).unwrap_err();
    assert!(format!("{refused:#}").contains("no matches for kind"), "{refused:#}");
    let said = ["-n", NAMESPACE, "logs", "deployment/quarry-controller", "--all-pods", "-c", "snapshotter"];
    stand
        .installed
        .wait("csi-snapshotter says what it misses", LOOKED, || {
            Ok(stand.installed.kubectl(&said)?.contains("could not find the requested resource"))
        })
        .unwrap();
    stand.installed.install_snapshots().unwrap();
    stand.installed.apply(&[snapshot_class()]).unwrap();
    space.apply(&[snapshot("daily", "quarry-worker-1")]).unwrap();
    space.wait("volumesnapshot/daily", "jsonpath={.status.readyToUse}=true").unwrap();
    space.leave().unwrap();
}

#[test]
#[ignore = "minutes long: make test-cluster"]
fn a_thick_snapshot_that_is_lost_is_told_of_at_its_volumes_claim_and_nothing_is_made_of_it() {
    let mut stand = stand();
    stand.install(&["controller.lookEverySeconds=60"], |_| ());
    stand.installed.install_snapshots().unwrap();
    stand.installed.apply(&[snapshot_class()]).unwrap();
    let (installed, space) = (&stand.installed, stand.namespace("lost"));
    space.apply(&[claim("source", "quarry", "256Mi"), on_node(pod("source", "source", "true"), "worker-1")]).unwrap();
    space.running(&["source"]).unwrap();
    let write = "dd if=/dev/urandom of=/data/f bs=1M count=150 conv=notrunc 2>/dev/null; sync";
    space.exec("source", write).unwrap();
    space.apply(&[snapshot("daily", "source")]).unwrap();
    space.wait("volumesnapshot/daily", "jsonpath={.status.readyToUse}=true").unwrap();
    // A fifth of the volume is kept, and nothing is left for more.
    installed.on("worker-1", "lvcreate -qq -y -Wn -Zn --extents 100%FREE --name filler quarry").unwrap();
    space.exec("source", write).unwrap();
    let told = installed.wait("its volume's claim has an event", LOOKED, || {
        let words = [
            "get",
            "events",
            "--output=jsonpath={.items[?(@.reason==\"SnapshotLost\")]['involvedObject.name','message']}",
        ];
        let said = space.kubectl(&words)?;
        Ok(said.contains("source") && said.contains("has lost what it held"))
    });
    println!("lost: told after {:?}", told.unwrap());
    // csi-snapshotter asks no more once it was ready.
    println!("readyToUse: {}", space.field("volumesnapshot/daily", "{.status.readyToUse}").unwrap());
    installed.on("worker-1", "lvremove -qq -y quarry/filler").unwrap();
    let restored = claim_of((SNAPSHOT, "daily"), claim("restored", "quarry", "256Mi"));
    space.apply(&[restored, pod("restored", "restored", "true")]).unwrap();
    println!("{}", space.event("restored", "is lost: more of its volume was overwritten").unwrap());
    // Its volume goes on.
    space.exec("source", write).unwrap();
    space.delete(&["pod/restored", "pvc/restored", "volumesnapshot/daily"]).unwrap();
    space.leave().unwrap();
}

#[test]
#[ignore = "minutes long: make test-cluster"]
fn the_lvm_of_the_host_does_the_work_when_it_shall() {
    const CALLS: &str = "/run/lvm-calls";
    let mut stand = stand();
    let written_down = format!("#!/bin/bash\necho \"$0 $*\" >>{CALLS}\nexec -a \"$0\" /usr/sbin/lvm.real \"$@\"");
    let watch = "mv /usr/sbin/lvm /usr/sbin/lvm.real; cat >/usr/sbin/lvm";
    on_all(&stand.installed, &format!("{watch} <<'end'\n{written_down}\nend\nchmod +x /usr/sbin/lvm")).unwrap();
    stand.install(&["lvm.onHost=true"], |_| ());
    let space = stand.namespace("host-lvm");
    stand.serves(&space, "quarry");
    for calls in on_all(&stand.installed, &format!("cat {CALLS}")).unwrap() {
        assert!(calls.contains("lvcreate"), "{calls}");
    }
    space.leave().unwrap();
    on_all(&stand.installed, &format!("mv /usr/sbin/lvm.real /usr/sbin/lvm; rm {CALLS}")).unwrap();
}

#[test]
#[ignore = "minutes long: make test-cluster"]
fn two_drivers_in_one_cluster_do_not_meet() {
    let mut stand = stand();
    stand.install(&[], |_| ());
    let values = [
        "driverName=lvm.example.com",
        "namespace.create=false",
        "namespace.name=second",
        "storageClasses[0].name=second",
        "classes[0].name=second",
        "classes[0].default=true",
        "classes[0].volumeGroups[0]=second",
    ];
    let second = with_values(&values).unwrap();
    let installed = &stand.installed;
    let kubectl = |words: &[&str]| installed.kubectl(words).unwrap();
    kubectl(&["create", "namespace", SECOND]);
    kubectl(&["label", "namespace", SECOND, "pod-security.kubernetes.io/enforce=privileged"]);
    installed.cluster.apply(&second).unwrap();
    for what in ["daemonset/quarry-node", "deployment/quarry-controller"] {
        kubectl(&["-n", SECOND, "rollout", "status", what, "--timeout=180s"]);
    }
    kubectl(&["-n", SECOND, "annotate", "pods", "--all", "looked-at=now"]);
    let space = stand.namespace("two-drivers");
    stand.serves(&space, "quarry");
    stand.serves(&space, "second");
    for (storage_class, group) in [("quarry", "quarry"), ("second", SECOND)] {
        let volume = space.bound(&format!("{storage_class}-worker-1")).unwrap();
        installed.on("worker-1", &format!("lvs {group}/{volume}")).unwrap();
    }
    space.leave().unwrap();
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), second).unwrap();
    kubectl(&["delete", "--timeout=180s", "-f", file.path().to_str().unwrap()]);
    kubectl(&["delete", "namespace", SECOND]);
}

#[test]
#[ignore = "minutes long: make test-cluster"]
fn orphans_that_were_never_used_are_removed_and_others_and_sick_volumes_are_told_of() {
    let mut stand = stand();
    let values = [
        "controller.lookEverySeconds=60",
        "controller.orphanGraceSeconds=30",
        "storageClasses[0].name=quarry",
        "storageClasses[1].name=at-once",
        "storageClasses[1].volumeBindingMode=Immediate",
        "storageClasses[1].reclaimPolicy=Retain",
    ];
    stand.install(&values, |_| ());
    let space = stand.namespace("orphans");
    let on_first = |name: &str| on_node(pod(name, name, "echo precious >/data/f; sync"), "worker-1");
    space.apply(&[claim("sick", "quarry", "64Mi"), on_first("sick")]).unwrap();
    space.apply(&["unused", "used"].map(|name| claim(name, "at-once", "64Mi"))).unwrap();
    let [unused, used] = ["unused", "used"].map(|name| space.bound(name).unwrap());
    space.apply(&[pod("used", "used", "echo precious >/data/f; sync")]).unwrap();
    space.running(&["sick", "used"]).unwrap();
    let home = space.node_of("used").unwrap();
    // The cluster forgets two of them.
    space.delete(&["pod/used", "pvc/used", "pvc/unused"]).unwrap();
    let installed = &stand.installed;
    for volume in [&used, &unused] {
        installed.kubectl(&["delete", "pv", volume]).unwrap();
    }
    let sick = space.bound("sick").unwrap();
    installed.on("worker-1", &format!("lvchange --refresh quarry/{sick}")).unwrap();
    let device = installed.on("worker-1", &format!("lvs --noheadings --options lv_dm_path quarry/{sick}")).unwrap();
    installed.on("worker-1", &format!("dmsetup suspend {device}")).unwrap();

    let is_there = |volume: &str| -> Result<bool> {
        let names = on_all(installed, "lvs --noheadings --options lv_name")?;
        Ok(names.iter().any(|names| names.contains(volume)))
    };
    let told = installed.wait("the sick volume's claim has an event", LOOKED, || {
        let words = ["get", "events", "--output=jsonpath={.items[?(@.reason==\"LogicalVolumeSuspended\")].message}"];
        Ok(space.kubectl(&words)?.contains("suspended"))
    });
    installed.on("worker-1", &format!("dmsetup resume {device}")).unwrap();
    println!("sick: told after {:?}", told.unwrap());
    let gone = installed.wait("the orphan that was never used goes", LOOKED, || Ok(!is_there(&unused)?));
    println!("never used: gone after {:?}", gone.unwrap());
    assert!(is_there(&used).unwrap(), "one that was used stays");
    installed
        .wait("the node has an event", LOOKED, || {
            let words = ["get", "events", "--output=jsonpath={.items[?(@.reason==\"OrphanedVolumes\")].message}"];
            Ok(installed.kubectl(&words)?.contains("1 volume of lvm.quarry.storage on this node"))
        })
        .unwrap();
    let words = ["-n", NAMESPACE, "exec", "deploy/quarry-controller", "-c", "quarry", "--", "quarry", "orphans"];
    let listed = installed.kubectl(&words).unwrap();
    println!("{listed}");
    assert!(listed.contains(&used) && !listed.contains(&unused) && !listed.contains(&sick));
    let kept = format!(
        "lvchange -ay quarry/{used}; mount /dev/quarry/{used} /mnt; cat /mnt/f; umount /mnt; lvremove -qy quarry/{used}"
    );
    assert!(installed.on(&home, &kept).unwrap().contains("precious"));
    space.leave().unwrap();
}

/// An authority, and what it signs for both roles: as docs/kubernetes.md says how.
fn make_certificates(folder: &Path) {
    let script = r"
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 3650 -subj /CN=quarry -keyout ca.key -out ca.crt
for role in controller:clientAuth node:serverAuth; do
  name=${role%:*}
  openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=$name -keyout $name.key -out $name.csr
  printf 'subjectAltName=DNS:%s.lvm.quarry.storage\nextendedKeyUsage=%s\n' $name ${role#*:} >$name.ext
  openssl x509 -req -in $name.csr -CA ca.crt -CAkey ca.key -days 365 -extfile $name.ext -out $name.crt
done";
    let output = Command::new("sh").args(["-e", "-c", script]).current_dir(folder).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// Into Secrets as cert-manager makes them, too.
fn put_certificates(installed: &Installed, folder: &Path) {
    let text = |name: &str| std::fs::read_to_string(folder.join(name)).unwrap();
    let secret = |role: &str| {
        json!({
            "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls",
            "metadata": {"name": format!("quarry-{role}-tls"), "namespace": NAMESPACE},
            "stringData": {
                "ca.crt": text("ca.crt"), "tls.crt": text(&format!("{role}.crt")), "tls.key": text(&format!("{role}.key")),
            },
        })
    };
    installed.apply(&["controller", "node"].map(secret)).unwrap();
}
