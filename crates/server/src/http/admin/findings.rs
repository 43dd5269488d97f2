//! Findings at the admin face: what a person should look at, to members what is of their owners.

use axum::extract::{Path, State};

use super::Admin;
use super::answer::{Answered, answer};
use super::keeper::Caller;
use super::query::Query;
use crate::record;

pub(super) async fn list(
    State(admin): State<Admin>,
    Path(tenant): Path<String>,
    caller: Caller,
    query: Query,
) -> Answered {
    let all = query.flag("all");
    let found = admin
        .read(&tenant, move |app, tenant| {
            let mut found = record::findings(app.store(), tenant.name(), all)?;
            let scope = &caller.scope;
            if !scope.holds_all() {
                // How much there is of others is not theirs to know.
                found.waiting = 0;
            }
            let of = |view: &record::FindingView| scope.holds(tenant.name(), view.what.owner());
            found.findings.retain(of);
            Ok(found)
        })
        .await?;
    answer(&found)
}
