//! Lists of tasks, keys and blocks, and the shape in which a task is shown.

use dayfly_domain::Cause;
use dayfly_store::{Append, Document};

use super::*;
use crate::record::{
    Filter, RecordError, Standing, TaskView, blocks, keys, task_record, task_view, tasks,
};

fn listed(hand: &Hand, filter: &Filter, limit: usize) -> Vec<TaskId> {
    let mut ids = Vec::new();
    let mut cursor = None;
    loop {
        let page = tasks(
            hand.store.as_ref(),
            &hand.tenant,
            filter,
            cursor.as_deref(),
            limit,
        )
        .unwrap();
        assert!(page.tasks.len() <= limit);
        ids.extend(page.tasks.iter().map(|line| line.task));
        cursor = page.next;
        if cursor.is_none() {
            return ids;
        }
    }
}

#[test]
fn pages_follow_each_other_without_gap() {
    let mut hand = Hand::new();
    let mut made = Vec::new();
    for minute in 0..20 {
        let spec = Spec {
            workload: if minute % 2 == 0 { "even" } else { "odd" },
            ..Spec::default()
        };
        made.push(hand.start(at(3, minute, 0), &spec));
    }
    for task in &made[..6] {
        hand.end(at(3, 30, 0), *task, Cause::Completed, None);
    }
    let newest: Vec<_> = made.iter().rev().copied().collect();
    let even = |ids: &[TaskId]| {
        let even = |id: &&TaskId| made.iter().position(|made| made == *id).unwrap() % 2 == 0;
        ids.iter().filter(even).copied().collect::<Vec<_>>()
    };
    for limit in [1, 3, 7, 100] {
        let mut filter = Filter::default();
        assert_eq!(listed(&hand, &filter, limit), made[6..]);
        filter.workload = Some(name("even"));
        assert_eq!(listed(&hand, &filter, limit), even(&made[6..]));
        filter.ended = true;
        assert_eq!(listed(&hand, &filter, limit), even(&newest));
        filter.workload = None;
        assert_eq!(listed(&hand, &filter, limit), newest);
        filter.owner = Some(name("team-platform"));
        assert_eq!(listed(&hand, &filter, limit), newest);
        filter.owner = Some(name("nobody"));
        assert!(listed(&hand, &filter, limit).is_empty());
    }
    let foreign = tasks(
        hand.store.as_ref(),
        &hand.tenant,
        &Filter::default(),
        Some("17"),
        5,
    );
    assert_eq!(foreign, Err(RecordError::Cursor("17".to_owned())));
}

#[test]
fn a_task_is_the_same_from_its_state_and_from_its_entries() {
    let mut hand = Hand::new();
    let task = hand.start(at(3, 0, 0), &Spec::default());
    let open = task_view(hand.store.as_ref(), &hand.tenant, task)
        .unwrap()
        .unwrap();
    assert_eq!((open.issued, open.entries), (1, 3));
    assert_eq!(open.clients[0].credentials[0].hash, digest(1));
    assert_eq!(open.last_possible_acceptance, Some(at(3, 12, 22)));
    assert!(
        matches!(open.standing, Standing::Open { due, due_cause: Cause::Deadline, .. } if due == at(4, 0, 0))
    );
    let said = r#"{"by":{"uid":7},"reason":"leaked"}"#;
    hand.end(at(3, 2, 0), task, Cause::Operator, Some(said));
    let ended = task_record(hand.store.as_ref(), &hand.tenant, task)
        .unwrap()
        .unwrap();
    assert_eq!(ended.clients[0].access, open.clients[0].access);
    assert!(ended.clients[0].credentials.is_empty());
    assert!(
        matches!(&ended.standing, Standing::Ended { note, .. } if note.reason.as_deref() == Some("leaked"))
    );
    // What the task's own clients see says nothing of the person.
    let own = task_view(hand.store.as_ref(), &hand.tenant, task)
        .unwrap()
        .unwrap();
    assert!(!serde_json::to_string(&own).unwrap().contains("leaked"));
}

#[test]
fn a_view_survives_the_wire() {
    let mut hand = Hand::new();
    let task = hand.start(at(3, 0, 0), &Spec::default());
    let mut views = vec![
        task_record(hand.store.as_ref(), &hand.tenant, task)
            .unwrap()
            .unwrap(),
    ];
    hand.end(
        at(3, 2, 0),
        task,
        Cause::Operator,
        Some(r#"{"by":{"uid":7},"reason":"leaked"}"#),
    );
    views.push(
        task_record(hand.store.as_ref(), &hand.tenant, task)
            .unwrap()
            .unwrap(),
    );
    for view in views {
        let text = serde_json::to_string(&view).unwrap();
        assert_eq!(serde_json::from_str::<TaskView>(&text).unwrap(), view);
    }
    let trace = hand.trace(&task.to_string(), at(3, 5, 0));
    let text = serde_json::to_string(&trace).unwrap();
    assert!(
        text.starts_with(r#"{"verdict":{"word":"GONE","line":"GONE 03:02:00 (operator: leaked)"#)
    );
    assert_eq!(serde_json::from_str::<Trace>(&text).unwrap(), trace);
}

#[test]
fn keys_and_blocks_are_listed() {
    let mut hand = Hand::new();
    let task = hand.start(at(3, 0, 0), &Spec::default());
    hand.block(at(3, 1, 0), task);
    let found = blocks(hand.store.as_ref(), &hand.tenant).unwrap();
    assert_eq!(found[0].on, "series:github:1296269/77");
    assert_eq!(found[0].task, Some(task));
    let key = r#"{"use":"token","alg":"ES256","created":5,"public":"{}","state":"signing","since":5,"private":{"wrapped":"c2VjcmV0"}}"#;
    hand.commit(Append {
        now: at(3, 2, 0),
        documents: vec![Document {
            name: "key/abc".to_owned(),
            bytes: Some(key.into()),
        }],
        ..Append::default()
    });
    let found = keys(hand.store.as_ref(), &hand.tenant).unwrap();
    assert_eq!(
        (found[0].kid.as_str(), found[0].alg.as_str()),
        ("abc", "ES256")
    );
    assert!(!serde_json::to_string(&found).unwrap().contains("c2VjcmV0"));
}
