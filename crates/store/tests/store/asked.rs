//! Tasks that wait for people: open to the store in every way, and without a client.

use dayfly_domain::{Cause, Counts, Event, Limits, Task, TaskApproved, TaskEnded, TaskRequested};
use dayfly_store::{Append, AppendError, FactsQuery, OpenFilter};

use super::fixture::*;

/// The request of the `n`-th task, which expires after ten minutes and wants two people.
fn asks(n: u64) -> Start {
    let started = start(n).task;
    let requested = Event::TaskRequested(Box::new(TaskRequested {
        workload: started.workload.clone(),
        owner: started.owner.clone(),
        issuer: started.issuer.clone(),
        key: started.key.clone(),
        series: started.series.clone(),
        attempt: started.attempt,
        subject: None,
        requested: NOON,
        expires: after(600),
        people: 2,
        asked_by: None,
        code: digest(&format!("code {n}")),
        jkt: digest(&format!("key {n}")),
        jwk: "{}".into(),
        instance: format!("job-{n}"),
        proof: digest(&format!("proof {n}")),
        request: digest("request"),
        filled: Default::default(),
        access: started.clients[0].access.clone(),
        resource: name("artifacts"),
        until: None,
        epochs: started.epochs,
        supersedes: Vec::new(),
    }));
    let change = change(None, id(n), [requested]);
    let task = change.next.clone();
    let append = Append {
        claims: vec![claim(&task)],
        spends: vec![spend(&format!("proof {n}"), n)],
        ..changed(change)
    };
    Start { append, task }
}

fn approval(task: &Task, who: &str, fetch_by: Option<u64>) -> Append {
    let approved = Event::TaskApproved(TaskApproved {
        at: after(10),
        by: digest(who),
        fetch_by: fetch_by.map(after),
    });
    changed(change(Some(task), task.id, [approved]))
}

/// What a redemption appends.
fn redemption(task: &Task, n: u64) -> Append {
    let like = start_with(n, |started| {
        started.opened = after(20);
        started.deadline = after(3620);
    });
    let events = like.append.changes[0].events.iter();
    let events: Vec<Event> = events.map(|drafted| drafted.event.clone()).collect();
    changed(change(Some(task), task.id, events))
}

fn counts<S: Subject>(bench: &Bench<S>) -> Counts {
    let workload = release();
    let query = FactsQuery {
        counts: Some(&workload),
        ..FactsQuery::default()
    };
    bench.facts(&query).counts
}

pub(crate) fn what_waits_is_open_and_counted_and_claims_its_key<S: Subject>() {
    let mut bench = Bench::<S>::new();
    let asked = asks(1);
    bench.commit(asked.append.clone());
    for _ in 0..2 {
        let held = bench.task(id(1)).unwrap().task;
        assert_eq!(held, asked.task);
        assert!(held.pending().is_some() && held.clients.is_empty());
        assert_eq!(bench.claims("repo/run-1").len(), 1);
        assert_eq!(bench.spent(&key("proof 1")), Some(by(1)));
        assert_eq!(
            (counts(&bench).open, counts(&bench).starts_last_hour),
            (1, 1)
        );
        let again = asks(1);
        assert!(bench.append(again.append).is_err());
        let mut other = asks(2);
        other.append.limits = Some((
            release(),
            Limits {
                open: Some(1),
                starts_per_hour: None,
            },
        ));
        assert_eq!(
            bench.append(other.append).unwrap_err(),
            AppendError::Conflict
        );
        bench.subject.reopen();
    }
    let all = bench
        .store()
        .open(&acme(), &OpenFilter::All, None, 9)
        .unwrap();
    assert_eq!(all.len(), 1);
}

pub(crate) fn of_two_approvals_at_once_one_is_decided_anew<S: Subject>() {
    let mut bench = Bench::<S>::new();
    let asked = asks(1);
    bench.commit(asked.append);
    bench.commit(approval(&asked.task, "one", None));
    // Decided on the state before.
    let late = approval(&asked.task, "other", None);
    assert_eq!(bench.append(late).unwrap_err(), AppendError::Conflict);
    bench.subject.reopen();
    let held = bench.task(id(1)).unwrap().task;
    bench.commit(approval(&held, "other", Some(310)));
    let held = bench.task(id(1)).unwrap().task;
    let pending = held.pending().unwrap();
    assert_eq!((pending.approvals.len(), held.deadline), (2, after(310)));
    assert_eq!(bench.entries().len(), 3);
}

pub(crate) fn what_was_asked_for_starts_under_its_own_id_once<S: Subject>() {
    let mut bench = Bench::<S>::new();
    let asked = asks(1);
    bench.commit(asked.append);
    bench.commit(approval(&asked.task, "one", None));
    let held = bench.task(id(1)).unwrap().task;
    bench.commit(approval(&held, "other", Some(310)));
    let held = bench.task(id(1)).unwrap().task;
    bench.commit(redemption(&held, 1));
    let twice = bench.append(redemption(&held, 1)).unwrap_err();
    assert_eq!(twice, AppendError::Conflict);
    for _ in 0..2 {
        let task = bench.task(id(1)).unwrap().task;
        assert!(task.is_open() && task.pending().is_none());
        assert_eq!((task.clients.len(), task.version), (1, 6));
        // It is the start that was counted, once.
        assert_eq!(
            (counts(&bench).open, counts(&bench).starts_last_hour),
            (1, 1)
        );
        bench.subject.reopen();
    }
}

pub(crate) fn what_nobody_approved_is_due_and_ends_without_a_client<S: Subject>() {
    let mut bench = Bench::<S>::new();
    let asked = asks(1);
    bench.commit(asked.append);
    let due = |bench: &Bench<S>, at| {
        let due = OpenFilter::Due(after(at));
        bench.store().open(&acme(), &due, None, 9).unwrap().len()
    };
    for _ in 0..2 {
        assert_eq!((due(&bench, 599), due(&bench, 600)), (0, 1));
        bench.subject.reopen();
    }
    let ended = Event::TaskEnded(TaskEnded {
        cause: Cause::Expired,
        at: after(600),
        count: asked.task.version + 1,
        by: None,
        last_expiry: None,
    });
    bench.commit(changed(change(Some(&asked.task), id(1), [ended])));
    for _ in 0..2 {
        assert!(bench.task(id(1)).is_none());
        assert_eq!(counts(&bench).open, 0);
        // Its key stays taken, like that of every task that ended.
        let claims = bench.claims("repo/run-1");
        assert_ne!(claims[0].state, dayfly_domain::ClaimState::Open);
        assert_eq!(due(&bench, 4000), 0);
        bench.subject.reopen();
    }
    // An approval that was decided before the end.
    let late = bench.append(approval(&asked.task, "late", None));
    assert_eq!(late.unwrap_err(), AppendError::Conflict);
}
