//! What an operator changes: each change names a reason, and is recorded with it and who made it.

use std::collections::{BTreeMap, BTreeSet};

use axum::body::Bytes;
use axum::extract::{FromRequest, Path, Request, State};
use dayfly_domain::{BlockOn, TaskId};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::json;

use super::Admin;
use super::answer::{Answered, Problem, acknowledged, answer, parsed};
use super::ends::{EndIt, with_block, would_end};
use super::keeper::Caller;
use super::rights::Route;
use crate::app::{Actor, ApplyRequest, Erasure};

/// The most bytes of a body: a signed note is 64 KiB at most, and JSON escapes some of them.
const BODY: usize = 128 * 1024;
/// The longest reason, which has to fit into an annex beside who gave it.
const REASON: usize = 2048;

/// A body in its own type.
pub(super) struct Wanted<T>(pub(super) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Wanted<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, _state: &S) -> Result<Self, Problem> {
        let body: Bytes = axum::body::to_bytes(request.into_body(), BODY)
            .await
            .map_err(|_| Problem::Wrong(format!("the body has more than {BODY} bytes")))?;
        serde_json::from_slice(&body)
            .map(Self)
            .map_err(|why| Problem::Wrong(format!("the body is not what is expected here: {why}")))
    }
}

/// An earlier head to compare with.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct EarlierHead {
    /// The signed note.
    pub(super) head: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Decide {
    reason: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Unblock {
    on: String,
    reason: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Apply {
    #[serde(default)]
    dry_run: bool,
    #[serde(default)]
    ends: Option<u64>,
    #[serde(default)]
    undo: bool,
    #[serde(default)]
    reason: String,
}

pub(super) async fn end(
    State(admin): State<Admin>,
    Path((tenant, task)): Path<(String, String)>,
    by: Actor,
    caller: Caller,
    body: Wanted<EndIt>,
) -> Answered {
    let task: TaskId = parsed("task", &task)?;
    let dry_run = body.0.dry_run;
    let reason = if dry_run {
        ""
    } else {
        checked(&body.0.reason)?
    };
    let would = admin
        .read(&tenant, move |app, tenant| {
            caller.scope.check_task(app, tenant, task, Route::TaskEnd)?;
            Ok(dry_run
                .then(|| app.task_would_end(tenant, task))
                .transpose()?)
        })
        .await?;
    if let Some(would) = would {
        return would_end(&task.to_string(), would);
    }
    let tenant = admin.tenant(&tenant)?;
    // Its series is blocked, whether that is said or not (DESIGN section 3).
    let ended = admin.app.operator_end(&tenant, task, &by, reason).await?;
    let said = json!({
        "task": ended.task, "cause": ended.cause, "at": ended.at,
        "last_possible_acceptance": ended.last_possible_acceptance, "head": ended.head,
    });
    acknowledged(with_block(said, &ended.block), ended.recorded)
}

pub(super) async fn approve(
    State(admin): State<Admin>,
    Path((tenant, task)): Path<(String, String)>,
    by: Actor,
    caller: Caller,
    body: Wanted<Decide>,
) -> Answered {
    let task: TaskId = parsed("task", &task)?;
    let reason = checked(&body.0.reason)?;
    admin
        .read(&tenant, move |app, tenant| {
            caller
                .scope
                .check_task(app, tenant, task, Route::TaskApprove)
        })
        .await?;
    let tenant = admin.tenant(&tenant)?;
    let approved = admin.app.approve(&tenant, task, &by, reason).await?;
    answer(&json!({
        "task": approved.task, "people": approved.people, "approvals": approved.approvals,
        "fetch_by": approved.fetch_by,
    }))
}

pub(super) async fn deny(
    State(admin): State<Admin>,
    Path((tenant, task)): Path<(String, String)>,
    by: Actor,
    caller: Caller,
    body: Wanted<Decide>,
) -> Answered {
    let task: TaskId = parsed("task", &task)?;
    let reason = checked(&body.0.reason)?;
    admin
        .read(&tenant, move |app, tenant| {
            caller.scope.check_task(app, tenant, task, Route::TaskDeny)
        })
        .await?;
    let tenant = admin.tenant(&tenant)?;
    let ended = admin.app.deny(&tenant, task, &by, reason).await?;
    let said = json!({
        "task": ended.task, "cause": ended.cause, "at": ended.at,
        "last_possible_acceptance": ended.last_possible_acceptance, "head": ended.head,
    });
    acknowledged(said, ended.recorded)
}

pub(super) async fn unblock(
    State(admin): State<Admin>,
    Path(tenant): Path<String>,
    by: Actor,
    body: Wanted<Unblock>,
) -> Answered {
    let on: BlockOn = parsed("on", &body.0.on)?;
    let reason = checked(&body.0.reason)?;
    let tenant = admin.tenant(&tenant)?;
    let beside = admin.app.unblock(&tenant, on, &by, reason).await?;
    answer(&json!({ "on": body.0.on, "stands": beside.map(|block| block.on.to_string()) }))
}

/// Which annexes to erase: by position, or by what they say.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Erase {
    #[serde(default)]
    entries: BTreeSet<u64>,
    #[serde(default)]
    saying: BTreeMap<String, String>,
    #[serde(default)]
    dry_run: bool,
    #[serde(default)]
    reason: String,
}

pub(super) async fn erase(
    State(admin): State<Admin>,
    Path(tenant): Path<String>,
    by: Actor,
    body: Wanted<Erase>,
) -> Answered {
    let Erase {
        entries,
        saying,
        dry_run,
        reason,
    } = body.0;
    let reason = if dry_run { "" } else { checked(&reason)? };
    let what = match (entries.is_empty(), saying.is_empty()) {
        (false, true) => Erasure::Entries(entries),
        (true, false) => Erasure::Saying(saying),
        (true, true) | (false, false) => {
            return Err(Problem::Wrong(
                "an erasure names `entries` or what they are `saying`, and not both".to_owned(),
            ));
        }
    };
    let tenant = admin.tenant(&tenant)?;
    let app = &admin.app;
    answer(&app.erase(&tenant, what, dry_run, &by, reason).await?)
}

pub(super) async fn apply(
    State(admin): State<Admin>,
    Path(tenant): Path<String>,
    by: Actor,
    body: Wanted<Apply>,
) -> Answered {
    let Apply {
        dry_run,
        ends,
        undo,
        reason,
    } = body.0;
    let reason = if dry_run { "" } else { checked(&reason)? };
    let tenant = admin.tenant(&tenant)?;
    let request = ApplyRequest {
        dry_run,
        ends,
        undo,
    };
    let applied = admin.app.apply(&tenant, request, &by, reason).await?;
    answer(&json!({
        "changes": applied.changes, "revision": applied.revision,
        "warnings": applied.warnings, "applied": applied.applied,
        "ends": applied.ends, "tasks": applied.tasks,
    }))
}

/// A reason that says something.
pub(super) fn checked(reason: &str) -> Result<&str, Problem> {
    let reason = reason.trim();
    if reason.is_empty() {
        return Err(Problem::Wrong("a change needs a `reason`".to_owned()));
    }
    if reason.len() > REASON {
        return Err(Problem::Wrong(format!(
            "a reason has at most {REASON} bytes"
        )));
    }
    Ok(reason)
}
