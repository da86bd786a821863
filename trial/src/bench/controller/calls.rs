//! The calls to the controller, as its sidecars make them.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use quarry::config::driver_name::topology_key;
use quarry::csi::v1;
use quarry_fake::disk_format::EXTENT;

use super::nodes::DRIVER;
use super::process::Controller;
use crate::client::{self, Client};

/// How long the controller may take to serve.
const PATIENCE: Duration = Duration::from_mins(1);
/// How often it is tried.
const STEP: Duration = Duration::from_millis(2);

/// Makes calls over one connection.
pub(super) struct Calls {
    client: Client,
}

/// What a list brought.
pub(super) struct Listed {
    /// The volumes in their order.
    pub(super) ids: Vec<String>,
    /// In how many answers.
    pub(super) pages: usize,
}

impl Calls {
    /// Connects as soon as the controller serves.
    pub(super) async fn connect(controller: &mut Controller) -> Result<Self> {
        let (start, socket) = (Instant::now(), controller.socket.display().to_string());
        loop {
            match Client::connect(&socket).await {
                Ok(client) => return Ok(Self { client }),
                Err(error) => ensure!(start.elapsed() < PATIENCE, "{error:#}"),
            }
            controller.check()?;
            tokio::time::sleep(STEP).await;
        }
    }

    /// `GetCapacity` of one node.
    pub(super) async fn capacity(&self, node: &str) -> Result<()> {
        let request = v1::GetCapacityRequest { accessible_topology: Some(on(node)), ..Default::default() };
        let answer = self.client.controller.clone().get_capacity(request).await;
        let answer = answer.with_context(|| format!("GetCapacity of {node}"))?.into_inner();
        ensure!(answer.available_capacity > 0, "{node} has no room");
        Ok(())
    }

    /// `GetCapacity` of all nodes together.
    pub(super) async fn capacity_of_all(&self) -> Result<()> {
        let answer = self.client.controller.clone().get_capacity(v1::GetCapacityRequest::default()).await;
        answer.context("GetCapacity of all nodes").map(drop)
    }

    /// `CreateVolume` on one node.
    pub(super) async fn create(&self, name: &str, node: &str) -> Result<()> {
        let requisite = vec![on(node)];
        let request = v1::CreateVolumeRequest {
            accessibility_requirements: Some(v1::TopologyRequirement { preferred: requisite.clone(), requisite }),
            ..client::create(name, i64::try_from(EXTENT)?, client::mounted("ext4"))
        };
        let answer = self.client.controller.clone().create_volume(request).await;
        answer.with_context(|| format!("CreateVolume {name} on {node}")).map(drop)
    }

    /// `ListVolumes`, page after page, each as large as the controller makes it.
    pub(super) async fn list(&self) -> Result<Listed> {
        let mut listed = Listed { ids: Vec::new(), pages: 0 };
        let mut starting_token = String::new();
        loop {
            let request = v1::ListVolumesRequest { max_entries: 0, starting_token };
            let answer = self.client.controller.clone().list_volumes(request).await;
            let page = answer.context("ListVolumes")?.into_inner();
            listed.pages += 1;
            listed.ids.extend(page.entries.into_iter().filter_map(|entry| Some(entry.volume?.volume_id)));
            if page.next_token.is_empty() {
                return Ok(listed);
            }
            starting_token = page.next_token;
        }
    }
}

/// A topology that means that node.
fn on(node: &str) -> v1::Topology {
    v1::Topology { segments: [(topology_key(DRIVER), node.to_owned())].into() }
}
