//! A namespace of one test: what is in it, and that nothing of it stays.

use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::Installed;

/// For what a busy cluster does in seconds.
const LIMIT: Duration = Duration::from_mins(3);

/// A namespace of one test.
pub struct Namespace<'c> {
    installed: &'c Installed,
    name: String,
}

impl<'c> Namespace<'c> {
    /// Makes it.
    pub fn make(installed: &'c Installed, name: &str) -> Result<Self> {
        installed.kubectl(&["create", "namespace", name])?;
        let namespace = Self { installed, name: name.to_owned() };
        // Until then pods are refused.
        namespace.kubectl(&["wait", "--for=create", "serviceaccount/default", "--timeout=60s"])?;
        Ok(namespace)
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Runs kubectl in it, which must end well; answers with what it printed.
    pub fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        let mut words = vec!["--namespace", self.name.as_str()];
        words.extend(arguments);
        self.installed.kubectl(&words)
    }

    /// `kubectl apply` of objects into it.
    pub fn apply(&self, objects: &[Value]) -> Result<()> {
        let mut objects = objects.to_vec();
        for object in &mut objects {
            object["metadata"]["namespace"] = json!(self.name);
        }
        self.installed.apply(&objects)
    }

    /// An object of it, as `pod/name`.
    pub fn object(&self, object: &str) -> Result<Value> {
        self.installed.object(&["--namespace", &self.name, object])
    }

    /// Waits until an object is there and something holds for it, as kubectl's `--for` says it.
    pub fn wait(&self, object: &str, condition: &str) -> Result<()> {
        let (condition, limit) = (format!("--for={condition}"), format!("--timeout={}s", LIMIT.as_secs()));
        let words = ["--namespace", &self.name, "wait", object, &condition, &limit];
        let mut output = self.installed.cluster.kubectl(&words)?;
        if output.error_text().contains("NotFound") && condition != "--for=create" {
            self.wait(object, "create")?;
            output = self.installed.cluster.kubectl(&words)?;
        }
        output.checked().map(drop).with_context(|| self.installed.told())
    }

    /// Waits until the same holds for all objects of a kind that there are.
    pub fn wait_all(&self, kind: &str, condition: &str, limit: Duration) -> Result<()> {
        let (condition, limit) = (format!("--for={condition}"), format!("--timeout={}s", limit.as_secs()));
        self.kubectl(&["wait", kind, "--all", &condition, &limit]).map(drop).with_context(|| self.installed.told())
    }

    /// Waits until pods run and are ready.
    pub fn running(&self, pods: &[&str]) -> Result<()> {
        pods.iter().try_for_each(|pod| self.wait(&format!("pod/{pod}"), "condition=Ready"))
    }

    /// Waits until a claim has its volume; answers with the volume's name.
    pub fn bound(&self, claim: &str) -> Result<String> {
        self.wait(&format!("pvc/{claim}"), "jsonpath={.status.phase}=Bound")?;
        self.field(&format!("pvc/{claim}"), "{.spec.volumeName}")
    }

    /// Waits until an event about an object says something.
    pub fn event(&self, object: &str, words: &str) -> Result<String> {
        let field = format!("--field-selector=involvedObject.name={object}");
        let mut found = String::new();
        self.installed.wait(&format!("an event of {object} with {words:?}"), LIMIT, || {
            let said = self.kubectl(&["get", "events", &field, "--output=jsonpath={.items[*].message}"])?;
            found.clone_from(&said);
            Ok(said.contains(words))
        })?;
        Ok(found)
    }

    /// A field of an object, as a JSON path.
    pub fn field(&self, object: &str, path: &str) -> Result<String> {
        self.kubectl(&["get", object, &format!("--output=jsonpath={path}")])
    }

    /// The node that a pod is on.
    pub fn node_of(&self, pod: &str) -> Result<String> {
        self.field(&format!("pod/{pod}"), "{.spec.nodeName}")
    }

    /// Runs a shell script in a pod's first container, which must end well; answers with what it printed.
    pub fn exec(&self, pod: &str, script: &str) -> Result<String> {
        self.kubectl(&["exec", pod, "--", "sh", "-e", "-c", script])
    }

    /// Whether such a script ends well.
    pub fn can(&self, pod: &str, script: &str) -> Result<bool> {
        let words = ["--namespace", &self.name, "exec", pod, "--", "sh", "-e", "-c", script];
        Ok(self.installed.cluster.kubectl(&words)?.status.success())
    }

    /// Deletes objects and waits until they are gone.
    pub fn delete(&self, objects: &[&str]) -> Result<()> {
        let mut words = vec!["delete", "--timeout=180s"];
        words.extend(objects);
        self.kubectl(&words).map(drop).with_context(|| self.installed.told())
    }

    /// Deletes it with all that is in it, and waits until nothing of it is left in the API, nor on any worker: no volume,
    /// no logical volume, and so no mount, for what is mounted is not removed.
    pub fn leave(self) -> Result<()> {
        let limit = format!("--timeout={}s", LIMIT.as_secs());
        let deleted = self.installed.kubectl(&["delete", "namespace", &self.name, &limit]);
        deleted.with_context(|| self.installed.told())?;
        self.installed.wait(&format!("the volumes of {} go", self.name), LIMIT, || Ok(self.left()?.is_empty()))?;
        Ok(())
    }

    /// What there is of its claims' volumes, in words.
    pub fn left(&self) -> Result<Vec<String>> {
        let volumes = self.installed.list(&["pv"])?;
        let of_this = |volume: &&Value| volume["spec"]["claimRef"]["namespace"] == self.name.as_str();
        let mut left: Vec<String> =
            volumes.iter().filter(of_this).map(|volume| volume["metadata"]["name"].to_string()).collect();
        for worker in self.installed.cluster.workers() {
            left.extend(self.left_on(worker.name())?);
        }
        Ok(left)
    }

    fn left_on(&self, worker: &str) -> Result<Vec<String>> {
        // A volume that is being wiped is still there.
        let tag = format!("quarry.pvc={}/", self.name);
        let lines = self.installed.on(worker, "lvs --noheadings --options lv_name,lv_tags")?;
        let mine = lines.lines().filter(|line| line.contains(&tag));
        Ok(mine.map(|line| format!("{} on {worker}", line.trim())).collect())
    }
}
