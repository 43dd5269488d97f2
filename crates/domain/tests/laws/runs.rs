//! Random runs of a task: every state, event and credential on the way keeps the promises.

use std::collections::BTreeSet;

use dayfly_domain::access::{AccessRequest, Catalog, Detail};
use dayfly_domain::*;
use proptest::prelude::*;
use proptest::sample::{Index, select};

use super::access::{CLAIM, allowed, catalog, ceiling, name, request};

const LIVE: usize = 3;
const ID: TaskId = TaskId([7; 16]);

/// One thing that is asked, and how long after the one before.
#[derive(Clone, Debug)]
struct Ask {
    after: Span,
    what: What,
}

#[derive(Clone, Debug)]
enum What {
    Join(u8, Option<u8>, AccessRequest),
    Retry(Index, Option<u8>, AccessRequest),
    Issue(Index, AccessRequest, bool, Option<Index>),
    EndClient(Index, Cause),
    EndTask(Cause),
    Revoke(Index, u32),
    Sweep,
    Beat,
    Deaf(Span),
}

struct NoSeal;

impl Seal for NoSeal {
    fn seal(&self, _: TaskId, _: &Workload, _: &mut CredentialIssued) {}
}

fn what() -> impl Strategy<Value = What> {
    let key = || prop::option::of(0u8..3);
    let cause = || {
        select(vec![
            Cause::Completed,
            Cause::Failed,
            Cause::Cancelled,
            Cause::Operator,
            Cause::Superseded,
        ])
    };
    let client = any::<Index>;
    prop_oneof![
        4 => (0u8..9, key(), request()).prop_map(|(p, k, r)| What::Join(p, k, r)),
        1 => (client(), key(), request()).prop_map(|(c, k, r)| What::Retry(c, k, r)),
        8 => (client(), request(), prop::bool::weighted(0.2), prop::option::weighted(0.3, any::<Index>()))
            .prop_map(|(c, r, lowered, within)| What::Issue(c, r, lowered, within)),
        4 => client().prop_map(|c| What::Issue(c, AccessRequest::default(), false, None)),
        2 => (client(), cause()).prop_map(|(c, cause)| What::EndClient(c, cause)),
        1 => cause().prop_map(What::EndTask),
        2 => (client(), 0u32..6).prop_map(|(c, m)| What::Revoke(c, m)),
        2 => Just(What::Sweep),
        2 => Just(What::Beat),
        1 => (0u64..60_000).prop_map(|ms| What::Deaf(Span::from_millis(ms))),
    ]
}

fn asks() -> impl Strategy<Value = Vec<Ask>> {
    let after = prop_oneof![3 => 0u64..3_000, 1 => 0u64..90_000];
    let ask = (after, what()).prop_map(|(after, what)| Ask {
        after: Span::from_millis(after),
        what,
    });
    prop::collection::vec(ask, 1..40)
}

fn workload() -> impl Strategy<Value = Workload> {
    let mode = select(vec![
        HeartbeatMode::Off,
        HeartbeatMode::Auto,
        HeartbeatMode::Required,
    ]);
    (
        ceiling(),
        mode,
        0u64..20_000,
        1_000u64..400_000,
        1_000u64..90_000,
    )
        .prop_map(|(access, mode, linger, window, ttl)| {
            let plain = plain();
            Workload {
                window: Span::from_millis(window),
                heartbeat: Heartbeat {
                    mode,
                    ..plain.heartbeat
                },
                ttl: Span::from_millis(ttl),
                access,
                linger: Span::from_millis(linger),
                ..plain
            }
        })
}

/// A workload with the plainest of everything.
pub(super) fn plain() -> Workload {
    Workload {
        name: name("w"),
        owner: name("o"),
        issuer: name("i"),
        kind: Kind::Ci,
        purpose: String::new(),
        matching: Match::default(),
        key: KeyRule {
            key: vec!["c".into()],
            series: vec!["c".into()],
            attempt: None,
            hint: String::new(),
        },
        repeat: Repeat::Join,
        window: Span::from_seconds(300),
        heartbeat: Heartbeat {
            mode: HeartbeatMode::Off,
            every: Span::from_seconds(10),
            grace: Span::from_seconds(30),
        },
        ttl: Span::from_seconds(60),
        binding: Binding::Optional,
        access: Vec::new(),
        linger: Span::ZERO,
        reopen: Reopen::Never,
        limits: Limits::default(),
        approval: None,
        delegation: None,
        acts_for: None,
    }
}

/// A run on its way.
struct Run {
    now: Time,
    workload: Workload,
    lowered: Workload,
    catalog: Catalog,
    bounds: Bounds,
    task: Option<Task>,
    heard: Heard,
    events: Vec<Event>,
    issued: Vec<CredentialIssued>,
}

fn digest(n: u8) -> Digest {
    Digest([n; 32])
}

impl Run {
    fn new(workload: Workload, lowered: Vec<Detail>) -> Self {
        Self {
            now: Time::from_millis(1_767_225_600_321),
            lowered: Workload {
                access: lowered,
                ..workload.clone()
            },
            workload,
            catalog: catalog(),
            bounds: Bounds {
                clients: 6,
                live_credentials: LIVE,
                details: 4,
                depth: 4,
            },
            task: None,
            heard: Heard::default(),
            events: Vec::new(),
            issued: Vec::new(),
        }
    }

    /// The events that a question leads to; none where it is refused.
    fn ask(&self, what: &What) -> Vec<Event> {
        let number = |index: &Index| {
            let clients = self.task.as_ref().map_or(0, |task| task.clients.len());
            // One more than there are, so that a client that is not there is asked about as well.
            index.index(clients + 1) as u32 + 1
        };
        let (now, heard) = (self.now, self.heard);
        let command = match what {
            What::Join(proof, key, request) => {
                return self.ask_as_root(None, *proof, *key, request);
            }
            What::Retry(client, key, request) => {
                return self.ask_as_root(Some(number(client)), 0, *key, request);
            }
            What::Issue(client, request, lowered, within) => {
                let workload = if *lowered {
                    &self.lowered
                } else {
                    &self.workload
                };
                let within = within
                    .filter(|_| !self.issued.is_empty())
                    .map(|index| index.get(&self.issued));
                Command::Issue(Issue {
                    now,
                    heard,
                    stale: None,
                    client: number(client),
                    workload,
                    others: &[],
                    catalog: &self.catalog,
                    bounds: &self.bounds,
                    request,
                    within: within.map(|issued| Within {
                        access: &issued.access,
                        expires: issued.expires,
                    }),
                    seal: &NoSeal,
                })
            }
            What::EndClient(client, cause) => Command::EndClient(EndClient {
                now,
                heard,
                client: number(client),
                cause: *cause,
                by: None,
            }),
            What::EndTask(cause) => Command::EndTask(EndTask {
                now,
                heard,
                cause: *cause,
                by: None,
            }),
            What::Revoke(client, credential) => Command::Revoke(Revoke {
                now,
                heard,
                client: number(client),
                credential: *credential,
            }),
            What::Sweep => Command::Sweep(Sweep {
                now,
                heard,
                moved: None,
                fallen: &[],
            }),
            What::Beat | What::Deaf(_) => return Vec::new(),
        };
        decide(self.task.as_ref(), &command).unwrap_or_default()
    }

    fn ask_as_root(
        &self,
        retried: Option<u32>,
        proof: u8,
        key: Option<u8>,
        request: &AccessRequest,
    ) -> Vec<Event> {
        let proof = Proof {
            issuer: name("i"),
            claims: Claims::from([("c".to_string(), CLAIM.to_string())]).into(),
            digest: digest(proof),
            instance: format!("instance-{}", proof % 2),
            one_time: true,
            person: None,
        };
        let client = NewClient {
            jkt: key.map(digest),
            jwk: None,
            request: request.clone(),
            digest: digest(request.details.len() as u8),
            subject: None,
        };
        let root = Root {
            now: self.now,
            workload: &self.workload,
            catalog: &self.catalog,
            bounds: &self.bounds,
            proof: &proof,
            client: &client,
            seal: &NoSeal,
        };
        let (heard, stale) = (self.heard, None);
        let key = self.workload.key.read(&proof.claims).unwrap();
        let command = match (retried, &self.task) {
            (_, None) => Command::Start(Start {
                root,
                id: ID,
                key: &key,
                epochs: Vec::new(),
                until: None,
                supersedes: Vec::new(),
            }),
            (Some(client), Some(_)) => Command::Retry(Retry {
                root,
                heard,
                stale,
                client,
            }),
            (None, Some(_)) => Command::Join(Join { root, heard, stale }),
        };
        decide(self.task.as_ref(), &command).unwrap_or_default()
    }

    /// One question: its events apply, and the state after it keeps every promise.
    fn step(&mut self, ask: &Ask) -> Result<(), TestCaseError> {
        self.now = self.now + ask.after;
        let over = self.task.as_ref().is_some_and(|task| !task.is_open());
        let lowered = matches!(ask.what, What::Issue(_, _, true, _));
        let events = self.ask(&ask.what);
        prop_assert!(
            !over || events.is_empty(),
            "an ended task yields {events:?}"
        );
        for event in events {
            if let Event::CredentialIssued(issued) = &event {
                self.check_issued(issued, lowered)?;
                if let What::Issue(.., Some(index)) = &ask.what
                    && !self.issued.is_empty()
                {
                    let presented = index.get(&self.issued);
                    prop_assert!(issued.expires <= presented.expires);
                    prop_assert!(allowed(&issued.access).is_subset(&allowed(&presented.access)));
                }
                self.issued.push(issued.clone());
            }
            self.task = apply(self.task.take(), ID, &event);
            prop_assert!(self.task.is_some(), "{event:?} does not apply");
            self.events.push(event);
        }
        self.hear(&ask.what);
        if let Some(task) = &self.task {
            prop_assert_eq!(task.version, self.events.len() as u64);
            if !task.is_open() {
                prop_assert!(self.live().is_empty(), "live after the end");
            }
            for client in &task.clients {
                prop_assert!(client.credentials.len() <= LIVE);
                prop_assert!(client.expires <= task.deadline);
                let ceiling = self.workload.ceiling_kept(&client.filled);
                prop_assert!(allowed(&client.access).is_subset(&allowed(&ceiling)));
            }
        }
        Ok(())
    }

    fn hear(&mut self, what: &What) {
        let Some(task) = &self.task else {
            return;
        };
        if self.events.len() <= 3 && task.hears_from_start() && self.heard.last_seen.is_none() {
            self.heard.last_seen = Some(task.opened);
        }
        match what {
            What::Beat if task.check_open(self.now, self.heard).is_ok() => {
                self.heard = Heard {
                    last_seen: Some(self.now),
                    deaf: Span::ZERO,
                };
            }
            What::Deaf(span) => self.heard.deaf = self.heard.deaf + *span,
            What::Beat
            | What::Join(..)
            | What::Retry(..)
            | What::Issue(..)
            | What::EndClient(..)
            | What::EndTask(_)
            | What::Revoke(..)
            | What::Sweep => {}
        }
    }

    /// The credentials that are valid now, of all that were ever issued.
    fn live(&self) -> BTreeSet<(u32, u32)> {
        let ids = self.issued.iter().filter(|issued| {
            self.task.as_ref().is_some_and(|task| {
                task.check_credential(issued.id(ID), self.now, self.heard)
                    .is_ok()
            })
        });
        ids.map(|issued| (issued.client, issued.credential))
            .collect()
    }

    /// No credential outlives or exceeds what it comes from.
    fn check_issued(&self, issued: &CredentialIssued, lowered: bool) -> Result<(), TestCaseError> {
        let task = self.task.as_ref().unwrap();
        let client = task.client(issued.client).unwrap();
        prop_assert!(self.now < issued.expires);
        prop_assert!(issued.issued <= self.now);
        prop_assert_eq!(issued.expires.millis() % 1000, 0);
        prop_assert!(issued.expires <= client.expires);
        prop_assert!(issued.expires <= task.deadline);
        prop_assert!(issued.expires <= task.opened + self.workload.window);
        prop_assert!(issued.expires <= self.now + self.workload.ttl);
        prop_assert!(!issued.access.is_empty() && issued.access.len() <= self.bounds.details);
        prop_assert!(!issued.audience.is_empty());
        let granted = allowed(&issued.access);
        prop_assert!(granted.is_subset(&allowed(&client.access)));
        let ceiling = if lowered {
            &self.lowered
        } else {
            &self.workload
        };
        prop_assert!(granted.is_subset(&allowed(&ceiling.access)));
        Ok(())
    }

    /// Once over, over: whatever is asked, also in the past and far ahead.
    fn check_end(&mut self, asks: &[Ask]) -> Result<(), TestCaseError> {
        let Some(task) = self.task.clone() else {
            return Ok(());
        };
        let end = EndTask {
            now: self.now,
            heard: self.heard,
            cause: Cause::Operator,
            by: None,
        };
        let events = decide(Some(&task), &Command::EndTask(end)).unwrap_or_default();
        prop_assert_eq!(events.len(), usize::from(task.is_open()));
        for event in events {
            self.task = apply(self.task.take(), ID, &event);
            self.events.push(event);
        }
        for now in [0, self.now.millis(), u64::MAX] {
            self.now = Time::from_millis(now);
            for ask in asks {
                prop_assert!(self.ask(&ask.what).is_empty());
            }
            prop_assert!(self.live().is_empty());
        }
        Ok(())
    }

    /// The ledger alone gives the same state, and nothing is lost in writing.
    fn check_record(&self) -> Result<(), TestCaseError> {
        let mut replayed = None;
        let mut last = Time::default();
        for event in &self.events {
            let bytes = serde_json::to_string(event).unwrap();
            let mut reader = serde_json::Deserializer::from_str(&bytes);
            let read = Event::read(event.kind(), &mut reader).unwrap().unwrap();
            prop_assert_eq!(&read, event);
            replayed = apply(replayed, ID, &read);
            let at = match event {
                Event::TaskRequested(requested) => Some(requested.requested),
                Event::TaskApproved(approved) => Some(approved.at),
                Event::TaskDenied(denied) => Some(denied.at),
                Event::TaskStarted(started) => Some(started.opened),
                Event::ClientEnded(ended) => Some(ended.at),
                Event::TaskEnded(ended) => Some(ended.at),
                Event::ClientRegistered(_)
                | Event::ClientDelegated(_)
                | Event::CredentialIssued(_)
                | Event::CredentialRevoked(_) => None,
            };
            prop_assert!(at.is_none_or(|at| last <= at), "time runs backwards");
            last = at.unwrap_or(last);
        }
        prop_assert_eq!(&replayed, &self.task);
        let bytes = serde_json::to_string(&self.task).unwrap();
        let read: Option<Task> = serde_json::from_str(&bytes).unwrap();
        prop_assert_eq!(&read, &self.task);
        Ok(())
    }
}

proptest! {
    #[test]
    fn every_run_keeps_the_promises(
        workload in workload(),
        lowered in ceiling(),
        first in (0u8..9, prop::option::of(0u8..3), prop_oneof![Just(AccessRequest::default()), request()]),
        asks in asks(),
    ) {
        let mut run = Run::new(workload, lowered);
        let (proof, key, request) = first;
        run.step(&Ask { after: Span::ZERO, what: What::Join(proof, key, request) })?;
        for ask in &asks {
            run.step(ask)?;
        }
        run.check_end(&asks)?;
        run.check_record()?;
    }

    /// What lasts longest for those who verify offline is never understated, whatever ended first.
    #[test]
    fn the_last_expiry_of_an_end_is_the_last(workload in workload(), asks in asks()) {
        let lowered = workload.access.clone();
        let mut run = Run::new(workload, lowered);
        for ask in &asks {
            run.step(ask)?;
        }
        for event in &run.events {
            if let Event::TaskEnded(ended) = event {
                let last = run.issued.iter().map(|issued| issued.expires).max();
                prop_assert_eq!(ended.last_expiry, last.filter(|last| *last > ended.at));
            }
        }
    }
}
