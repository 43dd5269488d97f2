//! Who ended something and why, as far as the annex of its entry still says so.

use dayfly_domain::Name;
use dayfly_store::Store;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::entry::{Annexed, Entry, entry_at};
use super::error::RecordError;

/// Who did something, and the reason given.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndNote {
    /// Who did it, like `uid 0`; none where no person did, or the annex was erased.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// The reason given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// Where an annex names the entry that says who and why instead of saying it itself.
pub(crate) const SAID_IN: &str = "said_in";

impl EndNote {
    /// What the annex of an entry says of a person, or that of the entry that it names.
    pub(super) fn of(store: &dyn Store, tenant: &Name, entry: &Entry) -> Result<Self, RecordError> {
        let Some(pos) = said_in(entry) else {
            return Ok(Self::in_annex(&entry.annex));
        };
        let named = entry_at(store, tenant, pos)?;
        Ok(named.map_or_else(Self::default, |named| Self::in_annex(&named.annex)))
    }

    fn in_annex(annex: &Annexed) -> Self {
        match annex {
            Annexed::None | Annexed::Erased => Self::default(),
            Annexed::Here(annex) => Self {
                by: annex.get("by").and_then(person),
                reason: annex
                    .get("reason")
                    .and_then(Value::as_str)
                    .filter(|reason| !reason.is_empty())
                    .map(str::to_owned),
            },
        }
    }

    /// Whether it says nothing.
    pub(super) const fn is_silent(&self) -> bool {
        self.by.is_none() && self.reason.is_none()
    }
}

/// The position of the entry that says who and why, where the annex of this one names it.
pub(super) fn said_in(entry: &Entry) -> Option<u64> {
    match &entry.annex {
        Annexed::None | Annexed::Erased => None,
        Annexed::Here(annex) => annex.get(SAID_IN)?.as_u64(),
    }
}

/// A person: the user id at the socket, or a subject of an issuer.
fn person(by: &Value) -> Option<String> {
    if let Some(uid) = by.get("uid").and_then(Value::as_u64) {
        return Some(format!("uid {uid}"));
    }
    let sub = by.get("sub").and_then(Value::as_str)?;
    Some(match by.get("iss").and_then(Value::as_str) {
        Some(iss) => format!("{sub} of {iss}"),
        None => sub.to_owned(),
    })
}
