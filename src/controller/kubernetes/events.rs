//! Events: what a person must know, where he looks at the object that it is about.
//!
//! Every replica writes them, none knows of the others. So an event's name follows from what it is about, and writing it is
//! one `apply`, which makes it or refreshes it: there is one, however many write it. As long as what it tells goes on it is
//! refreshed before the API server forgets it, which is after an hour; after that it is gone by itself.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use kube::api::{ObjectMeta, Patch, PatchParams};
use kube::{Api, Client};
use sha2::{Digest, Sha256};
use tokio::time::Instant;

use crate::lvm::names::hexadecimal;
use crate::lvm::tags::Claim;

/// Who writes them.
const WRITER: &str = "quarry-controller";
/// How long an event that says the same is not written again.
const FRESH_FOR: Duration = Duration::from_mins(50);
/// Where events about objects without a namespace lie.
const DEFAULT_NAMESPACE: &str = "default";
/// Longest message that the API takes, bytes.
const MESSAGE_LIMIT: usize = 1_024;

/// Writes events.
pub struct Events {
    client: Client,
    /// What was written last and when, by the event's name.
    told: Mutex<HashMap<String, (String, Instant)>>,
}

impl Events {
    /// None is written yet.
    pub fn new(client: Client) -> Self {
        Self { client, told: Mutex::default() }
    }

    /// Warns of something, unless that was just done. That it cannot be written is logged, and harms nothing.
    pub async fn warn(&self, about: ObjectReference, reason: &str, message: &str) {
        let event = event(about, reason, message);
        let name = event.metadata.name.clone().unwrap_or_default();
        if self.was_told(&name, message) {
            return;
        }
        let namespace = event.metadata.namespace.as_deref().unwrap_or(DEFAULT_NAMESPACE);
        let api = Api::<Event>::namespaced(self.client.clone(), namespace);
        let written = api.patch(&name, &PatchParams::apply(WRITER).force(), &Patch::Apply(&event)).await;
        match written {
            Ok(_) => {
                let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
                told.retain(|_, (_, when)| when.elapsed() < FRESH_FOR);
                told.insert(name, (message.to_owned(), Instant::now()));
            }
            Err(error) => {
                let object = event.involved_object.name.unwrap_or_default();
                tracing::warn!(%error, object, reason, message, "could not write an event");
            }
        }
    }

    fn was_told(&self, name: &str, message: &str) -> bool {
        let told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        told.get(name).is_some_and(|(said, when)| said == message && when.elapsed() < FRESH_FOR)
    }
}

fn event(about: ObjectReference, reason: &str, message: &str) -> Event {
    let key = [&about.kind, &about.namespace, &about.name, &about.uid].map(|part| part.as_deref().unwrap_or_default());
    let hash = hexadecimal(&Sha256::digest([&key[..], &[reason]].concat().join("\n"))[..8]);
    let now = Time(Timestamp::now());
    Event {
        metadata: ObjectMeta {
            name: Some(format!("quarry.{hash}")),
            namespace: Some(about.namespace.clone().unwrap_or_else(|| String::from(DEFAULT_NAMESPACE))),
            ..ObjectMeta::default()
        },
        involved_object: about,
        type_: Some(String::from("Warning")),
        reason: Some(reason.to_owned()),
        message: Some(message[..message.floor_char_boundary(MESSAGE_LIMIT)].to_owned()),
        source: Some(EventSource { component: Some(String::from(WRITER)), ..EventSource::default() }),
        reporting_component: Some(String::from(WRITER)),
        count: Some(1),
        first_timestamp: Some(now.clone()),
        last_timestamp: Some(now),
        ..Event::default()
    }
}

/// A node, as kubectl looks for its events.
pub fn node(name: &str) -> ObjectReference {
    object("Node", name, None, Some(name.to_owned()))
}

/// A claim.
pub fn claim(claim: &Claim, uid: Option<String>) -> ObjectReference {
    object("PersistentVolumeClaim", &claim.name, Some(claim.namespace.clone()), uid)
}

/// A `PersistentVolume`.
pub fn persistent_volume(name: &str) -> ObjectReference {
    object("PersistentVolume", name, None, None)
}

fn object(kind: &str, name: &str, namespace: Option<String>, uid: Option<String>) -> ObjectReference {
    let [version, kind, name] = ["v1", kind, name].map(|word| Some(word.to_owned()));
    ObjectReference { api_version: version, kind, name, namespace, uid, ..ObjectReference::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_event_for_each_object_and_reason_in_the_namespace_of_the_object() {
        let name = |about, reason: &str, message: &str| {
            let metadata = event(about, reason, message).metadata;
            (metadata.namespace.unwrap(), metadata.name.unwrap())
        };
        let data = Claim { namespace: String::from("shop"), name: String::from("data") };
        let of_claim = |uid: &str| claim(&data, Some(uid.to_owned()));
        let first = name(of_claim("u"), "Sick", "a");
        assert_eq!(first.0, "shop");
        assert_eq!(first, name(of_claim("u"), "Sick", "b"));
        assert_ne!(first, name(of_claim("u"), "Other", "a"));
        assert_ne!(first, name(of_claim("v"), "Sick", "a"));
        assert_eq!(name(node("n1"), "Sick", "a").0, "default");
    }

    #[test]
    fn a_long_message_is_cut_at_a_character() {
        let long = event(node("n1"), "Sick", &"ä".repeat(1_000)).message.unwrap();
        assert_eq!(long, "ä".repeat(512));
    }
}
