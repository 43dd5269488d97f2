//! What gives way to others: it goes after them, some of it in every commit, and none of it is lost.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use dayfly_domain::Time;
use tempfile::TempDir;

use super::{Bench, Faults, STOP, acme, wait};
use crate::sqlite::schema::Sync;
use crate::sqlite::writer::Message;
use crate::sqlite::{SqliteOptions, SqliteStore};
use crate::{Answer, Append, AppendError, Committed, Note, Store};

type Answered = Answer<Result<Committed, AppendError>>;

/// A store whose commits hold so many orders at most, and whose writer stands in the middle of one.
fn busy(batch_max: usize) -> (Bench, Answered) {
    let folder = TempDir::new().unwrap();
    let options = SqliteOptions {
        batch_max,
        ..SqliteOptions::new(folder.path().join("db"))
    };
    let faults = Arc::new(Faults::default());
    let store = SqliteStore::open_with(options.clone(), Sync::Full, Arc::clone(&faults)).unwrap();
    faults.0.store(STOP, Ordering::SeqCst);
    let first = note(&store, false);
    faults.1.wait();
    let bench = Bench {
        store,
        faults,
        _folder: folder,
        options,
    };
    (bench, first)
}

fn note(store: &SqliteStore, yields: bool) -> Answered {
    let note = Note {
        kind: "finding.opened",
        data: "{}".into(),
        annex: None,
    };
    let append = Append {
        now: Time::from_seconds(1),
        notes: vec![note],
        yields,
        ..Append::default()
    };
    store.append(&acme(), append)
}

fn positions(answers: Vec<Answered>) -> Vec<u64> {
    let position = |answer: Answered| wait(answer).unwrap().positions()[0];
    answers.into_iter().map(position).collect()
}

#[test]
fn whoever_waits_goes_before_what_yields() {
    let (bench, first) = busy(256);
    let yielding: Vec<_> = (0..20).map(|_| note(&bench.store, true)).collect();
    let urgent = note(&bench.store, false);
    bench.faults.1.wait();
    assert_eq!(positions(vec![first, urgent]), [0, 1]);
    assert_eq!(positions(yielding), (2..22).collect::<Vec<u64>>());
}

#[test]
fn some_of_what_yields_is_in_every_commit() {
    let (bench, first) = busy(4);
    let yielding: Vec<_> = (0..2).map(|_| note(&bench.store, true)).collect();
    let urgent: Vec<_> = (0..12).map(|_| note(&bench.store, false)).collect();
    bench.faults.1.wait();
    // Of each full commit one more, whoever else waits.
    assert_eq!(positions(vec![first]), [0]);
    assert_eq!(positions(yielding), [5, 10]);
    let others = [1, 2, 3, 4, 6, 7, 8, 9, 11, 12, 13, 14];
    assert_eq!(positions(urgent), others);
}

#[test]
fn a_store_that_closes_records_what_yields_too() {
    let (bench, first) = busy(256);
    let yielding: Vec<_> = (0..20).map(|_| note(&bench.store, true)).collect();
    // As when it is dropped, and while the writer still stands.
    let writing = bench.store.writing.as_ref().unwrap();
    writing.messages.send(Message::Close).unwrap();
    bench.faults.1.wait();
    assert_eq!(positions(vec![first]), [0]);
    assert_eq!(positions(yielding), (1..21).collect::<Vec<u64>>());
}
