//! Who is who in a cluster: an authority of its own, certificates, and a token for each who talks to the API server. Made
//! anew for each cluster, and gone with it.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use super::addresses::{API_PORT, API_SERVICE, CONTROL_PLANE, worker_address, worker_name};

/// Sections for openssl(1): what a certificate may be used for.
const SECTIONS: &str = "
[req]
distinguished_name = nothing
[nothing]
[authority]
basicConstraints = critical,CA:TRUE
keyUsage = critical,keyCertSign,cRLSign
subjectKeyIdentifier = hash
[server]
basicConstraints = critical,CA:FALSE
keyUsage = critical,digitalSignature
extendedKeyUsage = serverAuth
[client]
basicConstraints = critical,CA:FALSE
keyUsage = critical,digitalSignature
extendedKeyUsage = clientAuth
";

/// A folder of files for the control plane, and what others need of them.
#[derive(Debug)]
pub(crate) struct Credentials {
    folder: PathBuf,
}

impl Credentials {
    /// Makes the folder and all that is in it.
    pub(crate) fn make(folder: PathBuf, workers: u8) -> Result<Self> {
        fs::create_dir(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let own = Self { folder };
        own.write("openssl.cnf", SECTIONS)?;
        own.certificate("ca", "authority", "/CN=quarry-lab", "")?;
        let names = format!(
            "IP:{CONTROL_PLANE},IP:{API_SERVICE},IP:127.0.0.1,DNS:kubernetes.default.svc,DNS:kubernetes.default,\
             DNS:kubernetes,DNS:localhost"
        );
        own.certificate("api-server", "server", "/CN=kube-apiserver", &names)?;
        own.certificate("kubelet-client", "client", "/O=system:masters/CN=kube-apiserver", "")?;
        let curve = "ec_paramgen_curve:prime256v1";
        own.openssl(&["genpkey", "-algorithm", "EC", "-pkeyopt", curve, "-out", "service-accounts.key"])?;
        own.openssl(&["pkey", "-in", "service-accounts.key", "-pubout", "-out", "service-accounts.pub"])?;

        let mut users = vec![
            (String::from("admin"), String::from("admin"), "system:masters"),
            (String::from("controller-manager"), String::from("system:kube-controller-manager"), ""),
            (String::from("scheduler"), String::from("system:kube-scheduler"), ""),
        ];
        for number in 1..=workers {
            let name = worker_name(number);
            own.certificate(&name, "server", &format!("/CN={name}"), &format!("IP:{}", worker_address(number)))?;
            users.push((name.clone(), format!("system:node:{name}"), "system:nodes"));
        }
        let mut tokens = String::new();
        for (file, user, group) in users {
            let token = fs::read_to_string("/proc/sys/kernel/random/uuid").context("cannot make a token")?;
            let _ = writeln!(tokens, "{},{user},{user},\"{group}\"", token.trim());
            own.write(&format!("{file}.kubeconfig"), &own.kubeconfig(token.trim())?)?;
        }
        own.write("tokens.csv", &tokens)?;
        Ok(own)
    }

    /// The path of one of the files.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// The same as text, for a command line.
    pub(crate) fn word(&self, name: &str) -> String {
        self.path(name).to_string_lossy().into_owned()
    }

    /// The way to the API server for who has the token. JSON is YAML, too.
    fn kubeconfig(&self, token: &str) -> Result<String> {
        let authority = fs::read(self.path("ca.crt")).context("cannot read the authority's certificate")?;
        Ok(serde_json::to_string_pretty(&json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{ "name": "lab", "cluster": {
                "server": format!("https://{CONTROL_PLANE}:{API_PORT}"),
                "certificate-authority-data": STANDARD.encode(authority),
            }}],
            "users": [{ "name": "lab", "user": { "token": token } }],
            "contexts": [{ "name": "lab", "context": { "cluster": "lab", "user": "lab" } }],
            "current-context": "lab",
        }))?)
    }

    /// `alternatives` are the names and addresses of a server.
    fn certificate(&self, name: &str, section: &str, subject: &str, alternatives: &str) -> Result<()> {
        let (key, certificate) = (format!("{name}.key"), format!("{name}.crt"));
        let mut words = vec!["req", "-x509", "-config", "openssl.cnf", "-extensions", section, "-subj", subject];
        words.extend(["-days", "365", "-nodes", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]);
        words.extend(["-keyout", &key, "-out", &certificate]);
        if section != "authority" {
            words.extend(["-CA", "ca.crt", "-CAkey", "ca.key"]);
        }
        let alternatives = format!("subjectAltName={alternatives}");
        if section == "server" {
            words.extend(["-addext", &alternatives]);
        }
        self.openssl(&words)
    }

    fn openssl(&self, words: &[&str]) -> Result<()> {
        let output = Command::new("openssl").args(words).current_dir(&self.folder).output();
        let output = output.context("cannot start openssl")?;
        ensure!(
            output.status.success(),
            "openssl {}: {}",
            words.join(" "),
            String::from_utf8_lossy(&output.stderr).trim()
        );
        Ok(())
    }

    fn write(&self, name: &str, text: &str) -> Result<()> {
        write(&self.path(name), text)
    }
}

pub(crate) fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn certificates_are_of_the_clusters_own_authority() {
        let folder = tempfile::tempdir().unwrap();
        let credentials = Credentials::make(folder.path().join("credentials"), 2).unwrap();
        for (name, purpose) in [("api-server", "sslserver"), ("worker-2", "sslserver"), ("kubelet-client", "sslclient")]
        {
            let certificate = credentials.word(&format!("{name}.crt"));
            credentials.openssl(&["verify", "-CAfile", "ca.crt", "-purpose", purpose, &certificate]).unwrap();
        }
        let tokens = fs::read_to_string(credentials.path("tokens.csv")).unwrap();
        assert_eq!(tokens.lines().count(), 5);
        assert!(tokens.contains("system:node:worker-2"), "{tokens}");
        let config = fs::read_to_string(credentials.path("worker-2.kubeconfig")).unwrap();
        assert!(config.contains("https://10.77.0.1:443"), "{config}");
    }
}
