//! A run opens one window: whatever is claimed, a start is refused or named for what it ends.

use dayfly_domain::access::AccessRequest;
use dayfly_domain::*;
use proptest::prelude::*;
use proptest::sample::select;

use super::access::name;

const NOW: Time = Time::from_seconds(1_767_225_600);

fn claim() -> impl Strategy<Value = Claim> {
    let ended = (
        select(vec![Cause::Completed, Cause::Heartbeat, Cause::Operator]),
        select(vec![NOW, NOW + Span::from_millis(1)]),
    )
        .prop_map(|(cause, deadline)| ClaimState::Ended { cause, deadline });
    (
        select(vec!["w", "v"]),
        select(vec!["k", "l"]),
        prop::option::weighted(0.8, 1u64..4),
        prop_oneof![Just(ClaimState::Open), ended],
    )
        .prop_map(|(workload, key, attempt, state)| Claim {
            workload: name(workload),
            key: key.into(),
            attempt,
            task: TaskId([0; 16]),
            state,
        })
}

/// Claims as a store keeps them: one of each workload and key, each by a task of its own.
fn claims() -> impl Strategy<Value = Vec<Claim>> {
    prop::collection::vec(claim(), 0..5).prop_map(|mut claims| {
        claims.sort_by(|a, b| (&a.workload, &a.key).cmp(&(&b.workload, &b.key)));
        claims.dedup_by(|a, b| (&a.workload, &a.key) == (&b.workload, &b.key));
        for (claim, n) in claims.iter_mut().zip(1u8..) {
            claim.task = TaskId([n; 16]);
        }
        claims
    })
}

fn closed() -> impl Strategy<Value = Closed> {
    (
        prop::option::weighted(0.8, 1u64..4),
        prop::option::of(select(vec!["i", "j"])),
    )
        .prop_map(|(attempt, part)| Closed {
            attempt,
            part: part.map(Into::into),
            at: NOW,
        })
}

pub(crate) fn workload(reopen: bool) -> Workload {
    Workload {
        name: name("w"),
        owner: name("o"),
        issuer: name("i"),
        kind: Kind::Ci,
        purpose: String::new(),
        matching: Match::default(),
        key: KeyRule {
            key: Vec::new(),
            series: Vec::new(),
            attempt: None,
            hint: String::new(),
        },
        repeat: Repeat::Refuse,
        window: Span::from_seconds(60),
        heartbeat: Heartbeat::default(),
        ttl: Span::from_seconds(60),
        binding: Binding::Optional,
        access: Vec::new(),
        linger: Span::ZERO,
        reopen: if reopen {
            Reopen::Silent
        } else {
            Reopen::Never
        },
        limits: Limits::default(),
        approval: None,
        delegation: None,
        acts_for: None,
    }
}

proptest! {
    #[test]
    fn a_run_starts_once(
        claims in claims(),
        attempt in prop::option::weighted(0.8, 1u64..4),
        reopen: bool,
        spent: bool,
        closed in proptest::collection::vec(closed(), 0..3),
    ) {
        let proof = Proof {
            issuer: name("i"),
            claims: Claims::new().into(),
            digest: Digest([1; 32]),
            instance: "i".into(),
            one_time: true,
            person: None,
        };
        let admission = admit(&Opening {
            now: NOW,
            workload: &workload(reopen),
            proof: &proof,
            key: &TaskKey { key: "k".into(), series: "s".into(), attempt },
            client: &NewClient {
                jkt: None,
                jwk: None,
                request: AccessRequest::default(),
                digest: Digest([0; 32]),
                subject: None,
            },
            claims: &claims,
            closed: &closed,
            task: None,
            spent: spent.then_some(Spent { task: TaskId([9; 16]), client: 1 }),
            blocks: &[],
            counts: Counts::default(),
        });
        let Ok(Admission::Start { supersedes, until, replaces }) = admission else {
            return Ok(());
        };
        prop_assert!(!spent);
        let over = closed.iter().any(|closed| closed.covers(attempt, "i"));
        prop_assert!(!over, "its platform said that it is over");
        let own = claims.iter().find(|claim| claim.workload == name("w") && claim.key == "k");
        prop_assert_eq!(replaces, own.map(|claim| claim.task));
        let is_lower = |claim: &Claim| claim.attempt.zip(attempt).is_some_and(|(known, asks)| known < asks);
        for claim in &claims {
            let higher = claim.attempt.zip(attempt).is_some_and(|(known, asks)| known > asks);
            prop_assert!(!higher, "a newer attempt was known");
            let ends = is_lower(claim) && claim.state == ClaimState::Open;
            prop_assert_eq!(supersedes.contains(&claim.task), ends);
        }
        match own.filter(|claim| !is_lower(claim)) {
            None => prop_assert_eq!(until, None),
            Some(Claim { state: ClaimState::Open, .. }) => prop_assert!(false, "two open windows"),
            Some(Claim { state: ClaimState::Ended { cause, deadline }, .. }) => {
                prop_assert!(reopen && *cause == Cause::Heartbeat && NOW < *deadline);
                prop_assert_eq!(until, Some(*deadline));
            }
        }
    }
}
