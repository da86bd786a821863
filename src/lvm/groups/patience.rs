//! Reading from devices of which some may never answer: each is waited for only so long, and while a
//! read of a device is still under way it is not asked again, so that threads do not pile up behind it.

use std::collections::{BTreeMap, HashSet};
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, timeout, timeout_at};

use crate::host::kernel::{Kernel, Stretch};

/// How long a read may take. A disk that has to spin up takes longer, and is there at a later read.
const PATIENCE: Duration = Duration::from_secs(2);

type Answer = io::Result<Vec<u8>>;

pub(super) struct Patience {
    kernel: Arc<dyn Kernel>,
    /// Devices whose read has not come back.
    hanging: Arc<Mutex<HashSet<PathBuf>>>,
}

impl Patience {
    pub(super) fn new(kernel: Arc<dyn Kernel>) -> Self {
        Self { kernel, hanging: Arc::default() }
    }

    /// One answer per stretch, in their order. Costs one call of the kernel unless a device hangs.
    pub(super) async fn read(&self, stretches: Vec<Stretch>) -> Vec<Answer> {
        let mut answers: Vec<Answer> = stretches.iter().map(|_| Err(hangs())).collect();
        let mut asked: Vec<(usize, Stretch)> = stretches.into_iter().enumerate().collect();
        {
            let hanging = self.hanging.lock().unwrap_or_else(PoisonError::into_inner);
            asked.retain(|(_, stretch)| !hanging.contains(&stretch.device));
        }
        if asked.is_empty() {
            return answers;
        }
        let batch: Vec<Stretch> = asked.iter().map(|(_, stretch)| stretch.clone()).collect();
        // In a task of its own, so that neither the time limit nor a caller who goes away cuts it off.
        let kernel = Arc::clone(&self.kernel);
        let reading = tokio::spawn(async move { kernel.read(batch).await });
        let came = match timeout(PATIENCE, reading).await {
            Ok(came) => came.unwrap_or_else(|panic| vec![Err(io::Error::other(panic))]),
            Err(_) => return self.read_one_by_one(asked, answers).await,
        };
        for ((index, _), answer) in asked.into_iter().zip(came) {
            answers[index] = answer;
        }
        answers
    }

    /// Each device by itself, to tell those that hang from those that were held up by them.
    async fn read_one_by_one(&self, asked: Vec<(usize, Stretch)>, mut answers: Vec<Answer>) -> Vec<Answer> {
        let mut devices: BTreeMap<PathBuf, (Vec<usize>, Vec<Stretch>)> = BTreeMap::new();
        for (index, stretch) in asked {
            let (indices, stretches) = devices.entry(stretch.device.clone()).or_default();
            indices.push(index);
            stretches.push(stretch);
        }
        let mut readings = Vec::new();
        for (device, (indices, stretches)) in devices {
            self.hanging.lock().unwrap_or_else(PoisonError::into_inner).insert(device.clone());
            let (kernel, hanging) = (Arc::clone(&self.kernel), Arc::clone(&self.hanging));
            let reading = tokio::spawn(async move {
                let came = kernel.read(stretches).await;
                hanging.lock().unwrap_or_else(PoisonError::into_inner).remove(&device);
                came
            });
            readings.push((indices, reading));
        }
        let deadline = Instant::now() + PATIENCE;
        for (indices, reading) in readings {
            let Ok(Ok(came)) = timeout_at(deadline, reading).await else { continue };
            for (index, answer) in indices.into_iter().zip(came) {
                answers[index] = answer;
            }
        }
        answers
    }
}

fn hangs() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "the device does not answer")
}
