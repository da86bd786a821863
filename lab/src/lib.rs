//! The lab of Quarry: machines with a real kernel, real LVM and disks that can fail, for tests, demos and benchmarks.
//!
//! A [`Guest`] is a User-Mode Linux kernel over a root file system that [`root()`] builds once and keeps in
//! [`cache_folder`]. However the process that booted it ends, nothing of the guest stays but the disk images in a folder of
//! the caller's own. [`Host`] is the same on this machine's kernel; [`Machine`] is either. A [`Cluster`] is a real Kubernetes
//! whose workers are guests.
//!
//! The library starts the program `quarry-lab` (launcher, init and agent of a guest): `cargo build -p quarry-lab` puts it
//! where it is found, or name it in `QUARRY_LAB`. Root is needed.
//!
//! ```no_run
//! use quarry_lab::{Command, Disk, Guest, Options};
//! # fn main() -> anyhow::Result<()> {
//! let options = Options::new()
//!     .disk_folder("target/disks")
//!     .disk(Disk::volatile("pv0", 4 << 30))
//!     .share("target/release", "/programs")
//!     .share_writable("target/results", "/results");
//! let guest = Guest::boot(&options)?;
//! let device = guest.device("pv0")?;
//! guest.run(&Command::new("vgcreate").args(["data", &device]))?.checked()?;
//! let node = guest.spawn(&Command::new("/programs/quarry").arg("node"), "target/results/node.log".as_ref())?;
//! println!("{}", guest.run(&Command::shell("lvs; df -h"))?.checked()?.text());
//! guest.cut_power()?; // what was not flushed is lost; the images stay
//! drop(node);
//! let guest = Guest::boot(&options)?;
//! guest.power_off()?;
//! # Ok(())
//! # }
//! ```

mod agent;
mod apt;
mod cache;
mod channel;
mod cluster;
mod command;
mod console;
mod disk;
mod enclosure;
mod fault;
mod flow;
mod frame;
mod guest;
mod host;
mod image;
mod init;
mod launch;
mod machine;
mod network_card;
mod options;
mod patience;
mod plug;
mod power;
mod process;
mod program;
mod root;
mod running;

pub use agent::serve;
pub use cache::cache_folder;
pub use cluster::{BUSYBOX, Cluster, ClusterOptions, Worker, programs};
pub use command::{Command, Output, Status};
pub use disk::{Disk, DiskKind, parse_size};
pub use fault::{Behaviour, Fault};
pub use guest::Guest;
pub use host::Host;
pub use image::Image;
pub use init::init;
pub use launch::{Share, launch, launch_inside};
pub use machine::Machine;
pub use network_card::NetworkCard;
pub use options::Options;
pub use process::Process;
pub use root::{Recipe, root};
