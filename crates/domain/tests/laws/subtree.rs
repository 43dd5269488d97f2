//! A client's end is the end of all that was delegated from it, and of nothing else.

use dayfly_domain::*;
use proptest::prelude::*;

use super::access::name;

const NOW: Time = Time::from_seconds(1_767_225_600);
const LATER: Time = Time::from_seconds(1_767_225_900);

/// A task whose client `n + 1` has the parent that stands at `n`, none for a root.
pub(crate) fn task(parents: &[Option<u32>]) -> Task {
    let clients = parents.iter().map(|parent| Client {
        parent: *parent,
        jkt: None,
        jwk: None,
        instance: "i".into(),
        proof: Digest([0; 32]),
        handover: None,
        own: None,
        request: Digest([0; 32]),
        filled: Claims::new(),
        access: Vec::new(),
        expires: LATER,
        issued: 1,
        last_expiry: Some(LATER),
        credentials: vec![Credential {
            number: 1,
            expires: LATER,
            hash: Digest([0; 32]),
        }],
        state: ClientState::Active,
    });
    Task {
        id: TaskId([7; 16]),
        version: 1 + 2 * parents.len() as u64,
        workload: name("w"),
        owner: name("o"),
        issuer: name("i"),
        key: "k".into(),
        series: "k".into(),
        attempt: None,
        subject: None,
        opened: NOW,
        deadline: LATER,
        heartbeat: Heartbeat::default(),
        linger: Span::from_seconds(60),
        epochs: Vec::new(),
        clients: clients.collect(),
        state: TaskState::Open,
    }
}

fn is_live(task: &Task, number: u32) -> bool {
    let id = CredentialId {
        client: task.client_id(number),
        number: 1,
    };
    task.check_credential(id, NOW, Heard::default()).is_ok()
}

/// Whether `number` is `top` or below it, going up the parents.
fn is_under(parents: &[Option<u32>], number: u32, top: u32) -> bool {
    number == top
        || parents[number as usize - 1].is_some_and(|parent| is_under(parents, parent, top))
}

/// The parents of up to twelve clients, each one before its child; the first is a root.
fn forest() -> impl Strategy<Value = Vec<Option<u32>>> {
    prop::collection::vec(any::<u32>(), 1..12).prop_map(|draws| {
        let parent =
            |(index, draw): (usize, u32)| Some(draw % (index as u32 + 1)).filter(|p| *p > 0);
        draws.into_iter().enumerate().map(parent).collect()
    })
}

proptest! {
    #[test]
    fn a_subtree_falls_whole_and_alone(parents in forest(), ends in prop::collection::vec(1u32..12, 1..4)) {
        let mut task = task(&parents);
        let mut fallen: Vec<u32> = Vec::new();
        for top in ends {
            let end = EndClient { now: NOW, heard: Heard::default(), client: top, cause: Cause::Failed, by: None };
            let is_there = top as usize <= parents.len();
            let stood = is_there && !fallen.iter().any(|f| is_under(&parents, top, *f));
            match decide(Some(&task), &Command::EndClient(end)) {
                Ok(events) => {
                    prop_assert!(stood);
                    for event in &events {
                        task = apply(Some(task.clone()), task.id, event).unwrap();
                    }
                    fallen.push(top);
                }
                Err(refusal) => {
                    prop_assert!(!stood);
                    prop_assert_eq!(refusal.rule, Rule::ClientEnded);
                }
            }
            for number in 1..=parents.len() as u32 {
                let under = fallen.iter().any(|top| is_under(&parents, number, *top));
                prop_assert_eq!(is_live(&task, number), !under, "client {}", number);
                prop_assert_eq!(task.client(number).unwrap().credentials.is_empty(), under);
            }
        }
    }

    #[test]
    fn the_end_of_a_task_leaves_no_client(parents in forest()) {
        let task = task(&parents);
        let end = EndTask { now: NOW, heard: Heard::default(), cause: Cause::Operator, by: None };
        let events = decide(Some(&task), &Command::EndTask(end)).unwrap();
        let task = apply(Some(task.clone()), task.id, &events[0]).unwrap();
        for number in 1..=parents.len() as u32 {
            prop_assert!(!is_live(&task, number));
            prop_assert!(task.client(number).unwrap().credentials.is_empty());
        }
    }

    /// A client that is its own ancestor, or stands before its parent, is nobody's.
    #[test]
    fn a_parent_that_does_not_come_before_is_refused(n in 1u32..5, parent in 0u32..9) {
        let mut task = task(&[None; 5]);
        task.clients[n as usize - 1].parent = Some(parent);
        prop_assert_eq!(is_live(&task, n), parent > 0 && parent < n);
    }
}

/// Nothing that does not fit the state changes it.
#[test]
fn an_event_that_does_not_fit_does_not_apply() {
    let open = task(&[None, Some(1)]);
    let ended = |client| {
        Event::ClientEnded(ClientEnded {
            client,
            cause: Cause::Completed,
            at: NOW,
            by: None,
            last_expiry: None,
        })
    };
    let over = |count| {
        Event::TaskEnded(TaskEnded {
            cause: Cause::Completed,
            at: NOW,
            count,
            by: None,
            last_expiry: None,
        })
    };
    let revoked = |credential| {
        Event::CredentialRevoked(CredentialRevoked {
            client: 1,
            credential,
        })
    };
    for event in [ended(0), ended(3), over(5), over(7), revoked(2)] {
        assert_eq!(
            apply(Some(open.clone()), open.id, &event),
            None,
            "{event:?}"
        );
        assert_eq!(apply(None, open.id, &event), None, "{event:?}");
    }
    let after = apply(Some(open.clone()), open.id, &over(6)).unwrap();
    for event in [ended(1), over(6), over(7), revoked(1)] {
        assert_eq!(
            apply(Some(after.clone()), open.id, &event),
            None,
            "{event:?}"
        );
    }
    let fallen = apply(Some(open.clone()), open.id, &ended(1)).unwrap();
    for event in [ended(1), ended(2), revoked(1)] {
        assert_eq!(
            apply(Some(fallen.clone()), open.id, &event),
            None,
            "{event:?}"
        );
    }
}
