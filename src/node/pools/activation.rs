//! Activating the pools: one is to be active while the node lives.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use crate::error::{Error, Result};
use crate::node::Node;

/// Which pools were activated, by the UUIDs of their devices, and why others could not be.
#[derive(Debug, Default)]
pub struct Activations(Mutex<HashMap<String, Result<(), String>>>);

impl Activations {
    fn of(&self, pool: &str) -> Option<Result<(), String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(pool).cloned()
    }

    fn note(&self, pool: &str, outcome: Result<(), String>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(pool.to_owned(), outcome);
    }
}

impl Node {
    /// Activates a pool, if this process has not done so yet: one that an administrator deactivates later stays so.
    pub(super) async fn activate_once(&self, group: &str, pool: &str, uuid: &str) -> Result<()> {
        if self.activations.of(uuid).is_some_and(|outcome| outcome.is_ok()) {
            return Ok(());
        }
        let outcome = self.activate_pool(group, pool).await;
        if outcome.is_ok() {
            self.release_left_metadata_of(uuid).await;
        }
        self.activations.note(uuid, outcome.as_ref().copied().map_err(ToString::to_string));
        outcome
    }

    /// Why the pool with the device of that UUID could not be activated when that was tried last.
    pub(super) fn why_not_activated(&self, uuid: &str) -> Option<String> {
        self.activations.of(uuid)?.err()
    }

    /// Whether the pool was active since this process runs.
    pub(super) fn was_activated(&self, uuid: &str) -> bool {
        self.activations.of(uuid).is_some_and(|outcome| outcome.is_ok())
    }

    async fn activate_pool(&self, group: &str, name: &str) -> Result<()> {
        let turn = self.writer.turn(group).await;
        let view = self.groups.read().await?;
        let found = view.logical_volume_in(group, name);
        let gone = || Error::Unavailable { problem: format!("{group}/{name} was there, but is not now") };
        let (group, pool) = found.ok_or_else(gone)?;
        self.active_pool_status(&turn, group, pool).await?;
        self.keep_running(&turn, group, pool).await
    }
}
