//! The admin face, on a socket of this machine and for operators from elsewhere: health, the record, and what is changed by hand.

mod answer;
mod change;
mod contain;
mod ends;
mod findings;
mod keeper;
mod keys;
mod open;
mod query;
mod review;
mod rights;
mod socket;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use axum::routing::get;
use dayfly_domain::{CredentialId, Name, RefusalId, TaskId};
use dayfly_store::BUNDLE_ENTRIES;
use serde_json::json;

use super::answer::json_response;
use crate::app::{App, Explained, Tenant};
use crate::policy::Hypothetical;
use crate::record::{self, Filter, HeadView, Known, RecordError, TraceKey, TraceQuery};

pub use answer::Problem;
pub use open::{Remote, metrics, remote};
pub use socket::{AdminSocket, BindError, Peer, SOCKET};

use answer::{Answered, answer, parsed};
use keeper::{Caller, Keeper};
use query::Query;
use rights::{Route, guarded};

/// Says whether the server is ready.
pub type Ready = Arc<dyn Fn() -> Readiness + Send + Sync>;

/// What somebody should look at, and whether the server is ready in spite of it: a line each.
#[derive(Clone, Debug, Default)]
pub struct Readiness {
    /// What keeps it from being ready; none when it is.
    pub reasons: Vec<String>,
    /// What does not yet.
    pub warnings: Vec<String>,
}

/// What every handler of this face has.
#[derive(Clone)]
pub(super) struct Admin {
    app: Arc<App>,
    ready: Ready,
}

/// The admin face on the socket. Whoever reaches it may do everything, so it is served where only
/// the operator gets: on an [`AdminSocket`], which also tells the user id of the peer.
pub fn router(app: Arc<App>, ready: Ready) -> Router {
    Router::new()
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .merge(guarded(&Keeper::Socket))
        .with_state(Admin { app, ready })
}

impl Admin {
    fn tenant(&self, name: &str) -> Result<Arc<Tenant>, Problem> {
        match self.app.tenant(name) {
            Some(tenant) => Ok(Arc::clone(tenant)),
            None => Err(Problem::NotFound(format!("no tenant is called `{name}`"))),
        }
    }

    /// Reads the record on a thread that may wait for the disk.
    async fn read<T: Send + 'static>(
        &self,
        tenant: &str,
        read: impl FnOnce(&App, &Tenant) -> Result<T, Problem> + Send + 'static,
    ) -> Result<T, Problem> {
        let tenant = self.tenant(tenant)?;
        let app = Arc::clone(&self.app);
        tokio::task::spawn_blocking(move || read(&app, &tenant))
            .await
            .map_err(|why| Problem::Fault(why.to_string()))?
    }
}

async fn healthz() -> Response {
    json_response(StatusCode::OK, r#"{"status":"ok"}"#)
}

async fn readyz(State(admin): State<Admin>) -> Response {
    let Readiness { reasons, warnings } = (admin.ready)();
    let ready = reasons.is_empty();
    let status = if ready {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    json_response(
        status,
        json!({ "ready": ready, "reasons": reasons, "warnings": warnings }).to_string(),
    )
}

async fn tenants(State(admin): State<Admin>, caller: Caller) -> Response {
    let tenants: Vec<_> = admin
        .app
        .tenants()
        .filter(|tenant| caller.scope.holds_tenant(tenant.name()))
        .map(|tenant| {
            json!({ "tenant": tenant.name(), "issuer": tenant.issuer(), "origin": tenant.origin() })
        })
        .collect();
    json_response(StatusCode::OK, json!({ "tenants": tenants }).to_string())
}

async fn tasks(State(admin): State<Admin>, Path(tenant): Path<String>, query: Query) -> Answered {
    let filter = Filter {
        workload: query.parsed("workload")?,
        owner: query.parsed("owner")?,
        ended: query.flag("ended"),
    };
    let limit = query.limit(100, 1000)?;
    let page = admin
        .read(&tenant, move |app, tenant| {
            let cursor = query.text("cursor");
            Ok(record::tasks(
                app.store(),
                tenant.name(),
                &filter,
                cursor,
                limit,
            )?)
        })
        .await?;
    answer(&page)
}

async fn task(
    State(admin): State<Admin>,
    Path((tenant, task)): Path<(String, String)>,
    caller: Caller,
) -> Answered {
    let id: TaskId = parsed("task", &task)?;
    let view = admin
        .read(&tenant, move |app, tenant| {
            let mut view = record::task_record(app.store(), tenant.name(), id)?;
            let owner = view.as_ref().map(|view| &view.owner);
            caller.scope.check(tenant.name(), owner, Route::Task)?;
            if let Some(view) = &mut view {
                caller.scope.withhold_of_task(app, tenant, view)?;
            }
            Ok(view)
        })
        .await?;
    answer(&view.ok_or_else(|| unknown_task(id))?)
}

async fn why(
    State(admin): State<Admin>,
    Path((tenant, refusal)): Path<(String, String)>,
    caller: Caller,
) -> Answered {
    let id: RefusalId = parsed("refusal", &refusal)?;
    let explained = admin
        .read(&tenant, move |app, tenant| {
            let found = app.why(id).filter(|found| found.tenant == *tenant.name());
            let owner = match &found {
                Some(found) => owner_of(app, tenant, found)?,
                None => None,
            };
            let scope = &caller.scope;
            scope.check(tenant.name(), owner.as_ref(), Route::Why)?;
            Ok(found)
        })
        .await?;
    match explained {
        Some(explained) => answer(explained.as_ref()),
        None => Err(Problem::NotFound(format!(
            "this server remembers no refusal {id}: it keeps the latest ones only, and none over a restart"
        ))),
    }
}

/// The owner that a refusal concerns: of its task, or of the workload that the proof matched, as
/// it is declared now.
fn owner_of(app: &App, tenant: &Tenant, explained: &Explained) -> Result<Option<Name>, Problem> {
    if let Some(task) = explained.trail.task
        && let Some(found) = record::task_record(app.store(), tenant.name(), task)?
    {
        return Ok(Some(found.owner));
    }
    let loaded = tenant.loaded();
    let workload = explained.trail.workload.as_ref();
    let found = workload.and_then(|name| loaded.declared.workloads.get(name));
    Ok(found.map(|found| found.workload.owner.clone()))
}

async fn trace(
    State(admin): State<Admin>,
    Path(tenant): Path<String>,
    caller: Caller,
    query: Query,
) -> Answered {
    let key: TraceKey = query.required("key")?;
    let (since, until) = (query.time("since")?, query.time("until")?);
    let trace = admin
        .read(&tenant, move |app, tenant| {
            let query = TraceQuery {
                key,
                since,
                until,
                now: app.now(),
            };
            let known = known(tenant);
            let mut trace = record::trace(app.store(), tenant.name(), &known, &query)?;
            let scope = &caller.scope;
            scope.check_trace(tenant.name(), &query.key, &mut trace)?;
            scope.withhold(app, tenant, &mut trace)?;
            Ok(trace)
        })
        .await?;
    answer(&trace)
}

/// How many tasks a reach shows where it is not said.
const REACHED: usize = 200;

async fn reach(State(admin): State<Admin>, Path(tenant): Path<String>, query: Query) -> Answered {
    let resource: String = query.required("resource")?;
    let after: Option<TaskId> = query.parsed("after")?;
    let limit = query.limit(REACHED, 1000)?;
    let view = admin
        .read(&tenant, move |app, tenant| {
            let loaded = tenant.loaded();
            let view = record::reach(
                app.store(),
                tenant.name(),
                &loaded.declared,
                (&resource, app.now()),
                (after, limit),
            )?;
            view.ok_or_else(|| {
                Problem::NotFound(format!("no resource is declared as `{resource}`"))
            })
        })
        .await?;
    answer(&view)
}

async fn receipt(
    State(admin): State<Admin>,
    Path((tenant, task)): Path<(String, String)>,
    query: Query,
) -> Answered {
    let id: TaskId = parsed("task", &task)?;
    let with_annex = query.flag("annex");
    let receipt = admin
        .read(&tenant, move |app, tenant| {
            let head = app.head_note(tenant)?;
            let origin = tenant.origin();
            Ok(record::receipt(
                app.store(),
                tenant.name(),
                origin,
                &head,
                id,
                with_annex,
            )?)
        })
        .await?;
    answer(&receipt.ok_or_else(|| unknown_task(id))?)
}

async fn head(State(admin): State<Admin>, Path(tenant): Path<String>) -> Answered {
    answer(&admin.read(&tenant, present_head).await?)
}

async fn entries(State(admin): State<Admin>, Path(tenant): Path<String>, query: Query) -> Answered {
    let from = query.parsed("from")?.unwrap_or(0);
    let limit = query.limit(100, 1000)?;
    let entries = admin
        .read(&tenant, move |app, tenant| {
            Ok(record::entries(
                app.store(),
                tenant.name(),
                from,
                limit,
                app.now(),
            )?)
        })
        .await?;
    answer(&entries)
}

/// Entries of one tile as the text of a bundle, proven by a head that the caller has of this server.
async fn bundle(
    State(admin): State<Admin>,
    Path((tenant, first)): Path<(String, String)>,
    query: Query,
) -> Answered {
    let first: u64 = parsed("first", &first)?;
    let head: String = query.required("head")?;
    let with_annex = query.flag("annex");
    if !first.is_multiple_of(BUNDLE_ENTRIES) {
        return Err(Problem::Wrong(format!(
            "`first` is {first}: a bundle begins at a multiple of {BUNDLE_ENTRIES}"
        )));
    }
    let bundle = admin
        .read(&tenant, move |app, tenant| {
            let (store, origin) = (app.store(), tenant.origin());
            let found = record::bundle(store, tenant.name(), origin, &head, first, with_annex);
            let found = found.map_err(|why| match why {
                RecordError::Head(_) => Problem::Wrong("`head` is no head".to_owned()),
                RecordError::Store(_)
                | RecordError::Damaged { .. }
                | RecordError::Tree(_)
                | RecordError::Cursor(_) => why.into(),
            })?;
            let bundle = found.ok_or_else(|| {
                Problem::NotFound(format!(
                    "that head covers no entry of this ledger from position {first} on"
                ))
            })?;
            bundle.to_text().map_err(Problem::Fault)
        })
        .await?;
    answer(&json!({ "bundle": bundle }))
}

async fn verify(
    State(admin): State<Admin>,
    Path(tenant): Path<String>,
    body: change::Wanted<change::EarlierHead>,
) -> Answered {
    let comparison = admin
        .read(&tenant, move |app, tenant| {
            let present = present_head(app, tenant)?;
            Ok(record::compare(
                app.store(),
                tenant.name(),
                &body.0.head,
                present,
                &tenant.keyring().ledger_keys(),
            )?)
        })
        .await?;
    answer(&comparison)
}

async fn blocks(State(admin): State<Admin>, Path(tenant): Path<String>) -> Answered {
    let blocks = admin
        .read(&tenant, |app, tenant| {
            Ok(record::blocks(app.store(), tenant.name())?)
        })
        .await?;
    answer(&blocks)
}

/// What the policies in force would say of a request that nobody made.
async fn explain(
    State(admin): State<Admin>,
    Path(tenant): Path<String>,
    body: change::Wanted<Hypothetical>,
) -> Answered {
    let tenant = admin.tenant(&tenant)?;
    let loaded = tenant.loaded();
    let mut asked = body.0;
    let counts = admin.app.counts_of(&tenant, &asked.workload)?;
    asked.open_tasks.get_or_insert(counts.open);
    asked
        .starts_last_hour
        .get_or_insert(counts.starts_last_hour);
    let said = asked
        .ask(&loaded.policies, &loaded.declared, admin.app.now())
        .map_err(Problem::Wrong)?;
    answer(&said)
}

async fn decisions(
    State(admin): State<Admin>,
    Path((tenant, id)): Path<(String, String)>,
) -> Answered {
    let (task, credential) = match id.parse::<CredentialId>() {
        Ok(credential) => (credential.client.task, Some(credential)),
        Err(_) => (parsed("id", &id)?, None),
    };
    let found = admin
        .read(&tenant, move |app, tenant| {
            Ok(record::decisions(
                app.store(),
                tenant.name(),
                task,
                credential,
            )?)
        })
        .await?;
    answer(&found)
}

fn present_head(app: &App, tenant: &Tenant) -> Result<HeadView, Problem> {
    let note = app.head_note(tenant)?;
    Ok(record::head_view(&note, &tenant.keyring().ledger_keys())?)
}

/// The names of the URLs that the tenant declares.
fn known(tenant: &Tenant) -> Known {
    let loaded = tenant.loaded();
    Known::of(&loaded.declared)
}

fn unknown_task(id: TaskId) -> Problem {
    Problem::NotFound(format!("no entry of this ledger names {id}"))
}
