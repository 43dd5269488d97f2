//! Findings as they are listed: the open ones, and the last that closed.

use dayfly_domain::{Name, Time};
use dayfly_store::{FactsQuery, Store};
use serde::{Deserialize, Serialize};

use super::error::RecordError;
use crate::finding::{Kept, PREFIX, What};

/// A finding, with what it says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FindingView {
    /// What makes it the same finding, however its numbers change.
    pub id: String,
    /// Since when it is open.
    pub opened: Time,
    /// When it closed; none while it is open.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub closed: Option<Time>,
    /// What it is.
    #[serde(flatten)]
    pub what: What,
    /// What is so, in a sentence.
    pub says: String,
    /// What is to be done about it.
    #[serde(rename = "do")]
    pub remedy: String,
}

/// A list of findings.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Findings {
    /// The oldest first, the open ones before those that closed.
    pub findings: Vec<FindingView>,
    /// How many there are that cannot open before others close.
    pub waiting: u64,
}

/// The open findings of a tenant; with `all`, the last few hundred that closed too.
///
/// # Errors
/// [`RecordError`] when they cannot be read.
pub fn findings(store: &dyn Store, tenant: &Name, all: bool) -> Result<Findings, RecordError> {
    let query = FactsQuery {
        documents: Some(PREFIX),
        ..FactsQuery::default()
    };
    let kept = Kept::of(&store.facts(tenant, &query)?.documents);
    let open = kept.open.into_values();
    let open = open.map(|opened| view(opened.what, opened.opened, None));
    let mut findings: Vec<FindingView> = open.collect();
    findings.sort_by_key(|view| view.opened);
    if all {
        let closed = kept.closed.into_iter();
        findings.extend(closed.map(|was| view(was.what, was.opened, Some(was.closed))));
    }
    Ok(Findings {
        findings,
        waiting: kept.waiting,
    })
}

fn view(what: What, opened: Time, closed: Option<Time>) -> FindingView {
    FindingView {
        id: what.id(),
        opened,
        closed,
        says: what.says(),
        remedy: what.remedy(),
        what,
    }
}
