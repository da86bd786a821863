//! What the programs of a worker read: containerd, the network of pods, kubelet. And what is done before they start.

use std::path::Path;

use anyhow::Result;
use serde_json::{Value, json};

use super::addresses::pod_network;
use super::credentials::write;
use super::stock_images::PAUSE;

/// Where a worker finds what lies in its folder of files on this side.
pub(crate) const THERE: &str = "/lab/worker";

/// Before containerd starts; `$1` is the worker's name, `$2` the device of its own disk. Says `new` when that disk was
/// empty.
///
/// - `/var/lib/kubelet` and `/var/lib/containerd` lie on a disk with a file system of the guest's kernel: neither works on
///   the root that the guest shares with this machine, and they are what a real machine keeps over a power cut. Neither
///   program flushes all that it writes; the mount options keep what a power cut can take from them to a second.
/// - kubelet refuses a processor without a clock speed, which this kernel does not tell.
pub(crate) const PREPARE: &str = r#"
echo "$1" >/proc/sys/kernel/hostname
modprobe -a overlay bridge veth
echo 1 >/proc/sys/net/ipv4/ip_forward
{ cat /proc/cpuinfo; echo 'cpu MHz : 1000.000'; } >/run/cpuinfo
mount --bind /run/cpuinfo /proc/cpuinfo
if ! blkid -p "$2" >/dev/null; then
    mkfs.ext4 -q -J size=32 "$2"
    echo new
fi
mkdir -p /var/lib/worker
mount -o nodelalloc,commit=1 "$2" /var/lib/worker
for folder in kubelet containerd; do
    mkdir -p /var/lib/worker/$folder /var/lib/$folder
    mount --bind /var/lib/worker/$folder /var/lib/$folder
done
"#;

/// Writes the files of a worker into its folder.
pub(crate) fn write_all(folder: &Path, number: u8) -> Result<()> {
    write(&folder.join("containerd.toml"), &containerd())?;
    for (name, content) in [("cni/10-pods.conflist", network(number)), ("kubelet.json", kubelet())] {
        write(&folder.join(name), &serde_json::to_string_pretty(&content)?)?;
    }
    Ok(())
}

fn containerd() -> String {
    format!(
        r#"version = 3

[plugins."io.containerd.cri.v1.images".pinned_images]
sandbox = "{PAUSE}"

[plugins."io.containerd.cri.v1.runtime".cni]
bin_dirs = ["/usr/lib/cni"]
conf_dir = "{THERE}/cni"
"#
    )
}

/// Pods on a bridge of the worker; other workers' pods are a matter of the routes between workers.
fn network(number: u8) -> Value {
    json!({
        "cniVersion": "1.0.0",
        "name": "pods",
        "plugins": [{
            "type": "bridge",
            "bridge": "pods0",
            "isGateway": true,
            "ipam": {
                "type": "host-local",
                "ranges": [[{ "subnet": pod_network(number) }]],
                "routes": [{ "dst": "0.0.0.0/0" }],
            },
        }],
    })
}

fn kubelet() -> Value {
    json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "authentication": {
            "anonymous": { "enabled": false },
            "webhook": { "enabled": true },
            "x509": { "clientCAFile": format!("{THERE}/ca.crt") },
        },
        "authorization": { "mode": "Webhook" },
        // Else it makes one of its own and does not flush it: after a power cut it may find an empty file and give up.
        "tlsCertFile": format!("{THERE}/kubelet.crt"),
        "tlsPrivateKeyFile": format!("{THERE}/kubelet.key"),
        "containerRuntimeEndpoint": "unix:///run/containerd/containerd.sock",
        "cgroupDriver": "cgroupfs",
        "failSwapOn": false,
        "resolvConf": "",
        // There is no registry: images are imported, and what is there is used and never removed for want of room.
        "imagePullCredentialsVerificationPolicy": "NeverVerify",
        "imageGCHighThresholdPercent": 100,
        "nodeStatusUpdateFrequency": "5s",
        "nodeLeaseDurationSeconds": 20,
    })
}
