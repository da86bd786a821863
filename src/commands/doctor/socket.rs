//! The node that serves on the socket, if one does.

use std::io::ErrorKind;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;
use std::time::Duration;

use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint as GrpcEndpoint};

use super::finding::Finding;
use crate::commands::version::VERSION;
use crate::csi::endpoint::Endpoint;
use crate::csi::v1;
use crate::csi::v1::identity_client::IdentityClient;
use crate::csi::v1::node_client::NodeClient;

const AREA: &str = "socket";
/// How long a node may take for the few questions; it answers within milliseconds.
const PATIENCE: Duration = Duration::from_secs(5);

/// What a node says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Answers {
    driver: String,
    version: String,
    ready: bool,
    node: String,
}

pub(super) async fn examine(endpoint: &Endpoint, driver: &str, node: &str) -> Vec<Finding> {
    let path = endpoint.path();
    if let Some(finding) = not_served(path).await {
        return vec![finding];
    }
    let asked = tokio::time::timeout(PATIENCE, ask(endpoint)).await;
    match asked {
        Ok(Ok(answers)) => judge(path, &answers, driver, node),
        Ok(Err(problem)) => {
            let found = format!("{}: what serves there is no CSI driver that answers: {problem}", path.display());
            vec![Finding::fail(AREA, found, "see who it is: ss -xlp")]
        }
        Err(_) => {
            let found = format!("{}: no answer within {} s", path.display(), PATIENCE.as_secs());
            vec![Finding::fail(AREA, found, "the process hangs: see its log and cat /proc/PID/stack, then restart it")]
        }
    }
}

/// Why there is nobody to ask.
async fn not_served(path: &Path) -> Option<Finding> {
    let shown = path.display();
    let start = "start quarry node with the same --csi-endpoint";
    match tokio::fs::symlink_metadata(path).await {
        Ok(file) if file.file_type().is_socket() => {}
        Ok(_) => return Some(Finding::fail(AREA, format!("{shown} is no socket"), "remove it or name another")),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let has_folder = path.parent().is_some_and(Path::is_dir);
            let advice = if has_folder { String::from(start) } else { format!("make its folder, then {start}") };
            return Some(Finding::warn(AREA, format!("no node serves at {shown}"), advice));
        }
        Err(error) => return Some(Finding::fail(AREA, format!("{shown}: {error}"), "see the rights of its folders")),
    }
    match UnixStream::connect(path).await {
        Ok(_) => None,
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => {
            Some(Finding::warn(AREA, format!("{shown} was left by a node that has ended"), start))
        }
        Err(error) => Some(Finding::fail(AREA, format!("{shown}: {error}"), "see the log of the node")),
    }
}

async fn ask(endpoint: &Endpoint) -> anyhow::Result<Answers> {
    let channel: Channel = GrpcEndpoint::try_from(endpoint.to_string())?.connect().await?;
    let mut identity = IdentityClient::new(channel.clone());
    let info = identity.get_plugin_info(v1::GetPluginInfoRequest {}).await?.into_inner();
    let probe = identity.probe(v1::ProbeRequest {}).await?.into_inner();
    let node = NodeClient::new(channel).node_get_info(v1::NodeGetInfoRequest {}).await?.into_inner();
    // CSI: a driver that does not say whether it is ready is ready.
    let ready = probe.ready.unwrap_or(true);
    Ok(Answers { driver: info.name, version: info.vendor_version, ready, node: node.node_id })
}

fn judge(path: &Path, answers: &Answers, driver: &str, node: &str) -> Vec<Finding> {
    let Answers { driver: its_driver, version, ready, node: its_node } = answers;
    let found = format!("{}: {its_driver} {version} as node {its_node}", path.display());
    let mut findings = Vec::new();
    if its_driver != driver {
        let advice = format!("give --driver-name {its_driver} to doctor too, or another socket to one of the two");
        findings.push(Finding::fail(AREA, format!("{found}, not {driver}"), advice));
    } else if version != VERSION {
        findings.push(Finding::warn(AREA, format!("{found}, but this program is {VERSION}"), "restart the node"));
    }
    if its_node != node {
        let advice = format!("give --node-name {its_node} to see its volume ids with quarry volumes");
        findings.push(Finding::warn(AREA, format!("{found}, but this program was told node {node}"), advice));
    }
    if !ready {
        findings.push(Finding::fail(AREA, format!("{found}, not ready"), "see its log"));
    }
    if findings.is_empty() {
        findings.push(Finding::ok(AREA, found));
    }
    findings
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;
    use tokio::net::UnixListener;

    use super::super::finding::Level;
    use super::*;

    fn levels(answers: &Answers) -> Vec<Level> {
        judge(Path::new("/s.sock"), answers, "lvm.quarry.storage", "n1").iter().map(|finding| finding.level).collect()
    }

    #[test]
    fn a_node_is_judged_by_what_it_says_of_itself() {
        let good = Answers {
            driver: String::from("lvm.quarry.storage"),
            version: VERSION.to_owned(),
            ready: true,
            node: String::from("n1"),
        };
        assert_eq!(levels(&good), [Level::Ok]);
        assert_eq!(levels(&Answers { driver: String::from("other"), ..good.clone() }), [Level::Fail]);
        assert_eq!(levels(&Answers { version: String::from("0.0.1"), ..good.clone() }), [Level::Warn]);
        assert_eq!(levels(&Answers { node: String::from("n2"), ready: false, ..good }), [Level::Warn, Level::Fail]);
    }

    #[tokio::test]
    async fn nobody_there_is_told_apart_from_something_else_there() {
        let folder = TempDir::new().unwrap();
        let level = async |name: &str| {
            let endpoint = folder.path().join(name).display().to_string().parse().unwrap();
            examine(&endpoint, "lvm.quarry.storage", "n1").await[0].level
        };
        assert_eq!(level("none.sock").await, Level::Warn);
        assert_eq!(level("no-folder/none.sock").await, Level::Warn);
        std::fs::write(folder.path().join("file.sock"), "").unwrap();
        assert_eq!(level("file.sock").await, Level::Fail);
        let listener = UnixListener::bind(folder.path().join("stale.sock")).unwrap();
        drop(listener);
        assert_eq!(level("stale.sock").await, Level::Warn);
    }
}
