//! Material from a folder: a mounted Secret, cert-manager's, or files of an administrator. Read again when it changes;
//! what cannot be used leaves the old material in force.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::InForce;
use super::material::Material;

/// The names of Kubernetes' own kind of Secret: authorities, certificate, key.
pub const FILES: [&str; 3] = ["ca.crt", "tls.crt", "tls.key"];

/// Reads the folder now and, until the stop, every so often. The files need not be there yet.
pub async fn watch(folder: PathBuf, every: Duration, stop: CancellationToken) -> InForce {
    let mut seen = None;
    let (sender, receiver) = watch::channel(None);
    look(&folder, &mut seen, &sender).await;
    tokio::spawn(async move {
        while stop.run_until_cancelled(tokio::time::sleep(every)).await.is_some() {
            look(&folder, &mut seen, &sender).await;
        }
    });
    receiver
}

type Texts = [Vec<u8>; 3];
/// What was read last, or why it was not.
type Seen = Option<Result<Texts, String>>;

async fn look(folder: &Path, seen: &mut Seen, sender: &watch::Sender<Option<Arc<Material>>>) {
    let read = read(folder).await;
    if seen.as_ref() == Some(&read) {
        return;
    }
    let material = match &read {
        Ok([authorities, chain, key]) => Material::parse(authorities, chain, key).map_err(|error| error.to_string()),
        Err(problem) => Err(problem.clone()),
    };
    match material {
        Ok(material) => {
            tracing::info!(folder = %folder.display(), "certificates are in force");
            sender.send_replace(Some(Arc::new(material)));
        }
        Err(problem) => {
            let folder = folder.display();
            tracing::warn!(%folder, problem, "certificates cannot be used; those in force, if any, stay");
        }
    }
    *seen = Some(read);
}

async fn read(folder: &Path) -> Result<Texts, String> {
    let mut texts = Texts::default();
    for (name, text) in FILES.iter().zip(&mut texts) {
        *text = tokio::fs::read(folder.join(name)).await.map_err(|error| format!("{name}: {error}"))?;
    }
    Ok(texts)
}
