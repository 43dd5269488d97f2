//! Delegation never widens: in access, in time, in depth, in number; and an end is of a subtree.

use std::collections::{BTreeMap, BTreeSet};

use dayfly_domain::access::{
    AccessRequest, Catalog, Detail, Field, Pattern, RawField, RequestDetail,
};
use dayfly_domain::*;
use proptest::prelude::*;
use proptest::sample::{Index, select};

use super::access::{CLAIM, allowed, catalog, ceiling, name, request};

const ID: TaskId = TaskId([9; 16]);
const START: Time = Time::from_seconds(1_767_225_600);
const PATHS: [&str; 6] = ["p/q", "p/r", "p/qq", "q", "pq", "p/q/r"];

/// One thing that happens in a task of which `a` is the workload.
#[derive(Clone, Debug)]
enum What {
    Delegate {
        parent: Index,
        key: Option<u8>,
        made_for: Option<u8>,
        gives: Vec<Gives>,
        actor: Option<bool>,
        handover: u8,
    },
    Issue(Index, AccessRequest),
    End(Index),
    Fall(Index),
    Lower(bool, Vec<Detail>),
    Wait(Span),
}

/// A part of what the parent holds, or anything at all.
#[derive(Clone, Debug)]
enum Gives {
    Part(Index, Index, i64, bool),
    Scope(&'static str),
    Anything(AccessRequest),
}

fn gives() -> impl Strategy<Value = Gives> {
    prop_oneof![
        6 => (any::<Index>(), any::<Index>(), 0i64..4, prop::bool::weighted(0.1))
            .prop_map(|(detail, path, size, without)| Gives::Part(detail, path, size, without)),
        2 => select(vec!["s1", "s2"]).prop_map(Gives::Scope),
        1 => request().prop_map(Gives::Anything),
    ]
}

fn what() -> impl Strategy<Value = What> {
    let key = || prop::option::weighted(0.9, 1u8..60);
    let delegate = (
        any::<Index>(),
        key(),
        prop::option::weighted(0.05, key()),
        prop::collection::vec(gives(), 1..3),
        prop::option::weighted(0.4, any::<bool>()),
        any::<u8>(),
    )
        .prop_map(
            |(parent, key, other, gives, actor, handover)| What::Delegate {
                parent,
                key,
                made_for: other.unwrap_or(key),
                gives,
                actor,
                handover,
            },
        );
    prop_oneof![
        12 => delegate,
        4 => (any::<Index>(), request()).prop_map(|(c, r)| What::Issue(c, r)),
        4 => any::<Index>().prop_map(|c| What::Issue(c, AccessRequest::default())),
        1 => any::<Index>().prop_map(What::End),
        1 => any::<Index>().prop_map(What::Fall),
        1 => (any::<bool>(), ceiling()).prop_map(|(which, c)| What::Lower(which, c)),
        2 => (0u64..4_000).prop_map(|ms| What::Wait(Span::from_millis(ms))),
    ]
}

fn delegation() -> impl Strategy<Value = Option<Delegation>> {
    let to = select(vec![vec!["a"], vec!["a", "b"], vec!["b"]]);
    let actor = prop_oneof![4 => Just(Actor::Optional), 1 => Just(Actor::Required)];
    prop::option::weighted(
        0.9,
        (1u32..5, 1u32..12, to, actor).prop_map(|(depth, clients, to, actor)| Delegation {
            depth,
            clients,
            to: to.into_iter().map(name).collect(),
            actor,
        }),
    )
}

fn workload(of: &'static str) -> impl Strategy<Value = Workload> {
    (ceiling(), delegation(), 5_000u64..90_000).prop_map(move |(access, delegation, window)| {
        Workload {
            name: name(of),
            owner: name(of),
            issuer: name("i"),
            kind: Kind::Agent,
            purpose: String::new(),
            matching: Match::default(),
            key: KeyRule {
                key: vec!["c".into()],
                series: vec!["c".into()],
                attempt: None,
                hint: String::new(),
            },
            repeat: Repeat::Join,
            window: Span::from_millis(window),
            heartbeat: Heartbeat::default(),
            ttl: Span::from_millis(window / 2),
            binding: Binding::Optional,
            access,
            linger: Span::from_seconds(600),
            reopen: Reopen::Never,
            limits: Limits::default(),
            approval: None,
            delegation,
            acts_for: None,
        }
    })
}

struct NoSeal;

impl Seal for NoSeal {
    fn seal(&self, _: TaskId, _: &Workload, _: &mut CredentialIssued) {}
}

fn digest(n: u8) -> Digest {
    Digest([n; 32])
}

fn proof(n: u8) -> Proof {
    Proof {
        issuer: name("i"),
        claims: Claims::from([("c".into(), CLAIM.into())]).into(),
        digest: digest(n),
        instance: format!("i{n}"),
        one_time: false,
        person: None,
    }
}

/// A task on its way, and what is declared now.
struct Run {
    now: Time,
    workloads: [Workload; 2],
    /// As it was declared when clients came in: depth and number are judged by it.
    declared: BTreeMap<Name, Delegation>,
    catalog: Catalog,
    bounds: Bounds,
    task: Task,
}

impl Run {
    fn start(workloads: [Workload; 2]) -> Option<Self> {
        let (catalog, bounds) = (catalog(), Bounds::default());
        let at = format!("https://{}.example", workloads[0].access.first()?.resource);
        let request = AccessRequest {
            resources: vec![at],
            ..AccessRequest::default()
        };
        let (proof, client) = (proof(200), client(Some(200), request));
        let start = Command::Start(Start {
            root: Root {
                now: START,
                workload: &workloads[0],
                catalog: &catalog,
                bounds: &bounds,
                proof: &proof,
                client: &client,
                seal: &NoSeal,
            },
            id: ID,
            key: &TaskKey {
                key: "k".into(),
                series: "k".into(),
                attempt: None,
            },
            epochs: Vec::new(),
            until: None,
            supersedes: Vec::new(),
        });
        let mut events = decide(None, &start).ok()?.into_iter();
        let mut task = apply(None, ID, &events.next()?)?;
        for event in events {
            task = apply(Some(task), ID, &event)?;
        }
        let declared = workloads
            .iter()
            .filter_map(|w| Some((w.name.clone(), w.delegation.clone()?)));
        Some(Self {
            now: START,
            declared: declared.collect(),
            workloads,
            catalog,
            bounds,
            task,
        })
    }

    fn number(&self, index: Index) -> u32 {
        index.index(self.task.clients.len()) as u32 + 1
    }

    /// What comes of one step; nothing where it is refused.
    fn events(&mut self, what: &What) -> Vec<Event> {
        let [a, b] = &self.workloads;
        let others = [b];
        let (now, heard) = (self.now, Heard::default());
        let decided = match what {
            What::Wait(span) => {
                self.now = self.now + *span;
                return Vec::new();
            }
            What::Lower(first, access) => {
                self.workloads[usize::from(!first)]
                    .access
                    .clone_from(access);
                return Vec::new();
            }
            What::Delegate { .. } => self.delegate(what),
            What::Issue(index, request) => decide(
                Some(&self.task),
                &Command::Issue(Issue {
                    now,
                    heard,
                    stale: None,
                    client: self.number(*index),
                    workload: a,
                    others: &others,
                    catalog: &self.catalog,
                    bounds: &self.bounds,
                    request,
                    within: None,
                    seal: &NoSeal,
                }),
            ),
            What::End(index) => decide(
                Some(&self.task),
                &Command::EndClient(EndClient {
                    now,
                    heard,
                    client: self.number(*index),
                    cause: Cause::Failed,
                    by: None,
                }),
            ),
            What::Fall(index) => {
                let cause = Cause::WorkloadDisabled;
                let fallen = [(self.number(*index), Moved { cause, at: now })];
                let sweep = Command::Sweep(Sweep {
                    now,
                    heard,
                    moved: None,
                    fallen: &fallen,
                });
                decide(Some(&self.task), &sweep)
            }
        };
        decided.unwrap_or_default()
    }

    fn delegate(&self, what: &What) -> Result<Vec<Event>, Refusal> {
        let What::Delegate {
            parent,
            key,
            made_for,
            gives,
            actor,
            handover,
        } = what
        else {
            return Ok(Vec::new());
        };
        let [a, b] = &self.workloads;
        let parent = self.number(*parent);
        let given = given(&self.task.clients[parent as usize - 1].access, gives);
        let first = given
            .details
            .first()
            .and_then(|first| first.locations.clone());
        let client = client(
            *key,
            AccessRequest {
                resources: first.unwrap_or_default(),
                ..AccessRequest::default()
            },
        );
        let handover = Handover {
            digest: digest(*handover),
            jkt: made_for.map(digest),
            given,
        };
        let actor_proof = proof(100);
        let actor = actor.map(|own| ActorProof {
            proof: &actor_proof,
            workload: if own { a } else { b },
            key: "1/7/c9",
            epochs: vec![Epoch {
                of: EpochOf::Workload(name("b")),
                at: 1,
            }],
        });
        let command = Command::Delegate(Delegate {
            now: self.now,
            heard: Heard::default(),
            stale: None,
            parent,
            handover: &handover,
            client: &client,
            actor,
            workload: a,
            others: &[b],
            catalog: &self.catalog,
            bounds: &self.bounds,
            seal: &NoSeal,
        });
        decide(Some(&self.task), &command)
    }

    fn step(&mut self, what: &What) -> Result<(), TestCaseError> {
        let before = self.task.clone();
        let events = self.events(what);
        for event in &events {
            let text = serde_json::to_string(event).unwrap();
            let mut reader = serde_json::Deserializer::from_str(&text);
            let read = Event::read(event.kind(), &mut reader).unwrap().unwrap();
            prop_assert_eq!(&read, event);
            let next = apply(Some(self.task.clone()), ID, &read);
            prop_assert!(next.is_some(), "{:?} does not apply", event);
            self.task = next.unwrap();
            match event {
                Event::CredentialIssued(issued) => self.check_credential(issued)?,
                Event::ClientDelegated(delegated) => self.check_child(&before, delegated)?,
                Event::ClientEnded(ended) => self.check_end(&before, ended.client)?,
                Event::TaskRequested(_)
                | Event::TaskApproved(_)
                | Event::TaskDenied(_)
                | Event::TaskStarted(_)
                | Event::ClientRegistered(_)
                | Event::CredentialRevoked(_)
                | Event::TaskEnded(_) => {}
            }
        }
        Ok(())
    }

    fn check_child(&self, before: &Task, child: &ClientDelegated) -> Result<(), TestCaseError> {
        let parent = before.client(child.parent).unwrap();
        prop_assert!(before.check_client(child.parent, self.now).is_ok());
        prop_assert!(!child.access.is_empty());
        prop_assert!(allowed(&child.access).is_subset(&allowed(&parent.access)));
        prop_assert!(child.expires <= parent.expires);
        prop_assert!(child.expires <= self.task.deadline);
        prop_assert!(
            child.jkt.is_none() || before.clients.iter().all(|held| held.jkt != child.jkt)
        );
        // Whoever proved itself on the way bounds what is below it.
        let chain: Vec<(u32, &Client)> = self.task.chain(child.client).collect();
        prop_assert!(chain.len() <= 5);
        for (above, client) in &chain {
            let of = match (&client.own, client.parent) {
                (Some(own), _) => &own.workload,
                (None, None) => &self.task.workload,
                (None, Some(_)) => continue,
            };
            let present = self.workloads.iter().find(|w| w.name == *of).unwrap();
            let may = allowed(&present.ceiling_kept(&client.filled));
            prop_assert!(allowed(&child.access).is_subset(&may));
            if *above == child.client {
                prop_assert!(
                    child.expires <= self.now + present.window || *of == self.task.workload
                );
                continue;
            }
            let declared = &self.declared[of];
            let depth = chain
                .iter()
                .position(|(number, _)| number == above)
                .unwrap();
            prop_assert!(depth as u32 <= declared.depth);
            let below = (1u32..=self.task.clients.len() as u32)
                .filter(|n| n != above && self.task.chain(*n).any(|(at, _)| at == *above))
                .count();
            prop_assert!(below as u32 <= declared.clients);
        }
        let giver = &self.declared[before.acts_as(child.parent)];
        prop_assert!(giver.to.contains(self.task.acts_as(child.client)));
        prop_assert!(giver.actor == Actor::Optional || child.own.is_some());
        Ok(())
    }

    fn check_credential(&self, issued: &CredentialIssued) -> Result<(), TestCaseError> {
        let granted = allowed(&issued.access);
        for (number, client) in self.task.chain(issued.client) {
            prop_assert!(client.is_active() && self.now < client.expires);
            prop_assert!(
                granted.is_subset(&allowed(&client.access)),
                "client {}",
                number
            );
            prop_assert!(issued.expires <= client.expires);
            let of = self.task.acts_as(number);
            let present = self.workloads.iter().find(|w| w.name == *of).unwrap();
            if client.own.is_some() || client.parent.is_none() {
                prop_assert!(granted.is_subset(&allowed(&present.ceiling_kept(&client.filled))));
                prop_assert!(issued.expires <= self.now + present.ttl);
            }
        }
        let chain: Vec<u32> = self.task.chain(issued.client).map(|(n, _)| n).collect();
        let act: Vec<u32> = issued.act.iter().map(|link| link.client).collect();
        prop_assert_eq!(act, if chain.len() > 1 { chain } else { Vec::new() });
        Ok(())
    }

    fn check_end(&self, before: &Task, top: u32) -> Result<(), TestCaseError> {
        for number in 1..=before.clients.len() as u32 {
            let (was, is) = (
                before.client(number).unwrap(),
                self.task.client(number).unwrap(),
            );
            if before.chain(number).any(|(at, _)| at == top) {
                prop_assert!(!is.is_active() && is.credentials.is_empty());
            } else {
                prop_assert_eq!(was, is);
            }
        }
        Ok(())
    }
}

fn client(key: Option<u8>, request: AccessRequest) -> NewClient {
    NewClient {
        jkt: key.map(digest),
        jwk: None,
        request,
        digest: digest(0),
        subject: None,
    }
}

/// A hand-over of parts of what is held: sets get smaller, paths plain, bounds lower.
fn given(held: &[Detail], gives: &[Gives]) -> AccessRequest {
    let mut given = AccessRequest::default();
    for one in gives {
        match one {
            Gives::Scope(scope) => given.scopes.push((*scope).into()),
            Gives::Anything(request) => given.details.extend(request.details.clone()),
            Gives::Part(detail, path, size, without) => {
                let detail = detail.get(held);
                let mut fields: BTreeMap<String, RawField> = BTreeMap::new();
                for (name, field) in &detail.fields {
                    let raw = match field {
                        Field::Set(set) => {
                            RawField::List(set.iter().take(1 + *size as usize).cloned().collect())
                        }
                        Field::Path(patterns) => {
                            let from = path.index(PATHS.len());
                            let near = PATHS.iter().cycle().skip(from).take(PATHS.len());
                            let covered = |text: &&&str| {
                                let plain = Pattern::plain(text).unwrap();
                                patterns.iter().any(|pattern| pattern.covers(&plain))
                            };
                            let text = near.clone().find(covered).unwrap_or(&PATHS[from]);
                            RawField::Text((*text).into())
                        }
                        Field::Max(most) => RawField::Int((*most).min(*size)),
                        Field::Min(_) | Field::Exact(_) => continue,
                    };
                    fields.insert(name.clone(), raw);
                }
                if *without {
                    fields.pop_first();
                }
                given.details.push(RequestDetail {
                    kind: detail.kind.clone(),
                    locations: Some(vec![format!("https://{}.example", detail.resource)]),
                    fields,
                });
            }
        }
    }
    given
}

proptest! {
    #[test]
    fn delegation_never_widens(a in workload("a"), b in workload("b"), steps in prop::collection::vec(what(), 1..40)) {
        let Some(mut run) = Run::start([a, b]) else { return Ok(()) };
        for what in &steps {
            run.step(what)?;
        }
        let keys: Vec<Digest> = run.task.clients.iter().filter_map(|client| client.jkt).collect();
        prop_assert_eq!(keys.iter().collect::<BTreeSet<_>>().len(), keys.len());
        let handovers: Vec<Digest> = run.task.clients.iter().filter_map(|client| client.handover).collect();
        prop_assert_eq!(handovers.iter().collect::<BTreeSet<_>>().len(), handovers.len());
    }
}

/// The law above is worth nothing where nothing is ever handed over.
#[test]
fn the_runs_do_hand_over() {
    use proptest::strategy::ValueTree;
    use proptest::test_runner::TestRunner;
    let mut runner = TestRunner::deterministic();
    let all = (
        workload("a"),
        workload("b"),
        prop::collection::vec(what(), 1..40),
    );
    let (mut children, mut deepest, mut others) = (0, 0, 0);
    for _ in 0..200 {
        let (a, b, steps) = all.new_tree(&mut runner).unwrap().current();
        let Some(mut run) = Run::start([a, b]) else {
            continue;
        };
        for what in &steps {
            run.step(what).unwrap();
        }
        children += run.task.clients.len() - 1;
        others += run
            .task
            .clients
            .iter()
            .filter(|client| client.own.is_some())
            .count();
        let depths = (1..=run.task.clients.len() as u32).map(|n| run.task.chain(n).count() - 1);
        deepest = depths.max().unwrap_or(0).max(deepest);
    }
    assert!(
        children > 100 && others > 10 && deepest >= 2,
        "{children} {others} {deepest}"
    );
}
