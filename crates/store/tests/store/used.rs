//! Uses of credentials, judged at the position they get.

use dayfly_domain::{Block, BlockOn, Cause, ClientId, Digest, Epoch, EpochOf, Spent};
use dayfly_store::{Append, AppendError, FactsQuery, Observed, OneTimeKey, Spend, Use, UseLimit};

use super::fixture::*;

fn used(n: u64, most: Option<u64>) -> Use {
    Use {
        client: ClientId {
            task: id(n),
            number: 1,
        },
        now: NOON,
        relies: Vec::new(),
        revision: None,
        unblocked: Vec::new(),
        spend: None,
        limit: most.map(|most| UseLimit {
            counter: "read".into(),
            most,
        }),
        note: note("use.allowed", r#"{"about":"x"}"#),
    }
}

fn observe<S: Subject>(bench: &Bench<S>, uses: Vec<Use>) -> Vec<Observed> {
    wait(bench.store().observe(&acme(), uses)).unwrap()
}

pub(crate) fn uses_are_recorded_in_order<S: Subject>() {
    let bench = Bench::<S>::new();
    bench.start(1);
    let observed = observe(&bench, vec![used(1, None), used(2, None), used(1, None)]);
    let wanted = [
        Observed::Recorded(3),
        Observed::Ended(Cause::Restored),
        Observed::Recorded(4),
    ];
    assert_eq!(observed, wanted);
    let entries = bench.entries();
    assert_eq!(entries.len(), 5);
    assert!(
        entries[4]
            .leaf
            .contains(r#""task":null,"seq":null,"prev":null"#)
    );
    assert!(entries[4].leaf.contains("use.allowed"));
}

pub(crate) fn a_use_after_the_end_is_told_the_cause<S: Subject>() {
    let mut bench = Bench::<S>::new();
    let task = bench.start(1);
    let lingers = start_with(2, |started| {
        started.linger = dayfly_domain::Span::from_seconds(60)
    });
    bench.commit(lingers.append);
    bench.commit(changed(end(&task, Cause::Operator)));
    bench.commit(changed(end_client(&lingers.task)));
    for _ in 0..2 {
        let observed = observe(&bench, vec![used(1, None), used(2, None)]);
        let wanted = [
            Observed::Ended(Cause::Operator),
            Observed::Ended(Cause::Completed),
        ];
        assert_eq!(observed, wanted);
        bench.subject.reopen();
    }
    bench.start(3);
    let late = Use {
        now: after(3600),
        ..used(3, None)
    };
    assert_eq!(
        observe(&bench, vec![late]),
        [Observed::Ended(Cause::Deadline)]
    );
    let mut nobody = used(3, None);
    nobody.client.number = 2;
    assert_eq!(
        observe(&bench, vec![nobody]),
        [Observed::Ended(Cause::Restored)]
    );
}

pub(crate) fn a_use_by_a_delegated_client_that_lost_its_rights_is_stale<S: Subject>() {
    let bench = Bench::<S>::new();
    let task = bench.start(1);
    bench.commit(changed(delegated(&task, 1, 0)));
    bench.commit(Append {
        now: NOON,
        moves: vec![scanners()],
        ..Append::default()
    });
    let by = |number| {
        let mut by = used(1, None);
        by.client.number = number;
        by
    };
    let observed = observe(&bench, vec![by(2), by(1)]);
    assert_eq!(
        observed,
        [Observed::Stale(scanners()), Observed::Recorded(4)]
    );
}

/// What an entry is stamped with says nothing of what time it is.
pub(crate) fn an_entry_that_is_ahead_ends_no_client<S: Subject>() {
    let mut bench = Bench::<S>::new();
    bench.start(1);
    let ahead = after(26 * 3600);
    bench.commit(noted(ahead, "{}"));
    for n in [4, 5] {
        let spend = Some(spend(&format!("proof {n}"), 1));
        let observed = observe(
            &bench,
            vec![Use {
                spend,
                ..used(1, None)
            }],
        );
        assert_eq!(observed, [Observed::Recorded(n)]);
        bench.subject.reopen();
    }
    let ordered = bench.store().head(&acme()).unwrap().at;
    assert_eq!(ordered, ahead, "and no time runs back in the ledger");
}

/// Nobody knows whether its key was spent: it is not allowed, and no other is stopped by it.
pub(crate) fn a_use_whose_day_is_forgotten_stops_no_other<S: Subject>() {
    let bench = Bench::<S>::new();
    let mut start = start(1).append;
    start.spends = vec![spend("proof", 1)];
    bench.commit(start);
    bench.pass(after(3 * 86_400));
    let size = bench.entries().len() as u64;
    let forgotten = Use {
        spend: Some(spend("proof", 1)),
        ..used(1, None)
    };
    let observed = observe(&bench, vec![forgotten, used(1, None)]);
    assert_eq!(observed, [Observed::Forgotten, Observed::Recorded(size)]);
}

pub(crate) fn a_use_under_a_moved_epoch_is_stale<S: Subject>() {
    let bench = Bench::<S>::new();
    bench.start(1);
    let issuer = EpochOf::Issuer(github());
    let relying = Use {
        relies: vec![Epoch {
            of: issuer.clone(),
            at: 0,
        }],
        ..used(1, None)
    };
    assert_eq!(
        observe(&bench, vec![relying.clone()]),
        [Observed::Recorded(3)]
    );
    bench.commit(Append {
        now: NOON,
        moves: vec![issuer.clone()],
        ..Append::default()
    });
    let observed = observe(&bench, vec![relying, used(1, None)]);
    assert_eq!(observed, [Observed::Stale(issuer), Observed::Recorded(4)]);
    // The task itself relies on this one.
    bench.commit(Append {
        now: NOON,
        moves: vec![EpochOf::Tenant],
        ..Append::default()
    });
    assert_eq!(
        observe(&bench, vec![used(1, None)]),
        [Observed::Stale(EpochOf::Tenant)]
    );
}

pub(crate) fn uses_are_counted_to_their_bound<S: Subject>() {
    let mut bench = Bench::<S>::new();
    let task = bench.start(1);
    bench.start(2);
    let observed = observe(
        &bench,
        vec![
            used(1, Some(2)),
            used(2, Some(2)),
            used(1, Some(2)),
            used(1, Some(2)),
        ],
    );
    assert_eq!(observed[..3], [6, 7, 8].map(Observed::Recorded));
    assert_eq!(observed[3], Observed::Exhausted);
    assert_eq!(
        observe(&bench, vec![used(1, Some(2))]),
        [Observed::Exhausted]
    );
    bench.subject.reopen();
    assert_eq!(
        observe(&bench, vec![used(1, Some(2))]),
        [Observed::Exhausted]
    );
    assert_eq!(
        observe(&bench, vec![used(1, Some(3))]),
        [Observed::Recorded(9)]
    );
    assert_eq!(
        observe(&bench, vec![used(2, Some(2))]),
        [Observed::Recorded(10)]
    );
    let mut other = used(1, Some(1));
    other.limit.as_mut().unwrap().counter = "write".into();
    assert_eq!(observe(&bench, vec![other]), [Observed::Recorded(11)]);
    bench.commit(changed(end(&task, Cause::Completed)));
    assert_eq!(
        observe(&bench, vec![used(1, Some(9))]),
        [Observed::Ended(Cause::Completed)]
    );
}

pub(crate) fn a_use_under_another_revision_is_revised<S: Subject>() {
    let bench = Bench::<S>::new();
    bench.start(1);
    let revised = |revision| Use {
        revision: Some(revision),
        ..used(1, None)
    };
    let facts = bench.store().facts(&acme(), &FactsQuery::default());
    let present = facts.unwrap().revision;
    bench.commit(Append {
        now: NOON,
        revises: true,
        ..Append::default()
    });
    let observed = observe(&bench, vec![revised(present), revised(present + 1)]);
    assert_eq!(observed, [Observed::Revised, Observed::Recorded(3)]);
}

pub(crate) fn a_use_of_what_is_blocked_by_now_is_told<S: Subject>() {
    let bench = Bench::<S>::new();
    bench.start(1);
    let on = BlockOn::Issuer(github());
    let kept_out = || Use {
        unblocked: vec![on.clone()],
        ..used(1, None)
    };
    assert_eq!(observe(&bench, vec![kept_out()]), [Observed::Recorded(3)]);
    let block = Block {
        on: on.clone(),
        task: None,
        since: NOON,
    };
    bench.commit(Append {
        now: NOON,
        blocks: vec![block],
        ..Append::default()
    });
    let observed = observe(&bench, vec![kept_out(), used(1, None)]);
    assert_eq!(observed, [Observed::Blocked(on), Observed::Recorded(4)]);
}

fn shown(n: u64, proof: u8) -> Use {
    let by = used(n, None);
    let spend = Spend {
        key: OneTimeKey {
            digest: Digest([proof; 32]),
            at: NOON,
            until: after(301),
        },
        by: Spent {
            task: by.client.task,
            client: 1,
        },
    };
    Use {
        spend: Some(spend),
        ..by
    }
}

pub(crate) fn a_proof_is_spent_by_the_uses_it_was_shown_with<S: Subject>() {
    let mut bench = Bench::<S>::new();
    bench.start(1);
    bench.start(2);
    // One request to a resource may need several answers: they were asked for together.
    let together = observe(&bench, vec![shown(1, 7), shown(1, 7), shown(2, 8)]);
    assert_eq!(together, [6, 7, 8].map(Observed::Recorded));
    let by = |n| {
        Observed::Spent(Spent {
            task: id(n),
            client: 1,
        })
    };
    for _ in 0..2 {
        let again = observe(&bench, vec![shown(1, 7), shown(1, 7), shown(1, 9)]);
        assert!(matches!(again[2], Observed::Recorded(_)) || again[2] == by(1));
        assert_eq!(again[..2], [by(1), by(1)]);
        assert_eq!(observe(&bench, vec![shown(1, 8)]), [by(2)]);
        bench.subject.reopen();
    }
    // What spends it elsewhere spends it here, and the other way round.
    let grant = bench.store().append(
        &acme(),
        Append {
            now: NOON,
            spends: vec![shown(1, 8).spend.unwrap()],
            ..Append::default()
        },
    );
    let error = wait(grant).unwrap_err();
    assert!(matches!(error, AppendError::SpentKey { .. }), "{error}");
}

pub(crate) fn a_use_that_is_not_recorded_spends_nothing<S: Subject>() {
    let bench = Bench::<S>::new();
    let task = bench.start(1);
    bench.start(2);
    let full = Use {
        limit: used(2, Some(0)).limit,
        ..shown(2, 8)
    };
    assert_eq!(observe(&bench, vec![full]), [Observed::Exhausted]);
    bench.commit(changed(end(&task, Cause::Completed)));
    let over = observe(&bench, vec![shown(1, 7)]);
    assert_eq!(over, [Observed::Ended(Cause::Completed)]);
    let recorded = observe(&bench, vec![shown(2, 7), shown(2, 8)]);
    assert!(
        recorded
            .iter()
            .all(|of| matches!(of, Observed::Recorded(_))),
        "{recorded:?}"
    );
}

pub(crate) fn a_note_too_large_records_no_use<S: Subject>() {
    let bench = Bench::<S>::new();
    bench.start(1);
    let mut large = used(1, Some(5));
    large.note.data = format!(r#"{{"x":"{}"}}"#, "x".repeat(8192));
    let result = wait(
        bench
            .store()
            .observe(&acme(), vec![used(1, Some(1)), large]),
    );
    assert_eq!(result.unwrap_err(), AppendError::TooLarge);
    assert_eq!(bench.entries().len(), 3);
    assert_eq!(
        observe(&bench, vec![used(1, Some(1))]),
        [Observed::Recorded(3)]
    );
}

pub(crate) fn uses_and_ends_race_to_one_order<S: Subject>() {
    let bench = Bench::<S>::new();
    for n in 1..=20 {
        let task = bench.start(n);
        let (observed, committed) = std::thread::scope(|scope| {
            let observing = scope.spawn(|| observe(&bench, vec![used(n, None)]));
            let ending = scope.spawn(|| bench.commit(changed(end(&task, Cause::Operator))));
            (observing.join().unwrap(), ending.join().unwrap())
        });
        match observed[..] {
            [Observed::Recorded(pos)] => assert!(pos < committed.positions()[0]),
            [Observed::Ended(Cause::Operator)] => {}
            _ => panic!("{observed:?}"),
        }
    }
}
