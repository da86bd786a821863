//! One operation at a time per volume (CSI specification, "Concurrency"): a second one is told to come back.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::error::{Error, Result};

/// Which volumes have an operation running.
#[derive(Debug, Clone, Default)]
pub struct Locks {
    running: Arc<Mutex<HashMap<String, &'static str>>>,
}

/// The right to work on a volume; given back when dropped. Owned, so that it can go along with a task
/// that outlives its caller.
#[derive(Debug)]
pub struct Held {
    volume: String,
    locks: Locks,
}

impl Locks {
    /// Takes the volume, or says what is running on it.
    pub fn take(&self, volume: &str, operation: &'static str) -> Result<Held> {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(other) = running.get(volume) {
            return Err(Error::Busy { volume: volume.to_owned(), operation: format!("{other} is still running") });
        }
        running.insert(volume.to_owned(), operation);
        Ok(Held { volume: volume.to_owned(), locks: self.clone() })
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.locks.running.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.volume);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_operation_is_refused_until_the_first_ends() {
        let locks = Locks::default();
        let held = locks.take("pvc-1", "create").unwrap();
        let message = locks.take("pvc-1", "delete").unwrap_err().to_string();
        assert!(message.contains("create is still running"), "{message}");
        assert!(locks.take("pvc-2", "delete").is_ok());
        drop(held);
        assert!(locks.take("pvc-1", "delete").is_ok());
    }
}
