//! `quarry certificates`: makes and renews the certificates of a controller and its nodes in a folder, for machines
//! without Kubernetes. Run now and then (cron, a timer), it renews what is due and leaves the rest alone.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::time::{Duration, SystemTime};

use anyhow::Context;

use crate::config::flags::CertificatesFlags;
use crate::tls::Role;
use crate::tls::authority::{Keyring, Lifetimes, Pair, renewed};
use crate::tls::folder::FILES;

/// The authorities, each its certificate and its key, in one file: they are worth nothing without each other. It stays
/// where this command runs.
const AUTHORITIES: &str = "authority/authorities.pem";

/// A file in the folder, and what it holds.
type Content = (String, String);

/// Writes what is due.
pub fn run(flags: &CertificatesFlags, out: &mut impl Write) -> anyhow::Result<()> {
    let folder = &flags.folder;
    let due = due(folder, flags.driver_name.as_str(), SystemTime::now())?;
    if due.is_empty() {
        writeln!(out, "the certificates in {} are as they should be", folder.display())?;
        return Ok(());
    }
    for content in &due {
        replace(folder, content)?;
    }
    writeln!(out, "new certificates are in {}:", folder.display())?;
    writeln!(out, "  controller/  for the controller: quarry controller --tls-folder")?;
    writeln!(out, "  node/        for every node: quarry node --tls-folder")?;
    writeln!(out, "  authority/   stays here: who has it can make himself controller")?;
    Ok(())
}

/// What must be written, in this order. If it ends in between, the next run finds the rest due.
fn due(folder: &Path, driver: &str, now: SystemTime) -> anyhow::Result<Vec<Content>> {
    // A person brings the folders to the machines.
    let lifetimes = Lifetimes { spread: Duration::from_hours(14 * 24), ..Lifetimes::default() };
    let ring = renewed(&keyring(folder)?, driver, &lifetimes, now)?;
    let mut due = Vec::new();
    for (name, text) in contents(&ring) {
        if read(folder, &name)? != text {
            due.push((name, text));
        }
    }
    Ok(due)
}

fn read(folder: &Path, name: &str) -> anyhow::Result<String> {
    match fs::read_to_string(folder.join(name)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
        text => text.with_context(|| format!("could not read {}", folder.join(name).display())),
    }
}

fn keyring(folder: &Path) -> anyhow::Result<Keyring> {
    let text = |name: &str| read(folder, name);
    let shown = |role: Role| -> anyhow::Result<Pair> {
        let [_, certificate, key] = names(role);
        Ok(Pair { certificate: text(&certificate)?, key: text(&key)? })
    };
    let [trusted_by_nodes, ..] = names(Role::Node);
    let (authorities, trusted_by_nodes) = (text(AUTHORITIES)?, text(&trusted_by_nodes)?);
    Ok(Keyring::new(&authorities, &authorities, &trusted_by_nodes, shown(Role::Controller)?, shown(Role::Node)?))
}

/// First the authorities: what they signed is worth nothing without them.
fn contents(ring: &Keyring) -> Vec<Content> {
    let authorities = ring.authorities.iter().map(|authority| format!("{}{}", authority.certificate, authority.key));
    let mut contents = vec![(AUTHORITIES.to_owned(), authorities.collect())];
    for (role, pair) in [(Role::Controller, &ring.controller), (Role::Node, &ring.node)] {
        contents.extend(names(role).into_iter().zip([ring.trusted(), pair.certificate.clone(), pair.key.clone()]));
    }
    contents
}

/// The files of a role.
fn names(role: Role) -> [String; 3] {
    FILES.map(|file| format!("{}/{file}", role.word()))
}

/// Writes a file in one step, for its owner only.
fn replace(folder: &Path, (name, text): &Content) -> anyhow::Result<()> {
    let path = folder.join(name);
    let new = path.with_extension("new");
    let written = || -> io::Result<()> {
        let parent = path.parent().unwrap_or(folder);
        fs::DirBuilder::new().recursive(true).mode(0o700).create(parent)?;
        let mut file = File::options().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&new, &path)?;
        File::open(parent)?.sync_all()
    };
    written().with_context(|| format!("could not write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::tls::material::Material;

    fn run_in(folder: &Path) -> String {
        let flags = CertificatesFlags { folder: folder.to_owned(), driver_name: "lvm.quarry.storage".parse().unwrap() };
        let mut out = Vec::new();
        run(&flags, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_second_run_changes_nothing_and_a_lost_file_is_made_anew() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().join("pki");
        assert!(run_in(&folder).contains("new certificates"));
        let first = keyring(&folder).unwrap();
        assert!(run_in(&folder).contains("as they should be"));
        assert_eq!(keyring(&folder).unwrap(), first);
        fs::remove_file(folder.join("node/tls.key")).unwrap();
        assert!(run_in(&folder).contains("new certificates"));
        let mended = keyring(&folder).unwrap();
        assert_eq!((&mended.authorities, &mended.controller), (&first.authorities, &first.controller));
        assert_ne!(mended.node, first.node);
    }

    #[test]
    fn keys_are_for_their_owner_only() {
        let folder = tempfile::tempdir().unwrap();
        run_in(folder.path());
        for name in [AUTHORITIES, "controller/tls.key", "node/tls.key"] {
            let mode = fs::metadata(folder.path().join(name)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{name}");
        }
    }

    /// Days after the first certificates: nothing, a renewal, a new authority, its first signatures, the end of the old.
    const DAYS: [u64; 5] = [0, 61, 2450, 2465, 2485];

    /// Writes as many of the files that are due on that day; how many those were.
    fn run_on(day: u64, folder: &Path, most: usize) -> usize {
        let due = due(folder, "lvm.quarry.storage", SystemTime::now() + Duration::from_hours(day * 24)).unwrap();
        due.iter().take(most).for_each(|content| replace(folder, content).unwrap());
        due.len()
    }

    #[test]
    fn a_run_that_ends_at_any_point_is_made_good_by_the_next_one() {
        for (number, day) in DAYS.into_iter().enumerate() {
            for written in 0..=7 {
                let case = format!("day {day}, {written} files written");
                let folder = tempfile::tempdir().unwrap();
                let folder = folder.path();
                for before in &DAYS[..number] {
                    run_on(*before, folder, usize::MAX);
                }
                assert!(run_on(day, folder, written) > 0, "{case}");
                let noted = keyring(folder).unwrap().authorities;
                run_on(day, folder, usize::MAX);
                let after = keyring(folder).unwrap();
                for role in [Role::Controller, Role::Node] {
                    let [trusted, certificate, key] = names(role).map(|name| read(folder, &name).unwrap());
                    Material::parse(trusted.as_bytes(), certificate.as_bytes(), key.as_bytes()).expect(&case);
                    assert_eq!(trusted, after.trusted(), "{case}");
                }
                assert!(
                    written == 0 || after.authorities == noted,
                    "{case}: an authority that may have signed is lost"
                );
                assert_eq!(run_on(day, folder, 0), 0, "{case}");
            }
        }
    }
}
