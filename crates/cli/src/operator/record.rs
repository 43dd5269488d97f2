//! The record, wherever it is: behind the socket of a server that runs, or in its database.

use anyhow::{Context, Result, anyhow};
use dayfly_domain::{CredentialId, Name, TaskId, Time};
use dayfly_ledger::Receipt;
use dayfly_server::mint::KeyInfo;
use dayfly_server::record::{
    self, BlockView, Comparison, DecisionView, Filter, Findings, HeadView, LedgerEntry, OwnerView,
    ReachView, Review, TaskPage, TaskView, Trace, TraceKey, TraceQuery, WorkloadView,
};
use dayfly_store::Bundle;
use dayfly_store::clock::{Clock, SystemClock};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::database::Database;
use crate::admin_face::{AdminFace, escaped};

/// Where the record is.
pub(super) enum Record {
    /// A server runs and answers.
    Served(Served),
    /// None does; its database is read.
    Offline(Box<Database>),
}

/// A tenant of a server that runs.
pub(super) struct Served {
    pub(super) face: AdminFace,
    pub(super) tenant: Name,
}

impl Served {
    pub(super) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T> {
        self.face.get(&self.path(path)).await
    }

    pub(super) async fn post<T: DeserializeOwned>(&self, path: &str, body: &Value) -> Result<T> {
        self.face.post(&self.path(path), body).await
    }

    fn path(&self, path: &str) -> String {
        format!("/admin/{}/{path}", self.tenant)
    }
}

/// A bundle as a server tells it.
#[derive(Deserialize)]
struct BundleText {
    bundle: String,
}

/// Now, by the clock of this machine.
pub(super) fn now() -> Time {
    SystemClock.now()
}

/// Parameters of a query, those that are there.
#[derive(Default)]
struct Query(String);

impl Query {
    fn with(mut self, name: &str, value: Option<impl ToString>) -> Self {
        if let Some(value) = value {
            self.0.push(if self.0.is_empty() { '?' } else { '&' });
            self.0.push_str(name);
            self.0.push('=');
            self.0.push_str(&escaped(&value.to_string()));
        }
        self
    }

    fn flag(self, name: &str, set: bool) -> Self {
        self.with(name, set.then_some(1))
    }
}

impl Record {
    pub(super) async fn task(&self, id: TaskId) -> Result<TaskView> {
        match self {
            Self::Served(served) => served.get(&format!("tasks/{id}")).await,
            Self::Offline(database) => database
                .read(|store, tenant| record::task_record(store, tenant, id))?
                .with_context(|| unknown_task(id)),
        }
    }

    pub(super) async fn tasks(
        &self,
        filter: &Filter,
        cursor: Option<&str>,
        limit: usize,
    ) -> Result<TaskPage> {
        match self {
            Self::Served(served) => {
                let query = Query::default()
                    .with("workload", filter.workload.as_ref())
                    .with("owner", filter.owner.as_ref())
                    .flag("ended", filter.ended)
                    .with("cursor", cursor)
                    .with("limit", Some(limit));
                served.get(&format!("tasks{}", query.0)).await
            }
            Self::Offline(database) => {
                database.read(|store, tenant| record::tasks(store, tenant, filter, cursor, limit))
            }
        }
    }

    pub(super) async fn trace(
        &self,
        key: &TraceKey,
        since: Option<Time>,
        until: Option<Time>,
    ) -> Result<Trace> {
        match self {
            Self::Served(served) => {
                let query = Query::default()
                    .with("key", Some(key))
                    .with("since", since.map(Time::millis))
                    .with("until", until.map(Time::millis));
                served.get(&format!("trace{}", query.0)).await
            }
            Self::Offline(database) => {
                let query = TraceQuery {
                    key: key.clone(),
                    since,
                    until,
                    now: database.now(),
                };
                let known = database.known();
                database.read(|store, tenant| record::trace(store, tenant, &known, &query))
            }
        }
    }

    pub(super) async fn reach(
        &self,
        resource: &str,
        after: Option<TaskId>,
        limit: usize,
    ) -> Result<ReachView> {
        match self {
            Self::Served(served) => {
                let query = Query::default()
                    .with("resource", Some(resource))
                    .with("after", after)
                    .with("limit", Some(limit));
                served.get(&format!("reach{}", query.0)).await
            }
            Self::Offline(database) => {
                let declared = database.must_declare()?;
                let (asked, page) = ((resource, database.now()), (after, limit));
                let view = database
                    .read(|store, tenant| record::reach(store, tenant, &declared, asked, page))?;
                view.with_context(|| format!("no resource is declared as `{resource}`"))
            }
        }
    }

    pub(super) async fn receipt(&self, id: TaskId, with_annex: bool) -> Result<Receipt> {
        match self {
            Self::Served(served) => {
                let query = Query::default().flag("annex", with_annex);
                served.get(&format!("receipt/{id}{}", query.0)).await
            }
            Self::Offline(database) => database
                .receipt(id, with_annex)
                .await?
                .with_context(|| unknown_task(id)),
        }
    }

    pub(super) async fn head(&self) -> Result<HeadView> {
        match self {
            Self::Served(served) => served.get("ledger/head").await,
            Self::Offline(database) => database.head().await,
        }
    }

    pub(super) async fn compare(&self, held: &str) -> Result<Comparison> {
        match self {
            Self::Served(served) => served.post("ledger/verify", &json!({ "head": held })).await,
            Self::Offline(database) => database.compare(held).await,
        }
    }

    pub(super) async fn entries(&self, from: u64, limit: usize) -> Result<Vec<LedgerEntry>> {
        match self {
            Self::Served(served) => {
                let query = Query::default()
                    .with("from", Some(from))
                    .with("limit", Some(limit));
                served.get(&format!("ledger/entries{}", query.0)).await
            }
            Self::Offline(database) => {
                let now = database.now();
                database.read(|store, tenant| record::entries(store, tenant, from, limit, now))
            }
        }
    }

    /// The entries of the tile that begins at a position, as far as a head covers them, as a bundle
    /// that nobody has checked yet.
    pub(super) async fn bundle(
        &self,
        head: &HeadView,
        first: u64,
        annexes: bool,
    ) -> Result<Bundle> {
        match self {
            Self::Served(served) => {
                let query = Query::default()
                    .with("head", Some(&head.note))
                    .flag("annex", annexes);
                let path = format!("ledger/bundles/{first}{}", query.0);
                let BundleText { bundle } = served.get(&path).await?;
                Bundle::parse(&bundle).map_err(|why| anyhow!("the server's bundle: {why}"))
            }
            Self::Offline(database) => database
                .read(|store, tenant| {
                    record::bundle(store, tenant, &head.origin, &head.note, first, annexes)
                })?
                .with_context(|| format!("the head covers no entry from position {first} on")),
        }
    }

    /// The tenant.
    pub(super) fn tenant(&self) -> &Name {
        match self {
            Self::Served(served) => &served.tenant,
            Self::Offline(database) => database.tenant(),
        }
    }

    pub(super) async fn keys(&self) -> Result<Vec<KeyInfo>> {
        match self {
            Self::Served(served) => served.get("keys").await,
            Self::Offline(database) => database.read(record::keys),
        }
    }

    pub(super) async fn decisions(
        &self,
        task: TaskId,
        credential: Option<CredentialId>,
    ) -> Result<Vec<DecisionView>> {
        match self {
            Self::Served(served) => {
                let id = credential.map_or_else(|| task.to_string(), |id| id.to_string());
                served.get(&format!("policy/decisions/{id}")).await
            }
            Self::Offline(database) => {
                database.read(|store, tenant| record::decisions(store, tenant, task, credential))
            }
        }
    }

    pub(super) async fn blocks(&self) -> Result<Vec<BlockView>> {
        match self {
            Self::Served(served) => served.get("blocks").await,
            Self::Offline(database) => database.read(record::blocks),
        }
    }

    pub(super) async fn findings(&self, all: bool) -> Result<Findings> {
        match self {
            Self::Served(served) => {
                let query = Query::default().flag("all", all);
                served.get(&format!("findings{}", query.0)).await
            }
            Self::Offline(database) => {
                database.read(|store, tenant| record::findings(store, tenant, all))
            }
        }
    }

    pub(super) async fn review(&self, owner: &Name, since: Time) -> Result<Review> {
        match self {
            Self::Served(served) => {
                let query = Query::default().with("since", Some(since.millis()));
                served
                    .get(&format!("owners/{owner}/review{}", query.0))
                    .await
            }
            Self::Offline(database) => {
                let declared = database.must_declare()?;
                let span = (since, database.now());
                database
                    .read(|store, tenant| {
                        let of = (&declared, record::in_force(store, tenant)?);
                        record::review(store, tenant, of, owner, span)
                    })?
                    .with_context(|| format!("no owner is declared as `{owner}`"))
            }
        }
    }

    pub(super) async fn owners(&self) -> Result<Vec<OwnerView>> {
        match self {
            Self::Served(served) => served.get("owners").await,
            Self::Offline(database) => {
                let declared = database.must_declare()?;
                database.read(|store, tenant| record::owners(store, tenant, &declared))
            }
        }
    }

    pub(super) async fn workloads(&self) -> Result<Vec<WorkloadView>> {
        match self {
            Self::Served(served) => served.get("workloads").await,
            Self::Offline(database) => {
                let declared = database.must_declare()?;
                database.read(|store, tenant| record::workloads(store, tenant, &declared))
            }
        }
    }

    /// How many entries the ledger has, which takes no key.
    pub(super) async fn size(&self) -> Result<u64> {
        match self {
            Self::Served(served) => Ok(served.get::<HeadView>("ledger/head").await?.size),
            Self::Offline(database) => Ok(database.store().head(database.tenant())?.size),
        }
    }
}

fn unknown_task(id: TaskId) -> String {
    format!("no entry of this ledger names {id}")
}
