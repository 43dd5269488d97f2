//! The record read over the in-memory store, with tasks made by hand.

mod find;
mod listing;
mod receipts;
mod uses;
mod verdicts;

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use dayfly_domain::access::{Detail, Field};
use dayfly_domain::{
    Block, BlockOn, Cause, ClientDelegated, ClientEnded, ClientRegistered, CredentialIssued,
    CredentialRevoked, Digest, Epoch, EpochOf, Event, Heartbeat, HeartbeatMode, Name, Own, Repeat,
    Span, Task, TaskEnded, TaskId, TaskStarted, Time, apply,
};
use dayfly_ledger::{Hash, Head, SignerKey, sign_head};
use dayfly_store::clock::ManualClock;
use dayfly_store::{
    Annex, Answer, Append, AppendError, Change, Committed, Drafted, EntryRange, Facts, FactsQuery,
    MemoryStore, Note, Observed, OpenFilter, OpenTask, SearchKey, Store, StoredEntry, Touch,
    TreeHead, Unavailable, Use,
};

use super::{Known, Trace, TraceKey, TraceQuery, trace};

/// 2026-11-21T00:00:00Z.
const MIDNIGHT: u64 = 1_795_219_200_000;
pub(crate) const ORIGIN: &str = "dayfly.example/acme";
const ARTIFACTS: &str = "https://artifacts.example";

/// A time of that day.
pub(crate) fn at(hour: u64, minute: u64, second: u64) -> Time {
    Time::from_millis(MIDNIGHT + ((hour * 60 + minute) * 60 + second) * 1000)
}

pub(crate) fn name(text: &str) -> Name {
    text.parse().unwrap()
}

pub(crate) fn digest(seed: u8) -> Digest {
    Digest([seed; 32])
}

/// A tenant whose tasks are made by hand.
pub(crate) struct Hand {
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) store: Arc<MemoryStore>,
    pub(crate) tenant: Name,
    pub(crate) signer: SignerKey,
    made: u8,
}

/// What a task is made of.
#[derive(Clone)]
pub(crate) struct Spec {
    pub(crate) workload: &'static str,
    pub(crate) owner: &'static str,
    pub(crate) key: &'static str,
    pub(crate) series: &'static str,
    pub(crate) attempt: Option<u64>,
    pub(crate) instance: &'static str,
    pub(crate) deadline: Time,
    pub(crate) expires: Time,
    pub(crate) heartbeat: HeartbeatMode,
    pub(crate) supersedes: Vec<TaskId>,
}

impl Default for Spec {
    fn default() -> Self {
        Self {
            workload: "release",
            owner: "team-platform",
            key: "1296269/77/901",
            series: "1296269/77",
            attempt: Some(1),
            instance: "run 77 attempt 1 job 901",
            deadline: at(4, 0, 0),
            expires: at(3, 12, 22),
            heartbeat: HeartbeatMode::Off,
            supersedes: Vec::new(),
        }
    }
}

impl Hand {
    pub(crate) fn new() -> Self {
        let clock = Arc::new(ManualClock::at(at(3, 0, 0)));
        Self {
            store: Arc::new(MemoryStore::new(clock.clone())),
            clock,
            tenant: name("acme"),
            signer: SignerKey::from_seed(ORIGIN, &[7; 32]).unwrap(),
            made: 0,
        }
    }

    /// Starts a task with one client, bound to a key, and one credential, whose token has the
    /// hash that the task's number fills.
    pub(crate) fn start(&mut self, when: Time, spec: &Spec) -> TaskId {
        self.made += 1;
        let made = self.made;
        let id = TaskId::new(when.millis(), [made; 10]);
        let sub = format!(r#"{{"claims":{{"sub":"repo:octo/{made}"}}}}"#);
        let started = Event::TaskStarted(TaskStarted {
            workload: name(spec.workload),
            owner: name(spec.owner),
            issuer: name("github"),
            key: spec.key.to_owned(),
            series: spec.series.to_owned(),
            attempt: spec.attempt,
            subject: None,
            repeat: Repeat::Refuse,
            opened: when,
            deadline: spec.deadline,
            heartbeat: Heartbeat {
                mode: spec.heartbeat,
                every: Span::from_seconds(30),
                grace: Span::from_seconds(300),
            },
            linger: Span::ZERO,
            epochs: vec![Epoch {
                of: EpochOf::Owner(name(spec.owner)),
                at: 0,
            }],
            supersedes: spec.supersedes.clone(),
        });
        let registered = Event::ClientRegistered(ClientRegistered {
            client: 1,
            jkt: Some(digest(100 + made)),
            jwk: None,
            instance: spec.instance.to_owned(),
            proof: digest(made),
            request: digest(made),
            filled: Default::default(),
            access: vec![access()],
            expires: spec.deadline,
        });
        let events = vec![
            (started, Some(sub)),
            (registered, None),
            (issued(1, 1, made, when, spec.expires), None),
        ];
        self.append(when, id, events, |_| {});
        id
    }

    /// Records events of a task; `shape` may change the state after them.
    pub(crate) fn append(
        &self,
        when: Time,
        id: TaskId,
        events: Vec<(Event, Option<String>)>,
        shape: impl FnOnce(&mut Task),
    ) {
        self.clock.set(when);
        let query = FactsQuery {
            tasks: &[id],
            ..FactsQuery::default()
        };
        let facts = self.store.facts(&self.tenant, &query).unwrap();
        let before = facts
            .tasks
            .into_iter()
            .flatten()
            .next()
            .map(|open| open.task);
        let mut next = before.clone();
        for (event, _) in &events {
            next = Some(apply(next, id, event).unwrap());
        }
        let mut next = next.unwrap();
        shape(&mut next);
        let change = Change {
            task: id,
            expected_version: before.map_or(0, |task| task.version),
            events: events
                .into_iter()
                .map(|(event, annex)| Drafted {
                    event,
                    annex: annex.map(|data| Annex {
                        salt: [9; 16],
                        data,
                    }),
                })
                .collect(),
            next,
        };
        self.commit(Append {
            now: when,
            changes: vec![change],
            ..Append::default()
        });
    }

    pub(crate) fn commit(&self, append: Append) {
        answer(self.store.append(&self.tenant, append)).unwrap();
    }

    pub(crate) fn issue(&self, when: Time, id: TaskId, number: u32, hash: u8, expires: Time) {
        self.append(
            when,
            id,
            vec![(issued(1, number, hash, when, expires), None)],
            |_| {},
        );
    }

    /// Delegates from the first client of a task to a child of another owner, which comes in by a
    /// proof of another issuer, with a credential whose token has this hash.
    pub(crate) fn delegate(&self, when: Time, id: TaskId, hash: u8) {
        let delegated = Event::ClientDelegated(ClientDelegated {
            client: 2,
            parent: 1,
            jkt: Some(digest(100 + hash)),
            jwk: None,
            instance: "project_id=20,pipeline_id=574,job_id=302".to_owned(),
            handover: digest(hash + 1),
            proof: Some(digest(hash + 2)),
            request: digest(hash),
            filled: Default::default(),
            own: Some(Own {
                workload: name("scan"),
                owner: name("team-data"),
                issuer: name("gitlab"),
                key: "20/574~1a".to_owned(),
                epochs: Vec::new(),
            }),
            access: vec![access()],
            expires: at(4, 0, 0),
        });
        let first = issued(2, 1, hash, when, at(3, 12, 0));
        let sub = r#"{"claims":{"sub":"project:20"}}"#.to_owned();
        self.append(
            when,
            id,
            vec![(delegated, Some(sub)), (first, None)],
            |_| {},
        );
    }

    /// Ends a task; an annex is what a person said.
    pub(crate) fn end(&self, when: Time, id: TaskId, cause: Cause, annex: Option<&str>) {
        let query = FactsQuery {
            tasks: &[id],
            ..FactsQuery::default()
        };
        let facts = self.store.facts(&self.tenant, &query).unwrap();
        let task = facts.tasks.into_iter().flatten().next().unwrap().task;
        let ended = Event::TaskEnded(TaskEnded {
            cause,
            at: when,
            count: task.version + 1,
            by: None,
            last_expiry: task.last_expiry(),
        });
        self.append(when, id, vec![(ended, annex.map(str::to_owned))], |_| {});
    }

    pub(crate) fn end_client(&self, when: Time, id: TaskId, client: u32, cause: Cause) {
        let ended = Event::ClientEnded(ClientEnded {
            client,
            cause,
            at: when,
            by: None,
            last_expiry: None,
        });
        self.append(when, id, vec![(ended, None)], |_| {});
    }

    pub(crate) fn revoke(&self, when: Time, id: TaskId, credential: u32) {
        let revoked = Event::CredentialRevoked(CredentialRevoked {
            client: 1,
            credential,
        });
        self.append(when, id, vec![(revoked, None)], |_| {});
    }

    pub(crate) fn block(&self, when: Time, id: TaskId) {
        let on = BlockOn::Series {
            issuer: name("github"),
            series: "1296269/77".to_owned(),
        };
        self.commit(Append {
            now: when,
            notes: vec![Note {
                kind: "block.set",
                data: format!(r#"{{"on":"{on}","about":"{id}"}}"#),
                annex: None,
            }],
            blocks: vec![Block {
                on,
                task: Some(id),
                since: when,
            }],
            ..Append::default()
        });
    }

    /// A signed head of the ledger as it is.
    pub(crate) fn head(&self) -> String {
        let TreeHead { size, root, .. } = self.store.head(&self.tenant).unwrap();
        let head = Head {
            origin: ORIGIN.to_owned(),
            size,
            root,
        };
        sign_head(&head, &self.signer).unwrap()
    }

    pub(crate) fn trace(&self, key: &str, now: Time) -> Trace {
        self.trace_over(self.store.as_ref(), key, now)
    }

    pub(crate) fn trace_over(&self, store: &dyn Store, key: &str, now: Time) -> Trace {
        let query = TraceQuery {
            key: key.parse::<TraceKey>().unwrap(),
            since: None,
            until: None,
            now,
        };
        trace(store, &self.tenant, &known(), &query).unwrap()
    }

    pub(crate) fn verdict(&self, key: &str, now: Time) -> String {
        self.trace(key, now).verdict.line
    }
}

pub(crate) fn known() -> Known {
    Known {
        resources: [(name("artifacts"), ARTIFACTS.to_owned())].into(),
        issuers: [(name("github"), "https://token.example".to_owned())].into(),
        reporting: [name("artifacts")].into(),
    }
}

pub(crate) fn access() -> Detail {
    Detail {
        kind: "artifact".to_owned(),
        resource: name("artifacts"),
        fields: [("actions".to_owned(), Field::Set(["read".to_owned()].into()))].into(),
        scope: None,
    }
}

fn issued(client: u32, credential: u32, hash: u8, when: Time, expires: Time) -> Event {
    Event::CredentialIssued(CredentialIssued {
        client,
        credential,
        resource: name("artifacts"),
        audience: ARTIFACTS.to_owned(),
        access: vec![access()],
        scope: Vec::new(),
        issued: when,
        expires,
        jkt: Some(digest(100 + hash)),
        act: Vec::new(),
        may_act: Vec::new(),
        on_behalf_of: None,
        alg: "ES256".to_owned(),
        kid: "key-1".to_owned(),
        hash: digest(hash),
    })
}

/// The answer of a store that never waits.
pub(crate) fn answer<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("the in-memory store does not wait"),
    }
}

/// A store whose entries were tampered with.
pub(crate) struct Tampered<F> {
    pub(crate) store: Arc<MemoryStore>,
    pub(crate) with: F,
}

impl<F> Store for Tampered<F>
where
    F: Fn(&mut StoredEntry) + Send + Sync + 'static,
{
    fn append(&self, tenant: &Name, append: Append) -> Answer<Result<Committed, AppendError>> {
        self.store.append(tenant, append)
    }

    fn observe(&self, tenant: &Name, uses: Vec<Use>) -> Answer<Result<Vec<Observed>, AppendError>> {
        self.store.observe(tenant, uses)
    }

    fn touch(&self, tenant: &Name, touch: Touch) {
        self.store.touch(tenant, touch);
    }

    fn facts(&self, tenant: &Name, query: &FactsQuery<'_>) -> Result<Facts, Unavailable> {
        self.store.facts(tenant, query)
    }

    fn open(
        &self,
        tenant: &Name,
        filter: &OpenFilter,
        cursor: Option<TaskId>,
        limit: usize,
    ) -> Result<Vec<OpenTask>, Unavailable> {
        self.store.open(tenant, filter, cursor, limit)
    }

    fn entries(
        &self,
        tenant: &Name,
        range: EntryRange,
        limit: usize,
    ) -> Result<Vec<StoredEntry>, Unavailable> {
        let mut entries = self.store.entries(tenant, range, limit)?;
        entries.iter_mut().for_each(&self.with);
        Ok(entries)
    }

    fn find(
        &self,
        tenant: &Name,
        key: &SearchKey,
        cursor: Option<u64>,
        limit: usize,
    ) -> Result<Vec<u64>, Unavailable> {
        self.store.find(tenant, key, cursor, limit)
    }

    fn head(&self, tenant: &Name) -> Result<TreeHead, Unavailable> {
        self.store.head(tenant)
    }

    fn tile(
        &self,
        tenant: &Name,
        level: u8,
        index: u64,
        width: u16,
    ) -> Result<Vec<Hash>, Unavailable> {
        self.store.tile(tenant, level, index, width)
    }
}
