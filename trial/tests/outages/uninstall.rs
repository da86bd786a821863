//! The driver is removed while its volumes are in use, and installed again; as docs/kubernetes.md says it.

use quarry_lab::Status;
use quarry_trial::kubernetes::NAMESPACE;
use quarry_trial::kubernetes::manifests::{claim, file_of_the_driver, on_node};

use crate::shared::{WORKERS, installed, plain_pod, turn};
use crate::writers::Writers;

const VOLUMES: &str = r#"{range .items[?(@.spec.csi.driver=="lvm.quarry.storage")]}{.metadata.name}{"\t"}{.spec.claimRef.namespace}/{.spec.claimRef.name}{"\n"}{end}"#;

#[test]
#[ignore = "minutes long: make test-cluster"]
fn an_uninstall_leaves_volumes_and_their_users_and_the_next_install_takes_them_up_again() {
    let turn = turn("uninstall");
    let writers = Writers::start(&turn.space, &WORKERS);
    let spare = on_node(plain_pod("spare", "spare", "echo spare >/data/f"), "worker-1");
    turn.space.apply(&[claim("spare", "quarry", "64Mi"), spare]).unwrap();
    let kept = on_node(plain_pod("kept", "kept", "echo kept >>/data/f"), "worker-2");
    turn.space.apply(&[claim("kept", "quarry", "64Mi"), kept.clone()]).unwrap();
    turn.space.running(&["spare", "kept"]).unwrap();
    turn.space.delete(&["pod/spare", "pod/kept"]).unwrap();
    let spare = turn.space.bound("spare").unwrap();
    let list = || installed().kubectl(&["get", "pv", "-o", &format!("jsonpath={VOLUMES}")]).unwrap();
    let before = list();
    assert_eq!(before.matches("\tuninstall/").count(), 5, "{before}");
    assert!(before.contains(&format!("{spare}\tuninstall/spare")), "{before}");

    installed().kubectl(&["delete", "-f", &file_of_the_driver().to_string_lossy()]).unwrap();
    turn.tell("the driver is removed");
    let gone = installed().cluster.kubectl(&["get", "namespace", NAMESPACE]).unwrap();
    assert_eq!(gone.status, Status::Exited(1));
    writers.unharmed();
    assert_eq!(list(), before);
    // Without the driver a volume is removed by hand.
    let found = installed()
        .on("worker-1", r#"lvs --select 'lv_tags={"quarry.kind=volume"}' -o vg_name,lv_name,lv_size,lv_tags"#);
    let found = found.unwrap();
    println!("{found}");
    assert!(found.lines().any(|line| line.contains(&spare) && line.contains("quarry.pvc=uninstall/spare")));
    let remove = format!(
        "lvchange --activate y quarry/{spare}; blkdiscard --zeroout /dev/quarry/{spare}; lvremove -y quarry/{spare}"
    );
    installed().on("worker-1", &remove).unwrap();

    installed().install().unwrap();
    turn.tell("it is installed again");
    turn.space.apply(&[kept, claim("new", "quarry", "64Mi"), plain_pod("new", "new", "true")]).unwrap();
    turn.space.running(&["kept", "new"]).unwrap();
    turn.tell("pods with old and new volumes run");
    assert_eq!(turn.space.exec("kept", "cat /data/f").unwrap(), "kept\nkept");
    // The claim of what was removed by hand goes as any other.
    turn.space.delete(&["pvc/spare"]).unwrap();
    installed().kubectl(&["wait", "--for=delete", &format!("pv/{spare}"), "--timeout=120s"]).unwrap();
    writers.unharmed();
    turn.end();
}
