//! A real Kubernetes cluster of this machine's own: the control plane runs natively in a network namespace, each worker is
//! a guest with its own kernel, disks and address. However the process that started it ends, nothing of it stays.
//!
//! ```no_run
//! use quarry_lab::{Cluster, ClusterOptions, Command, Disk};
//! # fn main() -> anyhow::Result<()> {
//! let cluster = Cluster::start(&ClusterOptions::new().disk(Disk::plain("pv0", 8 << 30)))?;
//! let worker = &cluster.workers()[0];
//! worker.run(&Command::new("vgcreate").args(["data", &worker.device("pv0")?]))?.checked()?;
//! println!("{}", cluster.kubectl(&["get", "nodes"])?.checked()?.text());
//! worker.cut_power()?;
//! worker.boot()?;
//! # Ok(())
//! # }
//! ```

mod addresses;
mod control_plane;
mod credentials;
mod options;
mod programs;
mod service;
mod stock_images;
mod worker;
mod worker_files;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use serde_json::Value;

pub use self::options::ClusterOptions;
pub use self::programs::programs;
pub use self::stock_images::BUSYBOX;
pub use self::worker::Worker;

use self::addresses::{BRIDGE, MOST_WORKERS, namespace_batch};
use self::control_plane::ControlPlane;
use self::credentials::Credentials;
use crate::cache::RunFolder;
use crate::command::{Command, Output};
use crate::enclosure::Enclosure;
use crate::frame::Request;
use crate::image::Image;
use crate::patience::{Answer, wait_for};
use crate::process::{self, Process};
use crate::root::{Recipe, root};

const READY_LIMIT: Duration = Duration::from_mins(3);
const PAUSE: Duration = Duration::from_millis(500);

/// A running cluster. All methods can be used from many threads at once. Dropping it ends it and removes all of it.
#[derive(Debug)]
pub struct Cluster {
    // In the order in which they must go: the enclosure removes the folder at its end.
    workers: Vec<Worker>,
    control_plane: ControlPlane,
    enclosure: Enclosure,
    images: PathBuf,
    programs: PathBuf,
    _run: RunFolder,
}

impl Cluster {
    /// Starts the control plane and the workers, and waits until every worker is Ready. Builds what is missing first: the
    /// workers' root file system and the programs of Kubernetes.
    pub fn start(options: &ClusterOptions) -> Result<Self> {
        ensure!(
            (1..=MOST_WORKERS).contains(&options.workers),
            "a cluster has 1 to {MOST_WORKERS} workers, not {}",
            options.workers
        );
        let programs = programs()?;
        let root = root(Recipe::Worker)?;
        let begun = Instant::now();
        let reached = |what: &str| {
            if options.verbose {
                eprintln!("{:6.1} s  {what}", begun.elapsed().as_secs_f64());
            }
        };
        let cluster = Self::lay_out(options, programs, &root)?;
        let (reached, parts) = (&reached, &cluster);
        reached("network, certificates and images are made");
        thread::scope(|scope| {
            let mut starts = vec![scope.spawn(|| {
                parts.control_plane.start()?;
                reached("the API server is ready");
                Ok(())
            })];
            for worker in &parts.workers {
                starts.push(scope.spawn(move || {
                    worker.boot()?;
                    reached(&format!("{} has booted", worker.name()));
                    Ok(())
                }));
            }
            let joined = starts.into_iter().map(|start| start.join().unwrap_or_else(|_| Err(anyhow!("a panic"))));
            joined.fold(Ok(()), Result::and)
        })?;
        cluster.wait_usable(reached)?;
        Ok(cluster)
    }

    fn wait_usable(&self, reached: impl Fn(&str)) -> Result<()> {
        for worker in &self.workers {
            self.wait_ready(worker.name(), true, READY_LIMIT)?;
            reached(&format!("{} is Ready", worker.name()));
        }
        // Until then pods are refused.
        wait_for("the default service account", READY_LIMIT, PAUSE, String::new, || {
            let output = self.kubectl(&["get", "serviceaccount", "default"])?;
            Ok(if output.status.success() { Answer::Here(()) } else { Answer::NotYet(output.error_text()) })
        })?;
        reached("pods can be created");
        Ok(())
    }

    /// All that does not run yet.
    fn lay_out(options: &ClusterOptions, programs: PathBuf, root: &Path) -> Result<Self> {
        let run = RunFolder::create()?;
        let enclosure = Enclosure::start(&["--net"])?;
        let quoted = run.path().to_string_lossy().replace('\'', r"'\''");
        let script = format!("rm -rf --one-file-system '{quoted}'");
        enclosure.channel().request(&Request::OnHangup { script })?;
        let batch = Command::new("ip").args(["-batch", "-"]).stdin(namespace_batch(options.workers));
        process::run(enclosure.channel(), &batch)?.checked().context("cannot set up the cluster's network")?;

        let credentials = Credentials::make(run.path().join("credentials"), options.workers)?;
        let images = run.path().join("images");
        fs::create_dir(&images).with_context(|| format!("cannot make {}", images.display()))?;
        for image in stock_images::stock_images(root)? {
            image.write(&images.join(file_name(&image)))?;
        }
        let folder = run.path().join("control-plane");
        let control_plane = ControlPlane::new(enclosure.channel(), &programs, &credentials, &folder, options.audit)?;
        // A process that is in the namespace as long as it exists.
        let wrapper = ["nsenter".to_owned(), format!("--net={}", namespace(&enclosure).display())];
        let worker = |number| {
            let folder = run.path().join(addresses::worker_name(number));
            Worker::new(number, options, &wrapper, &credentials, &programs, &images, &folder)
        };
        let workers = (1..=options.workers).map(worker).collect::<Result<_>>()?;
        Ok(Self { workers, control_plane, enclosure, images, programs, _run: run })
    }

    /// The workers, the first is `worker-1`.
    pub fn workers(&self) -> &[Worker] {
        &self.workers
    }

    /// Runs kubectl as one who may do everything.
    pub fn kubectl(&self, arguments: &[&str]) -> Result<Output> {
        self.control_plane.kubectl(arguments, Vec::new())
    }

    /// `kubectl apply` of a manifest in YAML or JSON.
    pub fn apply(&self, manifest: &str) -> Result<()> {
        self.control_plane.kubectl(&["apply", "--filename=-"], manifest.into())?.checked().map(drop)
    }

    /// Runs a program of this machine in the cluster's network, where addresses of workers, pods and of the API server
    /// mean what they mean in the cluster.
    pub fn run(&self, command: &Command) -> Result<Output> {
        process::run(self.enclosure.channel(), command)
    }

    /// Starts a program of this machine in the cluster's network and leaves it running; its output is appended to a file.
    pub fn spawn(&self, command: &Command, log: &Path) -> Result<Process> {
        process::spawn(self.enclosure.channel(), command, log)
    }

    /// Gives an image to every worker; each must have power.
    pub fn import(&self, image: &Image) -> Result<()> {
        let file = file_name(image);
        image.write(&self.images.join(&file))?;
        self.import_file(&file)
    }

    fn import_file(&self, file: &str) -> Result<()> {
        thread::scope(|scope| {
            let imports: Vec<_> = self.workers.iter().map(|worker| scope.spawn(|| worker.import(file))).collect();
            let joined = imports.into_iter().map(|import| import.join().unwrap_or_else(|_| Err(anyhow!("a panic"))));
            joined.fold(Ok(()), Result::and)
        })
    }

    /// Gives the images of an archive, as `make image` makes it, to every worker; each must have power.
    pub fn import_archive(&self, archive: &Path) -> Result<()> {
        let name = archive.file_name().with_context(|| format!("{} is no file", archive.display()))?;
        let name = name.to_string_lossy().into_owned();
        fs::copy(archive, self.images.join(&name)).with_context(|| format!("cannot read {}", archive.display()))?;
        self.import_file(&name)
    }

    /// Kills the API server; everything else goes on.
    pub fn stop_api_server(&self) -> Result<()> {
        self.control_plane.stop_api_server()
    }

    /// Starts the API server and waits until it is ready.
    pub fn start_api_server(&self) -> Result<()> {
        self.control_plane.start_api_server()
    }

    /// Loses all that the cluster knows: etcd starts anew, empty. The workers, which must have power, join again; their
    /// kubelets end the pods that they find, for nobody names them any more.
    pub fn lose_etcd(&self) -> Result<()> {
        self.control_plane.lose_etcd()?;
        // They register only when they start.
        self.workers.iter().try_for_each(Worker::restart_kubelet)?;
        self.wait_usable(|_| {})
    }

    /// Pulls a worker's network cable: nothing reaches it and nothing comes from it, but its programs go on. To part it
    /// from some others only, run `ip route replace blackhole NETWORK` on it.
    pub fn cut_network(&self, worker: &Worker) -> Result<()> {
        // The tap device itself stays up: a guest's card never recovers from one that was down.
        self.set_link(worker, &["nomaster"])
    }

    /// Plugs the cable in again.
    pub fn restore_network(&self, worker: &Worker) -> Result<()> {
        self.set_link(worker, &["master", BRIDGE])
    }

    fn set_link(&self, worker: &Worker, words: &[&str]) -> Result<()> {
        let command = Command::new("ip").args(["link", "set", &worker.tap()]).args(words.iter().copied());
        self.run(&command)?.checked().map(drop)
    }

    /// Waits until the API says that a worker is Ready, or that it is not.
    pub fn wait_ready(&self, worker: &str, ready: bool, limit: Duration) -> Result<()> {
        let what = format!("{worker} {}", if ready { "to be Ready" } else { "not to be Ready any more" });
        let known = self.workers.iter().find(|known| known.name() == worker);
        wait_for(
            &what,
            limit,
            PAUSE,
            || known.map(Worker::quote).unwrap_or_default(),
            || {
                self.control_plane.check()?;
                known.filter(|_| ready).map_or(Ok(()), Worker::check)?;
                Ok(match self.ready_nodes()?.remove(worker) {
                    Some((state, _)) if state == ready => Answer::Here(()),
                    Some((_, reason)) => Answer::NotYet(reason),
                    None => Answer::NotYet(String::from("there is no such node")),
                })
            },
        )
    }

    /// The nodes, whether each is Ready, and the words for that.
    fn ready_nodes(&self) -> Result<BTreeMap<String, (bool, String)>> {
        let output = self.kubectl(&["get", "nodes", "--output=json"])?.checked()?;
        let list: Value = serde_json::from_slice(&output.stdout).context("kubectl said no JSON")?;
        let mut found = BTreeMap::new();
        for node in list["items"].as_array().into_iter().flatten() {
            let conditions = node["status"]["conditions"].as_array().into_iter().flatten();
            let state = conditions.into_iter().find(|condition| condition["type"] == "Ready");
            let state = state.map_or((false, String::from("no condition")), |condition| {
                (condition["status"] == "True", condition["message"].as_str().unwrap_or_default().to_owned())
            });
            found.insert(node["metadata"]["name"].as_str().unwrap_or_default().to_owned(), state);
        }
        Ok(found)
    }

    /// The file by which kubectl finds the API server, within [`Cluster::network_namespace`].
    pub fn kubeconfig(&self) -> &Path {
        self.control_plane.kubeconfig()
    }

    /// The API server's log of all requests, one JSON object of `audit.k8s.io/v1` a line; there is one only if the options
    /// asked for it.
    pub fn audit_log(&self) -> Result<&Path> {
        self.control_plane.audit_log().context("the cluster was started without an audit log")
    }

    /// The cluster's network namespace as a file, for nsenter(1); it is there as long as the cluster.
    pub fn network_namespace(&self) -> PathBuf {
        namespace(&self.enclosure)
    }

    /// The folder with kubectl and the other programs.
    pub fn programs(&self) -> &Path {
        &self.programs
    }
}

fn namespace(enclosure: &Enclosure) -> PathBuf {
    format!("/proc/{}/ns/net", enclosure.process()).into()
}

fn file_name(image: &Image) -> String {
    image.name().replace(['/', ':'], "_") + ".tar"
}
