//! `quarry-trial bench-controller`: the figures of a controller with thousands of nodes.
//!
//! The controller is the real program in a process of its own. The nodes are the real services behind the real mutual
//! TLS, all in this process, each at its own loopback address over a machine in memory (`nodes`); the caller is in
//! this process too (`calls`). Calls are made one at a time, so that what is measured is the way and not a queue.

mod calls;
mod nodes;
mod process;

use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Result, bail, ensure};
use quarry::host::linux::descriptors::raise_limit;

use self::calls::Calls;
use self::nodes::Nodes;
use self::process::Controller;
use super::figures::Figures;
use super::samples::Samples;
use super::{ensure_met, kibibytes, mebibytes, publish};
use crate::site::programs_folder;

/// Neighbouring calls go to nodes that lie so far apart: nothing is warm from the call before.
const STRIDE: usize = 1009;
/// Calls that ask all nodes at once.
const SUMS: usize = 20;
/// Descriptors beside those for nodes.
const DESCRIPTORS_BESIDE: usize = 200;

/// The flags of `quarry-trial bench-controller`.
#[derive(Debug, Clone, clap::Args)]
pub struct Flags {
    /// How many nodes there are
    #[arg(long, default_value_t = 5000)]
    pub nodes: usize,
    /// How many volumes each of them has at the start
    #[arg(long, default_value_t = 20)]
    pub volumes_per_node: usize,
    /// How many calls of each kind are measured
    #[arg(long, default_value_t = 2500)]
    pub calls: usize,
    /// Where the figures are written, as JSON
    #[arg(long, default_value = "target/bench/controller.json")]
    pub output: PathBuf,
}

impl Flags {
    /// Every figure in the order of the table.
    pub fn keys(&self) -> Vec<String> {
        let mut keys = Vec::new();
        for name in ["route", "create", "create_on_node", "capacity", "first_call"] {
            keys.extend(["p50", "p99"].map(|percentile| self.key(&format!("{name}_{percentile}_ms"))));
        }
        keys.extend(["capacity_of_all_p50_ms", "rss_mib", "rss_peak_mib", "start_s"].map(|name| self.key(name)));
        keys.push(self.list_key());
        keys
    }

    fn list_key(&self) -> String {
        match self.nodes * self.volumes_per_node {
            volumes if volumes.is_multiple_of(1000) => format!("list_{}k_s", volumes / 1000),
            volumes => format!("list_{volumes}_s"),
        }
    }

    fn key(&self, name: &str) -> String {
        format!("{name}_{}", self.nodes)
    }
}

/// Measures, writes the figures and prints the table; fails where one is not met.
pub fn run(flags: &Flags) -> Result<()> {
    if cfg!(debug_assertions) {
        bail!("figures of a debug build say nothing; run `make bench-controller`");
    }
    let figures = measure(flags)?;
    if let Some(folder) = flags.output.parent() {
        std::fs::create_dir_all(folder)?;
    }
    publish(&figures, &flags.keys(), &flags.output)?;
    ensure_met(&figures.unmet())
}

/// The figures.
pub fn measure(flags: &Flags) -> Result<Figures> {
    // A node listens and has a connection; the controller inherits the limit.
    let (limit, needed) = (raise_limit()?, 2 * flags.nodes + DESCRIPTORS_BESIDE);
    ensure!(
        limit >= needed as u64,
        "{} nodes take {needed} open descriptors, and the hard limit is {limit}; see `ulimit -Hn`",
        flags.nodes
    );
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(measure_all(flags))
}

async fn measure_all(flags: &Flags) -> Result<Figures> {
    let folder = tempfile::tempdir()?;
    let program = programs_folder()?.join("quarry");
    process::make_certificates(&program, folder.path())?;
    println!("starting {} nodes with {} volumes each", flags.nodes, flags.volumes_per_node);
    let room = flags.volumes_per_node + flags.calls.div_ceil(flags.nodes);
    let nodes =
        Nodes::start(flags.nodes, flags.volumes_per_node, room, &process::node_certificates(folder.path())).await?;

    let started = Instant::now();
    let mut controller = Controller::start(&program, folder.path(), &nodes.addresses)?;
    let calls = Calls::connect(&mut controller).await?;
    calls.capacity(nodes.name(0)).await?;
    let mut bench = Bench { flags, nodes, controller, calls, figures: Figures::default() };
    bench.figures.value(&flags.key("start_s"), started.elapsed().as_secs_f64());
    bench.connect().await?;
    bench.capacity().await?;
    bench.list().await?;
    bench.create().await?;
    bench.memory()?;
    Ok(bench.figures)
}

/// Everything that is measured with.
struct Bench<'f> {
    flags: &'f Flags,
    nodes: Nodes,
    controller: Controller,
    calls: Calls,
    figures: Figures,
}

impl Bench<'_> {
    /// The first call to each node, with the handshake.
    async fn connect(&mut self) -> Result<()> {
        println!("measuring: the first call to each node");
        let mut took = Samples::default();
        for number in 1..self.flags.nodes {
            let start = Instant::now();
            self.calls.capacity(self.nodes.name(number)).await?;
            took.push(start.elapsed());
        }
        self.figures.percentiles(&self.flags.key("first_call_{}_ms"), &took);
        self.say_memory("with a connection to each node")
    }

    async fn capacity(&mut self) -> Result<()> {
        println!("measuring: GetCapacity");
        let mut took = Samples::default();
        for number in 0..self.flags.calls {
            let node = self.node_of_call(number);
            let start = Instant::now();
            self.calls.capacity(&node).await?;
            took.push(start.elapsed());
        }
        self.figures.percentiles(&self.flags.key("capacity_{}_ms"), &took);
        let mut took = Samples::default();
        for _ in 0..SUMS {
            let start = Instant::now();
            self.calls.capacity_of_all().await?;
            took.push(start.elapsed());
        }
        self.figures.time(&self.flags.key("capacity_of_all_p50_ms"), &took);
        self.say_memory("after GetCapacity of all")
    }

    async fn list(&mut self) -> Result<()> {
        println!("measuring: ListVolumes");
        let start = Instant::now();
        let listed = self.calls.list().await?;
        let took = start.elapsed();
        let expected: Vec<String> = self.nodes.volume_ids(self.flags.volumes_per_node).collect();
        ensure!(listed.ids == expected, "{} volumes are listed, not the {}", listed.ids.len(), expected.len());
        self.figures.count(&self.flags.list_key(), took.as_secs_f64(), listed.pages);
        self.say_memory("after ListVolumes")
    }

    /// `CreateVolume` less the time that the node took for that very call, as its own metric tells: what is left is all
    /// that the way through the controller costs, both ways and both TLS connections' ends included. The difference of
    /// two percentiles would be the percentile of nothing.
    async fn create(&mut self) -> Result<()> {
        println!("measuring: CreateVolume");
        let (mut all, mut on_node, mut way) = (Samples::default(), Samples::default(), Samples::default());
        for number in 0..self.flags.calls {
            let node = self.node_of_call(number);
            let before = self.nodes.served("CreateVolume")?;
            let start = Instant::now();
            self.calls.create(&format!("pvc-{number:08}"), &node).await?;
            let took = start.elapsed();
            let own = self.nodes.served_since("CreateVolume", before).await?;
            all.push(took);
            on_node.push(own);
            way.push(took.saturating_sub(own));
        }
        self.figures.percentiles(&self.flags.key("create_{}_ms"), &all);
        self.figures.percentiles(&self.flags.key("create_on_node_{}_ms"), &on_node);
        self.figures.percentiles(&self.flags.key("route_{}_ms"), &way);
        Ok(())
    }

    fn memory(&mut self) -> Result<()> {
        let connections = self.controller.descriptors()?;
        ensure!(connections >= self.flags.nodes, "the controller has only {connections} descriptors open");
        self.say_memory("at the end")?;
        self.figures.value(&self.flags.key("rss_mib"), self.controller.mebibytes("VmRSS")?);
        self.figures.value(&self.flags.key("rss_peak_mib"), self.controller.mebibytes("VmHWM")?);
        Ok(())
    }

    fn node_of_call(&self, number: usize) -> String {
        self.nodes.name(number * STRIDE % self.flags.nodes).to_owned()
    }

    fn say_memory(&self, when: &str) -> Result<()> {
        let (now, peak) = (self.controller.mebibytes("VmRSS")?, self.controller.mebibytes("VmHWM")?);
        let nodes = mebibytes(kibibytes(std::process::id(), "VmRSS")? << 10);
        println!("  the controller {when}: {now:.1} MiB, at most {peak:.1}; this process {nodes:.0} MiB");
        Ok(())
    }
}
