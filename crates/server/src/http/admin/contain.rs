//! Containment at the admin face: owners, workloads and the tenant, stopped at once and lifted again.

use axum::extract::{Path, State};
use dayfly_domain::Name;
use serde::Deserialize;
use serde_json::json;

use super::Admin;
use super::answer::{Answered, acknowledged, answer, insert, parsed};
use super::change::{Wanted, checked};
use super::ends::{stopped, would_stop};
use crate::app::{Actor, Contained, Stop};
use crate::record;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Contain {
    #[serde(default)]
    dry_run: bool,
    #[serde(default)]
    reason: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Offboard {
    /// Who answers for its workloads from then on.
    #[serde(default)]
    to: Option<Name>,
    #[serde(default)]
    dry_run: bool,
    #[serde(default)]
    reason: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Lift {
    reason: String,
}

pub(super) async fn owners(State(admin): State<Admin>, Path(tenant): Path<String>) -> Answered {
    let owners = admin.read(&tenant, |app, tenant| {
        Ok(record::owners(
            app.store(),
            tenant.name(),
            &tenant.loaded().declared,
        )?)
    });
    answer(&owners.await?)
}

pub(super) async fn workloads(State(admin): State<Admin>, Path(tenant): Path<String>) -> Answered {
    let workloads = admin.read(&tenant, |app, tenant| {
        Ok(record::workloads(
            app.store(),
            tenant.name(),
            &tenant.loaded().declared,
        )?)
    });
    answer(&workloads.await?)
}

pub(super) async fn offboard(
    State(admin): State<Admin>,
    Path((tenant, owner)): Path<(String, String)>,
    by: Actor,
    body: Wanted<Offboard>,
) -> Answered {
    let Offboard {
        to,
        dry_run,
        reason,
    } = body.0;
    let stop = to.map_or(Stop::Block, Stop::HandOver);
    let what = Contained::Owner(named(&owner)?);
    contain(
        &admin,
        &tenant,
        (what, stop),
        by,
        Contain { dry_run, reason },
    )
    .await
}

pub(super) async fn restore(
    State(admin): State<Admin>,
    Path((tenant, owner)): Path<(String, String)>,
    by: Actor,
    body: Wanted<Lift>,
) -> Answered {
    lift(
        &admin,
        &tenant,
        &Contained::Owner(named(&owner)?),
        by,
        body.0,
    )
    .await
}

pub(super) async fn disable(
    State(admin): State<Admin>,
    Path((tenant, workload)): Path<(String, String)>,
    by: Actor,
    body: Wanted<Contain>,
) -> Answered {
    contain(
        &admin,
        &tenant,
        (Contained::Workload(named(&workload)?), Stop::Block),
        by,
        body.0,
    )
    .await
}

pub(super) async fn enable(
    State(admin): State<Admin>,
    Path((tenant, workload)): Path<(String, String)>,
    by: Actor,
    body: Wanted<Lift>,
) -> Answered {
    lift(
        &admin,
        &tenant,
        &Contained::Workload(named(&workload)?),
        by,
        body.0,
    )
    .await
}

pub(super) async fn freeze(
    State(admin): State<Admin>,
    Path(tenant): Path<String>,
    by: Actor,
    body: Wanted<Contain>,
) -> Answered {
    contain(
        &admin,
        &tenant,
        (Contained::Tenant, Stop::Block),
        by,
        body.0,
    )
    .await
}

pub(super) async fn unfreeze(
    State(admin): State<Admin>,
    Path(tenant): Path<String>,
    by: Actor,
    body: Wanted<Lift>,
) -> Answered {
    lift(&admin, &tenant, &Contained::Tenant, by, body.0).await
}

async fn contain(
    admin: &Admin,
    tenant: &str,
    (what, stop): (Contained, Stop),
    by: Actor,
    body: Contain,
) -> Answered {
    if body.dry_run {
        return would_stop(admin, tenant, what, stop).await;
    }
    let reason = checked(&body.reason)?;
    let to = match &stop {
        Stop::HandOver(to) => Some(to.clone()),
        Stop::Block | Stop::End => None,
    };
    let (mut said, recorded) = stopped(admin, tenant, &what, &stop, (&by, reason)).await?;
    insert(&mut said, "to", json!(to));
    acknowledged(said, recorded)
}

async fn lift(admin: &Admin, tenant: &str, what: &Contained, by: Actor, body: Lift) -> Answered {
    let reason = checked(&body.reason)?;
    let tenant = admin.tenant(tenant)?;
    admin.app.lift(&tenant, what, &by, reason).await?;
    answer(&json!({ "on": what.block().to_string() }))
}

fn named(name: &str) -> Result<Name, super::Problem> {
    parsed("name", name)
}
