//! Beats, deafness, and which tasks are due.

use dayfly_domain::{Cause, Event, Span, TaskEnded, TaskId, Time};
use dayfly_store::{OpenFilter, Touch};

use super::fixture::*;

fn beat<S: Subject>(bench: &Bench<S>, n: u64, at: Time) {
    bench
        .store()
        .touch(&acme(), Touch::Beat { task: id(n), at });
}

fn alive<S: Subject>(bench: &Bench<S>, seconds: u64) {
    bench
        .store()
        .touch(&acme(), Touch::Alive { at: after(seconds) });
}

fn seen<S: Subject>(bench: &Bench<S>, n: u64) -> Option<Time> {
    bench.task(id(n)).unwrap().heard.last_seen
}

pub(crate) fn beats_are_seen_at_once_and_never_go_back<S: Subject>() {
    let mut bench = Bench::<S>::new();
    bench.start(1);
    bench.commit(start_with(2, required).append);
    assert_eq!((seen(&bench, 1), seen(&bench, 2)), (None, Some(NOON)));
    beat(&bench, 1, after(30));
    beat(&bench, 2, after(40));
    beat(&bench, 1, after(20));
    beat(&bench, 3, after(20));
    assert_eq!(
        (seen(&bench, 1), seen(&bench, 2)),
        (Some(after(30)), Some(after(40)))
    );
    let task = bench.task(id(1)).unwrap().task;
    bench.commit(changed(renewal(&task, 1)));
    assert_eq!(seen(&bench, 1), Some(after(30)));
    bench.subject.reopen();
    assert_eq!(
        (seen(&bench, 1), seen(&bench, 2)),
        (Some(after(30)), Some(after(40)))
    );
}

pub(crate) fn time_in_which_nothing_could_be_heard_is_counted<S: Subject>() {
    let mut bench = Bench::<S>::new();
    bench.start(1);
    bench.start(2);
    beat(&bench, 1, after(0));
    let deaf = |bench: &Bench<S>, n| bench.task(id(n)).unwrap().heard.deaf;
    for seconds in [0, 5, 10, 12] {
        alive(&bench, seconds);
    }
    assert_eq!(deaf(&bench, 1), Span::ZERO);
    alive(&bench, 20);
    assert_eq!(deaf(&bench, 1), Span::from_seconds(8));
    // One that was never heard has missed nothing.
    assert_eq!(deaf(&bench, 2), Span::ZERO);
    beat(&bench, 2, after(16));
    assert_eq!(deaf(&bench, 2), Span::from_seconds(4));
    bench.subject.reopen();
    assert_eq!(deaf(&bench, 1), Span::from_seconds(8));
    // The restart itself is a gap from the last mark to the first one after it.
    alive(&bench, 50);
    assert_eq!(deaf(&bench, 1), Span::from_seconds(38));
    assert_eq!(deaf(&bench, 2), Span::from_seconds(34));
    beat(&bench, 1, after(51));
    assert_eq!(deaf(&bench, 1), Span::ZERO);
    bench.subject.reopen();
    assert_eq!(
        (deaf(&bench, 1), deaf(&bench, 2)),
        (Span::ZERO, Span::from_seconds(34))
    );
}

pub(crate) fn deaf_time_is_counted_once<S: Subject>() {
    let mut bench = Bench::<S>::new();
    bench.start(1);
    beat(&bench, 1, after(0));
    let deafen = |bench: &Bench<S>, from, to| {
        let (from, to) = (after(from), after(to));
        bench.store().touch(&acme(), Touch::Deaf { from, to });
        bench.task(id(1)).unwrap().heard.deaf
    };
    assert_eq!(deafen(&bench, 100, 110), Span::from_seconds(10));
    assert_eq!(deafen(&bench, 130, 140), Span::from_seconds(20));
    assert_eq!(deafen(&bench, 105, 135), Span::from_seconds(40));
    assert_eq!(deafen(&bench, 110, 120), Span::from_seconds(40));
    assert_eq!(deafen(&bench, 150, 150), Span::from_seconds(40));
    assert_eq!(deafen(&bench, 160, 150), Span::from_seconds(40));
    assert_eq!(deafen(&bench, 150, 160), Span::from_seconds(50));
    bench.subject.reopen();
    assert_eq!(deafen(&bench, 100, 160), Span::from_seconds(60));
    alive(&bench, 95);
    alive(&bench, 165);
    assert_eq!(deafen(&bench, 100, 160), Span::from_seconds(70));
}

/// What a clock that was ahead has marked is of no later time than the right one says.
pub(crate) fn what_was_heard_ahead_of_the_clock_counts_up_to_it<S: Subject>() {
    let mut bench = Bench::<S>::new();
    let deaf = |bench: &Bench<S>, n| bench.task(id(n)).unwrap().heard.deaf;
    for n in 1..=2 {
        bench.start(n);
        beat(&bench, n, after(10));
    }
    alive(&bench, 10);
    beat(&bench, 1, after(7200));
    alive(&bench, 7200);
    assert_eq!(deaf(&bench, 2), Span::from_seconds(7190));
    assert_eq!(due(&bench, after(3000)), []);
    bench.store().touch(&acme(), Touch::Clock { at: after(20) });
    for _ in 0..2 {
        assert_eq!(bench.task(id(1)).unwrap().heard.last_seen, Some(after(20)));
        assert_eq!(deaf(&bench, 1), Span::ZERO);
        assert_eq!(bench.task(id(2)).unwrap().heard.last_seen, Some(after(10)));
        assert_eq!(deaf(&bench, 2), Span::from_seconds(10));
        assert_eq!(due(&bench, after(319)), []);
        assert_eq!(due(&bench, after(321)), [id(1), id(2)]);
        // Where nothing is ahead it changes nothing.
        bench.store().touch(&acme(), Touch::Clock { at: after(30) });
        bench.commit(noted(after(30), "{}"));
        bench.subject.reopen();
    }
    // A gap from then on counts again.
    alive(&bench, 120);
    assert_eq!(deaf(&bench, 1), Span::from_seconds(100));
}

fn due<S: Subject>(bench: &Bench<S>, at: Time) -> Vec<TaskId> {
    let due = bench
        .store()
        .open(&acme(), &OpenFilter::Due(at), None, 100)
        .unwrap();
    due.iter().map(|open| open.task.id).collect()
}

pub(crate) fn the_sweep_finds_what_is_due<S: Subject>() {
    let mut bench = Bench::<S>::new();
    // By its deadline, by silence from the start, by silence from the first beat on, by linger.
    bench.commit(start_with(1, |started| started.deadline = after(100)).append);
    bench.commit(start_with(2, required).append);
    bench.start(3);
    let lingers = start_with(4, |started| started.linger = Span::from_seconds(50));
    bench.commit(lingers.append);
    for _ in 0..2 {
        assert_eq!(due(&bench, after(99)), []);
        assert_eq!(due(&bench, after(100)), [id(1)]);
        assert_eq!(due(&bench, after(300)), [id(1)]);
        assert_eq!(due(&bench, after(301)), [id(1), id(2)]);
        bench.subject.reopen();
    }
    bench.commit(changed(end_client(&lingers.task)));
    assert_eq!(due(&bench, after(49)), []);
    assert_eq!(due(&bench, after(50)), [id(4)]);
    beat(&bench, 3, after(20));
    assert_eq!(due(&bench, after(321)), [id(1), id(2), id(3), id(4)]);
    // What is heard again is due later.
    beat(&bench, 3, after(200));
    beat(&bench, 2, after(200));
    assert_eq!(due(&bench, after(321)), [id(1), id(4)]);
    assert_eq!(due(&bench, after(501)), [id(1), id(2), id(3), id(4)]);
    assert_eq!(due(&bench, after(321)), [id(1), id(4)]);
    // So is what could not be heard.
    alive(&bench, 210);
    alive(&bench, 310);
    assert_eq!(due(&bench, after(501)), [id(1), id(4)]);
    assert_eq!(due(&bench, after(601)), [id(1), id(2), id(3), id(4)]);
    assert_eq!(due(&bench, after(3600)).len(), 4);
}

pub(crate) fn open_tasks_come_in_pages<S: Subject>() {
    let bench = Bench::<S>::new();
    for n in [3, 1, 5, 2, 4] {
        bench.start(n);
    }
    for filter in [OpenFilter::All, OpenFilter::Due(after(3600))] {
        let page = |cursor, limit| -> Vec<TaskId> {
            let open = bench.store().open(&acme(), &filter, cursor, limit).unwrap();
            open.iter().map(|open| open.task.id).collect()
        };
        assert_eq!(page(None, 100), [1, 2, 3, 4, 5].map(id));
        assert_eq!(page(None, 2), [1, 2].map(id));
        assert_eq!(page(Some(id(2)), 2), [3, 4].map(id));
        assert_eq!(page(Some(id(5)), 2), []);
    }
    // A page is full of what is due, though those before it in their order were heard again.
    for n in 1..=5 {
        beat(&bench, n, after(0));
    }
    for n in 1..=2 {
        beat(&bench, n, after(200));
    }
    let filter = OpenFilter::Due(after(301));
    let page = |cursor| -> Vec<TaskId> {
        let open = bench.store().open(&acme(), &filter, cursor, 2).unwrap();
        open.iter().map(|open| open.task.id).collect()
    };
    assert_eq!(page(None), [3, 4].map(id));
    // What comes due between two pages is in those that follow, and what ended is in none.
    bench.commit(start_with(6, |started| started.deadline = after(100)).append);
    bench.commit(start_with(7, |started| started.deadline = after(100)).append);
    assert_eq!(page(Some(id(4))), [5, 6].map(id));
    let fifth = bench.task(id(5)).unwrap().task;
    let ended = Event::TaskEnded(TaskEnded {
        cause: Cause::Operator,
        at: after(302),
        count: fifth.version + 1,
        by: None,
        last_expiry: None,
    });
    bench.commit(changed(change(Some(&fifth), id(5), [ended])));
    assert_eq!(page(Some(id(4))), [6, 7].map(id));
    assert_eq!(page(Some(id(7))), []);
    assert_eq!(page(None), [3, 4].map(id));
}
