//! What the commands share that run in the controller's pod: its own socket for the volumes, the API server for what
//! names them.

use std::time::SystemTime;

use anyhow::{Context, bail};
use kube::Client;
use tonic::Request;
use tonic::transport::{Channel, Endpoint as GrpcEndpoint};

use crate::controller::kubernetes::client::of_this_cluster;
use crate::controller::reachable::{self, Reachable};
use crate::csi::condition::Deletable;
use crate::csi::endpoint::Endpoint;
use crate::csi::v1;
use crate::csi::v1::controller_client::ControllerClient;
use crate::csi::v1::identity_client::IdentityClient;

/// The cluster as it is seen from the controller's pod.
pub(super) struct Cluster {
    /// The driver's name, as the controller says it.
    pub(super) driver: String,
    /// The API server.
    pub(super) client: Client,
    controller: ControllerClient<Channel>,
    endpoint: String,
}

impl Cluster {
    /// Finds the controller and the API server.
    pub(super) async fn find(endpoint: &Endpoint) -> anyhow::Result<Self> {
        let at =
            || format!("no controller answers at {endpoint}; run this in its pod (kubectl exec) or name its socket");
        let channel = GrpcEndpoint::try_from(endpoint.to_string())?.connect().await.with_context(at)?;
        let info = IdentityClient::new(channel.clone()).get_plugin_info(v1::GetPluginInfoRequest {}).await;
        let driver = info.with_context(at)?.into_inner().name;
        let client = of_this_cluster().await.context("could not find the cluster's API server")?;
        // A node of an older version makes no pages of its list.
        let controller = ControllerClient::new(channel).max_decoding_message_size(usize::MAX);
        Ok(Self { driver, client, controller, endpoint: endpoint.to_string() })
    }

    /// The volumes of all nodes. With `reachable_only` those of the nodes that answer; which do not is told on standard
    /// error.
    pub(super) async fn volumes(&self, reachable_only: bool) -> anyhow::Result<Reachable> {
        let (mut reachable, mut page) = (Reachable::default(), v1::ListVolumesRequest::default());
        loop {
            let mut request = Request::new(page);
            reachable::ask_for_it(&mut request);
            let answer = match self.controller.clone().list_volumes(request).await {
                Ok(answer) => answer.into_inner(),
                Err(status) => bail!("could not list the volumes: {}", status.message()),
            };
            reachable.take(answer.entries);
            if answer.next_token.is_empty() {
                break;
            }
            page = v1::ListVolumesRequest { max_entries: 0, starting_token: answer.next_token };
        }
        if reachable.nodes.is_empty() {
            bail!("at {} is no controller, but a single node; name the controller's socket", self.endpoint);
        }
        let reachable = reachable.complete();
        for (node, why) in reachable.silent() {
            eprintln!("quarry: node {node} does not answer; what is on it is missing here: {why}");
        }
        if !reachable_only && reachable.silent().next().is_some() {
            bail!("could not list the volumes of all nodes; with --reachable-only, what the others have is shown");
        }
        let (nodes, volumes) = (reachable.counts().len(), reachable.volumes.len());
        eprintln!("quarry: nodes that answered: {nodes}, volumes on them: {volumes}");
        Ok(reachable)
    }

    /// Deletes a volume if it is one of those.
    pub(super) async fn delete(&self, volume_id: &str, deletable: Deletable) -> anyhow::Result<()> {
        let request = v1::DeleteVolumeRequest { volume_id: volume_id.to_owned(), ..v1::DeleteVolumeRequest::default() };
        let mut request = Request::new(request);
        deletable.put(request.metadata_mut());
        match self.controller.clone().delete_volume(request).await {
            Ok(_) => Ok(()),
            Err(status) => bail!("could not delete {volume_id}: {}", status.message()),
        }
    }
}

/// Seconds since 1970.
pub(super) fn now() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()
}
