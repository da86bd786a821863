//! Looks at all volumes now and then: tells of orphans and sick ones, and removes what design law 9 lets it remove.
//!
//! Every replica does it, for nobody need agree on anything: deleting twice is deleting once, and events have names that
//! follow from what they tell.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures_util::{StreamExt, stream};
use kube::Client;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::Request;

use super::events::{self, Events};
use super::references::{claim_uids, orphans_of, references};
use crate::controller::forward::{Client as NodeClient, Deadline};
use crate::controller::membership::Membership;
use crate::controller::orphans::{Orphan, Reference, Waiting, knows_any};
use crate::controller::reachable::PATIENCE;
use crate::controller::router::{AT_ONCE, Router};
use crate::csi::condition::Deletable;
use crate::csi::v1;
use crate::lvm::size::Bytes;
use crate::lvm::volume_id::VolumeId;

/// After a node has come it is looked at so soon.
const SOON: Duration = Duration::from_secs(20);
/// Between two looks is at least so much time.
const LEAST_PAUSE: Duration = Duration::from_mins(2);

/// What a look takes.
pub struct Upkeep {
    /// Reaches the nodes.
    pub router: Arc<Router>,
    /// Which there are.
    pub membership: Membership,
    /// The API server.
    pub client: Client,
    /// The driver's name.
    pub driver: String,
    /// The namespace of this pod.
    pub namespace: String,
    /// How often all is looked at.
    pub every: Duration,
    /// How long a volume must be an orphan before it is removed, if it is one of those that may be.
    pub grace: Duration,
}

/// What a look found.
pub struct Look {
    /// How many orphans there are, those just removed left out.
    pub orphans: u64,
    /// Whether all nodes answered.
    pub is_whole: bool,
}

impl Upkeep {
    /// Looks until the stop. Gives how many orphans there are, once that is known.
    pub fn start(self, events: Arc<Events>, stop: CancellationToken) -> watch::Receiver<Option<u64>> {
        let (count, counted) = watch::channel(None);
        tokio::spawn(stop.run_until_cancelled_owned(async move { self.look_always(&events, &count).await }));
        counted
    }

    async fn look_always(&self, events: &Events, count: &watch::Sender<Option<u64>>) {
        let mut waiting = Waiting::default();
        let mut newcomers = Newcomers { membership: self.membership.clone(), seen: HashSet::new() };
        newcomers.come().await;
        let mut pause = LEAST_PAUSE;
        loop {
            tokio::time::sleep(SOON).await;
            let begun = Instant::now();
            let is_whole = match self.look(events, &mut waiting).await {
                Ok(look) => {
                    count.send_replace(Some(look.orphans));
                    look.is_whole
                }
                Err(error) => {
                    waiting.interrupt();
                    tracing::warn!(error = format!("{error:#}"), "could not look for orphans; trying again");
                    false
                }
            };
            let (ended, least) = (Instant::now(), least_pause(begun.elapsed()));
            pause = least.max(if is_whole { self.every } else { self.every.min(pause * 2) });
            if tokio::time::timeout_at(ended + pause, newcomers.come()).await.is_ok() {
                tokio::time::sleep_until(ended + least).await;
                pause = LEAST_PAUSE;
            }
        }
    }

    /// One look.
    pub async fn look(&self, events: &Events, waiting: &mut Waiting) -> anyhow::Result<Look> {
        let reachable = self.router.reachable_volumes().await?;
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
        let (mut orphans, references) = orphans_of(&self.client, &self.driver, &reachable.volumes, now).await?;
        // Before all that takes time: what was just read is growing old.
        let removed = self.remove(waiting.due(&orphans, self.grace)).await?;
        orphans.retain(|orphan| !removed.contains(&orphan.volume.id));
        self.tell_of_orphans(events, &orphans, knows_any(&references, &self.driver)).await;
        self.tell_of_the_sick(events, &references).await?;
        Ok(Look {
            orphans: u64::try_from(orphans.len()).unwrap_or(u64::MAX),
            is_whole: reachable.silent().next().is_none(),
        })
    }

    /// Removes those that nobody names, seen once more; answers with those that are gone.
    async fn remove(&self, mut due: Vec<Orphan>) -> anyhow::Result<HashSet<VolumeId>> {
        let mut removed = HashSet::new();
        if due.is_empty() {
            return Ok(removed);
        }
        let (references, claims) = (references(&self.client).await?, claim_uids(&self.client).await?);
        if !knows_any(&references, &self.driver) {
            return Ok(removed);
        }
        let handles: HashSet<&str> = references.iter().map(|reference| reference.handle.as_str()).collect();
        due.retain(|orphan| {
            let is_claimed = orphan.volume.claim_uid().is_none_or(|uid| claims.contains(uid));
            !is_claimed && !handles.contains(orphan.volume.id.to_string().as_str())
        });
        for Orphan { volume, .. } in due {
            let volume_id = volume.id.to_string();
            let request = v1::DeleteVolumeRequest { volume_id, ..v1::DeleteVolumeRequest::default() };
            let call = |mut client: NodeClient, mut request: Request<_>| async move {
                Deletable::NeverUsed.put(request.metadata_mut());
                client.delete_volume(request).await
            };
            match self.router.call(&volume.id.node, Deadline::after(PATIENCE), request, call).await {
                Ok(_) => {
                    let (volume_id, bytes) = (&volume.id, volume.bytes);
                    tracing::warn!(%volume_id, bytes, "removed an orphan: it was never used, and nobody names it");
                    removed.insert(volume.id);
                }
                Err(status) => {
                    let (volume_id, error) = (&volume.id, status.message());
                    tracing::warn!(%volume_id, error, "could not remove an orphan; trying again");
                }
            }
        }
        Ok(removed)
    }

    /// An event for each node that has some. Where the cluster knows no volume of the driver at all, it has rather forgotten
    /// them.
    async fn tell_of_orphans(&self, events: &Events, orphans: &[Orphan], knows_any: bool) {
        let mut by_node: BTreeMap<&str, (u64, u64)> = BTreeMap::new();
        for orphan in orphans {
            let (count, bytes) = by_node.entry(&orphan.volume.id.node).or_default();
            (*count, *bytes) = (*count + 1, bytes.saturating_add(orphan.volume.bytes));
        }
        for (node, (count, bytes)) in by_node {
            let Some(name) = self.membership.borrow().get(node).map(|member| member.name.clone()) else { continue };
            let volumes = if count == 1 { "volume" } else { "volumes" };
            let (driver, size) = (&self.driver, Bytes(bytes));
            let what = if knows_any {
                "To see them, and what brings them back or removes them"
            } else {
                "There is none of the driver at all: if the cluster lost what it knew, remove nothing and use `quarry \
                 recover-pvs`. To see them"
            };
            let message = format!(
                "{count} {volumes} of {driver} on this node, {size}: no PersistentVolume names them. {what}: kubectl -n \
                 {} exec deploy/quarry-controller -c quarry -- quarry orphans",
                self.namespace
            );
            events.warn(events::node(&name), "OrphanedVolumes", &message).await;
        }
    }

    /// An event on the claim of each volume that is not healthy.
    async fn tell_of_the_sick(&self, events: &Events, references: &[Reference]) -> crate::error::Result<()> {
        let by_handle: HashMap<&str, &Reference> =
            references.iter().map(|reference| (reference.handle.as_str(), reference)).collect();
        let asking = stream::iter(self.router.nodes()?).map(|node| async move { self.sick_on(&node).await });
        let mut answers = asking.buffer_unordered(AT_ONCE);
        while let Some(sick) = answers.next().await {
            for sick in sick {
                let Some((claim, uid)) = by_handle.get(sick.volume_id.as_str()).and_then(|known| known.claim.as_ref())
                else {
                    continue;
                };
                for ailment in sick.health_statuses {
                    events.warn(events::claim(claim, uid.clone()), &ailment.reason, &ailment.message).await;
                }
            }
        }
        Ok(())
    }

    /// The volumes of a node that are not healthy, as far as it tells.
    async fn sick_on(&self, node: &str) -> Vec<v1::VolumeHealth> {
        let (mut sick, mut starting_token) = (Vec::new(), String::new());
        loop {
            let request = v1::ControllerListVolumeHealthRequest { starting_token, ..Default::default() };
            let call =
                |mut client: NodeClient, request| async move { client.controller_list_volume_health(request).await };
            let Ok(page) = self.router.call(node, Deadline::after(PATIENCE), request, call).await else { return sick };
            sick.extend(page.entries);
            if page.next_token.is_empty() {
                return sick;
            }
            starting_token = page.next_token;
        }
    }
}

/// How long to wait at least after a look that took so long: nodes that come one after the other, and several replicas,
/// must not make it a look without end.
fn least_pause(took: Duration) -> Duration {
    LEAST_PAUSE.max(took.saturating_mul(10))
}

/// Nodes that were not there before. One whose pod is replaced is no newcomer, but one that was gone from the cluster is.
struct Newcomers {
    membership: Membership,
    seen: HashSet<String>,
}

impl Newcomers {
    /// Waits for one, or for ever once the nodes do not change any more.
    async fn come(&mut self) {
        loop {
            let nodes = self.membership.borrow_and_update().clone();
            self.seen.retain(|node| nodes.exists(node));
            let running = nodes.iter().filter(|(_, member)| member.address.is_some());
            let new: Vec<String> =
                running.map(|(node, _)| node.clone()).filter(|node| !self.seen.contains(node)).collect();
            if !new.is_empty() {
                self.seen.extend(new);
                return;
            }
            if self.membership.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controller::membership::{Member, Nodes};

    fn nodes(named: &[(&str, bool)]) -> Arc<Nodes> {
        let member = |(name, runs): &(&str, bool)| Member {
            name: (*name).to_owned(),
            address: runs.then(|| String::from("10.0.0.1:1")),
        };
        Arc::new(Nodes::named(named.iter().map(member)))
    }

    #[test]
    fn between_two_looks_is_ten_times_as_long_as_one_takes() {
        for (took, least) in [(1, 120), (12, 120), (60, 600)] {
            assert_eq!(least_pause(Duration::from_secs(took)), Duration::from_secs(least));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_node_is_new_when_it_was_gone_not_when_its_pod_was() {
        let (sender, membership) = watch::channel(nodes(&[("a", true)]));
        let mut newcomers = Newcomers { membership, seen: HashSet::new() };
        let come = async |newcomers: &mut Newcomers| {
            tokio::time::timeout(Duration::from_secs(1), newcomers.come()).await.is_ok()
        };
        assert!(come(&mut newcomers).await);
        for (now, is_new) in [
            (nodes(&[("a", false)]), false),
            (nodes(&[("a", true)]), false),
            (nodes(&[("a", true), ("b", false)]), false),
            (nodes(&[("a", true), ("b", true)]), true),
            (nodes(&[("b", true)]), false),
            (nodes(&[("a", true), ("b", true)]), true),
        ] {
            sender.send_replace(Arc::clone(&now));
            assert_eq!(come(&mut newcomers).await, is_new, "{now:?}");
        }
    }
}
