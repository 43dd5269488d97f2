//! What a store holds after it was closed and opened again.

use dayfly_domain::{Block, BlockOn, Cause, EpochOf};
use dayfly_store::{Append, Document, Touch};

use super::fixture::*;
use super::races::state;

pub(crate) fn a_store_opened_again_is_the_same<S: Subject>() {
    let mut bench = Bench::<S>::new();
    assert_same_again(&mut bench);
    for n in 1..=9 {
        let mut start = start_with(n, |started| {
            if n % 2 == 0 {
                required(started)
            }
        });
        start.append.claims.push(claim(&start.task));
        if n == 3 {
            start.append.spends.push(spend("proof", n));
        }
        bench.commit(start.append);
        if n % 3 == 0 {
            bench.commit(changed(end(&start.task, Cause::Failed)));
        }
    }
    assert_same_again(&mut bench);
    let on = BlockOn::Series {
        issuer: github(),
        series: "x".into(),
    };
    bench.commit(Append {
        now: after(5),
        blocks: vec![Block {
            on,
            task: None,
            since: NOON,
        }],
        moves: vec![EpochOf::Workload(release())],
        revises: true,
        documents: vec![Document {
            name: "a".into(),
            bytes: Some(vec![1, 2]),
        }],
        notes: vec![note("declared.changed", "{}")],
        ..Append::default()
    });
    bench.store().touch(&acme(), Touch::Alive { at: after(5) });
    bench.store().touch(
        &acme(),
        Touch::Beat {
            task: id(1),
            at: after(6),
        },
    );
    bench.store().touch(&acme(), Touch::Alive { at: after(30) });
    assert_same_again(&mut bench);
    let task = bench.task(id(1)).unwrap().task;
    bench.commit(changed(renewal(&task, 1)));
    assert_same_again(&mut bench);
    // Enough to fill tiles on two levels.
    for _ in 0..3 {
        let notes = vec![note("finding.opened", "{}"); 200];
        bench.commit(Append {
            now: after(6),
            notes,
            ..Append::default()
        });
        assert_same_again(&mut bench);
    }
}

fn assert_same_again<S: Subject>(bench: &mut Bench<S>) {
    let before = state(bench);
    bench.subject.reopen();
    assert_eq!(state(bench), before);
}
