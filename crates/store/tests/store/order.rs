//! Positions, times, chains, trees and sizes of entries.

use dayfly_domain::{Cause, Name, Time};
use dayfly_ledger::{Fsck, Hash, ReadLeaf, annex_hash, leaf_hash, node_hash};
use dayfly_store::{Append, AppendError, EntryRange, Store};

use super::fixture::*;

pub(crate) fn positions_are_contiguous_and_time_never_decreases<S: Subject>() {
    let bench = Bench::<S>::new();
    let mut next = 0;
    let mut latest = Time::default();
    for seconds in [50, 10, 60, 0, 60, 61] {
        let mut append = noted(after(seconds), r#"{"n":1}"#);
        append.notes.push(note("finding.closed", "{}"));
        let committed = bench.commit(append);
        assert_eq!(committed.positions(), [next, next + 1]);
        latest = latest.max(after(seconds));
        assert_eq!(committed.at(), latest);
        assert!(committed.size() >= next + 2);
        next += 2;
    }
    let entries = bench.entries();
    assert!((0..next).eq(entries.iter().map(|entry| entry.pos)));
    assert_eq!(bench.store().head(&acme()).unwrap().at, latest);
}

pub(crate) fn an_empty_ledger_reads_as_empty<S: Subject>() {
    let bench = Bench::<S>::new();
    let head = bench.store().head(&acme()).unwrap();
    assert_eq!(
        (head.size, head.root, head.at),
        (0, dayfly_ledger::empty_root(), Time::default())
    );
    assert_eq!(bench.entries(), []);
    assert_eq!(bench.task(id(1)), None);
    assert!(bench.store().tile(&acme(), 0, 0, 1).is_err());
}

pub(crate) fn entries_of_a_task_are_chained_and_counted<S: Subject>() {
    let bench = Bench::<S>::new();
    let task = bench.start(1);
    bench.commit(noted(NOON, "{}"));
    let committed = bench.commit(changed(renewal(&task, 1)));
    let task = committed.changes()[0].next.clone();
    bench.commit(changed(end(&task, Cause::Completed)));
    let mut fsck = Fsck::new("acme");
    for entry in bench.entries() {
        assert_eq!(leaf_hash(entry.leaf.as_bytes()), entry.hash);
        fsck.feed(entry.pos, entry.leaf.as_bytes(), &entry.hash)
            .unwrap();
        let leaf = ReadLeaf::parse(entry.leaf.as_bytes()).unwrap().leaf;
        let annex = entry
            .annex
            .map(|annex| annex_hash(&annex.salt, annex.data.as_bytes()));
        assert_eq!(leaf.h, annex);
    }
    assert_eq!(fsck.open_tasks().count(), 0);
    let head = bench.store().head(&acme()).unwrap();
    fsck.finish(head.size, &head.root).unwrap();
}

pub(crate) fn ranges_of_entries<S: Subject>() {
    let bench = Bench::<S>::new();
    let task = bench.start(1);
    bench.start(2);
    bench.commit(changed(renewal(&task, 1)));
    let positions = |range, limit| -> Vec<u64> {
        let entries = bench.store().entries(&acme(), range, limit).unwrap();
        entries.iter().map(|entry| entry.pos).collect()
    };
    assert_eq!(positions(EntryRange::From(0), 100), [0, 1, 2, 3, 4, 5, 6]);
    assert_eq!(positions(EntryRange::From(5), 100), [5, 6]);
    assert_eq!(positions(EntryRange::From(2), 2), [2, 3]);
    assert_eq!(positions(EntryRange::From(7), 2), [0; 0]);
    assert_eq!(positions(EntryRange::Of(id(1), 1), 100), [0, 1, 2, 6]);
    assert_eq!(positions(EntryRange::Of(id(1), 3), 100), [2, 6]);
    assert_eq!(positions(EntryRange::Of(id(1), 1), 2), [0, 1]);
    assert_eq!(positions(EntryRange::Of(id(3), 1), 100), [0; 0]);
}

pub(crate) fn tenants_have_ledgers_of_their_own<S: Subject>() {
    let bench = Bench::<S>::new();
    let other = name("umbrella");
    bench.start(1);
    wait(bench.store().append(&other, noted(NOON, "{}"))).unwrap();
    wait(bench.store().append(&other, start(1).append)).unwrap();
    let of = |tenant: &Name| {
        bench
            .store()
            .entries(tenant, EntryRange::From(0), 100)
            .unwrap()
    };
    assert_eq!(of(&acme()).len(), 3);
    assert_eq!(of(&other).len(), 4);
    let chain = |tenant: &Name| {
        bench
            .store()
            .entries(tenant, EntryRange::Of(id(1), 1), 100)
            .unwrap()
            .len()
    };
    assert_eq!((chain(&acme()), chain(&other)), (3, 3));
    assert!(
        of(&other)
            .iter()
            .all(|entry| entry.leaf.contains("umbrella"))
    );
    let roots = [&acme(), &other].map(|tenant| bench.store().head(tenant).unwrap().root);
    assert_ne!(roots[0], roots[1]);
}

pub(crate) fn a_leaf_too_large_leaves_nothing<S: Subject>() {
    let bench = Bench::<S>::new();
    bench.commit(noted(NOON, "{}"));
    let start = start(1);
    let mut append = start.append;
    append.notes.push(note(
        "finding.opened",
        &format!(r#"{{"x":"{}"}}"#, "x".repeat(8192)),
    ));
    append.claims.push(claim(&start.task));
    append.spends.push(spend("proof", 1));
    assert_eq!(bench.append(append).unwrap_err(), AppendError::TooLarge);
    assert_eq!(bench.entries().len(), 1);
    assert_eq!(bench.task(id(1)), None);
    assert_eq!(bench.claims(&start.task.series), []);
    assert_eq!(bench.spent(&key("proof")), None);
    // An annex is not part of the leaf.
    let mut append = noted(NOON, "{}");
    append.notes[0].annex = Some(dayfly_store::Annex {
        salt: [1; 16],
        data: format!("\"{}\"", "x".repeat(50_000)),
    });
    bench.commit(append);
    assert_eq!(
        bench.entries()[1].annex.as_ref().unwrap().data.len(),
        50_002
    );
}

pub(crate) fn an_append_that_no_ledger_holds_is_refused<S: Subject>() {
    let bench = Bench::<S>::new();
    for data in ["", "[]", "{", "7", "{} {}"] {
        let error = bench.append(noted(NOON, data)).unwrap_err();
        assert!(matches!(error, AppendError::Unfit(_)), "{data}: {error}");
    }
    assert_eq!(bench.store().head(&acme()).unwrap().size, 0);
}

pub(crate) fn head_and_tiles_are_those_of_a_naive_tree<S: Subject>() {
    let mut bench = Bench::<S>::new();
    for count in [1, 254, 1, 1, 300, 5] {
        let note = note("finding.opened", r#"{"n":1}"#);
        bench.commit(Append {
            now: NOON,
            notes: vec![note; count],
            ..Append::default()
        });
        check_tree(bench.store());
    }
    bench.subject.reopen();
    check_tree(bench.store());
    bench.commit(noted(NOON, "{}"));
    check_tree(bench.store());
}

fn check_tree(store: &dyn Store) {
    let head = store.head(&acme()).unwrap();
    let entries = store
        .entries(&acme(), EntryRange::From(0), usize::MAX)
        .unwrap();
    let mut level: Vec<Hash> = entries.iter().map(|entry| entry.hash).collect();
    assert_eq!(head.size, level.len() as u64);
    assert_eq!(head.root, naive_root(&level));
    for number in 0..3 {
        for (index, tile) in (0..).zip(level.chunks(256)) {
            for width in [1, tile.len() / 2, tile.len()] {
                let width = width.max(1);
                let got = store.tile(&acme(), number, index, width as u16).unwrap();
                assert_eq!(got, tile[..width], "level {number}, tile {index}");
            }
            let beyond = tile.len() as u16 + 1;
            assert!(store.tile(&acme(), number, index, beyond).is_err());
        }
        level = level.chunks_exact(256).map(naive_root).collect();
    }
}

fn naive_root(leaves: &[Hash]) -> Hash {
    match leaves {
        [leaf] => *leaf,
        leaves => {
            let (left, right) = leaves.split_at(leaves.len().next_power_of_two() / 2);
            node_hash(&naive_root(left), &naive_root(right))
        }
    }
}
