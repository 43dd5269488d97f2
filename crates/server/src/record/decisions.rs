//! What policies said of a task's credentials, as the annexes of its entries still say.

use dayfly_domain::{CredentialId, Event, Name, TaskId, Time};
use dayfly_store::Store;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::entry::{Annexed, Entry, each_of};
use super::error::RecordError;

/// One entry that policies were asked about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DecisionView {
    /// The entry's position.
    pub pos: u64,
    /// When.
    pub at: Time,
    /// The entry's kind.
    pub kind: String,
    /// The credential, where it is the issue of one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credential: Option<CredentialId>,
    /// What was asked and said, as it was recorded.
    pub policy: Value,
}

/// What policies said of a task, in order; of one credential alone, where one is named.
///
/// # Errors
/// [`RecordError`] when the entries cannot be read.
pub fn decisions(
    store: &dyn Store,
    tenant: &Name,
    task: TaskId,
    credential: Option<CredentialId>,
) -> Result<Vec<DecisionView>, RecordError> {
    let mut found = Vec::new();
    each_of(store, tenant, task, |stored| {
        let entry = Entry::read(stored)?;
        let issued = match entry.event() {
            Some(Event::CredentialIssued(issued)) => Some(issued.id(task)),
            Some(_) | None => None,
        };
        if credential.is_some() && credential != issued {
            return Ok(());
        }
        if let Annexed::Here(mut annex) = entry.annex
            && let Some(policy) = annex.get_mut("policy")
        {
            found.push(DecisionView {
                pos: entry.pos,
                at: entry.at,
                kind: entry.kind,
                credential: issued,
                policy: policy.take(),
            });
        }
        Ok(())
    })?;
    Ok(found)
}
