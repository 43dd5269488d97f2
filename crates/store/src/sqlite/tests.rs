//! What only this backend has and only its inside can show: failed commits, and syncs.

mod durability;

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use dayfly_domain::{Name, Time};
use rusqlite::Connection;
use tempfile::TempDir;

use super::schema::Sync;
use super::writer::commit;
use super::{SqliteOptions, SqliteStore};
use crate::{Append, AppendError, Committed, EntryRange, Note, Store};

/// Commits that are made to fail.
#[derive(Debug, Default)]
pub(super) struct Faults(AtomicU8);

const LOST: u8 = 1;
const KEPT: u8 = 2;

impl Faults {
    pub(super) fn commit(&self, db: &Connection) -> rusqlite::Result<()> {
        match self.0.swap(0, Ordering::SeqCst) {
            LOST => Err(rusqlite::Error::InvalidQuery),
            KEPT => commit(db).and(Err(rusqlite::Error::InvalidQuery)),
            _ => commit(db),
        }
    }
}

struct Bench {
    store: SqliteStore,
    faults: Arc<Faults>,
    _folder: TempDir,
    options: SqliteOptions,
}

impl Bench {
    fn new() -> Self {
        let folder = TempDir::new().unwrap();
        let options = SqliteOptions::new(folder.path().join("db"));
        let faults = Arc::new(Faults::default());
        let store =
            SqliteStore::open_with(options.clone(), Sync::Full, Arc::clone(&faults)).unwrap();
        Self {
            store,
            faults,
            _folder: folder,
            options,
        }
    }

    fn append(&self) -> Result<Committed, AppendError> {
        append(&self.store)
    }

    fn size(&self) -> u64 {
        let size = self.store.head(&acme()).unwrap().size;
        let entries = self.store.entries(&acme(), EntryRange::From(0), 1000);
        assert_eq!(entries.unwrap().len() as u64, size);
        size
    }
}

fn acme() -> Name {
    "acme".parse().unwrap()
}

fn append(store: &SqliteStore) -> Result<Committed, AppendError> {
    let note = Note {
        kind: "finding.opened",
        data: "{}".into(),
        annex: None,
    };
    let append = Append {
        now: Time::from_seconds(1),
        notes: vec![note],
        ..Append::default()
    };
    let runtime = tokio::runtime::Builder::new_current_thread();
    let answer = store.append(&acme(), append);
    { runtime }.build().unwrap().block_on(answer)
}

#[test]
fn a_commit_that_fails_is_unknown_and_read_back() {
    let bench = Bench::new();
    bench.append().unwrap();
    for (fault, next) in [(LOST, 1), (KEPT, 3), (KEPT, 5), (LOST, 6)] {
        bench.faults.0.store(fault, Ordering::SeqCst);
        assert!(matches!(bench.append(), Err(AppendError::Unknown(_))));
        // The writer has read the database back before it takes the next append.
        assert_eq!(bench.append().unwrap().positions(), [next]);
        assert_eq!(bench.size(), next + 1);
    }
}

#[test]
fn a_statement_that_fails_leaves_nothing() {
    let bench = Bench::new();
    bench.append().unwrap();
    let other = Connection::open(&bench.options.path).unwrap();
    let boom =
        "CREATE TRIGGER boom BEFORE UPDATE ON commits BEGIN SELECT RAISE(ABORT, 'full'); END";
    other.execute_batch(boom).unwrap();
    for _ in 0..2 {
        match bench.append() {
            Err(AppendError::Unavailable(why)) => assert!(why.0.contains("full"), "{why}"),
            other => panic!("{other:?}"),
        }
        assert_eq!(bench.size(), 1);
    }
    other.execute_batch("DROP TRIGGER boom").unwrap();
    assert_eq!(bench.append().unwrap().positions(), [1]);
    assert_eq!(bench.size(), 2);
}

#[test]
fn a_database_that_cannot_be_opened_again_refuses_until_it_can() {
    let bench = Bench::new();
    bench.append().unwrap();
    let other = Connection::open(&bench.options.path).unwrap();
    let version = |n: u32| {
        other
            .execute_batch(&format!("PRAGMA user_version = {n}"))
            .unwrap()
    };
    version(99);
    bench.faults.0.store(LOST, Ordering::SeqCst);
    assert!(matches!(bench.append(), Err(AppendError::Unknown(_))));
    match bench.append() {
        Err(AppendError::Unavailable(why)) => assert!(why.0.contains("version 99"), "{why}"),
        other => panic!("{other:?}"),
    }
    assert_eq!(bench.store.head(&acme()).unwrap().size, 1);
    version(1);
    // It is tried again once a second.
    while bench.append().is_err() {}
    assert_eq!(bench.size(), 2);
}
