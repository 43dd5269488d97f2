//! Every kind of key that a trace takes.

use dayfly_domain::Cause;

use super::*;
use crate::record::{KeyError, Page, RunUrl, Word};

fn two() -> (Hand, TaskId, TaskId) {
    let mut hand = Hand::new();
    let first = hand.start(at(3, 0, 0), &Spec::default());
    hand.end(at(3, 1, 0), first, Cause::Completed, None);
    let second = hand.start(
        at(3, 2, 0),
        &Spec {
            workload: "nightly",
            owner: "team-data",
            key: "1296269/78/902",
            series: "1296269/78",
            attempt: Some(2),
            instance: "run 78 attempt 2 job 902",
            ..Spec::default()
        },
    );
    (hand, first, second)
}

#[test]
fn each_kind_finds_its_tasks() {
    let (hand, first, second) = two();
    for (key, wanted, read_as) in [
        ("nightly", vec![second], "workload nightly"),
        ("workload:release", vec![first], "workload release"),
        ("team-data", vec![second], "owner team-data"),
        ("artifacts", vec![second, first], "resource artifacts"),
        (
            "https://artifacts.example/",
            vec![second, first],
            "resource artifacts",
        ),
        ("github", vec![second, first], "issuer github"),
        (
            "https://token.example",
            vec![second, first],
            "issuer github",
        ),
        (
            "subject:github:repo:octo/1",
            vec![first],
            "subject repo:octo/1 of issuer github",
        ),
        (
            "run 78 attempt 2 job 902",
            vec![second],
            "instance run 78 attempt 2 job 902",
        ),
        ("1296269", vec![second, first], "run 1296269"),
        ("1296269/77", vec![first], "run 1296269/77"),
        ("1296269/77/901", vec![first], "run 1296269/77/901"),
        ("902", vec![second], "run 902"),
        (
            "github.com/octo/repo/actions/runs/77",
            vec![first],
            "run 77",
        ),
        (
            "https://github.com/octo/repo/actions/runs/78/attempts/2",
            vec![second],
            "run 78, attempt 2",
        ),
        (
            "https://github.com/octo/repo/actions/runs/78/job/902?pr=1#step:3:1",
            vec![second],
            "run 78, job 902",
        ),
        (
            "https://gitlab.example/a/b/c/-/jobs/901",
            vec![first],
            "run 901",
        ),
        (
            "https://gitlab.example/a/b/-/pipelines/78",
            vec![second],
            "run 78",
        ),
    ] {
        let trace = hand.trace(key, at(3, 5, 0));
        let found: Vec<_> = trace.tasks.iter().map(|task| task.task).collect();
        assert_eq!(found, wanted, "{key}");
        assert_eq!(trace.read_as, [read_as], "{key}");
    }
    let thumbprint = hand.trace(&digest(102).to_string(), at(3, 5, 0));
    assert_eq!(thumbprint.tasks[0].task, second);
    assert_eq!(thumbprint.read_as, [format!("key {}", digest(102))]);
}

#[test]
fn what_does_not_fit_finds_nothing() {
    let (hand, ..) = two();
    for key in [
        "https://github.com/octo/repo/actions/runs/78/attempts/1",
        "https://github.com/octo/repo/actions/runs/78/job/901",
        "https://gitlab.example/a/b/-/jobs/903",
        "workload:team-data",
        "instance:nightly",
        "subject:github:repo:octo/3",
        "resource:nightly",
    ] {
        let trace = hand.trace(key, at(3, 5, 0));
        assert_eq!(trace.verdict.word, Word::Unknown, "{key}");
        assert!(trace.tasks.is_empty() && trace.timeline.is_empty());
    }
}

#[test]
fn a_name_that_is_two_things_is_both() {
    let mut hand = Hand::new();
    let spec = |workload, owner| Spec {
        workload,
        owner,
        ..Spec::default()
    };
    hand.start(at(3, 0, 0), &spec("web", "ops"));
    hand.start(at(3, 1, 0), &spec("ops", "team"));
    let trace = hand.trace("ops", at(3, 5, 0));
    assert_eq!(trace.read_as, ["owner ops", "workload ops"]);
    assert_eq!(
        trace.verdict.line,
        "LIVE until 04:00:00 (2 of 2 tasks, owner ops and workload ops)"
    );
}

#[test]
fn a_window_leaves_out_what_was_not_open_in_it() {
    let (hand, first, second) = two();
    let found = |since, until| {
        let query = TraceQuery {
            key: "artifacts".parse().unwrap(),
            since,
            until,
            now: at(3, 5, 0),
        };
        let trace = trace(hand.store.as_ref(), &hand.tenant, &known(), &query).unwrap();
        trace.tasks.iter().map(|task| task.task).collect::<Vec<_>>()
    };
    assert_eq!(found(Some(at(3, 1, 30)), None), [second]);
    assert_eq!(found(None, Some(at(3, 1, 30))), [first]);
    assert_eq!(found(Some(at(3, 1, 0)), Some(at(3, 2, 0))), [second, first]);
    assert_eq!(found(Some(at(3, 1, 20)), Some(at(3, 1, 40))), []);
}

#[test]
fn the_timeline_tells_what_happened_and_what_is_about_it() {
    let mut hand = Hand::new();
    let task = hand.start(at(3, 0, 0), &Spec::default());
    let other = hand.start(at(3, 1, 0), &Spec::default());
    let said = r#"{"by":{"uid":7},"reason":"leaked"}"#;
    hand.end(at(3, 2, 0), task, Cause::Operator, Some(said));
    hand.block(at(3, 2, 0), task);
    let trace = hand.trace(&task.to_string(), at(3, 5, 0));
    let lines: Vec<_> = trace
        .timeline
        .iter()
        .map(|line| (line.pos, line.kind.as_str()))
        .collect();
    assert_eq!(
        lines,
        [
            (0, "task.started"),
            (1, "client.registered"),
            (2, "credential.issued"),
            (6, "task.ended"),
            (7, "block.set"),
        ]
    );
    let what: Vec<_> = trace
        .timeline
        .iter()
        .map(|line| line.what.as_str())
        .collect();
    let id = |kind: &str| task.to_string().replace("task_", kind);
    assert_eq!(
        what,
        [
            "workload release, owner team-platform, issuer github, key 1296269/77/901, attempt 1, until 04:00:00",
            &format!(
                "{}_1 by run 77 attempt 1 job 901, key {}, for artifacts artifact(actions: read)",
                id("client_"),
                digest(101)
            ),
            &format!(
                "{}_1_1 at artifacts until 03:12:22, key-bound, hash {}",
                id("cred_"),
                digest(1)
            ),
            "operator, 4 entries",
            "on series:github:1296269/77",
        ]
    );
    assert_eq!(trace.timeline[3].note.by.as_deref(), Some("uid 7"));
    assert_eq!(trace.timeline[3].note.reason.as_deref(), Some("leaked"));
    assert!(hand.trace(&other.to_string(), at(3, 5, 0)).timeline.len() == 3);
}

#[test]
fn a_token_is_not_taken_as_a_key() {
    let token = "eyJhbGciOiJFUzI1NiJ9.eyJqdGkiOiJ4In0.c2lnbmF0dXJl";
    assert_eq!(token.parse::<TraceKey>(), Err(KeyError::Token));
    assert_eq!("  ".parse::<TraceKey>(), Err(KeyError::Empty));
    assert!(matches!(
        "task_0000000000000000000000000l".parse::<TraceKey>(),
        Err(KeyError::Kind { .. })
    ));
    assert!("workload:Not A Name".parse::<TraceKey>().is_err());
    assert_eq!(
        "task_force".parse(),
        Ok(TraceKey::Any("task_force".to_owned()))
    );
}

#[test]
fn keys_are_written_as_they_are_read() {
    let (_, task, _) = two();
    for text in [
        task.to_string(),
        task.to_string().replace("task_", "client_") + "_1",
        task.to_string().replace("task_", "cred_") + "_1_2",
        format!("token:{}", digest(1)),
        format!("key:{}", digest(1)),
        "workload:a".to_owned(),
        "owner:a".to_owned(),
        "issuer:a".to_owned(),
        "resource:a".to_owned(),
        "instance:a b".to_owned(),
        "run:1/2".to_owned(),
        "subject:a:repo:x".to_owned(),
        "https://x.example/y".to_owned(),
        "anything at all".to_owned(),
    ] {
        assert_eq!(text.parse::<TraceKey>().unwrap().to_string(), text);
    }
    assert_eq!(
        "https://ghe.example:8443/o/r/actions/runs/5/attempts/3/job/9".parse(),
        Ok(TraceKey::RunUrl(RunUrl {
            page: Page::Run,
            run: "5".to_owned(),
            attempt: Some(3),
            job: Some("9".to_owned()),
        }))
    );
}

#[test]
fn an_issuer_is_not_looked_for_where_the_name_is_something_else() {
    let mut hand = Hand::new();
    let spec = Spec {
        workload: "github",
        ..Spec::default()
    };
    let of_issuer = hand.start(at(3, 0, 0), &Spec::default());
    let of_workload = hand.start(at(3, 1, 0), &spec);
    hand.end(at(3, 2, 0), of_issuer, Cause::Completed, None);
    hand.end(at(3, 3, 0), of_workload, Cause::Completed, None);
    let found = |key: &str| {
        let tasks = hand.trace(key, at(3, 5, 0)).tasks;
        tasks.iter().map(|task| task.task).collect::<Vec<_>>()
    };
    assert_eq!(found("github"), [of_workload]);
    assert_eq!(found("issuer:github"), [of_workload, of_issuer]);
}

/// A client may have ended long before its task.
#[test]
fn a_time_from_when_on_is_held_against_the_end_of_whom_the_key_names() {
    let mut hand = Hand::new();
    let task = hand.start(at(3, 0, 0), &Spec::default());
    hand.delegate(at(3, 1, 0), task, 90);
    hand.end_client(at(3, 2, 0), task, 2, Cause::Operator);
    let found = |hand: &Hand, key: &str, since| {
        let query = TraceQuery {
            key: key.parse::<TraceKey>().unwrap(),
            since: Some(since),
            until: None,
            now: at(3, 5, 0),
        };
        let trace = trace(hand.store.as_ref(), &hand.tenant, &known(), &query);
        trace.unwrap().tasks.len()
    };
    for has_ended in [false, true] {
        if has_ended {
            hand.end(at(3, 3, 0), task, Cause::Completed, None);
        }
        assert_eq!(found(&hand, "workload:scan", at(3, 2, 0)), 1);
        assert_eq!(found(&hand, "workload:scan", at(3, 2, 1)), 0);
        assert_eq!(found(&hand, "workload:release", at(3, 3, 0)), 1);
    }
    assert_eq!(found(&hand, "workload:release", at(3, 3, 1)), 0);
}
