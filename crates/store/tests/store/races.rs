//! All or nothing: versions, claims, one-time keys, and who wins when many want the same.

use std::sync::Barrier;

use dayfly_domain::{Cause, ClaimState, Span, TaskId};
use dayfly_store::{Append, AppendError, Touch};

use super::fixture::*;

pub(crate) fn a_version_that_moved_is_a_conflict<S: Subject>() {
    let bench = Bench::<S>::new();
    let task = bench.start(1);
    let stale = renewal(&task, 1);
    let committed = bench.commit(changed(stale.clone()));
    assert_eq!(committed.changes()[0].next.version, 4);
    assert_eq!(
        bench.append(changed(stale.clone())).unwrap_err(),
        AppendError::Conflict
    );
    assert_eq!(
        bench.append(start(1).append).unwrap_err(),
        AppendError::Conflict
    );
    assert_eq!(
        bench
            .append(changed(change(Some(&task), id(9), [])))
            .unwrap_err(),
        AppendError::Conflict
    );
    let mut miscounted = renewal(&committed.changes()[0].next, 1);
    miscounted.next.version += 1;
    assert_eq!(
        bench.append(changed(miscounted)).unwrap_err(),
        AppendError::Conflict
    );
    let twice = renewal(&committed.changes()[0].next, 1);
    let append = Append {
        changes: vec![twice.clone(), twice],
        ..Append::default()
    };
    assert_eq!(bench.append(append).unwrap_err(), AppendError::Conflict);
    assert_eq!(bench.entries().len(), 4);
    assert_eq!(bench.task(id(1)).unwrap().task.version, 4);
}

pub(crate) fn a_task_that_ended_never_opens_again<S: Subject>() {
    let bench = Bench::<S>::new();
    let task = bench.start(1);
    bench.commit(changed(end(&task, Cause::Completed)));
    assert_eq!(bench.task(id(1)), None);
    assert_eq!(
        bench.append(start(1).append).unwrap_err(),
        AppendError::Conflict
    );
    assert_eq!(
        bench.append(changed(renewal(&task, 1))).unwrap_err(),
        AppendError::Conflict
    );
    assert_eq!(
        bench
            .append(changed(end(&task, Cause::Failed)))
            .unwrap_err(),
        AppendError::Conflict
    );
}

pub(crate) fn nothing_of_a_loser_is_seen<S: Subject>() {
    let bench = Bench::<S>::new();
    let first = bench.start(1);
    let second = bench.start(2);
    bench.commit(changed(renewal(&second, 2)));
    // The first task's change and all else hold; the second's version does not.
    let third = start(3);
    let mut append = third.append;
    append.changes.insert(0, end(&first, Cause::Operator));
    append.changes.push(end(&second, Cause::Operator));
    append.notes.push(note("finding.opened", "{}"));
    append.claims.push(claim(&third.task));
    append.spends.push(spend("proof", 3));
    append.revises = true;
    append.moves.push(dayfly_domain::EpochOf::Tenant);
    append.documents.push(dayfly_store::Document {
        name: "a".into(),
        bytes: Some(vec![1]),
    });
    let before = state(&bench);
    assert_eq!(
        bench.append(append.clone()).unwrap_err(),
        AppendError::Conflict
    );
    assert_eq!(state(&bench), before);
    append.changes.pop();
    bench.commit(append);
    assert_ne!(state(&bench), before);
    assert_eq!(bench.task(id(1)), None);
    assert_eq!(bench.task(id(3)).unwrap().task, third.task);
}

/// Everything that a read can see, as text.
pub(crate) fn state<S: Subject>(bench: &Bench<S>) -> String {
    use dayfly_store::{FactsQuery, OpenFilter};
    let release = release();
    let facts = bench.facts(&FactsQuery {
        counts: Some(&release),
        documents: Some(""),
        one_time: Some(&key("proof")),
        epochs: &[
            dayfly_domain::EpochOf::Tenant,
            dayfly_domain::EpochOf::Workload(release.clone()),
        ],
        ..FactsQuery::default()
    });
    let claims: Vec<_> = (0..10)
        .map(|n| bench.claims(&format!("repo/run-{n}")))
        .collect();
    let open = bench
        .store()
        .open(&acme(), &OpenFilter::All, None, 1000)
        .unwrap();
    let head = bench.store().head(&acme()).unwrap();
    format!(
        "{facts:?}\n{claims:?}\n{open:?}\n{head:?}\n{:?}",
        bench.entries()
    )
}

pub(crate) fn a_key_is_claimed_once<S: Subject>() {
    let mut bench = Bench::<S>::new();
    let first = start(1);
    let mut append = first.append;
    append.claims.push(claim(&first.task));
    bench.commit(append);
    let second = start_with(2, |started| {
        started.key = first.task.key.clone();
        started.series = first.task.series.clone();
    });
    let mut again = second.append.clone();
    again.claims.push(claim(&second.task));
    for _ in 0..2 {
        let claimed = AppendError::Claimed { by: id(1) };
        assert_eq!(bench.append(again.clone()).unwrap_err(), claimed);
        // Naming another holder than the one there is does not help, nor naming an open one.
        again.claims[0].replaces = Some(id(7));
        assert_eq!(bench.append(again.clone()).unwrap_err(), claimed);
        again.claims[0].replaces = Some(id(1));
        assert_eq!(bench.append(again.clone()).unwrap_err(), claimed);
        bench.subject.reopen();
    }
    assert_eq!(bench.task(id(2)), None);
    // The same key of another workload is another claim.
    let other = start_with(3, |started| {
        started.key = first.task.key.clone();
        started.series = first.task.series.clone();
        started.workload = name("deploy");
    });
    let mut append = other.append;
    append.claims.push(claim(&other.task));
    bench.commit(append);
    assert_eq!(bench.claims(&first.task.series).len(), 2);
}

pub(crate) fn the_end_of_a_task_marks_its_claim<S: Subject>() {
    let mut bench = Bench::<S>::new();
    let first = start(1);
    let mut append = first.append;
    append.claims.push(claim(&first.task));
    bench.commit(append);
    assert_eq!(bench.claims(&first.task.series)[0].state, ClaimState::Open);
    bench.commit(changed(end(&first.task, Cause::Heartbeat)));
    let ended = ClaimState::Ended {
        cause: Cause::Heartbeat,
        deadline: first.task.deadline,
    };
    assert_eq!(bench.claims(&first.task.series)[0].state, ended);
    bench.subject.reopen();
    assert_eq!(bench.claims(&first.task.series)[0].state, ended);
    // Only by naming it can another task take its place.
    let second = start_with(2, |started| {
        started.key = first.task.key.clone();
        started.series = first.task.series.clone();
    });
    let mut append = second.append;
    append.claims.push(claim(&second.task));
    assert_eq!(
        bench.append(append.clone()).unwrap_err(),
        AppendError::Claimed { by: id(1) }
    );
    append.claims[0].replaces = Some(id(1));
    bench.commit(append);
    let claims = bench.claims(&first.task.series);
    assert_eq!(claims.len(), 1);
    assert_eq!((claims[0].task, claims[0].state), (id(2), ClaimState::Open));
}

pub(crate) fn a_higher_attempt_supersedes_in_one_append<S: Subject>() {
    let bench = Bench::<S>::new();
    let attempt = |n: u64, attempt: u64| {
        let mut start = start_with(n, |started| {
            started.series = "repo/run".into();
            started.key = format!("repo/run/{n}");
            started.attempt = Some(attempt);
        });
        start.append.claims.push(claim(&start.task));
        start
    };
    let first = attempt(1, 1);
    bench.commit(first.append);
    // Decided without having seen the first attempt: it would be left open beside the second.
    let mut second = attempt(2, 2);
    assert_eq!(
        bench.append(second.append.clone()).unwrap_err(),
        AppendError::Conflict
    );
    second
        .append
        .changes
        .push(end(&first.task, Cause::Superseded));
    bench.commit(second.append);
    let states: Vec<bool> = bench
        .claims("repo/run")
        .iter()
        .map(|claim| claim.state == ClaimState::Open)
        .collect();
    assert_eq!(states, [false, true]);
    // Decided before the second attempt was there.
    assert_eq!(
        bench.append(attempt(3, 1).append).unwrap_err(),
        AppendError::Conflict
    );
    // Beside one of the same attempt there is no objection.
    bench.commit(attempt(4, 2).append);
}

pub(crate) fn a_task_may_take_its_own_claim_over_as_it_ends<S: Subject>() {
    let bench = Bench::<S>::new();
    let first = start(1);
    let mut append = first.append;
    append.claims.push(claim(&first.task));
    bench.commit(append);
    let second = start_with(2, |started| {
        started.key = first.task.key.clone();
        started.series = first.task.series.clone();
        started.attempt = Some(2);
    });
    let mut append = second.append;
    append.changes.push(end(&first.task, Cause::Superseded));
    append.claims.push(claim(&second.task));
    append.claims[0].replaces = Some(id(1));
    bench.commit(append);
    let claims = bench.claims(&first.task.series);
    assert_eq!(claims.len(), 1);
    assert_eq!((claims[0].task, claims[0].state), (id(2), ClaimState::Open));
}

pub(crate) fn claims_are_kept_as_long_as_asked_and_then_forgotten<S: Subject>() {
    let mut bench = Bench::<S>::new();
    let day = 24 * 3600;
    for (n, days) in [(4, 1), (1, 1), (2, 7), (3, 36)] {
        let mut start = start(n);
        start.append.claims.push(claim(&start.task));
        start.append.claims[0].until = after(days * day);
        bench.commit(start.append);
        bench.commit(changed(end(&start.task, Cause::Completed)));
    }
    // A proof of the fourth is shown again, and keeps it for longer.
    let series = "repo/run-4".to_owned();
    let touch = Touch::Claim {
        issuer: github(),
        series,
        until: after(20 * day),
    };
    bench.store().touch(&acme(), touch);
    bench.commit(noted(NOON, "{}"));
    let ended = ClaimState::Ended {
        cause: Cause::Completed,
        deadline: start(1).task.deadline,
    };
    let held = |bench: &Bench<S>| -> Vec<bool> {
        let claims = (1..=4).map(|n| bench.claims(&format!("repo/run-{n}")));
        let held = claims.map(|claims| {
            assert!(claims.iter().all(|claim| claim.state == ended));
            !claims.is_empty()
        });
        held.collect()
    };
    assert_eq!(held(&bench), [true, true, true, true]);
    let mut pass = |days: u64| {
        bench.pass(after(days * day));
        let as_it_goes = held(&bench);
        bench.subject.reopen();
        assert_eq!(held(&bench), as_it_goes);
        as_it_goes
    };
    assert_eq!(pass(3), [false, true, true, true]);
    assert_eq!(pass(19), [false, false, true, true]);
    assert_eq!(pass(35), [false, false, true, false]);
    assert_eq!(pass(60), [false, false, false, false]);
}

pub(crate) fn a_clock_alone_forgets_nothing<S: Subject>() {
    let mut bench = Bench::<S>::new();
    let mut start = start(1);
    start.append.claims.push(claim(&start.task));
    start.append.spends.push(spend("proof", 1));
    bench.commit(start.append);
    bench.clock.set(after(400 * 24 * 3600));
    bench.commit(noted(NOON, "{}"));
    bench.subject.reopen();
    assert_eq!(bench.claims(&start.task.series).len(), 1);
    assert_eq!(bench.spent(&key("proof")), Some(by(1)));
}

pub(crate) fn a_claim_outlives_its_task_whatever_was_asked<S: Subject>() {
    let bench = Bench::<S>::new();
    let day = 24 * 3600;
    let mut start = start_with(1, |started| started.deadline = after(5 * day));
    start.append.claims.push(claim(&start.task));
    start.append.claims[0].until = after(60);
    bench.commit(start.append);
    bench.pass(after(4 * day));
    assert_eq!(bench.claims(&start.task.series).len(), 1);
}

pub(crate) fn a_one_time_key_is_spent_once<S: Subject>() {
    let mut bench = Bench::<S>::new();
    let mut first = start(1).append;
    first.spends = vec![spend("proof", 1), spend("dpop", 1)];
    bench.commit(first);
    let mut second = start(2).append;
    second.spends = vec![spend("other", 2), spend("dpop", 2)];
    let spent = AppendError::SpentKey {
        which: 1,
        by: by(1),
    };
    assert_eq!(bench.append(second.clone()).unwrap_err(), spent);
    bench.subject.reopen();
    assert_eq!(bench.append(second.clone()).unwrap_err(), spent);
    assert_eq!(bench.spent(&key("proof")), Some(by(1)));
    assert_eq!(bench.spent(&key("other")), None);
    // Twice within one append is twice.
    second.spends = vec![spend("other", 2), spend("other", 2)];
    assert_eq!(
        bench.append(second.clone()).unwrap_err(),
        AppendError::SpentKey {
            which: 1,
            by: by(2)
        }
    );
    // Another tenant's keys are its own.
    second.spends = vec![spend("dpop", 2)];
    wait(bench.store().append(&name("umbrella"), second)).unwrap();
}

pub(crate) fn a_key_past_its_keep_is_not_spent_anew<S: Subject>() {
    let mut bench = Bench::<S>::new();
    let mut first = start(1).append;
    first.spends = vec![spend("proof", 1)];
    bench.commit(first);
    bench.pass(after(3 * 24 * 3600));
    assert_eq!(bench.spent(&key("proof")), None);
    let mut second = start(2).append;
    second.spends = vec![spend("proof", 2)];
    // Nor where the clock was wrong all the while and is set right.
    bench.clock.jump(NOON);
    for _ in 0..2 {
        let refused = bench.append(second.clone()).unwrap_err();
        assert!(matches!(refused, AppendError::Unfit(_)), "{refused}");
        bench.subject.reopen();
    }
    second.spends[0].key.until = after(4 * 24 * 3600);
    bench.commit(second);
}

/// However far the clock is ahead, what was spent before is spent and what is fresh is taken.
pub(crate) fn a_clock_that_is_ahead_for_a_while_forgets_nothing<S: Subject>() {
    let mut bench = Bench::<S>::new();
    let mut first = start(1);
    first.append.spends = vec![spend("proof", 1)];
    first.append.claims.push(claim(&first.task));
    bench.commit(first.append);
    bench.pass(NOON);
    let ahead = after(400 * 24 * 3600);
    bench.clock.jump(ahead);
    for seconds in [0, 1800, 1799] {
        bench.clock.advance(Span::from_seconds(seconds));
        bench.commit(noted(ahead + Span::from_seconds(seconds), "{}"));
    }
    // Right for a moment: what it says from then on begins anew.
    bench.clock.jump(after(3600));
    bench.commit(noted(after(3600), "{}"));
    bench.clock.jump(ahead);
    bench.clock.advance(Span::from_seconds(1800));
    bench.commit(noted(ahead, "{}"));
    bench.clock.jump(after(5400));
    for n in 2..=3 {
        let mut next = start(n).append;
        next.spends = vec![spend("proof", n)];
        let spent = AppendError::SpentKey {
            which: 0,
            by: by(1),
        };
        assert_eq!(bench.append(next.clone()).unwrap_err(), spent);
        next.spends = vec![spend(&format!("fresh {n}"), n)];
        bench.commit(next);
        bench.subject.reopen();
    }
    assert_eq!(bench.claims(&first.task.series).len(), 1);
}

/// A day that is over counts from when both said so: what lies beyond it waits for a time of its own.
pub(crate) fn what_is_over_is_forgotten_up_to_the_day_that_was_seen<S: Subject>() {
    let bench = Bench::<S>::new();
    let day = 24 * 3600;
    let mut of_days = start(1).append;
    for days in 0..2 {
        let mut spend = spend(&format!("day {days}"), 1);
        spend.key.until = after(days * day);
        of_days.spends.push(spend);
    }
    let keys: Vec<_> = of_days.spends.iter().map(|spend| spend.key).collect();
    bench.commit(of_days);
    bench.pass(NOON);
    let known = || {
        keys.iter()
            .map(|key| bench.spent(key).is_some())
            .collect::<Vec<_>>()
    };
    bench.clock.set(after(day));
    bench.commit(noted(after(day), "{}"));
    bench.clock.advance(Span::from_seconds(1800));
    // Ahead when the hour is over: only what was over at its beginning goes.
    bench.clock.jump(after(30 * day));
    bench.clock.advance(Span::from_seconds(1800));
    bench.commit(noted(after(30 * day), "{}"));
    assert_eq!(known(), [false, true]);
}

/// A clock that is days ahead, and for longer than a day has to be over, has little forgotten by it.
pub(crate) fn a_clock_that_is_days_ahead_forgets_a_day_at_a_time<S: Subject>() {
    let mut bench = Bench::<S>::new();
    let day = 24 * 3600;
    let mut first = start(1);
    first.append.spends = vec![spend("proof", 1)];
    first.append.claims.push(claim(&first.task));
    first.append.claims[0].until = after(3 * day);
    bench.commit(first.append);
    bench.pass(NOON);
    let ahead = after(30 * day);
    bench.clock.jump(ahead);
    for hours in [0, 2, 6, 3] {
        bench.clock.advance(Span::from_seconds(hours * 3600));
        bench.commit(noted(ahead, "{}"));
    }
    bench.clock.jump(after(day));
    bench.commit(noted(after(day), "{}"));
    bench.subject.reopen();
    assert_eq!(bench.claims(&first.task.series).len(), 1);
    // What it forgot is the day that was the next to go.
    let mut second = start(2).append;
    second.spends = vec![spend("proof", 2)];
    let refused = bench.append(second.clone()).unwrap_err();
    assert!(matches!(refused, AppendError::Unfit(_)), "{refused}");
    second.spends[0].key.until = after(day);
    bench.commit(second);
    bench.pass(after(5 * day));
    assert_eq!(bench.claims(&first.task.series), []);
}

/// Runs one closure on many threads at once and gathers what they got.
fn at_once<T: Send>(threads: u64, run: impl Fn(u64) -> T + Sync) -> Vec<T> {
    let barrier = Barrier::new(usize::try_from(threads).unwrap());
    std::thread::scope(|scope| {
        let handles: Vec<_> = (0..threads)
            .map(|n| {
                let (run, barrier) = (&run, &barrier);
                scope.spawn(move || {
                    barrier.wait();
                    run(n)
                })
            })
            .collect();
        handles
            .into_iter()
            .map(|handle| handle.join().unwrap())
            .collect()
    })
}

pub(crate) fn of_many_that_spend_one_key_one_wins<S: Subject>() {
    let bench = Bench::<S>::new();
    for round in 0..10 {
        let proof = format!("proof {round}");
        let results = at_once(16, |n| {
            let n = 1 + round * 100 + n;
            let mut append = start(n).append;
            append.spends = vec![spend(&format!("dpop {n}"), n), spend(&proof, n)];
            bench
                .append(append)
                .map(|committed| committed.changes()[0].task)
        });
        let winners: Vec<TaskId> = results
            .iter()
            .filter_map(|r| r.as_ref().ok().copied())
            .collect();
        let [winner] = winners[..] else {
            panic!("{results:?}")
        };
        let by = dayfly_domain::Spent {
            task: winner,
            client: 1,
        };
        for result in results.iter().filter_map(|result| result.as_ref().err()) {
            assert_eq!(*result, AppendError::SpentKey { which: 1, by });
        }
    }
    assert_eq!(bench.entries().len(), 30);
}

pub(crate) fn of_many_that_claim_one_key_one_wins<S: Subject>() {
    let bench = Bench::<S>::new();
    for round in 0..10 {
        let results = at_once(16, |n| {
            let start = start_with(1 + round * 100 + n, |started| {
                started.key = format!("key/{round}");
                started.series = "key".into();
            });
            let mut append = start.append;
            append.claims.push(claim(&start.task));
            bench
                .append(append)
                .map(|committed| committed.changes()[0].task)
        });
        let winners: Vec<TaskId> = results
            .iter()
            .filter_map(|r| r.as_ref().ok().copied())
            .collect();
        let [winner] = winners[..] else {
            panic!("{results:?}")
        };
        for result in results.iter().filter_map(|result| result.as_ref().err()) {
            assert_eq!(*result, AppendError::Claimed { by: winner });
        }
        assert!(bench.task(winner).is_some());
    }
    assert_eq!(bench.entries().len(), 30);
}

pub(crate) fn many_writers_and_readers_see_one_history<S: Subject>() {
    let bench = Bench::<S>::new();
    let task = bench.start(0);
    at_once(8, |thread| {
        for n in 0..25 {
            let start = start(1 + thread * 1000 + n);
            let mut append = start.append;
            append.claims.push(claim(&start.task));
            let committed = bench.commit(append);
            // What was answered is there, all of it and at one position.
            let series = (&github(), start.task.series.as_str());
            let facts = bench.facts(&dayfly_store::FactsQuery {
                tasks: &[start.task.id],
                series: Some(series),
                ..dayfly_store::FactsQuery::default()
            });
            assert_eq!(facts.tasks[0].as_ref().unwrap().task, start.task);
            assert_eq!(facts.claims[0].task, start.task.id);
            assert!(bench.store().head(&acme()).unwrap().size >= committed.size());
            renew_until_it_holds(&bench, task.id);
        }
    });
    let entries = bench.entries();
    let mut fsck = dayfly_ledger::Fsck::new("acme");
    for entry in &entries {
        fsck.feed(entry.pos, entry.leaf.as_bytes(), &entry.hash)
            .unwrap();
    }
    let head = bench.store().head(&acme()).unwrap();
    fsck.finish(head.size, &head.root).unwrap();
    assert_eq!(entries.len(), 3 + 8 * 25 * 4);
    assert_eq!(bench.task(task.id).unwrap().task.version, 3 + 8 * 25);
}

/// Decides again for as long as others come first.
fn renew_until_it_holds<S: Subject>(bench: &Bench<S>, id: TaskId) {
    loop {
        let task = bench.task(id).unwrap().task;
        match bench.append(changed(renewal(&task, 0))) {
            Ok(_) => return,
            Err(AppendError::Conflict) => {}
            Err(error) => panic!("{error}"),
        }
    }
}
