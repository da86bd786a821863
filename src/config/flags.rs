//! The command line.

mod cluster;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::config::driver_name::DriverName;
use crate::config::node_address::NodeAddress;
use crate::config::node_name::{host_name, topology_value};
use crate::csi::endpoint::Endpoint;
use crate::lvm::size::Bytes;

pub use self::cluster::{ManifestFormat, OrphansFlags, ReclaimPolicy, RecoverFlags, UpkeepFlags};

/// A CSI storage driver for local LVM volumes.
#[derive(Debug, Clone, PartialEq, Eq, Parser)]
#[command(name = "quarry", version)]
pub struct Arguments {
    /// What to do.
    #[command(subcommand)]
    pub mode: Mode,
}

/// The subcommands.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum Mode {
    /// Serve CSI for this machine's volume groups until told to end
    Node(NodeFlags),
    /// Serve CSI for the volume groups of many nodes, by handing each call on to the right one
    Controller(ControllerFlags),
    /// Show the volumes on this node
    Volumes(VolumesFlags),
    /// In the controller's pod: show volumes of the cluster that nobody names, and what removes them
    Orphans(OrphansFlags),
    /// In the controller's pod: print manifests for the volumes that the cluster has forgotten
    RecoverPvs(RecoverFlags),
    /// Check what a node needs and say what to do about what is missing
    Doctor(DoctorFlags),
    /// Say which version this is
    Version(OutputFlags),
    /// Check a classes file without starting anything
    CheckConfig(CheckConfigFlags),
    /// Make or renew the certificates of a controller and its nodes in a folder, where there is no Kubernetes
    Certificates(CertificatesFlags),
}

/// The flags of `quarry node`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct NodeFlags {
    /// Where to serve.
    #[command(flatten)]
    pub socket: SocketFlags,
    /// Who this node is.
    #[command(flatten)]
    pub identity: IdentityFlags,
    /// What it offers.
    #[command(flatten)]
    pub classes: ClassesFlags,
    /// Serve /metrics and /healthz at this address, such as 127.0.0.1:9808 or `[::]:9808`; off by default
    #[arg(long, env = "QUARRY_METRICS", value_name = "ADDRESS")]
    pub metrics: Option<SocketAddr>,
    /// How log lines are written
    #[arg(long, env = "QUARRY_LOG_FORMAT", value_name = "FORMAT", value_enum, default_value_t = LogFormat::Text)]
    pub log_format: LogFormat,
    /// Most volumes that the cluster may use on this node at once; 0 sets no limit
    #[arg(long, env = "QUARRY_MAX_VOLUMES", value_name = "N", default_value_t = 0,
          value_parser = clap::value_parser!(i64).range(0..))]
    pub max_volumes: i64,
    /// From within a container, run the machine's own lvm instead of the container's; needs the machine's processes in
    /// sight and its folder /run/quarry-lvm
    #[arg(long, env = "QUARRY_LVM_ON_HOST")]
    pub lvm_on_host: bool,
    /// How long running operations may take to end after a signal to end
    #[arg(long, env = "QUARRY_GRACE", value_name = "SECONDS", default_value = "20", value_parser = seconds)]
    pub grace: Duration,
    /// Serve a controller, and nobody else, at this address, such as `[::]:9809`; off by default
    #[arg(long, env = "QUARRY_LISTEN", value_name = "ADDRESS")]
    pub listen: Option<SocketAddr>,
    /// Certificates for --listen: ca.crt, tls.crt and tls.key. They may come later, and are read again when they change
    #[arg(long, env = "QUARRY_TLS_FOLDER", value_name = "FOLDER", default_value = "/etc/quarry/tls")]
    pub tls_folder: PathBuf,
    /// For trials with small volumes: remember how far a copy is each time that so many bytes were written
    #[arg(long, value_name = "BYTES", hide = true)]
    pub remember_copies_every: Option<Bytes>,
}

/// The flags of `quarry controller`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct ControllerFlags {
    /// Where to serve.
    #[command(flatten)]
    pub socket: SocketFlags,
    /// The driver's name in the cluster
    #[arg(long, env = "QUARRY_DRIVER_NAME", value_name = "NAME", default_value = "lvm.quarry.storage")]
    pub driver_name: DriverName,
    /// Which nodes there are.
    #[command(flatten)]
    pub nodes: NodesFlags,
    /// Certificates to show to nodes: ca.crt, tls.crt and tls.key. They may come later, and are read again when they
    /// change
    #[arg(long, env = "QUARRY_TLS_FOLDER", value_name = "FOLDER", default_value = "/etc/quarry/tls")]
    pub tls_folder: PathBuf,
    /// In Kubernetes: make and renew the certificates, in the Secrets quarry-controller-tls and quarry-node-tls
    #[arg(long, env = "QUARRY_TLS_SECRETS", conflicts_with = "tls_folder", requires = "namespace")]
    pub tls_secrets: bool,
    /// This pod's namespace
    #[arg(long, env = "POD_NAMESPACE", value_name = "NAME")]
    pub namespace: Option<String>,
    /// Serve /metrics and /healthz at this address, such as 127.0.0.1:9808 or `[::]:9808`; off by default
    #[arg(long, env = "QUARRY_METRICS", value_name = "ADDRESS")]
    pub metrics: Option<SocketAddr>,
    /// Serve /healthz alone at this address, for probes; off by default
    #[arg(long, env = "QUARRY_HEALTH", value_name = "ADDRESS")]
    pub health: Option<SocketAddr>,
    /// How log lines are written
    #[arg(long, env = "QUARRY_LOG_FORMAT", value_name = "FORMAT", value_enum, default_value_t = LogFormat::Text)]
    pub log_format: LogFormat,
    /// How long running calls may take to end after a signal to end
    #[arg(long, env = "QUARRY_GRACE", value_name = "SECONDS", default_value = "20", value_parser = seconds)]
    pub grace: Duration,
    /// How long a node must be gone from the cluster before its volumes count as gone with it
    #[arg(long, env = "QUARRY_LOST_NODE_AFTER", value_name = "SECONDS", default_value = "300", value_parser = seconds)]
    pub lost_node_after: Duration,
    /// In Kubernetes: send the claim of a copy to the node of its source when the scheduler has chosen another; changes claims
    #[arg(long, env = "QUARRY_SEND_CLAIMS_TO_SOURCES", requires = "service")]
    pub send_claims_to_sources: bool,
    /// What it does by itself.
    #[command(flatten)]
    pub upkeep: UpkeepFlags,
}

/// Which nodes there are: exactly one of these.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
#[group(required = true, multiple = false)]
pub struct NodesFlags {
    /// A node; may be given several times
    #[arg(long = "node", value_name = "NAME=HOST:PORT")]
    pub fixed: Vec<NodeAddress>,
    /// A file of nodes, NAME=HOST:PORT a line; it is read again when it changes
    #[arg(long = "nodes-file", env = "QUARRY_NODES_FILE", value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// In Kubernetes: the Service of the nodes, in the namespace of this pod
    #[arg(long = "node-service", env = "QUARRY_NODE_SERVICE", value_name = "NAME", requires = "namespace")]
    pub service: Option<String>,
}

/// The flags of `quarry volumes`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct VolumesFlags {
    /// Whose volumes.
    #[command(flatten)]
    pub identity: IdentityFlags,
    /// How to print them.
    #[command(flatten)]
    pub output: OutputFlags,
}

/// The flags of `quarry doctor`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct DoctorFlags {
    /// Where the node should serve.
    #[command(flatten)]
    pub socket: SocketFlags,
    /// Who this node is.
    #[command(flatten)]
    pub identity: IdentityFlags,
    /// What it should offer.
    #[command(flatten)]
    pub classes: ClassesFlags,
    /// How to print the findings.
    #[command(flatten)]
    pub output: OutputFlags,
}

/// The flags of `quarry check-config`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct CheckConfigFlags {
    /// The classes file
    pub file: PathBuf,
    /// How to print the result.
    #[command(flatten)]
    pub output: OutputFlags,
}

/// The flags of `quarry certificates`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct CertificatesFlags {
    /// The folder; made if it is not there
    pub folder: PathBuf,
    /// The driver's name in the cluster
    #[arg(long, env = "QUARRY_DRIVER_NAME", value_name = "NAME", default_value = "lvm.quarry.storage")]
    pub driver_name: DriverName,
}

/// Where CSI is served.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct SocketFlags {
    /// The unix socket on which CSI is served
    #[arg(long, env = "CSI_ENDPOINT", value_name = "SOCKET", default_value = "unix:///run/quarry/csi.sock")]
    pub csi_endpoint: Endpoint,
}

/// Who the node is.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct IdentityFlags {
    /// The driver's name in the cluster
    #[arg(long, env = "QUARRY_DRIVER_NAME", value_name = "NAME", default_value = "lvm.quarry.storage")]
    pub driver_name: DriverName,
    /// The node's name in the cluster [default: the host's name]
    #[arg(long, env = "NODE_NAME", value_name = "NAME", value_parser = node_name)]
    pub node_name: Option<String>,
}

impl IdentityFlags {
    /// The node's name: the flag's, or the host's.
    pub fn node_name(&self) -> std::io::Result<String> {
        self.node_name.clone().map_or_else(host_name, Ok)
    }

    /// The node's topology value, with which its volume ids begin.
    pub fn topology_value(&self) -> std::io::Result<String> {
        self.node_name().map(|name| topology_value(&name))
    }
}

/// What the node offers.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct ClassesFlags {
    /// The classes file; it is read again when it changes
    #[arg(long, env = "QUARRY_CLASSES", value_name = "FILE", conflicts_with = "volume_groups")]
    pub classes: Option<PathBuf>,
    /// A volume group (or a glob) for one class named `default`, instead of a classes file; may be given several times
    #[arg(long = "volume-group", value_name = "NAME")]
    pub volume_groups: Vec<String>,
}

/// Where the classes come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClassesSource<'a> {
    /// A file.
    File(&'a Path),
    /// A single class with these volume groups.
    VolumeGroups(&'a [String]),
}

impl ClassesFlags {
    /// Where the classes come from. A node that offers nothing is of no use, so neither is an error.
    pub fn source(&self) -> Result<ClassesSource<'_>, String> {
        match (&self.classes, self.volume_groups.as_slice()) {
            (Some(file), _) => Ok(ClassesSource::File(file)),
            (None, []) => Err(String::from(
                "no classes: name a classes file with --classes FILE (or QUARRY_CLASSES), or a volume group with \
                 --volume-group NAME",
            )),
            (None, groups) => Ok(ClassesSource::VolumeGroups(groups)),
        }
    }
}

/// How a command prints what it found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Args)]
pub struct OutputFlags {
    /// Text for people or JSON for programs
    #[arg(long = "output", value_name = "FORMAT", value_enum, default_value_t = OutputFormat::Text)]
    pub format: OutputFormat,
}

/// For people or for programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum OutputFormat {
    /// Text for people.
    Text,
    /// JSON for programs.
    Json,
}

/// How log lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// As long as a node id may be (CSI specification, size limits).
fn node_name(text: &str) -> Result<String, String> {
    const LIMIT: usize = 256;
    match text.len() {
        0 => Err(String::from("the node's name is empty; leave the flag out to take the host's")),
        1..=LIMIT => Ok(text.to_owned()),
        bytes => Err(format!("it has {bytes} bytes; a node's name can have {LIMIT}")),
    }
}

fn seconds(text: &str) -> Result<Duration, String> {
    text.parse().map(Duration::from_secs).map_err(|_| String::from("a whole number of seconds is needed"))
}

#[cfg(test)]
mod tests;
