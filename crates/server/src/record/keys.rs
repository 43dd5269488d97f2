//! Keys and blocks of a tenant, as the committed state has them.

use dayfly_domain::{Block, Name, TaskId, Time};
use dayfly_store::{FactsQuery, Store};
use serde::{Deserialize, Serialize};

use super::error::RecordError;

/// What may be told of a private key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyView {
    /// Its name, as it stands in a token's `kid`.
    #[serde(default)]
    pub kid: String,
    /// What it signs: `token` or `ledger`.
    pub r#use: String,
    /// How it signs.
    pub alg: String,
    /// Since when.
    pub created: Time,
}

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

/// The documents of keys begin so.
const KEYS: &str = "key/";

/// The tenant's keys, the oldest first. Nothing of a private key is read but that there is one.
///
/// # Errors
/// [`RecordError`] when they cannot be read.
pub fn keys(store: &dyn Store, tenant: &Name) -> Result<Vec<KeyView>, RecordError> {
    let query = FactsQuery {
        documents: Some(KEYS),
        ..FactsQuery::default()
    };
    let mut keys = Vec::new();
    for (name, bytes) in store.facts(tenant, &query)?.documents {
        let mut key: KeyView = serde_json::from_slice(&bytes).map_err(|why| {
            RecordError::Store(dayfly_store::Unavailable(format!(
                "the record of `{name}` cannot be read: {why}"
            )))
        })?;
        key.kid = name.strip_prefix(KEYS).unwrap_or(&name).to_owned();
        keys.push(key);
    }
    keys.sort_by(|a, b| (a.created, &a.kid).cmp(&(b.created, &b.kid)));
    Ok(keys)
}

/// The blocks that stand.
///
/// # Errors
/// [`RecordError`] when they cannot be read.
pub fn blocks(store: &dyn Store, tenant: &Name) -> Result<Vec<BlockView>, RecordError> {
    let facts = store.facts(tenant, &FactsQuery::default())?;
    let view = |Block { on, task, since }| BlockView {
        on: on.to_string(),
        task,
        since,
    };
    Ok(facts.blocks.into_iter().map(view).collect())
}
