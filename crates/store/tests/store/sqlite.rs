//! The SQLite backend under the suite.

use std::sync::Arc;

use dayfly_store::clock::ManualClock;
use dayfly_store::{SqliteOptions, SqliteStore, Store};
use tempfile::TempDir;

use super::conformance;
use super::fixture::*;

pub(crate) struct Sqlite {
    /// Dropped before its folder.
    store: Option<SqliteStore>,
    options: SqliteOptions,
    _folder: TempDir,
}

impl Subject for Sqlite {
    fn fresh(clock: Arc<ManualClock>) -> Self {
        let folder = TempDir::new().unwrap();
        let mut options = SqliteOptions::new(folder.path().join("dayfly.db"));
        options.clock = clock;
        let store = Some(SqliteStore::open(options.clone()).unwrap());
        Self {
            store,
            options,
            _folder: folder,
        }
    }

    fn store(&self) -> &dyn Store {
        self.store.as_ref().unwrap()
    }

    fn reopen(&mut self) {
        self.store = None;
        self.store = Some(SqliteStore::open(self.options.clone()).unwrap());
    }
}

conformance!(Sqlite);
