//! One worker of a cluster: a guest with containerd and kubelet, which can lose its power and come back.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::addresses::{CONTROL_PLANE, MOST_WORKERS, hardware_address, pod_network, tap, worker_address, worker_name};
use super::credentials::Credentials;
use super::options::ClusterOptions;
use super::service::Service;
use super::worker_files::{PREPARE, THERE, write_all};
use crate::channel::locked;
use crate::command::{Command, Output};
use crate::disk::Disk;
use crate::guest::Guest;
use crate::network_card::NetworkCard;
use crate::options::Options;
use crate::process::Process;
use crate::root::Recipe;

/// The disk of kubelet and containerd; sparse.
const OWN_DISK: &str = "worker";
const OWN_DISK_SIZE: u64 = 16 << 30;
const IMPORT_LIMIT: Duration = Duration::from_mins(2);
/// Until containerd takes requests.
const CONTAINERD_UP: &str =
    "for turn in $(seq 600); do [ -S /run/containerd/containerd.sock ] && exit; sleep 0.1; done; exit 1";

/// One worker. All methods can be used from many threads at once.
#[derive(Debug)]
pub struct Worker {
    name: String,
    number: u8,
    options: Options,
    images: PathBuf,
    containerd: Service,
    kubelet: Service,
    guest: Mutex<Option<Arc<Guest>>>,
}

impl Worker {
    /// Nothing is started yet. `folder` gets all that is the worker's own; `workers` is how many there will be.
    pub(crate) fn new(
        number: u8,
        options: &ClusterOptions,
        wrapper: &[String],
        credentials: &Credentials,
        programs: &Path,
        images: &Path,
        folder: &Path,
    ) -> Result<Self> {
        let name = worker_name(number);
        let [files, logs] = ["files", "logs"].map(|name| folder.join(name));
        for made in [&files.join("cni"), &logs] {
            fs::create_dir_all(made).with_context(|| format!("cannot make {}", made.display()))?;
        }
        write_all(&files, number)?;
        let own = |extension: &str| format!("{name}.{extension}");
        for (from, to) in [
            ("ca.crt".to_owned(), "ca.crt"),
            (own("crt"), "kubelet.crt"),
            (own("key"), "kubelet.key"),
            (own("kubeconfig"), "kubeconfig"),
        ] {
            fs::copy(credentials.path(&from), files.join(to)).with_context(|| format!("cannot copy {from}"))?;
        }
        let mut card =
            NetworkCard::new(tap(number), hardware_address(number), format!("{}/24", worker_address(number)));
        card = card.route("default", CONTROL_PLANE);
        for other in (1..=options.workers.min(MOST_WORKERS)).filter(|other| *other != number) {
            card = card.route(pod_network(other), worker_address(other));
        }
        let mut machine = Options::new()
            .recipe(Recipe::Worker)
            .memory(options.memory)
            .network_card(card)
            .wrapper(wrapper)
            .disk_folder(folder.join("disks"))
            .disk(Disk::plain(OWN_DISK, OWN_DISK_SIZE))
            .share(programs, "/lab/programs")
            .share(images, "/lab/images")
            .share(&files, THERE)
            .share_writable(&logs, "/lab/logs");
        machine.disks.extend(options.disks.iter().cloned());
        for (here, there) in &options.shares {
            machine = machine.share(here, there);
        }
        let service = |name: &'static str, words: &[&str]| {
            let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
            Service::new(name, &words, &format!("/lab/logs/{name}.log"), logs.join(format!("{name}.log")))
        };
        Ok(Self {
            containerd: service("containerd", &["containerd", "--config", &format!("{THERE}/containerd.toml")]),
            kubelet: service(
                "kubelet",
                &[
                    "/lab/programs/kubelet",
                    &format!("--config={THERE}/kubelet.json"),
                    &format!("--kubeconfig={THERE}/kubeconfig"),
                    &format!("--hostname-override={name}"),
                    &format!("--node-ip={}", worker_address(number)),
                ],
            ),
            name,
            number,
            options: machine,
            images: images.to_owned(),
            guest: Mutex::default(),
        })
    }

    /// Its name, which is also that of its Node object.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The address by which the control plane and the other workers reach it.
    pub fn address(&self) -> String {
        worker_address(self.number)
    }

    /// The other end of its network cable, in the cluster's network namespace.
    pub(crate) fn tap(&self) -> String {
        tap(self.number)
    }

    /// The guest itself, for what is not offered here. It must not be kept over a power cut.
    pub fn guest(&self) -> Result<Arc<Guest>> {
        locked(&self.guest).clone().with_context(|| format!("{} has no power", self.name))
    }

    /// Runs a program on the worker to its end.
    pub fn run(&self, command: &Command) -> Result<Output> {
        self.guest()?.run(command)
    }

    /// Starts a program on the worker and leaves it running; its output is appended to a file on this side.
    pub fn spawn(&self, command: &Command, log: &Path) -> Result<Process> {
        self.guest()?.spawn(command, log)
    }

    /// The device of one of the disks that the cluster's options gave to each worker.
    pub fn device(&self, name: &str) -> Result<String> {
        self.guest()?.device(name)
    }

    /// Pulls the plug: what was not flushed is lost, the disks stay.
    pub fn cut_power(&self) -> Result<()> {
        let guest = locked(&self.guest).take().with_context(|| format!("{} has no power", self.name))?;
        guest.cut_power()?;
        self.containerd.forget();
        self.kubelet.forget();
        Ok(())
    }

    /// Boots it with its disks and its address and starts its programs: the first time, and after its power was cut.
    pub fn boot(&self) -> Result<()> {
        let mut place = locked(&self.guest);
        if place.is_some() {
            bail!("{} runs already", self.name);
        }
        let guest = Guest::boot(&self.options).with_context(|| format!("cannot boot {}", self.name))?;
        let prepare = Command::shell(PREPARE).args(["sh", &self.name, &guest.device(OWN_DISK)?]);
        let prepared = guest.run(&prepare)?.checked().with_context(|| format!("cannot prepare {}", self.name))?;
        self.containerd.start(&guest.channel)?;
        let up = guest.run(&Command::shell(CONTAINERD_UP))?;
        self.containerd.check()?;
        if !up.status.success() {
            bail!("containerd of {} takes no requests{}", self.name, self.containerd.quote());
        }
        if prepared.text() == "new" {
            import(&guest, &files(&self.images)?).with_context(|| format!("on {}", self.name))?;
        }
        self.kubelet.start(&guest.channel)?;
        *place = Some(Arc::new(guest));
        Ok(())
    }

    /// Takes an image that lies in the cluster's folder of images.
    pub(crate) fn import(&self, file: &str) -> Result<()> {
        import(&*self.guest()?, &[file.to_owned()]).with_context(|| format!("on {}", self.name))
    }

    /// Kills kubelet and starts it again; containers go on.
    pub fn restart_kubelet(&self) -> Result<()> {
        let guest = self.guest()?;
        self.kubelet.kill()?;
        self.kubelet.start(&guest.channel)
    }

    /// An error with the end of the log when one of its programs ended by itself.
    pub(crate) fn check(&self) -> Result<()> {
        [&self.containerd, &self.kubelet]
            .into_iter()
            .try_for_each(Service::check)
            .with_context(|| format!("on {}", self.name))
    }

    /// The ends of its logs, as the end of a message.
    pub(crate) fn quote(&self) -> String {
        self.kubelet.quote() + &self.containerd.quote()
    }
}

/// The names of the files in the folder of images.
fn files(folder: &Path) -> Result<Vec<String>> {
    let entries = fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?;
    let names = entries.filter_map(Result::ok).map(|entry| entry.file_name().to_string_lossy().into_owned());
    Ok(names.collect())
}

/// A power cut later on must not take them away: containerd itself does not flush what it unpacks.
fn import(guest: &Guest, files: &[String]) -> Result<()> {
    let script = r#"for file in "$@"; do ctr --namespace k8s.io images import --local "/lab/images/$file" >/dev/null; done; sync"#;
    let command = Command::shell(script).arg("sh").args(files.iter().cloned()).limit(IMPORT_LIMIT);
    guest.run(&command)?.checked().context("cannot import images")?;
    Ok(())
}
