//! The room on the disk of the data folder: a disk that fills up is seen before it stalls the ledger.

use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use dayfly_domain::{Span, Time};
use nix::sys::statvfs::statvfs;

use crate::finding::LOW_DISK as LOW;

/// How often it is looked at.
const EVERY: Span = Span::from_seconds(10);

/// What the last look saw.
#[derive(Debug, Default)]
pub(super) struct Space(Mutex<Seen>);

#[derive(Debug, Default)]
struct Seen {
    at: Option<Time>,
    free: Option<u64>,
}

impl Space {
    /// Looks at the disk of a folder, when the last look is a while ago.
    pub(super) fn look(&self, folder: &Path, now: Time) {
        let mut seen = self.seen();
        let recent = |at: Time| now.since(at).max(at.since(now)) < EVERY;
        if seen.at.is_some_and(recent) {
            return;
        }
        seen.at = Some(now);
        let free = match statvfs(folder) {
            Ok(disk) => disk.blocks_available().saturating_mul(disk.fragment_size()),
            Err(why) => {
                tracing::warn!(%why, "the room on the disk cannot be looked at");
                return;
            }
        };
        let was_low = seen.free.is_some_and(|free| free < LOW);
        if free < LOW && !was_low {
            tracing::warn!(
                free_bytes = free,
                "the disk of the data folder is nearly full: the ledger stalls when it is"
            );
        }
        seen.free = Some(free);
    }

    /// Free bytes; none before the first look.
    pub(super) fn free(&self) -> Option<u64> {
        self.seen().free
    }

    /// What is to be said of a disk that is low.
    pub(super) fn low(&self) -> Option<String> {
        let free = self.free().filter(|free| *free < LOW)?;
        Some(format!(
            "the disk of the data folder has {} MiB left: the ledger stalls when it is full",
            free >> 20
        ))
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
