//! Waiting for device-mapper's events: its control device becomes readable when one happened to any device
//! (`DM_DEV_ARM_POLL`, linux/dm-ioctl.h, since Linux 4.13), so one descriptor serves all, and no thread.

use std::fs::File;
use std::io;
use std::path::Path;

use tokio::io::unix::AsyncFd;
use tokio::sync::Mutex;

use super::device_mapper::{Request, ask, open};
use super::system_calls::{MAPPER_HEADER, readable};

const ARM_POLL: u8 = 16;

/// The control device, once somebody has waited.
#[derive(Debug, Default)]
pub(super) struct MapperEvents {
    control: Mutex<Option<AsyncFd<File>>>,
}

impl MapperEvents {
    /// Waits for the next event; without device-mapper for ever.
    pub(super) async fn next(&self, control: &Path) -> io::Result<()> {
        let mut opened = self.control.lock().await;
        let Some(control) = &*opened else {
            let Some(control) = open(control)? else { return std::future::pending().await };
            *opened = Some(readable(control)?);
            return Ok(());
        };
        control.readable().await?.clear_ready();
        // Only what happens from here on makes it readable again.
        ask(control.get_ref(), ARM_POLL, Request::default(), MAPPER_HEADER).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn without_device_mapper_there_are_no_events() {
        let events = MapperEvents::default();
        let next = events.next(Path::new("/nonexistent/control"));
        assert!(tokio::time::timeout(std::time::Duration::from_millis(20), next).await.is_err());
    }
}
