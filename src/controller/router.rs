//! From a volume or a node to a connection, and what is known of nodes that cannot be reached.

use std::collections::HashMap;
use std::future::Future;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use futures_util::{StreamExt, stream};
use tokio::time::Instant;
use tonic::{Request, Response, Status};

use super::connections::Connections;
use super::forward::{Client, Deadline, forward};
use super::membership::{Member, Membership};
use crate::error::{Error, Result};

/// How many nodes are asked at the same time.
pub(super) const AT_ONCE: usize = 64;
/// How long a volume whose making has an unknown end is remembered; callers try again within minutes.
const DOUBT: Duration = Duration::from_hours(1);

/// Finds nodes and calls them.
pub struct Router {
    membership: Membership,
    connections: Connections,
    /// How long a node must be gone before its volumes count as gone with it.
    lost_after: Duration,
    missed: Mutex<HashMap<String, Instant>>,
    doubts: Mutex<HashMap<String, (String, Instant)>>,
}

impl Router {
    /// Over these nodes.
    pub fn new(membership: Membership, connections: Connections, lost_after: Duration) -> Self {
        Self { membership, connections, lost_after, missed: Mutex::default(), doubts: Mutex::default() }
    }

    /// The nodes that there are, by their topology values.
    pub fn nodes(&self) -> Vec<String> {
        self.membership.borrow().iter().map(|(node, _)| node.clone()).collect()
    }

    /// The connections, to be closed when idle.
    pub fn connections(&self) -> &Connections {
        &self.connections
    }

    /// Makes a call to a node.
    pub async fn call<Q, A, C, F>(&self, node: &str, deadline: Deadline, message: Q, call: C) -> Result<A, Status>
    where
        C: FnOnce(Client, Request<Q>) -> F,
        F: Future<Output = Result<Response<A>, Status>>,
    {
        let member = self.membership.borrow().get(node).cloned();
        let unreachable = |problem: String| Err(Error::Unavailable { problem }.into());
        match member {
            Some(Member { address: Some(address), .. }) => {
                forward(node, self.connections.to(&address), deadline, message, call).await
            }
            Some(Member { name, address: None }) => unreachable(format!("no quarry node runs on node {name} now")),
            None => unreachable(format!("there is no node {node:?} now, or no quarry node on it")),
        }
    }

    /// Asks several nodes the same; the answers come in the order of the nodes.
    pub async fn ask<Q, A, C, F>(
        &self,
        nodes: &[String],
        deadline: Deadline,
        message: impl Fn(&str) -> Q,
        call: C,
    ) -> Vec<(String, Result<A, Status>)>
    where
        C: Fn(Client, Request<Q>) -> F,
        F: Future<Output = Result<Response<A>, Status>>,
    {
        let mut asking = Vec::with_capacity(nodes.len());
        for node in nodes {
            let answer = self.call(node, deadline, message(node), &call);
            asking.push(async move { (node.clone(), answer.await) });
        }
        stream::iter(asking).buffered(AT_ONCE).collect().await
    }

    /// Whether a node is gone for good, and its volumes with it: the list of nodes is known to be complete, and it has not
    /// been in it for some time.
    pub fn is_lost(&self, node: &str) -> bool {
        let nodes = self.membership.borrow().clone();
        let mut missed = self.missed.lock().unwrap_or_else(PoisonError::into_inner);
        if !nodes.is_complete || nodes.exists(node) {
            missed.remove(node);
            return false;
        }
        let since = *missed.entry(node.to_owned()).or_insert_with(Instant::now);
        since.elapsed() >= self.lost_after
    }

    /// Notes that a volume of that name may come to be on a node.
    pub fn may_be_on(&self, name: &str, node: &str) {
        let mut doubts = self.doubts.lock().unwrap_or_else(PoisonError::into_inner);
        doubts.retain(|_, (_, since)| since.elapsed() < DOUBT);
        doubts.insert(name.to_owned(), (node.to_owned(), Instant::now()));
    }

    /// Notes that it is known now what became of the volume of that name.
    pub fn is_certain(&self, name: &str) {
        self.doubts.lock().unwrap_or_else(PoisonError::into_inner).remove(name);
    }

    /// The node on which a volume of that name may have come to be.
    pub fn doubt(&self, name: &str) -> Option<String> {
        let doubts = self.doubts.lock().unwrap_or_else(PoisonError::into_inner);
        doubts.get(name).map(|(node, _)| node.clone())
    }
}
