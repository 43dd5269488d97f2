//! The admin face, on a socket of this machine: health, the record, and what an operator changes.

mod answer;
mod change;
mod contain;
mod keys;
mod open;
mod query;
mod socket;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use axum::routing::{get, post};
use dayfly_domain::{CredentialId, RefusalId, TaskId};
use serde_json::json;

use super::answer::json_response;
use crate::app::{App, Tenant};
use crate::policy::Hypothetical;
use crate::record::{self, Filter, HeadView, Known, TraceKey, TraceQuery};

pub use answer::Problem;
pub use open::{metrics, remote};
pub use socket::{AdminSocket, BindError, Peer, SOCKET};

use answer::{Answered, answer, parsed};
use query::Query;

/// What keeps the server from being ready, a reason each; none when it is.
pub type Readiness = Arc<dyn Fn() -> Vec<String> + Send + Sync>;

/// What every handler of this face has.
#[derive(Clone)]
pub(super) struct Admin {
    app: Arc<App>,
    ready: Readiness,
}

/// The admin face. Whoever reaches it may do everything, so it is served where only the operator
/// gets: on an [`AdminSocket`], which also tells the user id of the peer.
pub fn router(app: Arc<App>, ready: Readiness) -> Router {
    let tenant = Router::new()
        .route("/tasks", get(tasks))
        .route("/tasks/{task}", get(task))
        .route("/tasks/{task}/end", post(change::end))
        .route("/why/{refusal}", get(why))
        .route("/trace", get(trace))
        .route("/receipt/{task}", get(receipt))
        .route("/ledger/head", get(head))
        .route("/ledger/entries", get(entries))
        .route("/ledger/verify", post(verify))
        .route("/ledger/erase", post(change::erase))
        .route("/keys", get(keys::list))
        .route("/keys/rotate", post(keys::rotate))
        .route("/keys/compromise", post(keys::compromise))
        .route("/blocks", get(blocks))
        .route("/unblock", post(change::unblock))
        .route("/owners", get(contain::owners))
        .route("/owners/{name}/offboard", post(contain::offboard))
        .route("/owners/{name}/restore", post(contain::restore))
        .route("/workloads", get(contain::workloads))
        .route("/workloads/{name}/disable", post(contain::disable))
        .route("/workloads/{name}/enable", post(contain::enable))
        .route("/freeze", post(contain::freeze))
        .route("/unfreeze", post(contain::unfreeze))
        .route("/apply", post(change::apply))
        .route("/policy/explain", post(explain))
        .route("/policy/decisions/{id}", get(decisions));
    Router::new()
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .route("/admin", get(tenants))
        .nest("/admin/{tenant}", tenant)
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
    let reasons = (admin.ready)();
    let ready = reasons.is_empty();
    let status = if ready {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    json_response(
        status,
        json!({ "ready": ready, "reasons": reasons }).to_string(),
    )
}

async fn tenants(State(admin): State<Admin>) -> Response {
    let tenants: Vec<_> = admin
        .app
        .tenants()
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
) -> Answered {
    let id: TaskId = parsed("task", &task)?;
    let view = admin
        .read(&tenant, move |app, tenant| {
            Ok(record::task_record(app.store(), tenant.name(), id)?)
        })
        .await?;
    answer(&view.ok_or_else(|| unknown_task(id))?)
}

async fn why(
    State(admin): State<Admin>,
    Path((tenant, refusal)): Path<(String, String)>,
) -> Answered {
    let id: RefusalId = parsed("refusal", &refusal)?;
    let tenant = admin.tenant(&tenant)?;
    let explained = admin
        .app
        .why(id)
        .filter(|found| found.tenant == *tenant.name());
    match explained {
        Some(explained) => answer(explained.as_ref()),
        None => Err(Problem::NotFound(format!(
            "this server remembers no refusal {id}: it keeps the latest ones only, and none over a restart"
        ))),
    }
}

async fn trace(State(admin): State<Admin>, Path(tenant): Path<String>, query: Query) -> Answered {
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
            Ok(record::trace(
                app.store(),
                tenant.name(),
                &known(tenant),
                &query,
            )?)
        })
        .await?;
    answer(&trace)
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
