//! Ends by people at the admin face: of a client, an instance, an owner, a workload, an issuer, the tenant; and blocks set by hand.

use axum::extract::{Path, State};
use dayfly_domain::{BlockOn, ClientId, Name};
use serde::Deserialize;
use serde_json::{Value, json};

use super::Admin;
use super::answer::{Answered, Problem, acknowledged, answer, insert, parsed};
use super::change::{Wanted, checked};
use super::keeper::Caller;
use super::rights::Route;
use crate::app::{Actor, Blocking, Contained, InstanceOf, Stop, Tenant, WouldEnd};

/// How something is to end.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct EndIt {
    #[serde(default)]
    pub(super) dry_run: bool,
    #[serde(default)]
    block: bool,
    #[serde(default)]
    pub(super) reason: String,
}

/// Which instance is to end, and how.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct EndInstance {
    instance: String,
    #[serde(default)]
    issuer: Option<Name>,
    #[serde(default)]
    dry_run: bool,
    #[serde(default)]
    block: bool,
    #[serde(default)]
    reason: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct BlockIt {
    on: String,
    reason: String,
}

pub(super) async fn client(
    State(admin): State<Admin>,
    Path((tenant, client)): Path<(String, String)>,
    by: Actor,
    caller: Caller,
    body: Wanted<EndIt>,
) -> Answered {
    let client: ClientId = parsed("client", &client)?;
    let body = body.0;
    let (dry_run, block) = (body.dry_run, body.block);
    let would = admin
        .read(&tenant, move |app, tenant| {
            let scope = &caller.scope;
            if block {
                // Workloads of other owners may run in the same instance.
                scope.check(tenant.name(), None, Route::ClientEnd)?;
            }
            scope.check_task(app, tenant, client.task, Route::ClientEnd)?;
            Ok(dry_run
                .then(|| app.client_would_end(tenant, client, block))
                .transpose()?)
        })
        .await?;
    if let Some(would) = would {
        return would_end(&client.to_string(), would);
    }
    let reason = checked(&body.reason)?;
    let tenant = admin.tenant(&tenant)?;
    let app = &admin.app;
    let (ended, blocking) = app
        .end_client(&tenant, client, body.block, &by, reason)
        .await?;
    let said = json!({
        "task": ended.task, "client": client, "task_ended": ended.task_ended,
        "cause": ended.cause, "at": ended.at,
        "last_possible_acceptance": ended.last_possible_acceptance, "head": ended.head,
    });
    acknowledged(with_block(said, &blocking), ended.recorded)
}

pub(super) async fn instance(
    State(admin): State<Admin>,
    Path(tenant): Path<String>,
    by: Actor,
    body: Wanted<EndInstance>,
) -> Answered {
    let EndInstance {
        instance,
        issuer,
        dry_run,
        block,
        reason,
    } = body.0;
    let what = InstanceOf { issuer, instance };
    if dry_run {
        let on = what.instance.clone();
        let would = admin.read(&tenant, move |app, tenant| {
            Ok(app.instance_would_end(tenant, &what, block)?)
        });
        return would_end(&on, would.await?);
    }
    let reason = checked(&reason)?;
    let tenant = admin.tenant(&tenant)?;
    let app = &admin.app;
    let ended = app.end_instance(&tenant, &what, block, &by, reason).await?;
    let said = json!({
        "on": what.instance, "clients": ended.clients, "tasks": ended.tasks, "at": ended.at,
        "last_possible_acceptance": ended.last_possible_acceptance, "head": ended.head,
    });
    acknowledged(with_block(said, &ended.block), ended.recorded)
}

/// What was blocked, as far as it is known, and whether the rest is when it is found.
pub(super) fn with_block(mut said: Value, blocking: &Blocking) -> Value {
    if let Some(members) = said.as_object_mut() {
        let on = blocking.on().map(ToString::to_string);
        members.insert("block".to_owned(), on.into());
        let later = match blocking {
            Blocking::Nothing | Blocking::On(_) => None,
            Blocking::WhenFound => Some("block_when_found"),
            Blocking::IfItsOwn => Some("block_if_its_own"),
        };
        members.extend(later.map(|later| (later.to_owned(), true.into())));
    }
    said
}

pub(super) async fn owner(
    State(admin): State<Admin>,
    Path((tenant, owner)): Path<(String, String)>,
    by: Actor,
    caller: Caller,
    body: Wanted<EndIt>,
) -> Answered {
    let owner: Name = parsed("name", &owner)?;
    check_theirs(&admin, &tenant, &caller, &body.0, Route::OwnerEnd, |_| {
        Some(owner.clone())
    })?;
    stop(&admin, &tenant, Contained::Owner(owner), by, body.0).await
}

pub(super) async fn workload(
    State(admin): State<Admin>,
    Path((tenant, workload)): Path<(String, String)>,
    by: Actor,
    caller: Caller,
    body: Wanted<EndIt>,
) -> Answered {
    let workload: Name = parsed("name", &workload)?;
    check_theirs(
        &admin,
        &tenant,
        &caller,
        &body.0,
        Route::WorkloadEnd,
        |tenant| {
            let loaded = tenant.loaded();
            let found = loaded.declared.workloads.get(&workload);
            found.map(|found| found.workload.owner.clone())
        },
    )?;
    stop(&admin, &tenant, Contained::Workload(workload), by, body.0).await
}

pub(super) async fn issuer(
    State(admin): State<Admin>,
    Path((tenant, issuer)): Path<(String, String)>,
    by: Actor,
    body: Wanted<EndIt>,
) -> Answered {
    let issuer: Name = parsed("name", &issuer)?;
    stop(&admin, &tenant, Contained::Issuer(issuer), by, body.0).await
}

pub(super) async fn tenant(
    State(admin): State<Admin>,
    Path(tenant): Path<String>,
    by: Actor,
    body: Wanted<EndIt>,
) -> Answered {
    stop(&admin, &tenant, Contained::Tenant, by, body.0).await
}

pub(super) async fn block(
    State(admin): State<Admin>,
    Path(tenant): Path<String>,
    by: Actor,
    body: Wanted<BlockIt>,
) -> Answered {
    let on: BlockOn = parsed("on", &body.0.on)?;
    let reason = checked(&body.0.reason)?;
    let tenant = admin.tenant(&tenant)?;
    let done = admin.app.set_block(&tenant, on, &by, reason).await?;
    let said = json!({ "on": body.0.on, "applied": !done.already, "since": done.since });
    acknowledged(said, done.recorded)
}

/// Members may end what is their owner's. What keeps it from starting again takes the role.
fn check_theirs(
    admin: &Admin,
    tenant: &str,
    caller: &Caller,
    body: &EndIt,
    route: Route,
    owner: impl FnOnce(&Tenant) -> Option<Name>,
) -> Result<(), Problem> {
    let tenant = admin.tenant(tenant)?;
    let owner = owner(&tenant).filter(|_| !body.block);
    caller.scope.check(tenant.name(), owner.as_ref(), route)
}

async fn stop(admin: &Admin, tenant: &str, what: Contained, by: Actor, body: EndIt) -> Answered {
    let stop = if body.block { Stop::Block } else { Stop::End };
    if body.dry_run {
        return would_stop(admin, tenant, what, stop).await;
    }
    let reason = checked(&body.reason)?;
    let (mut said, recorded) = stopped(admin, tenant, &what, &stop, (&by, reason)).await?;
    insert(
        &mut said,
        "block",
        body.block.then(|| what.block().to_string()).into(),
    );
    acknowledged(said, recorded)
}

/// Stops something; what is said of that, and whether it outlives this process.
pub(super) async fn stopped(
    admin: &Admin,
    tenant: &str,
    what: &Contained,
    stop: &Stop,
    (by, reason): (&Actor, &str),
) -> Result<(Value, bool), Problem> {
    let (app, tenant) = (&admin.app, admin.tenant(tenant)?);
    let done = app.stop(&tenant, what, stop, by, reason).await?;
    let held_at = if done.already { done.since } else { app.now() };
    let parting = app.parting(&tenant, what, held_at);
    let said = json!({
        "on": what.block().to_string(), "applied": !done.already, "since": done.since,
        "ended": done.open, "last_possible_acceptance": parting.last_possible_acceptance,
        "head": parting.head,
    });
    Ok((said, done.recorded))
}

/// What stopping something would take.
pub(super) async fn would_stop(
    admin: &Admin,
    tenant: &str,
    what: Contained,
    stop: Stop,
) -> Answered {
    let on = what.block().to_string();
    let would = admin.read(tenant, move |app, tenant| {
        Ok(app.would_stop(tenant, &what, &stop)?)
    });
    would_end(&on, would.await?)
}

/// The answer to a dry run: what would end, and that nothing has.
pub(super) fn would_end(on: &str, would: WouldEnd) -> Answered {
    let mut said = json!({
        "on": on, "applied": false, "open": would.open, "partly": would.partly,
        "clients": would.clients, "credentials": would.credentials,
        "block": would.block.map(|on| on.to_string()), "since": would.since,
    });
    if let Some((to, workloads)) = would.handed_over {
        insert(&mut said, "to", json!(to));
        insert(&mut said, "handed_over", json!(workloads));
    }
    answer(&said)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_blocked_is_not_said_to_be() {
        let on: BlockOn = "workload:release".parse().unwrap();
        for (blocking, said) in [
            (Blocking::Nothing, json!({ "block": null })),
            (Blocking::On(on), json!({ "block": "workload:release" })),
            (
                Blocking::WhenFound,
                json!({ "block": null, "block_when_found": true }),
            ),
            (
                Blocking::IfItsOwn,
                json!({ "block": null, "block_if_its_own": true }),
            ),
        ] {
            assert_eq!(with_block(json!({}), &blocking), said);
        }
    }
}
