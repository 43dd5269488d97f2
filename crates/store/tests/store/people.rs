//! What was said of people, and what relied on their authentication.

use dayfly_domain::{Digest, Epoch, EpochOf, Time};
use dayfly_store::{Append, AppendError, FactsQuery, OpenFilter, PersonOver, PersonWrite};

use super::fixture::*;

fn mona() -> Digest {
    digest("mona")
}

fn said(person: Digest, upto: Time, text: &str) -> PersonWrite {
    PersonWrite {
        person,
        over: PersonOver {
            upto,
            at: NOON,
            said: text.into(),
        },
        until: after(25 * 3600),
    }
}

fn saying(write: PersonWrite) -> Append {
    Append {
        now: NOON,
        people: vec![write],
        ..Append::default()
    }
}

/// The `n`-th task, started by somebody who authenticated then.
fn started_by(n: u64, person: Digest, authenticated: Time) -> Start {
    let mut start = start_with(n, |started| {
        started.epochs.push(Epoch::of_person(person, authenticated));
    });
    start.append.relies = start.task.epochs.clone();
    start
}

fn value<S: Subject>(bench: &Bench<S>, person: Digest) -> u64 {
    let of = [EpochOf::Person(person)];
    let facts = bench.facts(&FactsQuery {
        epochs: &of,
        ..FactsQuery::default()
    });
    facts.epochs[0].at
}

fn known<S: Subject>(bench: &Bench<S>, person: Digest) -> Option<PersonOver> {
    bench
        .facts(&FactsQuery {
            person: Some(&person),
            ..FactsQuery::default()
        })
        .person
}

fn due<S: Subject>(bench: &Bench<S>) -> usize {
    let filter = OpenFilter::Due(NOON);
    let due = bench.store().open(&acme(), &filter, None, 100);
    due.unwrap().len()
}

pub(crate) fn what_was_authenticated_before_is_stale<S: Subject>() {
    let mut bench = Bench::<S>::new();
    let (before, after_it) = (
        started_by(1, mona(), after(9)),
        started_by(2, mona(), after(11)),
    );
    let other = started_by(3, digest("dora"), after(9));
    let ids = [before.task.id, after_it.task.id, other.task.id];
    for start in [before, after_it, other] {
        bench.commit(start.append);
    }
    assert_eq!((value(&bench, mona()), known(&bench, mona())), (0, None));
    let entries = bench.entries().len();
    bench.commit(saying(said(mona(), after(10), "idp: session-revoked")));
    assert_eq!(bench.entries().len(), entries, "it makes no entry");
    for _ in 0..2 {
        let stale = |id| bench.task(id).unwrap().stale;
        let of = EpochOf::Person(mona());
        assert_eq!(stale(ids[0]), Some(of.clone()));
        assert_eq!((stale(ids[1]), stale(ids[2])), (None, None));
        let standing = bench.facts(&FactsQuery {
            standings: &ids,
            ..FactsQuery::default()
        });
        assert_eq!(standing.standings[0].as_ref().unwrap().stale, Some(of));
        assert_eq!(due(&bench), 1);
        assert_eq!(value(&bench, mona()), after(10).millis());
        let known = known(&bench, mona()).unwrap();
        assert_eq!(known.said, "idp: session-revoked");
        bench.subject.reopen();
    }
}

pub(crate) fn a_start_after_it_is_refused<S: Subject>() {
    let bench = Bench::<S>::new();
    // Within one batch, and after it.
    let over = bench
        .store()
        .append(&acme(), saying(said(mona(), after(10), "")));
    let within = bench
        .store()
        .append(&acme(), started_by(1, mona(), after(10)).append);
    wait(over).unwrap();
    let stale = AppendError::Stale(EpochOf::Person(mona()));
    assert_eq!(wait(within).unwrap_err(), stale);
    let late = bench.append(started_by(2, mona(), after(5)).append);
    assert_eq!(late.unwrap_err(), stale);
    bench.commit(started_by(3, mona(), after(11)).append);
    bench.commit(started_by(4, digest("dora"), after(5)).append);
}

pub(crate) fn a_delegated_client_loses_its_own_person<S: Subject>() {
    let mut bench = Bench::<S>::new();
    let task = bench.start(1);
    let mut child = delegated(&task, 1, 0);
    let person = Epoch::of_person(mona(), after(5));
    let own = child.next.clients[1].own.as_mut().unwrap();
    own.epochs.push(person.clone());
    if let dayfly_domain::Event::ClientDelegated(event) = &mut child.events[0].event {
        event.own.as_mut().unwrap().epochs.push(person.clone());
    }
    bench.commit(changed(child));
    bench.commit(saying(said(mona(), after(5), "")));
    for _ in 0..2 {
        let open = bench.task(task.id).unwrap();
        assert_eq!(
            (open.stale.as_ref(), &open.lost),
            (None, &vec![person.clone()])
        );
        assert_eq!(open.stale_for(1), None);
        assert_eq!(open.stale_for(2), Some(&person.of));
        assert_eq!(due(&bench), 1);
        bench.subject.reopen();
    }
}

pub(crate) fn what_is_said_only_grows<S: Subject>() {
    let mut bench = Bench::<S>::new();
    for (upto, text) in [(10, "second"), (20, "third"), (5, "first"), (20, "again")] {
        bench.commit(saying(said(mona(), after(upto), text)));
        bench.subject.reopen();
    }
    assert_eq!(value(&bench, mona()), after(20).millis());
    assert_eq!(known(&bench, mona()).unwrap().said, "third");
}

pub(crate) fn people_are_kept_as_long_as_asked_and_then_forgotten<S: Subject>() {
    let mut bench = Bench::<S>::new();
    let (day, mut longer) = (24 * 3600, said(mona(), after(1), "longer"));
    longer.until = after(20 * day);
    bench.commit(saying(said(mona(), after(5), "")));
    bench.commit(saying(said(digest("dora"), after(5), "")));
    bench.commit(saying(longer));
    let pass = |bench: &Bench<S>, days: u64| bench.pass(after(days * day));
    pass(&bench, 4);
    for _ in 0..2 {
        assert_eq!(value(&bench, digest("dora")), 0);
        assert_eq!(known(&bench, digest("dora")), None);
        assert_eq!(value(&bench, mona()), after(5).millis());
        assert_eq!(known(&bench, mona()).unwrap().upto, after(5));
        bench.subject.reopen();
    }
    pass(&bench, 40);
    assert_eq!(value(&bench, mona()), 0);
}
