//! The flags of what looks at a whole Kubernetes cluster.

use std::time::Duration;

use clap::{Args, ValueEnum};

use super::{OutputFlags, SocketFlags, seconds};

/// What a controller in Kubernetes does by itself.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct UpkeepFlags {
    /// In Kubernetes: how often all volumes are looked at for orphans and sick ones
    #[arg(long, env = "QUARRY_LOOK_EVERY", value_name = "SECONDS", default_value = "600", value_parser = seconds)]
    pub look_every: Duration,
    /// How long nobody must have named a volume before it is removed, if it was never used; 0 removes none
    #[arg(long, env = "QUARRY_ORPHAN_GRACE", value_name = "SECONDS", default_value = "86400", value_parser = seconds)]
    pub orphan_grace: Duration,
}

/// The flags of `quarry orphans`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct OrphansFlags {
    /// Where the controller serves.
    #[command(flatten)]
    pub socket: SocketFlags,
    /// Go on without the nodes that cannot be reached, and say which
    #[arg(long)]
    pub reachable_only: bool,
    /// Remove this orphan, with all data on it, instead of showing any; may be given several times
    #[arg(long, value_name = "ID")]
    pub remove: Vec<String>,
    /// Remove it although no `PersistentVolume` of the driver exists at all: the cluster is new and has lost nothing
    #[arg(long, requires = "remove")]
    pub without_any_pv: bool,
    /// How to print them.
    #[command(flatten)]
    pub output: OutputFlags,
}

/// The flags of `quarry recover-pvs`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct RecoverFlags {
    /// The ids of the volumes [default: all that were used and that no `PersistentVolume` names]
    #[arg(value_name = "ID")]
    pub ids: Vec<String>,
    /// Where the controller serves.
    #[command(flatten)]
    pub socket: SocketFlags,
    /// Go on without the nodes that cannot be reached, and say which
    #[arg(long)]
    pub reachable_only: bool,
    /// What becomes of a volume when its claim is deleted
    #[arg(long, value_name = "POLICY", value_enum, default_value_t = ReclaimPolicy::Retain)]
    pub reclaim_policy: ReclaimPolicy,
    /// The `StorageClass` of the volumes of a class, or of all that no other such flag names; may be given several times
    /// [default: what the `StorageClasses` in the cluster say]
    #[arg(long = "storage-class", value_name = "[CLASS=]NAME", value_parser = storage_class)]
    pub storage_classes: Vec<(Option<String>, String)>,
    /// YAML or JSON; kubectl takes both
    #[arg(long = "output", value_name = "FORMAT", value_enum, default_value_t = ManifestFormat::Yaml)]
    pub format: ManifestFormat,
}

/// What becomes of a volume when its claim is deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ReclaimPolicy {
    /// It stays until a person decides: after a disaster a claim is soon deleted by mistake.
    #[value(name = "Retain")]
    Retain,
    /// It is deleted.
    #[value(name = "Delete")]
    Delete,
}

impl ReclaimPolicy {
    /// As Kubernetes writes it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Retain => "Retain",
            Self::Delete => "Delete",
        }
    }
}

/// How manifests are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ManifestFormat {
    /// Documents one after the other.
    Yaml,
    /// One List.
    Json,
}

fn storage_class(text: &str) -> Result<(Option<String>, String), String> {
    let (class, name) = text.split_once('=').map_or((None, text), |(class, name)| (Some(class), name));
    if name.is_empty() || class.is_some_and(str::is_empty) {
        return Err(String::from("NAME or CLASS=NAME is needed"));
    }
    Ok((class.map(str::to_owned), name.to_owned()))
}
