//! Runs that their platform said are over, and what races with it.

use dayfly_domain::{Cause, Closed, TaskId};
use dayfly_store::{Append, AppendError, CloseWrite, FactsQuery, RunAsked, Touch};

use super::fixture::*;

fn closed(attempt: Option<u64>, part: Option<&str>) -> Closed {
    Closed {
        attempt,
        part: part.map(Into::into),
        at: NOON,
    }
}

fn close(series: &str, closed: Closed) -> CloseWrite {
    CloseWrite {
        issuer: github(),
        series: series.into(),
        closed,
        seen: Vec::new(),
        until: after(25 * 3600),
    }
}

fn closing(close: CloseWrite) -> Append {
    Append {
        now: NOON,
        closes: vec![close],
        ..Append::default()
    }
}

/// The `n`-th task of `repo/run`, started with its claim and by the name of its run.
fn asking(n: u64, attempt: u64, instance: &str) -> Start {
    let mut start = start_with(n, |started| {
        started.series = "repo/run".into();
        started.key = format!("repo/run/{n}");
        started.attempt = Some(attempt);
    });
    start.append.claims.push(claim(&start.task));
    start.append.asks = Some(RunAsked {
        issuer: github(),
        series: "repo/run".into(),
        attempt: Some(attempt),
        instance: instance.into(),
    });
    start
}

fn known<S: Subject>(bench: &Bench<S>, series: &str) -> Vec<Closed> {
    let mut closed = bench
        .facts(&FactsQuery {
            series: Some((&github(), series)),
            ..FactsQuery::default()
        })
        .closed;
    closed.sort_by_key(|closed| (closed.attempt, closed.part.clone()));
    closed
}

pub(crate) fn a_closed_run_is_granted_nothing<S: Subject>() {
    let mut bench = Bench::<S>::new();
    bench.commit(closing(close("repo/run", closed(Some(1), None))));
    bench.commit(closing(close("repo/run", closed(Some(2), Some("job=7")))));
    for _ in 0..2 {
        let conflict = Err(AppendError::Conflict);
        assert_eq!(
            bench.append(asking(1, 1, "job=1").append).map(drop),
            conflict
        );
        assert_eq!(
            bench.append(asking(2, 2, "a=1,job=7").append).map(drop),
            conflict
        );
        bench.subject.reopen();
    }
    assert_eq!(bench.entries().len(), 0, "what is closed makes no entry");
    // Another job of the attempt, another attempt, another series and another issuer may.
    bench.commit(asking(3, 2, "job=70").append);
    let mut third = asking(4, 3, "job=7");
    third
        .append
        .changes
        .push(end(&asking(3, 2, "").task, Cause::Superseded));
    bench.commit(third.append);
    let mut other = start(5).append;
    other.asks = Some(RunAsked {
        issuer: name("gitlab"),
        series: "repo/run".into(),
        attempt: Some(1),
        instance: "job=1".into(),
    });
    bench.commit(other);
    assert_eq!(known(&bench, "repo/run").len(), 2);
    assert_eq!(known(&bench, "repo/run-5"), []);
}

pub(crate) fn a_close_within_the_batch_counts<S: Subject>() {
    let bench = Bench::<S>::new();
    let close = bench
        .store()
        .append(&acme(), closing(close("repo/run", closed(Some(1), None))));
    let asked = bench.store().append(&acme(), asking(1, 1, "job=1").append);
    wait(close).unwrap();
    assert_eq!(wait(asked).unwrap_err(), AppendError::Conflict);
}

pub(crate) fn a_close_sees_every_open_task_of_its_attempt<S: Subject>() {
    let bench = Bench::<S>::new();
    let first = asking(1, 1, "job=1");
    bench.commit(first.append);
    let second = asking(2, 1, "job=2");
    bench.commit(second.append);
    let conflict = |append: Append| {
        assert_eq!(bench.append(append).unwrap_err(), AppendError::Conflict);
    };
    let whole = close("repo/run", closed(Some(1), None));
    conflict(closing(whole.clone()));
    // One of two is ended, and the other was seen: it may not go on all the same.
    let mut one = closing(whole.clone());
    one.changes.push(end(&first.task, Cause::Upstream));
    conflict(one.clone());
    one.closes[0].seen = vec![(id(2), second.task.version)];
    conflict(one.clone());
    one.closes[0].seen.clear();
    one.changes.push(end(&second.task, Cause::Upstream));
    // Of a job alone, those that go on must have been seen as they are.
    let mut part = close("repo/run", closed(Some(1), Some("job=1")));
    conflict(closing(part.clone()));
    part.seen = vec![(id(1), 3), (id(2), 2)];
    conflict(closing(part.clone()));
    part.seen = vec![(id(1), 3), (id(2), 3)];
    bench.commit(closing(part));
    // Of another attempt nothing is said.
    bench.commit(closing(close("repo/run", closed(Some(2), None))));
    bench.commit(one);
    assert!([1, 2].iter().all(|n| bench.task(id(*n)).is_none()));
    bench.commit(closing(whole));
    assert_eq!(known(&bench, "repo/run").len(), 3);
}

pub(crate) fn a_close_said_again_changes_nothing<S: Subject>() {
    let mut bench = Bench::<S>::new();
    let first = close("repo/run", closed(Some(1), Some("job=1")));
    bench.commit(closing(first.clone()));
    let mut again = first.clone();
    again.closed.at = after(60);
    bench.commit(closing(again.clone()));
    assert_eq!(
        known(&bench, "repo/run"),
        std::slice::from_ref(&first.closed)
    );
    // Said again for longer it is kept for longer, since when it was first said.
    again.until = after(20 * 86_400);
    bench.commit(closing(again));
    bench.subject.reopen();
    assert_eq!(
        known(&bench, "repo/run"),
        std::slice::from_ref(&first.closed)
    );
    pass(&bench, 10);
    assert_eq!(known(&bench, "repo/run"), [first.closed]);
    pass(&bench, 40);
    assert_eq!(known(&bench, "repo/run"), []);
}

pub(crate) fn closed_runs_are_kept_as_long_as_asked_and_then_forgotten<S: Subject>() {
    let bench = Bench::<S>::new();
    bench.commit(closing(close("repo/run-1", closed(None, None))));
    bench.commit(closing(close("repo/run-2", closed(None, None))));
    bench.commit(noted(NOON, "{}"));
    bench.store().touch(
        &acme(),
        Touch::Claim {
            issuer: github(),
            series: "repo/run-2".into(),
            until: after(4 * 86_400),
        },
    );
    pass(&bench, 1);
    assert_eq!(known(&bench, "repo/run-1").len(), 1);
    pass(&bench, 3);
    assert_eq!(known(&bench, "repo/run-1"), []);
    assert_eq!(known(&bench, "repo/run-2").len(), 1);
    pass(&bench, 6);
    assert_eq!(known(&bench, "repo/run-2"), []);
}

/// Lets it be so many days later, by the clock and by the ledger.
fn pass<S: Subject>(bench: &Bench<S>, days: u64) {
    bench.pass(after(days * 86_400));
}

pub(crate) fn closes_and_starts_race_to_nothing_open<S: Subject>() {
    let bench = Bench::<S>::new();
    for round in 0..20u64 {
        let series = format!("race-{round}");
        let outcome = std::thread::scope(|threads| {
            let starting = threads.spawn(|| {
                let mut start = start_with(1 + round, |started| {
                    started.series.clone_from(&series);
                });
                start.append.claims.push(claim(&start.task));
                start.append.asks = Some(RunAsked {
                    issuer: github(),
                    series: series.clone(),
                    attempt: Some(1),
                    instance: "job=1".into(),
                });
                bench.append(start.append).is_ok()
            });
            let closing = threads.spawn(|| close_until_it_holds(&bench, &series, id(1 + round)));
            (starting.join().unwrap(), closing.join().unwrap())
        });
        assert!(bench.task(id(1 + round)).is_none(), "{outcome:?}");
        assert_eq!(known(&bench, &series).len(), 1);
    }
}

/// Closes an attempt and ends its task where there is one.
fn close_until_it_holds<S: Subject>(bench: &Bench<S>, series: &str, task: TaskId) {
    loop {
        let mut append = closing(close(series, closed(Some(1), None)));
        if let Some(open) = bench.task(task) {
            append.changes.push(end(&open.task, Cause::Upstream));
        }
        match bench.append(append) {
            Ok(_) => return,
            Err(AppendError::Conflict) => {}
            Err(error) => panic!("{error}"),
        }
    }
}
