//! What a trace says of uses: how many were reported, by whom they are not, and which were the last.

use dayfly_domain::{Cause, ClientId, CredentialId};
use dayfly_store::{Append, Document, Observed, Use};

use super::*;

impl Hand {
    /// A use of a credential of a task's first client, allowed or denied.
    fn used(&self, when: Time, id: TaskId, credential: u32, kind: &'static str) {
        let client = ClientId {
            task: id,
            number: 1,
        };
        let credential = CredentialId {
            client,
            number: credential,
        };
        let used = Use {
            client,
            now: when,
            relies: Vec::new(),
            revision: None,
            spend: None,
            limit: None,
            unblocked: Vec::new(),
            note: Note {
                kind,
                data: format!(
                    r#"{{"about":"{id}","client":"{client}","credential":"{credential}","resource":"artifacts","action":"read"}}"#
                ),
                annex: None,
            },
        };
        let observed = answer(self.store.observe(&self.tenant, vec![used])).unwrap();
        assert!(matches!(observed[..], [Observed::Recorded(_)]));
    }

    /// From then on the artifacts are known to report.
    fn reports(&self, since: Time) {
        self.commit(Append {
            now: since,
            documents: vec![Document {
                name: "finding/reports/artifacts".to_owned(),
                bytes: Some(since.millis().to_string().into()),
            }],
            ..Append::default()
        });
    }
}

#[test]
fn uses_are_counted_for_what_is_asked_about() {
    let mut hand = Hand::new();
    hand.reports(at(3, 0, 0));
    let task = hand.start(at(3, 7, 0), &Spec::default());
    hand.issue(at(3, 7, 1), task, 2, 9, at(3, 12, 0));
    for second in 0..3 {
        hand.used(at(3, 8, second), task, 1, "use.allowed");
    }
    hand.used(at(3, 9, 0), task, 2, "use.allowed");
    hand.used(at(3, 9, 1), task, 2, "use.denied");
    hand.end(at(3, 10, 0), task, Cause::Completed, None);
    let said = |key: String| {
        let line = hand.verdict(&key, at(3, 30, 0));
        line.rsplit("; ").next().unwrap().to_owned()
    };
    assert_eq!(said(task.to_string()), "4 uses reported");
    let of = |kind: &str, rest: &str| task.to_string().replace("task_", kind) + rest;
    assert_eq!(said(of("client_", "_1")), "4 uses reported");
    assert_eq!(said(of("cred_", "_1_1")), "3 uses reported");
    assert_eq!(said(of("cred_", "_1_2")), "1 use reported");
    assert_eq!(said("release".to_owned()), "4 uses reported");
    let trace = hand.trace(&task.to_string(), at(3, 30, 0));
    let uses = trace
        .timeline
        .iter()
        .filter(|line| line.kind.starts_with("use."));
    assert_eq!(uses.clone().count(), 5);
    let last = uses.max_by_key(|line| line.pos).unwrap();
    assert_eq!(last.kind, "use.denied");
    assert!(
        last.what.contains("resource artifacts, action read"),
        "{}",
        last.what
    );
    // A task of another run has uses of its own.
    let other = Spec {
        key: "1296269/78/1",
        series: "1296269/78",
        ..Spec::default()
    };
    let other = hand.start(at(3, 11, 0), &other);
    hand.end(at(3, 11, 1), other, Cause::Completed, None);
    let line = hand.verdict(&other.to_string(), at(3, 30, 0));
    assert!(line.ends_with("; 0 uses reported"), "{line}");
    let line = hand.verdict("release", at(3, 30, 0));
    assert!(line.ends_with("; 4 uses reported"), "{line}");
}

#[test]
fn of_what_began_before_a_resource_reported_nothing_is_said_but_what_is_there() {
    let mut hand = Hand::new();
    let task = hand.start(at(3, 7, 0), &Spec::default());
    hand.reports(at(3, 8, 0));
    let line = |hand: &Hand| hand.verdict(&task.to_string(), at(3, 30, 0));
    hand.end_client(at(3, 9, 0), task, 1, Cause::Completed);
    assert!(
        line(&hand).ends_with("; uses not reported"),
        "{}",
        line(&hand)
    );
    let task = hand.start(
        at(3, 10, 0),
        &Spec {
            key: "1296269/79/1",
            series: "1296269/79",
            ..Spec::default()
        },
    );
    hand.used(at(3, 10, 1), task, 1, "use.allowed");
    hand.end(at(3, 10, 2), task, Cause::Completed, None);
    let line = hand.verdict("release", at(3, 30, 0));
    assert!(
        line.ends_with("; 1 use reported, uses at artifacts not reported"),
        "{line}"
    );
}

#[test]
fn many_uses_are_counted_and_shown_within_bounds() {
    let mut hand = Hand::new();
    hand.reports(at(3, 0, 0));
    let task = hand.start(at(3, 7, 0), &Spec::default());
    for _ in 0..1001 {
        hand.used(at(3, 8, 0), task, 1, "use.allowed");
    }
    hand.end(at(3, 10, 0), task, Cause::Completed, None);
    let trace = hand.trace(&task.to_string(), at(3, 30, 0));
    let line = &trace.verdict.line;
    assert!(line.ends_with("; 1000 or more uses reported"), "{line}");
    let shown = trace
        .timeline
        .iter()
        .filter(|line| line.kind == "use.allowed");
    assert_eq!(shown.count(), 50);
    assert_eq!(
        trace.notes,
        ["only the newest 50 uses are shown of 1000 or more"]
    );
    // What is of the task's own chain is there as ever.
    assert!(
        trace
            .timeline
            .iter()
            .any(|line| line.kind == "task.started")
    );
}
