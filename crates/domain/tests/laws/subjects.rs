//! A person on whose behalf a task runs changes who is named, and nothing of what is granted.

use dayfly_domain::access::AccessRequest;
use dayfly_domain::*;
use proptest::prelude::*;

use super::access::{CLAIM, catalog, ceiling, name, request};
use super::runs::plain;

const ID: TaskId = TaskId([9; 16]);
const NOW: Time = Time::from_seconds(1_767_225_600);

struct NoSeal;

impl Seal for NoSeal {
    fn seal(&self, _: TaskId, _: &Workload, _: &mut CredentialIssued) {}
}

/// What opening a task comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Grant {
    started: TaskStarted,
    registered: ClientRegistered,
    issued: CredentialIssued,
}

fn open(workload: &Workload, request: &AccessRequest, subject: Option<Subject>) -> Option<Grant> {
    let mut catalog = catalog();
    for resource in catalog.resources.values_mut().step_by(2) {
        resource.names_person = true;
    }
    let proof = Proof {
        issuer: name("i"),
        claims: Claims::from([("c".to_string(), CLAIM.to_string())]).into(),
        digest: Digest([1; 32]),
        instance: "i".into(),
        one_time: true,
        person: None,
    };
    let client = NewClient {
        jkt: Some(Digest([2; 32])),
        jwk: None,
        request: request.clone(),
        digest: Digest([3; 32]),
        subject,
    };
    let start = Command::Start(Start {
        root: Root {
            now: NOW,
            workload,
            catalog: &catalog,
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
    });
    let events = decide(None, &start).ok()?;
    let mut task = None;
    for event in &events {
        task = apply(task, ID, event);
        assert!(task.is_some(), "{event:?}");
    }
    let mut events = events.into_iter();
    match (events.next()?, events.next()?, events.next()?) {
        (
            Event::TaskStarted(started),
            Event::ClientRegistered(registered),
            Event::CredentialIssued(issued),
        ) => Some(Grant {
            started,
            registered,
            issued,
        }),
        other => panic!("{other:?}"),
    }
}

/// A grant on behalf of nobody, as long as this one.
fn without(grant: &Grant, like: &Grant) -> Grant {
    let mut bare = grant.clone();
    bare.started.subject = None;
    bare.issued.on_behalf_of = None;
    bare.issued.act.clear();
    bare.started.deadline = like.started.deadline;
    bare.registered.expires = like.registered.expires;
    bare.issued.expires = like.issued.expires;
    bare
}

proptest! {
    #[test]
    fn a_subject_never_widens(
        access in ceiling(),
        request in request(),
        session in prop::option::of(60u64..7_200),
        ago in 0u64..7_200,
        from in prop::sample::select(vec!["staff", "guests"]),
        person in any::<[u8; 32]>(),
    ) {
        let workload = Workload {
            access,
            acts_for: Some(ActsFor {
                from: vec![name("staff")],
                person: Needed::Optional,
                session: session.map(Span::from_seconds),
            }),
            ..plain()
        };
        let subject = Subject {
            issuer: name(from),
            person: Digest(person),
            authenticated: Time::from_seconds(NOW.seconds() - ago),
        };
        let alone = open(&workload, &request, None);
        let acting = open(&workload, &request, Some(subject.clone()));
        let ends = session.map(|session| subject.authenticated + Span::from_seconds(session));
        match (alone, acting) {
            (None, None) => {}
            (Some(_), None) => {
                prop_assert!(from == "guests" || ends.is_some_and(|ends| ends < NOW + Span::from_seconds(1)));
            }
            (None, Some(acting)) => prop_assert!(false, "{acting:?}"),
            (Some(alone), Some(acting)) => {
                prop_assert_eq!(from, "staff");
                prop_assert_eq!(&without(&acting, &alone), &alone);
                prop_assert!(acting.started.deadline <= alone.started.deadline);
                prop_assert!(ends.is_none_or(|ends| acting.started.deadline <= ends));
                prop_assert!(acting.registered.expires <= alone.registered.expires);
                prop_assert!(acting.issued.expires <= alone.issued.expires);
                let named = acting.issued.on_behalf_of == Some(OnBehalfOf::Person);
                prop_assert_eq!(acting.issued.act.len(), usize::from(named));
            }
        }
    }
}
