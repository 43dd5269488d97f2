//! Appends as a server makes them, and the two ways to open and reopen a store.

use std::sync::Arc;

use dayfly_domain::access::{Detail, Field};
use dayfly_domain::{
    Cause, Claim, ClaimState, ClientDelegated, ClientEnded, ClientRegistered, CredentialIssued,
    Digest, Epoch, EpochOf, Event, Heartbeat, HeartbeatMode, Name, Own, Repeat, Span, Spent, Task,
    TaskEnded, TaskId, TaskStarted, Time, apply,
};
use dayfly_ledger::sha256;
use dayfly_store::clock::{Clock as _, ManualClock};
use dayfly_store::{
    Annex, Answer, Append, AppendError, Change, ClaimWrite, Committed, Drafted, EntryRange, Facts,
    FactsQuery, Note, OneTimeKey, OpenTask, SURE_OF_LEAP, Spend, Store, StoredEntry,
};

/// A backend under test.
pub(crate) trait Subject: Send + Sync {
    /// An empty store.
    fn fresh(clock: Arc<ManualClock>) -> Self;
    fn store(&self) -> &dyn Store;
    /// Closes the store and opens it again.
    fn reopen(&mut self);
}

/// A subject, and the clock it goes by.
pub(crate) struct Bench<S> {
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) subject: S,
}

/// Two weeks into 2026, at noon.
pub(crate) const NOON: Time = Time::from_seconds(1_768_392_000);

pub(crate) fn after(seconds: u64) -> Time {
    NOON + Span::from_seconds(seconds)
}

impl<S: Subject> Bench<S> {
    pub(crate) fn new() -> Self {
        let clock = Arc::new(ManualClock::at(NOON));
        Self {
            subject: S::fresh(Arc::clone(&clock)),
            clock,
        }
    }

    pub(crate) fn append(&self, append: Append) -> Result<Committed, AppendError> {
        wait(self.subject.store().append(&acme(), append))
    }

    /// Appends what must go well.
    pub(crate) fn commit(&self, append: Append) -> Committed {
        self.append(append).unwrap()
    }

    pub(crate) fn facts(&self, query: &FactsQuery<'_>) -> Facts {
        self.subject.store().facts(&acme(), query).unwrap()
    }

    pub(crate) fn task(&self, id: TaskId) -> Option<OpenTask> {
        self.facts(&FactsQuery {
            tasks: &[id],
            ..FactsQuery::default()
        })
        .tasks
        .remove(0)
    }

    pub(crate) fn claims(&self, series: &str) -> Vec<Claim> {
        let series = Some((&github(), series));
        let mut claims = self
            .facts(&FactsQuery {
                series,
                ..FactsQuery::default()
            })
            .claims;
        claims.sort_by_key(|claim| (claim.key.clone(), claim.workload.clone()));
        claims
    }

    pub(crate) fn spent(&self, key: &OneTimeKey) -> Option<Spent> {
        self.facts(&FactsQuery {
            one_time: Some(key),
            ..FactsQuery::default()
        })
        .spent
    }

    pub(crate) fn entries(&self) -> Vec<StoredEntry> {
        self.subject
            .store()
            .entries(&acme(), EntryRange::From(0), usize::MAX)
            .unwrap()
    }

    /// Starts a task that has one client with one credential.
    pub(crate) fn start(&self, n: u64) -> Task {
        let start = start(n);
        self.commit(start.append);
        start.task
    }

    /// Lets time pass until then, and so much more that what is over by then is surely forgotten.
    pub(crate) fn pass(&self, later: Time) {
        while self.clock.now() < later {
            self.clock.set(later.min(self.clock.now() + SURE_OF_LEAP));
            self.commit(noted(self.clock.now(), "{}"));
        }
        self.commit(noted(later, "{}"));
        self.clock.advance(SURE_OF_LEAP);
        self.commit(noted(self.clock.now(), "{}"));
    }

    pub(crate) fn store(&self) -> &dyn Store {
        self.subject.store()
    }
}

/// Waits for an answer without a server around it.
pub(crate) fn wait<T>(answer: Answer<T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap()
        .block_on(answer)
}

pub(crate) fn name(text: &str) -> Name {
    text.parse().unwrap()
}

pub(crate) fn acme() -> Name {
    name("acme")
}

pub(crate) fn github() -> Name {
    name("github")
}

pub(crate) fn release() -> Name {
    name("release")
}

pub(crate) fn id(n: u64) -> TaskId {
    TaskId::new(NOON.millis() + n, [7; 10])
}

pub(crate) fn digest(text: &str) -> Digest {
    Digest(sha256(text.as_bytes()).0)
}

/// An append that starts a task, and the task.
pub(crate) struct Start {
    pub(crate) append: Append,
    pub(crate) task: Task,
}

/// The start of the `n`-th task, of the key `repo/run-n/job`.
pub(crate) fn start(n: u64) -> Start {
    start_with(n, |_| {})
}

pub(crate) fn start_with(n: u64, tweak: impl FnOnce(&mut TaskStarted)) -> Start {
    let mut started = TaskStarted {
        workload: release(),
        owner: name("team"),
        issuer: github(),
        key: format!("repo/run-{n}/job"),
        series: format!("repo/run-{n}"),
        attempt: Some(1),
        subject: None,
        repeat: Repeat::Refuse,
        opened: NOON,
        deadline: after(3600),
        heartbeat: Heartbeat::default(),
        linger: Span::ZERO,
        epochs: [
            EpochOf::Tenant,
            EpochOf::Owner(name("team")),
            EpochOf::Workload(release()),
        ]
        .map(|of| Epoch { of, at: 0 })
        .into(),
        supersedes: Vec::new(),
    };
    tweak(&mut started);
    let registered = Event::ClientRegistered(ClientRegistered {
        client: 1,
        jkt: Some(digest(&format!("key {n}"))),
        jwk: None,
        instance: format!("job-{n}"),
        proof: digest(&format!("proof {n}")),
        request: digest("request"),
        filled: Default::default(),
        access: vec![access()],
        expires: started.deadline,
    });
    let claims = r#"{"claims":{"sub":"repo:o/r"}}"#.to_owned();
    let mut change = change(
        None,
        id(n),
        [Event::TaskStarted(started), registered, issued(n, 1)],
    );
    change.events[0].annex = Some(Annex {
        salt: [n as u8; 16],
        data: claims,
    });
    let task = change.next.clone();
    let append = Append {
        now: NOON,
        changes: vec![change],
        ..Append::default()
    };
    Start { append, task }
}

fn access() -> Detail {
    Detail {
        kind: "artifact".into(),
        resource: name("artifacts"),
        fields: [("actions".to_owned(), Field::Set(["read".to_owned()].into()))].into(),
        scope: None,
    }
}

/// The `m`-th credential of the first client of task `n`.
pub(crate) fn issued(n: u64, m: u32) -> Event {
    Event::CredentialIssued(CredentialIssued {
        client: 1,
        credential: m,
        resource: name("artifacts"),
        audience: "https://artifacts.example".into(),
        access: vec![access()],
        scope: Vec::new(),
        issued: NOON,
        expires: after(300),
        jkt: None,
        act: Vec::new(),
        may_act: Vec::new(),
        on_behalf_of: None,
        alg: "ES256".into(),
        kid: "k1".into(),
        hash: digest(&format!("token {n} {m}")),
    })
}

/// A change by these events.
pub(crate) fn change(
    task: Option<&Task>,
    id: TaskId,
    events: impl IntoIterator<Item = Event>,
) -> Change {
    let expected_version = task.map_or(0, |task| task.version);
    let mut next = task.cloned();
    let mut drafted = Vec::new();
    for event in events {
        next = apply(next, id, &event);
        assert!(next.is_some(), "{event:?} does not fit");
        drafted.push(Drafted { event, annex: None });
    }
    Change {
        task: id,
        expected_version,
        events: drafted,
        next: next.unwrap(),
    }
}

pub(crate) fn changed(change: Change) -> Append {
    Append {
        now: NOON,
        changes: vec![change],
        ..Append::default()
    }
}

/// A child of the first client, of the workload `scan`, that relies on what it proved to be.
pub(crate) fn delegated(task: &Task, n: u64, at: u64) -> Change {
    let client = task.clients.len() as u32 + 1;
    let delegated = Event::ClientDelegated(ClientDelegated {
        client,
        parent: 1,
        jkt: Some(digest(&format!("child {n} {client}"))),
        jwk: None,
        instance: format!("pipeline_id=70,job_id={n}"),
        handover: digest(&format!("handover {n} {client}")),
        proof: Some(digest(&format!("pod proof {n}"))),
        request: digest("request"),
        filled: Default::default(),
        own: Some(Own {
            workload: name("scan"),
            owner: name("scanners"),
            issuer: name("cluster"),
            key: format!("pod-{n}"),
            epochs: vec![Epoch { of: scanners(), at }],
        }),
        access: vec![access()],
        expires: after(3600),
    });
    change(Some(task), task.id, [delegated])
}

pub(crate) fn scanners() -> EpochOf {
    EpochOf::Owner(name("scanners"))
}

/// One more credential.
pub(crate) fn renewal(task: &Task, n: u64) -> Change {
    change(Some(task), task.id, [issued(n, task.clients[0].issued + 1)])
}

pub(crate) fn end(task: &Task, cause: Cause) -> Change {
    let ended = TaskEnded {
        cause,
        at: NOON,
        count: task.version + 1,
        by: None,
        last_expiry: None,
    };
    change(Some(task), task.id, [Event::TaskEnded(ended)])
}

pub(crate) fn end_client(task: &Task) -> Change {
    end_of(task, 1)
}

pub(crate) fn end_of(task: &Task, client: u32) -> Change {
    let ended = ClientEnded {
        client,
        cause: Cause::Completed,
        at: NOON,
        by: None,
        last_expiry: None,
    };
    change(Some(task), task.id, [Event::ClientEnded(ended)])
}

/// Claims a task's own key.
pub(crate) fn claim(task: &Task) -> ClaimWrite {
    ClaimWrite {
        issuer: task.issuer.clone(),
        series: task.series.clone(),
        claim: Claim {
            workload: task.workload.clone(),
            key: task.key.clone(),
            attempt: task.attempt,
            task: task.id,
            state: ClaimState::Open,
        },
        replaces: None,
        until: after(25 * 3600),
    }
}

pub(crate) fn key(text: &str) -> OneTimeKey {
    OneTimeKey {
        digest: digest(text),
        at: NOON,
        until: after(600),
    }
}

pub(crate) fn spend(text: &str, n: u64) -> Spend {
    Spend {
        key: key(text),
        by: by(n),
    }
}

pub(crate) fn by(n: u64) -> Spent {
    Spent {
        task: id(n),
        client: 1,
    }
}

pub(crate) fn note(kind: &'static str, data: &str) -> Note {
    Note {
        kind,
        data: data.into(),
        annex: None,
    }
}

pub(crate) fn noted(now: Time, data: &str) -> Append {
    Append {
        now,
        notes: vec![note("finding.opened", data)],
        ..Append::default()
    }
}

pub(crate) fn required(started: &mut TaskStarted) {
    started.heartbeat.mode = HeartbeatMode::Required;
}
