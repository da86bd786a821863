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
    /// Those that come when the `PersistentVolumes` have been listed once more.
    pub(crate) late: BTreeMap<String, String>,
    /// Claims of the namespace `shop` and their uids; each is bound to the `PersistentVolume` `pvc-UID`.
    pub(crate) claims: BTreeMap<String, String>,
    /// Where claims of the namespace `shop` are to go.
    pub(crate) selected: BTreeMap<String, String>,
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

    fn answer(&mut self, method: &Method, path: &str, query: &str, body: &Value) -> (u16, Value) {
        // In pages of one, whatever the request allows.
        let first = form(query, "continue").and_then(|token| token.parse().ok()).unwrap_or(0);
        let list = |items: Vec<Value>| {
            let next = (first + 1 < items.len()).then(|| (first + 1).to_string());
            let page: Vec<Value> = items.into_iter().skip(first).take(1).collect();
            (200, json!({"apiVersion": "v1", "kind": "List", "metadata": {"continue": next}, "items": page}))
        };
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
                let page = list(self.volumes.iter().map(|(name, handle)| self.volume(name, handle)).collect());
                if page.1["metadata"]["continue"].is_null() {
                    self.volumes.append(&mut self.late);
                }
                page
            }
            (&Method::GET, ["persistentvolumes", name]) => {
                let handle = self.volumes.get(*name);
                handle.map_or_else(missing, |handle| (200, self.volume(name, handle)))
            }
            (&Method::GET, ["persistentvolumeclaims"]) => {
                list(self.claims.iter().map(|(name, uid)| claim(name, uid)).collect())
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
            (&Method::PATCH, ["namespaces", "shop", "persistentvolumeclaims", name]) => {
                let Some(uid) = self.claims.get(*name) else { return missing() };
                let value = |index: usize| body[index]["value"].as_str().unwrap_or_default();
                let selected = self.selected.get(*name).map(String::as_str);
                let operations = ["test", "test", "replace"].map(Value::from);
                assert!(
                    operations.iter().enumerate().all(|(index, operation)| body[index]["op"] == *operation),
                    "{body}"
                );
                if (value(0), Some(value(1))) != (uid.as_str(), selected) {
                    let refusal = json!({"kind": "Status", "status": "Failure", "message": "test", "code": 422});
                    return (422, refusal);
                }
                let answer = claim(&(*name).to_owned(), uid);
                self.selected.insert((*name).to_owned(), value(2).to_owned());
                (200, answer)
            }
            other => panic!("nobody should ask for {other:?}"),
        }
    }
}

/// The value of a key in a query.
fn form<'q>(query: &'q str, key: &str) -> Option<&'q str> {
    query.split('&').find_map(|pair| pair.split_once('=').filter(|(found, _)| *found == key)).map(|(_, value)| value)
}

/// A client of an API server that knows these objects.
pub(crate) fn client(objects: &Arc<Mutex<Objects>>) -> Client {
    let objects = Arc::clone(objects);
    let service = service_fn(move |request: Request<Body>| {
        let objects = Arc::clone(&objects);
        async move {
            let (head, body) = request.into_parts();
            let body = serde_json::from_slice(&body.collect_bytes().await.unwrap()).unwrap_or_default();
            let (status, answer) = objects.lock().unwrap().answer(
                &head.method,
                head.uri.path(),
                head.uri.query().unwrap_or_default(),
                &body,
            );
            let answer = Response::builder().status(status).body(Body::from(answer.to_string().into_bytes()));
            Ok::<_, Infallible>(answer.unwrap())
        }
    });
    Client::new(service, "default")
}
