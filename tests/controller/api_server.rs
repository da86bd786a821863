//! An API server in memory, as far as a look at all volumes asks it.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use kube::Client;
use kube::client::Body;
use serde_json::{Value, json};
use tonic::codegen::http::{Method, Request, Response};
use tower::service_fn;

use crate::cluster::DRIVER;

/// What it knows.
#[derive(Default)]
pub(crate) struct Objects {
    /// Names of `PersistentVolumes`, and the volumes that they name.
    pub(crate) volumes: BTreeMap<String, String>,
    /// Those that lists do not have yet.
    pub(crate) late: BTreeMap<String, String>,
    /// Claims of the namespace `shop` and their uids; each is bound to the `PersistentVolume` `pvc-UID`.
    pub(crate) claims: BTreeMap<String, String>,
    /// Events by their names.
    pub(crate) events: BTreeMap<String, Value>,
    /// How many times one was written.
    pub(crate) writes: usize,
    /// Whether it refuses to write events.
    pub(crate) refuses: bool,
}

impl Objects {
    fn volume(&self, name: &str, handle: &str) -> Value {
        let is_bound = |uid: &&String| format!("pvc-{uid}") == name;
        let claim =
            self.claims.iter().find(|(_, uid)| is_bound(uid)).map(
                |(name, uid)| json!({"kind": "PersistentVolumeClaim", "namespace": "shop", "name": name, "uid": uid}),
            );
        json!({"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": name},
               "spec": {"csi": {"driver": DRIVER, "volumeHandle": handle}, "claimRef": claim}})
    }

    fn answer(&mut self, method: &Method, path: &str, body: &Value) -> (u16, Value) {
        let list =
            |items: Vec<Value>| (200, json!({"apiVersion": "v1", "kind": "List", "metadata": {}, "items": items}));
        let claim = |name: &String, uid: &String| {
            json!({"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata",
                   "metadata": {"name": name, "namespace": "shop", "uid": uid}})
        };
        let missing = || {
            (
                404,
                json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": "none", "reason": "NotFound", "code": 404}),
            )
        };
        let words: Vec<&str> = path.trim_start_matches("/api/v1/").split('/').collect();
        match (method, words.as_slice()) {
            (&Method::GET, ["persistentvolumes"]) => {
                list(self.volumes.iter().map(|(name, handle)| self.volume(name, handle)).collect())
            }
            (&Method::GET, ["persistentvolumes", name]) => {
                let handle = self.volumes.get(*name).or_else(|| self.late.get(*name));
                handle.map_or_else(missing, |handle| (200, self.volume(name, handle)))
            }
            (&Method::GET, ["persistentvolumeclaims"]) => {
                list(self.claims.iter().map(|(name, uid)| claim(name, uid)).collect())
            }
            (&Method::GET, ["namespaces", "shop", "persistentvolumeclaims", name]) => {
                let found = self.claims.get_key_value(*name);
                found.map_or_else(missing, |(name, uid)| (200, claim(name, uid)))
            }
            (&Method::PATCH, ["namespaces", _, "events", _]) if self.refuses => (
                403,
                json!({"kind": "Status", "status": "Failure", "message": "no", "reason": "Forbidden", "code": 403}),
            ),
            (&Method::PATCH, ["namespaces", _, "events", name]) => {
                self.writes += 1;
                self.events.insert((*name).to_owned(), body.clone());
                (200, body.clone())
            }
            other => panic!("nobody should ask for {other:?}"),
        }
    }
}

/// A client of an API server that knows these objects.
pub(crate) fn client(objects: &Arc<Mutex<Objects>>) -> Client {
    let objects = Arc::clone(objects);
    let service = service_fn(move |request: Request<Body>| {
        let objects = Arc::clone(&objects);
        async move {
            let (head, body) = request.into_parts();
            let body = serde_json::from_slice(&body.collect_bytes().await.unwrap()).unwrap_or_default();
            let (status, answer) = objects.lock().unwrap().answer(&head.method, head.uri.path(), &body);
            let answer = Response::builder().status(status).body(Body::from(answer.to_string().into_bytes()));
            Ok::<_, Infallible>(answer.unwrap())
        }
    });
    Client::new(service, "default")
}
