//! The verdict line, word for word.

use dayfly_domain::{Cause, EpochOf, HeartbeatMode};
use dayfly_store::{Append, Document, Touch};

use super::*;
use crate::record::Word;

#[test]
fn a_task_that_an_operator_ended() {
    let mut hand = Hand::new();
    let task = hand.start(at(3, 7, 22), &Spec::default());
    let said = r#"{"by":{"uid":0},"reason":"leaked"}"#;
    hand.end(at(3, 12, 7), task, Cause::Operator, Some(said));
    let line =
        "GONE 03:12:07 (operator: leaked); last possible acceptance 03:12:22; uses not reported";
    for key in [
        task.to_string(),
        task.to_string().replace("task_", "client_") + "_1",
        task.to_string().replace("task_", "cred_") + "_1_1",
        format!("token:{}", digest(1)),
        digest(1).to_string(),
        "release".to_owned(),
        "owner:team-platform".to_owned(),
    ] {
        assert_eq!(hand.verdict(&key, at(3, 30, 0)), line, "{key}");
    }
    assert_eq!(
        hand.verdict(&task.to_string(), at(27, 0, 0)),
        "GONE 2026-11-21 03:12:07 (operator: leaked); \
         last possible acceptance 2026-11-21 03:12:22; uses not reported"
    );
}

#[test]
fn an_erased_reason_leaves_the_cause() {
    let mut hand = Hand::new();
    let task = hand.start(at(3, 7, 22), &Spec::default());
    let said = r#"{"by":{"uid":0},"reason":"leaked"}"#;
    hand.end(at(3, 12, 7), task, Cause::Operator, Some(said));
    let erased = Tampered {
        store: Arc::clone(&hand.store),
        with: |entry: &mut StoredEntry| entry.annex = None,
    };
    let trace = hand.trace_over(&erased, &task.to_string(), at(3, 30, 0));
    assert_eq!(
        trace.verdict.line,
        "GONE 03:12:07 (operator); last possible acceptance 03:12:22; uses not reported"
    );
    assert!(trace.timeline.last().unwrap().erased);
    assert!(!trace.timeline[1].erased);
}

#[test]
fn a_reason_stays_on_its_line() {
    let mut hand = Hand::new();
    let task = hand.start(at(3, 7, 22), &Spec::default());
    let said = r#"{"by":{"uid":0},"reason":"a\nLIVE\u001b[2J"}"#;
    hand.end(at(3, 12, 7), task, Cause::Operator, Some(said));
    assert_eq!(
        hand.verdict(&task.to_string(), at(3, 30, 0)),
        "GONE 03:12:07 (operator: a\\u{a}LIVE\\u{1b}[2J); \
         last possible acceptance 03:12:22; uses not reported"
    );
}

#[test]
fn a_live_task() {
    let mut hand = Hand::new();
    let task = hand.start(at(3, 7, 22), &Spec::default());
    let whose = format!("(task {task}, workload release, owner team-platform)");
    let key = task.to_string();
    assert_eq!(
        hand.verdict(&key, at(3, 8, 0)),
        format!("LIVE until 04:00:00 {whose}")
    );
    assert_eq!(
        hand.verdict(&key, at(0, 0, 0) - Span::from_seconds(1)),
        format!("LIVE until 2026-11-21 04:00:00 {whose}")
    );
    let credential = key.replace("task_", "cred_") + "_1_1";
    assert_eq!(
        hand.verdict(&credential, at(3, 8, 0)),
        format!("LIVE until 03:12:22 {whose}")
    );
    assert_eq!(
        hand.verdict(&credential, at(3, 12, 22)),
        format!("EXPIRED 03:12:22 {whose}; last possible acceptance 03:12:22; uses not reported")
    );
}

#[test]
fn an_end_that_is_not_yet_recorded() {
    let mut hand = Hand::new();
    let spec = Spec {
        heartbeat: HeartbeatMode::Auto,
        ..Spec::default()
    };
    let task = hand.start(at(3, 0, 0), &spec);
    let key = task.to_string();
    assert_eq!(
        hand.verdict(&key, at(4, 0, 0)),
        "GONE 04:00:00 (deadline, the end not yet recorded); \
         last possible acceptance 04:00:00; uses not reported"
    );
    let beat = Touch::Beat {
        task,
        at: at(3, 1, 0),
    };
    hand.store.touch(&hand.tenant, beat);
    assert_eq!(hand.trace(&key, at(3, 6, 0)).verdict.word, Word::Live);
    assert_eq!(
        hand.verdict(&key, at(3, 7, 0)),
        "GONE 03:06:00 (heartbeat, the end not yet recorded); \
         last possible acceptance 03:12:22; uses not reported"
    );
    hand.commit(Append {
        now: at(3, 2, 0),
        moves: vec![EpochOf::Owner(name("team-platform"))],
        ..Append::default()
    });
    assert_eq!(
        hand.verdict(&key, at(3, 3, 0)),
        "GONE (rights taken away: owner team-platform, the end not yet recorded); \
         last possible acceptance 03:12:22; uses not reported"
    );
}

#[test]
fn a_client_that_ended_before_its_task() {
    let mut hand = Hand::new();
    let task = hand.start(at(3, 0, 0), &Spec::default());
    // A delegated client, which no event makes yet.
    let events = vec![(issued(1, 2, 50, at(3, 1, 0), at(3, 20, 0)), None)];
    hand.append(at(3, 1, 0), task, events, |next| {
        let mut child = next.clients[0].clone();
        child.parent = Some(1);
        child.credentials.clear();
        child.last_expiry = Some(at(3, 25, 0));
        child.expires = at(3, 30, 0);
        next.clients.push(child);
    });
    let client = task.to_string().replace("task_", "client_");
    let whose = format!("(task {task}, workload release, owner team-platform)");
    assert_eq!(
        hand.verdict(&format!("{client}_2"), at(3, 2, 0)),
        format!("LIVE until 03:30:00 {whose}")
    );
    hand.end_client(at(3, 3, 0), task, 1, Cause::Failed);
    assert_eq!(
        hand.verdict(&format!("{client}_1"), at(3, 4, 0)),
        "GONE 03:03:00 (failed); last possible acceptance 03:25:00; uses not reported"
    );
    assert_eq!(
        hand.verdict(&format!("{client}_2"), at(3, 4, 0)),
        "GONE 03:03:00 (parent); last possible acceptance 03:25:00; uses not reported"
    );
    let view = &hand.trace(&format!("{client}_2"), at(3, 4, 0)).tasks[0];
    let tree: Vec<_> = view
        .clients
        .iter()
        .map(|client| (client.depth, client.parent))
        .collect();
    assert_eq!(tree, [(0, None), (1, Some(1))]);
}

#[test]
fn a_credential_whose_key_is_given_up() {
    let mut hand = Hand::new();
    let task = hand.start(at(3, 0, 0), &Spec::default());
    hand.issue(at(3, 1, 0), task, 2, 50, at(3, 20, 0));
    hand.issue(at(3, 1, 0), task, 3, 51, at(3, 2, 0));
    let compromised = at(3, 4, 0).millis();
    let key = format!(
        r#"{{"use":"token","alg":"ES256","created":5,"public":"{{}}","state":"compromised","at":{compromised},"private":"erased"}}"#
    );
    hand.commit(Append {
        now: at(3, 4, 0),
        documents: vec![Document {
            name: "key/key-1".to_owned(),
            bytes: Some(key.into()),
        }],
        ..Append::default()
    });
    let token = |seed| format!("token:{}", digest(seed));
    assert_eq!(
        hand.verdict(&token(50), at(3, 5, 0)),
        "GONE 03:04:00 (its key is compromised; the task goes on); last possible acceptance 03:10:00; uses not reported"
    );
    assert!(
        hand.verdict(&token(51), at(3, 5, 0))
            .starts_with("EXPIRED 03:02:00 (")
    );
    assert!(
        hand.verdict(&task.to_string(), at(3, 5, 0))
            .starts_with("LIVE")
    );
}

#[test]
fn a_revoked_credential() {
    let mut hand = Hand::new();
    let task = hand.start(at(3, 0, 0), &Spec::default());
    hand.issue(at(3, 1, 0), task, 2, 50, at(3, 20, 0));
    hand.revoke(at(3, 2, 0), task, 1);
    let token = |seed| format!("token:{}", digest(seed));
    assert_eq!(
        hand.verdict(&token(1), at(3, 4, 0)),
        "GONE 03:02:00 (revoked); last possible acceptance 03:12:22; uses not reported"
    );
    assert!(
        hand.verdict(&token(50), at(3, 4, 0))
            .starts_with("LIVE until 03:20:00 (")
    );
    hand.end(at(3, 30, 0), task, Cause::Completed, None);
    let whose = format!("(task {task}, workload release, owner team-platform)");
    assert_eq!(
        hand.verdict(&token(50), at(3, 40, 0)),
        format!("EXPIRED 03:20:00 {whose}; last possible acceptance 03:20:00; uses not reported")
    );
}

#[test]
fn what_the_record_does_not_know() {
    let mut hand = Hand::new();
    let task = hand.start(at(3, 0, 0), &Spec::default());
    let now = at(3, 1, 0);
    let token = format!("token:{}", digest(77));
    let client = task.to_string().replace("task_", "client_") + "_2";
    let credential = task.to_string().replace("task_", "cred_") + "_1_2";
    let other = TaskId::new(1, [0; 10]);
    for (key, line) in [
        (
            token.clone(),
            format!(
                "UNKNOWN {token} (tenant acme issued no token with this hash, and none came in by it)"
            ),
        ),
        (
            other.to_string(),
            format!("UNKNOWN {other} (no entry of this ledger names it)"),
        ),
        (
            client.clone(),
            format!("UNKNOWN {client} (its task has no such client)"),
        ),
        (
            credential.clone(),
            format!("UNKNOWN {credential} (its client was never issued such a credential)"),
        ),
        (
            "nightly".to_owned(),
            "UNKNOWN nightly (no task of that workload, owner, resource, instance, run or issuer)"
                .to_owned(),
        ),
        (
            "https://other.example/x".to_owned(),
            "UNKNOWN https://other.example/x (no task of that instance)".to_owned(),
        ),
    ] {
        assert_eq!(hand.verdict(&key, now), line);
    }
}

#[test]
fn many_tasks() {
    let mut hand = Hand::new();
    let mut tasks = Vec::new();
    for minute in 0..30 {
        tasks.push(hand.start(at(3, minute, 0), &Spec::default()));
    }
    for (second, task) in (0..).zip(&tasks[..28]) {
        hand.end(at(3, 30, second), *task, Cause::Completed, None);
    }
    let trace = hand.trace("release", at(3, 31, 0));
    assert_eq!(
        trace.verdict.line,
        "LIVE until 04:00:00 (2 of 30 tasks, workload release)"
    );
    assert_eq!((trace.counts.live, trace.counts.ended), (2, 28));
    assert_eq!(trace.tasks.len(), 20);
    assert_eq!(trace.tasks[0].task, tasks[29]);
    assert_eq!(trace.tasks[2].task, tasks[27]);
    let said = r#"{"by":{"uid":0},"reason":"leaked"}"#;
    hand.end(at(3, 32, 0), tasks[29], Cause::Operator, Some(said));
    hand.end(at(3, 33, 0), tasks[28], Cause::Failed, None);
    assert_eq!(
        hand.verdict("workload:release", at(3, 34, 0)),
        "GONE 03:33:00 (failed; the last of 30 tasks, workload release); \
         last possible acceptance 03:33:00; uses not reported"
    );
}
