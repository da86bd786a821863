//! The real [`Kernel`]: system calls, `/proc` and `/sys`.

mod block;
mod copy;
pub mod descriptors;
mod device_mapper;
mod lanes;
mod mapper_events;
pub(crate) mod mountinfo;
mod mounts;
mod suspension;
pub(crate) mod system_calls;
mod target_status;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::kernel::{
    BlockDevice, Copying, DeviceNumber, FileSystemUsage, Held, Kernel, MappedDevice, Mount, MountEntry, PoolStatus,
    SnapshotStatus, Stretch,
};
use lanes::{Lanes, Places};
use mapper_events::MapperEvents;
use tokio::sync::Semaphore;

/// Where device-mapper takes requests.
const MAPPER: &str = "/dev/mapper/control";
/// How long a device may take for a read, or for what it is asked. Healthy disks need milliseconds, busy ones a fraction of this.
const ANSWER_LIMIT: Duration = Duration::from_secs(2);
/// How many reads run at once. With the other limits here it leaves room in the pool of threads (512).
const READS: Places = Places { each: 4, all: 128 };
/// How many questions to targets of one type run at once. One waits for what the target is just doing, such as a pool for its
/// commit, and so for the disk.
const QUESTIONS: Places = Places { each: 1, all: 64 };

/// This machine's kernel. All clones share what is known about hanging devices.
#[derive(Debug, Clone)]
pub struct Linux {
    reads: Lanes,
    pools: Lanes,
    snapshots: Lanes,
    mapper_events: Arc<MapperEvents>,
}

impl Default for Linux {
    fn default() -> Self {
        Self::new()
    }
}

impl Linux {
    /// The kernel that this process runs on.
    pub fn new() -> Self {
        Self {
            reads: Lanes::new(ANSWER_LIMIT, READS),
            pools: Lanes::new(ANSWER_LIMIT, QUESTIONS),
            snapshots: Lanes::new(ANSWER_LIMIT, QUESTIONS),
            mapper_events: Arc::default(),
        }
    }

    /// The version of the kernel's device-mapper; `None` where it has none.
    pub async fn mapper_version(&self) -> io::Result<Option<[u32; 3]>> {
        brief(|| device_mapper::version(Path::new(MAPPER))).await
    }

    /// Whether device-mapper can make devices of that type. The kernel loads a module for it where that is needed and there.
    pub async fn has_target(&self, target: &'static str) -> io::Result<bool> {
        waiting(move || device_mapper::has_target(Path::new(MAPPER), target)).await
    }
}

/// Calls that the kernel answers out of its memory share a few threads: a burst of 500 creations would otherwise
/// start as many, each with a stack and a part of the heap (120 of them held 10 MiB).
static BRIEF: Semaphore = Semaphore::const_new(4);
/// Calls that may wait for a device leave room in the pool (512 threads) for all others: a dead disk may hold one for
/// every volume on it, for ever.
static WAITING: Semaphore = Semaphore::const_new(256);
/// How long such a call waits for its turn; without dead disks it never does.
const TURN_LIMIT: Duration = Duration::from_secs(10);

/// Runs what never waits for a device.
async fn brief<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    let _permit = BRIEF.acquire().await.map_err(io::Error::other)?;
    blocking(work).await
}

/// Runs what may wait for a device. It runs to its end even when the caller stops waiting.
async fn waiting<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    let Ok(permit) = tokio::time::timeout(TURN_LIMIT, WAITING.acquire()).await else {
        let problem = "too many calls wait for devices that do not answer; see the kernel's log for the dead disk";
        return Err(io::Error::new(io::ErrorKind::TimedOut, problem));
    };
    let permit = permit.map_err(io::Error::other)?;
    blocking(move || {
        let _permit = permit;
        work()
    })
    .await
}

/// Runs what may block in the kernel away from the async threads.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| Err(io::Error::other(error)))
}

#[tonic::async_trait]
impl Kernel for Linux {
    async fn mount(&self, mount: &Mount) -> io::Result<()> {
        let mount = mount.clone();
        waiting(move || mounts::make(&mount)).await
    }

    async fn unmount(&self, target: &Path) -> io::Result<()> {
        let target = target.to_owned();
        waiting(move || mounts::unmount(&target)).await
    }

    async fn mounts(&self) -> io::Result<Vec<MountEntry>> {
        brief(|| mountinfo::parse(&std::fs::read("/proc/self/mountinfo")?)).await
    }

    async fn device_at(&self, path: &Path) -> io::Result<Option<DeviceNumber>> {
        let path = path.to_owned();
        waiting(move || block::number_at(&path)).await
    }

    async fn usage(&self, path: &Path) -> io::Result<FileSystemUsage> {
        let path = path.to_owned();
        waiting(move || mounts::usage(&path)).await
    }

    async fn sync(&self, folder: &Path) -> io::Result<()> {
        let folder = folder.to_owned();
        waiting(move || mounts::sync(&folder)).await
    }

    async fn block_devices(&self) -> io::Result<Vec<BlockDevice>> {
        brief(|| {
            let volumes = device_mapper::logical_volumes(Path::new(MAPPER))?;
            block::devices(Path::new("/sys"), Path::new("/dev"), &volumes)
        })
        .await
    }

    async fn read(&self, stretches: Vec<Stretch>) -> Vec<io::Result<Vec<u8>>> {
        self.reads.read(stretches).await
    }

    async fn zero(&self, stretch: Stretch) -> io::Result<()> {
        waiting(move || block::zero(&stretch)).await
    }

    async fn discard(&self, stretch: Stretch) -> io::Result<()> {
        waiting(move || block::discard(&stretch)).await
    }

    async fn hold(&self, device: &Path) -> io::Result<Held> {
        let device = device.to_owned();
        waiting(move || std::fs::File::open(&device).map(Held::by)).await
    }

    async fn flush(&self, device: &Path) -> io::Result<()> {
        let device: PathBuf = device.to_owned();
        waiting(move || block::flush(&device)).await
    }

    async fn set_read_only(&self, device: &Path, read_only: bool) -> io::Result<()> {
        let device = device.to_owned();
        waiting(move || block::set_read_only(&device, read_only)).await
    }

    async fn mapped_devices(&self) -> io::Result<Vec<MappedDevice>> {
        brief(|| device_mapper::devices(Path::new(MAPPER))).await
    }

    async fn mapped_device(&self, uuid: &str) -> io::Result<Option<MappedDevice>> {
        let uuid = uuid.to_owned();
        brief(move || device_mapper::device(Path::new(MAPPER), &uuid)).await
    }

    async fn pool_status(&self, uuid: &str) -> io::Result<Option<PoolStatus>> {
        let asked = uuid.to_owned();
        self.pools.ask(uuid, move || target_status::pool(Path::new(MAPPER), &asked)).await
    }

    async fn snapshot_status(&self, uuid: &str) -> io::Result<Option<SnapshotStatus>> {
        let asked = uuid.to_owned();
        self.snapshots.ask(uuid, move || target_status::snapshot(Path::new(MAPPER), &asked)).await
    }

    async fn mapper_event(&self) -> io::Result<()> {
        self.mapper_events.next(Path::new(MAPPER)).await
    }

    async fn message(&self, uuid: &str, message: &str) -> io::Result<()> {
        let (uuid, message) = (uuid.to_owned(), message.to_owned());
        waiting(move || suspension::message(Path::new(MAPPER), &uuid, &message)).await
    }

    async fn suspend(&self, uuid: &str) -> io::Result<()> {
        let uuid = uuid.to_owned();
        waiting(move || suspension::suspend(Path::new(MAPPER), &uuid)).await
    }

    async fn resume(&self, uuid: &str) -> io::Result<()> {
        let uuid = uuid.to_owned();
        // Without a permit: calls that hang must not keep a device held back.
        blocking(move || suspension::resume(Path::new(MAPPER), &uuid)).await
    }

    async fn copy(&self, copying: Copying) -> io::Result<()> {
        waiting(move || copy::copy(&copying)).await
    }
}
