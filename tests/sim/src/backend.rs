//! The stores that a simulation runs on, each with its way to fall over.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use dayfly_store::clock::ManualClock;
use dayfly_store::{Fault, MemoryStore, SqliteOptions, SqliteStore, Store};

use crate::operation::Failure;

/// Which store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Memory,
    Sqlite,
}

/// A store that may fall over.
pub(crate) enum Backend {
    Memory(Arc<MemoryStore>),
    Sqlite {
        store: Arc<SqliteStore>,
        /// The folder that it lies in, one of many of one simulation.
        number: u32,
    },
}

impl Backend {
    pub(crate) fn open(kind: Kind, folder: &Path, clock: &Arc<ManualClock>) -> Self {
        match kind {
            Kind::Memory => Self::Memory(Arc::new(MemoryStore::new(clock.clone()))),
            Kind::Sqlite => Self::Sqlite {
                store: open_sqlite(&database(folder, 0), clock),
                number: 0,
            },
        }
    }

    pub(crate) fn store(&self) -> Arc<dyn Store> {
        match self {
            Self::Memory(store) => store.clone(),
            Self::Sqlite { store, .. } => store.clone(),
        }
    }

    /// Makes the next commit fail; whether it will.
    pub(crate) fn fail(&self, failure: Failure) -> bool {
        match self {
            Self::Memory(store) => {
                store.fail([match failure {
                    Failure::Refused => Fault::BeforeWrite,
                    Failure::Lost => Fault::Lost,
                    Failure::Kept => Fault::Kept,
                }]);
                true
            }
            Self::Sqlite { .. } => false,
        }
    }

    pub(crate) fn heal(&self) {
        match self {
            Self::Memory(store) => store.heal(),
            Self::Sqlite { .. } => {}
        }
    }

    /// Falls over and comes back with what was durable: of a database, with the files as they lie
    /// there at this moment, which is what a kill leaves.
    pub(crate) fn crashed(self, folder: &Path, clock: &Arc<ManualClock>) -> Self {
        match self {
            Self::Memory(store) => {
                store.crash();
                Self::Memory(store)
            }
            Self::Sqlite { store, number } => {
                let (from, to) = (database(folder, number), database(folder, number + 1));
                std::fs::create_dir_all(to.parent().unwrap()).unwrap();
                for suffix in ["", "-wal"] {
                    let name = |path: &Path| PathBuf::from(format!("{}{suffix}", path.display()));
                    if name(&from).exists() {
                        std::fs::copy(name(&from), name(&to)).unwrap();
                    }
                }
                drop(store);
                Self::Sqlite {
                    store: open_sqlite(&to, clock),
                    number: number + 1,
                }
            }
        }
    }
}

fn database(folder: &Path, number: u32) -> PathBuf {
    folder.join(format!("data-{number}")).join("dayfly.db")
}

pub(crate) fn open_sqlite(path: &Path, clock: &Arc<ManualClock>) -> Arc<SqliteStore> {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    let mut options = SqliteOptions::new(path);
    options.clock = clock.clone();
    Arc::new(SqliteStore::open(options).unwrap())
}
