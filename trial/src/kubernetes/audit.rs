//! What was asked of the API server, by whom and when: its audit log.

use std::fs;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result};
use quarry_lab::Cluster;
use serde::Deserialize;
use serde_json::Value;

/// One request that was answered.
#[derive(Debug, Clone)]
pub struct Entry {
    /// The user's name.
    pub user: String,
    /// What the program calls itself.
    pub agent: String,
    /// `create`, `update`, `patch`, `delete`, `get` and so on.
    pub verb: String,
    /// The kind of object in the plural, with its part if the request was about one: `pods/binding`.
    pub resource: String,
    /// The object's name; empty when it was not in the path.
    pub name: String,
    /// The object's namespace, if it has one.
    pub namespace: String,
    /// When it came in.
    pub received: SystemTime,
    /// When it was answered.
    pub answered: SystemTime,
    /// The HTTP status of the answer.
    pub code: u16,
}

impl Entry {
    /// Whether it was meant to change something.
    pub fn is_write(&self) -> bool {
        matches!(self.verb.as_str(), "create" | "update" | "patch" | "delete" | "deletecollection")
    }

    /// Whether it was done.
    pub fn succeeded(&self) -> bool {
        (200..300).contains(&self.code)
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Line {
    user: User,
    #[serde(default)]
    user_agent: String,
    verb: String,
    #[serde(default)]
    object_ref: Object,
    request_received_timestamp: String,
    stage_timestamp: String,
    #[serde(default)]
    response_status: Value,
}

#[derive(Deserialize)]
struct User {
    username: String,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Object {
    resource: String,
    subresource: String,
    name: String,
    namespace: String,
}

/// All requests up to now, in the order of their answers. The cluster must have been started with an audit log.
pub fn entries(cluster: &Cluster) -> Result<Vec<Entry>> {
    let path = cluster.audit_log()?;
    let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    // The last line may be under way.
    text.split_inclusive('\n').filter(|line| line.ends_with('\n')).map(entry).collect()
}

fn entry(line: &str) -> Result<Entry> {
    let line: Line = serde_json::from_str(line).context("not a line of an audit log")?;
    let Object { resource, subresource, name, namespace } = line.object_ref;
    let resource = if subresource.is_empty() { resource } else { format!("{resource}/{subresource}") };
    Ok(Entry {
        user: line.user.username,
        agent: line.user_agent,
        verb: line.verb,
        resource,
        name,
        namespace,
        received: time(&line.request_received_timestamp)?,
        answered: time(&line.stage_timestamp)?,
        code: line.response_status["code"].as_u64().and_then(|code| code.try_into().ok()).unwrap_or_default(),
    })
}

/// A time as Kubernetes, containerd and the driver's log write it.
pub fn time(text: &str) -> Result<SystemTime> {
    let parsed: jiff::Timestamp = text.parse().with_context(|| format!("{text:?} is no time"))?;
    Ok(SystemTime::UNIX_EPOCH + Duration::try_from(parsed.duration_since(jiff::Timestamp::UNIX_EPOCH))?)
}
