//! That the index and the entries behind it are one place to find in, however far the index goes.

use dayfly_domain::{Name, Time};
use rusqlite::Connection;
use tempfile::TempDir;

use super::index::{self, BLOCK, Index};
use super::{Missed, Places};
use crate::sqlite::entries::Entries;
use crate::sqlite::schema::open_reader;
use crate::{Append, Note, SearchKey, SqliteOptions, SqliteStore, Store};

/// So many notes of the owner that their position, counted from one, is a multiple of.
const OWNERS: [u64; 3] = [2, 3, 400];

fn owner(of: u64) -> Name {
    format!("every-{of}").parse().unwrap()
}

/// A ledger of notes, and where its database lies.
fn ledger(folder: &TempDir, size: u64) -> Connection {
    let path = folder.path().join("db");
    let store = SqliteStore::open(SqliteOptions::new(&path)).unwrap();
    let note = |number: u64| {
        let of = OWNERS.iter().rev().find(|of| number.is_multiple_of(**of));
        let owner = of.map_or_else(|| "nobody".parse().unwrap(), |of| owner(*of));
        Note {
            kind: "finding.opened",
            data: format!(r#"{{"owner":"{owner}"}}"#),
            annex: None,
        }
    };
    let append = Append {
        now: Time::from_seconds(1),
        notes: (1..=size).map(note).collect(),
        ..Append::default()
    };
    let answer = store.append(&"acme".parse().unwrap(), append);
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    runtime.build().unwrap().block_on(answer).unwrap();
    drop(store);
    open_reader(&path).unwrap()
}

fn wanted(of: u64, below: u64) -> Vec<u64> {
    let has = |number: &u64| {
        let first = OWNERS.iter().rev().find(|of| number.is_multiple_of(**of));
        first == Some(&of)
    };
    (1..=below)
        .rev()
        .filter(has)
        .map(|number| number - 1)
        .collect()
}

#[test]
fn what_the_index_lacks_is_found_in_the_entries() {
    let folder = TempDir::new().unwrap();
    let size = 2 * BLOCK + 100;
    let entries = ledger(&folder, size);
    let path = folder.path().join("index");
    let mut index = Index::begin(&path).unwrap();
    // From nothing over the middle of a block and its end up to everything.
    for held in [0, 100, BLOCK, BLOCK + 1, 2 * BLOCK, size] {
        while index.sizes().first().is_none_or(|size| *size < held) && held > 0 {
            index
                .write(&Entries::new(&entries, folder.path()), &[held])
                .unwrap();
        }
        let reader = index::open_reader(&path).unwrap();
        for with in [Some(&reader), None] {
            let places = Places {
                index: with,
                entries: &Entries::new(&entries, folder.path()),
                tenant: 0,
                tail: u64::MAX,
            };
            for of in OWNERS {
                let key = SearchKey::Owner(owner(of));
                for below in [size, 2 * BLOCK, 101, 1] {
                    let all = wanted(of, below);
                    for limit in [1, 150, usize::MAX] {
                        let found = places.find(&key, below, limit).ok().unwrap();
                        assert!(
                            found.iter().eq(all.iter().take(limit)),
                            "{of} below {below} with {held} held: {} of {}",
                            found.len(),
                            all.len().min(limit),
                        );
                    }
                }
            }
        }
    }
}

/// One of before lacks keys that are looked for now: neither is it gone on with nor read.
#[test]
fn an_index_of_another_form_is_not_read() {
    let folder = TempDir::new().unwrap();
    let entries = ledger(&folder, 10);
    let entries = Entries::new(&entries, folder.path());
    let path = folder.path().join("index");
    let mut index = Index::begin(&path).unwrap();
    index.write(&entries, &[10]).unwrap();
    drop(index);
    let is_read = || {
        let opened = Index::open(&path, &entries).unwrap().is_some();
        (opened, index::open_reader(&path).is_ok())
    };
    assert_eq!(is_read(), (true, true));
    let former = Connection::open(&path).unwrap();
    former.execute_batch("PRAGMA user_version = 3").unwrap();
    drop(former);
    assert_eq!(is_read(), (false, false));
}

#[test]
fn more_than_can_be_looked_through_is_said_and_never_left_out() {
    let folder = TempDir::new().unwrap();
    let entries = ledger(&folder, 600);
    let path = folder.path().join("index");
    let mut index = Index::begin(&path).unwrap();
    index
        .write(&Entries::new(&entries, folder.path()), &[100])
        .unwrap();
    let reader = index::open_reader(&path).unwrap();
    let find = |tail, of, below, limit| {
        let places = Places {
            index: Some(&reader),
            entries: &Entries::new(&entries, folder.path()),
            tenant: 0,
            tail,
        };
        places.find(&SearchKey::Owner(owner(of)), below, limit)
    };
    // There is one, and another might be where nobody looked.
    let lags = |found| matches!(found, Err(Missed::Lags(500)));
    assert!(lags(find(499, 400, 600, 2)));
    assert!(lags(find(150, 400, 600, 1)));
    assert_eq!(find(500, 400, 600, 9).ok(), Some(vec![399]));
    // What is found in what was looked through is enough where no more is asked for.
    assert_eq!(find(9, 2, 600, 2).ok(), Some(wanted(2, 600)[..2].to_vec()));
    // And below a cursor that the index has passed nothing is missing.
    assert_eq!(find(0, 2, 100, 2).ok(), Some(wanted(2, 100)[..2].to_vec()));
}
