//! The two Secrets that hold what mutual TLS needs. The controllers, of which there may be several, make and renew it
//! there; a Secret that was changed meanwhile is read again instead of overwritten.
//!
//! The controller's own holds the authorities with their keys, which no node must see; the nodes' is mounted by them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::Context;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::api::PostParams;
use kube::{Api, Client};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::tls::InForce;
use crate::tls::authority::{Keyring, Lifetimes, Pair, renewed};
use crate::tls::material::Material;

/// The controller's own Secret.
pub const CONTROLLER: &str = "quarry-controller-tls";
/// The Secret that nodes mount.
pub const NODE: &str = "quarry-node-tls";
/// The names of the parts: what is trusted, the keys of the authorities in the same order, what is shown, its key.
const TRUSTED: &str = "ca.crt";
const AUTHORITY_KEYS: &str = "ca.key";
const SHOWN: &str = "tls.crt";
const KEY: &str = "tls.key";
/// How often the Secrets are looked at.
const EVERY: Duration = Duration::from_mins(1);
/// The same while nothing is in force, or a look failed.
const SOON: Duration = Duration::from_secs(2);

/// Keeps the Secrets as they must be until the stop; what is in force for the controller follows.
pub fn keep(client: Client, namespace: &str, driver: String, lifetimes: Lifetimes, stop: CancellationToken) -> InForce {
    let secrets = Api::namespaced(client, namespace);
    let (sender, receiver) = watch::channel(None);
    // Those of seconds, in tests, must be looked at more often.
    let every = EVERY.min(lifetimes.leaf / 20);
    tokio::spawn(async move {
        let mut known = Keyring::default();
        loop {
            let pause = match look(&secrets, &driver, &lifetimes).await {
                Ok(ring) => {
                    if ring != known {
                        known = show(ring, &sender);
                    }
                    every
                }
                Err(error) => {
                    tracing::warn!(error = format!("{error:#}"), "could not look after the certificates; trying again");
                    SOON.min(every)
                }
            };
            if stop.run_until_cancelled(tokio::time::sleep(pause)).await.is_none() {
                return;
            }
        }
    });
    receiver
}

fn show(ring: Keyring, sender: &watch::Sender<Option<Arc<Material>>>) -> Keyring {
    let (trusted, shown) = (ring.trusted(), &ring.controller);
    match Material::parse(trusted.as_bytes(), shown.certificate.as_bytes(), shown.key.as_bytes()) {
        Ok(material) => {
            tracing::info!("certificates are in force");
            sender.send_replace(Some(Arc::new(material)));
            ring
        }
        Err(error) => {
            tracing::error!(%error, "certificates cannot be used; trying again");
            Keyring::default()
        }
    }
}

/// Reads both Secrets and writes those that are not as they must be now.
async fn look(secrets: &Api<Secret>, driver: &str, lifetimes: &Lifetimes) -> anyhow::Result<Keyring> {
    let (controller, node) = (get(secrets, CONTROLLER).await?, get(secrets, NODE).await?);
    let before = keyring(&controller, &node);
    let now = renewed(&before, driver, lifetimes, SystemTime::now()).context("could not make certificates")?;
    // First where the keys of the authorities are kept: another controller that has read this one cannot be told
    // otherwise by the second.
    replace(secrets, CONTROLLER, controller, of_controller(&now)).await?;
    replace(secrets, NODE, node, of_node(&now)).await?;
    Ok(now)
}

async fn get(secrets: &Api<Secret>, name: &str) -> anyhow::Result<Secret> {
    let found = secrets.get_opt(name).await.with_context(|| format!("could not read Secret {name}"))?;
    found.with_context(|| format!("there is no Secret {name}; the manifests make it, empty: apply them again"))
}

async fn replace(
    secrets: &Api<Secret>,
    name: &str,
    mut secret: Secret,
    data: BTreeMap<String, ByteString>,
) -> anyhow::Result<()> {
    if secret.data.as_ref() == Some(&data) {
        return Ok(());
    }
    secret.data = Some(data);
    // With the version that was read, so that it fails if somebody was quicker.
    let replaced = secrets.replace(name, &PostParams::default(), &secret).await;
    replaced.with_context(|| format!("could not write Secret {name}"))?;
    tracing::info!(secret = name, "wrote new certificates");
    Ok(())
}

fn keyring(controller: &Secret, node: &Secret) -> Keyring {
    let shown = |secret| Pair { certificate: text(secret, SHOWN), key: text(secret, KEY) };
    let (trusted, keys) = (text(controller, TRUSTED), text(controller, AUTHORITY_KEYS));
    Keyring::new(&trusted, &keys, &text(node, TRUSTED), shown(controller), shown(node))
}

fn text(secret: &Secret, part: &str) -> String {
    let bytes = secret.data.as_ref().and_then(|data| data.get(part));
    bytes.map(|bytes| String::from_utf8_lossy(&bytes.0).into_owned()).unwrap_or_default()
}

fn of_controller(ring: &Keyring) -> BTreeMap<String, ByteString> {
    let mut data = shown(ring, &ring.controller);
    data.insert(AUTHORITY_KEYS.to_owned(), ByteString(ring.authority_keys().into_bytes()));
    data
}

fn of_node(ring: &Keyring) -> BTreeMap<String, ByteString> {
    shown(ring, &ring.node)
}

fn shown(ring: &Keyring, pair: &Pair) -> BTreeMap<String, ByteString> {
    let parts = [(TRUSTED, ring.trusted()), (SHOWN, pair.certificate.clone()), (KEY, pair.key.clone())];
    parts.into_iter().map(|(name, text)| (name.to_owned(), ByteString(text.into_bytes()))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const DRIVER: &str = "lvm.quarry.storage";

    fn ring_of(before: &Keyring, minutes: u64) -> Keyring {
        let now = SystemTime::UNIX_EPOCH + Duration::from_hours(500_000) + Duration::from_mins(minutes);
        let lifetimes = Lifetimes {
            authority: Duration::from_hours(1),
            leaf: Duration::from_mins(30),
            spread: Duration::from_mins(5),
        };
        renewed(before, DRIVER, &lifetimes, now).unwrap()
    }

    fn secret(data: BTreeMap<String, ByteString>) -> Secret {
        Secret { data: Some(data), ..Secret::default() }
    }

    #[test]
    fn what_is_written_reads_back_the_same_also_with_two_authorities() {
        let mut ring = ring_of(&Keyring::default(), 0);
        for minutes in [41, 42] {
            assert_eq!(keyring(&secret(of_controller(&ring)), &secret(of_node(&ring))), ring);
            ring = ring_of(&ring, minutes);
        }
        assert_eq!(ring.authorities.len(), 2);
        assert_eq!(keyring(&Secret::default(), &Secret::default()), Keyring::default());
    }

    #[test]
    fn what_nodes_trust_is_read_from_their_own_secret() {
        let before = ring_of(&Keyring::default(), 0);
        let with_new = ring_of(&before, 41);
        // A controller wrote its own Secret, and ended.
        let read = keyring(&secret(of_controller(&with_new)), &secret(of_node(&before)));
        assert_eq!(read.authorities, with_new.authorities);
        assert_eq!(read.trusted_by_nodes, before.trusted_by_nodes);
    }

    #[test]
    fn nodes_get_no_key_of_an_authority() {
        let ring = ring_of(&Keyring::default(), 0);
        let parts: Vec<String> = of_node(&ring).into_keys().collect();
        assert_eq!(parts, ["ca.crt", "tls.crt", "tls.key"]);
        let key = ring.authorities[0].key.as_bytes();
        assert!(of_node(&ring).values().all(|part| part.0 != key));
    }
}
