//! `quarry certificates`: makes and renews the certificates of a controller and its nodes in a folder, for machines
//! without Kubernetes. Run now and then (cron, a timer), it renews what is due and leaves the rest alone.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::time::{Duration, SystemTime};

use anyhow::Context;

use crate::config::flags::CertificatesFlags;
use crate::tls::authority::{Keyring, Lifetimes, Pair, renewed};
use crate::tls::folder::FILES;

/// The keys of the authorities, in the order of their certificates; they stay where this command runs.
const AUTHORITY_KEYS: &str = "authority/ca.key";
/// Their certificates.
const AUTHORITIES: &str = "authority/ca.crt";

/// Writes what is due.
pub fn run(flags: &CertificatesFlags, out: &mut impl Write) -> anyhow::Result<()> {
    let folder = &flags.folder;
    let before = read(folder)?;
    // A person brings the folders to the machines.
    let lifetimes = Lifetimes { spread: Duration::from_hours(14 * 24), ..Lifetimes::default() };
    let ring = renewed(&before, flags.driver_name.as_str(), &lifetimes, SystemTime::now())?;
    if ring == before {
        writeln!(out, "the certificates in {} are as they should be", folder.display())?;
        return Ok(());
    }
    write(folder, &ring)?;
    writeln!(out, "new certificates are in {}:", folder.display())?;
    writeln!(out, "  controller/  for the controller: quarry controller --tls-folder")?;
    writeln!(out, "  node/        for every node: quarry node --tls-folder")?;
    writeln!(out, "  authority/   stays here: who has it can make himself controller")?;
    Ok(())
}

fn read(folder: &Path) -> anyhow::Result<Keyring> {
    let text = |name: &str| match fs::read_to_string(folder.join(name)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
        text => text.with_context(|| format!("could not read {}", folder.join(name).display())),
    };
    let shown = |role: &str| -> anyhow::Result<Pair> {
        let [_, certificate, key] = FILES.map(|file| format!("{role}/{file}"));
        Ok(Pair { certificate: text(&certificate)?, key: text(&key)? })
    };
    Ok(Keyring::new(&text(AUTHORITIES)?, &text(AUTHORITY_KEYS)?, shown("controller")?, shown("node")?))
}

fn write(folder: &Path, ring: &Keyring) -> anyhow::Result<()> {
    let trusted = ring.trusted();
    // First the keys of the authorities: what they signed is worth nothing without them.
    replace(folder, AUTHORITY_KEYS, &ring.authority_keys())?;
    replace(folder, AUTHORITIES, &trusted)?;
    for (role, pair) in [("controller", &ring.controller), ("node", &ring.node)] {
        for (file, text) in FILES.iter().zip([&trusted, &pair.certificate, &pair.key]) {
            replace(folder, &format!("{role}/{file}"), text)?;
        }
    }
    Ok(())
}

/// Writes a file in one step, for its owner only.
fn replace(folder: &Path, name: &str, text: &str) -> anyhow::Result<()> {
    let path = folder.join(name);
    let new = path.with_extension("new");
    let written = || -> io::Result<()> {
        let parent = path.parent().unwrap_or(folder);
        fs::DirBuilder::new().recursive(true).mode(0o700).create(parent)?;
        let mut file = File::options().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&new, &path)
    };
    written().with_context(|| format!("could not write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

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
        let first = read(&folder).unwrap();
        assert!(run_in(&folder).contains("as they should be"));
        assert_eq!(read(&folder).unwrap(), first);
        fs::remove_file(folder.join("node/tls.key")).unwrap();
        assert!(run_in(&folder).contains("new certificates"));
        let mended = read(&folder).unwrap();
        assert_eq!((&mended.authorities, &mended.controller), (&first.authorities, &first.controller));
        assert_ne!(mended.node, first.node);
    }

    #[test]
    fn keys_are_for_their_owner_only() {
        let folder = tempfile::tempdir().unwrap();
        run_in(folder.path());
        for name in ["authority/ca.key", "controller/tls.key", "node/tls.key"] {
            let mode = fs::metadata(folder.path().join(name)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{name}");
        }
    }
}
