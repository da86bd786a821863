//! Holding back what is written to several devices at once, for a short time and no longer.
//!
//! Each device has a task of its own that sets it going again: when it is told to, when nobody is left who could tell it, and at
//! the latest when the time is over. A device whose suspension hangs in the kernel is set going as soon as that ends. Only when
//! the whole process is killed nobody does; the next one does it at its start ([`thaw`](crate::node::thaw)).

use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::error::{Error, Result};
use crate::host::kernel::Kernel;
use crate::node::Node;
use crate::node::freeze::LIMIT;

/// How long is waited for devices to go on. They do so at once; one that does not is still being suspended, or is dead.
const PATIENCE: Duration = Duration::from_secs(2);

/// Between two tries to set a device going.
const PAUSE: Duration = Duration::from_secs(1);

/// Devices that are held back, until this is dropped, and never longer than the limit.
pub(super) struct Holding {
    deadline: Instant,
    release: DropGuard,
    tasks: Vec<JoinHandle<()>>,
}

impl Node {
    /// Holds back the devices with these UUIDs, side by side. When one of them cannot be held in time, none is.
    pub(super) async fn hold_back(&self, devices: &[String]) -> Result<Holding> {
        let (deadline, released) = (Instant::now() + LIMIT, CancellationToken::new());
        let (mut tasks, mut all) = (Vec::new(), Vec::new());
        for uuid in devices {
            let (told, held) = oneshot::channel();
            let (kernel, uuid, released) = (Arc::clone(&self.kernel), uuid.clone(), released.clone());
            tasks.push(self.detached.spawn(hold(kernel, uuid, told, deadline, released)));
            all.push(held);
        }
        let holding = Holding { deadline, release: released.drop_guard(), tasks };
        let Ok(outcomes) = timeout_at(deadline, join_all(all)).await else {
            holding.let_go().await;
            return Err(too_slow());
        };
        for outcome in outcomes {
            if let Err(source) = outcome.unwrap_or_else(|_| Err(io::ErrorKind::BrokenPipe.into())) {
                holding.let_go().await;
                return Err(Error::kernel("could not hold back the writes to a volume", source));
            }
        }
        Ok(holding)
    }
}

impl Holding {
    /// Does something while the devices are held. That it ended well means that they were held until its end, as far as this
    /// process is concerned.
    pub(super) async fn during<T>(&self, work: impl Future<Output = Result<T>>) -> Result<T> {
        let outcome = timeout_at(self.deadline, work).await;
        // What ends just when the time does may have come too late.
        match outcome {
            Ok(outcome) if Instant::now() < self.deadline => outcome,
            _ => Err(too_slow()),
        }
    }

    /// Lets the devices go, and waits until they do.
    pub(super) async fn let_go(self) {
        let Self { release, tasks, .. } = self;
        drop(release);
        if timeout(PATIENCE, join_all(tasks)).await.is_err() {
            tracing::warn!("a volume is still held back; it goes on as soon as its disk has answered");
        }
    }
}

/// Sets a device going, however often that has to be tried: whoever uses it waits for ever.
async fn set_going(kernel: &dyn Kernel, uuid: &str) {
    while let Err(error) = kernel.resume(uuid).await {
        let device = kernel.mapped_device(uuid).await;
        if device.is_ok_and(|device| device.is_none_or(|device| !device.suspended)) {
            return;
        }
        tracing::error!(%error, uuid, "could not set a device going again; trying again");
        sleep(PAUSE).await;
    }
}

/// Holds one device back.
async fn hold(
    kernel: Arc<dyn Kernel>,
    uuid: String,
    told: oneshot::Sender<io::Result<()>>,
    deadline: Instant,
    released: CancellationToken,
) {
    let outcome = kernel.suspend(&uuid).await;
    // Where nobody waits for it any more, it is let go at once.
    if told.send(outcome).is_ok() {
        timeout_at(deadline, released.cancelled()).await.ok();
    }
    set_going(&*kernel, &uuid).await;
}

fn too_slow() -> Error {
    let limit = LIMIT.as_secs();
    let problem = format!(
        "the volumes could not be held back together within {limit} s, so they go on and there is no group snapshot; the \
         disks are busy: try again"
    );
    Error::Unavailable { problem }
}
