//! One thing that was looked at, and how it is told.

use serde::Serialize;
use serde_json::{Value, json};

use crate::commands::words::plain;

/// How it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Level {
    /// As it should be.
    Ok,
    /// The node works, but not all that it could do.
    Warn,
    /// The node does not work, or not for some volumes.
    Fail,
}

impl Level {
    fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Fail => "FAIL",
        }
    }
}

/// One thing that was looked at, with the keys of the JSON output.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Finding {
    pub(super) level: Level,
    /// What it is about, in one word.
    pub(super) area: &'static str,
    /// What was found.
    pub(super) found: String,
    /// What to do about it.
    pub(super) advice: Option<String>,
}

impl Finding {
    pub(super) fn ok(area: &'static str, found: impl Into<String>) -> Self {
        Self { level: Level::Ok, area, found: found.into(), advice: None }
    }

    pub(super) fn warn(area: &'static str, found: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { level: Level::Warn, area, found: found.into(), advice: Some(advice.into()) }
    }

    pub(super) fn fail(area: &'static str, found: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { level: Level::Fail, area, found: found.into(), advice: Some(advice.into()) }
    }

    /// Failed where it is needed, else worth a warning.
    pub(super) fn lacking(
        is_needed: bool,
        area: &'static str,
        found: impl Into<String>,
        advice: impl Into<String>,
    ) -> Self {
        if is_needed { Self::fail(area, found, advice) } else { Self::warn(area, found, advice) }
    }
}

/// A line each, what to do on a line of its own, and the sum.
pub(super) fn in_words(findings: &[Finding]) -> String {
    let area_width = findings.iter().map(|finding| finding.area.len()).max().unwrap_or(0);
    let mut lines = Vec::new();
    for Finding { level, area, found, advice } in findings {
        lines.push(format!("{:<4}  {area:<area_width$}  {}", level.word(), in_one_line(found)));
        lines.extend(advice.iter().map(|advice| format!("{:6}{:area_width$}  -> {}", "", "", in_one_line(advice))));
    }
    let count = |level| findings.iter().filter(|finding| finding.level == level).count();
    lines.push(format!("{} ok, {} warn, {} FAIL\n", count(Level::Ok), count(Level::Warn), count(Level::Fail)));
    lines.join("\n")
}

pub(super) fn as_json(findings: &[Finding]) -> Value {
    let is_ok = findings.iter().all(|finding| finding.level != Level::Fail);
    json!({ "ok": is_ok, "findings": findings })
}

/// What others wrote, such as an error of lvm in several lines, as one line.
fn in_one_line(text: &str) -> String {
    plain(&text.split_whitespace().collect::<Vec<_>>().join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings() -> Vec<Finding> {
        vec![
            Finding::ok("kernel", "device-mapper 4.50.0"),
            Finding::lacking(false, "tools", "no mkfs.btrfs", "install btrfs-progs"),
            Finding::lacking(true, "tools", "no\n  mkfs.xfs\u{7}", "install xfsprogs"),
        ]
    }

    #[test]
    fn people_get_a_line_each_with_what_to_do_and_the_sum() {
        let expected = "\
ok    kernel  device-mapper 4.50.0
warn  tools   no mkfs.btrfs
              -> install btrfs-progs
FAIL  tools   no mkfs.xfs\\u{7}
              -> install xfsprogs
1 ok, 1 warn, 1 FAIL
";
        assert_eq!(in_words(&findings()), expected);
    }

    #[test]
    fn programs_get_the_verdict_and_every_finding() {
        let json = as_json(&findings());
        assert_eq!(json["ok"], false);
        assert_eq!(
            json["findings"][1],
            json!({ "level": "warn", "area": "tools", "found": "no mkfs.btrfs", "advice": "install btrfs-progs" })
        );
        assert_eq!(as_json(&findings()[..2])["ok"], true);
    }
}
