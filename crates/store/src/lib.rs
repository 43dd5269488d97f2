//! The store: one contract, its SQLite and faulty in-memory backends, and the suite both pass.

pub mod bundle;
pub mod clock;
mod contract;
mod keys;
pub mod memory;
pub mod sqlite;

pub use bundle::{BUNDLE_ENTRIES, Bundle, BundleError, Evidence, Exported};
pub use contract::*;
pub use memory::{Fault, MemoryStore};
pub use sqlite::{
    BackupFailure, BackupOptions, BackupProgress, DatabaseLock, FsckFailure, FsckReport, OpenError,
    SqliteOptions, SqliteStore, TenantReport, backup, fsck, fsck_with,
};
