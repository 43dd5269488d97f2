//! Epochs, the revision, limits, blocks and documents, judged at the position.

use dayfly_domain::{Block, BlockOn, Cause, Digest, Epoch, EpochOf, Limits, TaskId};
use dayfly_store::{Append, AppendError, Document, FactsQuery, OpenFilter};

use super::fixture::*;

fn team() -> EpochOf {
    EpochOf::Owner(name("team"))
}

pub(crate) fn a_moved_epoch_is_stale<S: Subject>() {
    let mut bench = Bench::<S>::new();
    let relying = |n, at| {
        let mut append = start(n).append;
        append.relies = vec![
            Epoch {
                of: EpochOf::Tenant,
                at: 0,
            },
            Epoch { of: team(), at },
        ];
        append
    };
    bench.commit(relying(1, 0));
    let task = bench.task(id(1)).unwrap();
    assert_eq!(task.stale, None);
    bench.commit(Append {
        now: NOON,
        moves: vec![team()],
        ..Append::default()
    });
    assert_eq!(
        bench.append(relying(2, 0)).unwrap_err(),
        AppendError::Stale(team())
    );
    assert_eq!(bench.task(id(1)).unwrap().stale, Some(team()));
    bench.subject.reopen();
    assert_eq!(
        bench.append(relying(2, 0)).unwrap_err(),
        AppendError::Stale(team())
    );
    assert_eq!(bench.task(id(1)).unwrap().stale, Some(team()));
    bench.commit(relying(2, 1));
    let epochs = [team(), EpochOf::Tenant, EpochOf::Issuer(github())];
    let facts = bench.facts(&FactsQuery {
        epochs: &epochs,
        ..FactsQuery::default()
    });
    let values: Vec<u64> = facts.epochs.iter().map(|epoch| epoch.at).collect();
    assert_eq!(values, [1, 0, 0]);
    assert!(facts.epochs.iter().map(|epoch| &epoch.of).eq(&epochs));
    // An end asks for nothing.
    bench.commit(changed(end(&task.task, Cause::OwnerOffboarded)));
}

/// Rights taken away may concern everything: the sweep gets it page by page, each task once, among
/// those that are due by their time.
pub(crate) fn tasks_on_a_moved_epoch_come_in_pages<S: Subject>() {
    let mut bench = Bench::<S>::new();
    for n in 1..=9 {
        if n % 4 == 0 {
            let timed = start_with(n, |started| {
                started.deadline = NOON + dayfly_domain::Span::from_seconds(1);
                started.epochs.clear();
            });
            bench.commit(timed.append);
        } else {
            bench.start(n);
        }
    }
    bench.commit(Append {
        now: NOON,
        moves: vec![team()],
        ..Append::default()
    });
    for round in 0..2 {
        let at = NOON + dayfly_domain::Span::from_seconds(2);
        let (mut found, mut cursor) = (Vec::new(), None);
        loop {
            let filter = OpenFilter::Due(at);
            let page = bench.store().open(&acme(), &filter, cursor, 2).unwrap();
            let Some(last) = page.last() else { break };
            assert!(page.len() <= 2);
            cursor = Some(last.task.id);
            found.extend(page.iter().map(|open| open.task.id));
        }
        assert_eq!(found, (1..=9).map(id).collect::<Vec<_>>(), "round {round}");
        bench.subject.reopen();
    }
}

pub(crate) fn tasks_on_a_moved_epoch_are_due<S: Subject>() {
    let mut bench = Bench::<S>::new();
    bench.start(1);
    let other = start_with(2, |started| {
        started.epochs = vec![Epoch {
            of: EpochOf::Tenant,
            at: 0,
        }]
    });
    bench.commit(other.append);
    bench.start(3);
    let due = |bench: &Bench<S>| -> Vec<TaskId> {
        let due = bench
            .store()
            .open(&acme(), &OpenFilter::Due(NOON), None, 10)
            .unwrap();
        due.iter().map(|open| open.task.id).collect()
    };
    assert_eq!(due(&bench), []);
    bench.commit(Append {
        now: NOON,
        moves: vec![team()],
        ..Append::default()
    });
    assert_eq!(due(&bench), [id(1), id(3)]);
    bench.subject.reopen();
    assert_eq!(due(&bench), [id(1), id(3)]);
    let task = bench.task(id(1)).unwrap().task;
    bench.commit(changed(end(&task, Cause::OwnerOffboarded)));
    assert_eq!(due(&bench), [id(3)]);
    // One that opens although it relies on what is gone is due as well.
    bench.start(4);
    assert_eq!(due(&bench), [id(3), id(4)]);
}

/// What a delegated client relies on beside its task takes rights from that client alone, and the
/// sweep is told until the client has ended.
pub(crate) fn a_moved_epoch_of_a_delegated_client_is_its_own<S: Subject>() {
    let mut bench = Bench::<S>::new();
    let task = bench.start(1);
    let task = bench.commit(changed(delegated(&task, 1, 0))).changes()[0]
        .next
        .clone();
    bench.start(2);
    let look = |bench: &Bench<S>| {
        let open = bench.task(id(1)).unwrap();
        let standing = bench.facts(&FactsQuery {
            standings: &[id(1)],
            ..FactsQuery::default()
        });
        assert_eq!(standing.standings, [Some(open.standing())]);
        let due = bench
            .store()
            .open(&acme(), &OpenFilter::Due(NOON), None, 10);
        (open, due.unwrap().len())
    };
    let (open, due) = look(&bench);
    assert_eq!((open.stale_for(2), due), (None, 0));
    bench.commit(Append {
        now: NOON,
        moves: vec![scanners()],
        ..Append::default()
    });
    for _ in 0..2 {
        let (open, due) = look(&bench);
        assert_eq!((open.stale.as_ref(), due), (None, 1));
        assert_eq!(open.stale_for(1), None);
        assert_eq!(open.stale_for(2), Some(&scanners()));
        bench.subject.reopen();
    }
    // One that came in after the move relies on what is there now.
    let task = bench.commit(changed(delegated(&task, 1, 1))).changes()[0]
        .next
        .clone();
    let (open, due) = look(&bench);
    assert_eq!((open.stale_for(3), due), (None, 1));
    assert_eq!(open.stale_for(2), Some(&scanners()));
    bench.commit(changed(end_of(&task, 2)));
    for _ in 0..2 {
        let (open, due) = look(&bench);
        assert_eq!((open.lost.len(), due), (0, 0));
        bench.subject.reopen();
    }
}

pub(crate) fn a_moved_revision_is_revised<S: Subject>() {
    let mut bench = Bench::<S>::new();
    let under = |n, revision| Append {
        revision: Some(revision),
        ..start(n).append
    };
    bench.commit(under(1, 0));
    bench.commit(Append {
        now: NOON,
        revises: true,
        ..Append::default()
    });
    assert_eq!(bench.append(under(2, 0)).unwrap_err(), AppendError::Revised);
    bench.subject.reopen();
    assert_eq!(bench.append(under(2, 0)).unwrap_err(), AppendError::Revised);
    bench.commit(under(2, 1));
    assert_eq!(bench.facts(&FactsQuery::default()).revision, 1);
}

pub(crate) fn limits_are_counted_at_the_position<S: Subject>() {
    let mut bench = Bench::<S>::new();
    let limited = |n, open, starts_per_hour, now| {
        let limits = Some((
            release(),
            Limits {
                open,
                starts_per_hour,
            },
        ));
        Append {
            now,
            limits,
            ..start(n).append
        }
    };
    bench.commit(limited(1, Some(2), None, NOON));
    bench.commit(limited(2, Some(2), None, NOON));
    assert_eq!(
        bench.append(limited(3, Some(2), None, NOON)).unwrap_err(),
        AppendError::Conflict
    );
    bench.subject.reopen();
    assert_eq!(
        bench.append(limited(3, Some(2), None, NOON)).unwrap_err(),
        AppendError::Conflict
    );
    let counts = |bench: &Bench<S>| {
        let workload = release();
        let facts = bench.facts(&FactsQuery {
            counts: Some(&workload),
            ..FactsQuery::default()
        });
        (facts.counts.open, facts.counts.starts_last_hour)
    };
    assert_eq!(counts(&bench), (2, 2));
    let task = bench.task(id(1)).unwrap().task;
    bench.commit(changed(end(&task, Cause::Completed)));
    assert_eq!(counts(&bench), (1, 2));
    // There is room among the open ones, and none among the starts of the hour.
    let full = limited(3, Some(2), Some(2), after(1800));
    assert_eq!(bench.append(full).unwrap_err(), AppendError::Conflict);
    bench.subject.reopen();
    assert_eq!(counts(&bench), (1, 2));
    let later = after(2 * 3600);
    bench.clock.set(later);
    assert_eq!(counts(&bench), (1, 0));
    bench.commit(limited(3, Some(2), Some(2), later));
    assert_eq!(counts(&bench), (2, 1));
    bench.subject.reopen();
    assert_eq!(counts(&bench), (2, 1));
}

/// Starts are counted by when they were, whatever time the ledger has come to by another's clock.
pub(crate) fn starts_of_the_hour_are_those_of_the_clock<S: Subject>() {
    let mut bench = Bench::<S>::new();
    let limited = |n, now| Append {
        now,
        limits: Some((
            release(),
            Limits {
                open: None,
                starts_per_hour: Some(1),
            },
        )),
        ..start(n).append
    };
    bench.commit(limited(1, after(30 * 3600)));
    bench.commit(limited(2, NOON));
    for n in [3, 4] {
        let full = bench.append(limited(n, after(1800))).unwrap_err();
        assert_eq!(full, AppendError::Conflict);
        bench.subject.reopen();
    }
    bench.commit(limited(5, after(3700)));
}

pub(crate) fn blocks_stand_until_lifted<S: Subject>() {
    let mut bench = Bench::<S>::new();
    let on = |series: &str| BlockOn::Series {
        issuer: github(),
        series: series.into(),
    };
    let block = |series: &str| Block {
        on: on(series),
        task: Some(id(1)),
        since: NOON,
    };
    let set = |blocks| Append {
        now: NOON,
        blocks,
        ..Append::default()
    };
    bench.commit(set(vec![block("a"), block("b")]));
    bench.commit(set(vec![Block {
        task: None,
        ..block("a")
    }]));
    let blocks = |bench: &Bench<S>| bench.facts(&FactsQuery::default()).blocks.to_vec();
    let wanted = [
        Block {
            task: None,
            ..block("a")
        },
        block("b"),
    ];
    assert_eq!(blocks(&bench), wanted);
    bench.subject.reopen();
    assert_eq!(blocks(&bench), wanted);
    // Whatever relies on a series not being blocked is judged by the blocks of its position.
    let relying = |series: &str| Append {
        now: NOON,
        unblocked: vec![on(series)],
        ..Append::default()
    };
    assert_eq!(
        bench.append(relying("a")).err(),
        Some(AppendError::Conflict)
    );
    bench.commit(relying("c"));
    // And so is whatever relies on its being blocked.
    let lifting = |series: &str, lifts: &[&str]| Append {
        now: NOON,
        blocked: vec![on(series)],
        lifts: lifts.iter().map(|series| on(series)).collect(),
        ..Append::default()
    };
    bench.commit(lifting("a", &["a", "c"]));
    for nothing in ["a", "c"] {
        let again = bench.append(lifting(nothing, &["b"]));
        assert_eq!(again.err(), Some(AppendError::Conflict), "{nothing}");
    }
    bench.commit(relying("a"));
    assert_eq!(blocks(&bench), wanted[1..]);
    bench.subject.reopen();
    assert_eq!(blocks(&bench), wanted[1..]);
}

pub(crate) fn blocks_are_read_without_copying_them<S: Subject>() {
    let mut bench = Bench::<S>::new();
    let block = |person: u32| {
        let mut digest = [0; 32];
        digest[..4].copy_from_slice(&person.to_be_bytes());
        Block {
            on: BlockOn::Barred(Digest(digest)),
            task: None,
            since: NOON,
        }
    };
    bench.commit(Append {
        now: NOON,
        blocks: (0..2000).map(block).collect(),
        ..Append::default()
    });
    for _ in 0..2 {
        let read = || bench.facts(&FactsQuery::default()).blocks;
        let (one, other) = (read(), read());
        assert!(one.is_one_with(&other), "each read has a copy of its own");
        assert_eq!(one.iter().count(), 2000);
        assert!(one.stands(&block(1999).on) && !one.stands(&block(2000).on));
        bench.subject.reopen();
    }
    // What was read stays as it was.
    let before = bench.facts(&FactsQuery::default()).blocks;
    bench.commit(Append {
        now: NOON,
        lifts: vec![block(7).on],
        ..Append::default()
    });
    let after = bench.facts(&FactsQuery::default()).blocks;
    assert!(before.stands(&block(7).on) && !after.stands(&block(7).on));
}

pub(crate) fn documents_are_found_by_prefix<S: Subject>() {
    let mut bench = Bench::<S>::new();
    let document = |name: &str, bytes: Option<&[u8]>| Document {
        name: name.into(),
        bytes: bytes.map(<[u8]>::to_vec),
    };
    let write = |documents| Append {
        now: NOON,
        documents,
        ..Append::default()
    };
    bench.commit(write(vec![
        document("key/b", Some(b"2")),
        document("key/a", Some(b"1")),
        document("key%", Some(b"3")),
        document("kez", Some(&[0, 255])),
    ]));
    bench.commit(write(vec![
        document("key/a", Some(b"4")),
        document("key/none", None),
    ]));
    let names = |bench: &Bench<S>, prefix| -> Vec<(String, Vec<u8>)> {
        bench
            .facts(&FactsQuery {
                documents: Some(prefix),
                ..FactsQuery::default()
            })
            .documents
    };
    for _ in 0..2 {
        assert_eq!(
            names(&bench, "key/"),
            [
                ("key/a".to_owned(), b"4".to_vec()),
                ("key/b".to_owned(), b"2".to_vec())
            ]
        );
        assert_eq!(names(&bench, "kez"), [("kez".to_owned(), vec![0, 255])]);
        assert_eq!(names(&bench, "").len(), 4);
        assert_eq!(names(&bench, "z"), []);
        bench.subject.reopen();
    }
    bench.commit(write(vec![document("key/b", None)]));
    assert_eq!(names(&bench, "key/").len(), 1);
}
