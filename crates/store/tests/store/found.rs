//! The search keys under which entries are found.

use dayfly_domain::{Cause, Subject as Person};
use dayfly_store::{Annex, Append, AppendError, ERASED, SearchKey, Use};

use super::fixture::*;

pub(crate) fn entries_are_found_under_their_keys<S: Subject>() {
    let mut bench = Bench::<S>::new();
    let task = bench.start(1);
    bench.start(2);
    bench.commit(changed(renewal(&task, 1)));
    bench.commit(noted(NOON, r#"{"owner":"team","resource":"other"}"#));
    let about = format!(r#"{{"on":"workload release","about":"{}"}}"#, task.id);
    bench.commit(noted(NOON, &about));
    let used = format!(r#"{{"about":"{}","workload":"scan"}}"#, id(2));
    let used = Use {
        client: bench.task(id(2)).unwrap().task.client_id(1),
        now: NOON,
        relies: Vec::new(),
        revision: None,
        spend: None,
        limit: None,
        unblocked: Vec::new(),
        note: note("use.allowed", &used),
    };
    wait(bench.store().observe(&acme(), vec![used])).unwrap();
    let mut child = delegated(&bench.task(id(2)).unwrap().task, 2, 0);
    child.events[0].annex = Some(Annex {
        salt: [3; 16],
        data: r#"{"claims":{"sub":"system:pod"}}"#.to_owned(),
    });
    bench.commit(changed(child));
    let all = [
        (SearchKey::Owner(name("team")), vec![7, 3, 0]),
        (SearchKey::Workload(release()), vec![3, 0]),
        (SearchKey::Workload(name("scan")), vec![10]),
        (SearchKey::Owner(name("scanners")), vec![10]),
        (
            SearchKey::Subject(name("cluster"), "system:pod".into()),
            vec![10],
        ),
        (SearchKey::Subject(github(), "system:pod".into()), vec![]),
        (SearchKey::Subject(github(), "repo:o/r".into()), vec![3, 0]),
        (
            SearchKey::Subject(name("gitlab"), "repo:o/r".into()),
            vec![],
        ),
        (SearchKey::Instance("job-2".into()), vec![4]),
        (SearchKey::Run("repo/run-1/job".into()), vec![0]),
        (SearchKey::Run("repo/run-1".into()), vec![0]),
        (SearchKey::Run("run-2".into()), vec![3]),
        (SearchKey::Run("job".into()), vec![3, 0]),
        (SearchKey::Run("ru".into()), vec![]),
        (SearchKey::Resource(name("artifacts")), vec![6, 5, 2]),
        (SearchKey::Resource(name("other")), vec![7]),
        (SearchKey::Key(digest("key 2")), vec![4]),
        (SearchKey::Token(digest("token 1 2")), vec![6]),
        (SearchKey::Token(digest("token 9 9")), vec![]),
        (SearchKey::Issuer(github()), vec![3, 0]),
        (SearchKey::Issuer(name("gitlab")), vec![]),
        (SearchKey::About(id(1)), vec![8]),
        (SearchKey::About(id(2)), vec![]),
        (SearchKey::Uses(id(2)), vec![9]),
        (SearchKey::Uses(id(1)), vec![]),
    ];
    for _ in 0..2 {
        for (key, wanted) in &all {
            let found = bench.store().find(&acme(), key, None, 100).unwrap();
            assert_eq!(found, *wanted, "{key:?}");
        }
        bench.subject.reopen();
    }
}

/// A child with a proof of its own is found by who vouched for it and by its own run, and a task by
/// whoever vouches for its person.
pub(crate) fn whoever_vouched_beside_the_issuer_of_a_task_is_found<S: Subject>() {
    let mut bench = Bench::<S>::new();
    let start = start_with(1, |started| {
        started.subject = Some(Person {
            issuer: name("people"),
            person: digest("mona"),
            authenticated: NOON,
        });
    });
    let task = start.task;
    bench.commit(start.append);
    bench.commit(changed(delegated(&task, 2, 0)));
    let all = [
        (SearchKey::Issuer(github()), vec![0]),
        (SearchKey::Issuer(name("people")), vec![0]),
        (SearchKey::Issuer(name("cluster")), vec![3]),
        (SearchKey::Part("70".into()), vec![3]),
        (SearchKey::Part("2".into()), vec![3]),
        (SearchKey::Part("1".into()), vec![]),
    ];
    for _ in 0..2 {
        for (key, wanted) in &all {
            let found = bench.store().find(&acme(), key, None, 100).unwrap();
            assert_eq!(found, *wanted, "{key:?}");
        }
        bench.subject.reopen();
    }
}

pub(crate) fn found_positions_come_in_pages<S: Subject>() {
    let bench = Bench::<S>::new();
    for n in 1..=5 {
        bench.start(n);
    }
    let key = SearchKey::Workload(release());
    let page =
        |cursor, limit| -> Vec<u64> { bench.store().find(&acme(), &key, cursor, limit).unwrap() };
    assert_eq!(page(None, 2), [12, 9]);
    assert_eq!(page(Some(9), 2), [6, 3]);
    assert_eq!(page(Some(3), 2), [0]);
    assert_eq!(page(Some(0), 2), [0; 0]);
    let other = name("umbrella");
    assert!(
        bench
            .store()
            .find(&other, &key, None, 9)
            .unwrap()
            .is_empty()
    );
}

pub(crate) fn what_was_answered_is_found<S: Subject>() {
    let bench = Bench::<S>::new();
    for n in 1..=20 {
        let task = bench.start(n);
        let found = |key| bench.store().find(&acme(), &key, None, 1).unwrap().len();
        assert_eq!(found(SearchKey::Key(digest(&format!("key {n}")))), 1);
        bench.commit(changed(end(&task, Cause::Completed)));
        assert_eq!(found(SearchKey::Run(format!("run-{n}"))), 1);
    }
}

pub(crate) fn what_is_erased_is_gone_and_its_leaf_stays<S: Subject>() {
    let mut bench = Bench::<S>::new();
    bench.start(1);
    bench.start(2);
    let before = bench.entries();
    let person = SearchKey::Subject(github(), "repo:o/r".into());
    let erase = |erases: Vec<u64>| Append {
        erases,
        ..noted(NOON, "{}")
    };
    for beyond in [vec![before.len() as u64], vec![0; ERASED + 1]] {
        assert!(matches!(
            bench.append(erase(beyond)),
            Err(AppendError::Unfit(_))
        ));
    }
    assert_eq!(bench.entries(), before, "a refused one erases nothing");
    bench.commit(erase(vec![0, 1]));
    for _ in 0..2 {
        let after = bench.entries();
        for (was, is) in before.iter().zip(&after) {
            assert_eq!((&was.leaf, was.hash), (&is.leaf, is.hash));
            let erased = was.pos < 2;
            assert_eq!(is.annex.is_none(), erased || was.annex.is_none());
        }
        let found = bench.store().find(&acme(), &person, None, 9).unwrap();
        assert_eq!(found, [3]);
        bench.subject.reopen();
    }
    // Once more changes nothing.
    bench.commit(erase(vec![0]));
}
