//! Fills a database with open tasks through the store, as that many grants would have left it.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;
use std::path::Path;
use std::time::Duration;

use dayfly_domain::access::{Detail, Field, Pattern};
use dayfly_domain::{
    Cause, Claim, ClaimState, ClientRegistered, CredentialIssued, Digest, Epoch, EpochOf, Event,
    Heartbeat, KeyRule, Name, Repeat, Span, Spent, Task, TaskEnded, TaskId, TaskKey, TaskStarted,
    Time, apply,
};
use dayfly_store::{
    Annex, Answer, Append, AppendError, Change, ClaimWrite, Committed, Drafted, OneTimeKey,
    SearchKey, Spend, SqliteOptions, SqliteStore, Store,
};
use dayfly_token::hash::sha256_of_parts;

use super::clock::{self, Watch};
use super::failure::{Context, Failure};
use super::mill::{Callers, check_run_id, claims, run_id};
use super::world::{
    OWNER, RESOURCE, RESOURCE_URL, TENANT, WORKLOADS, repository_id, workload_name,
};

/// Tasks in one append, and appends under way at a time.
const TASKS: usize = 200;
const UNDER_WAY: usize = 4;
/// How long the tasks stay open: none may end while the bench looks.
const WINDOW: Span = Span::from_seconds(24 * 3600);
/// How long the search index may take to catch up.
const PATIENCE: Duration = Duration::from_secs(600);

/// Opens tasks in the database of a server that is not running.
pub(super) fn open_tasks(database: &Path, issuer: &str, tasks: u64) -> Result<(), Failure> {
    open_tasks_for(database, issuer, tasks, WINDOW).map(drop)
}

/// Opens tasks that end in so much time from now on, all of them at once; gives when.
pub(super) fn open_tasks_for(
    database: &Path,
    issuer: &str,
    tasks: u64,
    window: Span,
) -> Result<Time, Failure> {
    let filler = Filler::new(issuer, window)?;
    fill(database, &filler, 0..tasks, Filler::append)?;
    Ok(filler.now + window)
}

/// A task of many credentials.
#[derive(Clone, Copy)]
pub(super) struct Large {
    pub(super) clients: u32,
    /// Of each client.
    pub(super) credentials: u32,
}

/// Opens large tasks, one for each job; gives their ids.
pub(super) fn large_tasks(
    database: &Path,
    issuer: &str,
    jobs: Range<u64>,
    size: Large,
) -> Result<Vec<TaskId>, Failure> {
    let filler = Filler::new(issuer, WINDOW)?;
    let ids = jobs.clone().map(|job| filler.id(job)).collect();
    fill(database, &filler, jobs, |filler, jobs| {
        filler.large(jobs, size)
    })?;
    Ok(ids)
}

/// Records tasks that came and went, four entries each, and gives the store that holds them, and the
/// thumbprint of the key of the first.
pub(super) fn ended_tasks(
    database: &Path,
    issuer: &str,
    tasks: u64,
) -> Result<(SqliteStore, Digest), Failure> {
    let filler = Filler::new(issuer, WINDOW)?;
    let store = fill(database, &filler, 0..tasks, Filler::ended)?;
    Ok((store, Digest(filler.callers.thumbprint(0)?.0)))
}

fn fill(
    database: &Path,
    filler: &Filler,
    jobs: Range<u64>,
    append: impl Fn(&Filler, Range<u64>) -> Result<Append, Failure>,
) -> Result<SqliteStore, Failure> {
    let options = SqliteOptions {
        batch_max: 8,
        cache_mib: 256,
        ..SqliteOptions::new(database)
    };
    let store = SqliteStore::open(options).context("the database cannot be opened")?;
    feed(&store, filler, jobs, append)?;
    // The search index follows the commits; a server that is started finds it nearly caught up.
    let watch = Watch::start();
    while let Err(why) = store.find(&filler.tenant, &SearchKey::Instance("none".into()), None, 1) {
        if watch.elapsed() > PATIENCE {
            return Err(Failure::new(format!(
                "the search index does not catch up: {why}"
            )));
        }
    }
    Ok(store)
}

/// Records what these jobs have to say, many in an append.
pub(super) fn feed(
    store: &SqliteStore,
    filler: &Filler,
    jobs: Range<u64>,
    append: impl Fn(&Filler, Range<u64>) -> Result<Append, Failure>,
) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("no runtime")?;
    runtime.block_on(async {
        let mut under_way: VecDeque<Answer<Result<Committed, AppendError>>> = VecDeque::new();
        for first in jobs.clone().step_by(TASKS) {
            if under_way.len() >= UNDER_WAY {
                settle(&mut under_way).await?;
            }
            let next = first..(first + TASKS as u64).min(jobs.end);
            under_way.push_back(store.append(&filler.tenant, append(filler, next)?));
        }
        while !under_way.is_empty() {
            settle(&mut under_way).await?;
        }
        Ok(())
    })
}

async fn settle(
    under_way: &mut VecDeque<Answer<Result<Committed, AppendError>>>,
) -> Result<(), Failure> {
    if let Some(answer) = under_way.pop_front() {
        answer.await.context("open tasks cannot be recorded")?;
    }
    Ok(())
}

/// What all the tasks share.
pub(super) struct Filler {
    tenant: Name,
    owner: Name,
    issuer: Name,
    workloads: Vec<Name>,
    access: Vec<Detail>,
    rule: KeyRule,
    callers: Callers,
    /// The tenant's issuer identifier.
    url: String,
    /// When they open and end.
    pub(super) now: Time,
    /// How long the tasks may be open.
    window: Span,
}

impl Filler {
    pub(super) fn new(url: &str, window: Span) -> Result<Self, Failure> {
        let name = |text: &str| text.parse::<Name>().context("an odd name");
        let workloads = (0..WORKLOADS).map(|workload| name(&workload_name(workload)));
        Ok(Self {
            tenant: name(TENANT)?,
            owner: name(OWNER)?,
            issuer: name("github")?,
            workloads: workloads.collect::<Result<_, _>>()?,
            access: vec![detail(&["read"])?, detail(&["read", "publish"])?],
            rule: rule(),
            callers: Callers::new(256)?,
            url: url.to_owned(),
            now: clock::now(),
            window,
        })
    }

    fn id(&self, job: u64) -> TaskId {
        TaskId::new(self.now.millis() + job / 10, random(job))
    }

    /// Opens tasks, with the claims and spent keys of grants.
    pub(super) fn append(&self, jobs: Range<u64>) -> Result<Append, Failure> {
        let mut append = Append {
            now: self.now,
            ..Append::default()
        };
        for job in jobs {
            let id = self.id(job);
            let task = self.opening(job, id)?;
            append.claims.push(ClaimWrite {
                issuer: self.issuer.clone(),
                series: task.next.series.clone(),
                claim: Claim {
                    workload: task.next.workload.clone(),
                    key: task.next.key.clone(),
                    attempt: task.next.attempt,
                    task: id,
                    state: ClaimState::Open,
                },
                replaces: None,
                until: self.now + Span::from_seconds(36 * 86_400),
            });
            append
                .spends
                .extend(["platform", "dpop"].map(|which| self.spend(which, job, id)));
            append.changes.push(task);
        }
        Ok(append)
    }

    /// Ends tasks that [`Self::append`] opened.
    pub(super) fn ends(&self, jobs: Range<u64>) -> Result<Append, Failure> {
        let mut append = self.ended(jobs)?;
        for change in &mut append.changes {
            let before = change.events.len().saturating_sub(1);
            change.events.drain(..before);
            change.expected_version = before as u64;
        }
        Ok(append)
    }

    /// Tasks whose end is recorded with their start: what history holds of them.
    fn ended(&self, jobs: Range<u64>) -> Result<Append, Failure> {
        let mut append = Append {
            now: self.now,
            ..Append::default()
        };
        for job in jobs {
            let id = self.id(job);
            let mut change = self.opening(job, id)?;
            let event = Event::TaskEnded(TaskEnded {
                cause: Cause::Completed,
                at: self.now,
                count: change.next.version + 1,
                by: None,
                last_expiry: change.next.last_expiry(),
            });
            let next = apply(Some(change.next), id, &event);
            change.next = next.context("an end does not fit its task")?;
            change.events.push(Drafted { event, annex: None });
            append.changes.push(change);
        }
        Ok(append)
    }

    /// Tasks that more clients joined, each with credentials of its own.
    fn large(&self, jobs: Range<u64>, size: Large) -> Result<Append, Failure> {
        let mut append = self.append(jobs.clone())?;
        for (change, job) in append.changes.iter_mut().zip(jobs) {
            let mut more = Vec::new();
            for client in 1..=size.clients {
                if client > 1 {
                    more.push(Event::ClientRegistered(self.registered(job, client)?));
                }
                let first = if client > 1 { 1 } else { 2 };
                for credential in first..=size.credentials {
                    more.push(Event::CredentialIssued(
                        self.issued(job, client, credential)?,
                    ));
                }
            }
            let mut next = change.next.clone();
            for event in more {
                next = apply(Some(next), change.task, &event)
                    .context("an event does not fit its task")?;
                change.events.push(Drafted { event, annex: None });
            }
            change.next = next;
        }
        Ok(append)
    }

    fn spend(&self, which: &str, job: u64, task: TaskId) -> Spend {
        Spend {
            key: OneTimeKey {
                digest: digest(which, job),
                at: Time::from_seconds(self.now.seconds()),
                until: self.now + Span::from_seconds(2 * 3600),
            },
            by: Spent { task, client: 1 },
        }
    }

    /// The change that opens a task with one client and one credential.
    fn opening(&self, job: u64, id: TaskId) -> Result<Change, Failure> {
        let [started, registered, issued] = self.events(job)?;
        let annex = Annex {
            salt: [7; 16],
            data: format!(
                r#"{{"claims":{},"entrance":"client_assertion","run_url":null}}"#,
                claims(&self.url, job, self.now.seconds())
            ),
        };
        let mut next: Option<Task> = None;
        for event in [&started, &registered, &issued] {
            let applied = apply(next, id, event);
            next = Some(applied.context("an event does not fit its task")?);
        }
        Ok(Change {
            task: id,
            expected_version: 0,
            events: vec![
                Drafted {
                    event: started,
                    annex: None,
                },
                Drafted {
                    event: registered,
                    annex: Some(annex),
                },
                Drafted {
                    event: issued,
                    annex: None,
                },
            ],
            next: next.context("a task without events")?,
        })
    }

    fn events(&self, job: u64) -> Result<[Event; 3], Failure> {
        let number = job % WORKLOADS;
        let at = usize::try_from(number).context("a number that counts no workload")?;
        let workload = self.workloads.get(at).context("no such workload")?;
        let (repository, run, check) = (repository_id(number), run_id(job), check_run_id(job));
        let named = [
            ("repository_id", repository),
            ("run_id", run),
            ("run_attempt", 1),
            ("check_run_id", check),
        ];
        let named = named.map(|(claim, value)| (claim.to_owned(), value.to_string()));
        let read = self.rule.read(&BTreeMap::from(named));
        let TaskKey {
            key,
            series,
            attempt,
        } = read.map_err(|_| Failure::new("a job without a task key"))?;
        let started = TaskStarted {
            workload: workload.clone(),
            owner: self.owner.clone(),
            issuer: self.issuer.clone(),
            key,
            series,
            attempt,
            subject: None,
            repeat: Repeat::Refuse,
            opened: self.now,
            deadline: self.now + self.window,
            heartbeat: Heartbeat::default(),
            linger: Span::ZERO,
            epochs: self.epochs(workload),
            supersedes: Vec::new(),
        };
        Ok([
            Event::TaskStarted(started),
            Event::ClientRegistered(self.registered(job, 1)?),
            Event::CredentialIssued(self.issued(job, 1, 1)?),
        ])
    }

    fn registered(&self, job: u64, client: u32) -> Result<ClientRegistered, Failure> {
        let (repository, run) = (repository_id(job % WORKLOADS), run_id(job));
        // Each client is another job of the run.
        let check = check_run_id(job) + u64::from(client - 1);
        Ok(ClientRegistered {
            client,
            jkt: Some(Digest(self.callers.thumbprint(job)?.0)),
            jwk: Some(self.callers.jwk(job)?.to_owned()),
            instance: format!(
                "repository_id={repository},run_id={run},run_attempt=1,check_run_id={check}"
            ),
            proof: digest("proof", check),
            request: digest("request", check),
            filled: BTreeMap::new(),
            access: self.access.clone(),
            expires: self.now + self.window,
        })
    }

    fn issued(&self, job: u64, client: u32, credential: u32) -> Result<CredentialIssued, Failure> {
        Ok(CredentialIssued {
            client,
            credential,
            resource: RESOURCE.parse().context("an odd name")?,
            audience: RESOURCE_URL.to_owned(),
            access: self.access.clone(),
            scope: vec!["artifacts:read".to_owned(), "artifacts:publish".to_owned()],
            issued: self.now,
            expires: self.now + self.window.min(Span::from_seconds(1800)),
            jkt: Some(Digest(self.callers.thumbprint(job)?.0)),
            act: Vec::new(),
            may_act: Vec::new(),
            on_behalf_of: None,
            alg: "ES256".to_owned(),
            kid: "aqPFiXQ3b0LMeQ6hMTSQNzWmcSy4zzbvSYNn3OXoz9U".to_owned(),
            hash: digest(&format!("token {client} {credential}"), job),
        })
    }

    fn epochs(&self, workload: &Name) -> Vec<Epoch> {
        [
            EpochOf::Tenant,
            EpochOf::Issuer(self.issuer.clone()),
            EpochOf::Owner(self.owner.clone()),
            EpochOf::Workload(workload.clone()),
        ]
        .map(|of| Epoch { of, at: 0 })
        .into()
    }
}

/// How a job names its task: the rule `task = "job"` of the kind `github`.
fn rule() -> KeyRule {
    let claims = |names: &[&str]| names.iter().map(ToString::to_string).collect();
    KeyRule {
        key: claims(&["repository_id", "run_id", "check_run_id"]),
        series: claims(&["repository_id", "run_id"]),
        attempt: Some("run_attempt".to_owned()),
        hint: String::new(),
    }
}

/// One of the two details that each workload declares.
fn detail(actions: &[&str]) -> Result<Detail, Failure> {
    let set = Field::Set(actions.iter().map(ToString::to_string).collect());
    let path = Field::Path(vec![
        Pattern::declared("octo-repo/*").context("an odd path")?,
    ]);
    Ok(Detail {
        kind: "artifact".to_owned(),
        resource: RESOURCE.parse().context("an odd name")?,
        fields: BTreeMap::from([("actions".to_owned(), set), ("identifier".to_owned(), path)]),
        scope: actions.last().map(|action| format!("artifacts:{action}")),
    })
}

/// A digest that no other thing of a job has.
fn digest(what: &str, job: u64) -> Digest {
    Digest(sha256_of_parts(&[what.as_bytes(), &job.to_be_bytes()]))
}

/// Ten bytes that no other job has and that look drawn at random.
fn random(job: u64) -> [u8; 10] {
    let mut bytes = [0; 10];
    for (to, from) in bytes.iter_mut().zip(digest("id", job).0) {
        *to = from;
    }
    bytes
}
