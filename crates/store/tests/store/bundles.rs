//! Entries in bundles: what is dropped from a database reads as before, and what is lost is named.

use std::fs;
use std::path::{Path, PathBuf};

use dayfly_domain::Cause;
use dayfly_store::{
    Append, AppendError, Bundle, BundleError, EntryRange, SearchKey, StoredEntry, bundle, fsck,
    fsck_with,
};
use rusqlite::Connection;

use super::fixture::*;
use super::sqlite::Sqlite;

const ORIGIN: &str = "dayfly.example/acme";

/// A ledger of more than two tiles, all of whose tasks have ended but the last, and of which one
/// lies in two tiles.
fn full() -> Bench<Sqlite> {
    let bench = Bench::<Sqlite>::new();
    for n in 1..=140 {
        let mut task = bench.start(n);
        if n == 1 {
            let renewed = renewal(&task, n);
            task = renewed.next.clone();
            bench.commit(changed(renewed));
        }
        bench.commit(changed(end(&task, Cause::Completed)));
    }
    bench.start(141);
    bench
}

fn folder(bench: &Bench<Sqlite>) -> PathBuf {
    bench.subject.options.bundles.clone()
}

/// The entries of a tile, as they would be exported.
fn sealed(bench: &Bench<Sqlite>, first: u64) -> Vec<StoredEntry> {
    let entries = bench
        .store()
        .entries(&acme(), EntryRange::From(first), 256)
        .unwrap();
    assert_eq!(entries.len(), 256);
    entries
}

fn write(bench: &Bench<Sqlite>, first: u64) -> PathBuf {
    let bundle = Bundle::of(ORIGIN, &acme(), sealed(bench, first)).unwrap();
    bundle.write(&folder(bench)).unwrap()
}

fn drop_from(bench: &Bench<Sqlite>, first: u64) -> Result<(), AppendError> {
    let drops = Append {
        now: NOON,
        drops: Some(first..first + 256),
        ..Append::default()
    };
    bench.append(drops).map(drop)
}

/// How many entries have no bytes in the database.
fn dropped(bench: &Bench<Sqlite>) -> u32 {
    let db = Connection::open(&bench.subject.options.path).unwrap();
    db.query_row(
        "SELECT count(*) FROM entries WHERE leaf = '' AND salt IS NULL AND annex IS NULL",
        [],
        |row| row.get(0),
    )
    .unwrap()
}

fn free_pages(bench: &Bench<Sqlite>) -> u32 {
    let db = Connection::open(&bench.subject.options.path).unwrap();
    db.query_row("PRAGMA freelist_count", [], |row| row.get(0))
        .unwrap()
}

/// Everything that reads of entries say.
fn all(bench: &Bench<Sqlite>) -> impl PartialEq + std::fmt::Debug + use<> {
    let store = bench.store();
    let of = |n| store.entries(&acme(), EntryRange::Of(id(n), 2), 9).unwrap();
    let find = |key: SearchKey| store.find(&acme(), &key, None, 1000).unwrap();
    (
        bench.entries(),
        [1, 2, 64, 65, 128, 140, 141].map(of),
        [
            find(SearchKey::Owner(name("team"))),
            find(SearchKey::Issuer(github())),
            find(SearchKey::Subject(github(), "repo:o/r".into())),
            find(SearchKey::Instance("job-2".into())),
            find(SearchKey::Token(digest("token 1 2"))),
        ],
        store.head(&acme()).unwrap(),
        store.tile(&acme(), 0, 0, 256).unwrap(),
    )
}

#[test]
fn what_is_dropped_reads_as_before() {
    let mut bench = full();
    let before = all(&bench);
    let report = fsck(&bench.subject.options.path).unwrap();
    for first in [0u32, 256] {
        write(&bench, first.into());
        // Between export and drop the process may be killed: the next one does both again.
        bench.subject.reopen();
        let path = write(&bench, first.into());
        drop_from(&bench, first.into()).unwrap();
        assert_eq!(dropped(&bench), first + 256);
        assert!(all(&bench) == before, "other entries or places");
        use std::os::unix::fs::PermissionsExt;
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
        // An export reads what was dropped too, and finds the same.
        let bytes = fs::read(&path).unwrap();
        write(&bench, first.into());
        assert_eq!(fs::read(&path).unwrap(), bytes);
        assert_eq!(
            fs::read_dir(path.parent().unwrap()).unwrap().count(),
            first as usize / 256 + 1
        );
    }
    assert!(free_pages(&bench) > 20, "{}", free_pages(&bench));
    assert_eq!(fsck(&bench.subject.options.path).unwrap(), report);
    // Read back from nothing, and with an index that is built from the bundles.
    let search = bench.subject.options.path.with_extension("db.search");
    assert!(search.exists());
    fs::remove_file(search).unwrap();
    bench.subject.reopen();
    assert!(all(&bench) == before, "other entries or places");
    // An ended task is known to have been there, and the ledger goes on.
    assert!(matches!(
        bench.append(start(3).append),
        Err(AppendError::Conflict)
    ));
    bench.start(142);
    fsck(&bench.subject.options.path).unwrap();
}

#[test]
fn a_use_long_after_the_end_is_told_the_cause() {
    use dayfly_store::{Observed, Use};
    let bench = full();
    write(&bench, 0);
    drop_from(&bench, 0).unwrap();
    let used = Use {
        client: format!(
            "client_{}_1",
            id(2).to_string().strip_prefix("task_").unwrap()
        )
        .parse()
        .unwrap(),
        now: NOON,
        relies: Vec::new(),
        revision: None,
        spend: None,
        limit: None,
        unblocked: Vec::new(),
        note: note("use.allowed", "{}"),
    };
    let observe = || wait(bench.store().observe(&acme(), vec![used.clone()]));
    assert_eq!(observe().unwrap(), [Observed::Ended(Cause::Completed)]);
    fs::remove_file(bundle::path(&folder(&bench), "acme", 0)).unwrap();
    assert!(
        matches!(observe(), Err(AppendError::Unavailable(why)) if why.0.contains("is missing"))
    );
}

#[test]
fn nothing_is_dropped_that_is_needed_or_not_in_a_bundle() {
    let bench = full();
    let path = bundle::path(&folder(&bench), "acme", 0);
    let refused = |first| {
        let refused = drop_from(&bench, first).unwrap_err();
        assert_eq!(dropped(&bench), 0);
        refused
    };
    assert!(matches!(refused(0), AppendError::Unavailable(why) if why.0.contains("is missing")));
    write(&bench, 0);
    // A bundle that lacks an annex which the database has, and one of another ledger.
    assert!(bundle::without(&path, &[9]).unwrap());
    assert_eq!(refused(0), AppendError::Conflict);
    let other = full();
    other.commit(Append {
        now: after(1),
        ..noted(NOON, "{}")
    });
    let mut entries = sealed(&other, 0);
    let cut = entries.len() - 1;
    assert!(Bundle::of(ORIGIN, &acme(), entries[..cut].to_vec()).is_none());
    entries[1].leaf = entries[1].leaf.replace("job-1", "job-7");
    assert!(Bundle::of(ORIGIN, &acme(), entries.clone()).is_none());
    entries[1].hash = dayfly_ledger::leaf_hash(entries[1].leaf.as_bytes());
    let forged = Bundle::of(ORIGIN, &acme(), entries).unwrap();
    forged.write(&folder(&bench)).unwrap();
    assert_eq!(refused(0), AppendError::Conflict);
    // The one that was there is kept, and no longer in the way.
    let names = fs::read_dir(path.parent().unwrap()).unwrap();
    assert_eq!(names.count(), 2);
    write(&bench, 0);
    drop_from(&bench, 0).unwrap();
    assert_eq!(dropped(&bench), 256);
    assert_eq!(drop_from(&bench, 0), Err(AppendError::Conflict));

    // A task that is open, and the end of the ledger.
    let bench = Bench::<Sqlite>::new();
    bench.start(1);
    let notes = vec![note("finding.opened", "{}"); 253];
    bench.commit(Append {
        now: NOON,
        notes,
        ..Append::default()
    });
    write(&bench, 0);
    assert_eq!(drop_from(&bench, 0), Err(AppendError::Conflict));
    bench.commit(noted(NOON, "{}"));
    assert_eq!(drop_from(&bench, 0), Err(AppendError::Conflict));
    let task = bench.task(id(1)).unwrap().task;
    bench.commit(changed(end(&task, Cause::Operator)));
    drop_from(&bench, 0).unwrap();
}

fn damage(path: &Path, from: &str, to: &str) {
    let text = fs::read_to_string(path).unwrap();
    assert!(text.contains(from), "{from}");
    fs::write(path, text.replacen(from, to, 1)).unwrap();
}

#[test]
fn a_bundle_that_is_lost_is_named_and_nothing_else_is() {
    let table: [(&str, &str, &str); 6] = [
        ("job-9", "job-8", "not the entry of this ledger"),
        ("repo:o/r", "repo:o/x", "annex is not the one"),
        (
            r#"{"pos":7"#,
            r#"{"pos":8"#,
            "an entry of position 8 stands there",
        ),
        (
            r#""count":256"#,
            r#""count":255"#,
            "has 256 entries and says 255",
        ),
        (r#"{"pos":255"#, r#"{"sop":255"#, "at position 255"),
        ("", "", "is missing"),
    ];
    for (from, to, said) in table {
        let bench = full();
        let path = write(&bench, 0);
        drop_from(&bench, 0).unwrap();
        if from.is_empty() {
            fs::remove_file(&path).unwrap();
        } else {
            damage(&path, from, to);
        }
        let store = bench.store();
        let named = |why: &str| {
            assert!(
                why.contains(&path.display().to_string()) && why.contains(said),
                "{why}"
            );
        };
        let range = EntryRange::From(if from == "job-9" { 33 } else { 0 });
        named(&store.entries(&acme(), range, 100).unwrap_err().0);
        // Everything else is there: later entries, heads, tiles, and the rest of the check.
        assert!(
            !store
                .entries(&acme(), EntryRange::From(256), 500)
                .unwrap()
                .is_empty()
        );
        store.tile(&acme(), 0, 0, 256).unwrap();
        let report = fsck(&bench.subject.options.path).unwrap();
        let [why] = &report.tenants[0].lost[..] else {
            panic!("{from}: {:?}", report.tenants[0].lost);
        };
        named(&why.to_string());
        assert_eq!(why.path(), path);
        assert_eq!(report.tenants[0].open, 1);
        // What the rows still say is checked all the same.
        let db = Connection::open(&bench.subject.options.path).unwrap();
        db.execute_batch("UPDATE entries SET hash = zeroblob(32) WHERE id = 3")
            .unwrap();
        assert!(fsck(&bench.subject.options.path).is_err(), "{from}");
    }
    let bench = full();
    write(&bench, 0);
    drop_from(&bench, 0).unwrap();
    let elsewhere = bench.subject.options.path.with_file_name("elsewhere");
    let report = fsck_with(&bench.subject.options.path, &elsewhere).unwrap();
    assert!(matches!(
        report.tenants[0].lost[..],
        [BundleError::Missing { .. }]
    ));
}

#[test]
fn a_bundle_can_be_without_some_annexes() {
    let bench = full();
    let path = write(&bench, 0);
    drop_from(&bench, 0).unwrap();
    let before = bench.entries();
    assert!(before[9].annex.is_some() && before[5].annex.is_some());
    assert!(bundle::without(&path, &[9, 10, 700]).unwrap());
    assert!(!bundle::without(&path, &[9, 10, 700]).unwrap());
    let mut wanted = before;
    wanted[9].annex = None;
    assert_eq!(bench.entries(), wanted);
    assert!(
        fsck(&bench.subject.options.path).unwrap().tenants[0]
            .lost
            .is_empty()
    );
    let missing = path.with_file_name("none.bundle");
    assert!(matches!(
        bundle::without(&missing, &[1]),
        Err(BundleError::Missing { .. })
    ));
}

/// An erasure reaches what lies in a bundle, and one that was cut short is done by its repeat.
#[test]
fn what_is_erased_is_gone_from_its_bundle_too() {
    let mut bench = full();
    let before = bench.entries();
    let annexed: Vec<u64> = before[..256]
        .iter()
        .filter(|entry| entry.annex.is_some())
        .map(|entry| entry.pos)
        .take(3)
        .collect();
    let path = write(&bench, 0);
    drop_from(&bench, 0).unwrap();
    let erase = || Append {
        now: NOON,
        erases: annexed.clone(),
        ..Append::default()
    };
    bench.commit(erase());
    for _ in 0..2 {
        for (was, is) in before.iter().zip(bench.entries()) {
            let erased = annexed.contains(&was.pos);
            assert_eq!((&was.leaf, was.hash), (&is.leaf, is.hash));
            assert_eq!(
                is.annex.is_none(),
                erased || was.annex.is_none(),
                "{}",
                was.pos
            );
        }
        bench.subject.reopen();
    }
    let there = Bundle::read(&path).unwrap();
    let left = |entry: &&StoredEntry| annexed.contains(&entry.pos) && entry.annex.is_some();
    assert_eq!(there.entries().iter().filter(left).count(), 0);
    bench.commit(erase());
    let options = &bench.subject.options;
    fsck_with(&options.path, &options.bundles).unwrap();
}
