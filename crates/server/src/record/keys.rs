//! Keys and blocks of a tenant, as the committed state has them.

use dayfly_domain::{Block, Name, TaskId, Time};
use dayfly_store::{FactsQuery, Store};
use serde::{Deserialize, Serialize};

use super::error::RecordError;
use crate::mint::{self, KeyInfo, KeyringError};

/// A block that stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlockView {
    /// What may not start again, as `dayfly unblock` takes it.
    pub on: String,
    /// The task that it came from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task: Option<TaskId>,
    /// Since when.
    pub since: Time,
}

/// The tenant's keys, the oldest first. Nothing of a private key is read but that there is one.
///
/// # Errors
/// [`RecordError`] when they cannot be read.
pub fn keys(store: &dyn Store, tenant: &Name) -> Result<Vec<KeyInfo>, RecordError> {
    mint::infos(store, tenant).map_err(|why| {
        RecordError::Store(match why {
            KeyringError::Store(why) => why,
            why @ (KeyringError::Master(_)
            | KeyringError::Change(_)
            | KeyringError::NoMaster
            | KeyringError::Key(_)
            | KeyringError::Ledger(_)
            | KeyringError::Record(_)
            | KeyringError::Stopped
            | KeyringError::Append(_)
            | KeyringError::Random(_)) => dayfly_store::Unavailable(why.to_string()),
        })
    })
}

/// The blocks that stand.
///
/// # Errors
/// [`RecordError`] when they cannot be read.
pub fn blocks(store: &dyn Store, tenant: &Name) -> Result<Vec<BlockView>, RecordError> {
    let facts = store.facts(tenant, &FactsQuery::default())?;
    let view = |Block { on, task, since }: Block| BlockView {
        on: on.to_string(),
        task,
        since,
    };
    Ok(facts.blocks.to_vec().into_iter().map(view).collect())
}
