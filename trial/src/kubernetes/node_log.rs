//! What a node's log says of its calls.

use std::time::{Duration, SystemTime};

use anyhow::{Context, Result};

use super::audit::time;
use super::{Installed, NAMESPACE};

/// A call that went well.
#[derive(Debug, Clone)]
pub struct Done {
    /// As `NodeStageVolume`.
    pub method: String,
    /// The id of the volume, or its name when it was made.
    pub subject: String,
    /// When it began, to the millisecond.
    pub began: SystemTime,
    /// When it ended.
    pub ended: SystemTime,
}

impl Installed {
    /// The calls that went well on a node since its pod started, in the order of their ends.
    pub fn done_on(&self, worker: &str) -> Result<Vec<Done>> {
        let log = self.kubectl(&["-n", NAMESPACE, "logs", &self.node_pod(worker)?, "--container=quarry"])?;
        log.lines().filter(|line| line.contains("call{method=") && line.contains(": done ")).map(done).collect()
    }
}

fn done(line: &str) -> Result<Done> {
    let after = |mark: &str| {
        let (_, rest) = line.split_once(mark)?;
        let end = rest.find(|end: char| end.is_whitespace() || end == '}').unwrap_or(rest.len());
        Some(rest[..end].trim_matches('"'))
    };
    let parse = || {
        let ended = time(line.split_whitespace().next()?).ok()?;
        let seconds: f64 = after("seconds=")?.parse().ok()?;
        let (method, subject) =
            (after("method=")?.trim_matches('"').to_owned(), after("subject=").unwrap_or_default().to_owned());
        Some(Done { method, subject, began: ended - Duration::from_secs_f64(seconds), ended })
    };
    parse().with_context(|| format!("not a line about a call: {line}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_about_a_call_is_read() {
        let line = "2026-11-26T00:00:01.250000Z  INFO call{method=\"CreateVolume\" number=3 subject=\"pvc-1\"}: quarry::csi::observe: done seconds=0.25";
        let done = done(line).unwrap();
        assert_eq!((done.method.as_str(), done.subject.as_str()), ("CreateVolume", "pvc-1"));
        assert_eq!(done.ended.duration_since(done.began).unwrap(), Duration::from_millis(250));
    }
}
