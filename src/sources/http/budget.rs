//! Room for the bodies that are in flight, over all connections: so much in memory, so much in files. Exact: a body has
//! its room before its bytes are read, and gives it back when it is durable or given up.

use super::Limits;
use super::refusal::Refusal;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The longest body that is held in memory, bytes.
pub(super) const IN_MEMORY_BYTES_MAX: u64 = 1 << 20;
/// How long a request waits for room before it hears that there is none.
const WAIT_FOR_ROOM: Duration = Duration::from_secs(1);
/// Room is counted in so many bytes.
const UNIT_BYTES: u64 = 1 << 10;

/// See the module.
#[derive(Debug)]
pub(super) struct Budget {
    memory: Arc<Semaphore>,
    files: Arc<Semaphore>,
    in_memory_max: u64,
    wait: Duration,
}

/// A body's room, given back when it is dropped.
#[derive(Debug, Default)]
pub(super) struct Room(Vec<OwnedSemaphorePermit>);

impl Room {
    /// Takes another room in.
    pub(super) fn join(&mut self, other: Self) {
        self.0.extend(other.0);
    }
}

impl Budget {
    pub(super) fn new(limits: &Limits) -> Self {
        let units = |bytes: u64| Arc::new(Semaphore::new(bytes.div_ceil(UNIT_BYTES) as usize));
        Self {
            memory: units(limits.in_flight_bytes_max),
            files: units(limits.spool_bytes_max),
            in_memory_max: IN_MEMORY_BYTES_MAX.min(limits.in_flight_bytes_max),
            wait: WAIT_FOR_ROOM,
        }
    }

    /// The longest body that is held in memory.
    pub(super) fn in_memory_max(&self) -> u64 {
        self.in_memory_max
    }

    /// Room in memory for so many bytes, at most [`Budget::in_memory_max`].
    pub(super) async fn memory(&self, bytes: u64) -> Result<Room, Refusal> {
        self.take(&self.memory, bytes).await
    }

    /// Room in files for so many bytes.
    pub(super) async fn files(&self, bytes: u64) -> Result<Room, Refusal> {
        self.take(&self.files, bytes).await
    }

    async fn take(&self, from: &Arc<Semaphore>, bytes: u64) -> Result<Room, Refusal> {
        let units = u32::try_from(bytes.div_ceil(UNIT_BYTES).max(1)).map_err(|_| Refusal::NoRoom)?;
        match tokio::time::timeout(self.wait, Arc::clone(from).acquire_many_owned(units)).await {
            Ok(Ok(permit)) => Ok(Room(vec![permit])),
            Ok(Err(_)) | Err(_) => Err(Refusal::NoRoom),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn budget() -> Budget {
        let second = Duration::from_secs(1);
        let limits = Limits {
            connections_max: 1,
            header_timeout: second,
            body_timeout: second,
            in_flight_bytes_max: 64 << 10,
            spool_bytes_max: 128 << 10,
        };
        Budget { wait: Duration::from_millis(20), ..Budget::new(&limits) }
    }

    #[tokio::test]
    async fn room_is_given_up_to_the_last_byte_and_comes_back() {
        let budget = budget();
        assert_eq!(budget.in_memory_max(), 64 << 10);
        let first = budget.memory(63 << 10).await.unwrap();
        let second = budget.memory(1).await.unwrap();
        assert_eq!(budget.memory(1).await.unwrap_err(), Refusal::NoRoom);
        drop(second);
        let mut all = budget.memory(1 << 10).await.unwrap();
        all.join(first);
        assert_eq!(budget.memory(1).await.unwrap_err(), Refusal::NoRoom);
        drop(all);
        let whole = budget.memory(64 << 10).await.unwrap();
        let files = budget.files(128 << 10).await.unwrap();
        assert_eq!(budget.files(1).await.unwrap_err(), Refusal::NoRoom);
        drop((whole, files));
        assert_eq!(budget.memory((64 << 10) + 1).await.unwrap_err(), Refusal::NoRoom, "more than there is");
    }
}
