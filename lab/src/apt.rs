//! Finds the Debian mirror in the machine's own apt sources, so that the lab downloads from where the machine is meant
//! to download and no address is written down in the code.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};

/// The mirror of the Debian main archive that apt of this machine uses.
pub(crate) fn mirror(etc_apt: &Path) -> Result<String> {
    let mut files = vec![etc_apt.join("sources.list")];
    if let Ok(entries) = fs::read_dir(etc_apt.join("sources.list.d")) {
        let mut parts: Vec<_> = entries.filter_map(Result::ok).map(|entry| entry.path()).collect();
        parts.sort();
        files.extend(parts);
    }
    let mut found = Vec::new();
    for file in files {
        let Ok(text) = fs::read_to_string(&file) else {
            continue;
        };
        match file.extension().and_then(|extension| extension.to_str()) {
            Some("list") => found.extend(one_line(&text)),
            Some("sources") => found.extend(deb822(&text)),
            _ => {}
        }
    }
    if found.is_empty() {
        bail!(
            "no apt source for Debian in {}: add one, it tells where the guest's system comes from",
            etc_apt.display()
        );
    }
    found.into_iter().find(Source::is_archive).map(|source| source.uri).with_context(|| {
        format!(
            "none of the apt sources in {} is a Debian archive (component main, no security suite)",
            etc_apt.display()
        )
    })
}

#[derive(Debug, PartialEq, Eq)]
struct Source {
    uri: String,
    suites: Vec<String>,
    components: Vec<String>,
}

impl Source {
    /// The main archive: other vendors use the component `main` too, but only Debian's own is laid out as `…/debian`.
    fn is_archive(&self) -> bool {
        self.components.iter().any(|component| component == "main")
            && self.uri.trim_end_matches('/').ends_with("/debian")
            && !self.suites.iter().any(|suite| suite.contains("security"))
    }
}

fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

/// `deb [options] uri suite component…`
fn one_line(text: &str) -> Vec<Source> {
    let mut sources = Vec::new();
    for line in text.lines() {
        let line = line.split('#').next().unwrap_or_default().trim();
        let Some(rest) = line.strip_prefix("deb ").or_else(|| line.strip_prefix("deb\t")) else {
            continue;
        };
        let rest = rest.trim_start();
        let rest = match rest.strip_prefix('[') {
            Some(options) => options.split_once(']').map_or("", |(_, after)| after),
            None => rest,
        };
        let mut rest = words(rest).into_iter();
        let (Some(uri), Some(suite)) = (rest.next(), rest.next()) else {
            continue;
        };
        sources.push(Source { uri, suites: vec![suite], components: rest.collect() });
    }
    sources
}

/// Paragraphs of `Types:`, `URIs:`, `Suites:`, `Components:` with continuation lines.
fn deb822(text: &str) -> Vec<Source> {
    let text: String =
        text.lines().filter(|line| !line.starts_with('#')).fold(String::new(), |all, line| all + line + "\n");
    let mut sources = Vec::new();
    for paragraph in text.split("\n\n") {
        let mut fields: Vec<(String, String)> = Vec::new();
        for line in paragraph.lines() {
            if line.starts_with([' ', '\t']) {
                if let Some((_, value)) = fields.last_mut() {
                    *value = format!("{value} {}", line.trim());
                }
            } else if let Some((name, value)) = line.split_once(':') {
                fields.push((name.trim().to_lowercase(), value.trim().to_owned()));
            }
        }
        let field =
            |name: &str| fields.iter().find(|(key, _)| key == name).map(|(_, value)| words(value)).unwrap_or_default();
        let disabled = field("enabled").iter().any(|value| value == "no");
        if disabled || !field("types").iter().any(|kind| kind == "deb") {
            continue;
        }
        for uri in field("uris") {
            sources.push(Source { uri, suites: field("suites"), components: field("components") });
        }
    }
    sources
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_paragraph_with_comments_and_continuations_is_read() {
        let text = "Types: deb\n# an old snapshot\nURIs: http://mirror.example/debian\nSuites: bookworm\n bookworm-updates\n\
                    Components: main\n\nTypes: deb\nURIs: http://mirror.example/debian-security\nSuites: bookworm-security\n\
                    Components: main\n";
        let sources = deb822(text);
        assert_eq!(sources.len(), 2);
        assert_eq!(sources[0].suites, ["bookworm", "bookworm-updates"]);
        assert!(sources[0].is_archive());
        assert!(!sources[1].is_archive());
    }

    #[test]
    fn a_disabled_paragraph_is_skipped() {
        assert!(
            deb822("Enabled: no\nTypes: deb\nURIs: http://mirror.example/debian\nSuites: sid\nComponents: main\n")
                .is_empty()
        );
    }

    #[test]
    fn a_line_with_options_is_read_and_source_packages_are_not() {
        let text = "# deb http://old.example/debian sid main\n\
                    deb [arch=amd64 signed-by=/x.gpg] http://mirror.example/debian/ trixie main contrib # note\n\
                    deb-src http://mirror.example/debian trixie main\n";
        let sources = one_line(text);
        assert_eq!(sources.len(), 1);
        assert_eq!(sources[0].uri, "http://mirror.example/debian/");
        assert_eq!(sources[0].components, ["main", "contrib"]);
    }

    #[test]
    fn another_vendors_source_is_never_taken_for_the_archive() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("sources.list"), "deb https://cloud.example/apt sdk main\n").unwrap();
        assert!(mirror(folder.path()).is_err());
        fs::create_dir(folder.path().join("sources.list.d")).unwrap();
        let own = "Types: deb\nURIs: http://mirror.example/debian\nSuites: bookworm\nComponents: main\n";
        fs::write(folder.path().join("sources.list.d/debian.sources"), own).unwrap();
        assert_eq!(mirror(folder.path()).unwrap(), "http://mirror.example/debian");
    }
}
