//! The control plane of a cluster: etcd, API server, controller manager and scheduler, natively on this machine.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};

use super::addresses::{API_PORT, CONTROL_PLANE, SERVICES};
use super::credentials::{Credentials, write};
use super::service::Service;
use crate::channel::Channel;
use crate::command::{Command, Output};
use crate::patience::{Answer, wait_for};
use crate::process;

const READY_LIMIT: Duration = Duration::from_mins(2);
const PAUSE: Duration = Duration::from_millis(200);
/// Where etcd keeps everything, in the folder of the control plane.
const ETCD_DATA: &str = "etcd";
/// Who, what and when of each request, once it is answered; not what was in it.
const AUDIT_POLICY: &str = r#"{"apiVersion": "audit.k8s.io/v1", "kind": "Policy", "omitStages": ["RequestReceived"],
    "rules": [{"level": "Metadata"}]}"#;

#[derive(Debug)]
pub(crate) struct ControlPlane {
    channel: Arc<Channel>,
    kubectl: PathBuf,
    kubeconfig: PathBuf,
    /// Where kubectl remembers what the API server offers.
    kubectl_cache: PathBuf,
    audit_log: Option<PathBuf>,
    etcd_data: PathBuf,
    etcd: Service,
    api_server: Service,
    controller_manager: Service,
    scheduler: Service,
}

impl ControlPlane {
    /// Nothing is started yet. `folder` gets etcd's data and the logs, with `audit` also one of all requests.
    pub(crate) fn new(
        channel: &Arc<Channel>,
        programs: &Path,
        credentials: &Credentials,
        folder: &Path,
        audit: bool,
    ) -> Result<Self> {
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let mut api_server = api_server_flags(credentials);
        let audit_log = audit.then(|| folder.join("audit.log"));
        if let Some(log) = &audit_log {
            let policy = folder.join("audit-policy.json");
            write(&policy, AUDIT_POLICY)?;
            api_server.push(format!("--audit-policy-file={}", policy.display()));
            api_server.push(format!("--audit-log-path={}", log.display()));
        }
        let service = |name: &'static str, flags: Vec<String>| {
            let mut words = vec![programs.join(name).to_string_lossy().into_owned()];
            words.extend(flags);
            let log = folder.join(format!("{name}.log"));
            Service::new(name, &words, &log.to_string_lossy(), log.clone())
        };
        Ok(Self {
            channel: Arc::clone(channel),
            kubectl: programs.join("kubectl"),
            kubeconfig: credentials.path("admin.kubeconfig"),
            kubectl_cache: folder.join("kubectl"),
            audit_log,
            etcd_data: folder.join(ETCD_DATA),
            etcd: service("etcd", etcd_flags(folder)),
            api_server: service("kube-apiserver", api_server),
            controller_manager: service("kube-controller-manager", controller_manager_flags(credentials)),
            scheduler: service("kube-scheduler", scheduler_flags(credentials)),
        })
    }

    /// Starts everything and waits until the API server is ready.
    pub(crate) fn start(&self) -> Result<()> {
        self.etcd.start(&self.channel)?;
        self.start_api_server()?;
        self.controller_manager.start(&self.channel)?;
        self.scheduler.start(&self.channel)
    }

    /// Kills everything, throws away what etcd knows, and starts it all again.
    pub(crate) fn lose_etcd(&self) -> Result<()> {
        for service in [&self.scheduler, &self.controller_manager, &self.api_server, &self.etcd] {
            service.kill()?;
        }
        fs::remove_dir_all(&self.etcd_data).with_context(|| format!("cannot remove {}", self.etcd_data.display()))?;
        self.start()
    }

    pub(crate) fn start_api_server(&self) -> Result<()> {
        self.api_server.start(&self.channel)?;
        let logs = || self.api_server.quote() + &self.etcd.quote();
        wait_for("the API server", READY_LIMIT, PAUSE, logs, || {
            self.etcd.check()?;
            self.api_server.check()?;
            let output = self.kubectl(&["get", "--raw", "/readyz"], Vec::new())?;
            Ok(if output.status.success() { Answer::Here(()) } else { Answer::NotYet(output.error_text()) })
        })
    }

    /// At once, as when its machine loses power: its clients see connections break.
    pub(crate) fn stop_api_server(&self) -> Result<()> {
        self.api_server.kill()
    }

    pub(crate) fn kubectl(&self, arguments: &[&str], input: Vec<u8>) -> Result<Output> {
        let command = Command::new(self.kubectl.to_string_lossy())
            .args(arguments.iter().copied())
            .env("KUBECONFIG", self.kubeconfig.to_string_lossy())
            .env("KUBECACHEDIR", self.kubectl_cache.to_string_lossy())
            .stdin(input);
        process::run(&self.channel, &command)
    }

    /// Where kubectl finds the API server and an identity that may do everything.
    pub(crate) fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// One JSON object a line, if that was asked for.
    pub(crate) fn audit_log(&self) -> Option<&Path> {
        self.audit_log.as_deref()
    }

    /// An error when one of the programs ended by itself.
    pub(crate) fn check(&self) -> Result<()> {
        [&self.etcd, &self.api_server, &self.controller_manager, &self.scheduler]
            .into_iter()
            .try_for_each(Service::check)
    }
}

fn words(flags: &[&str]) -> Vec<String> {
    flags.iter().map(|flag| (*flag).to_owned()).collect()
}

fn etcd_flags(folder: &Path) -> Vec<String> {
    let mut flags = words(&[
        "--listen-client-urls=http://127.0.0.1:2379",
        "--advertise-client-urls=http://127.0.0.1:2379",
        "--listen-peer-urls=http://127.0.0.1:2380",
        "--log-level=warn",
        // It is not etcd that is tried here, and the machine below does not lose power.
        "--unsafe-no-fsync",
    ]);
    flags.push(format!("--data-dir={}", folder.join(ETCD_DATA).display()));
    flags
}

fn api_server_flags(credentials: &Credentials) -> Vec<String> {
    let mut flags = words(&[
        "--etcd-servers=http://127.0.0.1:2379",
        "--bind-address=0.0.0.0",
        "--authorization-mode=Node,RBAC",
        "--enable-admission-plugins=NodeRestriction",
        "--allow-privileged=true",
        // Names of nodes cannot be resolved here.
        "--kubelet-preferred-address-types=InternalIP",
        // Webhooks are reached at their pods, since services have no way (see addresses.rs).
        "--enable-aggregator-routing=true",
        "--service-account-issuer=https://kubernetes.default.svc",
        "--profiling=false",
    ]);
    flags.push(format!("--advertise-address={CONTROL_PLANE}"));
    flags.push(format!("--secure-port={API_PORT}"));
    flags.push(format!("--service-cluster-ip-range={SERVICES}"));
    for (flag, file) in [
        ("token-auth-file", "tokens.csv"),
        ("client-ca-file", "ca.crt"),
        ("tls-cert-file", "api-server.crt"),
        ("tls-private-key-file", "api-server.key"),
        ("kubelet-certificate-authority", "ca.crt"),
        ("kubelet-client-certificate", "kubelet-client.crt"),
        ("kubelet-client-key", "kubelet-client.key"),
        ("service-account-key-file", "service-accounts.pub"),
        ("service-account-signing-key-file", "service-accounts.key"),
    ] {
        flags.push(format!("--{flag}={}", credentials.word(file)));
    }
    flags
}

fn controller_manager_flags(credentials: &Credentials) -> Vec<String> {
    let mut flags = words(&[
        "--leader-elect=false",
        "--use-service-account-credentials=true",
        "--allocate-node-cidrs=false",
        // A node is given up after 20 s without a sign (kubelet gives one every 5 s): tests need not wait longer.
        "--node-monitor-grace-period=20s",
        "--node-monitor-period=2s",
        "--bind-address=127.0.0.1",
        "--profiling=false",
    ]);
    for (flag, file) in [
        ("kubeconfig", "controller-manager.kubeconfig"),
        ("root-ca-file", "ca.crt"),
        ("cluster-signing-cert-file", "ca.crt"),
        ("cluster-signing-key-file", "ca.key"),
        ("service-account-private-key-file", "service-accounts.key"),
    ] {
        flags.push(format!("--{flag}={}", credentials.word(file)));
    }
    flags
}

fn scheduler_flags(credentials: &Credentials) -> Vec<String> {
    let mut flags = words(&["--leader-elect=false", "--bind-address=127.0.0.1", "--profiling=false"]);
    flags.push(format!("--kubeconfig={}", credentials.word("scheduler.kubeconfig")));
    flags
}
