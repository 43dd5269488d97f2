//! What only this backend has and only its inside can show: failed commits, and syncs.

mod durability;
mod known;
mod yielding;

use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Barrier};

use dayfly_domain::{Name, Time};
use rusqlite::Connection;
use tempfile::TempDir;

use super::schema::Sync;
use super::writer::commit;
use super::{SqliteOptions, SqliteStore};
use crate::{
    Answer, Append, AppendError, Committed, Document, EntryRange, FactsQuery, Note, Store, Touch,
};

/// Commits that are made to fail, or to stop before they are published.
#[derive(Debug)]
pub(super) struct Faults(AtomicU8, Barrier);

const LOST: u8 = 1;
const KEPT: u8 = 2;
const STOP: u8 = 3;

impl Default for Faults {
    fn default() -> Self {
        Self(AtomicU8::new(0), Barrier::new(2))
    }
}

impl Faults {
    pub(super) fn commit(&self, db: &Connection) -> rusqlite::Result<()> {
        match self.0.swap(0, Ordering::SeqCst) {
            LOST => Err(rusqlite::Error::InvalidQuery),
            KEPT => commit(db).and(Err(rusqlite::Error::InvalidQuery)),
            STOP => {
                commit(db)?;
                self.1.wait();
                self.1.wait();
                Ok(())
            }
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
    wait(store.append(&acme(), append))
}

fn wait<T>(answer: Answer<T>) -> T {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    runtime.build().unwrap().block_on(answer)
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
    let own = other
        .query_row("PRAGMA user_version", [], |row| row.get(0))
        .unwrap();
    version(99);
    bench.faults.0.store(LOST, Ordering::SeqCst);
    assert!(matches!(bench.append(), Err(AppendError::Unknown(_))));
    match bench.append() {
        Err(AppendError::Unavailable(why)) => assert!(why.0.contains("version 99"), "{why}"),
        other => panic!("{other:?}"),
    }
    assert_eq!(bench.store.head(&acme()).unwrap().size, 1);
    version(own);
    // It is tried again once a second.
    while bench.append().is_err() {}
    assert_eq!(bench.size(), 2);
}

#[test]
fn facts_are_read_at_one_position() {
    let bench = Bench::new();
    bench.append().unwrap();
    let written = Append {
        now: Time::from_seconds(1),
        revises: true,
        documents: vec![Document {
            name: "a".into(),
            bytes: Some(vec![1]),
        }],
        ..Append::default()
    };
    let query = FactsQuery {
        documents: Some(""),
        ..FactsQuery::default()
    };
    bench.faults.0.store(STOP, Ordering::SeqCst);
    let answer = bench.store.append(&acme(), written);
    bench.faults.1.wait();
    // The database has the commit and the memory has not, so there is no one position to read.
    let between = bench.store.facts(&acme(), &query);
    let in_memory = bench.store.facts(&acme(), &FactsQuery::default());
    bench.faults.1.wait();
    assert!(between.is_err(), "{between:?}");
    // What needs the memory alone is read as it was.
    assert_eq!(in_memory.unwrap().revision, 0);
    wait(answer).unwrap();
    let facts = bench.store.facts(&acme(), &query).unwrap();
    assert_eq!((facts.revision, facts.documents.len()), (1, 1));
}

#[test]
fn what_a_failed_commit_did_not_save_the_next_one_does() {
    let bench = Bench::new();
    bench.append().unwrap();
    let alive = |seconds| {
        let at = Time::from_seconds(seconds);
        bench.store.touch(&acme(), Touch::Alive { at });
    };
    alive(1);
    alive(20);
    let deaf = [(Time::from_seconds(1), Time::from_seconds(20))];
    bench.faults.0.store(LOST, Ordering::SeqCst);
    assert!(bench.append().is_err());
    assert_eq!(deafness(&bench.store), deaf);
    let Bench { store, options, .. } = &bench;
    let saved = SqliteStore::open_read_only(options).unwrap();
    assert_eq!(deafness(&saved), []);
    append(store).unwrap();
    let saved = SqliteStore::open_read_only(options).unwrap();
    assert_eq!(deafness(&saved), deaf);
}

fn deafness(store: &SqliteStore) -> Vec<(Time, Time)> {
    let view = store.shared.published.read();
    let (_, tenant) = view.tenant(&acme()).unwrap();
    let hearing = super::view::lock(&tenant.hearing);
    hearing.deaf().to_vec()
}
