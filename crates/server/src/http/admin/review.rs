//! Reviews at the admin face: what an owner's workloads may do and did, and that somebody looked.

use axum::extract::{Path, State};
use dayfly_domain::{Digest, Name, Span, Time};
use serde::Deserialize;
use serde_json::json;

use super::Admin;
use super::answer::{Answered, Problem, answer, parsed};
use super::change::{Wanted, checked};
use super::keeper::Caller;
use super::query::Query;
use super::rights::Route;
use crate::app::{Actor, SignedOff};
use crate::record::{self, Review};

/// How far back a review goes unless it is said.
const SPAN: Span = Span::from_seconds(90 * 86_400);

/// What was looked at, and why it is in order.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Sign {
    /// From when on.
    since: Time,
    /// The declared state that was looked at, and its revision: who answers for what changes with
    /// the revision alone.
    hash: Digest,
    revision: u64,
    reason: String,
}

pub(super) async fn show(
    State(admin): State<Admin>,
    Path((tenant, owner)): Path<(String, String)>,
    caller: Caller,
    query: Query,
) -> Answered {
    let owner: Name = parsed("name", &owner)?;
    let since = query.time("since")?;
    answer(&read(&admin, &tenant, owner, since, (caller, Route::Review)).await?)
}

pub(super) async fn sign(
    State(admin): State<Admin>,
    Path((tenant, owner)): Path<(String, String)>,
    by: Actor,
    caller: Caller,
    body: Wanted<Sign>,
) -> Answered {
    let Sign {
        since,
        hash,
        revision,
        reason,
    } = body.0;
    let reason = checked(&reason)?;
    let owner: Name = parsed("name", &owner)?;
    let member = !caller.scope.holds_all();
    let asks = (caller, Route::ReviewSign);
    let review = read(&admin, &tenant, owner, Some(since), asks).await?;
    if (review.revision, review.hash) != (revision, hash) {
        return Err(changed());
    }
    let tenant = admin.tenant(&tenant)?;
    let app = &admin.app;
    match app.sign_off(&tenant, &review, member, &by, reason).await? {
        SignedOff::Signed(signed) => answer(&json!({
            "owner": review.owner, "at": signed.at, "revision": signed.revision,
            "hash": signed.hash, "member": member,
        })),
        SignedOff::Changed => Err(changed()),
    }
}

fn changed() -> Problem {
    let message = "the declared state has changed since it was reviewed: review it again";
    Problem::Conflict(message.to_owned())
}

async fn read(
    admin: &Admin,
    tenant: &str,
    owner: Name,
    since: Option<Time>,
    (caller, route): (Caller, Route),
) -> Result<Review, Problem> {
    let read = move |app: &crate::app::App, tenant: &crate::app::Tenant| {
        caller.scope.check(tenant.name(), Some(&owner), route)?;
        let now = app.now();
        let span = (since.unwrap_or(now - SPAN), now);
        let loaded = tenant.loaded();
        let of = (&*loaded.declared, (loaded.revision, loaded.source.hash()));
        let review = record::review(app.store(), tenant.name(), of, &owner, span)?;
        review.ok_or_else(|| Problem::NotFound(format!("no owner is declared as `{owner}`")))
    };
    admin.read(tenant, read).await
}
