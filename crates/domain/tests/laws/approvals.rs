//! Random lives of a task that waits: it opens by enough people and never beyond what they saw.

use std::collections::BTreeSet;

use dayfly_domain::access::AccessRequest;
use dayfly_domain::*;
use proptest::prelude::*;
use proptest::sample::select;

use super::access::{CLAIM, allowed, catalog, ceiling, name, request};
use super::runs::plain;

const ID: TaskId = TaskId([9; 16]);
/// The person who asks.
const ASKS: u8 = 0;

#[derive(Clone, Debug)]
enum What {
    Approve(u8),
    Deny,
    Redeem { lowered: bool, stale: bool },
    End,
    Sweep,
}

fn what() -> impl Strategy<Value = (u64, What)> {
    let what = prop_oneof![
        6 => (0u8..4).prop_map(What::Approve),
        1 => Just(What::Deny),
        5 => (prop::bool::weighted(0.2), prop::bool::weighted(0.1))
            .prop_map(|(lowered, stale)| What::Redeem { lowered, stale }),
        1 => Just(What::End),
        2 => Just(What::Sweep),
    ];
    (prop_oneof![4 => 0u64..30_000, 1 => 0u64..400_000], what)
}

struct NoSeal;

impl Seal for NoSeal {
    fn seal(&self, _: TaskId, _: &Workload, _: &mut CredentialIssued) {}
}

fn person(n: u8) -> Digest {
    Digest([n; 32])
}

/// A person under the salt of one approval.
fn salted(n: u8, salt: u64) -> Digest {
    let mut hash = [n; 32];
    hash[..8].copy_from_slice(&(0x0100 + salt).to_be_bytes());
    Digest(hash)
}

/// The request that waits; none where it would not be granted.
fn asked(workload: &Workload, request: &AccessRequest, now: Time, people: u32) -> Vec<Event> {
    let claims = Claims::from([("c".to_string(), CLAIM.to_string())]);
    let proof = Proof {
        issuer: name("i"),
        claims: claims.into(),
        digest: person(100),
        instance: "instance".into(),
        one_time: true,
        person: None,
    };
    let client = NewClient {
        jkt: Some(person(101)),
        jwk: Some("{}".into()),
        request: request.clone(),
        digest: person(102),
        subject: None,
    };
    let command = Command::Request(Request {
        start: Start {
            root: Root {
                now,
                workload,
                catalog: &catalog(),
                bounds: &Bounds::default(),
                proof: &proof,
                client: &client,
                seal: &NoSeal,
            },
            id: ID,
            key: &workload.key.read(&proof.claims).unwrap(),
            epochs: Vec::new(),
            until: None,
            supersedes: Vec::new(),
        },
        approval: Approval {
            within: Span::from_seconds(120),
            people,
        },
        code: person(103),
        asked_by: Some(person(ASKS)),
    });
    decide(None, &command).unwrap_or_default()
}

fn answer(task: &Task, now: Time, what: &What, workload: &Workload) -> Vec<Event> {
    let claims = Claims::from([("c".to_string(), CLAIM.to_string())]);
    let (catalog, bounds, blocks) = (catalog(), Bounds::default(), Blocks::default());
    let heard = Heard::default();
    let command = match what {
        What::Approve(who) => Command::Approve(Approve {
            now,
            stale: None,
            by: salted(*who, task.version),
            as_asking: person(*who),
            as_approving: task
                .pending()
                .map(|pending| {
                    // The n-th approval was the n-th change after the request.
                    (1..)
                        .zip(&pending.approvals)
                        .map(|(at, _)| salted(*who, at))
                        .collect()
                })
                .unwrap_or_default(),
        }),
        What::Deny => Command::Deny(Deny { now, by: None }),
        What::Redeem { stale, .. } => Command::Redeem(Redeem {
            now,
            stale: stale.then_some(EpochOf::Tenant),
            workload,
            catalog: &catalog,
            bounds: &bounds,
            claims: &claims,
            blocks: &blocks,
            closed: &[],
            counts: Counts::default(),
            seal: &NoSeal,
        }),
        What::End => Command::EndTask(EndTask {
            now,
            heard,
            cause: Cause::Operator,
            by: None,
        }),
        What::Sweep => Command::Sweep(Sweep {
            now,
            heard,
            moved: None,
            fallen: &[],
        }),
    };
    decide(Some(task), &command).unwrap_or_default()
}

proptest! {
    #[test]
    fn what_waits_is_opened_by_enough_people_and_never_beyond_what_they_saw(
        access in ceiling(),
        lowered in ceiling(),
        request in request(),
        people in select(vec![1u32, 2]),
        steps in prop::collection::vec(what(), 1..20),
    ) {
        let workload = Workload { access, ..plain() };
        let other = Workload { access: lowered, ..workload.clone() };
        let mut now = Time::from_millis(1_767_225_600_321);
        let mut events = asked(&workload, &request, now, people);
        let Some(mut task) = events.first().and_then(|event| apply(None, ID, event)) else {
            return Ok(());
        };
        let seen = allowed(&task.pending().unwrap().access);
        let mut said_yes = BTreeSet::new();
        let mut last_yes = now;
        for (after, what) in &steps {
            now = now + Span::from_millis(*after);
            let judged = if matches!(what, What::Redeem { lowered: true, .. }) { &other } else { &workload };
            let before = task.clone();
            for event in answer(&task, now, what, judged) {
                task = apply(Some(task), ID, &event).unwrap();
                if let Event::TaskApproved(_) = &event
                    && let What::Approve(who) = what
                {
                    prop_assert!(*who != ASKS, "who asks approves");
                    prop_assert!(said_yes.insert(*who), "one person approves twice");
                    last_yes = now;
                }
                if let Event::CredentialIssued(issued) = &event {
                    prop_assert!(allowed(&issued.access).is_subset(&seen));
                    prop_assert!(allowed(&issued.access).is_subset(&allowed(&judged.access)));
                }
                events.push(event);
            }
            if before.pending().is_some() && task.is_open() {
                prop_assert!(said_yes.len() == people as usize, "opened by {said_yes:?}");
                prop_assert!(now < last_yes + FETCH, "fetched too late");
                prop_assert!(task.deadline <= last_yes + workload.window);
                let stale = matches!(what, What::Redeem { stale: true, .. });
                prop_assert!(!stale, "rights that were taken away open nothing");
            }
            if before.has_ended() {
                prop_assert!(task == before, "an end is final");
            }
            if task.pending().is_some() {
                prop_assert!(task.clients.is_empty());
                prop_assert!(task.check_open(now, Heard::default()).is_err());
            }
        }
        let replayed = events.iter().fold(None, |task, event| apply(task, ID, event));
        prop_assert_eq!(replayed.as_ref(), Some(&task));
        let bytes = serde_json::to_string(&task).unwrap();
        prop_assert_eq!(serde_json::from_str::<Task>(&bytes).unwrap(), task);
    }

    /// A ledger in which an approval was struck out, doubled or put by the one who asks does not
    /// replay to an open task.
    #[test]
    fn no_replay_opens_what_was_not_approved(
        access in ceiling(),
        people in select(vec![1u32, 2]),
        forged in 0usize..3,
    ) {
        let workload = Workload { access, ..plain() };
        let now = Time::from_millis(1_767_225_600_321);
        let asked = asked(&workload, &AccessRequest::default(), now, people);
        prop_assume!(!asked.is_empty());
        let first = asked[0].clone();
        let mut task = apply(None, ID, &first).unwrap();
        for who in 1..=people as u8 {
            for event in answer(&task, now, &What::Approve(who), &workload) {
                task = apply(Some(task), ID, &event).unwrap();
            }
        }
        let redeem = What::Redeem { lowered: false, stale: false };
        let opening = answer(&task, now, &redeem, &workload);
        prop_assert_eq!(opening.len(), 3);
        let yes = |who: u8, fetch_by| Event::TaskApproved(TaskApproved { at: now, by: person(who), fetch_by });
        let fetch_by = Some(now + FETCH);
        let forged = match (forged, people) {
            (0, _) => Vec::new(),
            (1, 1) => vec![yes(ASKS, fetch_by)],
            (1, _) => vec![yes(1, None), yes(1, fetch_by)],
            (_, 1) => vec![yes(1, None)],
            (_, _) => vec![yes(1, fetch_by)],
        };
        let events = std::iter::once(&first).chain(&forged).chain(&opening[..1]);
        let mut replayed = Some(None);
        for event in events {
            replayed = replayed.and_then(|task| apply(task, ID, event)).map(Some);
        }
        prop_assert!(replayed.is_none());
    }
}
