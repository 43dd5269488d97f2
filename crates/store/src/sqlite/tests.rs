//! What only this backend has: faults of the database, locks, versions, syncs.

use std::sync::atomic::{AtomicU8, Ordering};

use rusqlite::Connection;

use super::writer::commit;

/// Commits that are made to fail.
#[derive(Debug, Default)]
pub(super) struct Faults(AtomicU8);

impl Faults {
    pub(super) fn commit(&self, db: &Connection) -> rusqlite::Result<()> {
        match self.0.swap(0, Ordering::SeqCst) {
            0 => commit(db),
            1 => Err(rusqlite::Error::InvalidQuery),
            _ => commit(db).and(Err(rusqlite::Error::InvalidQuery)),
        }
    }
}
