//! A pod in a real Kubernetes gets a volume.

use std::time::Duration;

use quarry_lab::BUSYBOX;
use quarry_trial::kubernetes::Installed;

const LIMIT: Duration = Duration::from_mins(2);

#[test]
fn a_pod_gets_a_volume_and_reads_back_what_it_wrote() {
    let installed = Installed::start(2, 4 << 30).unwrap();
    let manifest = format!(
        "apiVersion: v1
kind: PersistentVolumeClaim
metadata: {{name: data}}
spec:
  storageClassName: quarry
  accessModes: [ReadWriteOnce]
  resources: {{requests: {{storage: 64Mi}}}}
---
apiVersion: v1
kind: Pod
metadata: {{name: writer}}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - name: main
    image: {BUSYBOX}
    command: [sh, -c, 'echo written >/data/f && sync && cat /data/f && exec sleep 100000']
    volumeMounts: [{{name: data, mountPath: /data}}]
  volumes: [{{name: data, persistentVolumeClaim: {{claimName: data}}}}]
"
    );
    installed.cluster.apply(&manifest).unwrap();
    let phase = |kind: &str, name: &str| {
        let object = installed.object(&[kind, name])?;
        Ok::<_, anyhow::Error>(object["status"]["phase"].as_str().unwrap_or_default().to_owned())
    };
    let running = installed.wait("the pod runs", LIMIT, || Ok(phase("pod", "writer")? == "Running")).unwrap();
    println!("running after {running:?}");
    assert_eq!(phase("pvc", "data").unwrap(), "Bound");
    let read = || Ok(installed.kubectl(&["logs", "writer"])?.contains("written"));
    installed.wait("the pod reads", LIMIT, read).unwrap();
    installed.kubectl(&["delete", "pod/writer", "pvc/data"]).unwrap();
    let gone = || Ok(installed.object(&["pv"])?["items"].as_array().is_none_or(Vec::is_empty));
    installed.wait("the volume goes", LIMIT, gone).unwrap();
}
