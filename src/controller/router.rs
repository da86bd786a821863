//! From a volume or a node to a connection, and what is known of nodes that cannot be reached.

use std::collections::{HashMap, HashSet};
use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesOrdered;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

use super::connections::Connections;
use super::doubts::{Doubt, Doubts};
use super::forward::{Deadline, Failure, ServiceClient, forward};
use super::membership::{Member, Membership};
use crate::error::{Error, Result};
use crate::telemetry::ControllerGauges;

/// How many nodes are asked at the same time.
pub(super) const AT_ONCE: usize = 64;

/// Finds nodes and calls them.
pub struct Router {
    membership: Membership,
    connections: Connections,
    /// How long a node must be gone before its volumes count as gone with it.
    lost_after: Duration,
    missed: Mutex<HashMap<String, Instant>>,
    /// Nodes that did not answer to their last call.
    silent: Mutex<HashSet<String>>,
    in_flight: AtomicU64,
    /// Where volumes may be whose making had no answer.
    pub(super) doubts: Doubts,
}

/// One call under way; counted until it is dropped, be it that the caller gave up.
struct InFlight<'c>(&'c AtomicU64);

impl<'c> InFlight<'c> {
    fn new(count: &'c AtomicU64) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Router {
    /// Over these nodes.
    pub fn new(membership: Membership, connections: Connections, lost_after: Duration) -> Self {
        Self {
            membership,
            connections,
            lost_after,
            missed: Mutex::default(),
            silent: Mutex::default(),
            in_flight: AtomicU64::new(0),
            doubts: Doubts::default(),
        }
    }

    /// The nodes that there are, by their topology values. That none is known is no answer to anything.
    pub fn nodes(&self) -> Result<Vec<String>> {
        let nodes = self.membership.borrow();
        if nodes.is_known() && !nodes.is_empty() {
            return Ok(nodes.iter().map(|(node, _)| node.clone()).collect());
        }
        let problem = if nodes.is_known() { "no node is known" } else { "the nodes are not known yet" };
        Err(Error::Unavailable { problem: problem.to_owned() })
    }

    /// The name of a node that there is, by its topology value.
    pub(super) fn name(&self, node: &str) -> Option<String> {
        self.membership.borrow().get(node).map(|member| member.name.clone())
    }

    /// Keeps what is remembered of nodes true to which ones there are, until the stop.
    pub async fn follow(&self, stop: CancellationToken) {
        let mut membership = self.membership.clone();
        loop {
            let nodes = membership.borrow_and_update().clone();
            // One that is back, if only for a moment, has not been gone all the time.
            self.missed.lock().unwrap_or_else(PoisonError::into_inner).retain(|node, _| !nodes.exists(node));
            self.silent.lock().unwrap_or_else(PoisonError::into_inner).retain(|node| nodes.exists(node));
            match stop.run_until_cancelled(membership.changed()).await {
                Some(Ok(())) => {}
                Some(Err(_)) | None => return,
            }
        }
    }

    /// The connections, to be closed when idle.
    pub fn connections(&self) -> &Connections {
        &self.connections
    }

    /// Makes a call to a node.
    pub async fn call<K, Q, A, C, F>(&self, node: &str, deadline: Deadline, message: Q, call: C) -> Result<A, Status>
    where
        K: ServiceClient,
        C: FnOnce(K, Request<Q>) -> F,
        F: Future<Output = Result<Response<A>, Status>>,
    {
        self.attempt(node, deadline, message, call).await.map_err(Status::from)
    }

    /// The same for those who must know how it failed.
    pub(super) async fn attempt<K, Q, A, C, F>(
        &self,
        node: &str,
        deadline: Deadline,
        message: Q,
        call: C,
    ) -> Result<A, Failure>
    where
        K: ServiceClient,
        C: FnOnce(K, Request<Q>) -> F,
        F: Future<Output = Result<Response<A>, Status>>,
    {
        let member = self.membership.borrow().get(node).cloned();
        match member {
            Some(Member { address: Some(address), .. }) => {
                let _flight = InFlight::new(&self.in_flight);
                let answer = forward(node, self.connections.to(&address), deadline, message, call).await;
                let mut silent = self.silent.lock().unwrap_or_else(PoisonError::into_inner);
                match &answer {
                    Err(Failure::Unsent(_) | Failure::Unreachable(_)) => drop(silent.insert(node.to_owned())),
                    Err(Failure::Late(_)) => {}
                    Ok(_) | Err(Failure::Said(_)) => drop(silent.remove(node)),
                }
                drop(silent);
                answer
            }
            Some(Member { name, address: None }) => {
                Err(Failure::Unsent(format!("no quarry node runs on node {name} now")))
            }
            None => Err(Failure::Unsent(format!("there is no node {node:?} now, or no quarry node on it"))),
        }
    }

    /// Asks several nodes the same; the answers come in the order of the nodes.
    pub async fn ask<K, Q, A, C, F>(
        &self,
        nodes: &[String],
        deadline: Deadline,
        message: impl Fn(&str) -> Q,
        call: C,
    ) -> Vec<(String, Result<A, Status>)>
    where
        K: ServiceClient,
        C: Fn(K, Request<Q>) -> F,
        F: Future<Output = Result<Response<A>, Status>>,
    {
        let (mut rest, mut asking) = (nodes.iter(), FuturesOrdered::new());
        let mut answers = Vec::with_capacity(nodes.len());
        loop {
            // A call takes ten KiB, so each is made only when its turn comes.
            while asking.len() < AT_ONCE
                && let Some(node) = rest.next()
            {
                let answer = self.call(node, deadline, message(node), &call);
                asking.push_back(async move { (node.clone(), answer.await) });
            }
            match asking.next().await {
                Some(answer) => answers.push(answer),
                None => return answers,
            }
        }
    }

    /// How things are now.
    pub fn gauges(&self) -> ControllerGauges {
        let nodes = self.membership.borrow().clone();
        let silent = self.silent.lock().unwrap_or_else(PoisonError::into_inner);
        let is_reachable = |(node, member): &(&String, &Member)| member.address.is_some() && !silent.contains(*node);
        let count = |nodes: usize| u64::try_from(nodes).unwrap_or(u64::MAX);
        ControllerGauges {
            nodes: count(nodes.len()),
            nodes_reachable: count(nodes.iter().filter(is_reachable).count()),
            forwards_in_flight: self.in_flight.load(Ordering::Relaxed),
            ..ControllerGauges::default()
        }
    }

    /// Whether a node is gone for good, and its volumes with it: the list of nodes is known to be complete, and it has not
    /// been in it for some time.
    pub fn is_lost(&self, node: &str) -> bool {
        let nodes = self.membership.borrow().clone();
        let mut missed = self.missed.lock().unwrap_or_else(PoisonError::into_inner);
        if !nodes.is_complete() || nodes.exists(node) {
            missed.remove(node);
            return false;
        }
        let since = *missed.entry(node.to_owned()).or_insert_with(Instant::now);
        since.elapsed() >= self.lost_after
    }

    /// The node on which a volume of that name may have come to be, or may be coming to be just now.
    pub fn doubt(&self, name: &str) -> Option<String> {
        let Doubt { node, .. } = self.doubts.about(name)?;
        (!self.is_lost(&node)).then_some(node)
    }
}
