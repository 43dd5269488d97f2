//! Keys: the list of them, rotation by hand, and giving one up.

use axum::extract::{Path, State};
use dayfly_token::alg::Alg;
use serde::Deserialize;
use serde_json::json;

use super::Admin;
use super::answer::{Answered, Problem, answer};
use super::change::{Wanted, checked};
use crate::app::Actor;
use crate::mint::{ChangeError, KeyUse, KeyringError};
use crate::record;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Rotate {
    r#use: KeyUse,
    #[serde(default)]
    alg: Option<String>,
    reason: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Compromise {
    /// Which keys; all of them where there is no list.
    #[serde(default)]
    kids: Option<Vec<String>>,
    reason: String,
}

pub(super) async fn list(State(admin): State<Admin>, Path(tenant): Path<String>) -> Answered {
    let keys = admin
        .read(&tenant, |app, tenant| {
            Ok(record::keys(app.store(), tenant.name())?)
        })
        .await?;
    answer(&keys)
}

pub(super) async fn rotate(
    State(admin): State<Admin>,
    Path(tenant): Path<String>,
    by: Actor,
    body: Wanted<Rotate>,
) -> Answered {
    let Rotate { r#use, alg, reason } = body.0;
    let reason = checked(&reason)?;
    let alg: Option<Alg> = alg
        .map(|alg| {
            alg.parse()
                .map_err(|_| Problem::Wrong(format!("`alg` is `{alg}`, which is no algorithm")))
        })
        .transpose()?;
    let tenant = admin.tenant(&tenant)?;
    let rotated = admin
        .app
        .rotate_keys(&tenant, r#use, alg, &by, reason)
        .await?;
    answer(&json!({ "published": rotated.published, "signs_from": rotated.signs_from }))
}

pub(super) async fn compromise(
    State(admin): State<Admin>,
    Path(tenant): Path<String>,
    by: Actor,
    body: Wanted<Compromise>,
) -> Answered {
    let Compromise { kids, reason } = body.0;
    let reason = checked(&reason)?;
    let tenant = admin.tenant(&tenant)?;
    let given_up = admin
        .app
        .compromise_keys(&tenant, kids.as_deref(), &by, reason)
        .await?;
    answer(&json!({
        "keys": given_up.keys, "signing": given_up.signing,
        "accepted_offline_until": given_up.accepted_offline_until,
    }))
}

impl From<KeyringError> for Problem {
    fn from(why: KeyringError) -> Self {
        match why {
            KeyringError::Change(ChangeError::Unknown(_)) => Self::NotFound(why.to_string()),
            KeyringError::Change(ChangeError::NoneSigns | ChangeError::Successor { .. }) => {
                Self::Conflict(why.to_string())
            }
            KeyringError::Store(ref source) => Self::Unavailable(format!("{why}: {source}")),
            KeyringError::Append(ref source) => Self::Unavailable(format!("{why}: {source}")),
            KeyringError::Stopped => Self::Unavailable(why.to_string()),
            KeyringError::Master(_)
            | KeyringError::NoMaster
            | KeyringError::Key(_)
            | KeyringError::Ledger(_)
            | KeyringError::Record(_)
            | KeyringError::Random(_) => Self::Fault(why.to_string()),
        }
    }
}
